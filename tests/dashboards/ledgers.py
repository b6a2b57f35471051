"""Sweeps that are written into a real store, as the orchestrator does it, without training."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from dashboards.store import find_store
from detcore.result import Point
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.tracking.ledger import Ledger, open_ledger
from orchestrator.tracking.runs import CellInfo
from orchestrator.tracking.store import connect


def empty_store(folder: Path, root: Path) -> Path:
    """A store in `root`; to make its tables takes seconds, so they are made in `folder`, once."""
    made = find_store(folder).embedded
    assert made is not None
    if not made.exists():
        connect(find_store(folder))
    (root / "mlruns").mkdir(parents=True)
    copy_database(made, root / "mlruns" / made.name)
    return root


def copy_database(file: Path, to: Path) -> None:
    """With what lies in its write-ahead log."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def plan_of(root: Path, **changes: Any) -> Plan:
    """The plan of a sweep of three norms and two batches, two seeds, with `changes`."""
    sweep = {
        "version": 1,
        "name": "small",
        "question": "Which norm?",
        "axes": {
            "norm": {"path": "model.neck.norm_act", "values": ["gn", "bn", "evonorm_s0"]},
            "batch": {"path": "train.batch_per_gpu", "values": [4, 1]},
        },
        "baseline": {"norm": "bn", "batch": 4},
        "metric": {"name": "AP50", "min_effect": 0.01},
        "seeds": [0, 1],
        "resources": {"workers": 2, "gpus_per_worker": 0.5},
        **changes,
    }
    file = root / f"{sweep['name']}.yaml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return make_plan(file, root=root, need_data=False)


class Start:
    """A start of the sweep of `plan`."""

    def __init__(self, root: Path, plan: Plan, arguments: str = "", **document: Any) -> None:
        self.plan, self.root = plan, root
        self.ledger: Ledger = open_ledger(plan.sweep.name, root)
        self.run = self.ledger.start_sweep(
            "", {**plan.to_json(), **document}, "", plan.axes, plan.variant, arguments
        )

    def begin(self, number: int | CellInfo, attempt: int = 1, tags: Mapping[str, str] = {}) -> str:
        """An attempt at a cell of the plan; the handle of its run."""
        info = self.plan.info(self.plan.cells[number]) if isinstance(number, int) else number
        handle = self.ledger.start_attempt(info, self.run, attempt, self.root)
        self.ledger.tag(handle, tags)
        return handle

    def train(
        self,
        number: int | CellInfo,
        score: float | str,
        attempt: int = 1,
        curve: Sequence[Point] = (),
        **more: Any,
    ) -> str:
        """`score`: AP50 of a cell that converged, or another outcome."""
        handle = self.begin(number, attempt, more.pop("tags", {}))
        self.ledger.log_points(handle, curve)
        if isinstance(score, str):
            self.ledger.finish(handle, score, more.pop("reason", ""), more.pop("step", None))
        else:
            self.ledger.finish(
                handle, "converged", "", 100, {"mAP": score / 2, "AP50": score}, more
            )
        return handle

    def end(self, status: str = "FINISHED", **texts: str) -> None:
        assert self.ledger.finish_sweep(self.run, texts, status)
