"""The report's BalanceBackboneHook: every level is given the average of all.

Shape legend: B batch, C channels of the pyramid, h x w size of a level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, needs_bias, xavier_conv


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, half-pixel centres; a map of the right size is returned as it is. (The report's
    TensorFlow 1 resize reads cell i at i * scale, without the shift by half a cell.)"""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class BalanceHook(nn.Module):
    """P_l + resize(R), with R = norm_act(conv3x3(B)) and B the mean of all levels at the size of
    the second one (of the first, where there is only one).

    A plainer form of the Balanced Feature Pyramid (Pang et al. 2019, Libra R-CNN), which goes to
    the middle size by max pooling and nearest neighbour and refines with a non-local block.
    """

    def __init__(self, cfg: schema.BalanceHook, channels: int) -> None:
        super().__init__()
        conv = xavier_conv(channels, channels, 3, bias=needs_bias(cfg.norm_act))
        self.refine = ConvNormAct(conv, cfg.norm_act)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps B x C x h x w of any sizes -> maps of the same shapes."""
        reference = maps[min(1, len(maps) - 1)]
        balanced = torch.stack([resize(x, like=reference) for x in maps]).mean(dim=0)
        refined = self.refine(balanced)
        return [x + resize(refined, like=x) for x in maps]
