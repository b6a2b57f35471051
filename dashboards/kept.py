"""What the live application has read: each thing at most once in a while, whoever asks, and kept
for when the store does not answer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dashboards.store import LedgerError
from dashboards.which import UnknownSweep

T = TypeVar("T")

MOST = 64  # things that are kept


@dataclass(frozen=True)
class Read:
    """`body` is `data` as JSON; `as_of` in seconds since the epoch. `stale`: why it could not be
    read again; empty for what is up to date."""

    data: Any
    body: bytes
    etag: str
    as_of: float
    stale: str = ""


class Kept:
    """For any number of threads. A thing is read again once it is `fresh_s` old; so is the answer
    that the store gave instead, so that nobody waits for a dead server again and again."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._slots: OrderedDict[object, _Slot] = OrderedDict()

    def get(self, key: object, ask: Callable[[], T], make: Callable[[T], Any]) -> Read:
        """What `make` makes of the store's answer to `ask`; it is not made anew of the same object.
        Raises LedgerError when `ask` fails and nothing is kept, and UnknownSweep."""
        slot = self._slot(key)
        with slot.lock:
            if slot.asked is None or time.monotonic() - slot.asked >= self._fresh_s:
                slot.take(ask, make)
                slot.asked = time.monotonic()
            if slot.found is None:
                raise LedgerError(slot.error)
            return slot.found

    def _slot(self, key: object) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            if len(self._slots) > MOST:
                self._slots.popitem(last=False)
            return slot


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked: float | None = None
        self.answer: object = None
        self.found: Read | None = None
        self.error = ""

    def take(self, ask: Callable[[], T], make: Callable[[T], Any]) -> None:
        try:
            answer = ask()
        except UnknownSweep:  # it was deleted: what is kept of it is no news
            self.found = self.answer = None
            raise
        except LedgerError as error:
            self.error = " ".join(str(error).split())
            if self.found:
                self.found = replace(self.found, stale=self.error)
            return
        if self.found and answer is self.answer:
            self.found = replace(self.found, as_of=time.time(), stale="")
            return
        data = make(answer)
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
        body = text.encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self.answer, self.found = answer, Read(data, body, tag, time.time())
