"""Ten sweeps whose axis has no effect, each by another mistake: all are found before the first cell
and named, with the real command's own plan and check."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.preflight import check_effects
from orchestrator.sweep.spec import SweepError
from tests.orchestrator.test_preflight import BASE

SWEEP = """\
version: 1
name: mutated
base: b.yaml
axes:
  norm:
    path: [model.neck.norm_act, model.head.norm_act]
    values: {gn: {kind: gn, groups: 4}, bn: bn}
  lr: {path: optim.lr, values: [0.01, 0.02]}
baseline: {norm: gn, lr: 0.01}
derive: {gpus: 1}
resources: {workers: 1, cpus_per_worker: 1, gpus_per_worker: 0}
"""

MUTATIONS = {
    # what somebody wrote: old text, new text, what is said
    "a typo in the path": (
        "model.neck.norm_act, model.head",
        "model.neck.norm_akt, model.head",
        ["axes.norm", "norm_akt", "norm_act"],
    ),
    "a typo in a value": ("bn: bn}", "bn: bnn}", ["axes.norm", "bnn", "bn"]),
    "a setting of a component that is not there": (
        "lr: {path: optim.lr, values: [0.01, 0.02]}",
        "lr: {path: schedule.floor, values: [0.01, 0.02]}",
        ["axes.lr", "floor"],
    ),
    "shadowed by `set`": ("derive:", "set: {optim.lr: 0.05}\nderive:", ["optim.lr", "lr"]),
    "shadowed by a derived number": (
        "derive: {gpus: 1}",
        "derive: {gpus: 1, rate: 0.08 * gpus}\nset: {optim.lr: =rate}",
        ["optim.lr", "lr"],
    ),
    "shadowed by another axis": (
        "baseline: {",
        "  all: {path: optim, values: {slow: {lr: 0.1}, fast: {lr: 0.2}}}\nbaseline: {all: slow, ",
        ["axis lr", "axis all"],
    ),
    "two names for one value": (
        "bn: bn}",
        "same: {groups: 4, kind: gn}}",
        ["axes.norm", "gn", "same"],
    ),
    "a condition that is never met": (
        "values: [0.01, 0.02]}",
        "values: [0.01, 0.02], when: norm == 'syncbn'}",
        ["axes.lr.when", "'syncbn'", "for no levels", "norm: gn, bn"],
    ),
    "an expression that rounds the axis away": (
        "lr: {path: optim.lr, values: [0.01, 0.02]}\nbaseline: {norm: gn, lr: 0.01}\nderive:"
        " {gpus: 1}",
        "lr: {values: {a: {images: 1000}, b: {images: 1001}}}\nbaseline: {norm: gn, lr: a}\n"
        "derive: {gpus: 1}\nset: {train.steps: =images // 8}",
        ["lr", "'a'", "'b'"],
    ),
    "a setting that these data ignore": (
        "lr: {path: optim.lr, values: [0.01, 0.02]}\nbaseline: {norm: gn, lr: 0.01}",
        "crowd: {path: data.crowd, values: [drop, keep]}\nbaseline: {norm: gn, crowd: drop}",
        ["axis crowd", "'drop'", "'keep'", "do the same"],
    ),
    "a setting that its component ignores": (
        "lr: {path: optim.lr, values: [0.01, 0.02]}\nbaseline: {norm: gn, lr: 0.01}",
        "cap: {path: data.input.train_max_side, values: [96, 128]}\nbaseline: {norm: gn, cap: 96}",
        ["axis cap", "'96'", "'128'", "do the same"],
    ),
}


def found(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    (folder / "b.yaml").write_text(BASE)
    (folder / "s.yaml").write_text(text)
    with pytest.raises(SweepError) as caught:
        check_effects(make_plan(folder / "s.yaml", root=folder, overrides=overrides))
    return str(caught.value)


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_axis_without_effect_is_found_before_the_first_cell(tmp_path: Path, name: str) -> None:
    old, new, words = MUTATIONS[name]
    assert old in SWEEP
    said = found(tmp_path, SWEEP.replace(old, new))
    print(f"{name}: {said}")
    assert "\n" not in said
    for word in words:
        assert word in said


def test_an_override_that_shadows_an_axis_is_found(tmp_path: Path) -> None:
    said = found(tmp_path, SWEEP, ("set.optim.lr=0.05",))
    assert "optim.lr" in said


def test_the_sweep_is_right_before_it_is_mutated(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BASE)
    (tmp_path / "s.yaml").write_text(SWEEP)
    plan = make_plan(tmp_path / "s.yaml", root=tmp_path)
    assert check_effects(plan) == "checked: each of 4 arms takes effect"
