"""Sweeps as MLflow has them, as plain data: the list of all, and one with all its cells."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dashboards.curves import Curves, Points
from dashboards.outcomes import OUTCOMES
from dashboards.plans import Levels, Plan, Planned, arm_label, ordered
from dashboards.reader import Runs, SweepRun
from dashboards.resample import Matches, read_matches
from dashboards.runs import Attempt
from dashboards.store import one_line
from dashboards.study import ABSENT, Arm, Axis, Cell, Decided, Study, Target
from dashboards.which import chosen, sweep_name, variant_text

MATCHES = "matches.npz"  # an artifact of a cell
FRESH_S = 1.0  # what was asked so short a time ago is not asked again


@dataclass(frozen=True)
class Listed:
    """A sweep in the list of all. `remark` says what is amiss with it, if anything. Times are in
    seconds since the epoch."""

    name: str
    variant: str
    arguments: str
    state: str  # running, finished, interrupted or failed
    run_id: str
    experiment_id: str
    question: str = ""
    planned: int = 0
    settled: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)  # cells, in the order of OUTCOMES
    gpu_hours: float = 0.0  # of the attempts that decide
    began: float | None = None
    updated: float | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


class Reader:
    """Reads a store, and keeps what does not change; for any number of threads.

    Its methods raise LedgerError when there is no store, when it does not answer, or when the sweep
    that is asked for is not there."""

    def __init__(self, root: Path | None = None) -> None:
        self._runs = Runs(root)
        self._curves = Curves()
        self._studies: dict[str, Study] = {}
        self._lock = threading.Lock()
        self._asked = -math.inf

    def studies(self) -> list[Listed]:
        """All sweeps, the newest first."""
        with self._lock:
            self._refresh()
            self._runs.read_plans(self._runs.sweeps.values())
            listed = [_listed(self._runs, sweep) for sweep in self._runs.sweeps.values()]
        return sorted(listed, key=lambda s: (s.updated or 0.0, s.began or 0.0), reverse=True)

    def study(self, name: str, variant: str | None = None) -> Study:
        """The sweep `name`. `variant`: the beginning of one of its variants or the id of its run
        (default: the one that was last at work). As long as nothing has changed it is the same
        object, so that what is made of it can be kept."""
        with self._lock:
            self._refresh()
            sweeps, store = self._runs.sweeps.values(), self._runs.store
            found = _study(self._runs, chosen(sweeps, store, name, variant))
            if self._studies.get(found.run_id) != found:
                self._studies[found.run_id] = found
            return self._studies[found.run_id]

    def other_starts(self, study: Study) -> list[str]:
        """The sweep's other variants on record, newest first, each with its arguments."""
        with self._lock:
            found = [s for s in self._runs.sweeps.values() if s.name == study.name]
        found.sort(key=lambda s: s.began or 0.0, reverse=True)
        others = {s.variant: variant_text(s) for s in found if s.variant != study.variant}
        return list(others.values())

    def curves(
        self, study: Study, keys: Sequence[str] | None = None
    ) -> dict[str, dict[str, Points]]:
        """For a cell's id its points by metric, [[step, value], ...]: see `dashboards.curves`.
        `keys`: by default the loss and the sweep's metric."""
        client = self._runs.client
        return self._curves.of(client, self._runs.store, study, keys)

    def matches(self, cell: Cell) -> Matches:
        """What the detections of a cell matched. Raises ValueError where that is not on record."""
        with tempfile.TemporaryDirectory(prefix="look-") as scratch:
            try:
                file = self._runs.client.download_artifacts(cell.run_id, MATCHES, scratch)
            except Exception as error:  # of MLflow, of its file store, of the network
                raise ValueError(
                    f"{MATCHES} of {cell.label or cell.id} cannot be read: {one_line(error)}"
                ) from None
            return read_matches(Path(file))

    def _refresh(self) -> None:
        if time.monotonic() - self._asked > FRESH_S:
            self._runs.refresh()
            self._asked = time.monotonic()


def read_studies(root: Path | None = None) -> list[Listed]:
    """All sweeps of the store that MLFLOW_TRACKING_URI names, else the one in `root`/mlruns
    (default: of the working folder). Raises LedgerError."""
    return Reader(root).studies()


def read_study(name: str, variant: str | None = None, root: Path | None = None) -> Study:
    """One sweep, by its name or its YAML file: see `Reader.study`. Raises LedgerError."""
    return Reader(root).study(sweep_name(name), variant)


def read_curves(
    study: Study, keys: Sequence[str] | None = None, root: Path | None = None
) -> dict[str, dict[str, Points]]:
    """The curves of a study's cells: see `Reader.curves`. Raises LedgerError."""
    return Reader(root).curves(study, keys)


# ---------------------------------------------------------------- one sweep


def _listed(runs: Runs, sweep: SweepRun) -> Listed:
    plan = runs.plan(sweep)
    cells = _cells(runs, sweep, plan)
    counts = Counter(cell.outcome for cell in cells)
    return Listed(
        sweep.name,
        sweep.variant,
        sweep.arguments,
        sweep.state,
        sweep.run_id,
        sweep.experiment_id,
        plan.question if plan else "",
        len(cells),
        sum(cell.settled for cell in cells),
        {name: counts[name] for name in OUTCOMES if counts[name]},
        math.fsum(cell.metrics.get("gpu_hours", 0.0) for cell in cells),
        sweep.began,
        _updated(runs, sweep, cells),
        _links(runs, sweep),
        _remark(sweep, plan),
    )


