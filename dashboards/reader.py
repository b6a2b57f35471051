"""What a store holds of sweeps and cells, kept in memory: runs that have ended do not change, so
after the first look only what is new is asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.plans import Plan, read_decisions, read_plan
from dashboards.runs import RUNNING, Attempt, deciding, read_attempt, unheard
from dashboards.store import (
    Store,
    artifact_text,
    experiments,
    find_store,
    read_client,
    search,
)
from dashboards.study import Cell

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATES = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}
"""What MLflow's status of a sweep's run means; any other: it is running."""

MARGIN_S = 600.0
"""A run may be told so long after it ended, by the clock of the orchestrator: clocks differ, and
results wait for a server that is away (from us as well: then the last answer was before that)."""

REST = 20.0
"""What was deleted is asked so much less often than it takes to answer: MLflow can only list all
of it."""

PLAN_S = 30.0  # a sweep that starts rewrites its plan a moment after its tags
WHOLE_S = 6 * 3600.0  # everything is read again: for what no question for news finds
_CHUNK = 100  # ids in one question
_THREADS = 8


@dataclass(frozen=True)
class SweepRun:
    """The run of a sweep itself. Times are in seconds since the epoch."""

    run_id: str
    experiment_id: str
    name: str
    variant: str
    arguments: str
    state: str
    began: float | None
    ended: float | None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.state == "running"

    @property
    def start(self) -> tuple[object, ...]:
        """Differs between two starts of a sweep, which share the run, and between its beginning and
        its end."""
        names = ("host", "pid", "started")
        return (*(self.tags.get(f"orchestrator.{n}", "") for n in names), self.state, self.ended)


@dataclass(frozen=True)
class _Known:
    """The plan of a start, which is taken for granted `until` then (on the monotonic clock)."""

    start: tuple[object, ...]
    until: float
    plan: Plan | None


class Runs:
    """The runs of a store. Not for two threads at once: `dashboards.results.Reader` sees to that.
    Raises LedgerError when there is no store, or it does not answer."""

    def __init__(self, root: Path | None = None) -> None:
        self.store: Store = find_store(root)
        self._client: MlflowClient | None = None
        self._forget()

    def _forget(self) -> None:
        self.sweeps: dict[str, SweepRun] = {}
        self._attempts: dict[str, Attempt] = {}
        self._cells: dict[str, list[Attempt]] | None = None
        self._plans: dict[str, _Known] = {}
        self._deleted: set[str] = set()
        self._within: set[str] = set()
        self._answered = 0.0  # seconds since the epoch
        self._whole = self._checked = self._check_took = 0.0

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            self._client = read_client(self.store)
        return self._client

    # ------------------------------------------------------------ asking the store

    def refresh(self) -> None:
        """Ask for what is new; the first time for everything."""
        within = experiments(self.client, self.store)
        now, asked = time.monotonic(), time.time()
        if not self._whole or now - self._whole > WHOLE_S:
            self._forget()
            for kind in ("sweep", "cell"):
                self._take(search(self.client, self.store, f"tags.`run.kind` = '{kind}'", within))
            self._whole = now
        else:
            self._news(within)
        self._check_deleted(within)
        if gone := self._within - set(within):
            self._drop(gone)
        self._within, self._answered = set(within), asked

    def _news(self, within: list[str]) -> None:
        open_before = {id for id, a in self._attempts.items() if a.is_open}
        open_before |= {id for id, s in self.sweeps.items() if s.is_open}
        new = [e for e in within if e not in self._within]
        seen: set[str] = set()
        since = int((self._answered - MARGIN_S) * 1000)
        for query, where in (
            ("attributes.status = 'RUNNING'", within),
            (f"attributes.end_time > {since}", within),
            ("tags.`run.kind` IS NOT NULL", new),  # an experiment that was restored
        ):
            seen |= self._take(search(self.client, self.store, query, where))
        self._ask(open_before - seen, within)

    def _check_deleted(self, within: list[str]) -> None:
        """What a user has deleted or restored in MLflow. Rarely asked where many are."""
        began = time.monotonic()
        if began - self._checked < REST * self._check_took:
            return
        query = "tags.`run.kind` IS NOT NULL"
        found = search(self.client, self.store, query, within, deleted=True)
        deleted = {str(run.info.run_id) for run in found}
        self._ask(self._deleted - deleted, within)
        for id in deleted:
            self._attempts.pop(id, None)
            self.sweeps.pop(id, None)
        if deleted != self._deleted:
            self._cells = None
        self._deleted = deleted
        self._checked = time.monotonic()
        self._check_took = self._checked - began

    def _ask(self, ids: Iterable[str], within: list[str]) -> None:
        """Look again at runs; what is not found any more is dropped."""
        missing = sorted(ids)
        for i in range(0, len(missing), _CHUNK):
            part = missing[i : i + _CHUNK]
            query = "attributes.run_id IN ({})".format(", ".join(f"'{id}'" for id in part))
            for id in set(part) - self._take(search(self.client, self.store, query, within)):
                self._cells = None
                self._attempts.pop(id, None)
                self.sweeps.pop(id, None)

    def _take(self, runs: Iterable[Run]) -> set[str]:
        """Keep the runs of sweeps and cells among `runs`; the ids of all."""
        seen = set()
        for run in runs:
            id, kind = str(run.info.run_id), run.data.tags.get("run.kind")
            seen.add(id)
            if kind == "cell":
                self._attempts[id] = read_attempt(run, self.store)
                self._cells = None
            elif kind == "sweep":
                self.sweeps[id] = _sweep_run(run)
        return seen

    def _drop(self, experiment_ids: set[str]) -> None:
        """Experiments that a user deleted."""
        self._cells = None
        kept = self._attempts.items()
        self._attempts = {i: a for i, a in kept if a.cell.experiment_id not in experiment_ids}
        sweeps = self.sweeps.items()
        self.sweeps = {i: s for i, s in sweeps if s.experiment_id not in experiment_ids}

    # ------------------------------------------------------------ what is known

    def cell(self, id: str, state: str = "") -> Cell | None:
        """How a cell stands, by its attempts in all sweeps; None for one that nobody began.
        `state`: of the sweep that asks, which counts where an attempt's own is not known."""
        attempts = self._of_cells().get(id)
        if not attempts:
            return None
        return deciding(self._judged(a, state) for a in attempts)

    def attempts_of(self, sweep_run: str) -> Iterator[Attempt]:
        """Those that the starts of a sweep made."""
        return (a for a in self._attempts.values() if a.sweep_run == sweep_run)

    def heard(self, cell: Cell) -> float | None:
        """When a cell was last heard of."""
        if cell.ended or cell.run_id not in self._attempts:
            return cell.ended
        return self._attempts[cell.run_id].heard or cell.began

    def plan(self, sweep: SweepRun) -> Plan | None:
        """None when it cannot be read from here."""
        if not self._has_plan(sweep):
            self.read_plans([sweep])
        return self._plans[sweep.run_id].plan

    def read_plans(self, sweeps: Iterable[SweepRun]) -> None:
        """Those that are not known yet, several at once: a server takes its time for each."""
        missing = [sweep for sweep in sweeps if not self._has_plan(sweep)]
        client = self.client
        with ThreadPoolExecutor(_THREADS) as pool:
            texts = pool.map(lambda s: artifact_text(client, s.run_id, "plan.json"), missing)
            for sweep, text in zip(missing, texts, strict=True):
                plan = read_plan(text)
                if plan is not None and plan.looks and not sweep.is_open:
                    told = artifact_text(client, sweep.run_id, "decisions.json")
                    plan = replace(plan, decisions=read_decisions(told))
                before = self._plans.get(sweep.run_id)
                if plan is None and before and before.start == sweep.start:
                    plan = before.plan  # the artifact store is away for a while
                is_final = text is not None and plan is not None and not sweep.is_open
                until = math.inf if is_final else time.monotonic() + PLAN_S
                self._plans[sweep.run_id] = _Known(sweep.start, until, plan)

    def _has_plan(self, sweep: SweepRun) -> bool:
        known = self._plans.get(sweep.run_id)
        return known is not None and known.start == sweep.start and known.until > time.monotonic()

    def _of_cells(self) -> dict[str, list[Attempt]]:
        if self._cells is None:
            self._cells = {}
            for attempt in self._attempts.values():
                if attempt.cell.id:
                    self._cells.setdefault(attempt.cell.id, []).append(attempt)
        return self._cells

    def _judged(self, attempt: Attempt, state: str) -> Attempt:
        """An attempt whose sweep has ended does not run any more."""
        if attempt.cell.outcome != RUNNING:
            return attempt
        owner = self.sweeps.get(attempt.sweep_run)
        return unheard(attempt) if (owner.state if owner else state) in STATES.values() else attempt


def _sweep_run(run: Run) -> SweepRun:
    tags, info = run.data.tags, run.info
    state = STATES.get(info.status, "running")
    end = info.end_time if state != "running" else None
    return SweepRun(
        str(info.run_id),
        str(info.experiment_id),
        tags.get("sweep.name", "") or tags.get("mlflow.runName", "") or str(info.run_id),
        tags.get("sweep.variant", "default"),
        tags.get("sweep.arguments", ""),
        state,
        info.start_time / 1000 if info.start_time else None,
        end / 1000 if end else None,
        {k: v for k, v in tags.items() if not k.startswith("mlflow.")},
    )
