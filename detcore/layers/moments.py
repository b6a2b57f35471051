"""Means and variances as differentiable operators, in float32 or better.

Shape legend: B batch, C channels, H x W map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance of each channel of each sample: B x C x H x W -> two of
    B x C x 1 x 1, float32 also under autocast (float64 of float64)."""
    return _Moments.apply(x)


def pool(mean: Tensor, var: Tensor, dim: int, share: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and population variance of the union of sets along `dim`, which is kept with size 1.

    `share` is the sets' part of the union's values (it sums to 1 along `dim`); without it they are
    equally large. The variance is that inside the sets plus that between them; E[x^2] - E[x]^2
    would cancel where the mean is large.
    """
    weight = 1 / mean.shape[dim] if share is None else share
    whole = (mean * weight).sum(dim, keepdim=True)
    spread = (var + (mean - whole).square()) * weight
    return whole, spread.sum(dim, keepdim=True)


class _Moments(torch.autograd.Function):
    """Keeps its input for the backward pass, in the input's dtype; autograd would keep a float32
    copy and torch.var_mean's own kernel is many times slower on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = x.mean(dim=(2, 3), keepdim=True, dtype=wide)
        norm = torch.linalg.vector_norm(x - mean, dim=(2, 3), keepdim=True)
        ctx.save_for_backward(x, mean)
        return mean, norm.square() / x[0, 0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor) -> Tensor:
        """dx = (d_mean + 2 (x - mean) d_var) / (H W)"""
        x, mean = ctx.saved_tensors
        size = x[0, 0].numel()
        slope = d_var * (2 / size)
        return (x * slope).add_(d_mean / size - mean * slope).to(x.dtype)
