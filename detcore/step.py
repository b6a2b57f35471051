"""One optimiser step: forward passes, losses, gradients, the update. The host never waits for the
device in it."""

from __future__ import annotations

from contextlib import nullcontext
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detcore.config import Config
from detcore.detectors import Detector
from detcore.distributed import Gang
from detcore.measure import Meter
from detcore.precision import autocast, normalise


def stats_of(detector: Detector) -> tuple[str, ...]:
    """What `train_step` returns of this detector."""
    return ("loss/total", *(f"loss/{part}" for part in detector.parts), "grad_norm")


def train_step(
    forward: nn.Module,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    config: Config,
    device: torch.device,
    meter: Meter,
    gang: Gang,
) -> torch.Tensor:
    """One optimiser step over `accumulate` forward passes; returns the `stats_of` this rank, on
    device."""
    accumulate = config.train.accumulate
    parts = torch.zeros(len(detector.parts), device=device)
    for i in range(accumulate):
        with meter.waiting():
            batch = next(batches).to(device)
        images = normalise(batch.images)
        if config.runtime.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        holds = isinstance(forward, DistributedDataParallel) and i + 1 < accumulate
        with forward.no_sync() if holds else nullcontext():  # type: ignore[operator]
            with autocast(config.train.amp, device):
                outputs = forward(images)
            losses = detector.losses(outputs, batch.boxes, batch.labels, gang)
            terms = torch.stack([losses[part] for part in detector.parts]) / accumulate
            terms.sum().backward()
        parts += terms.detach()
    grads = [p.grad for p in detector.parameters() if p.grad is not None]
    grad_norm = nn.utils.get_total_norm(grads, foreach=True)
    if config.optim.clip_norm:
        nn.utils.clip_grads_with_norm_(
            detector.parameters(), config.optim.clip_norm, grad_norm, foreach=True
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.cat((parts.sum().view(1), parts, grad_norm.view(1)))


def flagged(stats: torch.Tensor, *flags: bool) -> torch.Tensor:
    """`stats` with numbers 0 or 1 behind them. Filled on the device: to assign a number into a
    tensor of a GPU would wait for it."""
    return torch.cat((stats, *(stats.new_full((1,), float(flag)) for flag in flags)))


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of what is drawn inside step `step` (DropBlock ...): a run resumes from its step
    number alone, and ranks draw different numbers."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def parallel(detector: nn.Module, config: Config, gang: Gang, device: torch.device) -> nn.Module:
    """`detector` compiled and with its gradients averaged over the ranks, where that applies.

    Buffers are left to each rank: its own running statistics (see `averaged_buffers`).
    """
    forward = detector
    if device.type == "cuda" and config.runtime.compile:
        forward = torch.compile(detector)  # type: ignore[assignment]
    if gang.world == 1:
        return forward
    # torch 2.15 renamed the option
    new = "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
    buffers: Any = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return DistributedDataParallel(forward, gradient_as_bucket_view=True, **buffers)
