"""sweeps/seed/*.yaml: every row of the seed report is an arm, with the settings that the report and
its repository give it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from detcore.config import Config, schema
from orchestrator.sweep.differences import differences
from orchestrator.sweep.expand import Cell, expand
from orchestrator.sweep.identity import arm_key
from orchestrator.sweep.spec import load_sweep

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "sweeps/seed").glob("*.yaml"))
REFERENCE = yaml.safe_load((ROOT / "dashboards/reference/seed_report.yaml").read_text())
ROWS: dict[str, dict[str, Any]] = REFERENCE["rows"]
ORIGINAL = ROOT.parent / "shared/reference/seed_results.yaml"

IDS = {f"B{i:02}" for i in range(1, 26)} | {"C01", "C02", "D19.640"}
IDS |= {f"D{i:02}" for i in (2, 3, 6, 7, 18, 20, 21, 22, 24, 25, 26)}


@pytest.fixture(scope="module")
def arms() -> dict[str, list[Cell]]:
    """The first seed's cells by the row they repeat, from all files."""
    out: dict[str, list[Cell]] = {}
    for file in FILES:
        sweep = load_sweep(file)
        assert sweep.baseline == {"row": "B04"}
        for cell in expand(sweep):
            if cell.seed == sweep.seeds[0]:
                assert cell.ref is not None, f"{file.name}: {cell.label} repeats no row"
                out.setdefault(cell.ref, []).append(cell)
    return out


def test_every_row_is_an_arm_with_the_report_s_number(arms: dict[str, list[Cell]]) -> None:
    assert set(arms) == IDS | {"E1"}
    for id_ in arms:
        row = ROWS[id_]
        assert row["label"]
        assert ("mAP" in row.get("metrics", {})) == row.get("converged", True)


def test_a_row_is_one_arm_in_whichever_file_it_stands(arms: dict[str, list[Cell]]) -> None:
    keys = {id_: {arm_key(cell.config) for cell in cells} for id_, cells in arms.items()}
    assert all(len(found) == 1 for found in keys.values())
    owner: dict[str, str] = {}
    for id_, found in keys.items():
        assert owner.setdefault(*found, id_) == id_, f"{id_} is the same run as another row"


@pytest.mark.parametrize("id_", sorted(id_ for id_ in ROWS if "config" in ROWS[id_]))
def test_settings_are_the_row_s(arms: dict[str, list[Cell]], id_: str) -> None:
    wanted = dict(ROWS[id_]["config"])
    for silent in ("anchors", "per_gpu_batch_x_gpus"):
        if wanted[silent] is None:
            del wanted[silent]
    told = in_words(arms[id_][0].config)
    assert {key: told[key] for key in wanted} == wanted


def test_rows_that_are_another_with_one_change(arms: dict[str, list[Cell]]) -> None:
    """Those of which the report says no more than what is different."""
    for id_, other, change in [
        ("D19.640", "B05", {"data.input.eval_short_side": "640"}),
        ("E1", "B15", {"model.class_loss": "frequency_focal"}),
        ("C02", "C01", {"model.pooling": "maxpool_v2"}),
    ]:
        assert differences(arms[other][0].config, arms[id_][0].config) == change
    config = arms["C01"][0].config
    assert isinstance(config.model, schema.CenterNet)
    neck = config.model.neck
    assert isinstance(neck, schema.Fpn)
    # settings_in_git of the transcription
    assert (config.train.batch_per_gpu, config.train.steps, config.optim.lr) == (6, 240_000, 0.01)
    assert (config.schedule.kind, config.model.pooling) == ("cosine", "maxpool")
    assert (neck.norm_act.kind, neck.dropblock) == ("evonorm_s0", schema.DropBlock())
    assert config.model.hook == schema.BalanceHook()


def in_words(config: Config) -> dict[str, Any]:
    """A config in the vocabulary of the reference file."""
    model, data = config.model, config.data
    assert not isinstance(model, schema.CenterNet)
    fcos = isinstance(model, schema.Fcos)
    stitched = data.stitch is not None
    aug = [*([data.augment] if data.augment != "none" else []), *(["stitch"] if stitched else [])]
    neck = model.neck
    dropblock = isinstance(neck, schema.Fpn) and neck.dropblock == schema.DropBlock(7, 0.1)
    fusion = neck.fusion if isinstance(neck, schema.Fpn) else "sum"
    if isinstance(neck, schema.BiFpn):
        fusion = "fast_normalised"
    return {
        "backbone": model.backbone.kind,
        "neck": neck.kind,
        "neck_norm": norm_in_words(neck.norm_act),
        "head_norm": norm_in_words(model.head.norm_act),
        "loss": "focal+giou+centerness_bce" if fcos else loss_in_words(model.box_loss),
        "lr_decay": "piecewise" if config.schedule.kind == "step" else "cosine",
        "fpn_dropblock": dropblock,
        "fpn_fusion": fusion,
        "hook": "balance_backbone_hook" if model.hook == schema.BalanceHook() else None,
        "aug": aug,
        "matcher": "fcos_ranges_64_128_256" if fcos else matcher_in_words(model.matcher),
        "anchors": "none" if fcos else anchors_in_words(model.anchors),
        "per_gpu_batch_x_gpus": f"{config.train.batch_per_gpu}x{config.train.workers}",
    }


