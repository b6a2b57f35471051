"""The head of CenterNet (Duan et al. 2019) on one map: corner and centre branches, and what is read
off them.

Shape legend: B batch, C channels of the map, K classes, h x w size of the map. Three keypoints, in
this order everywhere: top-left corner, bottom-right corner, centre.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, needs_bias, xavier_conv
from detcore.layers.corner_pool import CORNER_POOLS, Direction


class KeypointMaps(NamedTuple):
    heatmaps: Tensor  # B x 3 x K x h x w logits
    tags: Tensor  # B x 2 x h x w, of the corners
    offsets: Tensor  # B x 3 x 2 x h x w, (x, y) in cells


class CenterNetHead(nn.Module):
    """A branch for each keypoint, and eight predictors: three heatmaps, two tags, three offsets.

    Heatmap biases make every cell start at probability `prior_prob`.
    """

    def __init__(self, cfg: schema.CenterNet, channels: int, num_classes: int) -> None:
        super().__init__()
        plain = cfg.pooling == "maxpool_v2"
        centre = _plain_branch(cfg, channels) if plain else CentreBranch(cfg, channels)
        self.branches = nn.ModuleList(
            (
                CornerBranch(cfg, channels, "top", "left"),
                CornerBranch(cfg, channels, "bottom", "right"),
                centre,
            )
        )
        self.heatmaps = nn.ModuleList(_predictor(cfg, channels, num_classes) for _ in range(3))
        self.tags = nn.ModuleList(_predictor(cfg, channels, 1) for _ in range(2))
        self.offsets = nn.ModuleList(_predictor(cfg, channels, 2) for _ in range(3))
        prior = cfg.prior_prob
        for predictor in self.heatmaps:
            nn.init.constant_(predictor[-1].bias, -math.log((1 - prior) / prior))  # type: ignore

    def forward(self, x: Tensor) -> KeypointMaps:
        """B x C x h x w -> KeypointMaps."""
        keypoints = [branch(x) for branch in self.branches]
        return KeypointMaps(
            torch.stack([f(y) for f, y in zip(self.heatmaps, keypoints, strict=True)], dim=1),
            torch.cat([f(y) for f, y in zip(self.tags, keypoints[:2], strict=True)], dim=1),
            torch.stack([f(y) for f, y in zip(self.offsets, keypoints, strict=True)], dim=1),
        )


class CornerBranch(nn.Module):
    """Cascade corner pooling (Duan et al. 2019, section 3.3): look along one edge of the box first,
    then from there along the other; both orders, merged."""

    def __init__(
        self, cfg: schema.CenterNet, channels: int, vertical: Direction, horizontal: Direction
    ) -> None:
        super().__init__()
        self.vertical = CornerPath(cfg, channels, horizontal, vertical)
        self.horizontal = CornerPath(cfg, channels, vertical, horizontal)
        self.merge = Merge(cfg, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.vertical(x) + self.horizontal(x), x)


class CornerPath(nn.Module):
    """last(conv(conv(x) + first(conv(x)))), half of the channels. Published: norm and ReLU after
    the two convolutions on x, dilation 1.

    With `maxpool_v2` a norm and an activation follow each convolution, and the two on x have
    dilation 2. That the third has dilation 1 is from reading the report's code of that state;
    seed_components, which describes it, says 2 for all.
    """

    def __init__(
        self, cfg: schema.CenterNet, channels: int, first: Direction, last: Direction
    ) -> None:
        super().__init__()
        width = channels // 2
        dilation = 2 if cfg.pooling == "maxpool_v2" else 1
        self.look = _pooling_conv(cfg, channels, width, dilation)
        self.direct = _pooling_conv(cfg, channels, width, dilation)
        self.joint = _pooling_conv(cfg, width, width)
        self.pool, self.first, self.last = CORNER_POOLS[cfg.pooling], first, last

    def forward(self, x: Tensor) -> Tensor:
        seen = self.direct(x) + self.pool(self.look(x), self.first)
        return self.pool(self.joint(seen), self.last)


class CentreBranch(nn.Module):
    """Centre pooling (section 3.2): the maximum of the cell's column and that of its row, added,
    merged. With a sliding pool: of the 2 * window - 1 cells round it."""

    def __init__(self, cfg: schema.CenterNet, channels: int) -> None:
        super().__init__()
        self.column = _pooling_conv(cfg, channels, channels // 2)
        self.row = _pooling_conv(cfg, channels, channels // 2)
        self.merge = Merge(cfg, channels)
        self.pool = CORNER_POOLS[cfg.pooling]

    def forward(self, x: Tensor) -> Tensor:
        column = self.pool(self.pool(self.column(x), "top"), "bottom")
        row = self.pool(self.pool(self.row(x), "left"), "right")
        return self.merge(column + row, x)


class Merge(nn.Module):
    """conv3x3(N(conv3x3(pooled)) + N(conv1x1(x))), N norm and activation.

    In the report N was EvoNorm-S0 and nothing followed the sum; the published form, with BN, has
    the ReLU after the sum, and norm and ReLU behind the last convolution, which in the report is
    bare.
    """

    def __init__(self, cfg: schema.CenterNet, channels: int) -> None:
        super().__init__()
        self.pooled = _conv_norm_act(cfg, channels // 2, channels)
        self.shortcut = _conv_norm_act(cfg, channels, channels, kernel=1)
        self.out = xavier_conv(channels, channels, 3, bias=True)

    def forward(self, pooled: Tensor, x: Tensor) -> Tensor:
        return self.out(self.pooled(pooled) + self.shortcut(x))


def _plain_branch(cfg: schema.CenterNet, channels: int) -> nn.Module:
    """The centre branch of `maxpool_v2`: three convolutions, no pooling."""
    width = channels // 2
    return nn.Sequential(
        _conv_norm_act(cfg, channels, width),
        _conv_norm_act(cfg, width, width),
        xavier_conv(width, channels, 3, bias=True),
    )


def _predictor(cfg: schema.CenterNet, channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_norm_act(cfg, channels, channels), xavier_conv(channels, out_channels, 1, bias=True)
    )


def _pooling_conv(
    cfg: schema.CenterNet, in_channels: int, out_channels: int, dilation: int = 1
) -> nn.Module:
    """A convolution before a pool: bare, or with norm and activation in `maxpool_v2`."""
    if cfg.pooling == "maxpool_v2":
        return _conv_norm_act(cfg, in_channels, out_channels, dilation=dilation)
    return xavier_conv(in_channels, out_channels, 3, bias=True, dilation=dilation)


def _conv_norm_act(
    cfg: schema.CenterNet, in_channels: int, out_channels: int, kernel: int = 3, dilation: int = 1
) -> ConvNormAct:
    bias = needs_bias(cfg.norm_act)
    conv = xavier_conv(in_channels, out_channels, kernel, bias=bias, dilation=dilation)
    return ConvNormAct(conv, cfg.norm_act)
