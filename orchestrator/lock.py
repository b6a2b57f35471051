"""One orchestrator at a time for a sweep in a folder: two would write the same checkpoints."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.spec import SweepError


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
                f"({lock.read().strip() or 'unknown'}); wait for it, or stop it first"
            ) from None
        except OSError:
            pass  # a network disk without locks: the ledger still tells of attempts that run
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield
