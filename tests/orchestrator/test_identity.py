"""What changes a cell's id and what must not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detcore.config import Config, from_dict, to_dict
from orchestrator.sweep import identity
from orchestrator.sweep.expand import expand
from orchestrator.sweep.identity import arm_key, cell_id
from orchestrator.sweep.spec import load_sweep

BASE: dict[str, Any] = {
    "model": {
        "kind": "retinanet",
        "backbone": {"kind": "tiny"},
        "neck": {"kind": "fpn", "channels": 48},
    },
    "train": {"steps": 100, "batch_per_gpu": 2},
    "optim": {"kind": "sgd", "lr": 1.0},
}


def config_of(data: dict[str, Any]) -> Config:
    return from_dict(Config, data)


def ids(file: Path, text: str, **options: Any) -> dict[str, str]:
    file.write_text(text)
    return {c.label: cell_id(c.config, "data") for c in expand(load_sweep(file, **options))}


def test_twelve_hex_digits() -> None:
    assert len(cell_id(Config(), "x")) == 12
    assert int(cell_id(Config(), "x"), 16) >= 0


@given(st.permutations(list(to_dict(Config()))))
def test_key_order_does_not_matter(order: list[str]) -> None:
    data = to_dict(Config())
    assert cell_id(config_of({k: data[k] for k in order}), "x") == cell_id(Config(), "x")


def test_spelling_does_not_matter() -> None:
    flow = yaml.safe_load("optim: {lr: 1.0, kind: sgd}\nmodel: {kind: retinanet, neck: fpn}")
    block = yaml.safe_load(
        "model:\n  kind: retinanet\n  neck:\n    kind: fpn\noptim:\n  kind: sgd\n  lr: 1\n"
    )
    assert cell_id(config_of(flow), "x") == cell_id(config_of(block), "x")
    given_default = config_of({"optim": {"momentum": Config().optim.momentum}})
    assert cell_id(given_default, "x") == cell_id(Config(), "x")


def _leaves(data: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*path, key))]
    return [(path, data)]


def _changed(value: Any) -> Any:
    """Another valid-looking value of the same type, by hand for each type that the config has."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9 + 0.02
    if isinstance(value, list):
        return [*value[:-1], _changed(value[-1])] if value else None
    return None


ALL = [leaf for leaf in _leaves(to_dict(config_of(BASE))) if _changed(leaf[1]) is not None]


@pytest.mark.parametrize(("path", "value"), ALL, ids=[".".join(path) for path, _ in ALL])
def test_each_setting_counts_unless_it_is_runtime(path: tuple[str, ...], value: Any) -> None:
    data = to_dict(config_of(BASE))
    here = data
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = _changed(value)
    same = cell_id(config_of(data), "x") == cell_id(config_of(BASE), "x")
    assert same == (path[0] == "runtime")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"kind": "retinanet", "neck": {"kind": "fpn", "norm_act": "bn"}}},
        {"model": {"kind": "retinanet", "box_loss": "giou"}},
        {"schedule": "cosine"},
        {"train": {"amp": "bf16"}},
        {"data": {"crowd": "keep"}},
        {
            "model": {
                "kind": "retinanet",
                "backbone": {"kind": "resnet50", "weights": "IMAGENET1K_V1"},
            }
        },
    ],
)
def test_each_choice_counts(change: dict[str, Any]) -> None:
    assert cell_id(config_of(change), "x") != cell_id(Config(), "x")


def test_data_count_by_content_not_by_place() -> None:
    here = config_of({"data": {"source": {"kind": "coco", "root": "/a"}}})
    there = config_of({"data": {"source": {"kind": "coco", "root": "/b"}}})
    assert cell_id(here, "x") == cell_id(there, "x")
    assert cell_id(here, "x") != cell_id(here, "y")


def test_weights_count_by_the_content_of_their_file(tmp_path: Path) -> None:
    def id_with(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        backbone = {"kind": "resnet18", "weights": str(tmp_path / name)}
        return cell_id(
            from_dict(Config, {"model": {"kind": "retinanet", "backbone": backbone}}), "data"
        )

    first = id_with("a.pth", b"one")
    assert id_with("b.pth", b"one") == first
    assert id_with("a.pth", b"another") != first


def test_code_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell_id(Config(), "x")
    monkeypatch.setattr(identity, "CODE_VERSION", "another")
    assert cell_id(Config(), "x") != before


def test_arm_key_forgets_the_seed_only() -> None:
    other = dataclasses.replace(Config(), seed=1)
    assert arm_key(other) == arm_key(Config())
    assert cell_id(other, "x") != cell_id(Config(), "x")
    assert arm_key(config_of({"optim": {"lr": 0.5}})) != arm_key(Config())


# ---------------------------------------------------------------- ids of whole sweeps

SWEEP = """\
version: 1
name: one
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  batch: {path: train.batch_per_gpu, values: [1, 2]}
derive: {lr: 0.01 * batch * workers}
set: {optim.lr: =lr}
seeds: [0, 1]
resources: {workers: 2}
"""
SAME = """\
# the same sweep, written otherwise
resources:
  gpus_per_worker: 1
  cpus_per_worker: 4
  workers: 2
seeds:
  list: [0, 1]
set:
  optim.lr: "=lr"
derive:
  lr: rate * workers * batch
  rate: 0.01
failure: {crash_retries: 5}
question: another question
axes:
  batch: {values: [2, 1], path: train.batch_per_gpu}
  norm: {values: {bn: {kind: bn}, gn: {kind: gn}}, path: [model.neck.norm_act]}
name: two
version: 1
"""


def test_names_notes_resources_and_layout_do_not_matter(tmp_path: Path) -> None:
    one, two = ids(tmp_path / "1.yaml", SWEEP), ids(tmp_path / "2.yaml", SAME)
    assert set(one.values()) == set(two.values())
    assert len(set(one.values())) == 8


def test_runtime_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "1.yaml"
    assert ids(file, SWEEP) == ids(file, SWEEP, overrides=["runtime.loader_workers=7"])


def test_one_level_more_adds_exactly_its_cells(tmp_path: Path) -> None:
    before = set(ids(tmp_path / "1.yaml", SWEEP).values())
    more = ids(tmp_path / "1.yaml", SWEEP.replace("[1, 2]", "[1, 2, 4]"))
    assert before < set(more.values())
    assert set(more.values()) - before == {i for label, i in more.items() if "batch=4" in label}


def test_two_sweeps_share_their_baseline(tmp_path: Path) -> None:
    norms = ids(tmp_path / "1.yaml", SWEEP)
    losses = ids(
        tmp_path / "2.yaml",
        SWEEP.replace("norm: {path: model.neck.norm_act, values: [bn, gn]}",
                      "loss: {path: model.box_loss, values: [huber, giou]}"),
    )  # fmt: skip
    shared = set(norms.values()) & set(losses.values())
    assert {label for label, i in norms.items() if i in shared} == {
        label for label in norms if "norm=gn" in label
    }
    assert len(shared) == 4  # gn with huber is the default of both
