"""Switchable norm (Luo et al. 2019, "Differentiable Learning-to-Normalize via Switchable
Normalization", equations 2 to 5).

Shape legend: B batch, C channels, H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detcore.config.schema.norm import Act
from detcore.layers.activation import activate_
from detcore.layers.batch_norm import BatchNormAct
from detcore.layers.moments import moments, pool


class SwitchableNormAct(BatchNormAct):
    """y = gamma * (x - sum_k p_k mean_k) / sqrt(sum_k q_k var_k + eps) + beta, then the activation;
    B x C x H x W in and out, dtype kept.

    k runs over instance, layer and batch norm in this order: statistics of a channel of a sample,
    of a sample, and of a channel of this rank's batch. p and q are the softmaxes of `mean_weight`
    and `var_weight`, which start equal. All variances are the population's, as in the paper (its
    authors' code takes the unbiased one for the instances); all statistics are float32.

    At evaluation the batch part comes from running averages as torch's batch norm keeps them. The
    paper instead averages the statistics of some batches after training ("batch average"); the two
    differ where the running ones have not settled.
    """

    def __init__(self, channels: int, act: Act, eps: float, momentum: float) -> None:
        super().__init__(channels, act, eps, momentum)
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        instance_mean, instance_var = moments(x)  # B x C x 1 x 1
        layer_mean, layer_var = pool(instance_mean, instance_var, dim=1)  # B x 1 x 1 x 1
        if self.training:
            batch_mean, batch_var = pool(instance_mean, instance_var, dim=0)  # 1 x C x 1 x 1
            self.track(batch_mean, batch_var, x.numel() // x.shape[1])
        else:
            batch_mean, batch_var = (
                statistic.view(1, -1, 1, 1) for statistic in (self.running_mean, self.running_var)
            )
        p, q = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = p[0] * instance_mean + p[1] * layer_mean + p[2] * batch_mean
        var = q[0] * instance_var + q[1] * layer_var + q[2] * batch_var
        scale = self.weight.view(-1, 1, 1) * (var + self.eps).rsqrt()
        shift = self.bias.view(-1, 1, 1) - mean * scale
        return activate_((x * scale).add_(shift).to(x.dtype), self.act)
