"""How long cells take together on a cluster. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.cluster.room import Placement, Room, Shape


@dataclass(frozen=True)
class Wall:
    """`seconds` is None when nothing can be said; `where` names the machines, or says why not."""

    seconds: float | None
    where: str


def makespan(
    jobs: Iterable[tuple[float, Shape]],
    nodes: Mapping[str, Mapping[str, float]],
    max_gpus: float = math.inf,
    max_concurrent: float = math.inf,
) -> float | None:
    """The seconds until all `jobs` (seconds each, and what its gang reserves) are done on `nodes`
    (CPU and GPU of each), or None when one of them never fits.

    Longest first: whenever room comes free, the longest gang that fits starts (list scheduling,
    Graham 1969). The engine's order serves comparison before speed, so this is what it comes near
    to, not a promise.
    """
    room = Room(nodes)
    waiting: dict[Shape, list[float]] = {}  # of each kind of gang the seconds, the longest last
    for seconds, shape in jobs:
        waiting.setdefault(shape, []).append(seconds)
    for shape, all_seconds in waiting.items():
        if not room.could_hold(shape) or _gpus(shape) > max_gpus:
            return None
        all_seconds.sort()
    now, gpus = 0.0, 0.0
    running: list[tuple[float, int, Shape, Placement]] = []
    started = 0
    while waiting or running:
        full: set[Shape] = set()
        while len(running) < max_concurrent and (free := waiting.keys() - full):
            shape = max(free, key=lambda s: (waiting[s][-1], s))
            fits = gpus + _gpus(shape) <= max_gpus
            placement = room.place(shape) if fits else None
            if placement is None:
                full.add(shape)
                continue
            room.take(shape, placement)
            gpus += _gpus(shape)
            started += 1
            heapq.heappush(running, (now + waiting[shape].pop(), started, shape, placement))
            if not waiting[shape]:
                del waiting[shape]
        now, _, shape, placement = heapq.heappop(running)
        room.give(shape, placement)
        gpus -= _gpus(shape)
    return now


def _gpus(shape: Shape) -> float:
    return shape.workers * shape.gpus
