"""Box regression losses.

Shape legend: B batch, A anchors (or points). Deltas are relative to the anchors
(`ops.boxes.encode`), boxes are corners in pixels, all float32 or wider. `weight` is at least 0 per
anchor; where it is 0 the target must still be a proper box (the detector gives the anchor itself),
so that no NaN arises that the weight could not undo.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from detcore.ops.boxes import clip_to, decode, encode


def huber_loss(
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    delta: float,
    scale: float,
) -> Tensor:
    """scale * sum of weight * Huber over the four deltas: e^2 / 2 up to |e| = delta, then delta *
    (|e| - delta / 2).

    deltas B x A x 4, anchors A x 4, boxes B x A x 4, weight B x A -> scalar.
    """
    error = F.huber_loss(deltas, encode(boxes, anchors), reduction="none", delta=delta)
    return scale * (error * weight[..., None]).sum()


def smooth_l1_loss(
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    beta: float,
    scale: float,
) -> Tensor:
    """scale * sum of weight * smooth L1 over the four deltas: e^2 / (2 beta) up to |e| = beta, then
    |e| - beta / 2 (Girshick 2015, equation 3, which has beta = 1). Shapes as in `huber_loss`.

    This is `huber_loss` divided by beta: at beta = 0.1, the value that the report's settings name
    and its code never read, a small error weighs ten times as much as at beta = 1.
    """
    error = F.smooth_l1_loss(deltas, encode(boxes, anchors), reduction="none", beta=beta)
    return scale * (error * weight[..., None]).sum()


def iou_loss(
    found: Tensor,
    boxes: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    measure: Callable[[Tensor, Tensor], Tensor],
    clip: bool,
    scale: float,
) -> Tensor:
    """scale * sum of weight * (1 - measure(found, boxes)), measure one of giou, diou and ciou.

    found and boxes B x A x 4 corners, weight B x A -> scalar. With `clip` the found boxes are cut
    to `size`, the (height, width) of the padded input, first: the report's form. A side that sticks
    out then gets no gradient, so that a box wholly to the left of the image never comes back by
    this loss. Published losses do not clip.

    torchvision's versions of these losses index by a mask, which makes the host wait for the GPU.
    """
    if clip:
        found = clip_to(found, size)
    return scale * (weight * (1 - measure(found, boxes))).sum()


def decoded_loss(
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    loss: Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Tensor],
) -> Tensor:
    """A loss of boxes as one of deltas. Shapes as in `huber_loss`."""
    return loss(decode(deltas, anchors), boxes, weight, size)
