"""Reading sweep files: profiles, `--set`, `--data`, and the files that the project ships."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detcore.config import to_dict
from orchestrator.sweep.document import Document, lay
from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import SweepError, load_sweep

SWEEP = """\
version: 1
name: small
base: base.yaml
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  batch: {path: train.batch_per_gpu, values: [1, 2, 4]}
derive:
  lr: 0.01 * batch * workers
set:
  optim.lr: =lr
seeds: [0, 1]
resources: {workers: 2}
profiles:
  quick:
    axes: {batch: {values: [1]}}
    baseline: {norm: gn, batch: 1}
    derive: {lr: 0.5}
    seeds: [7]
  other:
    axes: {norm: null}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("train: {steps: 10, workers: 3}\noptim: {momentum: 0.8}\n")
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)
    return file


def test_defaults_of_a_sweep(sweep_file: Path) -> None:
    sweep = load_sweep(sweep_file)
    assert sweep.baseline == {"norm": "bn", "batch": 1}  # the first level of every axis
    assert (sweep.metric.name, sweep.metric.goal) == ("mAP", "max")
    (block,) = sweep.design
    assert (block.id, block.kind, len(block.runs)) == ("factorial", "factorial", 6)
    assert sweep.base.optim.momentum == 0.8
    assert sweep.seeds == (0, 1)


def test_a_profile_is_laid_over_the_file(sweep_file: Path) -> None:
    cells = expand(load_sweep(sweep_file, profile="quick"))
    assert [c.label for c in cells] == ["norm=bn batch=1 seed=7", "norm=gn batch=1 seed=7"]
    assert {c.config.optim.lr for c in cells} == {0.5}
    assert load_sweep(sweep_file, profile="quick").baseline == {"norm": "gn", "batch": 1}


def test_null_in_a_profile_takes_a_key_away(sweep_file: Path) -> None:
    sweep = load_sweep(sweep_file, profile="other")
    assert [axis.name for axis in sweep.axes] == ["batch"]


def test_workers_left_out_are_those_of_the_base(sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP.replace("resources: {workers: 2}\n", ""))
    assert {c.resources.workers for c in expand(load_sweep(sweep_file))} == {3}


def test_lay_merges_mappings_and_replaces_the_rest() -> None:
    below = {
        "axes": {"a": {"path": "p", "values": {"x": 1, "y": 2}}},
        "set": {"m.n": {"u": 1, "v": 2}},
        "seeds": [0, 1],
        "failure": {"crash_retries": 1, "hang_timeout_s": 5},
    }
    over = {
        "axes": {"a": {"values": {"z": 3}}},
        "set": {"m.n": {"u": 9}},
        "seeds": [2],
        "failure": {"crash_retries": 0},
    }
    assert lay(Document(below, {(): "a"}), Document(over, {(): "b"})).data == {
        "axes": {"a": {"path": "p", "values": {"z": 3}}},
        "set": {"m.n": {"u": 9}},
        "seeds": [2],
        "failure": {"crash_retries": 0, "hang_timeout_s": 5},
    }
    assert below["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("optim.lr=1e-4", "optim.lr", 0.0001),  # replaces the expression of `set`
        ("optim.nesterov=true", "optim.nesterov", True),
        ("data.input.train_short_sides=[96, 128]", "data.input.train_short_sides", [96, 128]),
        ("schedule=cosine", "schedule.kind", "cosine"),
        ("model.backbone={kind: tiny, width: 8}", "model.backbone.width", 8),
        ("set.optim.weight_decay=0", "optim.weight_decay", 0.0),
        ("derive.lr=3e-3", "optim.lr", 0.003),
        ("derive.lr=0.1 * workers", "optim.lr", 0.2),
        ("resources.workers=1", "train.workers", 1),
        ("data.source.train_annotations=a=b.json", "data.source.train_annotations", "a=b.json"),
    ],
)
def test_set_reaches_every_cell(
    sweep_file: Path, tmp_path: Path, argument: str, key: str, value: object
) -> None:
    data = tmp_path if "annotations" in argument else None
    for cell in expand(load_sweep(sweep_file, overrides=[argument], data=data)):
        here = to_dict(cell.config)
        for word in key.split("."):
            here = here[word]
        assert here == value


def test_set_changes_the_sweep_itself(sweep_file: Path) -> None:
    arguments = ["axes.batch.values=[8]", "seeds=[5]", "name=mine", "baseline.norm=gn"]
    sweep = load_sweep(sweep_file, overrides=[*arguments, "baseline={norm: gn, batch: 8}"])
    assert [c.label for c in expand(sweep)] == ["norm=bn batch=8 seed=5", "norm=gn batch=8 seed=5"]
    assert sweep.name == "mine"


def test_set_comes_after_the_profile(sweep_file: Path) -> None:
    sweep = load_sweep(sweep_file, profile="quick", overrides=["seeds=[9]"])
    assert sweep.seeds == (9,)


