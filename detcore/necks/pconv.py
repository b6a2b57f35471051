"""Pyramid convolutions: the report's PConv with 1 x 1 kernels, and SEPC's (Wang et al. 2020) with
3 x 3.

Shape legend: B batch, C channels of the pyramid, L levels, h x w size of a level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, needs_bias, xavier_conv
from detcore.layers.norm_act import build_norm_act
from detcore.necks.fpn import Fpn
from detcore.necks.levels import ExtraLevels, enlarge, halve, widths


def integrated(norm_act: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    """One call of a norm for all levels: their cells lie in one row, B x C x 1 x (sum of h w), so
    that a statistic is taken over all of them."""
    shapes = [x.shape for x in maps]
    row = norm_act(torch.cat([x.flatten(2) for x in maps], dim=2).unsqueeze(2))
    parts = row.squeeze(2).split([s[2] * s[3] for s in shapes], dim=2)
    return [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]


class PConvRound(nn.Module):
    """F_i <- N(avgpool(k1 * F_{i-1}) + k2 * F_i + nearest(k3 * F_{i+1})): 1 x 1 kernels and norm
    are the same for all levels; a neighbour that is not there adds nothing.

    With `norm_on` branch each of the three has a norm and activation of its own right behind its
    convolution and the sum has none; where exactly they stood in the report is not known.
    """

    def __init__(self, cfg: schema.PConv) -> None:
        super().__init__()
        c, norm, bias = cfg.channels, cfg.norm_act, needs_bias(cfg.norm_act)
        convs: list[nn.Module] = [xavier_conv(c, c, 1, bias=bias) for _ in range(3)]
        if cfg.norm_on == "branch":
            convs = [ConvNormAct(conv, norm) for conv in convs]
        self.below, self.same, self.above = convs
        self.norm_act = build_norm_act(norm, c) if cfg.norm_on == "sum" else nn.Identity()

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """L maps B x C x h x w -> L maps of the same shapes."""
        return [self.norm_act(self.level(maps, i)) for i in range(len(maps))]

    def level(self, maps: list[Tensor], i: int) -> Tensor:
        """The sum of the branches at level i."""
        y = self.same(maps[i])
        if i > 0:
            y = y + halve(self.below(maps[i - 1]), "avg")
        if i + 1 < len(maps):
            y = y + enlarge(self.above(maps[i + 1]), like=y)
        return y


class PConv(nn.Module):
    """The report's "PConv": a 1 x 1 convolution of each of C3 to C7, with a bias and without norm,
    then `repeats` rounds. It bears the name of SEPC's pyramid convolution, which is `Sepc` below.

    Uncertain: one version around the report's run normalises the sum of the branches, another each
    branch (`norm_on`).
    """

    def __init__(self, cfg: schema.PConv, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.extra = ExtraLevels(cfg.extra, in_channels[-1])
        self.lateral = nn.ModuleList(
            xavier_conv(i, cfg.channels, 1, bias=True) for i in widths(cfg.extra, in_channels)
        )
        self.rounds = nn.Sequential(*(PConvRound(cfg) for _ in range(cfg.repeats)))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, ..., P7], each B x C x h x w."""
        inputs = self.extra(features)
        maps: list[Tensor] = self.rounds([f(x) for f, x in zip(self.lateral, inputs, strict=True)])
        return maps


class SepcRound(nn.Module):
    """F_i <- N(k1 *_s2 F_{i-1} + k2 * F_i + bilinear(k3 * F_{i+1})): 3 x 3 kernels, shared by all
    levels, k1 with stride 2. The corners of the enlarged map lie on those of the small one
    (align_corners), as in the authors' program."""

    def __init__(self, cfg: schema.Sepc) -> None:
        super().__init__()
        c, bias = cfg.channels, needs_bias(cfg.norm_act)
        self.below = xavier_conv(c, c, 3, stride=2, bias=bias)
        self.same = xavier_conv(c, c, 3, bias=bias)
        self.above = xavier_conv(c, c, 3, bias=bias)
        self.norm_act = build_norm_act(cfg.norm_act, c)
        self.norm_levels = cfg.norm_levels

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """L maps B x C x h x w -> L maps of the same shapes."""
        sums = [self.level(maps, i) for i in range(len(maps))]
        if self.norm_levels == "integrated":
            return integrated(self.norm_act, sums)
        return [self.norm_act(y) for y in sums]

    def level(self, maps: list[Tensor], i: int) -> Tensor:
        """The new map of level i before its norm."""
        y = self.same(maps[i])
        if i > 0:
            y = y + self.below(maps[i - 1])
        if i + 1 < len(maps):
            above = self.above(maps[i + 1])
            y = y + F.interpolate(above, size=y.shape[-2:], mode="bilinear", align_corners=True)
        return y


class Sepc(nn.Module):
    """SEPC's pyramid convolution (Wang et al. 2020, "Scale-Equalizing Pyramid Convolution"):
    `repeats` rounds on the maps P3 to P7 of a plain FPN without norm and activation, as published.
    The deformable kernels of the full SEPC are left out.

    `norm_act: bn` with `norm_levels: integrated` is the paper's iBN, of one rank's batch; the
    default norm is GN, as BN is poor at small batches. Two differences from the authors' program:
    weights start Xavier-uniform like those of every neck here (theirs: normal with standard
    deviation 0.01), and convolutions before a norm have no bias.
    """

    def __init__(self, cfg: schema.Sepc, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        plain = schema.Fpn(channels=cfg.channels, norm_act=schema.NoNorm(act="none"))
        self.fpn = Fpn(plain, in_channels)
        self.rounds = nn.Sequential(*(SepcRound(cfg) for _ in range(cfg.repeats)))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, ..., P7], each B x C x h x w."""
        maps: list[Tensor] = self.rounds(self.fpn(features))
        return maps
