"""Anchors, boxes and batches for the matchers' tests."""

from __future__ import annotations

import torch
from torch import Tensor

from detcore.config import schema
from detcore.ops.anchors import AnchorSet, grid_anchors


def report_atss(kind: str, floor: float = 0.1, cap: float = 0.5) -> schema.ReportAtss:
    """The settings of atss_v2 ... atss_v5; v2 has no `cap`."""
    if kind == "atss_v2":
        return schema.AtssV2(floor=floor)
    if kind == "atss_v3":
        return schema.AtssV3(floor=floor, cap=cap)
    return schema.AtssV4(kind=kind, floor=floor, cap=cap)  # type: ignore[arg-type]


def boxes_on_a_grid(count: int, cells: int) -> Tensor:
    """Corners on a coarse grid: equal boxes and equal overlaps are common, so ties are too."""
    corner = torch.randint(0, cells, (count, 2))
    size = torch.randint(1, cells + 1, (count, 2))
    return torch.cat((corner, corner + size), dim=1).float() * 8


def boxes_anywhere(count: int, side: float) -> Tensor:
    """Corners at random numbers: no ties."""
    corner = torch.rand(count, 2) * side
    return torch.cat((corner, corner + 1 + torch.rand(count, 2) * side), dim=1)


def anchor_set(boxes: Tensor) -> AnchorSet:
    return AnchorSet(boxes, (len(boxes),), 1)


def pyramid(per_cell: int) -> AnchorSet:
    """Three levels of 6 x 5, 3 x 3 and 2 x 2 cells, 1, 3 or 9 anchors in each. The corners are
    whole numbers, so that centres and distances are exact and ties are common."""
    ratios = {1: (1.0,), 3: (0.25, 1.0, 4.0), 9: (0.25, 1.0, 4.0)}[per_cell]
    sizes = tuple((s, 1.25 * s, 1.5 * s) if per_cell == 9 else (s,) for s in (16.0, 32.0, 64.0))
    cfg = schema.ListedAnchors(sizes=sizes, ratios=(ratios,))
    return grid_anchors(cfg, [(6, 5), (3, 3), (2, 2)], (8, 16, 32), "cpu")


def padded(images: list[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    """boxes B x M x 4 and valid B x M, with `extra` rows more than the fullest image needs."""
    most = max(1, *(len(b) for b in images), 0) + extra
    boxes = torch.zeros(len(images), most, 4)
    valid = torch.zeros(len(images), most, dtype=torch.bool)
    for row, image in enumerate(images):
        boxes[row, : len(image)] = image
        valid[row, : len(image)] = True
    return boxes, valid
