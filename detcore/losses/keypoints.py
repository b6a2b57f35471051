"""Losses of keypoint detectors (Law & Deng 2018, CornerNet; Duan et al. 2019, CenterNet).

Shape legend: B batch, M boxes of the fullest image, K classes, h x w size of a map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def heatmap_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss on soft targets y (CornerNet, equation 1, alpha 2 and beta 4): (1 - p)^2 (-log p)
    at positive cells, (1 - y)^4 p^2 (-log(1 - p)) at the others, summed, over the number of
    positive cells + 1e-4.

    In the report, and here, every cell with y >= 0.5 is positive; in the paper only those with y =
    1. Without any positive cell the divisor is that of one: the report's, 1e-4, would multiply the
    loss of an image without boxes by ten thousand (it trained on no such images).

    logits and targets B x K x h x w -> scalar.
    """
    positive = targets >= 0.5
    # with m = -logit at positive cells and +logit at the others: 1 - p_t = sigmoid(m) and
    # -log p_t = softplus(m)
    m = torch.where(positive, -logits, logits)
    weight = ((1 - targets) ** 4).masked_fill(positive, 1.0)
    total = (weight * torch.sigmoid(m) ** 2 * F.softplus(m)).sum()
    return total / (positive.sum().clamp(min=1) + 1e-4)


def tag_losses(top_left: Tensor, bottom_right: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Associative embedding (Newell et al. 2017; CornerNet, equations 4 and 5): the two tags of a
    box are pulled to their mean, the means of two boxes of an image pushed 1 apart, whatever their
    classes.

    pull: mean over the batch's boxes of (tl - mean)^2 + (br - mean)^2. push: mean over the batch's
    ordered pairs of boxes of max(0, 1 - |difference of means|). These are the report's means;
    CornerNet takes the means of each image and adds them up.

    top_left, bottom_right B x M, valid B x M bool -> two scalars, 0 without boxes or pairs.
    """
    mean = (top_left + bottom_right) / 2
    spread = (top_left - mean) ** 2 + (bottom_right - mean) ** 2
    pull = _masked_mean(spread, valid)
    pair = valid[:, :, None] & valid[:, None, :]
    pair = pair & ~torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    push = _masked_mean((1 - (mean[:, :, None] - mean[:, None, :]).abs()).relu(), pair)
    return pull, push


def offset_loss(offsets: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Huber with delta 1, mean over the coordinates of the boxes there are.

    offsets and targets B x M x D, valid B x M bool -> scalar, 0 without boxes.
    """
    error = F.huber_loss(offsets, targets, reduction="none")
    return _masked_mean(error, valid[..., None].expand_as(error))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
