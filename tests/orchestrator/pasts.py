"""A sweep in a real store, with attempts that were made at its cells before."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.outlook import Outlook, look_ahead
from orchestrator.planning.plan import Plan, Planned
from orchestrator.sweep.budget import Budget
from orchestrator.tracking.ledger import Ledger, open_ledger

STEPS = 1000
AXES = {
    "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
    "lr": {"path": "optim.lr", "values": [0.01, 0.02]},
}
NORM = {"axes": {"norm": AXES["norm"]}}
T4 = {"gpu.names": "2 x Tesla T4"}

_NUMBERS = itertools.count(1)


class Pasts:
    """A sweep that shares no cell and no workload with another test's in the same store."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.side = 64 + next(_NUMBERS)
        self.ledger = open_ledger(name, folder)

    def plan(self, base: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
        """Reconciled with the store. 2 workers with 1 GPU each, 1,000 steps, 2 images a GPU."""
        config: dict[str, Any] = {
            "data": {"input": {"eval_short_side": self.side}},
            "train": {"steps": STEPS, "batch_per_gpu": 2},
            **(base or {}),
        }
        (self.folder / "base.yaml").write_text(yaml.safe_dump(config))
        sweep = {
            "version": 1,
            "name": self.name,
            "base": "base.yaml",
            "axes": AXES,
            "seeds": [0, 1],
            "resources": {"workers": 2, "gpus_per_worker": 1},
            **changes,
        }
        file = self.folder / "sweep.yaml"
        file.write_text(yaml.safe_dump(sweep, sort_keys=False))
        plan = make_plan(file, root=self.folder)
        return plan.reconciled(self.ledger.settled(plan.whole().ids))

    def start(self, plan: Plan) -> str:
        return self.ledger.start_sweep("", {}, "", plan.axes, plan.variant)

    def ran(
        self,
        plan: Plan,
        planned: Planned,
        outcome: str = "converged",
        *,
        wall: float = 1200.0,
        train: float = 1000.0,
        step: int | None = None,
        start: str = "",
        reason: str = "",
        tags: Mapping[str, str] | None = None,
        **values: float,
    ) -> None:
        """An attempt that ended `outcome` now, `wall` seconds after it began, `train` of them in
        training; it trained all its steps, or `step`."""
        ledger: Ledger = self.ledger
        steps = planned.cell.config.train.steps if step is None else step
        began = time.time() - wall
        number = ledger.next_attempt(planned.id)
        folder = plan.folder / planned.id
        handle = ledger.start_attempt(plan.info(planned), start, number, folder, began)
        if tags:
            ledger.tag(handle, tags)
        values["gpu_hours"] = planned.cell.resources.gpus * wall / 3600
        if train:
            values["train_hours"] = train / 3600
        ledger.finish(handle, outcome, reason, steps if train else None, {}, values)

    def ahead(self, plan: Plan, budget: Budget = Budget()) -> Outlook:  # noqa: B008 (frozen)
        plan = plan.reconciled(self.ledger.settled(plan.whole().ids))
        return look_ahead(plan, budget)


def of(plan: Plan, label: str) -> Planned:
    return next(p for p in plan.cells if p.cell.label == label)
