"""What a plan says of its power, against scipy, and of arms that ask for trouble."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import integrate, stats

from orchestrator.planning.cautions import SMALLEST, cautions, smallest_difference
from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import load_sweep

ROOT = Path(__file__).parents[2]


def power(effect: float, n: int) -> float:
    """P(|T| > t) for n paired differences of mean `effect` and deviation 1, by integrating over the
    sample deviation: T = (Z + effect sqrt(n)) / S."""
    df, shift = n - 1, effect * math.sqrt(n)
    critical = stats.t.ppf(0.975, df)

    def at(s: float) -> float:
        density = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)
        beyond = stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)
        return float(density * beyond)

    return float(integrate.quad(at, 0, 8, limit=200, points=[min(7.9, shift / critical)])[0])


@pytest.mark.parametrize("n", range(2, len(SMALLEST) + 2))
def test_the_smallest_difference_has_80_percent_power(n: int) -> None:
    smallest = smallest_difference(n)
    assert smallest is not None
    assert power(smallest, n) == pytest.approx(0.8, abs=0.01)


def test_beyond_the_table_it_falls_with_the_root_of_the_seeds() -> None:
    assert smallest_difference(1) is None
    smallest = smallest_difference(30)
    assert smallest is not None
    assert power(smallest, 30) == pytest.approx(0.8, abs=0.05)


def test_batch_norm_over_one_image_is_told_with_its_arms() -> None:
    cells = expand(load_sweep(ROOT / "sweeps/norm_vs_batchsize.yaml"))
    told = cautions(cells)
    assert told[0] == (
        "batch norm takes its statistics from one image at a time in norm=bn batch_per_gpu=1"
    )
    assert len(told) == 2  # the sweep keeps images and rate per image equal
    assert told[1].startswith("with 2 seeds per arm two arms by themselves")
    assert "11.6 standard deviations" in told[1]
    one = [c for c in cells if c.seed == 0 and c.axes["norm"] == "gn"]
    assert cautions(one) == [
        "with one seed per arm no difference can be tested; six are a good start"
    ]
    assert cautions(one[:1]) == []


def told_of(folder: Path, **changes: Any) -> list[str]:
    """The cautions of a sweep over a base with gn, 100 steps of 2 images, lr 0.01; without those
    on its seeds."""
    base = {
        "model": {"kind": "retinanet", "neck": {"kind": "fpn", "norm_act": "gn"}},
        "optim": {"lr": 0.01},
    }
    base["train"] = {"steps": 100, "batch_per_gpu": 2}
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    axes = {"norm": {"path": "model.neck.norm_act", "values": ["gn", "sync_bn"]}}
    sweep = {"version": 1, "name": "a", "base": "base.yaml", "axes": axes, **changes}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    read = load_sweep(folder / "sweep.yaml")
    return [line for line in cautions(expand(read), read) if "seed" not in line]


def test_axes_that_compare_nothing_or_with_something_unsaid(tmp_path: Path) -> None:
    assert told_of(tmp_path) == []
    batch = {"path": "train.batch_per_gpu", "values": [2]}
    norm = {"path": "model.neck.norm_act", "values": ["sync_bn", "gn"]}
    (one_level,) = told_of(
        tmp_path, axes={"batch": batch, "norm": norm}, baseline={"batch": 2, "norm": "gn"}
    )
    assert one_level == "axis batch has one level, 2: nothing is compared on it"
    # sync_bn stands first and is the baseline unasked; the base has gn
    (unsaid,) = told_of(tmp_path, axes={"norm": norm})
    assert unsaid == (
        "axis norm is compared with its first level, sync_bn, and the base config has gn: say in "
        "`baseline` which is meant"
    )
    assert told_of(tmp_path, axes={"norm": norm}, baseline={"norm": "sync_bn"}) == []
    # an axis that the base config takes no side in
    free = {"path": "model.neck.norm_act", "values": ["sync_bn", "frozen_bn"]}
    assert told_of(tmp_path, axes={"norm": free}) == []


def test_unequal_training_and_a_rate_that_does_not_follow_the_batch(tmp_path: Path) -> None:
    batch = {"path": "train.batch_per_gpu", "values": [2, 8]}
    images, rate = told_of(tmp_path, axes={"batch": batch})
    assert images == (  # 100 steps of 2 and of 8
        "arms are not trained on equally many images: 200 in batch=2, 800 in batch=8"
    )
    assert rate == (
        "the learning rate is 0.01 for global batches from 2 to 8: an arm may lose for its rate "
        "alone"
    )
    equal = {"derive": {"steps": "200 // batch"}, "set": {"train.steps": "=steps"}}
    assert told_of(tmp_path, axes={"batch": batch}, **equal) == [rate]
    equal["set"]["optim.lr"] = "=0.005 * batch"
    assert told_of(tmp_path, axes={"batch": batch}, **equal) == []


def test_what_is_tuned_is_said_with_its_budget(tmp_path: Path) -> None:
    norm = {"path": "model.neck.norm_act", "values": ["gn", "sync_bn"]}
    tune: dict[str, Any] = {"nuisance": {"lr_mult": [0.5, 1, 2], "decay": [0.0, 0.1]}}
    tune |= {"per": ["norm"], "default": {"decay": 0.1}}
    uses = {"optim.lr": "=0.01 * lr_mult", "optim.weight_decay": "=decay"}
    (said,) = told_of(tmp_path, axes={"norm": norm}, baseline={"norm": "gn"}, tune=tune, set=uses)
    assert said == (  # 3 x 2
        "lr_mult and decay are tuned for each level of norm, among 6 candidates with one run each:"
        " arms are compared at what was chosen, and how far that choice was chance is in no"
        " interval"
    )


def test_the_plan_shows_them_as_text_and_json() -> None:
    plan = make_plan(ROOT / "sweeps/norm_vs_batchsize.yaml")
    assert plan.to_json()["cautions"] == cautions([p.cell for p in plan.cells], plan.sweep)
    assert "\ncaution: with 2 seeds per arm" in plan.to_text()


def test_a_budget_of_gpu_hours_without_gpus_limits_nothing() -> None:
    sweep = load_sweep(
        ROOT / "sweeps" / "norm_vs_batchsize.yaml", overrides=["budget={gpu_hours: 1}"]
    )
    void = "budget.gpu_hours limits nothing: no cell takes a GPU"
    assert void in cautions(expand(sweep), sweep)
    with_gpus = load_sweep(
        ROOT / "sweeps" / "norm_vs_batchsize.yaml",
        overrides=["budget={gpu_hours: 1}", "resources.gpus_per_worker=1"],
    )
    assert void not in cautions(expand(with_gpus), with_gpus)
