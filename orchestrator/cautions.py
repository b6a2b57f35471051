"""What a plan is to be read with, before anything is trained: the smallest difference that its
seeds can show, and arms that ask for trouble."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.expand import Cell

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


def cautions(cells: Sequence[Cell]) -> list[str]:
    """One line each."""
    return [*_power(cells), *_batch_norm_of_one_image(cells)]


def _power(cells: Sequence[Cell]) -> list[str]:
    if len({cell.arm_label for cell in cells}) < 2:
        return []
    seeds = seeds_per_arm(cells)
    smallest = smallest_difference(seeds)
    if smallest is None:
        return ["with one seed per arm no difference can be tested; six are a good start"]
    more = "" if seeds >= 6 else f"; with 6 seeds {SMALLEST[4]:.1f}"
    return [
        f"with {seeds} seeds per arm a paired comparison can be expected to find differences of "
        f"{smallest:.1f} standard deviations of the difference between seeds (80 % power, 5 % "
        f"level){more}"
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
