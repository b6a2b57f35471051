"""What a run tells while it trains: numbers read one step late, and the file of its curves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from detcore.distributed import Gang
from detcore.result import Point

Report = Callable[[Point], None]


class LateReader:
    """Statistics of the gang, one step late: `exchange` starts the sum of this step and returns the
    last step's means by name."""

    def __init__(self, gang: Gang, names: Sequence[str]) -> None:
        self.gang, self.names = gang, names
        self.pending: tuple[int, torch.Tensor, Any, Any] | None = None

    def exchange(self, step: int, stats: torch.Tensor) -> tuple[int, dict[str, float]] | None:
        """`stats` has a number for each name; it is written into."""
        before = self.drain()
        work = self.gang.sum_later(stats)
        ready = None
        if stats.is_cuda:
            if work is not None:
                work.wait()  # orders the streams; the host goes on
                work = None
            stats = stats.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        self.pending = (step, stats, work, ready)
        return before

    def drain(self) -> tuple[int, dict[str, float]] | None:
        """The statistics of the last exchange, waited for."""
        if self.pending is None:
            return None
        step, stats, work, ready = self.pending
        self.pending = None
        if work is not None:
            work.wait()
        if ready is not None:
            ready.synchronize()
        means = [v / self.gang.world for v in stats.tolist()]
        return step, dict(zip(self.names, means, strict=True))


class Curves:
    """The curves: a line of metrics.jsonl each, and a call of `report`. Only rank 0 writes."""

    def __init__(self, path: Path, first_step: int, gang: Gang, report: Report | None) -> None:
        self.report = report
        self.file = None
        if gang.is_first:
            kept = []  # what a killed attempt wrote after its last checkpoint is written again
            if path.exists() and first_step:
                kept = [ln for ln in path.read_text().splitlines() if _is_before(ln, first_step)]
            path.write_text("".join(line + "\n" for line in kept))
            self.file = path.open("a", buffering=1)

    def add(self, step: int, values: dict[str, float]) -> None:
        if self.file is None:
            return
        point = Point(step, time.time(), values)
        self.file.write(json.dumps(vars(point)) + "\n")
        if self.report:
            self.report(point)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _is_before(line: str, step: int) -> bool:
    """Whether the checkpoint of `step` steps comes after this point. An evaluation of that very
    step is made again."""
    try:
        return bool(json.loads(line)["step"] < step)
    except (ValueError, KeyError, TypeError):  # a line cut off by a kill
        return False
