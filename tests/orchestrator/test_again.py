"""What a start runs again: real stores, and files as gangs leave them; only the training is left
out."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboards.outcomes import FAULTS
from orchestrator.planning.plan import Plan, Planned
from orchestrator.running.again import Again, choose, left_line, start_over
from orchestrator.tracking.ledger import Ledger
from tests.orchestrator.place import RAY, Place

ROOT = Path(__file__).parents[2]


def record(place: Place, ledger: Ledger, plan: Plan, ends: Sequence[str]) -> None:
    """An attempt at each cell of the plan, in its order, that ended so; '' for none."""
    with place.recorder(ledger, plan) as recorder:
        for planned, outcome in zip(plan.cells, ends, strict=True):
            if outcome:
                end(place, recorder, plan, planned, outcome)


def end(place: Place, recorder: Any, plan: Plan, planned: Planned, outcome: str) -> None:
    recorder.started(plan.job(planned), dict(RAY))
    folder = plan.folder / planned.id
    if outcome in FAULTS:
        fault = {"outcome": outcome, "reason": "because", "traceback": "T", "time": 0.0}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").unlink(missing_ok=True)  # an attempt begins with this
        recorder.ended(plan.job(planned), {"fault": fault})
    else:
        recorder.ended(plan.job(planned), {"result": place.train(plan, planned, outcome)})
    (folder / "checkpoint.pt").write_text(outcome)


def chosen(place: Place, **again: Any) -> tuple[list[int], list[int], list[int]]:
    """The numbers, in the order of the sweep, of the cells that a start runs, that it runs from
    step 0, and that it leaves as they are."""
    ledger, plan = place.start()
    found = choose(plan, ledger.settled(plan.ids), ledger, Again(**again))
    number = {id: n for n, id in enumerate(plan.ids)}
    return (
        [number[p.id] for p in found.plan.todo],
        [number[p.id] for p in found.anew],
        sorted(number[id] for id in found.plan.left),
    )


def test_faults_are_run_again_but_not_what_ran_out_of_memory(place: Place) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["converged", "crashed", "oom", "diverged"])
    every = frozenset(FAULTS)
    assert chosen(place) == ([1], [], [2])
    assert chosen(place, outcomes=every) == ([1, 2], [], [])
    assert chosen(place, outcomes=frozenset({"oom"})) == ([1, 2], [], [])
    assert chosen(place, outcomes=frozenset({"lost"})) == ([1], [], [2])
    # results too, and these from step 0
    assert chosen(place, outcomes=frozenset({"diverged"})) == ([1, 3], [3], [2])
    assert chosen(place, outcomes=frozenset({"diverged", "oom"})) == ([1, 2, 3], [3], [])
    assert chosen(place, fresh=True) == ([0, 1, 2, 3], [0, 1, 2, 3], [])


def test_the_newest_attempt_says_how_a_cell_stands(place: Place) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["oom", "oom", "converged", ""])
    record(place, ledger, plan, ["crashed", "converged", "oom", ""])
    # the first crashed after it ran out of memory; a result counts, whatever came after it
    assert chosen(place) == ([0, 3], [], [])
    record(place, ledger, plan, ["oom", "", "", "oom"])
    assert chosen(place) == ([], [], [0, 3])


def test_cells_may_be_asked_about_one_after_the_other(place: Place) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["oom", "crashed", "", ""])
    for id in plan.ids:
        ledger.settled([id])
    faults = {id: fault.outcome for id, fault in ledger.newest_faults(plan.ids).items()}
    assert faults == {plan.ids[0]: "oom", plan.ids[1]: "crashed"}
    record(place, ledger, plan, ["converged", "", "", ""])
    ledger.settled(plan.ids[:1])
    # a result is the newest now; of the other nothing new was asked
    assert list(ledger.newest_faults(plan.ids)) == [plan.ids[1]]


def test_a_plan_says_what_it_leaves(place: Place) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["converged", "oom", "oom", ""])
    plan = choose(plan, ledger.settled(plan.ids), ledger, Again()).plan
    assert [plan.status(p) for p in plan.cells] == ["converged", "oom", "oom", "waiting"]
    assert "1 settled before, 1 to run" in plan.headline()
    line = left_line(plan)
    labels = [p.cell.label for p in plan.cells[1:3]]
    assert line.startswith(f"2 cells ran out of memory before and would again ({', '.join(labels)}")
    assert "--retry-failed=oom" in line
    assert "\n" not in line


def test_starting_over_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    cell = tmp_path / "cell"
    start_over(cell)
    assert not cell.exists()
    cell.mkdir()
    for name in ("checkpoint.pt", "result.json", "metrics.jsonl", "rank0.log"):
        (cell / name).write_text(f"first {name}")
    start_over(cell)
    assert [f.name for f in cell.iterdir()] == ["before"]
    assert (cell / "before" / "checkpoint.pt").read_text() == "first checkpoint.pt"
    start_over(cell)  # nothing came since: what was kept is kept
    assert (cell / "before" / "result.json").read_text() == "first result.json"
    (cell / "result.json").write_text("second")
    start_over(cell)
    assert [f.name for f in cell.iterdir()] == ["before"]
    assert [f.name for f in (cell / "before").iterdir()] == ["result.json"]


# ---------------------------------------------------------------- the command line


def run(folder: Path, *arguments: str, stdin: Any = subprocess.DEVNULL) -> Any:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.run", "sweep.yaml", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)},
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def statuses(folder: Path, *arguments: str) -> list[str]:
    done = run(folder, "--dry-run", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [cell["status"] for cell in json.loads(done.stdout)["cells"]]


def test_a_dry_run_shows_what_would_be_run_again(place: Place, folder: Path) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["converged", "crashed", "oom", "stalled"])
    assert statuses(folder) == ["converged", "waiting", "oom", "stalled"]
    assert statuses(folder, "--retry-failed") == ["converged", "waiting", "waiting", "stalled"]
    assert statuses(folder, "--retry-failed=stalled") == ["converged", "waiting", "oom", "waiting"]
    only = ["--only", "norm == 'bn'"]  # bn and gn with seed 0, then with seed 1
    assert statuses(folder, "--fresh", *only) == ["waiting", "waiting"]


def test_fresh_asks_before_it_replaces_results(place: Place, folder: Path) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["converged", "crashed", "oom", "diverged"])
    before = {file: file.stat().st_mtime_ns for file in plan.folder.rglob("*.pt")}
    done = run(folder, "--fresh")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("2 cells have results, and --fresh trains them anew, and there is no")
    assert "--yes starts it" in line
    assert {file: file.stat().st_mtime_ns for file in plan.folder.rglob("*.pt")} == before


def test_no_is_no(place: Place, folder: Path) -> None:
    ledger, plan = place.start()
    record(place, ledger, plan, ["converged", "", "", ""])
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(
            sys.executable, [sys.executable, "-m", "orchestrator.run", "sweep.yaml", "--fresh"]
        )
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"n\n")
    while b"nothing was started" not in said:
        said += os.read(terminal, 1000)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    os.close(terminal)
    assert b"1 cell has a result, and --fresh trains it anew" in said
    assert len(place.runs(ledger)) == 1


@pytest.mark.parametrize(
    "given", ["--retry-failed=bogus", "--retry-failed=", "--retry-failed=oom,"]
)
def test_an_outcome_that_is_none_is_named(place: Place, folder: Path, given: str) -> None:
    done = run(folder, given)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "unknown outcome" in last
    for outcome in ("oom", "crashed", "diverged", "stalled"):
        assert outcome in last
