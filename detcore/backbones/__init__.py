"""Backbones: an image batch in, the maps C3, C4 and C5 at strides 8, 16 and 32 out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from detcore.backbones.inverted_residual import build_efficientnet, build_mobilenet_v3
from detcore.backbones.resnet import build_resnet
from detcore.backbones.tiny import TinyBackbone
from detcore.config import schema

BACKBONES: dict[str, Callable[[Any], nn.Module]] = {
    "tiny": TinyBackbone,
    "resnet18": build_resnet,
    "resnet50": build_resnet,
    "mobilenet_v3_large": build_mobilenet_v3,
    "efficientnet_b0": build_efficientnet,
}


def build_backbone(cfg: schema.Backbone) -> nn.Module:
    """A module with `channels: tuple[int, int, int]` and forward(images B x 3 x H x W float) ->
    (C3, C4, C5)."""
    return BACKBONES[cfg.kind](cfg)
