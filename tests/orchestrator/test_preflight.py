"""An axis that changes nothing is found before the first cell, with real measurements in real
processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.planning.preflight import _measure, check_effects
from orchestrator.sweep.spec import SweepError
from tests.detcore.data.builders import box, coco, record, write_split

BASE = """
data:
  source: {kind: shapes, train_images: 32, val_images: 4, size: 64}
  input: {train_short_sides: [64], train_max_side: 96, eval_short_side: 64, eval_max_side: 96}
model:
  kind: retinanet
  backbone: {kind: tiny, width: 8, norm_act: {kind: gn, groups: 4}}
  neck: {kind: fpn, channels: 8, norm_act: {kind: gn, groups: 4}}
  head: {num_convs: 1, norm_act: {kind: gn, groups: 4}}
  anchors: {kind: grid, sizes: [12, 24, 48, 64, 64]}
train: {steps: 20, batch_per_gpu: 2}
"""


def plan_of(folder: Path, axis: str, **more: Any) -> Plan:
    (folder / "b.yaml").write_text(BASE)
    file = folder / "s.yaml"
    file.write_text(f"version: 1\nname: s\nbase: b.yaml\naxes:\n  what: {axis}\n")
    return make_plan(file, root=folder, **more)


NO_EFFECT = {
    # a setting that is read and can change nothing with these data
    "cap above every image": "{path: data.input.train_max_side, values: [96, 97]}",
    "crowds that are not there": "{path: data.crowd, values: [drop, keep]}",
    "bad images that are not there": "{path: data.on_bad_image, values: [error, skip]}",
    "a multiple that fits already": "{path: data.input.align, values: [1, 32]}",
}

EFFECT = {
    "empty images": "{path: data.empty_images, values: [keep, drop]}",
    "anchors": "{path: model.anchors.octave, values: [2, 3]}",
    "forced matches": "{path: model.matcher.rescue, values: [true, false]}",
    "loss weight": "{path: model.class_loss.gamma, values: [2.0, 2.01]}",
    "momentum of statistics": "{path: model.head.norm_act, values: "
    "{a: {kind: bn}, b: {kind: bn, momentum: 0.2}}}",
    "clipping": "{path: optim.clip_norm, values: [1, 2]}",
    "a rare flip": "{path: data.flip, values: [0.5, 0.501]}",
    "threshold": "{path: model.postprocess.score_threshold, values: [0.05, 0.06]}",
    "protocol": "{path: eval.protocol, values: [coco, report]}",
}


def test_what_is_measured_tells_effects_from_none(tmp_path: Path) -> None:
    """All pairs in one go: a process costs seconds."""
    from detcore.config import to_dict

    pairs = {**NO_EFFECT, **EFFECT}
    configs = [
        to_dict(planned.cell.config)
        for axis in pairs.values()
        for planned in plan_of(tmp_path, axis).cells
    ]
    answers = _measure(configs)
    assert all("signature" in answer for answer in answers)
    same = {name for i, name in enumerate(pairs) if answers[2 * i] == answers[2 * i + 1]}
    assert same == set(NO_EFFECT)


def test_an_axis_without_effect_is_an_error_that_names_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, NO_EFFECT["cap above every image"])
    with pytest.raises(SweepError) as caught:
        check_effects(plan)
    assert str(caught.value).startswith(f"{tmp_path / 's.yaml'}:5: axes.what: axis what, levels ")
    assert "'96' and '97'" in str(caught.value)
    assert "(data.input.train_max_side) and do the same" in str(caught.value)


def test_what_passed_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, EFFECT["anchors"])
    assert check_effects(plan) == "checked: each of 2 arms takes effect"
    # would fail if it were called
    monkeypatch.setattr("orchestrator.planning.preflight._measure", None)
    assert check_effects(plan) == ""
    with pytest.raises(TypeError):
        check_effects(plan_of(tmp_path, EFFECT["loss weight"]))


def test_a_detector_that_cannot_be_built_is_told_before_any_cell(tmp_path: Path) -> None:
    axis = "{path: model.neck.norm_act.groups, values: [4, 5]}"
    with pytest.raises(SweepError, match=r"arm what=5: neck: norm_act gn: groups = 5 does not"):
        check_effects(plan_of(tmp_path, axis))


def test_a_library_that_is_not_installed_is_told_before_any_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a sweep that was checked before: what computes the metrics is no part of an arm."""
    clip = EFFECT["clipping"]
    assert check_effects(plan_of(tmp_path, clip))
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert not check_effects(plan_of(tmp_path, clip))
    plan = plan_of(tmp_path, clip, overrides=["runtime.coco_eval=hotcoco"])
    with pytest.raises(SweepError, match=r"coco_eval is hotcoco, which is not installed; run pip"):
        check_effects(plan)


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ("{path: model.neck.norm_act, values: [gn, gnn]}", "unknown kind 'gnn'"),
        ("{path: model.nek.norm_act, values: [gn, bn]}", "unknown key 'nek'"),
        ("{path: runtime.log_every, values: [1, 2]}", "are the same run"),
        ("{values: {a: {optim.lr: 0.5}, b: {optim.lr: 0.50}}}", "are the same run"),
        ("{path: [optim.lr, optim.lr], values: [1, 2]}", ""),
    ],
)
def test_what_shows_in_the_settings_is_told_by_the_plan_alone(
    tmp_path: Path, axis: str, told: str
) -> None:
    if not told:
        assert len(plan_of(tmp_path, axis).cells) == 2  # twice the same setting: harmless
        return
    with pytest.raises(SweepError, match=told):
        plan_of(tmp_path, axis)
    with pytest.raises(SweepError, match=r"is written by axis what and by this argument"):
        plan_of(tmp_path, "{path: optim.lr, values: [1, 2]}", overrides=["optim.lr=3"])


def test_what_is_rare_in_the_data_is_seen(tmp_path: Path) -> None:
    """The cap of the long side binds for the last image alone."""
    records = [record(i, (40, 40)) for i in range(1, 40)] + [record(40, (90, 30))]
    boxes = [box(i, i, 1, [2, 2, 20, 20]) for i in range(1, 41)]
    for split in ("train", "val"):
        write_split(tmp_path / "data", split, coco(records, boxes))
    axis = "{path: data.input.eval_max_side, values: [96, 300]}"
    plan = plan_of(tmp_path, axis, data=tmp_path / "data")
    assert check_effects(plan) == "checked: each of 2 arms takes effect"


def test_a_baseline_left_out_needs_no_data(tmp_path: Path) -> None:
    axis = (
        "{values: {base: {data.source: {kind: coco, root: /nowhere}}, x: {optim.lr: 0.1}, "
        "y: {optim.lr: 0.2}}}"
    )
    plan = plan_of(tmp_path, axis, only="what in ['x', 'y']")
    assert check_effects(plan) == "checked: each of 2 arms takes effect"
