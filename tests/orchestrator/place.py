"""A folder with a small sweep and a real store, and files as gangs leave them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from detcore.result import METRICS
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan, Planned
from orchestrator.running.recorder import Recorder
from orchestrator.tracking.ledger import Ledger, open_ledger

SWEEP = {
    "version": 1,
    "name": "small",
    "axes": {"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]}},
    "seeds": [0, 1],
    "resources": {"workers": 2, "gpus_per_worker": 3},
}
COCO = {name: (i + 1) / 100 for i, name in enumerate(METRICS)}
RAY = {"ray.job_id": "01", "ray.actor_ids": "a,b", "ray.nodes": "127.0.0.1"}


class Place:
    """A folder with a sweep, its store, and what its gangs would do there."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.file = folder / "sweep.yaml"
        self.file.write_text(yaml.safe_dump({**SWEEP, "name": name}, sort_keys=False))
        self.name = name
        self.screen = Console(file=(folder / "screen.txt").open("w"), width=300)

    def said(self) -> str:
        self.screen.file.flush()
        return (self.folder / "screen.txt").read_text()

    def start(self, **more: Any) -> tuple[Ledger, Plan]:
        """As at the start of an orchestrator."""
        ledger = open_ledger(self.name, self.folder)
        ledger.say = lambda text: self.screen.print(text, markup=False)
        plan = make_plan(self.file, root=self.folder, **more)
        return ledger, plan.reconciled(ledger.settled(plan.whole().ids))

    def recorder(self, ledger: Ledger, plan: Plan, **more: Any) -> Recorder:
        return Recorder(ledger, plan, self.screen, **more)

    def train(self, plan: Plan, planned: Planned, outcome: str = "converged") -> dict[str, Any]:
        """The files of an attempt that ended in `outcome`, an hour after it began."""
        folder = plan.folder / planned.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("a: 1\n")
        hour_ago = time.time() - 3600
        os.utime(folder / "config.yaml", (hour_ago, hour_ago))
        metrics = COCO if outcome == "converged" else {}
        result = {
            "outcome": outcome,
            "reason": "because",
            "step": 7,
            "metrics": metrics,
            "values": {"train_hours": 0.5},
        }
        point = {"step": 3, "time": 1.7e9, "values": {"loss/total": 0.5}}
        (folder / "metrics.jsonl").write_text(json.dumps(point) + "\n")
        (folder / "result.json").write_text(json.dumps(result))
        return result

    def runs(self, ledger: Ledger, kind: str = "cell") -> list[Any]:
        return list(
            ledger._live.search_runs(
                [ledger.experiment_id],
                f"tags.`run.kind` = '{kind}'",
                order_by=["attributes.start_time ASC"],
            )
        )

    def text(self, ledger: Ledger, run: Any, name: str) -> str:
        return Path(ledger._live.download_artifacts(run.info.run_id, name)).read_text()
