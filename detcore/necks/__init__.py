"""Necks: C3 to C5 in, the maps P3, P4, ... out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from detcore.config import schema
from detcore.necks.balance import BalanceHook
from detcore.necks.bifpn import BiFpn
from detcore.necks.fpn import Fpn
from detcore.necks.pconv import PConv, Sepc
from detcore.necks.two_way_fpn import TwoWayFpn

NECKS: dict[str, Callable[[Any, tuple[int, int, int]], nn.Module]] = {
    "fpn": Fpn,
    "two_way_fpn": TwoWayFpn,
    "pconv": PConv,
    "sepc": Sepc,
    "bifpn": BiFpn,
}
HOOKS: dict[str, Callable[[Any, int], nn.Module]] = {"balance": BalanceHook}


def build_neck(
    cfg: schema.Neck, in_channels: tuple[int, int, int], hook: schema.Hook | None = None
) -> nn.Module:
    """A module with forward((C3, C4, C5)) -> [P3, P4, ...], `cfg.levels` maps, each B x
    cfg.channels x h x w with h and w the input's size over 8, 16, ..., rounded up. A hook maps such
    a list to one of the same shapes."""
    neck = NECKS[cfg.kind](cfg, in_channels)
    if hook is None:
        return neck
    return nn.Sequential(neck, HOOKS[hook.kind](hook, cfg.channels))
