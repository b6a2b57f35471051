"""Norm and activation as one layer: the seam of every norm ablation, because EvoNorm contains its
activation.

Every layer maps B x C x H x W to the same shape and draws no random numbers when built, so that two
arms with different norms and the same seed start from the same convolution weights. The parameter
names (`weight`, `bias`, `running_mean`, ...) are those of torch.nn, so that published weights load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.evonorm import EvoNormS0


def build_norm_act(cfg: schema.NormAct, channels: int, act: bool = True) -> nn.Module:
    """The layer for `channels` channels; `act=False` where no activation follows the norm (end of a
    residual branch, downsampling shortcut). Raises ValueError when the groups do not divide the
    channels."""
    return NORM_ACTS[cfg.kind](cfg, channels, act)


class BatchNormAct(nn.BatchNorm2d):
    """Batch norm of this rank's batch, then ReLU if `relu`.

    A channel with one value (a 1 x 1 map at batch 1) is normal at small batches, and what BN does
    there is part of what the sweeps measure: the variance is 0 and the output is beta. torch.nn
    refuses that case, and the unbiased variance it would store, 0 * n / (n - 1), is NaN; here
    running_var is left as it is (one value estimates no variance) and running_mean moves.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int, relu: bool, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor | None = self.running_mean
        var: Tensor | None = self.running_var
        if self.training:
            self.num_batches_tracked.add_(1)
            if x.numel() == x.shape[1]:
                value = x.detach().flatten().to(self.running_mean.dtype)
                self.running_mean.lerp_(value, self.momentum)
                mean = var = None
        cudnn = torch.backends.cudnn.enabled
        y = torch.batch_norm(
            x, self.weight, self.bias, mean, var, self.training, self.momentum, self.eps, cudnn
        )
        return F.relu_(y) if self.relu else y


class FrozenBatchNormAct(nn.Module):
    """Batch norm by its running statistics, which are buffers that nothing updates, then ReLU if
    `relu`.

    gamma and beta learn when `trainable`, else they are buffers too. Without loaded weights the
    statistics are mean 0 and variance 1: the layer is then an affine map.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, relu: bool, eps: float, trainable: bool) -> None:
        super().__init__()
        self.relu, self.eps = relu, eps
        for name, value in (("weight", torch.ones(channels)), ("bias", torch.zeros(channels))):
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        return F.relu_(y) if self.relu else y

    def extra_repr(self) -> str:
        trainable = isinstance(self.weight, nn.Parameter)
        return f"{len(self.weight)}, eps={self.eps}, trainable={trainable}, relu={self.relu}"


class SpectralNormAct(nn.Module):
    """Not written yet."""


class GroupNormAct(nn.GroupNorm):
    """Group norm (Wu & He 2018), then ReLU if `relu`. One value per group (1 x 1 map, groups =
    channels) gives beta."""

    def __init__(self, channels: int, relu: bool, groups: int, eps: float) -> None:
        super().__init__(groups, channels, eps=eps)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        cudnn = torch.backends.cudnn.enabled
        y = torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, cudnn)
        return F.relu_(y) if self.relu else y


def _bn(cfg: schema.BatchNorm, channels: int, act: bool) -> nn.Module:
    return BatchNormAct(channels, act and cfg.act == "relu", cfg.eps, cfg.momentum)


def _frozen_bn(cfg: schema.FrozenBatchNorm, channels: int, act: bool) -> nn.Module:
    relu = act and cfg.act == "relu"
    return FrozenBatchNormAct(channels, relu, cfg.eps, cfg.affine == "trainable")


def _gn(cfg: schema.GroupNorm, channels: int, act: bool) -> nn.Module:
    _check_groups(cfg.kind, cfg.groups, channels)
    return GroupNormAct(channels, act and cfg.act == "relu", cfg.groups, cfg.eps)


def _evonorm_s0(cfg: schema.EvoNormS0, channels: int, act: bool) -> nn.Module:
    _check_groups(cfg.kind, cfg.groups, channels)
    return EvoNormS0(channels, cfg.groups, cfg.eps, act)


def _check_groups(kind: str, groups: int, channels: int) -> None:
    if channels % groups:
        divisors = ", ".join(str(d) for d in range(1, channels + 1) if channels % d == 0)
        raise ValueError(
            f"norm_act {kind}: groups = {groups} does not divide {channels} channels; "
            f"choices: {divisors}"
        )


NORM_ACTS: dict[str, Callable[[Any, int, bool], nn.Module]] = {
    "bn": _bn,
    "frozen_bn": _frozen_bn,
    "gn": _gn,
    "evonorm_s0": _evonorm_s0,
}
