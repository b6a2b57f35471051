"""Everything a run needs to go on as if it had never stopped, in one file that is either whole or
absent."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from detcore.distributed import Gang


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every random generator of this process, as tensors, tuples and numbers (no
    pickled classes)."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": (version, torch.tensor(internal, dtype=torch.int64), gauss),
        "numpy": (
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ),
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `random_state` read."""
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def save(
    path: Path,
    *,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    monitor: dict[str, Any],
    seconds: float,
    key: str,
    gang: Gang,
    device: torch.device,
) -> None:
    """Write the state after `step` optimiser steps. Called by every rank: generators and buffers
    differ between ranks.

    The data order needs no state: a batch is a function of (seed, step, rank). `key` names the
    config the state belongs to.
    """
    mine = {"random": random_state(device), "buffers": _cpu(dict(model.named_buffers()))}
    ranks = gang.gather_first(mine)
    if not gang.is_first:
        return
    state = {
        "key": key,
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "monitor": monitor,
        "ranks": ranks,
    }
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    key: str,
    gang: Gang,
    device: torch.device,
) -> tuple[int, float, dict[str, Any]] | None:
    """Restore what `save` wrote; returns (step, seconds spent before, monitor state), or None where
    there is no checkpoint.

    Raises ValueError when the file is damaged or belongs to another config or number of ranks.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: the checkpoint cannot be read ({error}); delete it to start over"
        ) from None
    if state["key"] != key or len(state["ranks"]) != gang.world:
        raise ValueError(
            f"{path}: the checkpoint was written by another config or number of workers; "
            "delete it to start over"
        )
    model.load_state_dict(state["model"])
    own = state["ranks"][gang.rank]
    for name, buffer in model.named_buffers():
        buffer.copy_(own["buffers"][name])
    optimizer.load_state_dict(state["optimizer"])
    set_random_state(own["random"], device)
    return state["step"], state["seconds"], state["monitor"]


def _cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().clone() for name, t in tensors.items()}
