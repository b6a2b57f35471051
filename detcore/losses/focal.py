"""Focal loss, and the report's variant that spares rare classes.

Shape legend: B batch, A anchors, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def focal_loss(
    logits: Tensor, is_class: Tensor, weight: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum over anchors and classes of weight * alpha_t * (1 - p_t)^gamma * (-log p_t) (Lin et al.
    2017, equation 5).

    logits B x A x K, is_class B x A x K bool, weight B x A -> scalar.
    """
    return (weight[..., None] * focal_terms(logits, is_class, alpha, gamma)).sum()


def focal_terms(logits: Tensor, is_class: Tensor, alpha: float, gamma: float) -> Tensor:
    """The terms of `focal_loss` without a weight, B x A x K."""
    # with m = -logit for the anchor's class and +logit for the others: 1 - p_t = sigmoid(m) and
    # -log p_t = softplus(m)
    m = logits * torch.ones_like(logits).masked_fill_(is_class, -1)
    alpha_t = torch.full_like(logits, 1 - alpha).masked_fill_(is_class, alpha)
    return alpha_t * torch.sigmoid(m) ** gamma * F.softplus(m)


class FrequencyFocalLoss(nn.Module):
    """The report's "GIOUOutputsV2": focal loss whose negative term of class c at an anchor of class
    t is weighted by min(1, f_c / f_t); positive terms keep weight 1. No paper.

    f_c is the share of class c among the training boxes in percent. The background, and classes
    without boxes, count as 1 percent, as in the report. So an anchor of a frequent class pushes a
    rare class down less, and at a background anchor only classes below 1 percent are spared.

    The report's f_c were a table of COCO's classes within the code; here they are counted in the
    training data of the run (`class_counts`, K numbers). They are a buffer outside the state dict:
    a checkpoint is the same as with the plain loss.
    """

    percent: Tensor

    def __init__(self, class_counts: Sequence[int], alpha: float, gamma: float) -> None:
        super().__init__()
        if len(class_counts) == 0:
            raise ValueError(
                "class_loss frequency_focal needs class_counts, the boxes of each class in the "
                "training data, which is empty"
            )
        self.alpha, self.gamma = alpha, gamma
        total = sum(class_counts)
        shares = [100 * n / total if n > 0 else 1.0 for n in class_counts]
        self.register_buffer("percent", torch.tensor(shares), persistent=False)

    def forward(self, logits: Tensor, is_class: Tensor, weight: Tensor) -> Tensor:
        """logits B x A x K, is_class B x A x K bool, at most one class an anchor, weight B x A ->
        scalar."""
        assigned = (is_class * self.percent).sum(-1, keepdim=True)
        assigned = assigned.masked_fill(assigned == 0, 1.0)  # background
        spared = (self.percent / assigned).clamp(max=1).masked_fill(is_class, 1.0)
        terms = focal_terms(logits, is_class, self.alpha, self.gamma)
        return (weight[..., None] * spared * terms).sum()
