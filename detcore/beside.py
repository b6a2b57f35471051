"""Work in a process of its own, beside this one's, that ends when this one does."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


def context() -> ForkServerContext:
    """Where such processes come from. Not fork: the parent has threads (Ray, gloo) whose locks a
    fork would copy locked. The fork server imports torch once."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["detcore.predict"])
    return server


def die_with_parent(*_: object) -> None:
    """To be called in such a process. Its parent in the system's eyes is the fork server, which
    outlives a process that was killed; this waits for the real parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent watch").start()


class Died(Exception):
    """The process ended without an answer: it was killed, or its call raised."""


class Beside:
    """One call, begun at once. `call` and what it returns are pickled; what it raises is not.
    OSError or EOFError where the process cannot be started."""

    def __init__(self, call: Callable[[], Any]) -> None:
        processes = context()
        self._pipe, theirs = processes.Pipe(duplex=False)
        self._process = processes.Process(target=_answer, args=(call, theirs), daemon=True)
        try:
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe

    def is_done(self, patience_s: float = 0.0) -> bool:
        """Whether there is an answer, or none will come; waits for it as long as that."""
        return self._pipe.poll(patience_s)

    def result(self) -> Any:
        """What `call` returned, waited for; raises Died."""
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise Died(f"exit code {self._process.exitcode}") from None
        finally:
            self.end()

    def end(self) -> None:
        """Whatever it is at."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _answer(call: Callable[[], Any], pipe: Connection) -> None:
    die_with_parent()
    try:
        value = call()
    except Exception:
        sys.exit(1)
    pipe.send(value)
