"""Processes killed, data gone, sweeps interrupted: what is kept, run again and said."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from detcore.config.schema import Shapes
from detcore.data.shapes import ensure_shapes
from detcore.result import METRICS
from tests.cluster.conftest import INTERRUPTED, Started, Workplace, noise, steps_of, until

LONG = {"train": {"steps": 150}, "runtime": {"checkpoint_every": 10}}


def outcomes(runs: list[Any]) -> list[tuple[str, str, str]]:
    return [(r.data.tags["axis.norm"], r.data.tags["cell.outcome"], r.info.status) for r in runs]


def in_second_cell(place: Workplace, run: Started, step: int) -> Path:
    """Wait until one cell has settled and the next has trained `step` steps; that one's folder."""

    def there() -> Path | None:
        runs = place.cells()
        if len(runs) < 2:
            return None
        folder = place.cell_folder(runs[1])
        return folder if any(s >= step for s in steps_of(folder)) else None

    found: Path = run.until(there, f"the second cell is at step {step}")
    return found


def losses(folder: Path) -> list[tuple[int, float]]:
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(p["step"], p["values"]["loss/total"]) for p in points if "loss/total" in p["values"]]


@pytest.mark.slow
def test_a_killed_orchestrator_goes_on_where_it_was(workplace: Workplace) -> None:
    place = workplace
    place.write(LONG)
    killed = place.start("--max-concurrent", "1")
    folder = in_second_cell(place, killed, 30)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    # what trains is gone at once: it must not write where the next attempt writes
    until(lambda: not killed.ranks() and not killed.supervisors(), "the gang has gone", 20)
    killed.wait_for_all()
    before = place.cells()
    assert outcomes(before)[1] == ("gn", "running", "RUNNING")
    assert before[0].info.status == "FINISHED"

    again = place.run("--max-concurrent", "1")
    assert again.process.returncode == 0, again.stderr()
    assert noise(again.stderr()) == []
    assert "1 settled before, 1 to run" in again.stderr()
    after = place.cells()
    assert [r.info.run_id for r in after[:2]] == [r.info.run_id for r in before]
    assert outcomes(after)[1] == ("gn", "lost", "FAILED")
    assert len(after) == 3
    assert after[2].data.tags["cell.attempt"] == "2"
    assert after[2].info.status == "FINISHED"
    assert len(place.sweeps()) == 1

    # the attempt went on from a checkpoint: its own curve starts late, the file has every step once
    resumed = losses(folder)
    assert [step for step, _ in resumed] == [*range(0, 150, 2), 149]
    own = place.client().get_metric_history(after[2].info.run_id, "loss/total")
    assert min(m.step for m in own if m.timestamp >= after[2].info.start_time) >= 30

    # and came to the very numbers of a run that was left alone
    shutil.rmtree(folder)
    uri = f"sqlite:///{place.folder / 'other.db'}"
    alone = place.run("--only", "norm == 'gn'", MLFLOW_TRACKING_URI=uri)
    assert alone.process.returncode == 0
    assert losses(folder) == resumed
    (cell,) = place.cells(uri)
    assert {k: cell.data.metrics[k] for k in METRICS} == {
        k: after[2].data.metrics[k] for k in METRICS
    }


@pytest.mark.long  # the same deaths of light cells are in test_deaths, and in CI
def test_dead_processes_cost_an_attempt_and_nothing_else(workplace: Workplace) -> None:
    place = workplace
    place.write(LONG, seeds=[0, 1])
    run = place.start("--max-concurrent", "1", "--only", "not (norm == 'gn' and seed == 1)")
    in_second_cell(place, run, 10)
    os.kill(run.ranks()[1], signal.SIGKILL)

    def third() -> bool:
        runs = place.cells()
        return len(runs) == 3 and bool(steps_of(place.cell_folder(runs[2])))

    run.until(third, "the next attempt trains")
    (supervisor,) = run.supervisors()
    os.kill(supervisor, signal.SIGKILL)

    assert run.wait() == 0, run.stderr()
    assert noise(run.stderr()) == []
    assert "3 of 3 settled" in run.stdout()
    attempts: dict[str, list[Any]] = {}
    for r in place.cells():
        attempts.setdefault(r.data.tags["cell.id"], []).append(r)
    lost = [r for r in place.cells() if r.data.tags["cell.outcome"] == "lost"]
    assert [r.info.run_id for r in lost] == [r.info.run_id for r in place.cells()[1:3]]
    assert {r.info.status for r in lost} == {"FAILED"}
    assert lost[0].data.tags["cell.reason"].startswith("worker ")
    assert lost[1].data.tags["cell.reason"].startswith("its supervisor died: ")
    assert len(place.cells()) == 5  # three cells, two attempts lost
    for runs in attempts.values():
        assert [r.data.tags["cell.attempt"] for r in runs] == [str(n + 1) for n in range(len(runs))]
        assert runs[-1].info.status == "FINISHED"
        # whatever was lost, a cell's file has every step once
        assert [s for s, _ in losses(place.cell_folder(runs[-1]))] == [*range(0, 150, 2), 149]
    run.wait_for_all()


