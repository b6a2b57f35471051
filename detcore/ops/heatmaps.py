"""Keypoint heatmaps: what they should be, and the peaks of what they are. Pure functions without
host syncs.

Shape legend: B batch, M boxes of the fullest image, K classes, N peaks, h x w size of a map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BOXES_AT_ONCE = 32
"""Bells drawn in one go: 32 x 72 x 100 floats are under 1 MB an image."""


def gaussian_radius(height: Tensor, width: Tensor, iou: float = 0.7) -> Tensor:
    """Box sizes in cells -> the radius of its bells in cells (CornerNet, section 3.2), not rounded.

    The rule asks how far both corners may move so that the box keeps `iou`, for one corner inwards
    and one outwards, both inwards, and both outwards, and takes the least of the three. Each
    distance x solves a x^2 - b x + c = 0, but the rule's original form, which the report ran too,
    takes (b + sqrt(b^2 - 4 a c)) / 2 for all: it does not divide by a, and in the first two cases
    picks the larger root. Of the three the last is then always the least (it is at most (h + w) /
    4, the others at least (h + w) / 2), and is what is computed here: 4 * iou times the true
    distance of its case. So what holds is that a box grown by radius / (4 * iou) on every side has
    this IoU with the box; grown or shrunk by the radius itself, it has much less.
    """
    total = height + width
    return iou * ((total**2 + 4 * (1 - iou) / iou * height * width).sqrt() - total)


def gaussian_heatmaps(
    cells: Tensor,
    radius: Tensor,
    labels: Tensor,
    num_classes: int,
    size: tuple[int, int],
    spread: float,
) -> Tensor:
    """Targets: for each class the maximum of its boxes' bells exp(-d^2 / (2 sigma^2)) with sigma =
    (2 radius + 1) / spread, cut to the square of cells within the radius.

    cells B x M x 2 int64 (x, y) inside the map, radius B x M, labels B x M (-1 = no box), size (h,
    w) -> B x K x h x w float32, 1 at the cells.
    """
    height, width = size
    target = radius.new_zeros((len(cells), num_classes, height * width), dtype=torch.float32)
    for start in range(0, cells.shape[1], BOXES_AT_ONCE):
        part = slice(start, start + BOXES_AT_ONCE)
        r, label = radius[:, part].float(), labels[:, part]
        across = _bell(cells[:, part, 0], r, width, spread)
        down = _bell(cells[:, part, 1], r, height, spread) * (label >= 0)[..., None]
        bells = (down[..., None] * across[..., None, :]).flatten(2)
        index = label.clamp(min=0)[..., None].expand_as(bells)
        target.scatter_reduce_(1, index, bells, "amax")
    return target.unflatten(2, size)


def _bell(cell: Tensor, radius: Tensor, length: int, spread: float) -> Tensor:
    """One side of a bell, which is a product: B x M -> B x M x length."""
    distance = (torch.arange(length, device=cell.device) - cell[..., None]).float()
    sigma = ((2 * radius + 1) / spread)[..., None]
    value = torch.exp(-(distance**2) / (2 * sigma**2))
    return value.masked_fill(distance.abs() > radius[..., None], 0.0)


def top_peaks(heatmaps: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` cells of all classes that are the maximum of their 3 x 3 neighbourhood
    (CornerNet, section 3.2).

    heatmaps B x K x h x w, values above 0 -> scores, labels and cells (row * w + column), each B x
    N, best first, N = min(count, K * h * w). Where there are fewer peaks the scores at the end are
    0. All cells of a plateau are peaks.
    """
    is_peak = F.max_pool2d(heatmaps, 3, stride=1, padding=1) == heatmaps
    flat = heatmaps.masked_fill(~is_peak, 0.0).flatten(1)
    scores, index = flat.topk(min(count, flat.shape[1]))
    area = heatmaps.shape[-2] * heatmaps.shape[-1]
    return scores, index // area, index % area
