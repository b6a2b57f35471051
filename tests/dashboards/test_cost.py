"""The front of accuracy and cost against its definition, and arms at equal numbers of images."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.cost import at_equal_images, images_per_step, pareto
from dashboards.study import Cell, Study
from tests.dashboards.made import Seed, study


def cell(value: float, hours: float, name: str = "gpu_hours", **more: Any) -> Seed:
    return {"outcome": "converged", "metrics": {"mAP": value, name: hours}, **more}


def arms(*points: tuple[float, float], goal: str = "max", name: str = "gpu_hours") -> Study:
    made = {(f"l{n}",): [cell(v, c, name)] for n, (v, c) in enumerate(points)}
    return study(made, {"axis": [f"l{n}" for n in range(len(points))]}, goal=goal)


def test_the_front_by_hand() -> None:
    """a2 is dearer than a1 and no better; a3 is as good as a1 at the same cost: both stay; a4 is as
    dear as a0 and worse."""
    found = pareto(arms((0.30, 1.0), (0.40, 2.0), (0.40, 3.0), (0.40, 2.0), (0.29, 1.0)))
    assert found.front == ("a0", "a1", "a3")
    assert found.note == ""  # every seed converged
    assert [a.front for a in found.arms] == [True, True, False, True, False]
    assert (found.metric, found.goal, found.cost) == ("mAP", "max", "gpu_hours")
    least = pareto(arms((0.30, 1.0), (0.40, 2.0), (0.29, 3.0), goal="min"))
    assert least.front == ("a0", "a2")


POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(lambda v: v / 10), st.integers(1, 5).map(float)), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(POINTS, st.sampled_from(["max", "min"]))
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]], goal: str) -> None:
    found = pareto(arms(*points, goal=goal))
    sign = 1 if goal == "max" else -1
    for arm, (value, cost) in zip(found.arms, points, strict=True):
        dominated = any(
            sign * v >= sign * value and c <= cost and (v, c) != (value, cost) for v, c in points
        )
        assert arm.front != dominated
    costs = [next(a.cost for a in found.arms if a.arm == key) for key in found.front]
    assert costs == sorted(costs)


def test_means_spread_and_seeds_that_failed() -> None:
    """0.30 and 0.34 at 1 and 3 hours: means 0.32 and 2, SDs 0.02 sqrt(2) and sqrt(2)."""
    of = study(
        {
            ("bn",): [cell(0.30, 1), cell(0.34, 3), "diverged", None],
            ("gn",): ["diverged", {"outcome": "stalled", "metrics": {"gpu_hours": 0.1}}],
        },
        {"norm": ["bn", "gn"]},
    )
    bn, gn = pareto(of).arms
    assert (bn.value, bn.value_sd) == pytest.approx((0.32, 0.02 * 2**0.5))
    assert (bn.cost, bn.cost_sd) == pytest.approx((2, 2**0.5))
    assert (bn.planned, bn.n, bn.failed, bn.front) == (4, 2, 1, True)
    assert pareto(of).note == (
        "on the front by the seeds that converged alone: norm=bn (2 of 3 seeds converged)"
    )
    # a cell that died early was cheap; that makes no arm a good one
    assert (gn.value, gn.cost, gn.failed, gn.front) == (None, None, 2, False)


def test_hours_of_training_where_no_gpu_was_used() -> None:
    assert pareto(arms((0.3, 1.0), name="train_hours")).cost == "train_hours"
    none = study(
        {("a",): [{"outcome": "converged", "metrics": {"mAP": 0.3, "gpu_hours": 0.0}}]},
        {"x": ["a"]},
    )
    assert (pareto(none).cost, pareto(none).arms[0].cost) == ("train_hours", None)
    assert pareto(arms((0.3, 7.0), name="peak_mem_gb"), "peak_mem_gb").arms[0].cost == 7.0
    with pytest.raises(ValueError, match=r"unknown cost 'hours'; choices: gpu_hours, mAP"):
        pareto(arms((0.3, 1.0)), "hours")
    assert pareto(study({}, {"x": ["a"]})).front == ()


# ---------------------------------------------------------------- equal numbers of images


def workload(batch: int, accumulate: int = 1, ranks: int = 1) -> str:
    sizes = {"network": "n", "batch": batch, "accumulate": accumulate, "ranks": ranks}
    return json.dumps({**sizes, "cpus": 1, "gpus": 1})


def trained(*batches: int) -> tuple[Study, list[str]]:
    made: dict[tuple[str, ...], list[Seed]] = {
        (str(b),): [
            cell(0.3, 1.0, id=f"c{n}{s}", tags={"cell.workload": workload(b)}) for s in range(2)
        ]
        for n, b in enumerate(batches)
    }
    return study(made, {"batch": [str(b) for b in batches]}), [f"c{n}" for n in range(len(batches))]


def test_at_equal_images_by_hand() -> None:
    """Batch 2 has seen 200, 400 and 600 images at its evaluations, batch 8 400, 800 and 1200: as
    many as both saw is 600. Of the first the last counts, of the second the first."""
    of, (small, large) = trained(2, 8)
    curves = {
        f"{small}0": {"mAP": [[100, 0.1], [200, 0.2], [300, 0.3]]},
        f"{small}1": {"mAP": [[100, 0.1], [200, None], [300, 0.34]]},
        f"{large}0": {"mAP": [[50, 0.25], [100, 0.3], [150, 0.4]]},
        f"{large}1": {"mAP": [[50, 0.27], [100, 0.3], [150, 0.4]]},
    }
    found = at_equal_images(of, curves)
    assert (found.metric, found.images, found.note) == ("mAP", 600, "")
    two, eight = found.arms
    assert (two.value, two.at, two.n) == (pytest.approx(0.32), 600, 2)
    assert two.sd == pytest.approx(0.02 * 2**0.5)
    assert (eight.value, eight.at) == (pytest.approx(0.26), 400)


def test_evaluated_only_at_the_end() -> None:
    of, (small, large) = trained(2, 8)
    curves = {f"{c}{s}": {"mAP": [[300, 0.3]]} for c in (small, large) for s in range(2)}
    found = at_equal_images(of, curves)
    assert found.images == 600
    assert (found.arms[0].value, found.arms[1].value) == (pytest.approx(0.3), None)
    assert found.arms[1].why == "not evaluated as early as that"
    assert found.note.endswith(
        "evaluated only at the end of training, after unequal numbers of images"
    )


def test_no_curves_and_no_workload() -> None:
    of, _ = trained(2, 8)
    found = at_equal_images(of, {})
    assert (found.images, found.arms) == (None, ())
    assert found.note == "no curves of cells whose images a step are known"
    assert images_per_step(Cell(0, tags={"cell.workload": workload(2, 3, 4)})) == 24
    for tag in ("", "[]", "{}", '{"batch": "x"}', "not json"):
        assert images_per_step(Cell(0, tags={"cell.workload": tag})) is None
    assert images_per_step(Cell(0)) is None
