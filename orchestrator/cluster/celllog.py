"""A log in the cell's folder of all that a rank says while it trains: Python's logging, warnings
and prints, and what libraries and child processes write (NCCL, OpenCV, a dying interpreter).
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import logging
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

LIMIT = 1_000_000
"""Bytes of a log. A library that warns in every step must not fill the disk of a long sweep."""

LOOK_EVERY = 2.0  # seconds between two looks at the size
OUT, ERR = 1, 2
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Log(io.TextIOWrapper):
    """Writes at once; a full disk must not fail a cell that prints."""

    def __init__(self, file: io.FileIO, encoding: str, errors: str) -> None:
        super().__init__(file, encoding, errors, line_buffering=True, write_through=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


@contextmanager
def cell_log(folder: Path, rank: int, *, limit: int = LIMIT) -> Iterator[Path]:
    """Send what this process says to `folder`/rank<rank>.log for the length of the block; the file.

    It is appended to, under a line that says when, where and by which process. An exception that
    leaves the block is written with its traceback, and goes on. Where the file cannot be written,
    the block runs all the same and everything goes where it went. When the file outgrows `limit`
    bytes, its newer half is kept.

    One block at a time in a process: standard output is the process's, not a thread's. The file is
    written to directly: a pipe with a reader in this process would stand still when a library
    writes much while it holds the interpreter.
    """
    file = folder / f"rank{rank}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        print(f"{file}: cannot be written ({error.strerror})", file=sys.stderr)
        yield file
        return
    with ExitStack() as stack:
        stack.callback(os.close, number)
        _bound(file, limit)
        stack.enter_context(_bounded(file, limit))
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        host, pid = socket.gethostname(), os.getpid()
        with suppress(OSError):
            os.write(number, f"=== {began} rank {rank}, process {pid} on {host}\n".encode())
        stack.enter_context(_sent_to(number))
        try:
            yield file
        except BaseException:
            with suppress(OSError):
                traceback.print_exc()
            raise


@contextmanager
def _sent_to(number: int) -> Iterator[None]:
    """Standard output and error, Python's and the system's, go to the open file `number`."""
    outer = sys.stdout, sys.stderr
    _flush()
    with ExitStack() as stack:
        for standard in (OUT, ERR):
            with suppress(OSError):  # a daemon has none
                kept = os.dup(standard)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, standard)
            os.dup2(number, standard)
        if not faulthandler.is_enabled():
            faulthandler.enable(ERR)  # the last words of a process that a signal ends
        ours = _Log(io.FileIO(number, "w", closefd=False), "utf-8", "backslashreplace")
        stack.callback(ours.close)
        sys.stdout = sys.stderr = ours
        handler = logging.StreamHandler(ours)
        handler.setFormatter(logging.Formatter(FORMAT))
        root = logging.getLogger()
        if not any(_is_standard(other) for other in root.handlers):
            root.addHandler(handler)
        # a process that is kept warm says a warning again in the next cell
        stack.enter_context(warnings.catch_warnings())
        try:
            yield
        finally:
            root.removeHandler(handler)
            _flush(*outer)
            sys.stdout, sys.stderr = outer


@contextmanager
def _bounded(file: Path, limit: int) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_EVERY):
            _bound(file, limit)

    watcher = threading.Thread(target=watch, name="cell log", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        _bound(file, limit)


def _bound(file: Path, limit: int) -> None:
    """Keep the newer half of a file that is larger than `limit`; what is written to it meanwhile
    may be lost."""
    with suppress(OSError):
        size = file.stat().st_size
        if size <= limit:
            return
        with file.open("rb") as old:
            old.seek(size - limit // 2)
            tail = old.read()
        tail = tail[tail.find(b"\n") + 1 :]
        mark = f"=== {size - len(tail)} bytes before this line were cut\n".encode()
        with file.open("ab") as new:  # as all who write here: at the end, wherever that is
            new.truncate(0)
            new.write(mark + tail)


def _is_standard(handler: logging.Handler) -> bool:
    """Whether a handler writes to what is sent to the log anyway."""
    try:
        return isinstance(handler, logging.StreamHandler) and handler.stream.fileno() in (OUT, ERR)
    except (OSError, ValueError, AttributeError):  # a stream without a file
        return False


def _flush(*others: TextIO) -> None:
    """What is still in buffers belongs where it was meant to go: Python's and the C library's."""
    for stream in (sys.stdout, sys.stderr, *others):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with suppress(OSError):
        ctypes.CDLL(None).fflush(None)
