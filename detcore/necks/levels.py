"""What the necks over C3 to C7 share: the two coarse inputs, and going one level up or down.

Shape legend: B batch, C channels, h x w size of a level.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, needs_bias, xavier_conv

Pool = Literal["max", "avg"]


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """The map from above at the exact size of `like`, by nearest neighbour."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def halve(x: Tensor, pool: Pool) -> Tensor:
    """2 x 2 pooling with stride 2: h x w -> h/2 x w/2 rounded up, as the convolutions have it. A
    window over the edge takes the cells inside only."""
    pooling = F.max_pool2d if pool == "max" else F.avg_pool2d
    return pooling(x, 2, 2, ceil_mode=True)


class ExtraLevels(nn.Module):
    """C6 = norm_act(conv3x3(C5)) and C7 = norm_act(conv3x3(C6)), both with stride 2."""

    def __init__(self, cfg: schema.ExtraLevels, in_channels: int) -> None:
        super().__init__()
        bias = needs_bias(cfg.norm_act)
        c6 = xavier_conv(in_channels, cfg.channels, 3, stride=2, bias=bias)
        c7 = xavier_conv(cfg.channels, cfg.channels, 3, stride=2, bias=bias)
        try:
            self.c6 = ConvNormAct(c6, cfg.norm_act)
            self.c7 = ConvNormAct(c7, cfg.norm_act)
        except ValueError as error:
            raise ValueError(f"extra: {error}") from None

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5) -> [C3, ..., C7]."""
        c6 = self.c6(features[-1])
        return [*features, c6, self.c7(c6)]


def widths(cfg: schema.ExtraLevels, in_channels: tuple[int, int, int]) -> list[int]:
    """Channels of C3 to C7."""
    return [*in_channels, cfg.channels, cfg.channels]
