"""Which cells start next. Pure: it knows jobs and free room, neither Ray nor time.

Cells wait seed by seed, so that a partial table is a comparison already; in a seed the baseline
first, with which all the others are paired, then large gangs before small ones, and long before
short. A cell that does not fit yet may be overtaken, but not for ever: the first one that waits
lays claim to nodes, and what comes after it starts only elsewhere. A cell that is run again keeps
its place.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

from orchestrator.cluster.gang import Job
from orchestrator.cluster.room import Placement, Room, Shape


class Start(NamedTuple):
    """A cell that starts now, and where."""

    job: Job
    placement: Placement


class Limits(NamedTuple):
    """At most so many cells and GPUs at once; None for as many as there is room for."""

    cells: int | None = None
    gpus: float | None = None


NO_LIMITS = Limits()


def shape_of(job: Job) -> Shape:
    return Shape(job["ranks"], job["cpus_per_worker"], job["gpus_per_worker"])


Entry = tuple[tuple[float, ...], int, Job]
"""Its rank, its place among equals, the cell."""


class Queue:
    """The cells that wait. Those of one shape are a list of their own: where the first does not
    fit, none of the others is looked at, and a look takes no longer when more cells wait."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.limits = limits
        self._waiting: dict[Shape, list[Entry]] = {}
        self._arrived: dict[str, int] = {}  # the place among equals, kept over further attempts
        self._seeds: dict[int, int] = {}
        self._claim: tuple[str, frozenset[str]] = ("", frozenset())

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, jobs: Iterable[Job]) -> None:
        """Also cells that are to be run again."""
        for job in jobs:
            self._seeds.setdefault(job["config"]["seed"], len(self._seeds))
            arrived = self._arrived.setdefault(job["id"], len(self._arrived))
            entries = self._waiting.setdefault(shape_of(job), [])
            bisect.insort(entries, (self._rank(job), arrived, job), key=_place)

    def waiting(self) -> list[Job]:
        """In the order in which they would start with room for all."""
        return [job for _, _, job in heapq.merge(*self._waiting.values(), key=_place)]

    def remove(self, id: str) -> None:
        for shape, entries in self._waiting.items():
            self._waiting[shape] = [entry for entry in entries if entry[2]["id"] != id]

    def start(
        self, room: Room, running: Iterable[Job], may: Callable[[Job], bool] = lambda job: True
    ) -> list[Start]:
        """Take out what starts now, and take its part of `room`. `may` says of a cell whether it is
        not held back; a cell that is lays no claim."""
        running = list(running)
        cells = len(running)
        gpus = sum(job["ranks"] * job["gpus_per_worker"] for job in running)
        starts: list[Start] = []
        claimed: frozenset[str] | None = None
        firsts = [(_place(all[0]), 0, shape) for shape, all in self._waiting.items() if all]
        heapq.heapify(firsts)
        while firsts:
            _, at, shape = heapq.heappop(firsts)
            entries = self._waiting[shape]
            job = entries[at][2]
            if may(job):
                more = shape.workers * shape.gpus
                within = (self.limits.cells is None or cells < self.limits.cells) and (
                    self.limits.gpus is None or gpus + more <= self.limits.gpus or not cells
                )
                if not within:
                    break  # what comes after it would keep it waiting: there is one limit for all
                placement = room.place(shape, claimed or ())
                if placement is None:
                    if claimed is None:
                        claimed = self._claimed(job, shape, room)
                    continue  # what did not fit once does not fit now either
                room.take(shape, placement)
                del entries[at]
                starts.append(Start(job, placement))
                cells, gpus = cells + 1, gpus + more
            else:
                at += 1
            if at < len(entries):
                heapq.heappush(firsts, (_place(entries[at]), at, shape))
        return starts

    def _claimed(self, job: Job, shape: Shape, room: Room) -> frozenset[str]:
        """The nodes kept free for the first cell that waits: the same ones until it starts."""
        id, nodes = self._claim
        if id != job["id"] or not room.could_hold(shape, nodes):
            self._claim = (job["id"], room.soonest(shape))
        return self._claim[1]

    def _rank(self, job: Job) -> tuple[float, ...]:
        return (
            self._seeds[job["config"]["seed"]],
            not job.get("baseline", False),
            -shape_of(job).size,
            -job["config"]["train"]["steps"],
        )


def _place(entry: Entry) -> tuple[tuple[float, ...], int]:
    return entry[:2]
