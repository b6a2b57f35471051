"""Box regression losses.

Shape legend: B batch, A anchors. Deltas are relative to the anchors (`ops.boxes.encode`), boxes are
corners in pixels. `weight` is 0 or 1 per anchor; where it is 0 the target must still be a proper
box (the detector gives the anchor itself), so that no NaN arises that the weight could not undo.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from detcore.ops.boxes import decode, encode, giou


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


def giou_loss(
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    scale: float,
) -> Tensor:
    """scale * sum of weight * (1 - GIoU(decoded deltas, boxes)), Rezatofighi et al. 2019. Shapes as
    in `huber_loss`.

    torchvision's version of this loss indexes by a mask, which makes the host wait for the GPU.
    """
    return scale * (weight * (1 - giou(decode(deltas, anchors), boxes))).sum()
