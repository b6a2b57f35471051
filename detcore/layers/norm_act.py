"""Norm and activation as one layer: the seam of every norm ablation, because EvoNorm contains its
activation.

Every layer maps B x C x H x W to the same shape (spectral norm wants the convolution's weight as a
second argument, see conv.apply_norm_act) and draws no random numbers when built, so that two arms
with different norms and the same seed start from the same convolution weights. The parameter
names (`weight`, `bias`, `running_mean`, ...) are those of torch.nn, so that published weights load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.config.schema.norm import Act
from detcore.layers.activation import activate, activate_
from detcore.layers.batch_norm import BatchNormAct, FrozenBatchNormAct
from detcore.layers.evonorm import EvoNormS0
from detcore.layers.spectral import SpectralNormAct
from detcore.layers.switchable import SwitchableNormAct
from detcore.layers.sync_bn import SyncBatchNormAct


def build_norm_act(cfg: schema.NormAct, channels: int, act: bool = True) -> nn.Module:
    """The layer for `channels` channels; `act=False` where no activation follows the norm (end of a
    residual branch, downsampling shortcut). Raises ValueError when the groups do not divide the
    channels."""
    return NORM_ACTS[cfg.kind](cfg, channels, act)


class GroupNormAct(nn.GroupNorm):
    """Group norm (Wu & He 2018), then the activation. One value per group (1 x 1 map, groups =
    channels) gives beta."""

    def __init__(self, channels: int, act: Act, groups: int, eps: float) -> None:
        super().__init__(groups, channels, eps=eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        cudnn = torch.backends.cudnn.enabled
        y = torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, cudnn)
        return activate_(y, self.act)


class NoNormAct(nn.Module):
    """The activation alone. Has no parameters: the convolution before it keeps its bias."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return activate(x, self.act)

    def extra_repr(self) -> str:
        return f"act={self.act}"


def _bn(cfg: schema.BatchNorm, channels: int, act: bool) -> nn.Module:
    return BatchNormAct(channels, cfg.act if act else "none", cfg.eps, cfg.momentum)


def _sync_bn(cfg: schema.SyncBatchNorm, channels: int, act: bool) -> nn.Module:
    return SyncBatchNormAct(channels, cfg.act if act else "none", cfg.eps, cfg.momentum)


def _frozen_bn(cfg: schema.FrozenBatchNorm, channels: int, act: bool) -> nn.Module:
    trainable = cfg.affine == "trainable"
    return FrozenBatchNormAct(channels, cfg.act if act else "none", cfg.eps, trainable)


def _gn(cfg: schema.GroupNorm, channels: int, act: bool) -> nn.Module:
    _check_groups(cfg.kind, cfg.groups, channels)
    return GroupNormAct(channels, cfg.act if act else "none", cfg.groups, cfg.eps)


def _evonorm_s0(cfg: schema.EvoNormS0, channels: int, act: bool) -> nn.Module:
    _check_groups(cfg.kind, cfg.groups, channels)
    return EvoNormS0(channels, cfg.groups, cfg.eps, act)


def _spectral(cfg: schema.SpectralNorm, channels: int, act: bool) -> nn.Module:
    return SpectralNormAct(channels, cfg.act if act else "none", cfg.beta)


def _switchable(cfg: schema.SwitchableNorm, channels: int, act: bool) -> nn.Module:
    return SwitchableNormAct(channels, cfg.act if act else "none", cfg.eps, cfg.momentum)


def _none(cfg: schema.NoNorm, channels: int, act: bool) -> nn.Module:
    return NoNormAct(cfg.act if act else "none")


def _check_groups(kind: str, groups: int, channels: int) -> None:
    if channels % groups:
        divisors = ", ".join(str(d) for d in range(1, channels + 1) if channels % d == 0)
        raise ValueError(
            f"norm_act {kind}: groups = {groups} does not divide {channels} channels; "
            f"choices: {divisors}"
        )


NORM_ACTS: dict[str, Callable[[Any, int, bool], nn.Module]] = {
    "bn": _bn,
    "sync_bn": _sync_bn,
    "frozen_bn": _frozen_bn,
    "gn": _gn,
    "evonorm_s0": _evonorm_s0,
    "spectral": _spectral,
    "switchable": _switchable,
    "none": _none,
}
