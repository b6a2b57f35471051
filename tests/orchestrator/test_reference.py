"""Rows of another report beside arms, and arms in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from detcore.config import Config, from_dict, schema, set_path, to_dict
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan_table import table_of
from orchestrator.planning.protocol import protocol
from orchestrator.sweep.differences import differences
from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import SweepError, load_sweep
from orchestrator.tracking import table

SWEEP = """version: 1
name: s
axes:
  norm: {path: model.neck.norm_act, values: {bn: {kind: bn}, gn: {kind: gn, groups: 8}}}
  batch: {path: train.batch_per_gpu, values: [1, 2]}
"""
ROWS = """source: a paper
rows:
  R1: {label: "BN, 2 images", metrics: {mAP: 0.3}, train_hours: 7}
  R2: {label: "GN, 1 image", converged: false}
  gn: {label: "named like a level"}
"""


def sweep(folder: Path, reference: str) -> Path:
    (folder / "rows.yaml").write_text(ROWS)
    file = folder / "s.yaml"
    file.write_text(SWEEP + reference)
    return file


def test_arms_carry_the_rows_they_repeat(tmp_path: Path) -> None:
    file = sweep(
        tmp_path,
        "baseline: {norm: bn, batch: 2}\n"
        "reference: {file: rows.yaml, arms: {R1: {}, R2: {norm: gn, batch: 1}}}\nseeds: [0, 1]\n",
    )
    refs = {c.label: c.ref for c in expand(load_sweep(file)) if c.ref}
    assert refs == {
        "norm=bn batch=2 seed=0": "R1",
        "norm=gn batch=1 seed=0": "R2",
        "norm=bn batch=2 seed=1": "R1",
        "norm=gn batch=1 seed=1": "R2",
    }
    cells = {c["label"]: c for c in make_plan(file).to_json()["cells"]}
    row = cells["norm=bn batch=2 seed=0"]["reference"]
    assert row == {
        "label": "BN, 2 images",
        "converged": True,
        "metrics": {"mAP": 0.3},
        "train_hours": 7,
    }
    assert cells["norm=bn batch=1 seed=0"]["reference"] is None
    text = make_plan(file).to_text()
    assert "[R1 BN, 2 images: mAP 0.300]\n      baseline" in text
    assert "[R2 GN, 1 image: not converged]\n      model.neck.norm_act gn {groups: 8}" in text


def test_levels_named_like_rows_repeat_them(tmp_path: Path) -> None:
    file = sweep(tmp_path, "reference: {file: rows.yaml, axis: norm}\n")
    assert {c.arm_label: c.ref for c in expand(load_sweep(file))} == {
        "norm=bn batch=1": None,
        "norm=bn batch=2": None,
        "norm=gn batch=1": "gn",
        "norm=gn batch=2": None,  # not the baseline's batch
    }


def test_a_row_is_no_part_of_an_id(tmp_path: Path) -> None:
    plain = make_plan(sweep(tmp_path, "")).ids
    assert make_plan(sweep(tmp_path, "reference: {file: rows.yaml, axis: norm}\n")).ids == plain


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("[rows.yaml]", "s.yaml:6: reference: must be a mapping of file, axis and arms"),
        ("{file: row.yaml}", "s.yaml:6: reference.file: no such file"),
        ("{axis: norm}", "s.yaml:6: reference.file: must be the path of a reference file"),
        ("{file: s.yaml}", "s.yaml has no `rows`"),
        ("{file: rows.yaml, axes: norm}", "unknown key 'axes'; did you mean 'axis'?"),
        ("{file: rows.yaml}", "names no arms: give `axis`, whose levels are rows, or `arms`"),
        ("{file: rows.yaml, axis: [norm]}", "unknown axis ['norm']"),
        ("{file: rows.yaml, axis: batch}", "no level of axis batch (1, 2) is a row; rows: R1"),
        ("{file: rows.yaml, axis: nrm}", "unknown axis 'nrm'; did you mean 'norm'?"),
        ("{file: rows.yaml, arms: {R3: {}}}", "no row 'R3'; choices: R1, R2, gn"),
        ("{file: rows.yaml, arms: {R1: {norm: ln}}}", "unknown level 'ln'"),
        ("{file: rows.yaml, arms: {R1: {nom: gn}}}", "unknown axis 'nom'"),
        ("{file: rows.yaml, arms: {R1: gn}}", "must map axes to levels, is 'gn'"),
        ("{file: rows.yaml, arms: {R1: {}, R2: {norm: bn}}}", "rows R1 and R2 name the same arm"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, reference: str, told: str) -> None:
    file = sweep(tmp_path, f"reference: {reference}\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(file)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "s.yaml:6"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{metrics: {mAP: null}}", "mAP of row R1 must be a number, is None"),
        ("{metrics: {mAP: high}}", "mAP of row R1 must be a number, is 'high'"),
        ("{metrics: {map: 0.3}}", "the metrics of row R1 must be of mAP, AP50"),
        ("{converged: 'no'}", "converged of row R1 must be true or false, is 'no'"),
        ("{when: 2020-01-01}", "row R1 may hold text, numbers, lists and mappings only"),
        ("[1]", "row R1 must be a mapping"),
        ("{}\nprotocol: coco", "protocol must be a mapping, is 'coco'"),
        ("{}\nprotocol: {from: 2020-01-01}", "protocol may hold text, numbers, lists and mapp"),
    ],
)
def test_mistakes_in_the_rows_are_one_line(tmp_path: Path, row: str, told: str) -> None:
    file = sweep(tmp_path, "reference: {file: rows.yaml, arms: {R1: {}}}\n")
    (tmp_path / "rows.yaml").write_text(f"rows:\n  R1: {row}\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(file)
    assert told in str(caught.value)


def test_a_plan_says_how_cells_are_trained_and_what_the_rows_were(tmp_path: Path) -> None:
    file = sweep(
        tmp_path,
        "reference: {file: rows.yaml, arms: {R1: {}}}\nset: {train.steps: 7, train.accumulate: 3}\n"
        "resources: {workers: 2}\n",
    )
    (tmp_path / "rows.yaml").write_text(
        "protocol: {eval: report, steps: 9}\n"
        "rows: {R1: {metrics: {mAP: 0.3}, protocol: {steps: 8}}}\n"
    )
    plan = make_plan(file).to_json()
    assert plan["reference_protocol"] == {"eval": "report", "steps": 9}
    assert plan["cells"][0]["reference"]["protocol"] == {"steps": 8}
    ours = {cell["label"]: cell["protocol"] for cell in plan["cells"]}
    two = ours["norm=bn batch=2 seed=0"]
    assert two["data"] == "shapes, 512 images of 128 pixels"
    # 2 images on each of 2 ranks, 3 forward passes a step: 12 images a step, 84 in 7 steps
    assert (two["steps"], two["batch"], two["images"], two["eval"]) == (7, "2x2x3", 84, "coco")
    assert ours["norm=gn batch=1 seed=0"]["images"] == 42


def test_the_annotation_file_tells_the_year(tmp_path: Path) -> None:
    source = {"kind": "coco", "root": str(tmp_path)}
    config = from_dict(Config, {"data": {"source": source}})
    assert protocol(config)["data"] == "COCO format"  # nothing there
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").touch()
    assert protocol(config)["data"] == "COCO format, instances_train2017.json"


# ---------------------------------------------------------------- a base of a level's own


def test_workers_of_two_bases_are_not_taken_for_each_other_s(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("train: {workers: 3, steps: 7}\n")
    file = tmp_path / "s.yaml"
    file.write_text("version: 1\nname: s\naxes: {a: {values: {x: {}, y: {base: b.yaml}}}}\n")
    with pytest.raises(SweepError, match=r"this base has train.workers 3 and the sweep's base 1"):
        load_sweep(file)
    file.write_text(file.read_text() + "resources: {workers: 3}\n")
    assert [c.config.train.workers for c in expand(load_sweep(file))] == [3, 3]


@pytest.mark.parametrize("order", [1, -1])
def test_a_kind_set_by_itself_comes_before_its_settings(tmp_path: Path, order: int) -> None:
    lines = ["model.matcher.top_k: 5", "model.matcher.kind: atss"][::order]
    file = sweep(tmp_path, "set: {" + ", ".join(lines) + "}\n")
    matchers = {cell.config.model.matcher for cell in expand(load_sweep(file))}  # type: ignore[union-attr]
    assert matchers == {schema.Atss(top_k=5)}


def test_a_level_can_start_from_another_base(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("optim: {kind: sgd, lr: 0.5}\ntrain: {steps: 7}\n")
    file = tmp_path / "s.yaml"
    file.write_text(
        "version: 1\nname: s\naxes:\n  what:\n    values:\n"
        "      here: {optim.momentum: 0.5}\n      there: {base: b.yaml, optim.momentum: 0.8}\n"
    )
    here, there = expand(load_sweep(file))
    assert (here.config.train.steps, here.config.optim.lr) == (90_000, 0.01)
    assert (there.config.train.steps, there.config.optim.lr) == (7, 0.5)
    assert (here.config.optim.momentum, there.config.optim.momentum) == (0.5, 0.8)
    file.write_text(file.read_text() + "  more: {values: {a: {base: b.yaml}, b: {base: b.yaml}}}\n")
    with pytest.raises(SweepError, match="axes what and more both give a base"):
        load_sweep(file)
    file.write_text(file.read_text().replace("b.yaml, optim", "c.yaml, optim"))
    with pytest.raises(SweepError, match=r"s.yaml:7: axes.what.values.there.base: no such file"):
        load_sweep(file)


def test_a_section_of_the_config_is_a_key_of_a_level(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "version: 1\nname: s\naxes:\n  decay:\n    values:\n"
        "      step: {}\n      cosine: {schedule: {kind: cosine, floor: 0.001}}\n"
    )
    step, cosine = expand(load_sweep(file))
    assert (step.config.schedule.kind, cosine.config.schedule.kind) == ("step", "cosine")


# ---------------------------------------------------------------- differences


def changed(**settings: object) -> Config:
    data = to_dict(Config())
    for path, value in settings.items():
        data = set_path(data, path.replace("__", "."), value)
    return from_dict(Config, data)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"seed": 3}, {}),
        ({"runtime__log_every": 3}, {}),
        ({"optim__lr": 0.25}, {"optim.lr": "0.25"}),
        ({"model__neck__norm_act": {"kind": "bn"}}, {"model.neck.norm_act": "bn"}),
        (
            {"model__neck__norm_act": {"kind": "bn", "eps": 0.5}},
            {"model.neck.norm_act": "bn {eps: 0.5}"},
        ),
        ({"model__neck__norm_act__groups": 8}, {"model.neck.norm_act.groups": "8"}),
        (
            {"model__neck__dropblock": {"size": 5}},
            {"model.neck.dropblock": "{size: 5, drop: 0.1}"},
        ),
        (
            {"model__neck": {"kind": "bifpn", "norm_act": {"kind": "bn", "act": "swish"}}},
            {"model.neck": "bifpn {channels: 64, norm_act: bn {act: swish}}"},
        ),
        ({"data__source": {"kind": "coco", "root": "x"}}, {"data.source": "coco {root: x}"}),
        ({"model__anchors__ratios": [1.0, 2.0]}, {"model.anchors.ratios": "[1, 2]"}),
    ],
)
def test_differences_in_words(settings: dict[str, object], found: dict[str, str]) -> None:
    told = differences(Config(), changed(**settings))
    assert {
        path: text.replace(", train_annotations: null", "") for path, text in told.items()
    } == found


def test_the_table_says_whose_numbers_stand_beside_ours(tmp_path: Path) -> None:
    one = "version: 1\nname: s\naxes: {row: {values: {R1: {}, x: {optim.lr: 0.5}}}}\n"
    (tmp_path / "rows.yaml").write_text(ROWS)
    (tmp_path / "s.yaml").write_text(one + "reference: {file: rows.yaml, axis: row}\n")
    rows = [table.Row({"row": name}, 0, "converged", {"mAP": 0.5}) for name in ("R1", "x")]
    shown = table_of(make_plan(tmp_path / "s.yaml"), rows)
    assert [entries[1].text for _, entries in shown.lines] == ["0.300  BN, 2 images", ""]
    assert shown.notes[-1] == "report = a paper; compare only where data and rules match"
    two = sweep(tmp_path, "reference: {file: rows.yaml, arms: {R2: {norm: gn}}}\n")
    cells = [table.Row({"norm": "gn", "batch": 1}, 0, "converged", {"mAP": 0.5})]
    shown = table_of(make_plan(two), cells)
    assert "report: gn 1 not converged  R2 GN, 1 image" in shown.notes
