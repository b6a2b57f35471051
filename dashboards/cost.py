"""What accuracy costs: which arms are worth their hours, and how arms stand when they have seen as
many images as each other."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.average import mean, spread
from dashboards.outcomes import FAILED
from dashboards.study import Arm, Cell, Study

Curves = Mapping[str, Mapping[str, Sequence[Sequence[Any]]]]
"""For a cell's id its points by metric, [[step, value], ...]; a value that is no number is None."""

ONLY_AT_THE_END = "evaluated only at the end of training, after unequal numbers of images"


@dataclass(frozen=True)
class Priced:
    """An arm by its converged cells that have both numbers (`n` of `planned`). `front`: no other
    arm is at least as good and at most as dear, and better in one of the two, by the means.
    `failed` seeds did not converge and are in neither mean."""

    arm: str
    label: str
    planned: int
    n: int
    failed: int
    value: float | None
    value_sd: float | None
    cost: float | None
    cost_sd: float | None
    front: bool = False


@dataclass(frozen=True)
class Pareto:
    """`cost` is the metric that was taken: train_hours where no GPU was used. `front`: arms on it,
    from the cheapest to the dearest. `note`: which of them stand there by a part of their seeds."""

    metric: str
    goal: str
    cost: str
    arms: tuple[Priced, ...]
    front: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class AtImages:
    """An arm's `value` when it had seen `images`: at its last evaluation that was not later. `at`:
    after how many images that was, the fewest of its seeds."""

    arm: str
    label: str
    n: int
    value: float | None
    sd: float | None
    at: int | None
    why: str = ""  # why there is no value


@dataclass(frozen=True)
class EqualImages:
    """All arms when they had seen `images`, as many as the one that saw fewest in all."""

    metric: str
    images: int | None
    arms: tuple[AtImages, ...]
    note: str = ""


def pareto(study: Study, cost: str = "gpu_hours") -> Pareto:
    """Accuracy and cost of each arm. Raises ValueError for a cost that no cell has."""
    have = {name for cell in study.cells for name in cell.metrics}
    if cost == "gpu_hours" and not any(c.metrics.get(cost, 0.0) > 0 for c in study.cells):
        cost = "train_hours"
    elif have and cost not in have:
        raise ValueError(f"unknown cost {cost!r}; choices: {', '.join(sorted(have))}")
    arms = [_priced(study, arm, cost) for arm in study.arms]
    sign = -1.0 if study.target.goal == "min" else 1.0
    told = [(a, sign * a.value, a.cost) for a in arms if a.value is not None and a.cost is not None]
    front = {
        a.arm: c
        for a, v, c in told
        if not any(w >= v and d <= c and (w > v or d < c) for _, w, d in told)
    }
    return Pareto(
        study.target.name,
        study.target.goal,
        cost,
        tuple(Priced(**{**vars(a), "front": a.arm in front}) for a in arms),
        tuple(sorted(front, key=front.__getitem__)),
        _survivors(a for a in arms if a.arm in front),
    )


def at_equal_images(study: Study, curves: Curves) -> EqualImages:
    """Every arm after as many images as the one with the fewest saw. Of converged cells; an arm
    whose evaluations all came later has no value, and `note` says so when that is all of them."""
    metric = study.target.name
    points = {
        arm.key: [p for cell in arm.cells if (p := _by_images(cell, curves, metric))]
        for arm in study.arms
    }
    ends = {key: min(p[-1][0] for p in of) for key, of in points.items() if of}
    if not ends:
        return EqualImages(metric, None, (), "no curves of cells whose images a step are known")
    images = min(ends.values())
    arms = tuple(_at(arm, points[arm.key], images) for arm in study.arms)
    lacking = [a for a in arms if a.value is None and a.arm in ends]
    note = ""
    if lacking:
        which = "the arms were" if len(lacking) == len(ends) - 1 else "some arms were"
        note = f"{which} {ONLY_AT_THE_END}" if _ends_only(points, lacking) else ""
    return EqualImages(metric, images, arms, note)


# ---------------------------------------------------------------- inside


def _survivors(front: Iterable[Priced]) -> str:
    """A mean over the seeds that converged is no mean over those that did not."""
    part = [
        f"{a.label or a.arm} ({a.n} of {a.n + a.failed} seeds converged)" for a in front if a.failed
    ]
    return f"on the front by the seeds that converged alone: {', '.join(part)}" if part else ""


def _priced(study: Study, arm: Arm, cost: str) -> Priced:
    both = [
        (value, price)
        for cell in arm.cells
        if (value := cell.value(study.target.name)) is not None
        and (price := cell.value(cost)) is not None
    ]
    values, costs = [v for v, _ in both], [c for _, c in both]
    failed = sum(cell.outcome in FAILED for cell in arm.cells)
    return Priced(
        arm.key,
        arm.label,
        len(arm.cells),
        len(both),
        failed,
        mean(values),
        spread(values),
        mean(costs),
        spread(costs),
    )


def _by_images(cell: Cell, curves: Curves, metric: str) -> list[tuple[int, float]]:
    """The evaluations of a converged cell by the images it had seen; none where it is not known how
    many are in a step."""
    step = images_per_step(cell)
    if cell.outcome != "converged" or not step:
        return []
    raw = curves.get(cell.id, {}).get(metric, ())
    known = ((s, v) for s, v in raw if v is not None and math.isfinite(v) and s > 0)
    return sorted((round(s * step), float(v)) for s, v in known)


def images_per_step(cell: Cell) -> int | None:
    """Of the whole gang, from the tag `cell.workload`; None without one."""
    try:
        data: Any = json.loads(cell.tags.get("cell.workload", ""))
        return int(data["batch"]) * int(data["accumulate"]) * int(data["ranks"])
    except (ValueError, KeyError, TypeError):
        return None


def _at(arm: Arm, cells: Sequence[Sequence[tuple[int, float]]], images: int) -> AtImages:
    last = [
        max((p for p in points if p[0] <= images), key=lambda p: p[0])
        for points in cells
        if points[0][0] <= images
    ]
    if not cells:
        return AtImages(arm.key, arm.label, 0, None, None, None, "no curve")
    if len(last) < len(cells):
        return AtImages(arm.key, arm.label, 0, None, None, None, "not evaluated as early as that")
    values = [value for _, value in last]
    return AtImages(
        arm.key, arm.label, len(last), mean(values), spread(values), min(at for at, _ in last)
    )


def _ends_only(
    points: Mapping[str, Sequence[Sequence[tuple[int, float]]]], arms: Sequence[AtImages]
) -> bool:
    return all(len(of) == 1 for arm in arms for of in points[arm.arm])