def _study(runs: Runs, sweep: SweepRun) -> Study:
    plan = runs.plan(sweep)
    remark = _remark(sweep, plan)
    if plan is None:
        plan = _guessed([a for a in runs.attempts_of(sweep.run_id) if a.role != "tune"])
    planned = [*plan.cells, *_begun(runs, sweep, plan)] if not plan.tunes else []
    cells = {p: _cell(runs, sweep, p) for p in planned}
    arms = _arms(plan, cells)
    return Study(
        sweep.name,
        _axes(plan) if not plan.tunes else (),
        arms,
        plan.target,
        next((a.key for a in arms if tuple(a.levels.values()) == plan.baseline), None),
        plan.question,
        sweep.state,
        sweep.run_id,
        sweep.experiment_id,
        sweep.variant,
        sweep.arguments,
        sweep.began,
        _updated(runs, sweep, cells.values()),
        plan.excluded,
        plan.aliases,
        (*((remark,) if remark else ()), *plan.cautions),
        plan.reference,
        tags=sweep.tags,
        links=_links(runs, sweep),
        looks=plan.looks,
        decisions=_decisions(plan, arms),
    )


def _decisions(plan: Plan, arms: Iterable[Arm]) -> tuple[Decided, ...]:
    keys = {arm.label: arm.key for arm in arms}
    return tuple(replace(d, arm=keys[d.arm]) for d in plan.decisions if d.arm in keys)


def _remark(sweep: SweepRun, plan: Plan | None) -> str:
    if plan is None:
        return (
            f"the plan of this start is not readable from here (plan.json of the run "
            f"{sweep.run_id}): only cells that were begun are known, and no baseline"
        )
    if plan.tunes:
        return "the cells that choose values are run first; those of the table follow"
    return ""


def _cells(runs: Runs, sweep: SweepRun, plan: Plan | None) -> list[Cell]:
    if plan is None:
        plan = _guessed([a for a in runs.attempts_of(sweep.run_id) if a.role != "tune"])
    return [_cell(runs, sweep, p) for p in (*plan.cells, *_begun(runs, sweep, plan))]


def _cell(runs: Runs, sweep: SweepRun, planned: Planned) -> Cell:
    """As the plan names it, and as it stands."""
    known = runs.cell(planned.id, sweep.state) if planned.id else None
    if known is None:
        return Cell(planned.seed, id=planned.id, label=planned.label, gpus=planned.gpus)
    if (known.seed, known.label) == (planned.seed, planned.label):
        return known
    return replace(known, seed=planned.seed, label=planned.label)


def _begun(runs: Runs, sweep: SweepRun, plan: Plan) -> list[Planned]:
    """Further seeds that this start has come to: until it ends its plan does not have them."""
    have = {p.id for p in plan.cells}
    ours = {a.cell.id for a in runs.attempts_of(sweep.run_id)} if plan.further else set()
    return [p for p in plan.further if p.id in ours and p.id not in have]


def _guessed(attempts: Sequence[Attempt]) -> Plan:
    """What the attempts of a sweep without a plan allow to say: axes in the order of their labels,
    levels in the order in which they were begun."""
    first = {a.cell.id: a for a in sorted(attempts, key=lambda a: -a.start_ms)}
    begun = sorted(first.values(), key=lambda a: a.start_ms)
    label = begun[0].cell.label if begun else ""
    names = sorted({n for a in begun for n in a.axes}, key=lambda n: (label.find(f"{n}="), n))
    cells = tuple(
        Planned(a.cell.id, a.cell.label, a.cell.seed, tuple(a.axes.get(n, ABSENT) for n in names))
        for a in begun
    )
    axes = ordered(names, [c.levels for c in cells]) if cells else {}
    return Plan(axes, cells, target=Target())


def _arms(plan: Plan, cells: Mapping[Planned, Cell]) -> tuple[Arm, ...]:
    by_levels: dict[Levels, list[Planned]] = {}
    for planned in cells:
        by_levels.setdefault(planned.levels, []).append(planned)
    return tuple(
        Arm(
            f"a{number}",
            arm_label(members[0].label, members[0].seed),
            dict(zip(plan.axes, levels, strict=True)),
            tuple(cells[p] for p in sorted(members, key=lambda p: p.seed)),
            plan.differences.get(levels, {}),
            plan.references.get(levels),
            plan.protocols.get(levels, {}),
        )
        for number, (levels, members) in enumerate(by_levels.items())
    )


def _axes(plan: Plan) -> tuple[Axis, ...]:
    base = plan.baseline or (None,) * len(plan.axes)
    return tuple(
        Axis(name, levels, level)
        for (name, levels), level in zip(plan.axes.items(), base, strict=True)
    )


def _links(runs: Runs, sweep: SweepRun) -> dict[str, str]:
    """`mlflow`: the address of the sweep's run; without a server `command`: what shows it."""
    page = runs.store.page(sweep.experiment_id, sweep.run_id)
    return {"mlflow": page} if page else {"command": runs.store.browse(sweep.experiment_id)}


def _updated(runs: Runs, sweep: SweepRun, cells: Iterable[Cell]) -> float | None:
    times = [sweep.began, sweep.ended, *(runs.heard(cell) for cell in cells)]
    return max((t for t in times if t), default=None)
