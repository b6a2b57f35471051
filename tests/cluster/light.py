"""Light cells for tests of the scheduler: they sleep where others train; no torch is imported.

A job's config says what to do: `sleep_s`, and with `once` what goes wrong in the first attempt.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENTRY = "tests.cluster.light:sleep_cell"
BEAT_S = 0.05


def sleep_cell(
    job: dict[str, Any],
    rank: int,
    local_rank: int,
    meeting: str,
    *,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], bool],
) -> dict[str, Any]:
    """Sleep for `config.sleep_s` seconds, alive; rank 0 first does what `once` says, once."""
    once, done = job["config"].get("once"), Path(job["folder"]) / "once"
    if once and rank == 0 and not done.exists():
        done.touch()
        _go_wrong(once)
    left = job["config"]["sleep_s"]
    while left > 0:
        time.sleep(min(BEAT_S, left))
        left -= BEAT_S
        alive()
    return {"outcome": "converged", "reason": "", "step": 1, "metrics": {}, "values": {}}


def _go_wrong(how: str) -> None:
    if how == "raise":
        raise RuntimeError("it went wrong")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def job(
    id: str, seed: int = 0, ranks: int = 1, sleep_s: float = 0.0, gpus: float = 1, **more: Any
) -> dict[str, Any]:
    """A cell as `orchestrator.planning.plan.Plan.job` gives it."""
    config = {"seed": seed, "train": {"steps": 1}, "sleep_s": sleep_s}
    return {
        "id": id,
        "label": id,
        "config": config,
        "folder": f"/tmp/light-{id}",
        "entry": ENTRY,
        "ranks": ranks,
        "cpus_per_worker": 0 if gpus else 1,
        "gpus_per_worker": gpus,
        "hang_timeout_s": 60.0,
        "max_hours": None,
        "baseline": False,
    } | more


class Noted:
    """A recorder that keeps what it is told, with the time."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str, Any]] = []

    def started(self, job: dict[str, Any], ray_tags: dict[str, str]) -> None:
        self._note("started", job, ray_tags)

    def points(self, job: dict[str, Any], points: list[dict[str, Any]]) -> None:
        self._note("points", job, points)

    def ended(self, job: dict[str, Any], end: dict[str, Any]) -> None:
        self._note("ended", job, end)

    def dropped(self, job: dict[str, Any], reason: str) -> None:
        self._note("dropped", job, reason)

    def tick(self) -> None:
        """Time passes without being noted."""

    def message(self, text: str) -> None:
        self.events.append((time.monotonic(), "message", "", text))

    def _note(self, what: str, job: dict[str, Any], about: Any) -> None:
        self.events.append((time.monotonic(), what, job["id"], about))

    def of(self, what: str) -> list[tuple[float, str, Any]]:
        return [(at, id, about) for at, event, id, about in self.events if event == what]
