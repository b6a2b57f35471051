"""The head of RetinaNet (Lin et al. 2017, section 4) and of FCOS: two towers whose convolutions all
levels share.

Shape legend: B batch, C channels, A anchors of all levels, a anchors per cell, K classes, L levels,
h x w size of a level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import apply_norm_act, last_of, needs_bias, tower_conv
from detcore.layers.norm_act import build_norm_act


class TowerHead(nn.Module):
    """Class tower and box tower of `num_convs` x [conv3x3, norm_act], each ended by a conv3x3 with
    a bias. `extra` further values per cell may be read off the box tower.

    The class bias makes every anchor start at probability `prior_prob` (section 4.1 of the paper),
    against the flood of background anchors in the first steps.
    """

    def __init__(
        self,
        cfg: schema.TowerHead,
        in_channels: int,
        num_anchors: int,
        num_classes: int,
        num_levels: int,
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_tower = Tower(cfg, in_channels, num_levels)
        self.box_tower = Tower(cfg, in_channels, num_levels)
        self.class_out = tower_conv(in_channels, num_anchors * num_classes, 3, cfg.conv, bias=True)
        self.box_out = tower_conv(in_channels, num_anchors * 4, 3, cfg.conv, bias=True)
        self.extra_out = tower_conv(in_channels, extra, 3, cfg.conv, bias=True) if extra else None
        prior = cfg.prior_prob
        bias = last_of(self.class_out).bias
        assert bias is not None
        nn.init.constant_(bias, -math.log((1 - prior) / prior))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """L maps B x C x h x w -> logits B x A x K and deltas B x A x 4: levels in order, cells row
        by row, then anchors."""
        outputs = [self.level(x, i) for i, x in enumerate(maps)]
        logits = torch.cat([rows(y[0], self.num_classes) for y in outputs], dim=1)
        deltas = torch.cat([rows(y[1], 4) for y in outputs], dim=1)
        return logits, deltas

    def level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        """Maps of one level: classes B x (a K) x h x w, boxes B x (a 4) x h x w, and the extra
        values if there are any."""
        boxes = self.box_tower(x, level)
        out = (self.class_out(self.class_tower(x, level)), self.box_out(boxes))
        return out if self.extra_out is None else (*out, self.extra_out(boxes))


class Tower(nn.Module):
    """`num_convs` x [conv3x3, norm_act]. With `per_level` norms each level has its own parameters
    and running statistics."""

    def __init__(self, cfg: schema.TowerHead, channels: int, num_levels: int) -> None:
        super().__init__()
        self.copies = num_levels if cfg.norm_levels == "per_level" else 1
        bias = needs_bias(cfg.norm_act)
        self.convs = nn.ModuleList(
            tower_conv(channels, channels, 3, cfg.conv, bias) for _ in range(cfg.num_convs)
        )
        self.norm_acts = nn.ModuleList(
            nn.ModuleList(build_norm_act(cfg.norm_act, channels) for _ in range(self.copies))
            for _ in range(cfg.num_convs)
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norm_acts, strict=True):
            x = apply_norm_act(conv, norms[level % self.copies], x)  # type: ignore[index]
        return x


def rows(x: Tensor, width: int) -> Tensor:
    """B x (a * width) x h x w -> B x (h * w * a) x width."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, width)
