"""What the orchestrator itself takes while cells run: its processor time, as a share of one core.

    python -m tests.benchmarks steady [--cells 10] [--seconds 60]

Real Ray, gangs of one process that report a point of their curves every second and sleep. The
share is that of the driver process alone, from when all cells run to the first end; a real MLflow
store in a file takes the points, as it does in a sweep.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from orchestrator.cluster.connect import DRIVER_ENV, WORKER_ENV
from orchestrator.cluster.gangs import Gangs
from orchestrator.planning.make_plan import make_plan
from orchestrator.running.campaign import Campaign
from orchestrator.running.recorder import Recorder
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from orchestrator.tracking.ledger import open_ledger
from tests.benchmarks.side_by_side import write

ENTRY = "tests.benchmarks.steady:telling_cell"
BASE = Path(__file__).parents[2] / "sweeps/bases/shapes_tiny.yaml"


def telling_cell(
    job: dict[str, Any],
    rank: int,
    local_rank: int,
    meeting: str,
    *,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], bool],
) -> dict[str, Any]:
    for step in range(job["seconds"]):
        time.sleep(1)
        alive()
        values = {"loss/total": 1.0, "loss/cls": 0.5, "loss/box": 0.5, "grad_norm": 1.0, "lr": 0.1}
        report({"step": step, "time": time.time(), "values": values})
    return {"outcome": "converged", "reason": "", "step": 1, "metrics": {}, "values": {}}


class Timed(Recorder):
    """Notes the processor time when the last cell has started and when the first one ends."""

    span: tuple[float, float] | None = None
    begun = None

    def started(self, job: Any, ray_tags: dict[str, str]) -> None:
        super().started(job, ray_tags)
        self.begun = (time.process_time(), time.monotonic())

    def ended(self, job: Any, end: dict[str, Any]) -> None:
        assert "fault" not in end, end
        if self.span is None and self.begun:
            cpu, at = self.begun
            self.span = (time.process_time() - cpu, time.monotonic() - at)
        super().ended(job, end)


def measure(cells: int, seconds: int, folder: Path) -> tuple[float, float]:
    import ray

    base = {
        "base": str(BASE),
        "version": 1,
        "name": "steady",
        "seeds": list(range(cells)),
        "axes": {"lr": {"path": "optim.lr", "values": [0.01]}},
    }
    file = folder / "steady.yaml"
    file.write_text(yaml.safe_dump({**base, "resources": {"workers": 1}}))
    os.environ.update({**DRIVER_ENV, **WORKER_ENV, "RAY_AUTH_MODE": "disabled"})
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray.init(num_cpus=cells + 1, log_to_driver=False, logging_level=logging.ERROR)
    try:
        plan = make_plan(file, root=folder)
        ledger = open_ledger("steady", folder)
        more = {"entry": ENTRY, "seconds": seconds}
        jobs = [{**plan.job(planned), **more} for planned in plan.cells]
        with Timed(ledger, plan, Console(stderr=True)) as recorder, Gangs() as gangs:
            run_cells(Campaign(jobs, recorder, gangs, Policy(Failure())), "steady")
        assert recorder.span is not None
        return recorder.span
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description="Processor time of an orchestrator at rest.")
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cpu, wall = measure(args.cells, args.seconds, Path(name))
    print(f"{args.cells} cells run for {wall:.0f} s: {cpu:.2f} s of processor, {cpu / wall:.2%}")
    write(
        "steady",
        {
            "cells": args.cells,
            "each_s": args.seconds,
            "seconds": wall,
            "cpu_s": cpu,
            "share": cpu / wall,
        },
    )


if __name__ == "__main__":
    main()
