"""What the tests of the norms share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.spectral import SpectralNormAct

ALL: list[schema.NormAct] = [
    schema.BatchNorm(),
    schema.SyncBatchNorm(),
    schema.FrozenBatchNorm(),
    schema.GroupNorm(groups=4),
    schema.EvoNormS0(groups=4),
    schema.SpectralNorm(),
    schema.SwitchableNorm(),
    schema.NoNorm(),
]


def randomise(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def inputs(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """What the layer is called with; spectral norm as behind a convolution with weight 2 I."""
    if isinstance(layer, SpectralNormAct):
        return x, 2 * torch.eye(x.shape[1], dtype=x.dtype)[..., None, None]
    return (x,)


def call(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(*inputs(layer, x))
