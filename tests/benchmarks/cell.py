"""What a cell takes beside its training and its evaluation, in a gang that is warm.

    python -m tests.benchmarks cell [--cells 6] [--steps 1000]

Real cells of the embedded set, two processes each, one at a time, on a Ray of this machine with a
real MLflow store in a file, as in a sweep. The first cell starts the processes and is shown by
itself. Of the others: `first step` is the time from the gang's being ready for the cell to the
point of its first step (which is told in the second); `outside` is the share of the time from the
end of the cell before to its own end that is neither training (`train_hours`) nor evaluation (from
the last step's point to the scores).
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from orchestrator.cluster.connect import DRIVER_ENV, WORKER_ENV
from orchestrator.cluster.gangs import Gang, Gangs
from orchestrator.cluster.queue import Limits
from orchestrator.planning.make_plan import make_plan
from orchestrator.running.campaign import Campaign
from orchestrator.running.recorder import Recorder
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from orchestrator.tracking.ledger import open_ledger
from orchestrator.tracking.spool import read_points
from tests.benchmarks.side_by_side import write

BASE = Path(__file__).parents[2] / "sweeps/bases/shapes_tiny.yaml"
WORKERS = 2


class TimedGangs(Gangs):
    """Notes when a gang is ready for a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.ready_at: dict[str, float] = {}

    def hand_out(self, gang: Gang) -> Gang:
        self.ready_at[gang.work["id"]] = time.time()
        return super().hand_out(gang)


class TimedRecorder(Recorder):
    """Notes when cells end, in order, and with what."""

    def __enter__(self) -> TimedRecorder:
        self.ends: list[tuple[dict[str, Any], dict[str, Any], float]] = []
        super().__enter__()
        return self

    def ended(self, job: Any, end: dict[str, Any]) -> None:
        assert "fault" not in end, end
        self.ends.append((job, end["result"], time.time()))
        super().ended(job, end)


def run(cells: int, steps: int, folder: Path) -> tuple[TimedGangs, TimedRecorder]:
    sweep = {
        "base": str(BASE),
        "version": 1,
        "name": "cell",
        "seeds": list(range(cells)),
        "axes": {"lr": {"path": "optim.lr", "values": [0.01]}},
        "set": {"train.steps": steps},
        "resources": {"workers": WORKERS, "gpus_per_worker": 0},
    }
    file = folder / "cell.yaml"
    file.write_text(yaml.safe_dump(sweep))
    plan = make_plan(file, root=folder)
    ledger = open_ledger("cell", folder)
    jobs = [plan.job(planned) for planned in plan.cells]
    with TimedRecorder(ledger, plan, Console(stderr=True)) as recorder, TimedGangs() as gangs:
        one = Limits(cells=1)
        run_cells(Campaign(jobs, recorder, gangs, Policy(Failure()), limits=one), "cell")
    return gangs, recorder


def measured(gangs: TimedGangs, recorder: TimedRecorder) -> list[dict[str, float]]:
    rows, before = [], None
    for job, result, end in recorder.ends:
        points = read_points(Path(job["folder"]) / "metrics.jsonl")
        told = [p for p in points if "loss/total" in p.values]
        scored = next(p for p in points if "mAP" in p.values)
        ready = gangs.ready_at[job["id"]]
        inside = {
            "training": result["values"]["train_hours"] * 3600,
            "evaluation": scored.time - told[-1].time,
        }
        whole = end - (before or ready)
        outside = whole - sum(inside.values())
        row = {"first_step": told[0].time - ready, "whole": whole, **inside, "outside": outside}
        rows.append({**row, "share": outside / whole, "between": ready - (before or ready)})
        before = end
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What a cell takes beside its training.")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    os.environ.update({**DRIVER_ENV, **WORKER_ENV, "RAY_AUTH_MODE": "disabled"})
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray.init(num_cpus=WORKERS, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as name:
            rows = measured(*run(args.cells, args.steps, Path(name)))
    finally:
        ray.shutdown()
    for number, row in enumerate(rows):
        each = "   ".join(f"{name} {value:.2f}" for name, value in row.items())
        print(f"{'first cell' if not number else 'warm      '} {each}")
    middle = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    print(
        f"median of {len(rows) - 1} warm cells of {middle['whole']:.1f} s: first step "
        f"{middle['first_step']:.2f} s after the gang was ready, {middle['share']:.1%} outside "
        "training and evaluation"
    )
    write("cell", {"steps": args.steps, "cells": rows, "median_of_warm": middle})


if __name__ == "__main__":
    main()
