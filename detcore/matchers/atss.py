"""Adaptive training sample selection as published (Zhang et al. 2020, algorithm 1).

Shape legend: B batch, A anchors, M boxes of the fullest image, m boxes of a chunk, N
candidates of a box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detcore.config import schema
from detcore.matchers.chunks import Best, chunks
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
        best = Best(len(boxes), len(anchors.boxes), -1.0, boxes)
        for start, some, there in chunks(boxes, valid, len(anchors.boxes)):
            best.look(self._claimed(anchors, some, there), start)
        state = torch.full_like(best.index, BACKGROUND, dtype=torch.int8)
        return best.index, state.masked_fill_(best.value >= 0, POSITIVE)

    def _claimed(self, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> Tensor:
        """B x m x A: the IoU of a box with the anchors that it claims, -1 for others."""
        centres = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
        candidates = self._candidates(anchors, centres, boxes)  # no anchor twice in a row
        iou = iou_matrix(boxes, anchors.boxes[candidates])  # B x m x N: each box with its own
        threshold = mean_plus_deviation(iou, torch.ones_like(iou, dtype=torch.bool), correction=1)
        centre, sides = centres[candidates], boxes[:, :, None]
        inside = ((centre > sides[..., :2]) & (centre < sides[..., 2:])).all(dim=-1)
        claims = inside & (iou >= threshold[..., None]) & valid[..., None]
        claimed = iou.new_full((*valid.shape, len(centres)), -1.0)
        return claimed.scatter_(2, candidates, iou.masked_fill(~claims, -1.0))

    def _candidates(self, anchors: AnchorSet, centres: Tensor, boxes: Tensor) -> Tensor:
        """Anchor indices, B x m x N; N is the same for all boxes."""
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        in_cell = torch.arange(anchors.per_cell, device=boxes.device)
        parts, start = [], 0
        for length in anchors.level_lengths:
            cells = centres[start : start + length : anchors.per_cell]
            away = (middle[:, :, None] - cells).square().sum(dim=-1)  # B x m x cells, squared
            nearest = away.argsort(dim=-1, stable=True)[..., : self.cfg.top_k]
            part = start + nearest[..., None] * anchors.per_cell + in_cell
            parts.append(part.flatten(start_dim=2))
            start += length
        return torch.cat(parts, dim=-1)
