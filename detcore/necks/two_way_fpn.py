"""Two-way feature pyramid after EfficientPS (Mohan & Valada 2020), as the report had it.

Shape legend: B batch, C channels of the pyramid, h x w size of a level.
"""

from __future__ import annotations

from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, needs_bias, tower_conv, xavier_conv
from detcore.layers.fusion import build_fusion
from detcore.necks.levels import ExtraLevels, enlarge, halve, widths


class TwoWayFpn(nn.Module):
    """Two paths from the same inputs C3 to C7, with convolutions of their own, side by side:

        down_7 = N(a_7(C7)),  down_i = fuse(nearest(down_{i+1}), N(a_i(C_i)))
        up_3   = N(b_3(C3)),  up_i   = fuse(pool(up_{i-1}), N(b_i(C_i)))
        P_i    = N(separable3x3(down_i + up_i))

    a and b are 1 x 1, N is `norm_act` with parameters for each place, pool is 2 x 2 with stride 2.

    Uncertain: three versions of this neck lie around the report's run. `fusion: wsum, pool: max` is
    the first, which needed a spelling mended before it could run; `wsum, avg` the second; `sum,
    avg` the third. EfficientPS itself adds, at strides 4 to 32.
    """

    def __init__(self, cfg: schema.TwoWayFpn, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.pool = cfg.pool
        c, norm, bias = cfg.channels, cfg.norm_act, needs_bias(cfg.norm_act)
        inputs = widths(cfg.extra, in_channels)
        self.extra = ExtraLevels(cfg.extra, in_channels[-1])
        self.down = nn.ModuleList(
            ConvNormAct(xavier_conv(i, c, 1, bias=bias), norm) for i in inputs
        )
        self.up = nn.ModuleList(ConvNormAct(xavier_conv(i, c, 1, bias=bias), norm) for i in inputs)
        self.down_merge = nn.ModuleList(build_fusion(cfg.fusion, 2) for _ in inputs[1:])
        self.up_merge = nn.ModuleList(build_fusion(cfg.fusion, 2) for _ in inputs[1:])
        self.output = nn.ModuleList(
            ConvNormAct(tower_conv(c, c, 3, "separable", bias), norm) for _ in inputs
        )

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, ..., P7], each B x C x h x w."""
        inputs = self.extra(features)
        down = [conv(x) for conv, x in zip(self.down, inputs, strict=True)]
        up = [conv(x) for conv, x in zip(self.up, inputs, strict=True)]
        for i in reversed(range(len(self.down_merge))):
            down[i] = self.down_merge[i]([enlarge(down[i + 1], like=down[i]), down[i]])
        for i, merge in enumerate(self.up_merge, start=1):
            up[i] = merge([halve(up[i - 1], self.pool), up[i]])
        return [conv(d + u) for conv, d, u in zip(self.output, down, up, strict=True)]
