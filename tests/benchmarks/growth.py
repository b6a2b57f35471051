"""How the work around the cells grows with a sweep, up to 10,000 cells on 1,000 GPUs, and what
would be the first to hold it up.

    python -m tests.benchmarks growth [--rounds 5] [--cells 625 1250 2500 5000 10000]

Every stage is timed by the processor time of this process, so that other work on the machine has
little part in it; the store is a real one of MLflow, in a file that this process reads itself. No
cell trains, and the 1,000 GPUs are 125 nodes of 8 in the scheduler's own accounts. `b` is the
exponent of t = a N^b, fitted over all N by least squares on logarithms; N log N has 1.1 over these
N. Stages marked `each` are of one thing in a store or a plan of that size; `all just ended` is a
later look at a store whose cells have all ended a moment ago, and are read again.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dashboards import results
from dashboards.document import document
from dashboards.results import Reader
from dashboards.store import find_store
from detcore.result import Point
from orchestrator import status
from orchestrator.cluster.queue import Queue, shape_of
from orchestrator.cluster.room import Room
from orchestrator.planning.history import read_history
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.planning.reconcile import reconcile
from orchestrator.running.progress import Progress
from orchestrator.tracking.attempts import open_records
from orchestrator.tracking.ledger import open_ledger
from tests.benchmarks.dashboards import Rows, add_cell, insert
from tests.benchmarks.planning import sweep_file
from tests.benchmarks.side_by_side import write

NODES, GPUS = 125, 8
N_LOG_N = 1.15  # with what a fit over five points is off by
WRITES, POINTS = 20, 20

Times = dict[str, dict[int, list[float]]]  # stage, cells


class Clock:
    """Seconds of processor time by stage and size."""

    def __init__(self) -> None:
        self.times: Times = {}

    def __call__(self, stage: str, cells: int, work: Callable[[], Any], parts: int = 1) -> Any:
        began = time.process_time()
        out = work()
        seconds = (time.process_time() - began) / parts
        self.times.setdefault(stage, {}).setdefault(cells, []).append(seconds)
        return out


def fit(times: dict[int, list[float]]) -> float:
    """The exponent b of t = a N^b, over the medians."""
    x = [math.log(n) for n in times]
    y = [math.log(max(statistics.median(t), 1e-9)) for t in times.values()]
    return statistics.linear_regression(x, y).slope


def measure(cells: int, rounds: int, clock: Clock) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        root = Path(name)
        file = sweep_file(root, cells, 3)
        for _ in range(rounds):
            plan: Plan = clock("plan", cells, lambda: make_plan(file, root=root))
        ledger = open_ledger(plan.sweep.name, root)
        run = ledger.start_sweep(file.read_text(), plan.to_json(), "", plan.axes, plan.variant)
        rows: Rows = {}
        now = int(time.time() * 1000)
        known = plan.to_json()["cells"]
        for cell in known[: len(known) // 2]:
            add_cell(rows, cell, plan.sweep.name, run, ledger.experiment_id, now, False)
        insert(find_store(root).uri, rows)
        for _ in range(rounds):
            clock("reconcile", cells, lambda: settle(plan, root))
            clock("schedule, all starts", cells, lambda: schedule(plan))
            clock("show progress, all cells", cells, lambda: show(plan))
            clock("record, each cell", cells, lambda: record(plan, root, run), WRITES)
            with contextlib.redirect_stdout(io.StringIO()):
                clock("status, each look", cells, lambda: status.main([str(file)]))
            kept: Reader = Reader(root)
            clock("list, first", cells, kept.studies)
            clock("list, all just ended", cells, kept.studies)
            study = kept.study(plan.sweep.name)
            clock("table of the sweep", cells, partial(document, study))


def settle(plan: Plan, root: Path) -> None:
    """What a start asks of the store."""
    ledger = open_ledger(plan.sweep.name, root)
    found = plan.reconciled(ledger.settled(plan.ids))
    history = read_history(open_records(root), plan.sweep.name, plan.variant)
    assert len(reconcile(found, history).cells) == len(plan.cells)
    assert len(found.todo) == len(plan.cells) - len(plan.cells) // 2


def schedule(plan: Plan) -> None:
    """All cells, from the first start to the last end, by the queue and the room that a campaign
    asks at every event; gangs of 1, 2, 4 and 8 GPUs."""
    dice = random.Random(0)
    queue = Queue()
    jobs = [
        {**job, "ranks": dice.choice((1, 2, 4, 8)), "cpus_per_worker": 1, "gpus_per_worker": 1}
        for job in ({"id": p.id, "label": p.id, "config": _config(p)} for p in plan.cells)
    ]
    queue.add(jobs)
    nodes = {f"n{i}": {"CPU": 96.0, "GPU": float(GPUS)} for i in range(NODES)}
    ends: list[tuple[float, int, Any]] = []
    running: dict[str, Any] = {}
    now, count = 0.0, 0
    while len(queue) or ends:
        room = Room(nodes)  # as a campaign makes it, anew every time
        for start in running.values():
            room.take(shape_of(start.job), start.placement)
        for start in queue.start(room, [s.job for s in running.values()]):
            running[start.job["id"]] = start
            count += 1
            heapq.heappush(ends, (now + dice.uniform(0.5, 1.5), count, start))
        now, _, ended = heapq.heappop(ends)
        del running[ended.job["id"]]
    assert count == len(plan.cells)


def _config(planned: Any) -> dict[str, Any]:
    config = planned.cell.config
    return {"seed": config.seed, "train": {"steps": config.train.steps}}


def show(plan: Plan) -> None:
    """Progress as a terminal shows it: every cell begins, tells once how far it is, and ends."""
    with Path(os.devnull).open("w") as nowhere:
        screen = Progress(len(plan.cells), [], console=Console(file=nowhere), metric="mAP")
        for planned in plan.cells:
            screen.cell_started(planned.id, planned.cell.label, 1)
            screen.cell_progress(planned.id, 10, 20, 1.0, 1.0)
            screen.tick()
            screen.cell_finished(planned.id, "converged", 0.4, 1.0)


def record(plan: Plan, root: Path, run: str) -> None:
    """A few further attempts: the run, its points, how it ended."""
    ledger = open_ledger(plan.sweep.name, root)
    for planned in plan.cells[-WRITES:]:
        handle = ledger.start_attempt(plan.info(planned), run, 1, root / "cells" / planned.id)
        ledger.log_points(handle, [Point(s, time.time(), {"loss": 1.0}) for s in range(POINTS)])
        ledger.finish(handle, "cancelled")  # no result: it stays to be done
    assert ledger.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Processor time of each stage as sweeps grow.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, nargs="+", default=[625, 1250, 2500, 5000, 10000])
    args = parser.parse_args()
    results.FRESH_S = 0.0  # every load asks the store
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    clock = Clock()
    for cells in args.cells:
        began = time.perf_counter()
        measure(cells, args.rounds, clock)
        print(f"{cells} cells: measured in {time.perf_counter() - began:.0f} s", flush=True)
    print(f"\n{'processor time, s':26}" + "".join(f"{n:>10}" for n in args.cells) + f"{'b':>8}")
    fits = {}
    for stage, times in clock.times.items():
        fits[stage] = fit(times)
        medians = "".join(f"{statistics.median(t):>10.3f}" for t in times.values())
        worse = "  worse than N log N" if fits[stage] > N_LOG_N else ""
        print(f"{stage:26}{medians}{fits[stage]:>8.2f}{worse}")
    medians_s = {
        stage: {str(n): statistics.median(t) for n, t in times.items()}
        for stage, times in clock.times.items()
    }
    write("growth", {"rounds": args.rounds, "exponents": fits, "medians_s": medians_s})


if __name__ == "__main__":
    main()
