"""What a plan is to be read with, before anything is trained: the smallest difference that its
seeds can show, and arms that ask for trouble."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.sweep.axes import Axis, text_of
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.resolve import with_level
from orchestrator.sweep.spec import Sweep
from orchestrator.sweep.tune import Tune

SMALLEST = (11.55, 3.26, 2.13, 1.68, 1.43, 1.27, 1.16, 1.07, 1.00, 0.94, 0.89)
"""For 2 to 12 paired seeds: the difference of two arms, in standard deviations of the paired
difference, that a two-sided paired t test at the 5 % level finds in 80 of 100 sweeps."""


def smallest_difference(seeds: int) -> float | None:
    """As `SMALLEST`, for any number of seeds; None for one, with which nothing can be tested."""
    if seeds < 2:
        return None
    if seeds <= len(SMALLEST) + 1:
        return SMALLEST[seeds - 2]
    return SMALLEST[-1] * math.sqrt((len(SMALLEST) + 1) / seeds)


def seeds_per_arm(cells: Sequence[Cell]) -> int:
    """The seeds of the arm that has fewest."""
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm_label, set()).add(cell.seed)
    return min(map(len, seeds.values()), default=0)


def cautions(cells: Sequence[Cell], sweep: Sweep | None = None) -> list[str]:
    """One line each; what concerns the axes only with the sweep that the cells are of."""
    return [
        *(_axes(sweep) if sweep else []),
        *(_budget(cells, sweep) if sweep else []),
        *(_tuned(sweep.tune) if sweep and sweep.tune else []),
        *_batch_norm_of_one_image(cells),
        *_unequal_training(cells),
        *_one_rate(cells),
        *_power(cells),
    ]


def _budget(cells: Sequence[Cell], sweep: Sweep) -> list[str]:
    if sweep.budget.gpu_hours is None or any(cell.resources.gpus for cell in cells):
        return []
    return ["budget.gpu_hours limits nothing: no cell takes a GPU"]


def _tuned(tune: Tune) -> list[str]:
    """A table shows what arms do at the values chosen for them, and not what choosing again would
    do."""
    each = f"for each level of {' and '.join(tune.per)}" if tune.per else "for all arms alike"
    verb, tried = "is" if len(tune.nuisance) == 1 else "are", len(tune.candidates())
    return [
        f"{' and '.join(tune.nuisance)} {verb} tuned {each}, among {tried} candidates with one run "
        "each: arms are compared at what was chosen, and how far that choice was chance is in no "
        "interval"
    ]


def _axes(sweep: Sweep) -> list[str]:
    """Axes that compare nothing, and comparisons with what nobody chose."""
    named = sweep.document.data.get("baseline") or {}
    lines = []
    for axis in sweep.axes:
        if len(axis.levels) == 1 and axis.when is None:
            only = text_of(axis.levels[0].label)
            lines.append(f"axis {axis.name} has one level, {only}: nothing is compared on it")
        elif axis.name not in named and (of_base := _level_of_base(sweep, axis)):
            first = text_of(axis.levels[0].label)
            if of_base != first:
                lines.append(
                    f"axis {axis.name} is compared with its first level, {first}, and the base "
                    f"config has {of_base}: say in `baseline` which is meant"
                )
    return lines


def _level_of_base(sweep: Sweep, axis: Axis) -> str | None:
    """The label of the one level that leaves the base config as it is."""
    own = [level for level in axis.levels if level.writes and not level.base]
    same = [level for level in own if with_level(sweep.base, level) == sweep.base]
    return text_of(same[0].label) if len(same) == 1 else None


def _unequal_training(cells: Sequence[Cell]) -> list[str]:
    """Equal learning needs equal training; where that is what is asked, this is what to know."""
    images: dict[int, str] = {}
    for cell in cells:
        train = cell.config.train
        seen = train.steps * train.batch_per_gpu * train.accumulate * train.workers
        images.setdefault(seen, cell.arm_label)
    if len(images) < 2:
        return []
    least, most = min(images), max(images)
    return [
        f"arms are not trained on equally many images: {least:,} in {images[least]}, {most:,} in "
        f"{images[most]}"
    ]


def _one_rate(cells: Sequence[Cell]) -> list[str]:
    """A learning rate that suits one global batch suits no other."""
    batches: dict[float, set[int]] = {}
    for cell in cells:
        train = cell.config.train
        batch = train.batch_per_gpu * train.accumulate * train.workers
        batches.setdefault(cell.config.optim.lr, set()).add(batch)
    if len(batches) != 1:
        return []
    ((rate, sizes),) = batches.items()
    if len(sizes) < 2:
        return []
    return [
        f"the learning rate is {rate:g} for global batches from {min(sizes)} to {max(sizes)}: an "
        "arm may lose for its rate alone"
    ]


def _power(cells: Sequence[Cell]) -> list[str]:
    if len({cell.arm_label for cell in cells}) < 2:
        return []
    seeds = seeds_per_arm(cells)
    smallest = smallest_difference(seeds)
    if smallest is None:
        return ["with one seed per arm no difference can be tested; six are a good start"]
    more = "" if seeds >= 6 else f"; with 6 seeds {SMALLEST[4]:.1f}"
    return [
        f"with {seeds} seeds per arm two arms by themselves can be expected to show differences of "
        f"{smallest:.1f} standard deviations of their difference between seeds (80 % power, 5 % "
        f"level){more}; the report learns the noise from all arms together, and sees finer ones"
    ]


def _batch_norm_of_one_image(cells: Sequence[Cell]) -> list[str]:
    found = {
        cell.arm_label: None
        for cell in cells
        if cell.config.train.batch_per_gpu == 1 and "bn" in set(_kinds(cell.config.model))
    }
    if not found:
        return []
    shown = ", ".join(list(found)[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return [f"batch norm takes its statistics from one image at a time in {shown}"]


def _kinds(component: Any) -> Iterator[str]:
    """The kinds of a component and of all that it is made of."""
    if not dataclasses.is_dataclass(component):
        return
    yield getattr(component, "kind", "")
    for f in dataclasses.fields(component):
        yield from _kinds(getattr(component, f.name))
