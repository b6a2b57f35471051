"""What is made of an exception, of a dead process and of silence. What Ray says is Ray 2.60's own,
as it was seen; that it still says so is asked of a real one in tests/cluster/test_deaths.py."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from orchestrator.cluster import evidence, last_words


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raises")


class Broken(Dataset[int]):
    """Its worker process runs out of memory."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise MemoryError("no room for the image")


def chained() -> None:
    try:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    except RuntimeError as error:
        raise RuntimeError("the step failed") from error


def while_cleaning_up() -> None:
    try:
        np.zeros(1 << 45)[:] = 1
    finally:
        raise KeyError("process group")


def on_full_device() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x")


OOM: dict[str, Callable[[], Any]] = {
    "python": lambda: bytearray(1 << 46),
    "numpy": lambda: np.zeros(1 << 45) + 1,
    "torch on the host": lambda: torch.zeros(1 << 45),
    "a loader's process": lambda: list(DataLoader(Broken(), num_workers=1)),
    "raised from": chained,
    "a clean-up that fails as well": while_cleaning_up,
}


@pytest.mark.parametrize("case", OOM)
def test_memory_that_is_not_there_is_oom(case: str) -> None:
    error = raised(OOM[case])
    fault = evidence.of_exception(error, 3)
    assert (fault["outcome"], fault["rank"], fault["secondhand"]) == ("oom", 3, False)
    assert fault["traceback"].startswith("Traceback")
    assert "\n" not in fault["reason"]


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'",
        "std::bad_alloc",
    ],
)
def test_memory_that_is_not_there_has_other_names(text: str) -> None:
    assert evidence.of_exception(RuntimeError(text), 0)["outcome"] == "oom"
    # a text alone is not enough: this is a mistake in the settings
    assert evidence.of_exception(ValueError(text), 0)["outcome"] == "crashed"


def test_a_loaders_process_is_named_with_what_it_met() -> None:
    reason = evidence.of_exception(raised(OOM["a loader's process"]), 0)["reason"]
    assert reason.startswith("MemoryError: no room for the image (Caught MemoryError in DataLoader")


def test_a_full_disk_is_a_crash_that_says_where(tmp_path: Path) -> None:
    full = evidence.of_exception(raised(on_full_device), 0, tmp_path)
    assert full["outcome"] == "crashed"
    assert full["reason"].startswith(f"disk full at {tmp_path}: OSError: [Errno 28] No space left")
    assert not full["final"]
    named = evidence.of_exception(OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"), 0)
    assert named["reason"].startswith("disk full at /data/x: ")
    shared = RuntimeError("unable to write to file </torch_17>: No space left on device (28)")
    assert "disk full at /dev/shm/torch_17: " in evidence.of_exception(shared, 0)["reason"]
    # torch.save does not say why it could not write
    save = raised(lambda: torch.save(torch.zeros(10**5), "/dev/full"))
    assert "disk full" not in evidence.of_exception(save, 0, tmp_path)["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a small file system")
def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False
    ).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        save = raised(lambda: torch.save(torch.zeros(10**6), tmp_path / "x.pt"))
        said = evidence.of_exception(save, 0, tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)  # torch keeps the file open
    assert said["outcome"] == "crashed"
    assert said["reason"].startswith(f"disk full at {tmp_path}")


def test_what_another_attempt_cannot_cure_is_final() -> None:
    assert evidence.of_exception(ValueError("image a.jpg is damaged"), 0)["final"]
    assert evidence.of_exception(raised(lambda: int("x")), 0)["final"]
    for error in (RuntimeError("x"), KeyError("x"), ImportError("x"), OSError(5, "x")):
        fault = evidence.of_exception(error, 0)
        assert (fault["outcome"], fault["final"]) == ("crashed", False)


@pytest.mark.parametrize(("code", "says"), [(3, 3), (None, 0), ("bye", 1)])
def test_leaving_is_a_crash_with_its_code(code: Any, says: int) -> None:
    fault = evidence.of_exception(raised(lambda: sys.exit(code)), 0)
    assert (fault["outcome"], fault["final"]) == ("crashed", False)
    assert fault["reason"].endswith(f"exit code {says}")


