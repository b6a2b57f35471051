"""EvoNorm-S0 (Liu et al. 2020, "Evolving Normalization-Activation Layers", table 2).

Shape legend: B batch, C channels, G groups, H x W map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class EvoNormS0(nn.Module):
    """y = gamma * x * sigmoid(v x) / sqrt(Var_g(x) + eps) + beta, per sample; B x C x H x W in and
    out, dtype kept.

    Var_g is the population variance over H x W x (C / G), in float32 or better also under autocast;
    the mean is not subtracted in the numerator. The layer contains its activation. With
    `act=False`, for the places where no activation follows a norm, the sigmoid gate is left out and
    the normalisation stays: y = gamma * x / sqrt(Var_g(x) + eps) + beta.
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-5, act: bool = True) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels)) if act else None

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.unflatten(1, (self.groups, -1))  # a view in both memory formats
        shape = (self.groups, -1, 1, 1)
        v = None if self.v is None else self.v.view(shape)
        y = _EvoNormS0.apply(grouped, self.weight.view(shape), self.bias.view(shape), v, self.eps)
        return y.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}, act={self.v is not None}"


class _EvoNormS0(torch.autograd.Function):
    """On grouped maps B x G x C/G x H x W, with parameters G x C/G x 1 x 1, so that a statistic
    (B x G x 1 x 1 x 1) is never expanded. Keeps one map for the backward pass, its input, where
    autograd would keep four and BN with ReLU two."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, v: Tensor | None, eps: float
    ) -> Tensor:
        mean, inverse_std = _group_statistics(x, eps)
        ctx.save_for_backward(x, weight, v, mean, inverse_std)
        gated = x if v is None else torch.sigmoid(x * v.to(x.dtype)).mul_(x)
        return torch.addcmul(bias.to(x.dtype), gated, (inverse_std * weight).to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """With r = 1 / sqrt(Var_g + eps), s = sigmoid(v x), N values in a group, mean m:

        dx = dy gamma r s (1 + v x (1 - s)) - (x - m) r^3 / N * sum over the group of dy gamma x s
        """
        x, weight, v, mean, inverse_std = ctx.saved_tensors
        wide = inverse_std.dtype
        scale = inverse_std * weight
        dv = None
        if v is None:
            channel_sum = (dy * x).sum(dim=(3, 4), keepdim=True, dtype=wide)
            dx = dy * scale.to(x.dtype)
        else:
            v = v.to(x.dtype)
            gate = torch.sigmoid(x * v)
            dy_gated = (x * gate).mul_(dy)
            channel_sum = dy_gated.sum(dim=(3, 4), keepdim=True, dtype=wide)
            rest = torch.addcmul(x, x, gate, value=-1)  # x (1 - s)
            dv = (dy_gated.mul_(rest).sum(dim=(3, 4), keepdim=True, dtype=wide) * scale).sum(0)
            dx = gate.addcmul_(gate * v, rest).mul_(dy).mul_(scale.to(x.dtype))
        group_sum = (channel_sum * weight).sum(dim=2, keepdim=True)
        slope = group_sum * inverse_std**3 / -x[0, 0].numel()
        dx = dx.addcmul_(x, slope.to(x.dtype)).sub_((slope * mean).to(x.dtype))
        dweight = (channel_sum * inverse_std).sum(0)
        dbias = dy.sum(dim=(0, 3, 4), keepdim=True, dtype=wide)[0]
        return dx, dweight, dbias, dv, None


def _group_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(population variance + eps) of a grouped map, each B x G x 1 x 1 x 1."""
    wide = x if x.dtype == torch.float64 else x.float()
    if x.device.type != "cpu":
        var, mean = torch.var_mean(wide, dim=(2, 3, 4), keepdim=True, correction=0)
        return mean, (var + eps).rsqrt()
    b, g, c, h, w = x.shape  # torch.var is 10 to 20 times slower here than group norm's statistics
    _, mean, inverse_std = torch.native_group_norm(
        wide.flatten(1, 2), None, None, b, g * c, h * w, g, eps
    )
    return mean.view(b, g, 1, 1, 1), inverse_std.view(b, g, 1, 1, 1)
