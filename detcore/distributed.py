"""The ranks of one run: who am I, and the few collectives the loop needs. One process without
torchrun is a gang of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Gang:
    """This process among the ranks of a run. `local_rank` counts the ranks on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_later(self, values: torch.Tensor) -> dist.Work | None:
        """Start summing `values` over the ranks in place; wait on what comes back before reading
        them."""
        if self.world == 1:
            return None
        work = dist.all_reduce(values, async_op=True)
        assert work is not None
        return work

    def mean_(self, values: torch.Tensor) -> torch.Tensor:
        """Average `values` over the ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def gather(self, item: Any) -> list[Any]:
        """`item` of every rank, in rank order, on every rank."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        dist.all_gather_object(items, item)
        return items

    def gather_first(self, item: Any) -> list[Any]:
        """`item` of every rank, in rank order, on rank 0; an empty list on the others."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world if self.is_first else []
        dist.gather_object(item, items if self.is_first else None)
        return items

    def gather_rows(self, rows: np.ndarray) -> np.ndarray | None:
        """The rows (... x columns, float64) of all ranks, one rank after the other, on rank 0;
        None on the others. Sent as they are, not pickled."""
        if self.world == 1:
            return rows
        mine = torch.from_numpy(rows)
        counts = torch.zeros(self.world, dtype=torch.int64)
        dist.all_gather_into_tensor(counts, torch.tensor([len(mine)]))
        padded = mine.new_zeros(int(counts.max()), mine.shape[1])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in counts] if self.is_first else None
        dist.gather(padded, parts)
        if parts is None:
            return None
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).numpy()

    def broadcast(self, item: Any) -> Any:
        """`item` of rank 0, on every rank."""
        if self.world == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def pick_device(wanted: str, gang: Gang) -> torch.device:
    """`auto` is this rank's GPU where there is one, else the CPU."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("runtime.device is cuda, but torch finds no CUDA device; use auto or cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", gang.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def process_group(
    gang: Gang, meeting: str | Path, device: str, timeout_s: float = 3600.0
) -> Iterator[None]:
    """Join the ranks of `gang`: NCCL when they train on GPUs, gloo on CPUs. Left in any case.

    They meet at `meeting`: an address (`tcp://...`, `env://`), or, all on one machine, a file; then
    nothing listens beyond this machine. `timeout_s` must outlast what one rank does alone, such as
    scoring an evaluation.
    """
    if gang.world == 1:
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    where: dict[str, Any] = {"init_method": meeting}
    if isinstance(meeting, Path):
        where = {"store": dist.FileStore(str(meeting), gang.world)}  # type: ignore[attr-defined]
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        rank=gang.rank,
        world_size=gang.world,
        timeout=timedelta(seconds=timeout_s),
        **where,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def gang_from_environment() -> Gang:
    """The gang that torchrun describes in the environment; a gang of one without it."""
    read = os.environ.get
    return Gang(int(read("RANK", "0")), int(read("WORLD_SIZE", "1")), int(read("LOCAL_RANK", "0")))


@contextmanager
def averaged_buffers(model: nn.Module, gang: Gang) -> Iterator[None]:
    """Inside, floating-point buffers (running statistics) are the mean over the ranks; outside,
    each rank keeps its own.

    Running averages are linear in what they average, so the mean of the ranks' averages is the
    average over all ranks' batches.
    """
    if gang.world == 1:
        yield
        return
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    own = [b.clone() for b in buffers]
    if buffers:
        flat = gang.mean_(torch.cat([b.flatten() for b in buffers]))
        for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))
    try:
        yield
    finally:
        for buffer, mine in zip(buffers, own, strict=True):
            buffer.copy_(mine)
