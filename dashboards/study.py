"""One sweep with all that is known of its cells: what every table, chart and sentence is made of.

Plain data. `dashboards.results` reads it from MLflow; `dashboards.document` says it in JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from dashboards.metrics import undefined
from dashboards.outcomes import OUTCOMES, SETTLED

if TYPE_CHECKING:
    from dashboards.inference import Observation, Variances

ABSENT = "-"  # the level of a conditional axis in an arm that does not have it


@dataclass(frozen=True)
class Axis:
    """`levels` in the order of the sweep file."""

    name: str
    levels: tuple[str, ...]
    baseline: str | None = None


@dataclass(frozen=True)
class Target:
    """The metric that a sweep decides by."""

    name: str = "mAP"
    goal: Literal["max", "min"] = "max"
    min_effect: float | None = None
    variances: Variances = "auto"  # of the arms


@dataclass(frozen=True)
class ReferenceRow:
    """A row of another report that an arm repeats. `metrics` is empty where it did not converge."""

    id: str
    label: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    converged: bool = True
    remark: str = ""
    protocol: Mapping[str, object] = field(default_factory=dict)  # how it was trained and scored


@dataclass(frozen=True)
class Cell:
    """An arm with a seed, as the attempt stands that decides: the newest result, else the newest
    attempt. Times are in seconds since the epoch."""

    seed: int
    outcome: str = "waiting"
    id: str = ""  # empty while its tuned values are not known
    label: str = ""
    # the final numbers of all kinds; `AP: NAME` for the AP of a class
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None  # where it ended
    reason: str = ""
    attempts: int = 0
    run_id: str = ""
    experiment_id: str = ""
    sweep: str = ""  # the one that trained it
    began: float | None = None
    ended: float | None = None
    folder: str = ""
    links: Mapping[str, str] = field(default_factory=dict)  # `mlflow`, `ray`: addresses
    tags: Mapping[str, str] = field(default_factory=dict)  # provenance: commit, data, GPUs ...
    gpus: float = 0.0

    @property
    def settled(self) -> bool:
        return self.outcome in SETTLED

    def value(self, metric: str) -> float | None:
        """The number that counts in a table: of a converged cell only, and None where the metric
        is not defined."""
        if self.outcome != "converged":
            return None
        value = self.metrics.get(metric)
        return None if value is None or undefined(metric, value) else value


@dataclass(frozen=True)
class Arm:
    """`key` is what pages and JSON call it; labels are the user's words."""

    key: str
    label: str
    levels: Mapping[str, str]
    cells: tuple[Cell, ...]
    differences: Mapping[str, str] = field(default_factory=dict)  # from the baseline, by setting
    reference: ReferenceRow | None = None
    protocol: Mapping[str, object] = field(default_factory=dict)  # the plan's; empty: not known

    def outcomes(self) -> dict[str, int]:
        """Cells by outcome, in the order of OUTCOMES."""
        counts = Counter(cell.outcome for cell in self.cells)
        return {name: counts[name] for name in OUTCOMES if counts[name]}

    def values(self, metric: str) -> list[float]:
        """Of the seeds that have one, in the order of seeds."""
        return [v for cell in self.cells if (v := cell.value(metric)) is not None]


@dataclass(frozen=True)
class Decided:
    """Where an arm (by its key) ended, or last stood, in a sweep that runs further seeds while a
    verdict is open. The interval is that of the look."""

    arm: str
    seeds: int
    verdict: str
    ended: bool
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Study:
    """`state`: `running`, `finished`, `interrupted` or `failed`, as the sweep's own run says.
    `excluded`, `aliases`, `cautions` and `blocks` are the plan's."""

    name: str
    axes: tuple[Axis, ...]
    arms: tuple[Arm, ...]
    target: Target = Target()
    baseline: str | None = None  # the key of an arm
    question: str = ""
    state: str = "finished"
    run_id: str = ""
    experiment_id: str = ""
    variant: str = ""
    arguments: str = ""
    began: float | None = None
    updated: float | None = None
    excluded: tuple[Mapping[str, object], ...] = ()
    aliases: tuple[object, ...] = ()
    cautions: tuple[str, ...] = ()
    reference: str = ""  # where the rows beside ours come from
    tags: Mapping[str, str] = field(default_factory=dict)  # of the sweep's own run
    links: Mapping[str, str] = field(default_factory=dict)
    # seeds of an arm at each look at its verdict, where more are run while it is open
    looks: tuple[int, ...] = ()
    decisions: tuple[Decided, ...] = ()  # the last of each arm, once the sweep has ended

    @cached_property
    def growing(self) -> frozenset[str]:
        """The arms that may still get seeds, beyond the cells that there are."""
        most = max(self.looks, default=0)
        ended = {self.baseline, *(d.arm for d in self.decisions if d.ended)}
        return frozenset(
            arm.key for arm in self.arms if arm.key not in ended and len(arm.cells) < most
        )

    def arm(self, key: str) -> Arm:
        return self._by_key[key]

    @cached_property
    def by_levels(self) -> dict[frozenset[tuple[str, str]], Arm]:
        """The arms, each by its levels."""
        return {frozenset(arm.levels.items()): arm for arm in self.arms}

    @cached_property
    def _by_key(self) -> dict[str, Arm]:
        return {arm.key: arm for arm in self.arms}

    @property
    def cells(self) -> Iterable[Cell]:
        return (cell for arm in self.arms for cell in arm.cells)

    def observations(self, metric: str) -> list[Observation]:
        """What `dashboards.inference.compare` takes; arms by their keys."""
        from dashboards.inference import Observation  # with scipy, which takes a second

        return [
            Observation(arm.key, cell.seed, cell.outcome, cell.value(metric))
            for arm in self.arms
            for cell in arm.cells
        ]
