"""What a sweep will cost, told from past cells. Pure functions: whatever is said names its source,
and what no past cell tells is not guessed.

How long a running sweep still takes is told by orchestrator.running.eta."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.planning.history import Past
from orchestrator.planning.workload import Workload, workload_of
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.identity import Texts, arm_key

if TYPE_CHECKING:
    from orchestrator.planning.plan import Planned

SOURCES = {
    "cell": "earlier attempts at the same cell",
    "arm": "other seeds of the same arm",
    "workload": "runs with the same model, input, batch and gang, by their steps",
    "reference": "the hours of the reference rows, on their hardware",
}
"""Where a forecast can come from, the best first."""

FEW_STEPS = 20
"""The first steps are slower than the rest: what was measured over fewer is called rough."""


NEWEST = 20
"""So many past cells of a kind are asked."""


@dataclass(frozen=True)
class Cost:
    """What one cell will take. `seconds` is None when nothing is known, and `source` is then
    empty; `steps` is over how many the past cells were measured."""

    seconds: float | None
    gpus: float
    cpus: float
    source: str = ""
    runs: int = 0
    steps: int | None = None
    peak_gb: float | None = None

    @property
    def gpu_hours(self) -> float:
        return (self.seconds or 0.0) * self.gpus / 3600

    @property
    def core_hours(self) -> float:
        """CPU-core-hours; 0 for a cell that holds GPUs."""
        return 0.0 if self.gpus else (self.seconds or 0.0) * self.cpus / 3600


@dataclass(frozen=True)
class Forecast:
    """By cell id; of cells whose cost is not known, sums hold nothing."""

    costs: Mapping[str, Cost]

    @property
    def gpu_hours(self) -> float:
        return sum(cost.gpu_hours for cost in self.costs.values())

    @property
    def core_hours(self) -> float:
        return sum(cost.core_hours for cost in self.costs.values())

    @property
    def unknown(self) -> list[str]:
        return [id for id, cost in self.costs.items() if cost.seconds is None]

    @property
    def sources(self) -> dict[str, int]:
        """How many cells are told from which source."""
        used = [cost.source for cost in self.costs.values()]
        return {source: used.count(source) for source in SOURCES if source in used}

    @property
    def rough(self) -> bool:
        return any(
            cost.steps is not None and cost.steps < FEW_STEPS for cost in self.costs.values()
        )


def forecast(
    cells: Sequence[Planned],
    pasts: Iterable[Past],
    reference_hours: Callable[[Cell], float | None] = lambda cell: None,
) -> Forecast:
    """The costs of `cells` from `pasts`, newest first; `reference_hours` is what another report
    gives for a cell."""
    known: dict[tuple[str, Hashable], list[Past]] = {}
    for past in pasts:
        if past.workload and past.per_step is not None:
            for key in _keys(past.cell, past.arm, past.workload):
                alike = known.setdefault(key, [])
                if len(alike) < NEWEST:
                    alike.append(past)
    texts = Texts()
    costs = {}
    for planned in cells:
        arm = arm_key(planned.cell.config, texts)
        keys = _keys(planned.id, arm, workload_of(planned.cell, texts))
        near = next(((key[0], known[key]) for key in keys if key in known), None)
        costs[planned.id] = _cost(planned.cell, near, reference_hours)
    return Forecast(costs)


def _keys(cell: str, arm: str, workload: Workload) -> tuple[tuple[str, Hashable], ...]:
    """What past cells are looked for by, the nearest first. What a worker holds is no part of a
    cell's identity, and decides what it takes."""
    each = (workload.cpus, workload.gpus)
    return ("cell", (cell, each)), ("arm", (arm, each)), ("workload", workload)


def _cost(
    cell: Cell,
    near: tuple[str, list[Past]] | None,
    reference_hours: Callable[[Cell], float | None],
) -> Cost:
    r = cell.resources
    if near is None:
        hours = reference_hours(cell)
        if hours is None:
            return Cost(None, r.gpus, r.cpus)
        return Cost(hours * 3600, r.gpus, r.cpus, "reference", 1)
    source, pasts = near
    # those that got about as far: the first steps of a run that ended early say little
    farthest = max(past.step or 0 for past in pasts)
    pasts = [past for past in pasts if 2 * (past.step or 0) >= farthest]
    seconds = [s for past in pasts if (s := past.takes(cell.config.train.steps)) is not None]
    peaks = [past.peak_gb for past in pasts if past.peak_gb]
    return Cost(
        median(seconds), r.gpus, r.cpus, source, len(pasts), farthest, max(peaks, default=None)
    )
