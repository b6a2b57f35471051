"""Convolutions with the initialisations the detectors use, alone or with what follows them. Padding
keeps the size at stride 1 and gives ceil(size / 2) at stride 2."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.norm_act import build_norm_act
from detcore.layers.spectral import SpectralNormAct


def xavier_conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    bias: bool = False,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Conv2d:
    """Xavier-uniform weights, bias 0: necks and heads. Before a norm a bias has no effect and is
    left out."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding, dilation, groups=groups, bias=bias
    )
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def kaiming_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = False
) -> nn.Conv2d:
    """He-normal weights (fan-out, as torchvision's ResNet): backbones."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def tower_conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    form: Literal["full", "separable"] = "full",
    bias: bool = False,
) -> nn.Module:
    """A convolution whole, or as a depthwise and a pointwise one without anything between (Sifre
    2014), as EfficientDet has it."""
    if form == "full":
        return xavier_conv(in_channels, out_channels, kernel, bias=bias)
    depthwise = xavier_conv(in_channels, in_channels, kernel, groups=in_channels)
    return nn.Sequential(depthwise, xavier_conv(in_channels, out_channels, 1, bias=bias))


def last_of(conv: nn.Module) -> nn.Conv2d:
    """The convolution that makes the output of a whole or separable one."""
    last = conv[-1] if isinstance(conv, nn.Sequential) else conv
    assert isinstance(last, nn.Conv2d)
    return last


def needs_bias(norm_act: schema.NormAct) -> bool:
    """Whether a convolution before this keeps a bias."""
    return norm_act.kind == "none"


def apply_norm_act(conv: nn.Module, norm_act: nn.Module, x: Tensor) -> Tensor:
    """norm_act(conv(x)); spectral norm also looks at the convolution's weight (of a separable one,
    at the pointwise weight)."""
    y = conv(x)
    if isinstance(norm_act, SpectralNormAct):
        return norm_act(y, last_of(conv).weight)
    return norm_act(y)


class ConvNormAct(nn.Module):
    """A convolution and the norm+activation behind it, whose width is the convolution's."""

    def __init__(self, conv: nn.Module, cfg: schema.NormAct, act: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.norm_act = build_norm_act(cfg, last_of(conv).out_channels, act)

    def forward(self, x: Tensor) -> Tensor:
        return apply_norm_act(self.conv, self.norm_act, x)
