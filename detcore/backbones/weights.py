"""Weights for a torchvision-shaped backbone: from a file or from torchvision's list, with one-line
errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from detcore.config import schema

State = dict[str, Tensor]


def load_weights(model: nn.Module, cfg: schema.ResNet) -> None:
    """Load `cfg.weights` into `model`, classifier left out.

    Convolutions must all fit. BN and frozen BN take gamma, beta and the running statistics. A norm
    of another kind than the one the weights were trained with (no running statistics, or EvoNorm's
    v) keeps its initial values: its gamma and beta would belong to other statistics. Raises
    ValueError.
    """
    entries = get_model_weights(cfg.kind).__members__
    if cfg.weights in entries:
        state = _download(cfg.weights, entries[cfg.weights])
    elif Path(cfg.weights).is_file():
        state = _read(cfg.weights)
    elif "/" in cfg.weights or "." in cfg.weights:
        raise ValueError(f"weights: no such file: {cfg.weights}")
    else:
        choices = ", ".join(["none", *entries])
        raise ValueError(
            f"weights: unknown name {cfg.weights!r} for {cfg.kind}, and no such file; "
            f"choices: {choices}, or a path"
        )
    _load(model, state, cfg)


def _read(path: str) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"weights: cannot read {path} as a state dict ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = ", ".join(map(str, list(state)[:4])) if isinstance(state, dict) else type(state)
        raise ValueError(
            f"weights: {path} is not a plain state dict of tensors (top level: {found})"
        )
    return state


def _download(name: str, entry: Any) -> State:
    try:
        return entry.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"weights: {name} could not be downloaded ({error}); "
            f"download {entry.url} on a machine with network and give the file's path"
        ) from None


def _load(model: nn.Module, state: State, cfg: schema.ResNet) -> None:
    own = model.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    counters = {k for k in own | state if k.endswith("num_batches_tracked")}
    if (own.keys() ^ state.keys()) - counters and cfg.norm_act.kind in ("gn", "evonorm_s0"):
        norms = {k for k in own | state if "bn" in k or "downsample.1" in k}
        state = {k: v for k, v in state.items() if k not in norms}
        own = {k: v for k, v in own.items() if k not in norms}
    wrong = sorted((own.keys() ^ state.keys()) - counters) + [
        k for k in own.keys() & state.keys() if own[k].shape != state[k].shape
    ]
    if wrong:
        raise ValueError(
            f"weights: {cfg.weights} does not hold a {cfg.kind} with {cfg.norm_act.kind} "
            f"({len(wrong)} entries are missing, unknown or of another shape, first {wrong[0]})"
        )
    model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
