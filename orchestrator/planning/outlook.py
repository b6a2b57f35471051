"""What a plan comes to before it starts: what is on record of it, what it will cost, where it may
fail."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.answers import to_json
from orchestrator.cluster.connect import Cluster, connected
from orchestrator.cluster.room import Shape
from orchestrator.planning.confirm import confirm
from orchestrator.planning.forecast import Cost, Forecast, forecast
from orchestrator.planning.headroom import Gpu, Tight, tight
from orchestrator.planning.history import History, read_history
from orchestrator.planning.machine import gpus_here
from orchestrator.planning.makespan import Wall, makespan
from orchestrator.planning.plan import Plan, Planned
from orchestrator.planning.plan_text import hours_text, plan_text, told_by
from orchestrator.planning.reconcile import Reconciled, reconcile
from orchestrator.sweep.budget import Budget, check_gang
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.reference import Reference
from orchestrator.tracking.attempts import open_records
from orchestrator.wording import count

Nodes = Mapping[str, Mapping[str, float]]
_ENOUGH = 1e6  # CPUs of a node of which only the GPUs are known


@dataclass(frozen=True)
class Outlook:
    plan: Plan
    cells: tuple[Planned, ...]  # that are still to be trained, see `ahead_of`
    budget: Budget
    reconciled: Reconciled
    forecast: Forecast
    wall: Wall
    tight: tuple[Tight, ...]
    spent: float  # GPU-hours of the sweep so far

    @property
    def asks(self) -> bool:
        """Whether a start asks first."""
        return self.budget.asks(self.forecast.gpu_hours, self.spent)

    def to_text(self) -> str:
        """The plan, with all that is said here."""
        return plan_text(self.plan, self)

    def to_json(self) -> dict[str, Any]:
        """What `--json` adds to the plan's own."""
        f = self.forecast
        knows = len(f.unknown) < len(f.costs) or not f.costs
        return {
            "reconcile": {**self.reconciled.counts(), "dropped": list(self.reconciled.dropped)},
            "forecast": {
                # of the cells whose cost is known; null when none is
                "gpu_hours": f.gpu_hours if knows else None,
                "cpu_core_hours": f.core_hours if knows else None,
                "wall_s": self.wall.seconds,
                "on": self.wall.where,
                "cells": len(f.costs),
                "unknown": len(f.unknown),
                "sources": f.sources,
            },
            "out_of_memory": [vars(arm) for arm in self.tight],
            "budget": {**vars(self.budget), "spent_gpu_hours": self.spent, "asks": self.asks},
        }

    def cell_json(self, id: str) -> dict[str, Any]:
        """What `--json` adds to a cell."""
        before, cost = self.reconciled.cells[id], self.forecast.costs.get(id)
        return {
            "ledger": {"state": before.state, "why": before.why},
            "forecast": _cost_json(cost) if cost else None,
        }


def look_ahead(plan: Plan, budget: Budget, cluster: Cluster | None = None) -> Outlook:
    """`plan` is reconciled with the ledger. Raises LedgerError when the store does not answer, and
    SweepError for a cell that may never start."""
    for cell in (planned.cell for planned in ahead_of(plan)):
        check_gang(budget, cell.label, cell.resources.gpus, plan.sweep.document)
    records = open_records(plan.folder.parents[1])
    history = read_history(records, plan.sweep.name, plan.variant)
    return outlook(plan, budget, history, cluster)


def dry_run(plan: Plan, budget: Budget, address: str | None, as_json: bool) -> str:
    """What `--dry-run` prints. A cluster is joined only to see how large it is; raises ClusterError
    when it does not answer, and what `look_ahead` raises."""
    if address or os.environ.get("RAY_ADDRESS"):
        with connected(address, 0) as cluster:
            ahead = look_ahead(plan, budget, cluster)
    else:
        ahead = look_ahead(plan, budget)
    if not as_json:
        return ahead.to_text()
    whole = plan.to_json()
    pairs = zip(whole["cells"], plan.ids, strict=True)
    whole["cells"] = [cell | ahead.cell_json(id) for cell, id in pairs]
    return to_json(whole | ahead.to_json())


def ask_first(plan: Plan, budget: Budget, yes: bool) -> float:
    """Before a start: ask on the terminal when it is forecast to cost more than the sweep declares.
    Returns the GPU-hours that the sweep has spent so far, 0 where nothing counts them. Raises
    SweepError for any answer but yes, where there is no terminal, and for a cell that may never
    start."""
    if not any(planned.cell.resources.gpus for planned in ahead_of(plan)):
        return 0.0
    ahead = look_ahead(plan, budget)
    if ahead.asks:
        confirm(
            f"{plan.sweep.name}: {hours_text(ahead.forecast)} are forecast{told_by(ahead)}, and "
            f"above {budget.confirm_gpu_hours:g} (budget.confirm_gpu_hours) a start asks",
            yes,
        )
    return ahead.spent


