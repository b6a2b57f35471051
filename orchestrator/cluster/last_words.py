"""What a process writes in the moment it dies, for whoever finds it dead.

Of a worker that is gone Ray says the same, whether it was killed, had a segmentation fault or left
through `os._exit`. The first is nobody's fault and is tried again for as long as it takes; the
others are crashes. A process that is killed cannot write; one that crashes can.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn


@contextmanager
def kept(folder: Path | str, rank: int) -> Iterator[None]:
    """Inside, this process leaves its last words in `folder`: the stacks of its threads when a
    signal ends it (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), or who called `os._exit`. Where
    nothing can be written it leaves none."""
    file = _file(folder, rank)
    try:
        out = file.open("w")
    except OSError:
        yield
        return
    leave, ours = os._exit, os.getpid()

    def say_and_leave(status: int) -> NoReturn:
        if os.getpid() == ours:  # a forked child ends like this, and rightly
            said = [f"os._exit({status})\n", *traceback.format_stack()]
            with suppress(OSError):
                os.write(out.fileno(), "".join(said).encode())
        leave(status)

    with out:
        faulthandler.enable(out)
        os._exit = say_and_leave
        try:
            yield
        finally:
            os._exit = leave
            faulthandler.enable(sys.__stderr__) if sys.__stderr__ else faulthandler.disable()
    with suppress(OSError):
        file.unlink()  # it lives


def left(folder: Path | str, rank: int) -> str:
    """The last words of a rank that is dead; empty when it left none, or they cannot be read from
    here. They are taken away: nobody shall take them for those of the next attempt."""
    file = _file(folder, rank)
    try:
        words = file.read_text(encoding="utf-8", errors="replace").strip()
        file.unlink()
    except OSError:
        return ""
    return words


def _file(folder: Path | str, rank: int) -> Path:
    return Path(folder) / f"rank{rank}.died"