def test_an_interrupted_sweep_stops_and_goes_on(workplace: Workplace) -> None:
    """Ctrl-C as a terminal does it: to every process of the group; and again, out of impatience."""
    place = workplace
    place.write({"train": {"steps": 100}, "runtime": {"checkpoint_every": 10}})
    run = place.start("--max-concurrent", "1")
    in_second_cell(place, run, 12)
    began = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)
    time.sleep(0.7)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.wait() == 130
    assert time.monotonic() - began < 45  # the promise is 20 s on a machine of one's own
    assert noise(run.stderr(), INTERRUPTED) == []
    assert run.stderr().splitlines()[-1].startswith("Interrupted.")
    run.wait_for_all()
    assert not list(Path(place.environment["TMPDIR"]).glob("sweep-*"))
    assert outcomes(place.cells())[1] == ("gn", "cancelled", "KILLED")
    assert place.sweeps()[0].info.status == "KILLED"

    again = place.run("--max-concurrent", "1")
    assert again.process.returncode == 0
    assert noise(again.stderr()) == []
    assert len(place.cells()) == 3
    assert losses(place.cell_folder(place.cells()[1]))[-1][0] == 99
    assert place.sweeps()[0].info.status == "FINISHED"


def test_failures_of_cells_are_told_apart(workplace: Workplace) -> None:
    """One cell diverges (a result), one has lost an image (a fault), gangs of two sizes run."""
    place = workplace
    source = ensure_shapes(
        Shapes(train_images=32, val_images=8, size=64), Path(place.environment["DETCORE_CACHE"])
    )
    whole, broken = place.folder / "whole", place.folder / "broken"
    shutil.copytree(source, whole)
    shutil.copytree(source, broken)
    victim = max(broken.rglob("*.jpg"), default=None) or max(broken.rglob("*.png"))
    size = victim.stat().st_size
    victim.write_bytes(b"\0" * size)  # listed, there, of the right size, and no image
    place.write(
        {"train": {"steps": 40}, "runtime": {"log_every": 1, "checkpoint_every": 10}},
        axes={
            "data": {
                "values": {
                    # where data lie is no difference between arms, so another one is needed
                    "whole": {"data.source": {"kind": "coco", "root": "whole"}, "data.flip": 0.5},
                    "broken": {"data.source": {"kind": "coco", "root": "broken"}, "data.flip": 0.0},
                }
            },
            "lr": {"path": "optim.lr", "values": {"usual": 0.01, "absurd": 1e30}},
            "gang": {"values": {"one": {"ranks": 1}, "two": {"ranks": 2}}},
        },
        resources={"workers": "ranks"},
    )
    run = place.start("--only", "data == 'whole' or (lr == 'usual' and gang == 'one')")
    assert run.wait() == 1
    runs = {}
    for r in place.cells():
        tags = r.data.tags
        key = (tags["axis.data"], tags["axis.lr"], tags["axis.gang"])
        runs.setdefault(key, []).append(r)
    assert noise(run.stderr()) == []

    for gang in ("one", "two"):
        (diverged,) = runs["whole", "absurd", gang]
        assert diverged.data.tags["cell.outcome"] == "diverged"
        assert diverged.info.status == "FINISHED"
        (fine,) = runs["whole", "usual", gang]
        assert fine.info.status == "FINISHED"
        assert fine.data.tags["cell.outcome"] in ("converged", "stalled")
        first = next(s for s, x in losses(place.cell_folder(diverged)) if not math.isfinite(x))
        assert first <= int(diverged.data.tags["cell.step"]) <= first + 100
        assert f"step {first}" in diverged.data.tags["cell.reason"]

    crashed = runs["broken", "usual", "one"]
    # a mistake in the data is met again by every attempt: there is one
    assert [r.data.tags["cell.outcome"] for r in crashed] == ["crashed"]
    assert [r.data.tags["cell.attempt"] for r in crashed] == ["1"]
    for r in crashed:
        assert r.info.status == "FAILED"
        assert victim.name in r.data.tags["cell.reason"]
        trace = Path(place.client().download_artifacts(r.info.run_id, "traceback.txt"))
        assert "Traceback (most recent call last)" in trace.read_text()
    assert victim.name in run.stdout()
    assert "4 of 5 settled" in run.stdout()
