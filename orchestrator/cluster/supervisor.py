"""The Tune trainable: a light process for a cell that sets its gang to work and passes on what it
says.

It imports no torch, takes no CPU, and lies on the head node, where it survives the loss of any
other. The gang was reserved and started before Tune heard of the cell (orchestrator.cluster.gangs).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from orchestrator.cluster import evidence, last_words
from orchestrator.cluster.gang import Job
from orchestrator.tracking.provenance import gang_tags

BUNDLE = {"node:__internal_head__": 0.001}
POLL_S = 0.2
TELL_S = 5.0  # between two reports of points: each costs the one driver of all cells its time
ANSWER_S = 120.0  # for questions that take a rank no time, on a machine that is very busy
GRACE_S = 5.0  # how long a rank's error waits for the death that may have caused it

Report = Callable[[dict[str, Any]], None]


def run_cell(params: dict[str, Any]) -> None:
    """Tune's function trainable. Reports dicts with an `event`: start, points, end."""
    from ray import tune

    job: Job = params["job"]
    end = _run(job, params["gang"], tune.report)
    tune.report({"event": "end", "cell": job["id"], **end})


def _run(job: Job, gang: dict[str, Any], report: Report) -> dict[str, Any]:
    import ray

    where = gang["where"]
    try:
        ranks = [ray.get_actor(f"{gang['name']}-rank{i}") for i in range(job["ranks"])]
        meeting = _meeting(job, where, ranks[0])
        on_gpu = bool(job["gpus_per_worker"])
        asked = [
            rank.machine.remote(w["local_rank"], on_gpu)
            for rank, w in zip(ranks, where, strict=True)
        ]
        machine = gang_tags(ray.get(asked, timeout=ANSWER_S))
    except ray.exceptions.GetTimeoutError:
        return {"fault": evidence.fault("timeout", f"no answer for {ANSWER_S:.0f} s at its start")}
    except (ray.exceptions.RayError, ValueError) as error:
        return {"fault": evidence.of_death(error, None, "")}
    report(
        {
            "event": "start",
            "cell": job["id"],
            "job": where[0]["job"],
            "actors": [ray.get_runtime_context().get_actor_id()] + [w["actor"] for w in where],
            "nodes": sorted({w["ip"] for w in where}),
            "machine": machine,
        }
    )
    # the task carries the cell's label: this is the name that Ray's dashboard shows
    running = {
        rank.run.options(name=f"{job['label']} rank={i}").remote(
            job, i, where[i]["local_rank"], meeting
        ): i
        for i, rank in enumerate(ranks)
    }
    return _watch(job, ranks[0], running, report)


def _meeting(job: Job, where: list[dict[str, Any]], first: Any) -> str:
    """Where the ranks find each other: on one node at a file, so that no port is opened."""
    import ray

    if len({w["node"] for w in where}) == 1:
        return f"file:{job['folder']}/.meeting-{uuid.uuid4().hex[:8]}"
    port = ray.get(first.free_port.remote(), timeout=ANSWER_S)
    return f"tcp://{where[0]['ip']}:{port}"


def _watch(job: Job, first: Any, running: dict[Any, int], report: Report) -> dict[str, Any]:
    """Pass on rank 0's points until every rank has ended, or one has failed."""
    told = _Points(job["id"], report)
    try:
        return _end(job, first, running, told)
    finally:
        told.tell()


class _Points:
    """Points of a cell, reported some seconds' worth at once, the first without delay."""

    def __init__(self, cell: str, report: Report) -> None:
        self._cell, self._report = cell, report
        self._held: list[dict[str, Any]] = []
        self._next = 0.0  # time.monotonic

    def take(self, points: list[dict[str, Any]]) -> None:
        self._held += points
        if time.monotonic() >= self._next:
            self.tell()

    def tell(self) -> None:
        if self._held:
            self._report({"event": "points", "cell": self._cell, "points": self._held})
            self._held, self._next = [], time.monotonic() + TELL_S


def _end(job: Job, first: Any, running: dict[Any, int], told: _Points) -> dict[str, Any]:
    import ray

    began = time.monotonic()
    longest = (job.get("max_hours") or float("inf")) * 3600
    ends: dict[int, dict[str, Any]] = {}
    waiting = list(running)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=POLL_S)
        for future in done:
            ends[running[future]] = _end_of(job, future, running[future])
        faults = [e["fault"] for e in ends.values() if "fault" in e]
        if faults:
            return {"fault": _first_cause(job, faults, waiting, running)}
        seen = _poll(first, job["hang_timeout_s"])
        told.take(seen["points"])
        if waiting and seen["silent_s"] > job["hang_timeout_s"]:
            return {"fault": evidence.of_silence(seen["silent_s"])}
        if waiting and time.monotonic() - began > longest:
            return {"fault": evidence.of_overrun(job["max_hours"])}
    return {"result": ends[0]["result"]}


def _end_of(job: Job, future: Any, rank: int) -> dict[str, Any]:
    import ray

    try:
        end: dict[str, Any] = ray.get(future)
        return end
    except ray.exceptions.RayError as error:
        return {"fault": evidence.of_death(error, rank, last_words.left(job["folder"], rank))}


def _poll(rank: Any, patience_s: float) -> dict[str, Any]:
    """What rank 0 has to say; nothing, and as long a silence, when it does not even answer. Of its
    death its own task tells."""
    import ray

    try:
        answer = rank.poll.options(enable_task_events=False).remote()
        seen: dict[str, Any] = ray.get(answer, timeout=patience_s)
        return seen
    except ray.exceptions.GetTimeoutError:
        return {"points": [], "silent_s": patience_s + 1}
    except (ray.exceptions.OutOfMemoryError, ray.exceptions.RayActorError):
        time.sleep(POLL_S)
        return {"points": [], "silent_s": 0.0}


def _first_cause(
    job: Job, faults: list[dict[str, Any]], waiting: list[Any], running: dict[Any, int]
) -> dict[str, Any]:
    """The fault that is not just the echo of another: what ends meanwhile is heard, too."""
    import ray

    give_up = time.monotonic() + GRACE_S
    while waiting and time.monotonic() < give_up:
        done, waiting = ray.wait(waiting, timeout=POLL_S)
        for future in done:
            end = _end_of(job, future, running[future])
            if "fault" in end:
                faults.append(end["fault"])
    return evidence.first_cause(faults)
