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
    hull = _hull(a, b)
    hull_area = hull[..., 0] * hull[..., 1]
    return shared / (union + eps) - (hull_area - union) / (hull_area + eps)


def diou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """... x 4 and ... x 4 -> ... distance IoU, pair by pair (Zheng et al. 2020, equation 7), in
    [-1, 1]: IoU less the squared distance of the centres over the squared diagonal of the hull."""
    return _diou(a, b, _iou(a, b, eps), eps)


def ciou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """... x 4 and ... x 4 -> ... complete IoU, pair by pair (Zheng et al. 2020, equations 8 to 11):
    DIoU less alpha * v, v the squared difference of the angles atan(w/h), scaled to [0, 1]. alpha
    is a weight: it passes no gradient.

    A box without width and height has an angle too: that of height eps.
    """
    iou = _iou(a, b, eps)
    v = 4 / math.pi**2 * (_angle(a, eps) - _angle(b, eps)) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return _diou(a, b, iou, eps) - alpha * v


def area(boxes: Tensor) -> Tensor:
    """... x 4 -> ..."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """B x A x 4 boxes cut to the images' B x 2 (height, width)."""
    limit = sizes.flip(-1).repeat(1, 2)[:, None, :].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def clip_to(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """... x 4 boxes cut to one (height, width). A coordinate outside gets no gradient."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), dim=-1).flatten(-2)


def from_sides(points: Tensor, sides: Tensor) -> Tensor:
    """... x 2 points (x, y) and their ... x 4 distances to the left, upper, right and lower side of
    a box -> ... x 4 corners."""
    return torch.cat((points - sides[..., :2], points + sides[..., 2:]), dim=-1)


def to_sides(points: Tensor, boxes: Tensor) -> Tensor:
    """The inverse of `from_sides`: ... x 2 points and ... x 4 corners -> ... x 4 distances, below 0
    for a side that the point is beyond."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def centres(boxes: Tensor) -> Tensor:
    """... x 4 -> ... x 2 (x, y)"""
    return _centre_size(boxes)[0]


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    side = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    side = side.clamp(min=0)
    return side[..., 0] * side[..., 1]


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """... x 2 width and height of the smallest box around both."""
    return torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])


def _iou(a: Tensor, b: Tensor, eps: float) -> Tensor:
    shared = _overlap(a, b)
    return shared / (area(a) + area(b) - shared + eps)


def _diou(a: Tensor, b: Tensor, iou: Tensor, eps: float) -> Tensor:
    distance = (centres(a) - centres(b)).square().sum(-1)
    return iou - distance / (_hull(a, b).square().sum(-1) + eps)


def _angle(boxes: Tensor, eps: float) -> Tensor:
    width, height = _centre_size(boxes)[1].unbind(-1)
    # not atan(w / h), whose gradient is NaN at h = 0; eps, because atan2's is NaN at (0, 0)
    return torch.atan2(width, height + eps)
