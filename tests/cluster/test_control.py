"""`python -m orchestrator.ctl` on a sweep that trains."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from tests.cluster.conftest import Workplace, noise, steps_of, until

CTL = r"ctl (pause|resume|drain|cancel) by \S+ on \S+: .*"


def ctl(place: Workplace, command: str, *more: str) -> str:
    """What it says; it must have been answered."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.ctl", command, "sweep.yaml", "--wait", "120", *more],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "has not answered" not in line
    return line


def training(place: Workplace, number: int) -> Any:
    """The newest of so many attempts, when it has made a step."""
    runs = place.cells()
    if len(runs) != number or not steps_of(place.cell_folder(runs[-1])):
        return None
    return runs[-1]


def tags(place: Workplace) -> list[tuple[str, str]]:
    return [(r.data.tags["cell.outcome"], r.info.status) for r in place.cells()]


def test_cells_are_cancelled_held_and_started_again(workplace: Workplace) -> None:
    """Cells that would train for hours, one at a time."""
    place = workplace
    place.write(base={"train": {"steps": 1_000_000}}, seeds=[0, 1])
    started = place.start("--max-concurrent", "1")
    first = started.until(lambda: training(place, 1), "the first cell trains")
    norm, seed = (first.data.tags[name] for name in ("axis.norm", "cell.seed"))
    line = ctl(place, "cancel", "--only", f"norm == '{norm}' and seed == {seed}")
    assert line == "tiny: cancel: 1 running ended, 0 waiting not started"
    second = started.until(lambda: training(place, 2), "another cell has its place")
    assert tags(place)[0] == ("cancelled", "KILLED")
    reason = place.cells()[0].data.tags["cell.reason"]
    assert reason.startswith("cancelled by ")

    assert ctl(place, "pause").endswith("no further cell is started; 1 running go on")
    norm, seed = (second.data.tags[name] for name in ("axis.norm", "cell.seed"))
    ctl(place, "cancel", "--only", f"norm == '{norm}' and seed == {seed}")
    until(lambda: tags(place)[1][0] == "cancelled", "the second cell is ended")
    resumed = time.time()
    ctl(place, "resume")
    third = started.until(lambda: training(place, 3), "a third cell trains")
    assert third.info.start_time / 1000 >= resumed

    assert ctl(place, "cancel").endswith("the sweep ends now; 1 running ended")
    assert started.wait() == 130
    assert tags(place) == [("cancelled", "KILLED")] * 3
    assert len({run.data.tags["cell.id"] for run in place.cells()}) == 3  # none is tried again
    started.wait_for_all()
    assert noise(started.stderr(), CTL) == []


def test_a_drained_sweep_ends_after_what_runs(workplace: Workplace) -> None:
    place = workplace
    place.write(base={"train": {"steps": 200}}, seeds=[0, 1, 2])
    started = place.start("--max-concurrent", "1")
    started.until(lambda: training(place, 1), "the first cell trains")
    ctl(place, "drain")
    assert started.wait() == 3, started.stderr()
    runs = place.cells()
    assert len(runs) < 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "waiting" in started.stdout()
    started.wait_for_all()
