"""What is done about faults: the key `failure` of a sweep file, and the decisions that follow from
it while a sweep runs. Pure; nothing of it is part of a cell's id.

No remedy touches the config: another attempt is the same cell again, from its checkpoint. A
diverged or stalled cell is a result and has no other attempt.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboards.outcomes import SETTLED
from detcore.config import ConfigError, from_dict, nearest
from orchestrator.sweep.document import Document, KeyPath
from orchestrator.wording import count

UNLIMITED, NEVER = "unlimited", "never"

RETRIES: Mapping[str, float] = {
    "lost": math.inf,  # nobody's fault, and the checkpoint keeps what was done
    "crashed": 2,
    "timeout": 1,
    "oom": 0,  # it would need a smaller batch, and that would be another arm
}
"""Further attempts in the same start after an attempt that ended so, for each cell. Outcomes that
are not here have none."""

STUCK = 10
"""Losses without a further step after which `unlimited` ends: what kills a cell every time, such as
a container's limit on memory, looks like a machine that was taken away."""

GAVE_UP = f"lost {STUCK} times without a further step"


@dataclass(frozen=True)
class Failure:
    """`failure` of a sweep file, see sweeps/README.md."""

    hang_timeout_s: float = 600.0  # a gang that reports no step for this long is ended
    max_hours: float | None = None  # and so is an attempt that takes longer; None: no limit
    retries: Mapping[str, float] = field(default_factory=lambda: dict(RETRIES))
    abort_after: float = 3  # cells with the same traceback end the sweep; infinite: never

    def to_json(self) -> dict[str, Any]:
        """As a sweep file writes it."""
        retries = {k: UNLIMITED if math.isinf(n) else int(n) for k, n in self.retries.items()}
        after = NEVER if math.isinf(self.abort_after) else int(self.abort_after)
        return {
            "hang_timeout_s": self.hang_timeout_s,
            "max_hours": self.max_hours,
            "retries": retries,
            "abort_after": after,
        }


# ---------------------------------------------------------------- the sweep file


@dataclass(frozen=True)
class _Numbers:
    hang_timeout_s: float = 600.0
    max_hours: float | None = None
    crash_retries: int | None = None  # in short for retries.crashed and retries.timeout


def read_failure(document: Document) -> Failure:
    """`failure`; raises SweepError."""
    at: KeyPath = ("failure",)
    own = ["retries", "abort_after"]
    body = _mapping(document, at, [*_Numbers.__dataclass_fields__, *own])
    plain = {key: value for key, value in body.items() if key not in own}
    try:
        numbers = from_dict(_Numbers, plain, at)
    except ConfigError as error:
        raise document.error(error.path, error.problem) from None
    for name in ("hang_timeout_s", "max_hours"):
        value = getattr(numbers, name)
        if value is not None and value <= 0:
            raise document.error((*at, name), f"must be positive, is {value:g}")
    return Failure(
        numbers.hang_timeout_s,
        numbers.max_hours,
        _retries(document, numbers.crash_retries),
        _count(document, (*at, "abort_after"), body.get("abort_after", 3), NEVER, least=1),
    )


def _retries(document: Document, in_short: int | None) -> dict[str, float]:
    at: KeyPath = ("failure", "retries")
    given = document.data.get("failure", {}).get("retries", {})
    for key in given if isinstance(given, dict) else ():
        if key in SETTLED:
            problem = "is a result, not a fault: such a cell is never run again"
            raise document.error((*at, key), problem)
    body = _mapping(document, at, list(RETRIES), given)
    retries = dict(RETRIES)
    if in_short is not None:
        short = ("failure", "crash_retries")
        _count(document, short, in_short)
        for key in ("crashed", "timeout"):
            if key in body:
                raise document.error(
                    (*at, key), "is said by failure.crash_retries as well; leave one out"
                )
            retries[key] = in_short
    for key, value in body.items():
        retries[key] = _count(document, (*at, key), value, UNLIMITED if key == "lost" else "")
    return retries


def _mapping(document: Document, at: KeyPath, keys: list[str], body: Any = None) -> dict[str, Any]:
    if body is None:
        body = document.data.get(at[-1], {})
    if not isinstance(body, dict):
        raise document.error(at, f"must be a mapping with {', '.join(keys)}, is {body!r}")
    for key in body:
        if key not in keys:
            problem = f"unknown key {key!r}; {nearest(str(key), keys)}"
            raise document.error((*at, str(key)), problem)
    return body


def _count(document: Document, at: KeyPath, value: Any, word: str = "", least: int = 0) -> float:
    """A whole number, or `word`, which is infinitely many."""
    if word and value == word:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int):
        also = f" or {word}" if word else ""
        raise document.error(at, f"must be a whole number{also}, is {value!r}")
    if value < least:
        how = f"be at least {least}" if least else "not be negative"
        raise document.error(at, f"must {how}, is {value}")
    return value


# ---------------------------------------------------------------- while a sweep runs


@dataclass
class _Seen:
    """A traceback, and the cells that met it."""

    last_line: str
    labels: dict[str, str] = field(default_factory=dict)  # by cell id
    times: Counter[str] = field(default_factory=Counter)
    stays: bool = False  # another attempt met it again, or there is no other


