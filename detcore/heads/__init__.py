"""Heads: pyramid maps in, one row of class logits and box deltas per anchor out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from detcore.config import schema
from detcore.heads.retina import RetinaHead

HEADS: dict[str, Callable[[Any, int, int, int], nn.Module]] = {"retina": RetinaHead}


def build_head(
    cfg: schema.RetinaHead, in_channels: int, num_anchors: int, num_classes: int
) -> nn.Module:
    """A module with forward(maps) -> (logits B x A x K, deltas B x A x 4); `num_anchors` is the
    number per cell."""
    return HEADS[cfg.kind](cfg, in_channels, num_anchors, num_classes)
