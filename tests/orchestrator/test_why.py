"""`python -m orchestrator.why` on real stores: what it tells of each kind of end, and of a cell
that is not known."""

from __future__ import annotations

import copy
import json
import re
import time
from pathlib import Path

import pytest
import yaml

from detcore.result import Point
from orchestrator import why
from orchestrator.planning.plan import Plan
from orchestrator.tracking.attempts import Attempt, open_records
from tests.orchestrator.place import RAY, Place
from tests.orchestrator.server import free_port

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nRuntimeError: [bold]boom[/bold]\n'


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def ended(folder: Path) -> Plan:
    """A sweep in which a cell diverged, one was lost and then crashed, one runs no longer because
    its orchestrator was killed, and one was not started."""
    base = {"train": {"steps": 50}}
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    place = Place(folder, "ended")
    text = place.file.read_text() + "base: base.yaml\n"
    place.file.write_text(text)
    ledger, plan = place.start()
    diverged, faulty, killed, _ = plan.cells
    with place.recorder(ledger, plan, arguments="sweep.yaml --profile 'a b'") as recorder:
        recorder.started(plan.job(diverged), dict(RAY))
        result = place.train(plan, diverged, "diverged")
        result["evidence"] = {"loss": float("inf"), "running_median": 0.5}
        (plan.folder / diverged.id / "result.json").write_text(json.dumps(result))
        recorder.ended(plan.job(diverged), {"result": result})

        lost = {"outcome": "lost", "reason": "worker 1 died", "traceback": "", "time": 0.0}
        recorder.started(plan.job(faulty), dict(RAY))
        recorder.ended(plan.job(faulty), {"fault": lost})
        recorder.started(plan.job(faulty), {**RAY, "ray.nodes": "10.0.0.7"})
        point = Point(30, time.time(), {"loss/total": 0.25, "lr": 0.1})
        recorder.points(plan.job(faulty), [vars(point)])
        reason = "RuntimeError: [bold]boom[/bold]"
        crash = {"outcome": "crashed", "reason": reason, "traceback": TRACEBACK}
        recorder.ended(plan.job(faulty), {"fault": crash})
        lines = [f"line {number} [red]" for number in range(100)]
        (plan.folder / faulty.id / "rank0.log").write_text("\n".join(lines))
        (plan.folder / faulty.id / "checkpoint.pt").touch()

        recorder.started(plan.job(killed), dict(RAY))
        handle = recorder.attempts.pop(killed.id).handle  # no one will close it
        ledger._live.set_tag(handle, "orchestrator.pid", "0")
    return plan


def told(capsys: pytest.CaptureFixture[str], *cell: str) -> str:
    assert why.main(cell) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def refused(capsys: pytest.CaptureFixture[str], *cell: str) -> str:
    assert why.main(cell) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "Traceback" not in line
    return line


