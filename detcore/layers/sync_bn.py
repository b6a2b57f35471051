"""Batch norm whose statistics are those of the whole gang's batch (Peng et al. 2018, "MegDet",
section 3.2).

Shape legend: B batch of one rank, C channels, H x W map, R ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from detcore.layers.activation import activate_
from detcore.layers.batch_norm import BatchNormAct
from detcore.layers.moments import moments, pool


class SyncBatchNormAct(BatchNormAct):
    """BatchNormAct as if the ranks' batches were one; B x C x H x W in and out, dtype kept.

    The ranks' maps may differ in B, H and W: each value of the gang's batch counts once. Every rank
    must reach every such layer in every training step, in the same order. A gang of one and
    evaluation are BatchNormAct itself. The gradients of gamma and beta are this rank's part, which
    DistributedDataParallel then averages, as those of every other parameter.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or gang_size() == 1:
            return super().forward(x)
        mean, var = pool(*moments(x), dim=0)  # 1 x C x 1 x 1
        count = mean.new_full((1,), x.numel() // x.shape[1])
        rows = _GatherRows.apply(torch.cat([mean.flatten(), var.flatten(), count]))
        means, variances, counts = rows.split([x.shape[1], x.shape[1], 1], dim=1)
        mean, var = pool(means, variances, dim=0, share=counts / counts.sum())
        self.track(mean, var, counts.sum())
        scale = (self.weight * (var + self.eps).rsqrt()).view(-1, 1, 1)
        shift = self.bias.view(-1, 1, 1) - mean.view(-1, 1, 1) * scale
        return activate_((x * scale).add_(shift).to(x.dtype), self.act)


def gang_size() -> int:
    """Ranks of the process group that is joined; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """R x N from every rank's N values, on every rank. As every rank reads every row, the gradient
    of a rank's values is the sum of what all ranks send back to its row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        rows = values.new_empty(dist.get_world_size() * len(values))
        dist.all_gather_into_tensor(rows, values)
        return rows.view(-1, len(values))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_rows: Tensor) -> Tensor:
        total = d_rows.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
