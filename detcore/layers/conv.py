"""Convolutions with the initialisations the detectors use. Padding is (kernel - 1) / 2, so stride 1
keeps the size and stride 2 gives ceil(size / 2)."""

from __future__ import annotations

from torch import nn


def xavier_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Xavier-uniform weights, bias 0: necks and heads. Before a norm a bias has no effect and is
    left out."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def kaiming_conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """He-normal weights (fan-out, as torchvision's ResNet), no bias: backbones."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
