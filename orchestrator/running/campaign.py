"""The cells of a start on their way to their ends: what starts when, on which gang, and whether it
is tried again. What waits is ordered here; Ray Tune, which runs them (tune_loop.py), is handed a
cell when the cell's gang stands, so that no trial waits for room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from orchestrator.cluster import evidence
from orchestrator.cluster.gang import Job
from orchestrator.cluster.gangs import Gang, Gangs
from orchestrator.cluster.queue import NO_LIMITS, Limits, Queue, shape_of
from orchestrator.running.control import Control
from orchestrator.sweep.failure import Policy

NAP_S = 0.05  # between two looks while nothing runs; Tune itself would look once a second
STUCK_S = 60.0  # nothing runs and nothing starts: then a person is told


class Recorder(Protocol):
    """Who is told what happens to the cells (the ledger and the progress display, joined in
    orchestrator.running.recorder)."""

    def started(self, job: Job, ray_tags: dict[str, str]) -> None: ...
    def points(self, job: Job, points: list[dict[str, Any]]) -> None: ...
    def ended(self, job: Job, end: dict[str, Any]) -> None: ...
    def dropped(self, job: Job, reason: str) -> None: ...
    def tick(self) -> None: ...
    def message(self, text: str) -> None: ...


class Campaign:
    """The cells of one start of a sweep. `more` is asked, whenever nothing waits or runs, for
    further cells; `spent` says when a budget is used up, after which nothing starts."""

    def __init__(
        self,
        jobs: Iterable[Job],
        recorder: Recorder,
        gangs: Gangs,
        policy: Policy,
        *,
        control: Control | None = None,
        limits: Limits = NO_LIMITS,
        more: Callable[[], list[Job]] = list,
        spent: Callable[[], bool] = bool,
    ) -> None:
        self.recorder, self.gangs, self.policy, self.control = recorder, gangs, policy, control
        self.more, self.spent = more, spent
        self.queue = Queue(limits)
        self.queue.add(jobs)
        self.finished = False
        self.out_of_budget = False
        self._paused: list[tuple[float, Job]] = []  # faulted cells that wait a while
        self._ended: list[str] = []
        self._steps: dict[str, int] = {}  # the last one that an attempt has reported

    # ------------------------------------------------------------ what happens next

    def next(self) -> Gang | None:
        """A gang that stands, for its cell; None when there is none now, or `finished`. Waits while
        no supervisor has a cell, for then Tune has no events either."""
        began = time.monotonic()
        while True:
            self._steer()
            self._start()
            if ready := self.gangs.ready():
                return self.gangs.hand_out(ready[0])
            if any(gang.handed for gang in self.gangs):
                return None
            if not self.gangs.running and not self._left():
                self.finished = True
                return None
            if not self.gangs.running and time.monotonic() - began > STUCK_S:
                began = time.monotonic()
                self._say_stuck()
            time.sleep(NAP_S)
            self.recorder.tick()

    def _left(self) -> bool:
        """Whether anything is still to be started; asks for more when nothing is."""
        if not len(self.queue) and not self._paused and not self._is_ended:
            self.queue.add(self.more())
        waiting = bool(len(self.queue) or self._paused)
        self.out_of_budget = waiting and self.spent()
        return waiting and not self._is_over

    @property
    def _is_over(self) -> bool:
        """Nothing is started any more."""
        return self._is_ended or self.spent()

    @property
    def _is_ended(self) -> bool:
        draining = self.control is not None and self.control.draining
        return draining or self.policy.aborted is not None

    def _start(self) -> None:
        self.gangs.look()
        now = time.monotonic()
        self.queue.add(job for at, job in self._paused if at <= now)
        self._paused = [(at, job) for at, job in self._paused if at > now]
        for gang, fault in self.gangs.failed():
            if fault is None:  # the room is somebody else's
                self.queue.add([gang.work])
                self.gangs.drop(gang)
            else:
                self._ended_with(gang, {"fault": fault})
        if not len(self.queue) or self._is_over:
            return
        room = self.gangs.room()
        for start in self.queue.start(room, self.gangs.running, self._may):
            self.gangs.take(start)

    def _may(self, job: Job) -> bool:
        return self.control is None or self.control.starting(job["id"])

    def _steer(self) -> None:
        """Do what `ctl` asks for."""
        if self.control is None:
            return
        running = {gang.work["id"]: gang for gang in self.gangs if gang.job}
        self.control.read(running, self._ended)
        for id in self.control.cancelled(set(running)):
            fault = evidence.fault("cancelled", self.control.reason(id))
            self._ended_with(running[id], {"fault": fault, "cancelled": True})
        if not self.control.drops:
            return  # thousands may wait, and this is asked many times a second
        waiting = [*self.queue.waiting(), *(job for _, job in self._paused)]
        for job in waiting:
            if self.control.dropped(job["id"]):
                self.queue.remove(job["id"])
                self._paused = [w for w in self._paused if w[1] is not job]
                self._ended.append(job["id"])
                self.recorder.dropped(job, self.control.reason(job["id"]))

    def _say_stuck(self) -> None:
        for job in self.queue.waiting()[:1]:
            shape = shape_of(job)
            if not self.gangs.room().could_hold(shape):
                self.recorder.message(
                    f"{job['label']} waits: the nodes that are left, or what others leave of "
                    f"them, cannot hold its {shape.workers} workers of {shape.cpus:g} CPUs and "
                    f"{shape.gpus:g} GPUs"
                )

    # ------------------------------------------------------------ what the supervisors say

    def started(self, ticket: str, start: dict[str, Any]) -> None:
        if gang := self._at_work(ticket):
            self.recorder.started(gang.work, _ray_tags(start))

    def points(self, ticket: str, points: list[dict[str, Any]]) -> None:
        if gang := self._at_work(ticket):
            id = gang.work["id"]  # a score may come when its step is long past
            self._steps[id] = max(self._steps.get(id, 0), *(point["step"] for point in points))
            self.recorder.points(gang.work, points)

    def ended(self, ticket: str, end: dict[str, Any]) -> None:
        """An attempt has a result or a fault. What the supervisor of a gang that was ended from
        here has to say afterwards is not heard."""
        if gang := self._at_work(ticket):
            gang.over = True
            self._ended_with(gang, end)

    def closed(self, ticket: str) -> None:
        """The supervisor is free again, and so is its gang."""
        if gang := self.gangs.with_ticket(ticket):
            self.gangs.release(gang)

    def _at_work(self, ticket: str) -> Gang | None:
        gang = self.gangs.with_ticket(ticket)
        return gang if gang and not gang.over else None

    def _ended_with(self, gang: Gang, end: dict[str, Any]) -> None:
        job = gang.work
        if "fault" in end:
            if end["fault"]["outcome"] == "lost":
                self.gangs.suspect(gang)
            self.gangs.drop(gang)  # whatever went wrong may live on in the processes
        said = {**end, "step": self._steps.get(job["id"])}
        again = self.policy.ended(job["id"], job["label"], said)
        again = again and not end.get("cancelled") and not self._is_over
        if gave_up := "fault" in end and self.policy.gave_up(job["id"]):
            end["fault"]["reason"] += f"; {gave_up}"
        if again:
            at = time.monotonic() + self.policy.pause_s(job["id"])
            self._paused.append((at, job))
        else:
            self._ended.append(job["id"])
        self.recorder.ended(job, {**end, "again": again})


def _ray_tags(start: dict[str, Any]) -> dict[str, str]:
    return {
        "ray.job_id": start["job"],
        "ray.actor_ids": ",".join(start["actors"]),
        "ray.nodes": ",".join(start["nodes"]),
        **start["machine"],
    }
