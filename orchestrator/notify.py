"""Telling a webhook how a sweep ended: the key `notify` of a sweep file. No part of a cell's id.

The address is a secret (who has a Slack webhook's can write there): it is never printed, and what
goes on record goes through `redacted`.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from orchestrator.runs import FAULTS, SETTLED

Event = Literal["done", "drained", "failed", "aborted"]
TIMEOUT = 5.0  # seconds for the answer; the sweep ends at most so much later
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Notify:
    """`webhook`: an http or https address, or `$NAME` of the environment variable that holds one.
    Events: `done` (every cell has a result), `failed` (some have none), `drained`, `aborted` (ended
    by an error, by Ctrl-C or by cancel)."""

    webhook: str = ""
    on: tuple[Event, ...] = ("done", "drained", "failed", "aborted")

    def __post_init__(self) -> None:
        if not self.webhook:
            raise ValueError("webhook is missing: an address, or $NAME of a variable with it")
        if not _VARIABLE.fullmatch(self.webhook) and (wrong := _wrong(self.webhook)):
            raise ValueError(f"webhook {wrong}, or $NAME of a variable with one")  # never its value

    def address(self) -> str:
        """Where to post to. Raises ValueError when the variable does not hold it; one line."""
        found = _VARIABLE.fullmatch(self.webhook)
        if not found:
            return self.webhook
        name = found[1] or found[2]
        address = os.environ.get(name, "").strip()
        if not address:
            raise ValueError(f"the environment variable {name} is not set")
        if wrong := _wrong(address):
            raise ValueError(f"the environment variable {name} {wrong}")
        return address


@dataclass
class Ending:
    """How a sweep ended, as far as it is known. `outcomes`: of every cell, `waiting` for none."""

    event: Event = "aborted"
    reason: str = ""
    outcomes: Callable[[], Iterable[str]] = field(default=list)
    link: str = ""


@contextmanager
def notifying(
    notify: Notify | None, sweep: str, say: Callable[[str], None] = lambda text: None
) -> Iterator[Ending]:
    """Tell the webhook when the block is left, and `say` in a line if it was not told. An exception
    is `aborted` and goes on; nothing that happens here fails a sweep."""
    ending = Ending()
    if notify is not None:
        try:
            notify.address()
        except ValueError as error:
            say(f"notify: {error}: nobody will be told")
    try:
        yield ending
    except BaseException as error:
        ending.event = "aborted"
        ending.reason = _first_line(error)
        raise
    finally:
        if notify is not None and ending.event in notify.on:
            _tell(notify, message(sweep, ending), say)


def event_of(all_settled: bool, stopped: str = "", aborted: str = "") -> Event:
    """The event of a sweep that ended without an exception; `stopped`: see `Control.stopped`."""
    if all_settled:
        return "done"
    if aborted or stopped == "cancelled":
        return "aborted"
    return "drained" if stopped else "failed"


def message(sweep: str, ending: Ending) -> dict[str, Any]:
    """What is posted. `text` is the headline again: chats show that."""
    counts = Counter(ending.outcomes())
    settled = sum(counts[name] for name in SETTLED)
    faults = [f"{counts[name]} {name}" for name in FAULTS if counts[name]]
    headline = f"{sweep}: {ending.event}: {settled} of {counts.total()} cells settled"
    headline += f", {', '.join(faults)}" if faults else ""
    headline += f": {ending.reason}" if ending.reason else ""
    return {
        "sweep": sweep,
        "event": ending.event,
        "counts": dict(counts),
        "headline": headline,
        "link": ending.link if ending.link.startswith(("http://", "https://")) else None,
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "text": headline,
    }


def redacted(text: str) -> str:
    """`text`, a sweep file or arguments, without the address of any webhook in it."""
    return re.sub(r"""(webhook['"]?\s*[:=]\s*['"]?https?://)[^\s'",}]*""", r"\1***", text)


def _tell(notify: Notify, content: dict[str, Any], say: Callable[[str], None]) -> None:
    answer: list[str] = []
    # a thread, because looking up a name knows no time-out
    thread = threading.Thread(
        target=lambda: answer.append(_post(notify, content)), name="notify", daemon=True
    )
    thread.start()
    thread.join(TIMEOUT + 1)
    problem = answer[0] if answer else f"no answer in {TIMEOUT:g} s"
    if problem:
        say(f"notify: the webhook was not told that the sweep is {content['event']}: {problem}")


def _post(notify: Notify, content: dict[str, Any]) -> str:
    """Post; what went wrong, without the address, or an empty text."""
    try:
        request = urllib.request.Request(
            notify.address(),
            json.dumps(content).encode(),
            {"Content-Type": "application/json", "User-Agent": "detection-ablation"},
        )
        urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return f"no connection ({getattr(error.reason, 'strerror', None) or 'no such host'})"
    except TimeoutError:
        return f"no answer in {TIMEOUT:g} s"
    except Exception as error:  # its text may hold the address
        return type(error).__name__
    return ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A post that is sent elsewhere would arrive as an empty question (urllib)."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _wrong(address: str) -> str:
    """What is wrong with an address, in words that do not hold it."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", address):
        return "must be an http or https address"
    return "must have no user and password in it" if "@" in parts.netloc else ""


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return redacted(f"{type(error).__name__}: {error}".partition("\n")[0][:300])