def ahead_of(plan: Plan) -> list[Planned]:
    """All cells that are still to be trained: those that choose values, those that can start, and
    those that wait for a choice."""
    first = plan.tuning.todo if plan.tuning else []
    return [*first, *plan.todo, *(planned for planned in plan.cells if planned.waits)]


def outlook(
    plan: Plan, budget: Budget, history: History, cluster: Cluster | None = None
) -> Outlook:
    """As `look_ahead`, from a history that has been read."""
    cells = ahead_of(plan)
    needs_gpus = any(planned.cell.resources.gpus for planned in cells)
    here = gpus_here() if needs_gpus and cluster is None else []
    costs = forecast(cells, history.pasts, lambda cell: _hours(plan.sweep.reference, cell))
    return Outlook(
        plan=plan,
        cells=tuple(cells),
        budget=budget,
        reconciled=reconcile(plan, history),
        forecast=costs,
        wall=_wall([p.cell for p in cells], costs, budget, cluster, here),
        tight=tuple(tight(cells, history.pasts, _kind(cluster, here))),
        spent=history.spent(plan.sweep.name),
    )


def _hours(reference: Reference, cell: Cell) -> float | None:
    row = reference.of(list(cell.axes.values()))
    hours = row.rest.get("train_hours") if row else None
    return float(hours) if isinstance(hours, int | float) and hours > 0 else None


def _kind(cluster: Cluster | None, here: Sequence[Gpu]) -> Gpu | None:
    """The one kind of GPU there is; None where there are several, or it is not known."""
    if cluster is None:
        return here[0] if len(set(here)) == 1 else None
    prefix = "accelerator_type:"  # how Ray names it among a node's resources
    kinds = {what for node in cluster.nodes for what in node if what.startswith(prefix)}
    return Gpu(kinds.pop().removeprefix(prefix)) if len(kinds) == 1 else None


def _wall(
    cells: Sequence[Cell],
    costs: Forecast,
    budget: Budget,
    cluster: Cluster | None,
    here: Sequence[Gpu],
) -> Wall:
    known = [c.seconds for c in costs.costs.values() if c.seconds is not None]
    if not known:
        return Wall(None, "")
    shapes = [
        Shape(r.workers, r.cpus_per_worker, r.gpus_per_worker) for r in (c.resources for c in cells)
    ]
    nodes, where = _nodes(cells, budget, cluster, here)
    jobs = [
        (cost.seconds, shape)
        for cost, shape in zip(costs.costs.values(), shapes, strict=True)
        if cost.seconds is not None
    ]
    seconds = makespan(
        jobs, nodes, budget.max_gpus or float("inf"), budget.max_concurrent or float("inf")
    )
    if budget.max_concurrent:
        where += f", at most {count(budget.max_concurrent, 'cell')} at once"
    return Wall(seconds, where)


def _nodes(
    cells: Sequence[Cell], budget: Budget, cluster: Cluster | None, here: Sequence[Gpu]
) -> tuple[Nodes, str]:
    """The machines that a forecast reckons with, and what they are called."""
    if cluster is not None:
        where = cluster.where()
        if budget.max_gpus:
            where += f", at most {budget.max_gpus} GPUs at once"
        return {str(i): node for i, node in enumerate(cluster.nodes)}, where
    # a local Ray has at least the CPUs of the largest gang, if need be in name only
    cpus = max(os.cpu_count() or 1, *(cell.resources.cpus for cell in cells))
    largest = max(cell.resources.gpus for cell in cells)
    if not largest:
        return {"here": {"CPU": cpus}}, f"this machine ({count(os.cpu_count() or 1, 'CPU')})"
    if budget.max_gpus:
        gpus, where = float(budget.max_gpus), f"{count(budget.max_gpus, 'GPU')} (budget.max_gpus)"
    elif len(here) >= largest:
        gpus, where = float(len(here)), f"this machine ({len(here)} × {here[0].name})"
    else:
        gpus = largest
        where = f"{count(int(largest), 'GPU')}, as many as the largest cell takes (--max-gpus N)"
    return {"here": {"CPU": _ENOUGH, "GPU": gpus}}, where


def _cost_json(cost: Cost) -> dict[str, Any]:
    return {
        "seconds": cost.seconds,
        "gpu_hours": None if cost.seconds is None else cost.gpu_hours,
        "cpu_core_hours": None if cost.seconds is None else cost.core_hours,
        "source": cost.source or None,
        "runs": cost.runs,
        "peak_mem_gb": cost.peak_gb,
    }
