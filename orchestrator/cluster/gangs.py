"""The gangs of a running sweep: each a placement group that is reserved whole, with its ranks in
it, kept warm from cell to cell as long as the room is not needed otherwise.

They belong to the orchestrator's process, so that nothing of them outlives it. Supervisors find the
ranks by name.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster import evidence, last_words
from orchestrator.cluster.gang import Job, Rank
from orchestrator.cluster.queue import Start, shape_of
from orchestrator.cluster.room import Placement, Room, Shape

REFRESH_S = 1.0  # how often it is looked which nodes live
IDLE_S = 30.0  # a gang without a cell gives its room back: others may wait for it
PATIENCE_S = 60.0  # for room that ought to be there; then somebody else uses it
START_S = 600.0  # for its processes to start, once there is room: a dead network disk hangs them
SUSPECT_S = 15.0
NODE = "ray.io/node-id"


@dataclass(eq=False)
class Gang:
    """`job` is the cell that it is for, None while it is idle; `where` each rank says where it is,
    once all have started."""

    name: str
    shape: Shape
    placement: Placement
    group: Any
    ranks: list[Any]
    entry: str
    job: Job | None
    asked: list[Any] = field(default_factory=list)
    where: list[dict[str, Any]] = field(default_factory=list)
    ticket: str = ""  # names the attempt that it was handed to a supervisor for
    over: bool = False  # that attempt has ended; its supervisor has not
    since: float = field(default_factory=time.monotonic)

    def serves(self, shape: Shape, placement: Placement, entry: str) -> bool:
        return (self.shape, self.placement, self.entry) == (shape, placement, entry)

    @property
    def work(self) -> Job:
        assert self.job is not None
        return self.job

    @property
    def broken(self) -> dict[str, Any] | None:
        """The fault that keeps one of its ranks from training at all."""
        return next((w["broken"] for w in self.where if w.get("broken")), None)

    @property
    def handed(self) -> bool:
        return bool(self.ticket)

    def for_supervisor(self) -> dict[str, Any]:
        return {"name": self.name, "ticket": self.ticket, "where": self.where}

    def turn_to(self, job: Job | None) -> None:
        self.job, self.ticket, self.over, self.since = job, "", False, time.monotonic()


class Gangs:
    """`with Gangs() as gangs: ...`; leaving ends all of them. `closed` is told the nodes that live,
    by id, and says on which of them no gang may lie now."""

    def __init__(self, closed: Callable[[Collection[str]], set[str]] | None = None) -> None:
        self._closed = closed or (lambda ids: set())
        self._all: list[Gang] = []
        self._names = itertools.count()
        self._tickets = itertools.count()
        self._looked = 0.0
        self._suspects: dict[str, float] = {}  # until when
        self._foreign: dict[str, tuple[float, float]] = {}
        self._nodes: dict[str, Mapping[str, float]] = {}

    def __enter__(self) -> Gangs:
        return self

    def __exit__(self, *_: object) -> None:
        for gang in list(self._all):
            self.drop(gang)

    def __iter__(self) -> Iterator[Gang]:
        return iter(self._all)

    def with_ticket(self, ticket: str) -> Gang | None:
        """The gang that works under `ticket`; None when it was ended meanwhile."""
        return next((g for g in self._all if g.ticket == ticket), None)

    @property
    def running(self) -> list[Job]:
        """The cells that have a gang."""
        return [gang.job for gang in self._all if gang.job]

    # ------------------------------------------------------------ room

    def room(self) -> Room:
        """What is free, or would be without gangs that idle."""
        now = time.monotonic()
        others = dict(self._foreign)
        suspects = [id for id in self._nodes if self._suspects.get(id, 0) >= now]
        if len(suspects) < len(self._nodes):
            others |= dict.fromkeys(suspects, (math.inf, math.inf))
        room = Room(self._nodes, others)
        for gang in self._all:
            if gang.job:
                room.take(gang.shape, gang.placement)
            else:
                room.warm.setdefault(gang.shape, []).append(gang.placement)
        return room

    def look(self) -> None:
        """See which nodes live, and end gangs that idle too long; to be called often."""
        import ray

        if time.monotonic() - self._looked < REFRESH_S:
            return
        self._looked = time.monotonic()
        nodes = {n["NodeID"]: n["Resources"] for n in ray.nodes() if n["Alive"]}
        if self._foreign and all(g.where for g in self._all):
            self._measure_foreign()
        closed = self._closed(nodes)
        self._nodes = {id: has for id, has in nodes.items() if id not in closed}
        for gang in [g for g in self._all if not g.job]:
            gone = not set(gang.placement) <= nodes.keys()
            if gone or time.monotonic() - gang.since > IDLE_S:
                self.drop(gang)

    def _measure_foreign(self) -> None:
        """What others use of each node, by what is left and what is ours."""
        import ray

        left = ray._private.state.available_resources_per_node()
        ours = Room(self._nodes)
        for gang in self._all:
            if gang.where:
                ours.take(gang.shape, gang.placement)
        self._foreign = {}
        for id, (cpus, gpus) in ours.free.items():
            has = left.get(id, {})
            used = (max(cpus - has.get("CPU", 0), 0), max(gpus - has.get("GPU", 0), 0))
            if any(u > 0.01 for u in used):
                self._foreign[id] = used

    # ------------------------------------------------------------ gangs

    def take(self, start: Start) -> Gang:
        """A gang for a cell: one that idles in just that place, or a new one."""
        job, placement = start
        shape, entry = shape_of(job), job["entry"]
        for gang in self._all:
            if gang.job is None and gang.serves(shape, placement, entry):
                gang.turn_to(job)
                return gang
        self._make_way(shape, placement)
        gang = self._new(job, shape, placement)
        self._all.append(gang)
        return gang

    def _make_way(self, shape: Shape, placement: Placement) -> None:
        """End idle gangs where the new one needs what they hold."""
        held = Room(self._nodes)
        for gang in self._all:
            held.take(gang.shape, gang.placement)
        held.take(shape, placement)
        for gang in [g for g in self._all if not g.job]:
            if any(min(held.free.get(id, (0, 0))) < -0.001 for id in gang.placement):
                held.give(gang.shape, gang.placement)
                self.drop(gang)

    def _new(self, job: Job, shape: Shape, placement: Placement) -> Gang:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        each = {"CPU": shape.cpus, "GPU": shape.gpus}
        each = {what: n for what, n in each.items() if n} or {"CPU": 0.001}
        name = f"gang-{os.getpid()}-{next(self._names)}"
        group = placement_group(
            [each] * shape.workers,
            strategy="PACK",
            name=name,
            bundle_label_selector=[{NODE: id} for id in placement],
        )
        actor = ray.remote(Rank)
        ranks = [
            actor.options(
                name=f"{name}-rank{i}",
                num_cpus=shape.cpus,
                num_gpus=shape.gpus,
                max_concurrency=3,  # it trains, is polled, and may be asked where it is
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=i
                ),
            ).remote(job["entry"], job["folder"], i)
            for i in range(shape.workers)
        ]
        asked = [rank.where.remote() for rank in ranks]
        return Gang(name, shape, placement, group, ranks, job["entry"], job, asked)

    def ready(self) -> list[Gang]:
        """Those that wait for a supervisor: the ranks have started, and see their GPUs."""
        for gang in self._all:
            if not gang.where:
                self._ask(gang)
        return [
            gang
            for gang in self._all
            if gang.job and gang.where and not gang.handed and not gang.broken
        ]

    def hand_out(self, gang: Gang) -> Gang:
        """Give a gang its ticket."""
        gang.ticket = f"{gang.name}-{next(self._tickets)}"
        return gang

    def failed(self) -> list[tuple[Gang, dict[str, Any] | None]]:
        """Gangs that could not start, and the fault of their cells; None for room that somebody
        else has, for which the cell waits on."""
        out: list[tuple[Gang, dict[str, Any] | None]] = []
        for gang in [g for g in self._all if g.job and not g.handed]:
            if gang.broken:
                out.append((gang, gang.broken))
            elif not gang.where and not set(gang.placement) <= self._nodes.keys():
                out.append((gang, evidence.fault("lost", "its node went before the cell began")))
            elif not gang.where and self._has_no_room(gang):
                out.append((gang, None))
            elif not gang.where and time.monotonic() - gang.since > START_S:
                reason = f"its processes did not start within {START_S:.0f} s"
                out.append((gang, evidence.fault("timeout", reason)))
        if any(fault is None for _, fault in out):
            self._measure_foreign()
        return out

    def _has_no_room(self, gang: Gang) -> bool:
        return time.monotonic() - gang.since > PATIENCE_S and not gang.group.wait(0)

    def _ask(self, gang: Gang) -> None:
        import ray

        done, waiting = ray.wait(gang.asked, num_returns=len(gang.asked), timeout=0)
        try:
            if waiting:
                ray.get(done)  # a rank that died is not waited for
                return
            where = ray.get(done if len(done) == 1 else gang.asked)
            on_node: dict[str, list[str]] = {}
            for w in where:
                w["local_rank"] = len(on_node.setdefault(w["node"], []))
                on_node[w["node"]] += w["gpus"] or [""]
            for rank, w in zip(gang.ranks, where, strict=True):
                rank.see_gpus.remote([g for g in on_node[w["node"]] if g])
        except ray.exceptions.RayError as error:
            where = [{"broken": evidence.of_death(error, None, self._last_words(gang))}]
        gang.where = where

    def _last_words(self, gang: Gang) -> str:
        folder = gang.work["folder"]
        said = (last_words.left(folder, i) for i in range(gang.shape.workers))
        return next(filter(None, said), "")

    def release(self, gang: Gang) -> None:
        """The cell has ended well; the gang idles."""
        gang.turn_to(None)

    def suspect(self, gang: Gang) -> None:
        """A process of `gang` has died: perhaps its node has, which Ray takes a while to notice.
        Meanwhile cells start on others, if there are others."""
        self._suspects |= dict.fromkeys(gang.placement, time.monotonic() + SUSPECT_S)

    def drop(self, gang: Gang) -> None:
        """End its processes and give back its room, whatever it is at."""
        import ray
        from ray.util.placement_group import remove_placement_group

        if gang in self._all:
            self._all.remove(gang)
            for rank in gang.ranks:
                ray.kill(rank)
            remove_placement_group(gang.group)
