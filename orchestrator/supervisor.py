"""The Tune trainable: a light process per gang that forms it and passes on what it says.

It sits in bundle 0 of the trial's placement group; the ranks sit in bundles 1..K of the same group,
so that a gang is reserved whole or not at all. The module's globals live as long as the
supervisor's process, which Tune reuses for the next cell of the same shape: this is what keeps the
ranks warm.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from orchestrator.gang import Job, Rank

SUPERVISOR_BUNDLE = {"node:__internal_head__": 0.001}
"""Supervisors live on the head node, where they survive the loss of any other; they take no CPU."""

RETRIED = ("crashed", "timeout")  # another attempt from the checkpoint may end otherwise
POLL_S = 0.2
GRACE_S = 5.0  # how long a rank's error waits for the death that may have caused it


class GangLost(RuntimeError):
    """A process or node of the gang is gone; Tune starts the cell again from its checkpoint."""


class _Pool:
    """The rank actors of this supervisor, valid as long as the placement group is the same."""

    group: str = ""
    ranks: list[Any] = []  # noqa: RUF012 (one pool per process: the class is the instance)

    @classmethod
    def take(cls, job: Job) -> list[Any]:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.get_current_placement_group()
        if cls.group != group.id.hex():
            cls.drop()
            actor = ray.remote(Rank)
            cls.ranks = [
                actor.options(
                    name=f"gang-{group.id.hex()[-8:]}-{os.getpid()}-rank{i}",
                    num_cpus=job["cpus_per_worker"],
                    num_gpus=job["gpus_per_worker"],
                    max_concurrency=3,
                    max_restarts=0,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        group, placement_group_bundle_index=i + 1
                    ),
                ).remote()
                for i in range(job["ranks"])
            ]
            cls.group = group.id.hex()
        return cls.ranks

    @classmethod
    def drop(cls) -> None:
        import ray

        for rank in cls.ranks:
            ray.kill(rank)
        cls.group, cls.ranks = "", []


def bundles(job: Job) -> Any:
    """What a cell asks of the cluster, all at once."""
    from ray import tune

    each = {"CPU": job["cpus_per_worker"], "GPU": job["gpus_per_worker"]}
    if not any(each.values()):
        each["CPU"] = 0.001  # Ray drops empty bundles, and the ranks would miss theirs
    return tune.PlacementGroupFactory(
        [SUPERVISOR_BUNDLE] + [{k: v for k, v in each.items() if v}] * job["ranks"], strategy="PACK"
    )


def run_cell(params: dict[str, Any]) -> None:
    """Tune's function trainable. Reports dicts with an `event`: start, points, end."""
    from ray import tune

    job: Job = params["job"]
    try:
        for retries_left in reversed(range(1 + job["crash_retries"])):
            end = _run(job, tune.report)
            if "fault" in end:
                _Pool.drop()  # whatever went wrong may live on in the processes
            tune.report({"event": "end", "cell": job["id"], **end})
            if "result" in end or not retries_left or not _worth_a_retry(end["fault"]):
                return
    except BaseException:
        _Pool.drop()
        raise


def _worth_a_retry(fault: dict[str, Any]) -> bool:
    return fault["outcome"] in RETRIED and not fault.get("final")


