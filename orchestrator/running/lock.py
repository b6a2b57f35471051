"""One orchestrator at a time for a sweep, and for a cell, in a folder: two would write the same
checkpoints."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.sweep.spec import SweepError


@contextmanager
def alone(folder: Path, sweep: str) -> Iterator[None]:
    """Hold the sweep's lock in `folder` (made here). The system lets go of it when this process
    ends, however it ends.

    Raises SweepError when another process holds it, and when `folder` cannot be written to.
    """
    file = folder / f"{sweep}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+")
    except OSError as error:
        raise SweepError(
            f"{file}: cannot be written ({error.strerror}); run from a folder you can write to"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SweepError(
                f"sweep {sweep} is being run from this folder by another process "
                f"({lock.read().strip() or 'unknown'}); wait for it, or end it with "
                "python -m orchestrator.ctl drain SWEEP.yaml (or cancel)"
            ) from None
        except OSError:
            pass  # a network disk without locks: the ledger still tells of attempts that run
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


@contextmanager
def hold_cells(folder: Path, cells: Mapping[str, str]) -> Iterator[None]:
    """Hold `cells` (id to label), which this process means to run: sweeps that share an arm share
    its cells' folders.

    A cell is the byte of one file whose offset is the cell's id, so thousands of cells take one
    file descriptor. The system lets go when this process ends, however it ends. Nothing else may
    open this file in this process: closing it would let go of all (POSIX).

    Raises SweepError when another process holds one of them.
    """
    with (folder / ".cells.lock").open("a+b") as file:
        for cell, label in cells.items():
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(cell, 16))
            except (BlockingIOError, PermissionError):
                raise SweepError(
                    f"cell {label} is held by {_holder(folder, file.fileno(), int(cell, 16))}, "
                    "which shares it with this sweep; wait for that one or stop it, or leave the "
                    "cells that both have out with --only"
                ) from None
            except OSError:
                break  # a network disk without locks: the ledger still tells of attempts that run
        yield


def _holder(folder: Path, file: int, offset: int) -> str:
    """Who holds the byte at `offset`: `sweep NAME (process PID)`, as far as it can be told."""
    layout = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, process
    asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    try:
        pid = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, asked))[4]
    except (OSError, struct.error):
        return "another sweep"
    for lock in sorted(folder.glob("[!.]*.lock")):
        if lock.read_text(errors="replace").strip() == f"process {pid}":
            return f"sweep {lock.stem} (process {pid})"
    return f"another sweep (process {pid})"
