"""What tracking costs a cell, and whether anything is lost on the way: 64 cells, 8 at once, through
the stack of docker-compose.yml.

    python -m tests.benchmarks.tracking [--cells 64] [--at-once 8] [--steps 60]

The services run as tests/stack starts them: an MLflow server over PostgreSQL, and Ray with a token.
A cell is a real training of one process with a point of its curves in every step. `sent` are the
numbers in the cells' metrics.jsonl, `stored` those that MLflow's REST interface gives back for the
same cell, key, step and value; `further` are the results, which are told once more at the end (14
numbers of a cell), and whatever was stored twice. The share is the time that rank 0 spends in
handing on its points (writing them to its file, and giving them to the process that its supervisor
asks), of the time that it trains: nothing in a cell talks to MLflow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import BASE, BN_GN
from tests.stack.points import points_of, stored_of
from tests.stack.stack import Stack

RESULTS = Path(__file__).parent / "results" / "tracking.json"
ARMS = 4


def timed_cell(job: dict[str, Any], *rank: Any, **given: Any) -> dict[str, Any]:
    """orchestrator.cluster.trainer.train_cell, with the time that its curves took in `values`."""
    from detcore.curves import Curves
    from orchestrator.cluster.trainer import train_cell

    plain, seconds = Curves.add, 0.0

    def add(curves: Curves, step: int, values: dict[str, float]) -> None:
        nonlocal seconds
        began = time.perf_counter()
        plain(curves, step, values)
        seconds += time.perf_counter() - began

    Curves.add = add  # type: ignore[method-assign]
    try:
        result = train_cell(job, *rank, **given)
    finally:
        Curves.add = plain  # type: ignore[method-assign]
    return {**result, "values": {**result["values"], "tracking_s": seconds}}


def drive(arguments: list[str]) -> int:
    """orchestrator.run with `timed_cell` in the place of its training."""
    from orchestrator import run
    from orchestrator.planning.plan import Plan, Planned

    plain = Plan.job

    def job(plan: Plan, planned: Planned) -> dict[str, Any]:
        return {**plain(plan, planned), "entry": "tests.benchmarks.tracking:timed_cell"}

    Plan.job = job  # type: ignore[method-assign]
    return run.main(arguments)


def write_sweep(folder: Path, cells: int, steps: int) -> None:
    base = {
        **BASE,
        "train": {"steps": steps},
        "runtime": {**BASE["runtime"], "log_every": 1},
    }
    sweep = {
        "version": 1,
        "name": "tracking",
        "base": "base.yaml",
        "axes": {"norm": BN_GN, "lr": {"path": "optim.lr", "values": [0.01, 0.02]}},
        "seeds": list(range(cells // ARMS)),
        "resources": {"workers": 1},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    (folder / "tracking.yaml").write_text(yaml.safe_dump(sweep))


def main() -> int:
    if sys.argv[1:2] == ["--drive"]:
        return drive(sys.argv[2:])
    parser = argparse.ArgumentParser(description="Points lost, and time spent in tracking.")
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    many = {"RAY_WORKER_OPTIONS": f"--num-cpus {args.at_once}"}
    with Stack({"MLFLOW_WORKERS": "2"}, workers=[many]) as stack:
        stack.start()
        write_sweep(stack.project, args.cells, args.steps)
        began = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.tracking", "--drive", "tracking.yaml"]
        done = subprocess.run(command, cwd=stack.project, env=stack.driver_environment())
        seconds = time.perf_counter() - began
        assert done.returncode == 0, f"exit code {done.returncode}"
        found = counted(stack)
    for name, value in found.items():
        print(f"{name:26} {value:.5g}" if isinstance(value, float) else f"{name:26} {value}")
    found |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "load_average": os.getloadavg()[1],
        "at_once": args.at_once,
        "seconds": seconds,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def counted(stack: Stack) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(stack.url("mlflow"))
    experiment = client.get_experiment_by_name("tracking")
    assert experiment is not None
    query = "tags.`run.kind` = 'cell'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1000)
    sent = stored = further = 0
    shares = []
    for run in runs:
        wanted = points_of(stack.project / "mlruns" / "cells" / run.data.tags["cell.id"])
        there = stored_of(client, run.info.run_id, {key for key, _, _ in wanted})
        sent, stored = sent + wanted.total(), stored + (wanted & there).total()
        further += (there - wanted).total()
        train_s = run.data.metrics["train_hours"] * 3600
        shares.append(run.data.metrics["tracking_s"] / train_s)
    return {
        "cells": len(runs),
        "outcomes": dict(Counter(run.data.tags["cell.outcome"] for run in runs)),
        "points_sent": sent,
        "points_stored": stored,
        "further": further,
        "share_mean": sum(shares) / len(shares),
        "share_largest": max(shares),
    }


if __name__ == "__main__":
    raise SystemExit(main())