def test_a_loaders_process_that_was_killed_is_lost() -> None:
    text = "DataLoader worker (pid 1234) is killed by signal: Killed. "
    assert evidence.of_exception(RuntimeError(text), 0)["outcome"] == "lost"


# ---------------------------------------------------------------- the ranks of a gang

GLOO = RuntimeError(
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9"
)
GLOO_WAITED = RuntimeError(
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for "
    "recv operation to complete"
)


def at(time: float, fault: dict[str, Any]) -> dict[str, Any]:
    return {**fault, "time": time}


def test_the_cause_is_the_first_that_is_no_echo() -> None:
    echo = at(1.0, evidence.of_exception(GLOO, 0))
    waited = at(1.5, evidence.of_exception(GLOO_WAITED, 3))
    cause = at(2.0, evidence.of_exception(RuntimeError("boom"), 1))
    later = at(
        3.0, evidence.of_death(died("ActorDiedError", EOF), 2, "Fatal Python error: Aborted")
    )
    assert evidence.first_cause([echo, waited, later, cause]) == cause
    assert evidence.first_cause([echo, later]) == later


def test_echoes_alone_are_a_connection_that_was_lost() -> None:
    first, second = (at(t, evidence.of_exception(GLOO, r)) for t, r in ((1.0, 1), (2.0, 0)))
    cause = evidence.first_cause([second, first])
    assert (cause["outcome"], cause["rank"]) == ("lost", 1)
    waited = evidence.first_cause([evidence.of_exception(GLOO_WAITED, 0)])
    assert waited["outcome"] == "timeout"


def test_silence_is_a_timeout_and_a_limit_is_final() -> None:
    silent = evidence.of_silence(61.7)
    assert (silent["outcome"], silent["final"]) == ("timeout", False)
    assert silent["reason"] == "no sign of life for 62 s (failure.hang_timeout_s)"
    long = evidence.of_overrun(2.5)
    assert (long["outcome"], long["final"]) == ("timeout", True)
    assert long["reason"] == "longer than 2.5 hours (failure.max_hours)"


# ---------------------------------------------------------------- what Ray says


def died(kind: str, text: str) -> BaseException:
    error: BaseException = type(kind, (Exception,), {})(text)
    return error


ACTOR = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: R\n\tactor_id: 9708c9\n"
    "\tpid: 1670\n\tnamespace: bec0ab36\n\tip: 192.0.2.2\n"
)
WORKER = ACTOR + "The actor is dead because its worker process has died. Worker exit type: "
EOF = WORKER + (
    "SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. "
    "End of file. Some common causes include: (1) the process was killed by the OOM killer due to "
    "high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly "
    "due to SIGSEGV or another unexpected error."
)
CLOSED = WORKER + (
    "SYSTEM_ERROR Worker exit detail: Worker connection closed unexpectedly."  # on a busy machine
)
EXIT_3 = WORKER + (
    "SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly. Worker exits with an exit code 3."
)
EXIT_0 = WORKER + (
    "INTENDED_USER_EXIT Worker exit detail: Worker exits by an user request. Worker exits with an "
    "exit code 0."
)
SIGTERM = WORKER + (
    "SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly by a signal. SystemExit is raised "
    "(sys.exit is called). Exit code: 1. The process receives a SIGTERM."
)
NODE = ACTOR + (
    "The actor died because its node has died. Node Id: 0be3d2\n\tthe actor's node was terminated "
    "unexpectedly: health check failed due to missing too many heartbeats"
)
DRAINED = ACTOR + (
    "The actor died because its node has died. Node Id: f535db\n\tthe actor's node was terminated "
    "expectedly: received SIGTERM"
)
UNAVAILABLE = (
    "The actor 92abe802 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: "
    "Socket closed rpc_code: 14. The task may or may not have been executed on the actor."
)
KILLED = ACTOR + "The actor is dead because it was killed by `ray.kill`."
BORN_DEAD = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::R.__init__()"
    "\x1b[39m (pid=2259, ip=192.0.2.2, actor_id=c358, repr=<see.R object at 0x7f3d>)\n"
    '  File "/app/see.py", line 7, in __init__\n    import nosuchmodule_x\n'
    "ModuleNotFoundError: No module named 'nosuchmodule_x'"
)
MONITOR = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "192.0.2.2, ID: a92d54) was 3.45GB used / 23.54GB limit (0.146499)\nOOM kill reason: Memory "
    "usage 3702976512B exceeded threshold of 3690371072B\nObject store memory usage: [- objects"
)

