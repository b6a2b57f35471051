"""Box arithmetic on corners x1 y1 x2 y2 in pixels: pure functions without host syncs.

Shape legend: B batch, M boxes, A anchors; `...` any leading axes, which broadcast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest log scale that decode applies, as in torchvision and Detectron: a wild delta cannot
overflow to infinity. (The seed report's code had no such limit.)"""


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """... x 4 boxes relative to ... x 4 anchors -> ... x 4 deltas ((x-xa)/wa, (y-ya)/ha, log(w/wa),
    log(h/ha)) of centres and sizes (Girshick et al. 2014), unit weights. Boxes must have positive
    width and height."""
    centre, size = _centre_size(boxes)
    anchor_centre, anchor_size = _centre_size(anchors)
    return torch.cat(((centre - anchor_centre) / anchor_size, (size / anchor_size).log()), dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`, log scales limited to MAX_LOG_SCALE: ... x 4 deltas -> ... x 4
    corners."""
    anchor_centre, anchor_size = _centre_size(anchors)
    centre = anchor_centre + deltas[..., :2] * anchor_size
    half = deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor_size / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def iou_matrix(boxes: Tensor, anchors: Tensor) -> Tensor:
    """B x M x 4 boxes and A x 4 anchors -> B x M x A intersection over union; 0 for a box without
    area."""
    rows, columns = boxes[..., :, None, :], anchors
    shared = _overlap(rows, columns)
    return shared / (area(rows) + area(columns) - shared)


def giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """... x 4 and ... x 4 -> ... generalised IoU, pair by pair (Rezatofighi et al. 2019, algorithm
    1), in [-1, 1]."""
    shared = _overlap(a, b)
    union = area(a) + area(b) - shared
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull_area = hull[..., 0] * hull[..., 1]
    return shared / (union + eps) - (hull_area - union) / (hull_area + eps)


def area(boxes: Tensor) -> Tensor:
    """... x 4 -> ..."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """B x A x 4 boxes cut to the images' B x 2 (height, width)."""
    limit = sizes.flip(-1).repeat(1, 2)[:, None, :].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    side = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    side = side.clamp(min=0)
    return side[..., 0] * side[..., 1]


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
