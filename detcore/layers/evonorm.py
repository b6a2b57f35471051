"""EvoNorm-S0 (Liu et al. 2020, "Evolving Normalization-Activation Layers", table 2).

Shape legend: B batch, C channels, G groups, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EvoNormS0(nn.Module):
    """y = gamma * x * sigmoid(v x) / sqrt(Var_g(x) + eps) + beta, per sample; B x C x H x W in and
    out, dtype kept.

    Var_g is the population variance over H x W x (C / G), in float32 or better also under autocast;
    the mean is not subtracted in the numerator. It contains its activation. With `act=False`, for
    the places where no activation follows a norm, the sigmoid gate is left out and the
    normalisation stays: y = gamma * x / sqrt(Var_g(x) + eps) + beta.

    The statistics stay B x C x 1 x 1 and are never expanded to the full map, and scale and shift
    are one operation: about 4 maps are saved for the backward pass (BN with ReLU saves 2); under
    torch.compile it is one.
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-5, act: bool = True) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels)) if act else None

    def forward(self, x: Tensor) -> Tensor:
        scale = self._inverse_std(x) * self.weight.view(-1, 1, 1)
        if self.v is not None:
            x = x * torch.sigmoid(x * self.v.to(x.dtype).view(-1, 1, 1))
        return torch.addcmul(self.bias.to(x.dtype).view(-1, 1, 1), x, scale.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}, act={self.v is not None}"

    def _inverse_std(self, x: Tensor) -> Tensor:
        """B x C x 1 x 1: 1 / sqrt(Var_g + eps). Splitting the channel axis is a view in both memory
        formats."""
        wide = x if x.dtype == torch.float64 else x.float()
        grouped = wide.unflatten(1, (self.groups, -1))
        inverse = (grouped.var(dim=(2, 3, 4), correction=0) + self.eps).rsqrt()
        return inverse.repeat_interleave(x.shape[1] // self.groups, dim=1)[:, :, None, None]
