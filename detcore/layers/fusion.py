"""How maps of one size become one: added, averaged, or weighted by learned scalars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def build_fusion(kind: str, inputs: int) -> nn.Module:
    """forward(maps): `inputs` maps of one shape -> one map of that shape. Every call makes new
    weights (where the kind has any) and draws no random numbers."""
    return FUSIONS[kind](inputs)


class SumFusion(nn.Module):
    """x_1 + ... + x_n."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total = maps[0]
        for x in maps[1:]:
            total = total + x
        return total


class MeanFusion(SumFusion):
    """(x_1 + ... + x_n) / n."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return super().forward(maps) / self.inputs


class WeightedFusion(nn.Module):
    """Fast normalised fusion (Tan et al. 2020, EfficientDet, section 3.3): sum_k s_k x_k with
    s_k = relu(w_k) / (sum_j relu(w_j) + 1e-4), one scalar w_k for each input, all 1 at first.

    The shares s_k stay float32 under autocast. They sum to a little less than 1: the
    1e-4 keeps them finite where all w_k are at most 0, which gives a map of zeros without a
    gradient for the w_k.
    """

    eps = 1e-4

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs))

    def shares(self) -> Tensor:
        """The factor of each input, from 0 to 1."""
        weight = self.weight.relu()
        return weight / (weight.sum() + self.eps)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        shares = self.shares()
        total = shares[0] * maps[0]
        for share, x in zip(shares[1:], maps[1:], strict=True):
            total = total + share * x
        return total


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "sum": SumFusion,
    "avg": MeanFusion,
    "wsum": WeightedFusion,
}
