"""What the nodes of a cluster have free, and where on them a gang would lie.

A gang is laid on one node if any node could hold it: ranks that talk through a network train
slower, and a table compares speeds, too. Only a gang that is larger than every node is laid on
several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

Placement = tuple[str, ...]
"""The node of each worker of a gang."""

SMALLEST = 1e-6  # Ray counts in ten-thousandths


class Shape(NamedTuple):
    """What a gang asks for: so many workers, each with so much of one node."""

    workers: int
    cpus: float = 1
    gpus: float = 0

    @property
    def size(self) -> float:
        """What makes a gang hard to place: its GPUs, or its CPUs on a cluster without."""
        return self.workers * (self.gpus or self.cpus / 1000)


class Room:
    """`nodes`: CPU and GPU of each node, by its id; `others`: what of them others use, who are not
    waited for."""

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float]],
        others: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self.nodes = {id: (node.get("CPU", 0), node.get("GPU", 0)) for id, node in nodes.items()}
        taken = others or {}
        self.total = {
            id: (max(cpus - used[0], 0), max(gpus - used[1], 0))
            for id, (cpus, gpus) in self.nodes.items()
            for used in [taken.get(id, (0, 0))]
        }
        self.free = {id: list(has) for id, has in self.total.items()}
        self.warm: dict[Shape, list[Placement]] = {}  # where processes of a gang wait for a cell

    def take(self, shape: Shape, placement: Iterable[str]) -> None:
        self._add(shape, placement, -1)

    def give(self, shape: Shape, placement: Iterable[str]) -> None:
        self._add(shape, placement, 1)

    def place(self, shape: Shape, without: Collection[str] = ()) -> Placement | None:
        """Where a gang of `shape` can lie now, leaving out the nodes `without`; None for nowhere.

        Where one is warm, else on the node that it fills best; one that no node could hold takes
        the emptiest nodes.
        """
        room = {id: _times(shape, self.free[id]) for id in self.free if id not in without}
        for warm in self.warm.get(shape, []):
            if all(room.get(id, 0) >= warm.count(id) for id in warm):
                self.warm[shape].remove(warm)
                return warm
        if self._fits_a_node(shape):
            enough = [id for id, n in room.items() if n >= shape.workers]
            if not enough:
                return None
            best = min(enough, key=lambda id: (room[id], *self.free[id], id))
            return (best,) * shape.workers
        placement: list[str] = []
        for id in sorted(room, key=lambda id: (-room[id], id)):
            placement += [id] * min(int(room[id]), shape.workers - len(placement))
        return tuple(placement) if len(placement) == shape.workers else None

    def soonest(self, shape: Shape, without: Collection[str] = ()) -> frozenset[str]:
        """The nodes to keep free until a gang of `shape` fits: those that lack least for it. Empty
        when all that are left, wholly free, would not do."""
        most = {id: _times(shape, has) for id, has in self.total.items() if id not in without}
        order = sorted(most, key=lambda id: (-_times(shape, self.free[id]), -most[id], id))
        if self._fits_a_node(shape):
            return frozenset(next(([id] for id in order if most[id] >= shape.workers), []))
        chosen: list[str] = []
        for id in order:
            if sum(most[c] for c in chosen) >= shape.workers:
                break
            if most[id]:
                chosen.append(id)
        enough = sum(most[c] for c in chosen) >= shape.workers
        return frozenset(chosen if enough else [])

    def could_hold(self, shape: Shape, nodes: Collection[str] | None = None) -> bool:
        """Whether a gang of `shape` would fit, on `nodes` alone, if all of ours were free."""
        without = [] if nodes is None else [id for id in self.nodes if id not in nodes]
        return bool(self.soonest(shape, without))

    def _fits_a_node(self, shape: Shape) -> bool:
        return any(_times(shape, has) >= shape.workers for has in self.nodes.values())

    def _add(self, shape: Shape, placement: Iterable[str], sign: int) -> None:
        for id in placement:
            if id in self.free:  # else the node has gone
                self.free[id][0] += sign * shape.cpus
                self.free[id][1] += sign * shape.gpus


def _times(shape: Shape, has: Iterable[float]) -> float:
    """How many workers of `shape` a node with so much CPU and GPU holds."""
    needs = (shape.cpus, shape.gpus)
    counts = [int(h / n + SMALLEST) for h, n in zip(has, needs, strict=True) if n]
    return min(counts, default=float(shape.workers))