def norm_in_words(norm: schema.NormAct) -> str:
    if norm == schema.GroupNorm(act="swish"):
        return "gn+swish"
    return {"spectral": "spectral_norm"}.get(norm.kind, norm.kind)


def loss_in_words(loss: schema.BoxLoss) -> str:
    return "huber_default" if loss == schema.HuberLoss(delta=1.0) else loss.kind


def matcher_in_words(matcher: schema.Matcher) -> str:
    if isinstance(matcher, schema.ReportMaxIouMatcher):
        return f"iou_{matcher.low}_{matcher.high}"
    return matcher.kind.replace("atss_v", "ATSSMatcher")


def anchors_in_words(anchors: schema.Anchors) -> str:
    """The sets of the report, by the sizes and ratios of every level."""
    table = anchors.table()
    sizes = [list(s) for s, _ in table]
    ratios = [list(r) for _, r in table]
    plain = [[0.5, 1, 2]] * 5
    default = [[b * 2 ** (i / 3) for i in range(3)] for b in (32, 64, 128, 256, 512)]
    single = [[32], [64], [128], [256], [512]]
    interval = [32 + i * 480 / 14 for i in range(15)]
    equal = [interval[i : i + 3] for i in range(0, 15, 3)]
    if sizes == [pytest.approx(part, abs=1e-3) for part in default]:
        if ratios == plain:
            return "default_9"
        wanted = [[0.5, 1, 2], [1, 2, 0.5], [2, 0.5, 1], [2, 1, 0.5], [1, 0.5, 2]]
        return "permuted_ratios_9" if ratios == wanted else "?"
    if sizes == single:
        return {1: "one_anchor", 3: "three_anchor"}[len(ratios[0])]
    if sizes == [pytest.approx(part, abs=0.01) for part in equal] and ratios == plain:
        return "equal_interval_9"
    return "searched_shared_ratio_9" if ratios == [[0.29, 0.77, 2.14]] * 5 else "?"


@pytest.mark.skipif(not ORIGINAL.is_file(), reason="the transcription of the report is not here")
def test_the_reference_file_holds_the_transcription_s_numbers() -> None:
    original = yaml.safe_load(ORIGINAL.read_text())
    rows = original["bbox_summary"] + original["centernet_summary"]
    known = {r["id"]: r for r in rows + original["sections"]}
    known |= {e["id"]: e for s in original["sections"] for e in s.get("extra_evals", [])}
    assert (known.keys() - {s["id"] for s in original["sections"] if s["summary_row"]}) == IDS
    for id_ in IDS:
        assert ROWS[id_].get("metrics", {}) == (known[id_].get("metrics") or {})
        theirs = known[id_].get("config", {})
        for key, value in ROWS[id_].get("config", {}).items():
            if key in theirs:
                assert value == theirs[key]
        assert ROWS[id_].get("converged", True) == known[id_].get("converged", True)


def test_dry_run_prints_rows_and_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.run", str(ROOT / "sweeps/seed/loss.yaml")]
    options: dict[str, Any] = {"capture_output": True, "text": True, "cwd": tmp_path}
    text = subprocess.run([*command, "--dry-run"], check=True, **options).stdout
    assert "row=B03  [B03 1)-GIOUOutput: mAP 0.278]\n      model.box_loss huber\n" in text
    out = subprocess.run([*command, "--dry-run", "--json"], check=True, **options).stdout
    cells = json.loads(out)["cells"]
    assert {c["ref"] for c in cells} == {"B03", "B04", "B15", "E1"}
    b03 = next(c for c in cells if c["ref"] == "B03")
    assert b03["differences"] == {"model.box_loss": "huber"}
    assert b03["reference"]["metrics"]["mAP"] == 0.278


def test_the_readme_says_in_which_file_a_row_is() -> None:
    text = (ROOT / "sweeps/README.md").read_text()
    told = {
        line.split("`")[1]: set(re.findall(r"[BCDE]\d+(?:\.\d+)?", line.split("|")[2]))
        for line in text.splitlines()
        if re.match(r"\| `\w+\.yaml` \|", line)
    }
    found = {
        file.name: {cell.ref for cell in expand(load_sweep(file)) if cell.ref} for file in FILES
    }
    assert told == found