def test_a_crash_has_its_traceback_log_and_what_comes_next(
    ended: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = ended.cells[1]
    text = told(capsys, faulty.id)
    assert text.startswith(f"{faulty.cell.label}\ncell {faulty.id} of sweep ended\n")
    assert "\ncrashed: RuntimeError: [bold]boom[/bold]\n" in text
    assert text.index("attempt 1: lost") < text.index("worker 1 died") < text.index("attempt 2: ")
    assert re.search(r"attempt 2: crashed after \d+ s on 10\.0\.0\.7", text)
    assert "last point: step 30, loss 0.25, " in text
    for line in TRACEBACK.splitlines():
        assert f"    {line}\n" in text
    assert "  line 99 [red]\n" in text
    assert "  line 80 [red]\n" in text
    assert "line 79" not in text
    again = "next: tried again in the same start, up to 2 times (failure.retries.crashed); the next"
    assert again in text
    assert "from its checkpoint: python -m orchestrator.run sweep.yaml --profile 'a b'\n" in text
    assert str(ended.folder / faulty.id) in text

    found = json.loads(told(capsys, faulty.id, "--json"))
    assert [(a["attempt"], a["outcome"]) for a in found["attempts"]] == [
        (1, "lost"),
        (2, "crashed"),
    ]
    assert [a["traceback"] for a in found["attempts"]] == ["", TRACEBACK]
    assert found["attempts"][0]["last_point"] is None
    # its run has it as well
    (ended.folder / faulty.id / "traceback.txt").unlink()
    assert json.loads(told(capsys, faulty.id, "--json"))["attempts"][1]["traceback"] == TRACEBACK


def test_a_result_has_its_evidence_and_is_not_run_again(
    ended: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    label = ended.cells[0].cell.label
    text = told(capsys, *label.split())  # a label need not be quoted
    assert "diverged: because" in text
    assert "  loss: inf\n  running_median: 0.5\n" in text
    assert "next: nothing: this is a result" in text
    found = json.loads(told(capsys, label, "--json"), parse_constant=pytest.fail)
    assert found["evidence"] == {"loss": "inf", "running_median": 0.5}


def test_an_attempt_that_no_one_closed(ended: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(capsys, ended.cells[2].id, "--json"))
    assert (found["outcome"], found["attempts"][0]["outcome"]) == ("lost", "lost")
    assert "its orchestrator was killed" in found["reason"]
    assert "from its beginning" in found["next"]


@pytest.mark.parametrize(
    ("outcome", "reason", "says"),
    [
        ("lost", "", "until it is lost 10 times without a further step (failure.retries.lost)"),
        (
            "lost",
            "killed by SIGKILL; lost 10 times without a further step",
            "no other attempt in the same start: lost 10 times without a further step",
        ),
        ("timeout", "no sign of life", "tried again in the same start, once (failure.retries.time"),
        ("oom", "", "no other attempt in the same start (failure.retries.oom is 0)"),
        ("crashed", "ValueError: x", "no other attempt in the same start: data or settings are"),
        (
            "timeout",
            "longer than 3 hours (failure.max_hours)",
            "it would take longer than failure.",
        ),
        ("cancelled", "", "no other attempt in the same start; the next start"),
    ],
)
def test_what_comes_next_follows_the_sweeps_policy(
    ended: Plan, outcome: str, reason: str, says: str
) -> None:
    records = open_records()
    attempt = next(a for a in records.attempts() if a.cell_id == ended.cells[1].id)
    run = copy.deepcopy(attempt.run)
    run.data.tags.update({"cell.outcome": outcome, "cell.reason": reason})
    assert says in why.explain(records, [Attempt(run)])["next"]
    asked = "leaves it as well, but runs it from its checkpoint when it is told to: python -m orch"
    told = why.explain(records, [Attempt(run)])["next"]
    assert (asked in told and told.endswith("--retry-failed=oom")) == (outcome == "oom")
    # of a sweep whose plan says nothing of it
    run.data.tags["sweep.run_id"] = ""
    unknown = why.explain(records, [Attempt(run)])["next"]
    by_policy = "failure.retries" in says
    assert (f"as failure.retries.{outcome} says" in unknown) == by_policy


def test_a_cell_has_four_names(ended: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = ended.cells[1]
    whole = json.loads(told(capsys, faulty.id, "--json"))
    names = [faulty.id[:11], faulty.id.upper(), faulty.cell.label]
    names += [attempt["run_id"] for attempt in whole["attempts"]]
    for name in names:
        assert json.loads(told(capsys, name, "--json"))["id"] == faulty.id


def test_a_cell_that_is_not_one_is_told_in_a_line(
    ended: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = ended.cells[3]
    for name in (waiting.id, waiting.cell.label):
        line = refused(capsys, name)
        assert f"cell {waiting.id} ({waiting.cell.label}) of sweep ended was never started" in line
        assert line.endswith("python -m orchestrator.run sweep.yaml --profile 'a b'")
    faulty = ended.cells[1]
    line = refused(capsys, f"{faulty.cell.label}0")
    assert f"the nearest: {faulty.id} ({faulty.cell.label})" in line
    misread = faulty.id[:-1] + ("1" if faulty.id[-1] == "0" else "0")
    assert faulty.id in refused(capsys, misread)
    assert "is called '[/bold]'" in refused(capsys, "[/bold]")

    (folder / "mlruns" / "cells" / "00000000000f").mkdir()
    line = refused(capsys, "00000000000f")
    assert "is not in MLflow, but has files in " in line

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # no patience
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in refused(capsys, faulty.id)


def test_a_name_that_means_several_cells_lists_them(
    ended: Plan, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same label with other settings."""
    place = Place(folder, "other")
    place.file.write_text(place.file.read_text() + "base: base.yaml\n")
    ledger, plan = place.start(overrides=["train.steps=60"], only="seed == 0 and norm == 'bn'")
    with place.recorder(ledger, plan) as recorder:
        recorder.started(plan.job(plan.cells[0]), dict(RAY))
    both = (ended.cells[0], plan.cells[0])
    line = refused(capsys, both[0].cell.label)
    assert "means 2 cells" in line
    assert f"{both[0].id} ({both[0].cell.label}, diverged in sweep ended)" in line
    assert f"{both[1].id} ({both[1].cell.label}, cancelled in sweep other)" in line
    assert line.endswith("; give an id")


def test_without_a_store_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "go to the folder in which the sweep was started" in refused(capsys, "abc")
    assert list(tmp_path.iterdir()) == []