SAID = {
    "exit 3": ("ActorDiedError", EXIT_3, "crashed", "worker 1 ended its process with exit code 3"),
    "exit 0": ("ActorDiedError", EXIT_0, "crashed", "worker 1 ended its process with exit code 0"),
    "killed": ("ActorDiedError", EOF, "lost", "worker 1 was killed (SIGKILL)"),
    "killed, busy": ("ActorDiedError", CLOSED, "lost", "worker 1 was killed (SIGKILL)"),
    "told to end": ("ActorDiedError", SIGTERM, "lost", "worker 1 was told to end (SIGTERM)"),
    "node": ("ActorDiedError", NODE, "lost", "worker 1's node died: health check failed due to"),
    "drained": ("ActorDiedError", DRAINED, "lost", "worker 1's node died: received SIGTERM"),
    "unavailable": (
        "ActorUnavailableError",
        UNAVAILABLE,
        "lost",
        "worker 1 is gone: The actor 92a",
    ),
    "ray.kill": ("ActorDiedError", KILLED, "lost", "worker 1 is gone: The actor is dead because i"),
    "import": ("ActorDiedError", BORN_DEAD, "crashed", "worker 1 could not start: ModuleNotFoundE"),
    "memory": (
        "ActorDiedError",
        BORN_DEAD.replace("ModuleNotFoundError: No", "MemoryError: No"),
        "oom",
        "worker 1 could not start: MemoryError",
    ),
    "monitor": (
        "OutOfMemoryError",
        MONITOR,
        "oom",
        "worker 1 was killed, its node was short of memory (IP: 192.0.2.2, ID: a92d54) was 3.45GB",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_ray_says_of_a_process_that_is_gone(case: str) -> None:
    kind, text, outcome, reason = SAID[case]
    fault = evidence.of_death(died(kind, text), 1)
    assert fault["outcome"] == outcome
    assert fault["reason"].startswith(reason)
    assert "\x1b" not in fault["traceback"]


def test_what_the_process_said_itself_goes_before() -> None:
    error = died("ActorDiedError", EOF)
    words = (
        'Fatal Python error: Bus error\n\nCurrent thread 0x7f (most recent call first):\n  File "x"'
    )
    crashed = evidence.of_death(error, 1, words)
    assert (crashed["outcome"], crashed["traceback"]) == ("crashed", words)
    assert crashed["reason"] == "worker 1 crashed with SIGBUS (bus error)"


# ---------------------------------------------------------------- last words

DYING = """
import os, signal, sys, time
from orchestrator.cluster import last_words
with last_words.kept(sys.argv[1], 2):
    {how}
"""


def last_words_of(folder: Path, how: str) -> str:
    code = DYING.format(how=how)
    subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, check=False)
    return last_words.left(folder, 2)


@pytest.mark.parametrize(
    ("how", "first"),
    [
        ("import ctypes; ctypes.string_at(0)", "Fatal Python error: Segmentation fault"),
        ("os.abort()", "Fatal Python error: Aborted"),
        ("os.kill(os.getpid(), signal.SIGBUS); time.sleep(9)", "Fatal Python error: Bus error"),
        ("os._exit(7)", "os._exit(7)"),
    ],
)
def test_a_process_that_crashes_says_so(tmp_path: Path, how: str, first: str) -> None:
    words = last_words_of(tmp_path, how)
    assert words.splitlines()[0] == first
    assert 'File "<string>", line 5' in words
    assert last_words.left(tmp_path, 2) == ""  # they are told once


@pytest.mark.parametrize(
    "how",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "pass",
        "raise SystemExit(3)",
        # a child that was forked ends in that way, and it is the parent's business alone
        "os.fork() or os._exit(5); os.wait()",
    ],
)
def test_a_process_that_is_killed_or_lives_says_nothing(tmp_path: Path, how: str) -> None:
    assert last_words_of(tmp_path, how) == ""


def test_where_nothing_can_be_written_the_block_runs(tmp_path: Path) -> None:
    ran = []
    with last_words.kept(tmp_path / "absent", 0):
        ran.append(True)
    assert ran
    assert os._exit.__module__ == "posix"
