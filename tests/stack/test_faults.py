"""A bad day of the stack: a node goes and comes back, MLflow and PostgreSQL are started again, the
driver is killed. No settled cell is lost or trained twice, and every attempt is called what it was.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import pytest

from dashboards.outcomes import SETTLED
from tests.cluster.conftest import Started, Workplace, steps_of
from tests.stack.points import points_of, stored_of
from tests.stack.stack import Stack

STEPS, SEEDS = 80, 10
WORKERS = {"127.0.0.3": "ray-worker-1", "127.0.0.4": "ray-worker-2"}


def outcome(run: Any) -> str:
    return str(run.data.tags["cell.outcome"])


def at_work(place: Workplace, uri: str, settled: int) -> Any:
    """The cell that has trained some steps while at least `settled` have settled; None as yet."""
    runs = place.cells(uri)
    if sum(outcome(run) in SETTLED for run in runs) < settled:
        return None
    for run in runs:
        steps = steps_of(place.cell_folder(run))
        if outcome(run) == "running" and steps and 15 <= steps[-1] < STEPS - 20:
            return run if "ray.nodes" in run.data.tags else None
    return None


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_no_settled_cell_is_lost_or_trained_twice(stack: Stack) -> None:
    place = Workplace(stack.project, stack.driver_environment())
    place.write(
        {"train": {"steps": STEPS}, "runtime": {"checkpoint_every": 10}},
        seeds=list(range(SEEDS)),
        failure={"hang_timeout_s": 60},
    )
    uri = stack.url("mlflow")
    try:
        run = place.start()
        _a_node_goes_and_comes_back(stack, place, run)
        for name in ("mlflow", "postgres"):
            run.until(lambda: at_work(place, uri, 0), f"a cell trains before {name} is restarted")
            stack.service(name).kill()
            stack.service(name).start()
        run.until(lambda: at_work(place, uri, 2), "two have settled and one trains")
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
        before = {r.info.run_id for r in place.cells(uri) if outcome(r) in SETTLED}
        again = place.start()
        assert again.wait(600) == 0, again.stderr()
    finally:
        for started in place.runs:
            started.end()

    runs = place.cells(uri)
    settled = [r for r in runs if outcome(r) in SETTLED]
    assert Counter(r.data.tags["cell.label"] for r in settled) == dict.fromkeys(
        (f"norm={norm} seed={seed}" for norm in ("bn", "gn") for seed in range(SEEDS)), 1
    )
    assert before <= {r.info.run_id for r in settled}, "what had settled is what is on record"
    others = [r for r in runs if outcome(r) not in SETTLED]
    assert {outcome(r) for r in others} == {"lost"}  # by the node, and by the driver
    assert len(others) >= 2
    assert all(r.info.status != "RUNNING" for r in runs)
    for r in settled:
        there = stored_of(place.client(uri), r.info.run_id, r.data.metrics)
        wanted = points_of(place.cell_folder(r))
        assert wanted <= there, r.data.tags["cell.label"]
        assert max(step for _, step, _ in wanted) == STEPS


def _a_node_goes_and_comes_back(stack: Stack, place: Workplace, run: Started) -> None:
    uri = stack.url("mlflow")
    cell = run.until(lambda: at_work(place, uri, 0), "a cell trains on a node")
    held = [name for ip, name in WORKERS.items() if ip in cell.data.tags["ray.nodes"]]
    assert held, cell.data.tags["ray.nodes"]
    stack.service(held[0]).kill()

    def lost() -> bool:
        return outcome(place.client(uri).get_run(cell.info.run_id)) == "lost"

    run.until(lost, "the attempt is lost")
    stack.service(held[0]).start()
