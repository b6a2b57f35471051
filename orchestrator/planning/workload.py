"""What the cost of a cell depends on, so that past cells tell what a new one will take."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from detcore.config import to_dict
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.identity import Texts


@dataclass(frozen=True)
class Workload:
    """Cells with equal workloads take equally long for a step, and as much memory, on equal
    machines.

    `network` stands for what one image costs: the model, the sizes of the input, precision,
    augmentation and device; not the learning rate, the schedule, the number of steps, or which
    images these are.
    """

    network: str
    batch: int  # images of one rank in one forward pass
    accumulate: int
    ranks: int
    cpus: float  # of one worker
    gpus: float  # of one worker

    @property
    def images(self) -> int:
        """Images in one optimiser step, of the whole gang."""
        return self.batch * self.accumulate * self.ranks

    def to_tag(self) -> str:
        return json.dumps(asdict(self))


def workload_of(cell: Cell, texts: Texts | None = None) -> Workload:
    config, texts = cell.config, texts or Texts()
    parts = [
        texts.of("model", config.model),
        texts.plain(config.data.input),
        to_dict(config.data.augment),
        to_dict(config.data.stitch),
        config.train.amp,
        config.runtime.device,
        config.runtime.compile,
        config.runtime.channels_last,
    ]
    r = cell.resources
    return Workload(
        network=hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12],
        batch=config.train.batch_per_gpu,
        accumulate=config.train.accumulate,
        ranks=r.workers,
        cpus=float(r.cpus_per_worker),
        gpus=float(r.gpus_per_worker),
    )


def read_workload(tag: str | None) -> Workload | None:
    """From a tag that `to_tag` wrote; None for another one."""
    try:
        data = json.loads(tag or "")
        return Workload(
            network=str(data["network"]),
            batch=int(data["batch"]),
            accumulate=int(data["accumulate"]),
            ranks=int(data["ranks"]),
            cpus=float(data["cpus"]),
            gpus=float(data["gpus"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
