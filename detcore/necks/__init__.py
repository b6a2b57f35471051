"""Necks: C3 to C5 in, the five maps P3 to P7 out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from detcore.config import schema
from detcore.necks.fpn import Fpn

NECKS: dict[str, Callable[[Any, tuple[int, int, int]], nn.Module]] = {"fpn": Fpn}


def build_neck(cfg: schema.Fpn, in_channels: tuple[int, int, int]) -> nn.Module:
    """A module with forward((C3, C4, C5)) -> [P3, ..., P7], each B x cfg.channels x h x w."""
    return NECKS[cfg.kind](cfg, in_channels)