def test_data_replaces_the_source_whole(sweep_file: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(
        "data: {source: {kind: coco, root: x, train_annotations: t.json}, flip: 0}\n"
        "train: {steps: 9}"
    )
    sweep_file.write_text(SWEEP.replace("set:\n", "set:\n  data.source.val_images: v\n"))
    (tmp_path / "mine").mkdir()
    cell = expand(load_sweep(sweep_file, data=tmp_path / "mine"))[0]
    assert to_dict(cell.config.data.source) == {
        "kind": "coco",
        "root": str(tmp_path / "mine"),
        "train_annotations": None,
        "val_annotations": None,
        "train_images": None,
        "val_images": None,
    }
    assert cell.config.data.flip == 0  # the rest of `data` stays


def test_a_relative_data_folder_becomes_absolute(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    source = expand(load_sweep(sweep_file, data=Path("mine")))[0].config.data.source
    assert source.kind == "coco"
    assert source.root == str(tmp_path / "mine")


# ---------------------------------------------------------------- what the project ships

ROOT = Path(__file__).parents[2]


def test_main_sweep_is_the_promised_grid() -> None:
    sweep = load_sweep(ROOT / "sweeps/norm_vs_batchsize.yaml")
    cells = expand(sweep)
    assert len(cells) >= 18
    assert {c.axes["norm"] for c in cells} == {"bn", "gn", "evonorm_s0"}
    assert {c.axes["batch_per_gpu"] for c in cells} == {1, 2, 4}
    assert {c.resources.workers for c in cells} == {2}
    for cell in cells:
        assert cell.config.train.batch_per_gpu == cell.axes["batch_per_gpu"]
        assert cell.config.train.workers == 2
        assert cell.config.model.neck.norm_act.kind == cell.axes["norm"]
        assert cell.config.model.head.norm_act.kind == cell.axes["norm"]
    images = {c.config.train.steps * c.config.train.batch_per_gpu * 2 for c in cells}
    assert len(images) == 1  # every arm sees the same number of images
    per_image = {c.config.optim.lr / c.config.train.batch_per_gpu for c in cells}
    assert len({f"{rate:.9f}" for rate in per_image}) == 1  # the linear rule


def test_coco_profile_is_the_reports_setting() -> None:
    cells = expand(load_sweep(ROOT / "sweeps/norm_vs_batchsize.yaml", profile="coco"))
    pairs = {
        (c.axes["batch_per_gpu"], c.config.train.batch_per_gpu, c.resources.workers) for c in cells
    }
    assert pairs == {("4x3", 4, 3), ("2x2", 2, 2), ("4x1", 4, 1)}
    for config in (c.config for c in cells):
        assert config.train.steps == 120_000
        assert config.optim.lr == 0.02
        assert config.schedule.kind == "step"
        milestones = [round(m * config.train.steps) for m in config.schedule.milestones]
        assert milestones == [80_000, 100_000]
        assert config.schedule.warmup_steps == 1000
        assert config.data.input.train_short_sides == (512, 544, 576, 608, 640)
        assert (config.data.input.train_max_side, config.data.input.eval_short_side) == (800, 576)
        assert config.model.backbone.kind == "resnet50"
        assert config.model.backbone.norm_act.kind == "frozen_bn"
        assert config.model.box_loss.kind == "huber"
        assert (config.optim.weight_decay, config.optim.clip_norm) == (1e-4, 32)
    assert {c.resources.gpus_per_worker for c in cells} == {1}
    assert {c.seed for c in cells} == {0, 1, 2}


@pytest.mark.parametrize("file", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_sweep_expands_in_every_profile(file: Path) -> None:
    profiles = yaml.safe_load(file.read_text()).get("profiles", {})
    for profile in (None, *profiles):
        assert expand(load_sweep(file, profile=profile))


def test_the_readme_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "sweeps/README.md").read_text()
    example = readme.split("```yaml\n")[1].split("```")[0]
    told = [line for line in readme.splitlines() if line.startswith("sweeps/a.yaml:")]
    shutil.copytree(ROOT / "sweeps/bases", tmp_path / "sweeps/bases")
    monkeypatch.chdir(tmp_path)
    file = Path("sweeps/a.yaml")
    file.write_text(example)
    assert len(expand(load_sweep(file))) == 12
    changes = [("[bn, gn]", "[bn, gnn]"), ("train.batch_per_gpu", "train.batch"), ("=lr", "1e-4")]
    for (old, new), line in zip(changes, told, strict=True):
        file.write_text(example.replace(old, new))
        with pytest.raises(SweepError) as caught:
            expand(load_sweep(file))
        assert str(caught.value) == line


def test_reading_a_sweep_needs_no_training_stack() -> None:
    script = (
        "import sys; from orchestrator.sweep.expand import expand; "
        "from orchestrator.sweep.spec import *; "
        "expand(load_sweep('sweeps/norm_vs_batchsize.yaml')); "
        "print(sorted({'torch', 'ray', 'mlflow', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_sweep_error_is_a_value_error() -> None:
    assert issubclass(SweepError, ValueError)
