"""How a sweep stands by what MLflow and the cells' folders say: read, and nothing else."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboards.outcomes import SETTLED
from orchestrator.planning.plan import Plan, Planned, with_further_seeds
from orchestrator.running.control_file import state_of
from orchestrator.running.eta import Estimate, Work, time_left
from orchestrator.tracking.attempts import Attempt, Records, deciding
from orchestrator.tracking.provenance import owner_of
from orchestrator.tracking.runs import read_settled
from orchestrator.tracking.table import RUNNING, WAITING, Row


@dataclass(frozen=True)
class Orchestrator:
    """The process at a sweep. `state`: `alive`, `elsewhere` (on another host: whether it lives
    cannot be told from here), `gone` (it died without a word) or `none`. `ours` says whether it was
    started with the same profile, data and settings."""

    state: str
    host: str = ""
    pid: str = ""
    arguments: str = ""
    ours: bool = True
    control: str = ""  # how ctl has left it: `paused`, `draining`, ...; empty for as usual


@dataclass(frozen=True)
class Status:
    """One look at a sweep. `attempts` has, of each cell that was started, the one that says how it
    stands; `disk` the cells whose result is in their folder only."""

    plan: Plan
    rows: tuple[Row, ...]
    attempts: dict[str, Attempt]
    disk: frozenset[str]
    orchestrator: Orchestrator
    left: Estimate
    time: float  # of the look, in seconds since the epoch
    tuning: Status | None = None  # of the tuning cells, for a sweep that tunes

    @property
    def all_settled(self) -> bool:
        return all(row.outcome in SETTLED for row in self.rows)

    @property
    def running(self) -> list[tuple[Planned, Attempt]]:
        running = {row.id for row in self.rows if row.outcome == RUNNING}
        return [(p, self.attempts[p.id]) for p in self.plan.cells if p.id in running]

    def to_json(self) -> dict[str, Any]:
        return {
            "sweep": self.plan.sweep.name,
            "time": self.time,
            "counts": dict(Counter(row.outcome for row in self.rows)),
            "settled": sum(row.outcome in SETTLED for row in self.rows),
            "total": len(self.rows),
            "orchestrator": vars(self.orchestrator),
            "seconds_left": self.left.seconds,
            "seconds_left_basis": self.left.basis,
            "cells": [
                self._cell(p, row) for p, row in zip(self.plan.cells, self.rows, strict=True)
            ],
            "notes": list(self.plan.notes),
            **({"tuning": self.tuning.to_json()} if self.tuning else {}),
        }

    def _cell(self, planned: Planned, row: Row) -> dict[str, Any]:
        attempt = self.attempts.get(planned.id)
        live = attempt if attempt and row.outcome == RUNNING else None
        return {
            "id": None if planned.waits else row.id,
            "label": row.label,
            "axes": row.axes,
            "seed": row.seed,
            "outcome": row.outcome,
            "reason": row.reason,
            "step": steps_done(live) if live else row.step,
            "steps": planned.cell.config.train.steps,
            "attempt": attempt.number if attempt else 0,
            "silent_s": self.time - live.sign_of_life if live else None,
            "began": attempt.began if attempt else None,
            "run_id": row.run_id,
            "on_disk_only": row.id in self.disk,
            "metrics": {k: v for k, v in row.metrics.items() if math.isfinite(v)},
        }


def look(plan: Plan, records: Records) -> Status:
    """How `plan` stands by what is on record. Raises LedgerError when the store does not answer."""
    now = time.time()
    tuning = look(plan.tuning, records) if plan.tuning else None
    if tuning:
        plan = plan.tuned(tuning.plan.settled)
    of_cell: dict[str, list[Attempt]] = {}
    wanted = {p.id for p in (*plan.cells, *plan.more)}
    for attempt in records.attempts():
        if attempt.cell_id in wanted:
            of_cell.setdefault(attempt.cell_id, []).append(attempt)
    newest = {id: deciding(attempts) for id, attempts in of_cell.items()}
    plan = plan.reconciled(
        {id: read_settled(a.run) for id, a in newest.items() if a.outcome in SETTLED}
    )
    plan = with_further_seeds(plan)
    on_disk = _on_disk(plan, newest)
    rows = tuple(_row(p, plan, newest.get(p.id), on_disk.get(p.id)) for p in plan.cells)
    orchestrator = _orchestrator(records.sweeps(plan.sweep.name), plan.variant)
    if orchestrator.state in ("alive", "elsewhere"):
        at_it = (orchestrator.host, orchestrator.pid)
        control = state_of(plan.folder.parent, plan.sweep.name, at_it)
        orchestrator = replace(orchestrator, control=control)
    left = _time_left(plan, rows, newest, now)
    if orchestrator.state in ("gone", "none") and not any(r.outcome == RUNNING for r in rows):
        left = Estimate(None, "no orchestrator is at it")
    return Status(plan, rows, newest, frozenset(on_disk), orchestrator, left, now, tuning)


def _on_disk(plan: Plan, newest: dict[str, Attempt]) -> dict[str, dict[str, Any]]:
    """Results that MLflow does not have; while a cell runs, what its folder says is not final."""
    from orchestrator.running.recovery import unrecorded
    from orchestrator.tracking.ledger import open_ledger

    resting = [p for p in plan.cells if p.id not in newest or newest[p.id].outcome != RUNNING]
    if not any((plan.folder / p.id / "result.json").exists() for p in resting):
        return {}
    ledger = open_ledger(plan.sweep.name, plan.folder.parents[1], create=False)
    resting_ids = {p.id for p in resting}
    return {p.id: result for p, result in unrecorded(ledger, plan) if p.id in resting_ids}


def _row(
    planned: Planned, plan: Plan, attempt: Attempt | None, on_disk: dict[str, Any] | None
) -> Row:
    cell, settled = planned.cell, plan.settled.get(planned.id)
    outcome, reason, step = WAITING, "", None
    metrics: dict[str, float] = {}
    values: dict[str, float] = {}
    if settled:
        outcome, reason, step = settled.outcome, settled.reason, settled.step
        metrics, values = settled.metrics, settled.values
    elif on_disk:
        outcome, reason, step = on_disk["outcome"], on_disk["reason"], on_disk["step"]
        metrics, values = on_disk["metrics"], on_disk["values"]
    elif attempt:
        outcome, reason, step = attempt.outcome, attempt.reason, attempt.step
    return Row(
        axes=cell.axes,
        seed=cell.seed,
        outcome=outcome,
        metrics=metrics,
        values=values,
        step=step,
        reason=reason,
        id=planned.id,
        label=cell.label,
        run_id=attempt.run_id if attempt else "",
        cpus=cell.resources.workers * cell.resources.cpus_per_worker,
    )


def _orchestrator(runs: Sequence[Any], variant: str) -> Orchestrator:
    """The process that the sweep's open runs name: one that lives before one that does not, one
    with our settings before one with others."""
    found = []
    for run in runs:
        tags = run.data.tags
        ours = tags.get("sweep.variant") == variant
        owner = owner_of(tags).replace("us", "alive")
        if run.info.status == "RUNNING" and (ours or owner != "gone"):
            host, pid = tags.get("orchestrator.host", "?"), tags.get("orchestrator.pid", "?")
            found.append(Orchestrator(owner, host, pid, tags.get("sweep.arguments", ""), ours))
    order = ("alive", "elsewhere", "gone")
    return min(
        found, key=lambda o: (order.index(o.state), not o.ours), default=Orchestrator("none")
    )


def _time_left(plan: Plan, rows: Sequence[Row], newest: dict[str, Attempt], now: float) -> Estimate:
    groups: dict[str, list[Work]] = {"converged": [], RUNNING: [], WAITING: []}
    for planned, row in zip(plan.cells, rows, strict=True):
        attempt = newest.get(planned.id)
        seconds, done = 0.0, None
        if attempt and row.outcome == RUNNING:
            step = steps_done(attempt)
            done = None if step is None else step / planned.cell.config.train.steps
            seconds = now - attempt.began
        elif attempt and attempt.ended and "cell.recorded" not in attempt.tags:
            # a cell that went on from a checkpoint has trained longer than its last attempt
            trained = row.values.get("train_hours", 0.0) * 3600
            seconds = max(attempt.ended - attempt.began, trained)
        if row.outcome == "converged" and not seconds:
            continue  # recorded from files: when it ended is not known
        if row.outcome in groups:
            groups[row.outcome].append(_work(planned, seconds, done))
    return time_left(groups["converged"], groups[RUNNING], groups[WAITING])


def _work(planned: Planned, seconds: float, done: float | None) -> Work:
    cell, r, train = planned.cell, planned.cell.resources, planned.cell.config.train
    size = (r.workers, r.cpus_per_worker, r.gpus_per_worker)
    shape = (*size, train.steps, train.batch_per_gpu, train.accumulate)
    slots = r.workers * (r.gpus_per_worker or r.cpus_per_worker or 1)
    return Work(cell.label, cell.arm_label, shape, slots, seconds, done)


def steps_done(attempt: Attempt) -> int | None:
    """The steps that a running attempt has behind it; None before its first point."""
    return attempt.last_point.step + 1 if attempt.last_point else None
