"""The backbone of the embedded default: small enough for two CPU cores, made to learn from scratch
in a few hundred steps.

Shape legend: B batch, H x W input size, w width.
"""

from __future__ import annotations

from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, kaiming_conv, needs_bias


class TinyBackbone(nn.Module):
    """Two stride-2 convolutions to stride 4 (w, then 2w channels), then one stage for each of C3,
    C4, C5 (2w, 4w, 4w).

    A 128 px image costs 16 million multiply-adds at w = 16.
    """

    def __init__(self, cfg: schema.TinyBackbone) -> None:
        super().__init__()
        w, norm = cfg.width, cfg.norm_act
        self.channels = (2 * w, 4 * w, 4 * w)
        self.stem = nn.Sequential(_conv_norm_act(3, w, 2, norm), _conv_norm_act(w, 2 * w, 2, norm))
        self.stage3 = TinyStage(2 * w, 2 * w, norm)
        self.stage4 = TinyStage(2 * w, 4 * w, norm)
        self.stage5 = TinyStage(4 * w, 4 * w, norm)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B x 3 x H x W -> B x 2w x H/8 x W/8, B x 4w x H/16 x W/16, B x 4w x H/32 x W/32, sizes
        rounded up."""
        c3 = self.stage3(self.stem(images))
        c4 = self.stage4(c3)
        return c3, c4, self.stage5(c4)


class TinyStage(nn.Module):
    """y = norm_act(conv, stride 2), then y + norm_act(conv(y)). Every norm is followed by its
    activation and nothing else is non-linear, so a norm+activation level replaces all of the
    network's non-linearity, and the shortcut needs no projection."""

    def __init__(self, in_channels: int, out_channels: int, norm: schema.NormAct) -> None:
        super().__init__()
        self.down = _conv_norm_act(in_channels, out_channels, 2, norm)
        self.residual = _conv_norm_act(out_channels, out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        return y + self.residual(y)


def _conv_norm_act(
    in_channels: int, out_channels: int, stride: int, norm: schema.NormAct
) -> ConvNormAct:
    return ConvNormAct(kaiming_conv(in_channels, out_channels, 3, stride, needs_bias(norm)), norm)
