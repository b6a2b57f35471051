"""What is still to be told to MLflow. A dead server blocks nothing and loses nothing: all that
could not be sent stays here, in order, and is sent when the server answers again. What this process
takes to its grave is in the cells' `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import posixpath
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.store import one_line
from detcore.result import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000  # metrics in one request: MLflow's limit
EAGER = 500  # so many waiting metrics are sent at once, fewer wait for their turn
TURN = 2.0  # seconds for each run that has something to say, so that many cells ask no more often
SHORTEST, LONGEST = 5.0, 60.0  # seconds between two batches of one run
PAUSES = (5.0, 10.0, 30.0, 60.0)  # seconds to leave a dead server alone

Number = tuple[str, float, int, int]  # key, value, timestamp in ms, step
Job = Callable[[str], None]  # takes the run id; may be repeated, so it must not matter how often

_KEY = re.compile(r"[\w.\- :/]{1,250}", re.ASCII)
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


def is_key(key: str) -> bool:
    """Whether MLflow takes `key` as a metric's name. One that it does not take would block its
    whole batch for ever."""
    return (
        bool(_KEY.fullmatch(key))
        and posixpath.normpath(key) == key
        and not key.startswith((".", "/"))
    )


def numbers(point: Point) -> list[Number]:
    """A point as MLflow stores it. Infinities become NaN: the store would make 1.8e308 of them,
    which passes every filter."""
    when = int(point.time * 1000)
    return [
        (key, float(value) if math.isfinite(value) else math.nan, when, int(point.step))
        for key, value in point.values.items()
        if is_key(key)
    ]


def read_points(file: Path) -> list[Point]:
    """The points of a cell's `metrics.jsonl`; a half-written line (its writer was killed) is
    skipped. [] for no file."""
    points = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            raw = json.loads(line)
            values = {str(k): float(v) for k, v in raw["values"].items() if v is not None}
            points.append(Point(int(raw["step"]), float(raw["time"]), values))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return points


@dataclass
class Record:
    """One run and what is still to be said about it, in the order in which it is said."""

    label: str
    run_id: str | None = None
    create: Callable[[], str] | None = None
    opening: deque[Job] = field(default_factory=deque)
    waiting: deque[Number] = field(default_factory=deque)
    seen: set[tuple[int, float]] = field(default_factory=set)  # (step, time) of points taken
    tags: dict[str, str] = field(default_factory=dict)
    ending: Job | None = None
    sent_at: float = 0.0  # time.monotonic
    refused: bool = False

    @property
    def is_clear(self) -> bool:
        if self.refused:
            return True
        return self.run_id is not None and not (
            self.opening or self.waiting or self.tags or self.ending
        )

    def add(self, points: Iterable[Point]) -> list[str]:
        """Queue points that were not queued before; returns keys that MLflow does not take."""
        bad = []
        for point in points:
            mark = (point.step, point.time)
            if mark not in self.seen:
                self.seen.add(mark)
                self.waiting.extend(numbers(point))
                bad += [key for key in point.values if not is_key(key)]
        return bad


class Outbox:
    """Sends records. `say` is called with one line when the server goes away, when it is back, and
    when it refuses a run."""

    def __init__(self, client: MlflowClient, say: Callable[[str], None]) -> None:
        self.client = client
        self.say = say
        self.records: dict[str, Record] = {}
        self._failures = 0
        self._retry_at = 0.0

    @property
    def is_down(self) -> bool:
        return self._failures > 0

    def pump(self, force: bool = False) -> bool:
        """Send what is due (with `force`: everything, and even to a server that was dead a moment
        ago). Never raises for a dead server; returns whether nothing is left to send."""
        now = time.monotonic()
        if force or now >= self._retry_at:
            told = sum(bool(record.waiting) for record in self.records.values())
            interval = min(max(SHORTEST, TURN * told), LONGEST)
            for record in list(self.records.values()):
                due = len(record.waiting) >= EAGER or now - record.sent_at >= interval
                pressing = bool(record.opening or record.tags or record.ending)
                if (force or due or pressing) and not record.is_clear and not self._push(record):
                    break
        return all(record.is_clear for record in self.records.values())

    def _push(self, record: Record) -> bool:
        """Whether the server answered."""
        from mlflow.exceptions import MlflowException

        try:
            self._tell(record)
        except MlflowException as error:
            if error.error_code in _REFUSALS:
                record.refused = True
                record.waiting.clear()
                self.say(f"MLflow refuses the run of {record.label}: {one_line(error)}")
                return True
            return self._failed(error)
        except Exception as error:  # the HTTP and the database layer each have their own kinds
            return self._failed(error)
        if self._failures:
            self._failures, self._retry_at = 0, 0.0
            self.say("MLflow answers again; what was kept is being sent")
        return True

    def _tell(self, record: Record) -> None:
        from mlflow.entities import Metric

        if record.run_id is None:
            assert record.create is not None
            record.run_id = record.create()
        while record.opening:
            record.opening[0](record.run_id)
            record.opening.popleft()
        while record.waiting:
            batch = [record.waiting[i] for i in range(min(BATCH, len(record.waiting)))]
            self.client.log_batch(record.run_id, metrics=[Metric(*n) for n in batch])
            for _ in batch:
                record.waiting.popleft()
        for key, value in list(record.tags.items()):
            self.client.set_tag(record.run_id, key, value)
            del record.tags[key]
        if record.ending:
            record.ending(record.run_id)
            record.ending = None
        record.sent_at = time.monotonic()

    def _failed(self, error: Exception) -> bool:
        if not self._failures:
            self.say(
                f"MLflow does not answer ({one_line(error, 120)}); results are kept and sent later"
            )
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self._retry_at = time.monotonic() + pause
        return False
