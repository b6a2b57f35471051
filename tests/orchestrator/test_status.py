"""`python -m orchestrator.status` on real stores: what it tells of a sweep that this process, a
dead one or no one is at, and how watching ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from detcore.result import Point
from orchestrator import status
from orchestrator.running.control import Control
from orchestrator.running.control_file import append, read_lines
from orchestrator.running.eta import Work, time_left
from tests.orchestrator.place import COCO, RAY, Place
from tests.orchestrator.server import free_port

ROOT = Path(__file__).parents[2]
STEPS = 200


@pytest.fixture
def place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Each cell has so many steps; that no other test knows it is left to the learning rate."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(place.folder)
    lr = 0.001 + len(list(place.folder.glob("t*"))) / 1e6
    base = {"train": {"steps": STEPS}, "optim": {"lr": lr}}
    (place.folder / f"{place.name}.yaml").write_text(yaml.safe_dump(base))
    return place


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status.main(["sweep.yaml", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(capsys, "--json", *arguments))
    return found


@contextmanager
def under_way(place: Place) -> Iterator[None]:
    """In the order of the plan: converged in an hour, running at step 50, crashed, waiting."""
    ledger, plan = place.start()
    done, running, crashed, _ = plan.cells
    hour_ago = time.time() - 3600
    handle = ledger.start_attempt(plan.info(done), "", 1, plan.folder / done.id, hour_ago)
    ledger.finish(handle, "converged", "", STEPS, COCO, {"train_hours": 0.5})
    plan = plan.reconciled(ledger.settled(plan.ids))
    with place.recorder(ledger, plan, arguments="sweep.yaml") as recorder:
        crash = {"outcome": "crashed", "reason": "[red]boom[/red]", "traceback": "T"}
        recorder.started(plan.job(crashed), dict(RAY))
        recorder.ended(plan.job(crashed), {"fault": crash})
        recorder.started(plan.job(running), dict(RAY))
        point = Point(49, time.time() - 70, {"loss/total": 0.5})
        recorder.points(plan.job(running), [vars(point)])
        ledger.flush()
        yield


def test_a_sweep_under_way(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with under_way(place):
        found = as_json(capsys)
        assert found["counts"] == {"converged": 1, "running": 1, "crashed": 1, "waiting": 1}
        assert (found["settled"], found["total"]) == (1, 4)
        at_it = found["orchestrator"]
        assert (at_it["state"], at_it["pid"], at_it["ours"]) == ("alive", str(os.getpid()), True)
        done, runs, crashed, waits = found["cells"]
        assert done["metrics"] == COCO
        assert (runs["step"], runs["steps"], runs["attempt"]) == (50, STEPS, 1)
        # the point is 70 s old, but the attempt itself has only begun
        assert runs["silent_s"] < 60
        assert (crashed["reason"], crashed["attempt"]) == ("[red]boom[/red]", 1)
        assert (waits["attempt"], waits["run_id"], waits["silent_s"]) == (0, "", None)

        # a quarter of an hour's work is behind the one, and one waits: 45 + 60 minutes
        assert found["seconds_left"] == pytest.approx(6300, abs=30)

        text = told(capsys)
        assert "1 of 4 settled (1 converged), 1 faulted (1 crashed), 1 running, 1 waiting" in text
        assert f"an orchestrator is at it (process {os.getpid()} on " in text
        assert re.search(r"norm=gn seed=0 +1 +50/200 +\d+ s ago", text)
        assert f"{crashed['label']}: crashed (attempt 1): [red]boom[/red]" in text
        assert "0.010 (1/2: crashed)" in text  # the table as it stands

        # other settings have other cells; the one at work is said to have others
        other = as_json(capsys, "--set", "train.steps=7")
        assert other["counts"] == {"waiting": 4}
        assert (other["orchestrator"]["state"], other["orchestrator"]["ours"]) == ("alive", False)
        assert "other settings: sweep.yaml" in told(capsys, "--set", "train.steps=7")
        part = as_json(capsys, "--only", "norm == 'gn' and seed == 0")
        assert [c["label"] for c in part["cells"]] == ["norm=gn seed=0"]
    assert "no orchestrator is at it" in told(capsys)


def test_what_a_killed_orchestrator_left(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with under_way(place):
        ledger, _ = place.start()
        for run in (*place.runs(ledger), *place.runs(ledger, "sweep")):
            ledger._live.set_tag(run.info.run_id, "orchestrator.pid", "0")
        found = as_json(capsys)
        assert found["counts"] == {"converged": 1, "lost": 1, "crashed": 1, "waiting": 1}
        assert found["orchestrator"]["state"] == "gone"
        assert found["seconds_left"] is None
        text = told(capsys)
        assert "has died; the same run command goes on from here" in text
        assert "norm=gn seed=0: lost (attempt 1): its orchestrator was killed" in text

        for run in (*place.runs(ledger), *place.runs(ledger, "sweep")):
            ledger._live.set_tag(run.info.run_id, "orchestrator.host", "far")
        text = told(capsys)
        assert "whether that lives cannot be told from here" in text
        assert "norm=gn seed=0 (on host far)" in text


def test_a_result_that_mlflow_has_not_heard_of(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    _, plan = place.start()
    place.train(plan, plan.cells[0])
    found = as_json(capsys)
    assert found["counts"] == {"converged": 1, "waiting": 3}
    assert [cell["on_disk_only"] for cell in found["cells"]] == [True, False, False, False]
    assert "1 result is on disk and not in MLflow" in told(capsys)


def test_nothing_is_made_and_absent_data_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    Place(tmp_path, "new")
    before = sorted(tmp_path.rglob("*"))
    text = told(capsys, "--set", "data.source={kind: coco, root: absent}")
    assert "0 of 4 settled, 0 running, 4 waiting" in text
    assert "not those of a real run" in text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_is_one_line_and_exit_code_2(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main(["absent.yaml"]) == 2
    assert status.main(["sweep.yaml", "--only", "nrm == 1"]) == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # no patience
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    assert status.main(["sweep.yaml", "--watch"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 3
    for line, words in zip(lines, ("absent.yaml", "nrm", "does not answer"), strict=True):
        assert words in line
    assert "secret" not in said.err


# ---------------------------------------------------------------- watching


def test_watching_ends_when_all_is_settled(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "REFRESH", 0.05)
    codes: list[int] = []
    ledger, plan = place.start()
    with place.recorder(ledger, plan) as recorder:
        watcher = threading.Thread(
            target=lambda: codes.append(status.main(["sweep.yaml", "--watch"]))
        )
        watcher.start()
        said = ""
        for number, planned in enumerate(plan.cells):
            recorder.started(plan.job(planned), dict(RAY))
            wanted = f"{number} of 4 settled" + (f" ({number} converged)" if number else "")
            while f"{wanted}, 1 running" not in said:  # seen before it goes on
                time.sleep(0.02)
                said += capsys.readouterr().out
            recorder.ended(plan.job(planned), {"result": place.train(plan, planned)})
        watcher.join(60)
    assert codes == [0]
    said += capsys.readouterr().out
    assert said.count("\n") < 40  # lines when something has changed, not one a look
    assert "4 of 4 settled (4 converged), 0 running, 0 waiting" in said
    assert "4 cells: 4 converged; 4 of 4 settled" in said  # the table at the end


def test_ctrl_c_ends_watching_without_a_word(place: Place) -> None:
    """On a real terminal: a picture drawn anew."""
    screen, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.status", "sweep.yaml", "--watch"],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"},
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    said = b""
    try:
        while b"waiting" not in said:
            said += os.read(screen, 4096)
        child.send_signal(signal.SIGINT)
        while True:
            try:
                if not (more := os.read(screen, 4096)):
                    break
            except OSError:  # the other end is closed
                break
            said += more
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""
    finally:
        child.kill()
        child.wait()
        os.close(screen)
    assert b"Traceback" not in said
    assert b"4 waiting" in said


# ---------------------------------------------------------------- the time left


def work(arm: str, seconds: float = 0.0, done: float | None = None, **more: Any) -> Work:
    return Work(arm, arm, more.pop("shape", "one"), seconds=seconds, done=done, **more)


def test_the_time_left_worked_by_hand() -> None:
    finished = [work("bn", 100), work("gn", 200), work("gn", 220), work("gn", 900)]
    # bn needs half of its 100 s, gn (median 220 s) is 20 s in: 50 + 200; one more bn waits: 100
    running = [work("bn", 70, 0.5), work("gn", 20)]
    left = time_left(finished, running, [work("bn")])
    # is 350 s of work for two at once, 175 s; but the second cannot be shared out
    assert left.seconds == 200
    assert left.basis == "from 4 finished cells, 2 at once"
    # an arm without a finished seed takes the median of its shape: 210 of 100, 200, 220, 900
    assert time_left(finished, [work("new", 10)], []).seconds == 200
    # a cell that is overdue ends any moment, but not in the past
    assert time_left(finished, [work("bn", 500)], []).seconds == 0
    # a gang of 8 that waits for slots that one of 2 holds now
    big = work("bn", slots=8)
    assert time_left(finished, [work("bn", 0, slots=2)], [big]).seconds == (100 * 2 + 100 * 8) / 2


def test_no_time_is_told_where_none_is_known() -> None:
    finished = [work("bn", 100)]
    assert time_left(finished, [], [work("bn")]).seconds is None
    unlike = time_left(finished, [work("bn")], [work("big", shape="8 GPUs")])
    assert unlike.seconds is None
    assert unlike.basis == "no cell of the shape of big has finished yet"
    assert time_left([], [work("bn", 5, 0.5)], []).seconds is None


def test_what_ctl_has_told_it_and_what_a_start_would_leave_are_shown(
    place: Place, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, plan = place.start()
    fault = {"outcome": "oom", "reason": "out of memory", "traceback": ""}
    with (
        Control(folder / "mlruns", place.name, plan.cells) as control,
        place.recorder(ledger, plan) as recorder,
    ):
        recorder.started(plan.job(plan.cells[0]), dict(RAY))
        recorder.ended(plan.job(plan.cells[0]), {"fault": fault})
        assert as_json(capsys)["orchestrator"]["control"] == ""
        to = read_lines(control.file)[0]["begin"]
        append(control.file, {"command": "pause", "to": to, "id": "1", "by": "ann"})
        control.read()
        assert as_json(capsys)["orchestrator"]["control"] == "paused"
        text = told(capsys)
        assert f"(process {os.getpid()} on " in text
        assert "; ctl: paused\n" in text
        assert "runs these again, but oom only with --retry-failed):\n" in text


def test_further_seeds_are_shown_once_the_results_ask_for_them(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = yaml.safe_load(place.file.read_text())
    sweep |= {"seeds": {"list": [0, 1], "extend_to": 4}}
    place.file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    ledger, plan = place.start()
    scores = {("bn", 0): 0.30, ("bn", 1): 0.31, ("gn", 0): 0.32, ("gn", 1): 0.28}
    for n, planned in enumerate(plan.cells, 1):
        assert len(as_json(capsys)["cells"]) == 4  # a round that has not ended asks for nothing
        score = scores[str(planned.cell.axes["norm"]), planned.cell.seed]
        began = time.time() - 60 + n
        handle = ledger.start_attempt(plan.info(planned), "", 1, plan.folder / planned.id, began)
        ledger.finish(handle, "converged", "", STEPS, COCO | {"mAP": score}, {})
    waiting = [c for c in as_json(capsys)["cells"] if c["outcome"] == "waiting"]
    assert {c["label"] for c in waiting} == {"norm=bn seed=2", "norm=gn seed=2"}
    assert {c["id"] for c in waiting} == {p.id for p in plan.more if p.cell.seed == 2}
