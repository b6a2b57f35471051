"""Commands to a sweep that runs: real files, and the orchestrator's side and ctl in processes of
their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import ctl
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.running.control import Control
from orchestrator.running.control_file import append, control_file, read_lines, state_of

ROOT = Path(__file__).parents[2]
SWEEP = {
    "version": 1,
    "name": "small",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
        "batch": {"path": "train.batch_per_gpu", "values": [1, 4]},
    },
    "seeds": [0, 1],
}

ORCHESTRATOR = """
import sys, time
from pathlib import Path
from orchestrator.running.control import Control
from orchestrator.running.lock import alone
from orchestrator.planning.make_plan import make_plan
plan = make_plan(Path("sweep.yaml"))
folder = plan.folder.parent
running = set(plan.ids[:2])
with alone(folder, "small"), Control(folder, "small", plan.cells) as control:
    print("ready", flush=True)
    while not (control.draining and not running):
        control.read(running)
        ended = control.cancelled(running)
        running -= ended
        print(len(running), sum(map(control.starting, plan.ids)), flush=True)
        if (folder / "finish").exists():
            running.clear()
        time.sleep(0.02)
    print(control.stopped, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    (tmp_path / "mlruns").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan(folder: Path) -> Plan:
    return make_plan(folder / "sweep.yaml", root=folder)


@contextmanager
def orchestrator(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """One in a process of its own, two of whose eight cells run."""
    child = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def until(child: subprocess.Popen[str], line: str) -> None:
    """Until the child says `<running> <may start>`."""
    assert child.stdout is not None
    for said in child.stdout:
        if said == f"{line}\n":
            return
    raise AssertionError(f"it ended and never said {line!r}")


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    try:
        got = ctl.main([arguments[0], "sweep.yaml", *arguments[1:]])
    except SystemExit as end:
        got = int(end.code or 0)
    said = capsys.readouterr()
    (line,) = (said.out + said.err).splitlines()
    assert got == code, line
    assert "Traceback" not in line
    return line


def test_a_sweep_in_another_process_obeys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with orchestrator(folder) as child:
        until(child, "2 8")
        line = told(capsys, "pause")
        assert line == "small: pause: no further cell is started; 2 running go on"
        until(child, "2 0")
        at_it = (socket.gethostname(), str(child.pid))
        assert state_of(folder / "mlruns", "small", at_it) == "paused"
        assert state_of(folder / "mlruns", "small", ("elsewhere", str(child.pid))) == ""
        assert told(capsys, "resume") == "small: resume: cells are started again"
        until(child, "2 8")

        line = told(capsys, "cancel", "--only", "norm == 'bn' and seed == 0")
        assert line == "small: cancel: 2 running ended, 0 waiting not started"
        until(child, "0 6")
        line = told(capsys, "cancel", "--only", "batch == 4")
        assert line == "small: cancel: 0 running ended, 3 waiting not started"
        until(child, "0 3")
        line = told(capsys, "pause", "--only", "norm == 'gn'")
        assert line == "small: pause: 2 cells held until resume; 0 running go on"
        until(child, "0 1")
        assert told(capsys, "resume", "--only", "norm == 'gn'").endswith("2 cells may start again")
        until(child, "0 3")

        line = told(capsys, "drain")
        assert line.endswith("no further cell is started; the sweep ends after the 0 running")
        until(child, "drained")
        assert child.wait(60) == 0
    assert "no orchestrator is at it" in told(capsys, "pause", code=2)


def test_a_drain_waits_for_what_runs_and_a_cancel_does_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with orchestrator(folder) as child:
        told(capsys, "drain")
        until(child, "2 0")
        assert "drained already" in told(capsys, "pause", code=2)
        told(capsys, "resume")  # also of a drain, while something runs
        until(child, "2 8")
        told(capsys, "drain")
        until(child, "2 0")
        (folder / "mlruns" / "finish").touch()
        until(child, "drained")
    (folder / "mlruns" / "finish").unlink()
    with orchestrator(folder) as child:
        assert told(capsys, "cancel").endswith("the sweep ends now; 2 running ended")
        until(child, "cancelled")


def test_no_command_outlives_its_orchestrator(
    folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    file = control_file(folder / "mlruns", "small")
    with orchestrator(folder) as child:
        (begin,) = [line for line in read_lines(file) if "begin" in line]
        child.kill()
        child.wait()
        assert f"process {child.pid} on " in told(capsys, "cancel", code=2)
    command = {"command": "cancel", "only": None, "to": begin["begin"], "id": "1", "by": "x"}
    append(file, command)  # it was on its way when the orchestrator died
    with Control(folder / "mlruns", "small", plan.cells) as control:
        append(file, command)  # and it may come even later
        control.read()
        assert not control.draining
        assert all(map(control.starting, plan.ids))
        assert not any("answer" in line for line in read_lines(file))
    # a process that has the dead one's number is not it
    assert "no orchestrator is at it" in told(capsys, "cancel", code=2)


def test_what_is_cancelled_stays_so_until_it_has_ended(folder: Path, plan: Plan) -> None:
    said: list[str] = []
    with Control(folder / "mlruns", "small", plan.cells, say=said.append) as control:
        command(control, "cancel", only="norm == 'gn'")
        running = set(plan.ids)
        control.read(running)
        gn = {p.id for p in plan.cells if p.cell.axes["norm"] == "gn"}
        for _ in range(3):
            assert control.cancelled(running) == gn
            control.read(running)
        assert {id for id in plan.ids if control.dropped(id)} == gn
        assert not control.draining
        assert control.reason(min(gn)) == "cancelled by ann on host3"
        assert said == [
            "ctl cancel by ann on host3: 4 running ended, 0 waiting not started",
        ]
        command(control, "resume")  # brings nothing back that was cancelled
        control.read(running - gn, ended=gn)
        assert not any(control.starting(id) for id in gn)


def test_cells_that_come_later_are_meant_too(folder: Path, plan: Plan) -> None:
    with Control(folder / "mlruns", "small", plan.cells[:4]) as control:
        command(control, "pause")
        control.read()
        control.add(plan.cells[4:])
        assert not any(map(control.starting, plan.ids))
        command(control, "resume")
        command(control, "cancel", only="seed == 1")
        control.read()
        assert sum(map(control.starting, plan.ids)) == 4


def test_what_was_said_of_some_cells_holds_for_those_of_them_that_come_later(
    folder: Path, plan: Plan
) -> None:
    """While a sweep tunes, the cells after it are not known yet; the last word counts."""
    first, later = plan.cells[:4], plan.cells[4:]  # seed 0, seed 1
    with Control(folder / "mlruns", "small", first) as control:
        command(control, "pause", only="norm == 'gn'")
        command(control, "cancel", only="norm == 'bn' and batch == 1")
        command(control, "resume", only="batch == 4")
        control.read(ended={p.id for p in first})
        control.add(later)
        may = {p.cell.arm_label for p in later if control.starting(p.id)}
        assert may == {"norm=bn batch=4", "norm=gn batch=4"}
        assert {p.cell.arm_label for p in later if control.dropped(p.id)} == {"norm=bn batch=1"}
        command(control, "resume")
        control.read()
        assert sum(control.starting(p.id) for p in later) == 3


@pytest.mark.parametrize("only", ["norm == 'gn'", None])
def test_whether_any_cell_is_cancelled(folder: Path, plan: Plan, only: str | None) -> None:
    with Control(folder / "mlruns", "small", plan.cells) as control:
        command(control, "pause", only=only)
        control.read()
        assert not control.drops
        command(control, "cancel", only=only)
        control.read()
        assert control.drops


def test_cells_that_tune_are_meant_by_their_parameters_too(folder: Path) -> None:
    tune = {"nuisance": {"lr_mult": [0.5, 1]}, "per": ["norm"]}
    more = {"derive": {"lr": "0.01 * lr_mult"}, "set": {"optim.lr": "=lr"}, "tune": tune}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP | more, sort_keys=False))
    plan = make_plan(folder / "sweep.yaml", root=folder)
    assert plan.tuning is not None
    tuning = plan.tuning.cells  # two norms, two values
    cells = (*plan.cells, *tuning)
    with Control(folder / "mlruns", "small", cells) as control:
        command(control, "cancel", only="lr_mult == 1")
        control.read()
        assert {p.id for p in cells if control.dropped(p.id)} == {
            p.id for p in tuning if p.cell.axes["lr_mult"] == 1
        }
        command(control, "cancel", only="norm == 'gn'")
        control.read()
        bn = {p.id for p in cells if p.cell.axes["norm"] == "bn"}
        assert {p.id for p in cells if control.starting(p.id)} == {
            id for id in bn if not control.dropped(id)
        }
        assert len([p for p in tuning if control.starting(p.id)]) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"command": "cancel", "only": "nrm == 'gn'"}, "nrm"),
        ({"command": "cancel", "only": "norm == 'x'"}, "bn, gn"),
        ({"command": "drain", "only": "norm == 'gn'"}, "without --only"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, plan: Plan, words: dict[str, Any], why: str
) -> None:
    with Control(folder / "mlruns", "small", plan.cells) as control:
        command(control, **words)
        control.read()
        answer = next(line for line in read_lines(control.file) if "answer" in line)
        assert answer["refused"]
        assert why in answer["text"]
        assert all(map(control.starting, plan.ids))


