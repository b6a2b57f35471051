"""Weights for a torchvision-shaped backbone: from a file or from torchvision's list, with one-line
errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from detcore.config import schema

State = dict[str, Tensor]


Config = schema.ResNet | schema.MobileNetV3 | schema.EfficientNet


def load_weights(model: nn.Module, cfg: Config, left_out: tuple[str, ...]) -> None:
    """Load `cfg.weights` into `model`; entries of torchvision's model that begin with one of
    `left_out` (the classifier) are not needed and not used.

    A state dict with the model's own entries loads whole. Of torchvision's, BN, synchronised and
    frozen BN take everything, gamma, beta and the running statistics; every other kind of norm
    takes the convolutions and keeps its initial values, because gamma and beta would belong to
    other statistics, and without a norm the biases stay 0. Raises ValueError.
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
    _load(model, state, cfg, left_out)


def _read(path: str) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"weights: cannot read {path} as a state dict ({reason})") from None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
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


def _load(model: nn.Module, state: State, cfg: Config, left_out: tuple[str, ...]) -> None:
    own = _shapes(model.state_dict(), ())
    found = _shapes(state, left_out)
    if found != own and cfg.norm_act.kind not in ("bn", "sync_bn", "frozen_bn"):
        with torch.device("meta"):  # no values are made and no random numbers drawn
            published = get_model(cfg.kind, weights=None).state_dict()
        own, found = (_convolutions(_shapes(s, left_out)) for s in (published, state))
    wrong = sorted(key for key in own | found if own.get(key) != found.get(key))
    if wrong:
        raise ValueError(
            f"weights: {cfg.weights} does not hold a {cfg.kind} with {cfg.norm_act.kind} "
            f"({len(wrong)} entries are missing, unknown or of another shape, first {wrong[0]})"
        )
    model.load_state_dict({key: state[key] for key in found}, strict=False)


def _shapes(state: State, left_out: tuple[str, ...]) -> dict[str, torch.Size]:
    """BN's counter of batches is left out too: it is not in every file and nothing uses it."""
    return {
        key: value.shape
        for key, value in state.items()
        if not key.startswith(left_out) and not key.endswith("num_batches_tracked")
    }


def _convolutions(shapes: dict[str, torch.Size]) -> dict[str, torch.Size]:
    """The weights with four dimensions, and the biases that go with them."""
    weights = {key for key, shape in shapes.items() if len(shape) == 4}
    biases = {key.removesuffix("weight") + "bias" for key in weights}
    return {key: shape for key, shape in shapes.items() if key in weights | biases}