def _run(job: Job, report: Any) -> dict[str, Any]:
    import ray

    ranks = _Pool.take(job)
    try:
        where = ray.get([r.where.remote() for r in ranks])
        on_node: dict[str, list[str]] = {}
        local_ranks: list[int] = []
        for w in where:
            local_ranks.append(sum(o["node"] == w["node"] for o in where[: len(local_ranks)]))
            on_node.setdefault(w["node"], []).extend(w["gpus"])
        ray.get([r.see_gpus.remote(on_node[w["node"]]) for r, w in zip(ranks, where, strict=True)])
    except ray.exceptions.RayActorError as error:
        raise GangLost(f"a worker died before the cell began: {_cause(error)}") from None
    context = ray.get_runtime_context()
    report(
        {
            "event": "start",
            "cell": job["id"],
            "job": context.get_job_id(),
            "actors": [context.get_actor_id()] + [w["actor"] for w in where],
            "nodes": sorted({w["ip"] for w in where}),
        }
    )
    meeting = f"tcp://{where[0]['ip']}:{where[0]['port']}"
    if len(on_node) == 1:  # on one node the ranks meet at a file: no port is opened
        meeting = f"file:{job['folder']}/.meeting-{uuid.uuid4().hex[:8]}"
    # the task carries the cell's label: this is the name that Ray's dashboard shows
    running = {
        rank.run.options(name=f"{job['label']} rank={i}").remote(job, i, local_ranks[i], meeting): i
        for i, rank in enumerate(ranks)
    }
    return _watch(job, ranks, running, report)


def _watch(job: Job, ranks: list[Any], running: dict[Any, int], report: Any) -> dict[str, Any]:
    """Pass on rank 0's points until every rank has ended, or one has failed."""
    import ray

    ends: dict[int, dict[str, Any]] = {}
    waiting = list(running)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=POLL_S)
        for future in done:
            ends[running[future]] = _end_of(future, running[future])
        faults = [e["fault"] for e in ends.values() if "fault" in e]
        if faults:
            return {"fault": _first_cause(faults, waiting, running)}
        seen = _poll(ranks[0], job["hang_timeout_s"])
        if seen["points"]:
            report({"event": "points", "cell": job["id"], "points": seen["points"]})
        if waiting and seen["silent_s"] > job["hang_timeout_s"]:
            reason = f"no sign of life for {seen['silent_s']:.0f} s (failure.hang_timeout_s)"
            return {"fault": _fault("timeout", reason)}
    return {"result": ends[0]["result"]}


def _fault(outcome: str, reason: str) -> dict[str, Any]:
    """A fault that no rank has described itself."""
    return {
        "outcome": outcome,
        "reason": reason,
        "traceback": "",
        "time": time.time(),
        "secondhand": False,
    }


def _end_of(future: Any, rank: int) -> dict[str, Any]:
    import ray

    try:
        end: dict[str, Any] = ray.get(future)
        return end
    except ray.exceptions.OutOfMemoryError as error:  # killed by Ray's memory monitor
        return {"fault": _fault("oom", f"worker {rank}: {_cause(error)}")}
    except ray.exceptions.RayActorError as error:
        raise GangLost(f"worker {rank} died: {_cause(error)}") from None


def _poll(rank: Any, patience_s: float) -> dict[str, Any]:
    """What rank 0 has to say; nothing, and as long a silence, when it does not even answer."""
    import ray

    try:
        answer = rank.poll.options(enable_task_events=False).remote()
        seen: dict[str, Any] = ray.get(answer, timeout=patience_s)
        return seen
    except ray.exceptions.GetTimeoutError:
        return {"points": [], "silent_s": patience_s + 1}
    except ray.exceptions.OutOfMemoryError:
        return {"points": [], "silent_s": 0.0}  # the rank's own task tells it, too
    except ray.exceptions.RayActorError as error:
        raise GangLost(f"worker 0 died: {_cause(error)}") from None


def _first_cause(
    faults: list[dict[str, Any]], waiting: list[Any], running: dict[Any, int]
) -> dict[str, Any]:
    """The error that came first and is not just the echo of a peer's; a death seen meanwhile is
    raised as GangLost."""
    import ray

    give_up = time.monotonic() + GRACE_S
    while waiting and time.monotonic() < give_up:
        done, waiting = ray.wait(waiting, timeout=POLL_S)
        for future in done:
            end = _end_of(future, running[future])
            if "fault" in end:
                faults.append(end["fault"])
    faults.sort(key=lambda f: (f["secondhand"], f["time"]))
    return faults[0]


def _cause(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