def test_a_file_with_torn_and_foreign_lines_is_read_on(folder: Path, plan: Plan) -> None:
    with Control(folder / "mlruns", "small", plan.cells) as control:
        with control.file.open("ab") as file:
            file.write(b'{"command": "cancel", "to\n[1]\n\xff\xfe\n"text"\n{"command": "pa')
        control.read()
        assert all(map(control.starting, plan.ids))
        command(control, "pause")
        control.read()
        assert not any(map(control.starting, plan.ids))
        control.file.unlink()
        control.read()


def test_lines_of_many_writers_do_not_mix(folder: Path, plan: Plan) -> None:
    """Eight processes append 100 commands each, while they are read."""
    write = """
import sys
from pathlib import Path
from orchestrator.running.control_file import append
for number in range(100):
    line = {"command": "pause", "to": sys.argv[2], "id": f"{sys.argv[3]}-{number}", "by": "x" * 90}
    append(Path(sys.argv[1]), line)
"""
    with Control(folder / "mlruns", "small", plan.cells) as control:
        arguments = [sys.executable, "-c", write, str(control.file), control._token]
        writers = [subprocess.Popen([*arguments, str(n)], cwd=ROOT) for n in range(8)]
        while any(writer.poll() is None for writer in writers):
            control.read()
        control.read()
        assert [writer.returncode for writer in writers] == [0] * 8
        answered = [line["answer"] for line in read_lines(control.file) if "answer" in line]
    assert len(answered) == len(set(answered)) == 800
    for writer in range(8):
        mine = [a for a in answered if a.startswith(f"{writer}-")]
        assert mine == [f"{writer}-{number}" for number in range(100)]


