"""Telling a webhook how a sweep ended: the key `notify` of a sweep file. No part of a cell's id.

The address is a secret (who has a Slack webhook's can write there). A sweep file goes on record
and into version control, so it names the environment variable that holds the address; one that
holds the address itself is refused, and the address is never printed.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from dashboards.outcomes import FAULTS, SETTLED
from detcore.config import ConfigError, from_dict, nearest
from orchestrator.sweep.document import Document, KeyPath

Event = Literal["done", "drained", "failed", "aborted"]
TIMEOUT = 5.0  # seconds for the answer; the sweep ends at most so much later
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_FORM = "{webhook: $NAME, on: [done, ...]}"
_NO_NAME = (
    "must be the name of an environment variable, as $SWEEP_WEBHOOK: an address that anybody can "
    "post to does not belong in a file"
)


@dataclass(frozen=True)
class Notify:
    """`webhook`: `$NAME` of the environment variable that holds an http or https address. Events:
    `done` (every cell has a result), `failed` (some have none), `drained`, `aborted` (ended by an
    error, by Ctrl-C or by cancel)."""

    webhook: str = ""
    on: tuple[Event, ...] = ("done", "drained", "failed", "aborted")

    def __post_init__(self) -> None:
        if not self.webhook:
            raise ValueError("webhook is missing: $NAME of the environment variable that has it")
        if not _VARIABLE.fullmatch(self.webhook):
            raise ValueError(f"webhook {_NO_NAME}")  # never its value

    def address(self) -> str:
        """Where to post to. Raises ValueError when the variable does not hold it; one line."""
        name = self.webhook.removeprefix("$")
        address = os.environ.get(name, "").strip()
        if not address:
            raise ValueError(f"the environment variable {name} is not set")
        if wrong := _wrong(address):
            raise ValueError(f"the environment variable {name} {wrong}")
        return address


# ---------------------------------------------------------------- the sweep file


def read_notify(document: Document) -> Notify | None:
    """`notify`; raises SweepError."""
    if "notify" not in document.data:
        return None
    refuse_addresses(document, document.data)
    given = document.data["notify"]
    if isinstance(given, dict):  # YAML 1.1 reads the word `on` as true
        given = {"on" if key is True else key: value for key, value in given.items()}
    try:
        return from_dict(Notify, given, ("notify",))
    except ConfigError as error:
        raise document.error(error.path, error.problem) from None


def refuse_addresses(document: Document, part: Mapping[str, Any], at: KeyPath = ()) -> None:
    """Raise SweepError, without the value, if `notify` in a part of a sweep holds anything else
    than `$NAME` for the webhook. `part` lies at `at`: the file, one of its profiles, an argument.
    Each is to be asked for itself, as all are on record, also what another one replaces."""
    at = (*at, "notify")
    given = part.get("notify")
    if given is None:
        return
    if not isinstance(given, dict):
        raise document.error(at, f"must be a mapping: {_FORM}")
    for key in given:
        if key in ("webhook", "on", True):
            continue
        if not re.fullmatch(r"\w+", str(key)):  # {webhook:https://...} is one key, all of it
            raise document.error(at, f"write it as {_FORM}, with a space after each colon")
        problem = f"unknown key {key!r}; {nearest(str(key), ['on', 'webhook'])}"
        raise document.error((*at, str(key)), problem)
    webhook = given.get("webhook")
    if webhook is not None and not (isinstance(webhook, str) and _VARIABLE.fullmatch(webhook)):
        raise document.error((*at, "webhook"), _NO_NAME)


# ---------------------------------------------------------------- when a sweep ends


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
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
