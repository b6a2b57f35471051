"""Numbers of a running sweep among Ray's own metrics, which Prometheus reads from every node
(`ray_sweep_*`; the panels are in dashboards/grafana).

Ray knows of GPUs and not of cells: `sweep_cell_gpu` says which cell holds which GPU, so that a
panel can join it with Ray's numbers for that GPU.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from orchestrator.cluster.gangs import Gang
from orchestrator.tracking.table import Row

EVERY_S = 5.0  # Ray passes on, every 10 s, what was set since: what is not said again goes

Held = tuple[str, str, str]  # a cell's label, a node's address, the number of a GPU there


class Gauges:
    """For one sweep; made in a process that is connected to Ray."""

    def __init__(self, sweep: str) -> None:
        from ray.util.metrics import Gauge

        self._sweep = _ascii(sweep)
        self._told = 0.0
        self._outcomes: set[str] = set()
        self._held: set[Held] = set()
        self._cells = Gauge("sweep_cells", "Cells of a sweep by outcome", ("sweep", "outcome"))
        self._queue = Gauge("sweep_queue_length", "Cells that wait for room", ("sweep",))
        self._gpu = Gauge(
            "sweep_cell_gpu",
            "1 while a cell holds a GPU, then 0",
            ("sweep", "cell", "ip", "GpuIndex"),
        )

    def is_due(self) -> bool:
        return time.monotonic() - self._told >= EVERY_S

    def tell(self, rows: Iterable[Row], waiting: int, gangs: Iterable[Gang]) -> None:
        """Say how the cells stand, how many wait, and what those at work hold."""
        self._told = time.monotonic()
        sweep = {"sweep": self._sweep}
        counts = Counter(row.outcome for row in rows)
        self._outcomes |= counts.keys()  # one that no cell has any more is 0 from now on
        for outcome in self._outcomes:
            self._cells.set(counts[outcome], {**sweep, "outcome": outcome})
        self._queue.set(waiting, sweep)
        held = set(_held(gangs))
        for before in self._held - held:
            self._gpu.set(0, self._tags(before))
        for now in held:
            self._gpu.set(1, self._tags(now))
        self._held = held

    def _tags(self, held: Held) -> dict[str, str]:
        cell, ip, gpu = held
        return {"sweep": self._sweep, "cell": _ascii(cell), "ip": ip, "GpuIndex": gpu}


def _ascii(text: str) -> str:
    """Ray takes no other letters in a tag."""
    return text.encode("ascii", "backslashreplace").decode()


def _held(gangs: Iterable[Gang]) -> Iterable[Held]:
    for gang in gangs:
        if gang.job and gang.handed:
            for rank in gang.where:
                yield from ((gang.job["label"], rank["ip"], gpu) for gpu in rank["gpus"])