def test_an_orchestrator_that_is_busy_is_told_later(
    folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    with Control(folder / "mlruns", "small", plan.cells) as control:
        line = told(capsys, "pause", "--wait", "0")
        assert f"sent to process {os.getpid()} on " in line
        assert all(map(control.starting, plan.ids))
        control.read()
        assert not any(map(control.starting, plan.ids))

        done = threading.Event()

        def ticks() -> None:
            while not done.wait(0.01):
                control.read()

        thread = threading.Thread(target=ticks)
        thread.start()
        try:
            answer = json.loads(_out(capsys, "resume", "--json"))
        finally:
            done.set()
            thread.join()
        expected = "small: resume: cells are started again"
        assert answer == {"text": expected, "refused": False, "answered": True}


def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no orchestrator is at it from this folder ({folder}" in told(capsys, "pause", code=2)
    assert "nrm" in told(capsys, "cancel", "--only", "nrm == 'gn'", code=2)
    assert "unknown profile 'x'" in told(capsys, "cancel", "--profile", "x", code=2)
    with pytest.raises(SystemExit):
        ctl.main(["drain", "sweep.yaml", "--only", "seed == 0"])
    assert "without --only" in capsys.readouterr().err


def test_without_a_place_for_the_file_the_sweep_runs_on(folder: Path, plan: Plan) -> None:
    said: list[str] = []
    control_file(folder / "mlruns", "small").mkdir()  # permissions say nothing to root
    with Control(folder / "mlruns", "small", plan.cells, say=said.append) as control:
        control.read()
        assert all(map(control.starting, plan.ids))
    (line,) = said
    assert "ctl does not reach us" in line


def command(control: Control, command: str, only: str | None = None) -> None:
    line = {"command": command, "only": only, "to": control._token, "id": command}
    append(control.file, {**line, "by": "ann on host3"})


def _out(capsys: pytest.CaptureFixture[str], name: str, *more: str) -> str:
    assert ctl.main([name, "sweep.yaml", *more]) == 0
    return capsys.readouterr().out
