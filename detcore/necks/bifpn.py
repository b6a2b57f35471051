"""Bidirectional feature pyramid of EfficientDet (Tan et al. 2020), P3 to P7.

Shape legend: B batch, C channels of the pyramid, h x w size of a level.
"""

from __future__ import annotations

from torch import Tensor, nn

from detcore.config import schema
from detcore.config.schema.norm import Act
from detcore.layers.activation import activate
from detcore.layers.conv import ConvNormAct, needs_bias, tower_conv, xavier_conv
from detcore.layers.fusion import build_fusion
from detcore.necks.levels import ExtraLevels, enlarge, halve, widths


class Node(nn.Module):
    """norm(conv3x3(act(fuse(maps)))), with `act` the activation of `norm_act`: in the paper and in
    the report it stands before the convolution, and nothing follows the norm. A kind that contains
    its activation (EvoNorm) has none to give: norm_act(conv3x3(fuse(maps)))."""

    def __init__(self, cfg: schema.BiFpn, inputs: int) -> None:
        super().__init__()
        self.act: Act | None = getattr(cfg.norm_act, "act", None)
        self.fuse = build_fusion("wsum", inputs)
        c, bias = cfg.channels, needs_bias(cfg.norm_act)
        conv = tower_conv(c, c, 3, cfg.conv, bias)
        self.conv = ConvNormAct(conv, cfg.norm_act, act=self.act is None)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps B x C x h x w of one size -> one of that shape."""
        x = self.fuse(maps)
        return self.conv(x if self.act is None else activate(x, self.act))


class BiFpnRound(nn.Module):
    """With levels 1 to L, inputs x:

        t_L = x_L,                    t_i = node(x_i, nearest(t_{i+1}))
        y_1 = t_1,                    y_i = node(x_i, maxpool(y_{i-1}), t_i)
        y_L = node(x_L, maxpool(y_{L-1}))

    Max pooling is 2 x 2 with stride 2, as in the report (the authors' program: 3 x 3).
    """

    def __init__(self, cfg: schema.BiFpn) -> None:
        super().__init__()
        self.down = nn.ModuleList(Node(cfg, 2) for _ in range(cfg.levels - 1))
        inputs = [3] * (cfg.levels - 2) + [2]
        self.up = nn.ModuleList(Node(cfg, n) for n in inputs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """L maps B x C x h x w -> L maps of the same shapes."""
        last = len(maps) - 1
        top_down = list(maps)
        for i in reversed(range(last)):
            top_down[i] = self.down[i](maps[i], enlarge(top_down[i + 1], like=maps[i]))
        out = [top_down[0]]
        for i in range(1, last):
            out.append(self.up[i - 1](maps[i], halve(out[-1], "max"), top_down[i]))
        out.append(self.up[-1](maps[last], halve(out[-1], "max")))
        return out


class BiFpn(nn.Module):
    """norm(conv1x1(C_i)) for C3 to C7, without activation, then `repeats` rounds.

    The report's: full 3 x 3 convolutions, GN, swish, 64 channels x 2 or 96 x 3. The paper's:
    separable convolutions, BN, swish; its table says 2 rounds for D0 where its program has 3; C6
    and C7 come from one 1 x 1 convolution of C5 and max pooling, here from `extra` as in the
    report.
    """

    def __init__(self, cfg: schema.BiFpn, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        bias = needs_bias(cfg.norm_act)
        self.extra = ExtraLevels(cfg.extra, in_channels[-1])
        self.project = nn.ModuleList(
            ConvNormAct(xavier_conv(i, cfg.channels, 1, bias=bias), cfg.norm_act, act=False)
            for i in widths(cfg.extra, in_channels)
        )
        self.rounds = nn.Sequential(*(BiFpnRound(cfg) for _ in range(cfg.repeats)))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, ..., P7], each B x C x h x w."""
        inputs = self.extra(features)
        maps: list[Tensor] = self.rounds([f(x) for f, x in zip(self.project, inputs, strict=True)])
        return maps
