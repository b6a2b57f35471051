"""Processes of a real Ray that end in every way there is: what Ray says of them, and what is made
of it. When a new Ray says it otherwise, this is where it shows."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.cluster import evidence, last_words
from tests.cluster.local_ray import local_ray

Death = Callable[[], Any]


class Mortal:
    """An actor like a rank: with threads, and with last words."""

    def __init__(self, how: Death | None = None) -> None:
        if how:
            how()

    def die(self, folder: Path, how: Death) -> None:
        with last_words.kept(folder, 0):
            how()
            time.sleep(5)  # a signal may take its time


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with local_ray(cpus=4):
        yield


def end_of(folder: Path, how: Death, at_birth: bool = False) -> evidence.Fault:
    actor = ray.remote(Mortal).options(max_concurrency=3, num_cpus=0.1)
    try:
        if at_birth:
            ray.get(actor.remote(how).die.remote(folder, time.time), timeout=60)
        else:
            ray.get(actor.remote().die.remote(folder, how), timeout=60)
    except ray.exceptions.RayError as error:
        return evidence.of_death(error, 0, last_words.left(folder, 0))
    raise AssertionError("it dies")


def no_room() -> None:
    raise OSError(28, "No space left on device", "/data/x")


def no_memory() -> None:
    raise MemoryError("x")


def itself(number: int) -> Death:
    return lambda: os.kill(os.getpid(), number)


DEATHS: dict[str, tuple[Death, str, str]] = {
    "SIGKILL": (itself(signal.SIGKILL), "lost", "was killed (SIGKILL)"),
    # a SIGTERM is no end: Ray lets the task finish
    "SIGSEGV": (lambda: ctypes.string_at(0), "crashed", "crashed with SIGSEGV"),
    "SIGABRT": (os.abort, "crashed", "crashed with SIGABRT"),
    "SIGBUS": (itself(signal.SIGBUS), "crashed", "crashed with SIGBUS"),
    "os._exit": (lambda: os._exit(7), "crashed", "ended itself: os._exit(7)"),
    "sys.exit": (lambda: sys.exit(3), "crashed", "ended its process with exit code 3"),
    "sys.exit(0)": (sys.exit, "crashed", "ended its process with exit code 0"),
}


@pytest.mark.parametrize("case", DEATHS)
def test_a_process_that_ends_at_work(tmp_path: Path, case: str) -> None:
    how, outcome, says = DEATHS[case]
    fault = end_of(tmp_path, how)
    assert fault["outcome"] == outcome
    assert fault["reason"].startswith(f"worker 0 {says}")


BORN_DEAD: dict[str, tuple[Death, str, str]] = {
    "import": (
        lambda: importlib.import_module("no_such_module"),
        "crashed",
        "could not start: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "memory": (no_memory, "oom", "could not start: MemoryError: x"),
    "sys.exit": (lambda: sys.exit(3), "crashed", "ended its process with exit code 3"),
}


@pytest.mark.parametrize("case", BORN_DEAD)
def test_a_process_that_does_not_come_up(tmp_path: Path, case: str) -> None:
    how, outcome, says = BORN_DEAD[case]
    fault = end_of(tmp_path, how, at_birth=True)
    assert (fault["outcome"], fault["reason"]) == (outcome, f"worker 0 {says}")


def test_an_exception_of_a_living_process_is_what_it_is(tmp_path: Path) -> None:
    fault = end_of(tmp_path, no_room)
    assert fault["outcome"] == "crashed"
    assert fault["reason"].startswith("disk full at /data/x: OSError: [Errno 28]")
