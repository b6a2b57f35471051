"""Adaptive training sample selection as published (Zhang et al. 2020, algorithm 1).

Shape legend: B batch, A anchors, M boxes of the fullest image, N candidates of a box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detcore.config import schema
from detcore.matchers.state import BACKGROUND, POSITIVE
from detcore.matchers.statistics import mean_plus_deviation
from detcore.ops.anchors import AnchorSet
from detcore.ops.boxes import iou_matrix


class AtssMatcher:
    """Of each level, the anchors whose centres are nearest to a box's centre are its candidates;
    positive are those with an IoU of at least the mean plus the standard deviation of the
    candidates' IoUs, and with their centre strictly inside the box. An anchor that several boxes
    claim learns the one it overlaps most (the first on ties). All others are background.

    What the paper leaves open, and what is done here:
    - It has one anchor per cell. With more, the `top_k` nearest cells give all their anchors, which
      is the k * anchors per cell of the authors' code. Of equally near cells the earlier counts.
    - The standard deviation divides by N - 1, as the authors' code does (torch.std).
    - "Inside" means by any amount; the authors' code asks for 0.01 pixels.
    The seed report's matchers of this name are other ones: `detcore.matchers.report_atss`.
    """

    def __init__(self, cfg: schema.Atss) -> None:
        self.cfg = cfg

    def __call__(self, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """anchors A, boxes B x M x 4, valid B x M bool -> index B x A int64, state B x A int8.
        No host sync. The anchors of a cell must share their centre."""
        centres = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
        candidates = self._candidates(
            anchors, centres, boxes
        )  # B x M x N, no anchor twice in a row
        iou = iou_matrix(boxes, anchors.boxes[candidates])  # B x M x N: each box with its own
        threshold = mean_plus_deviation(iou, torch.ones_like(iou, dtype=torch.bool), correction=1)
        centre, sides = centres[candidates], boxes[:, :, None]
        inside = ((centre > sides[..., :2]) & (centre < sides[..., 2:])).all(dim=-1)
        claims = inside & (iou >= threshold[..., None]) & valid[..., None]
        claimed = iou.new_full((*valid.shape, len(centres)), -1.0)  # B x M x A
        claimed.scatter_(2, candidates, iou.masked_fill(~claims, -1.0))
        best, index = claimed.max(dim=1)
        state = torch.full_like(index, BACKGROUND, dtype=torch.int8)
        return index, state.masked_fill_(best >= 0, POSITIVE)

    def _candidates(self, anchors: AnchorSet, centres: Tensor, boxes: Tensor) -> Tensor:
        """Anchor indices, B x M x N; N is the same for all boxes."""
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        in_cell = torch.arange(anchors.per_cell, device=boxes.device)
        parts, start = [], 0
        for length in anchors.level_lengths:
            cells = centres[start : start + length : anchors.per_cell]
            away = (middle[:, :, None] - cells).square().sum(dim=-1)  # B x M x cells, squared
            nearest = away.argsort(dim=-1, stable=True)[..., : self.cfg.top_k]
            part = start + nearest[..., None] * anchors.per_cell + in_cell
            parts.append(part.flatten(start_dim=2))
            start += length
        return torch.cat(parts, dim=-1)
