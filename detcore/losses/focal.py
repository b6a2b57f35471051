"""Focal loss.

Shape legend: B batch, A anchors, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(
    logits: Tensor, is_class: Tensor, weight: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum over anchors and classes of weight * alpha_t * (1 - p_t)^gamma * (-log p_t) (Lin et al.
    2017, equation 5).

    logits B x A x K, is_class B x A x K bool, weight B x A -> scalar.
    """
    # with m = -logit for the anchor's class and +logit for the others: 1 - p_t = sigmoid(m) and
    # -log p_t = softplus(m)
    m = logits * torch.ones_like(logits).masked_fill_(is_class, -1)
    alpha_t = torch.full_like(logits, 1 - alpha).masked_fill_(is_class, alpha)
    return (alpha_t * weight[..., None] * torch.sigmoid(m) ** gamma * F.softplus(m)).sum()
