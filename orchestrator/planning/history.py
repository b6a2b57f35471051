"""Past attempts at cells, read from MLflow in one pass: what a plan is forecast from, and compared
with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dashboards.outcomes import SETTLED
from orchestrator.planning.workload import Workload, read_workload
from orchestrator.tracking.attempts import Attempt, Records

_CAPACITY = re.compile(r"total capacity of ([\d.]+) GiB")  # in torch's out-of-memory message
_GANG = re.compile(r"^\d+ x (?=[^,]*$)")  # `2 x NVIDIA H100`, a gang with one kind of GPU


@dataclass(frozen=True)
class Past:
    """One attempt, as it is on record. What is not known is None, or empty; times in seconds."""

    cell: str
    outcome: str
    label: str = ""
    sweep: str = ""
    start: str = ""  # the sweep's own run that it belongs to
    number: int = 1
    axes: Mapping[str, str] = field(default_factory=dict)
    seed: str = ""
    code: str = ""
    data: str = ""
    arm: str = ""
    workload: Workload | None = None
    reason: str = ""
    step: int | None = None  # where it ended
    wall: float | None = None  # all that it took, in one go
    train: float | None = None  # of which training
    images_per_s: float | None = None
    peak_gb: float | None = None  # memory, in 1e9 bytes
    gpu_hours: float = 0.0
    gpu: str = ""  # what its GPUs are called
    gpu_gb: float | None = None  # memory of each, in 1e9 bytes

    @property
    def settled(self) -> bool:
        return self.outcome in SETTLED

    @property
    def per_step(self) -> float | None:
        """Seconds of training for one step."""
        if self.train and self.step:
            return self.train / self.step
        if self.images_per_s and self.workload:
            return self.workload.images / self.images_per_s
        return None

    def takes(self, steps: int) -> float | None:
        """The seconds of such a cell with this many steps: its training scaled by steps, and what
        it took beside (start, evaluation) as it was."""
        if self.per_step is None:
            return None
        beside = self.wall - self.train if self.settled and self.wall and self.train else 0.0
        return self.per_step * steps + max(beside, 0.0)


@dataclass(frozen=True)
class History:
    """`pasts` newest first; `starts` are the sweep's own runs with the settings of this plan."""

    pasts: tuple[Past, ...] = ()
    starts: frozenset[str] = frozenset()

    def spent(self, sweep: str) -> float:
        """The GPU-hours of all attempts that the sweep of this name has made."""
        return sum(past.gpu_hours for past in self.pasts if past.sweep == sweep)


def read_history(records: Records, sweep: str, variant: str) -> History:
    """Raises LedgerError when the store does not answer."""
    starts = {
        str(run.info.run_id)
        for run in records.sweeps(sweep)
        if run.data.tags.get("sweep.variant") == variant
    }
    return History(tuple(past_of(a) for a in records.attempts()), frozenset(starts))


def past_of(attempt: Attempt) -> Past:
    tags, metrics = attempt.tags, attempt.run.data.metrics
    train_hours = _positive(metrics.get("train_hours"))
    # a result that was stored from its files: when its attempt ended is not on record
    timed = attempt.ended is not None and "cell.recorded" not in tags
    capacity = _CAPACITY.search(attempt.reason)
    gib = float(capacity.group(1)) if capacity else None
    return Past(
        cell=attempt.cell_id,
        outcome=attempt.outcome,
        label=attempt.label,
        sweep=attempt.sweep,
        start=tags.get("sweep.run_id", ""),
        number=attempt.number,
        axes={k.removeprefix("axis."): v for k, v in tags.items() if k.startswith("axis.")},
        seed=tags.get("cell.seed", ""),
        code=tags.get("code.version", ""),
        data=tags.get("data.fingerprint", ""),
        arm=tags.get("cell.arm", ""),
        workload=read_workload(tags.get("cell.workload")),
        reason=attempt.reason,
        step=attempt.step,
        wall=(attempt.ended or 0.0) - attempt.began if timed else None,
        train=train_hours and train_hours * 3600,
        images_per_s=_positive(metrics.get("images_per_s")),
        peak_gb=_positive(metrics.get("peak_mem_gb")),
        gpu_hours=metrics.get("gpu_hours", 0.0),
        gpu=_GANG.sub("", tags.get("gpu.names", "")),
        gpu_gb=_number(tags.get("gpu.memory_gb")) or (gib and gib * 1.073741824),
    )


def by_cell(pasts: Iterable[Past]) -> dict[str, list[Past]]:
    found: dict[str, list[Past]] = {}
    for past in pasts:
        found.setdefault(past.cell, []).append(past)
    return found


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0 < value < float("inf") else None


def _number(text: str | None) -> float | None:
    try:
        return _positive(float(text)) if text else None
    except ValueError:
        return None
