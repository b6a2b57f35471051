"""RetinaNet's head (Lin et al. 2017, section 4): two towers whose convolutions all levels share.

Shape legend: B batch, C channels, A anchors of all levels, a anchors per cell, K classes, L levels,
h x w size of a level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import xavier_conv
from detcore.layers.norm_act import build_norm_act

NUM_LEVELS = 5


class RetinaHead(nn.Module):
    """Class tower and box tower of `num_convs` x [conv3x3, norm_act], each ended by a conv3x3 with
    a bias.

    The class bias makes every anchor start at probability `prior_prob` (section 4.1 of the paper),
    against the flood of background anchors in the first steps.
    """

    def __init__(
        self, cfg: schema.RetinaHead, in_channels: int, num_anchors: int, num_classes: int
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_tower = Tower(cfg, in_channels)
        self.box_tower = Tower(cfg, in_channels)
        self.class_out = xavier_conv(in_channels, num_anchors * num_classes, 3, bias=True)
        self.box_out = xavier_conv(in_channels, num_anchors * 4, 3, bias=True)
        assert self.class_out.bias is not None
        prior = cfg.prior_prob
        nn.init.constant_(self.class_out.bias, -math.log((1 - prior) / prior))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """L maps B x C x h x w -> logits B x A x K and deltas B x A x 4: levels in order, cells row
        by row, then anchors."""
        logits = [
            _rows(self.class_out(self.class_tower(x, i)), self.num_classes)
            for i, x in enumerate(maps)
        ]
        deltas = [_rows(self.box_out(self.box_tower(x, i)), 4) for i, x in enumerate(maps)]
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)


class Tower(nn.Module):
    """`num_convs` x [conv3x3, norm_act]. With `per_level` norms each level has its own parameters
    and running statistics."""

    def __init__(self, cfg: schema.RetinaHead, channels: int) -> None:
        super().__init__()
        self.copies = NUM_LEVELS if cfg.norm_levels == "per_level" else 1
        self.convs = nn.ModuleList(xavier_conv(channels, channels, 3) for _ in range(cfg.num_convs))
        self.norm_acts = nn.ModuleList(
            nn.ModuleList(build_norm_act(cfg.norm_act, channels) for _ in range(self.copies))
            for _ in range(cfg.num_convs)
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norm_acts, strict=True):
            x = norms[level % self.copies](conv(x))  # type: ignore[index]
        return x


def _rows(x: Tensor, width: int) -> Tensor:
    """B x (a * width) x h x w -> B x (h * w * a) x width."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, width)
