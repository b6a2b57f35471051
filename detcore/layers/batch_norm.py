"""Batch norm (Ioffe & Szegedy 2015) of one rank's batch, and with fixed statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.config.schema.norm import Act
from detcore.layers.activation import activate_


class BatchNormAct(nn.BatchNorm2d):
    """Batch norm of this rank's batch, then the activation.

    A channel with one value (a 1 x 1 map at batch 1) is normal at small batches, and what BN does
    there is part of what the sweeps measure: the variance is 0 and the output is beta. torch.nn
    refuses that case, and the unbiased variance it would store, 0 * n / (n - 1), is NaN; here
    running_var is left as it is (one value estimates no variance) and running_mean moves.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int, act: Act, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.act = act

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
        return activate_(y, self.act)

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, count: int | Tensor) -> None:
        """Move the running statistics towards the mean and population variance of `count` values
        of each channel, as torch does: the variance it stores is the unbiased one. For norms built
        on this one that take their statistics themselves."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), self.momentum)
        if isinstance(count, Tensor) or count > 1:
            unbiased = var.flatten() * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class FrozenBatchNormAct(nn.Module):
    """Batch norm by its running statistics, which are buffers that nothing updates, then the
    activation.

    gamma and beta learn when `trainable`, else they are buffers too. Without loaded weights the
    statistics are mean 0 and variance 1: the layer is then an affine map.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, act: Act, eps: float, trainable: bool) -> None:
        super().__init__()
        self.act, self.eps = act, eps
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
        return activate_(y, self.act)

    def extra_repr(self) -> str:
        trainable = isinstance(self.weight, nn.Parameter)
        return f"{len(self.weight)}, eps={self.eps}, trainable={trainable}, act={self.act}"