@dataclass
class _Losses:
    """How far a cell has come, and how often it was lost since."""

    step: int = -1  # the highest that any of its attempts has reported
    since: int = 0


class Policy:
    """Which attempts are followed by another, for one start of a sweep.

    `aborted` is None, or the message with which the sweep ends: the same traceback came from
    `abort_after` different cells. Attempts at one cell do not add up, as one arm may well be broken
    and the others not; for the same reason the cells are of at least two arms. And one of them has
    met it twice, or is not tried again: what hits all running cells at once and is gone with the
    next attempt, a file server that was away, does not end a sweep.
    """

    def __init__(self, failure: Failure) -> None:
        self.aborted: str | None = None
        self._failure = failure
        self._ends: dict[str, Counter[str]] = defaultdict(Counter)  # by cell, by outcome
        self._losses: dict[str, _Losses] = defaultdict(_Losses)  # by cell
        self._seen: dict[str, _Seen] = {}

    def ended(self, cell_id: str, label: str, end: Mapping[str, Any]) -> bool:
        """An attempt has ended; whether the cell is run again. `end` has a `result`, or a `fault`
        with `outcome`, `reason`, `traceback` and perhaps `final`; and perhaps `step`, the last that
        the attempt reported."""
        fault = end.get("fault")
        if fault is None:
            return False
        outcome = fault["outcome"]
        self._ends[cell_id][outcome] += 1
        allowed = 0.0 if fault.get("final") else self._failure.retries.get(outcome, 0)
        self._note_progress(cell_id, outcome, end.get("step"))
        again = self._ends[cell_id][outcome] <= allowed and not self.gave_up(cell_id)
        if outcome == "crashed":
            self._compare(cell_id, label, fault, again)
        return again and self.aborted is None

    def gave_up(self, cell_id: str) -> str:
        """Why a cell that `unlimited` would try again is not; empty while it is."""
        unlimited = math.isinf(self._failure.retries.get("lost", 0))
        return GAVE_UP if unlimited and self._losses[cell_id].since >= STUCK else ""

    def pause_s(self, cell_id: str) -> float:
        """How long a cell waits for its next attempt: not at all after the first fault, then 5, 10,
        20 ... 60 s, so that a node that takes one gang after the other is not a hot loop."""
        faults = self._ends[cell_id].total()
        return 0.0 if faults < 2 else min(60.0, 5.0 * 2 ** min(faults - 2, 10))

    def _note_progress(self, cell_id: str, outcome: str, step: int | None) -> None:
        losses = self._losses[cell_id]
        if step is not None and step > losses.step:
            losses.step, losses.since = step, 0
        elif outcome == "lost":
            losses.since += 1

    def _compare(self, cell_id: str, label: str, fault: Mapping[str, Any], again: bool) -> None:
        trace = fault.get("traceback", "")
        seen = self._seen.setdefault(
            signature(trace, fault["reason"]), _Seen(last_line(trace) or fault["reason"])
        )
        seen.labels[cell_id] = label
        seen.times[cell_id] += 1
        seen.stays = seen.stays or not again or seen.times[cell_id] > 1
        arms = {text.rpartition(" seed=")[0] for text in seen.labels.values()}
        many = self._failure.abort_after
        common = len(seen.labels) >= many and len(arms) >= min(many, 2)
        if self.aborted is None and common and seen.stays:
            self.aborted = _message(seen)


def _message(seen: _Seen) -> str:
    labels = list(seen.labels.values())
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return (
        f"aborted: {count(len(labels), 'cell')} ended with the same traceback, {seen.last_line} "
        f"({', '.join(labels[:5])}{more}); all of it: python -m orchestrator.why "
        f"{next(iter(seen.labels))}. What has settled is kept; put it right and start again "
        "(failure.abort_after says after how many cells)"
    )


# ---------------------------------------------------------------- tracebacks

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]*)", line (?P<line>\d+),? in (?P<function>.+)$')


def signature(trace: str, reason: str) -> str:
    """What the same mistake has in common wherever it shows: the lines of code that led to it and
    the exception's type. Not its text, which names a rank, a size or a path; that alone must do
    where there is no traceback, less its numbers and paths."""
    frames = [m for line in _of_one_thread(trace) if (m := _FRAME.match(line))]
    if not frames:
        return re.sub(r"(/[\w.\-]+)+|0x[0-9a-f]+|\d+", "#", reason)
    # the same file lies elsewhere on another node
    where = [f"{'/'.join(m['file'].split('/')[-2:])}:{m['line']}" for m in frames]
    return " ".join([*where, last_line(trace).partition(":")[0]])


def last_line(trace: str) -> str:
    """The line of a traceback that names the exception; empty where there is no traceback."""
    lines = trace.splitlines()
    if lines and not lines[0].startswith("Traceback"):
        return lines[0]  # of a process that died: what killed it comes first
    ends = [i for i, line in enumerate(lines) if _FRAME.match(line) and line.startswith("  File")]
    after = (
        (line for line in lines[ends[-1] + 1 :] if line and not line[0].isspace()) if ends else ()
    )
    return next(iter(after), "").strip()


def _of_one_thread(trace: str) -> list[str]:
    """Of the stacks of a process that died, that of the thread which was at work."""
    lines = trace.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("Current thread")), None)
    if start is None:
        return lines
    end = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
    return lines[start:end]
