"""What a rank says is in the cell's folder: in processes of their own, as standard output belongs
to a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SAYS = """
import ctypes, logging, os, subprocess, sys, warnings
from pathlib import Path
from orchestrator.cluster.celllog import cell_log

libc = ctypes.CDLL(None)
folder = Path(sys.argv[1])

def say(when):
    print("print", when)
    print("error", when, file=sys.stderr)
    logging.getLogger("some.library").warning("log %s", when)
    warnings.warn("warning " + when)
    libc.printf(f"printf {when}\\n".encode())      # stays in C's buffer until it is flushed
    os.write(2, f"write {when}\\n".encode())
    subprocess.run(["sh", "-c", f"echo child {when}; echo child error {when} >&2"])

"""


def ran(folder: Path, code: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS + code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done


KINDS = ("print", "error", "log", "warning", "printf", "write", "child", "child error")


def test_everything_said_inside_and_nothing_else_is_in_the_log(tmp_path: Path) -> None:
    code = """
say("before")
with cell_log(folder / "cell", 1) as file:
    say("inside")
say("after")
assert file == folder / "cell" / "rank1.log"
"""
    done = ran(tmp_path, code)
    log = (tmp_path / "cell" / "rank1.log").read_text()
    outside = done.stdout + done.stderr
    for kind in KINDS:
        assert f"{kind} inside" in log
        for when in ("before", "after"):
            assert f"{kind} {when}" in outside
            assert f"{kind} {when}" not in log
    assert "inside" not in outside
    assert done.stdout.count("print ") == 2  # each where it belongs: standard output stays that
    assert re.match(r"=== \d{4}-\d\d-\d\d \d\d:\d\d:\d\d rank 1, process \d+ on \S+\n", log)
    assert re.search(r"^\d{4}-.* WARNING some\.library: log inside$", log, re.MULTILINE)


def test_each_attempt_is_appended_and_warns_again(tmp_path: Path) -> None:
    code = """
def train():
    warnings.warn("once per place")
for _ in range(2):
    with cell_log(folder, 0):
        train()
        train()
"""
    ran(tmp_path, code)
    log = (tmp_path / "rank0.log").read_text()
    assert log.count("=== ") == 2
    # Python says it once per place; a warm process says it once per cell
    assert log.count("UserWarning: once per place") == 2


def test_a_root_logger_of_the_user_is_not_doubled(tmp_path: Path) -> None:
    code = """
logging.basicConfig(level=logging.INFO)
with cell_log(folder, 0):
    logging.info("hello")
logging.info("goodbye")
"""
    done = ran(tmp_path, code)
    assert (tmp_path / "rank0.log").read_text().count("hello") == 1
    assert "hello" not in done.stderr
    assert done.stderr.count("goodbye") == 1


def test_an_error_is_in_the_log_and_goes_on(tmp_path: Path) -> None:
    code = """
try:
    with cell_log(folder, 0):
        raise RuntimeError("boom")
except RuntimeError as error:
    print("caught", error)
say("after")
"""
    done = ran(tmp_path, code)
    log = (tmp_path / "rank0.log").read_text()
    assert "Traceback (most recent call last):" in log
    assert log.rstrip().endswith("RuntimeError: boom")
    assert "caught boom" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_last_words_of_a_process_that_a_signal_ends(tmp_path: Path) -> None:
    ran(tmp_path, 'with cell_log(folder, 0):\n    print("so far")\n    os.abort()\n', expect=-6)
    log = (tmp_path / "rank0.log").read_text()
    assert "so far" in log
    assert "Fatal Python error: Aborted" in log


def test_a_log_stays_small_while_it_grows_and_keeps_its_end(tmp_path: Path) -> None:
    code = """
import orchestrator.cluster.celllog, time
orchestrator.cluster.celllog.LOOK_EVERY = 0.02
file = folder / "rank0.log"
sizes = []
with cell_log(folder, 0, limit=10_000):
    for number in range(3000):
        os.write(1, b"%06d %s\\n" % (number, b"x" * 92))
        if number % 100 == 99:
            time.sleep(0.1)
            sizes.append(file.stat().st_size)
print(max(sizes))
"""
    done = ran(tmp_path, code)
    # 100 lines of 100 bytes come between two looks, beside the half that is kept
    assert int(done.stdout) <= 20_000 + 200
    log = (tmp_path / "rank0.log").read_text()
    assert len(log) <= 10_000
    assert log.endswith("002999 " + "x" * 92 + "\n")
    assert re.match(r"=== \d+ bytes before this line were cut\n", log)


def test_a_much_too_long_log_of_an_earlier_attempt_is_cut_first(tmp_path: Path) -> None:
    (tmp_path / "rank0.log").write_text("".join(f"old {n}\n" for n in range(10_000)))
    ran(tmp_path, 'with cell_log(folder, 0, limit=1000):\n    print("new")\n')
    log = (tmp_path / "rank0.log").read_text()
    assert len(log) <= 1000
    assert "\nold 9999\n=== " in log
    assert log.endswith("new\n")


def test_where_no_log_can_be_written_the_cell_runs(tmp_path: Path) -> None:
    (tmp_path / "rank0.log").mkdir()  # permissions say nothing to root
    done = ran(tmp_path, 'with cell_log(folder, 0):\n    say("inside")\n')
    assert "print inside" in done.stdout
    assert "rank0.log: cannot be written" in done.stderr


def test_a_full_disk_does_not_fail_the_cell(tmp_path: Path) -> None:
    """/dev/full takes nothing: every write fails."""
    (tmp_path / "rank0.log").symlink_to("/dev/full")
    code = """
with cell_log(folder, 0):
    logging.getLogger("x").warning("a library that logs")
    warnings.warn("a library that warns")
    libc.printf(b"a library that prints\\n")
    for _ in range(1000):
        print("a line of a hundred characters" + "." * 70)
print("went on")
"""
    assert ran(tmp_path, code).stdout.endswith("went on\n")
