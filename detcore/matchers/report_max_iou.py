"""`max_iou` as the seed report's code had it (seed_components section 7.1).

Shape legend: B batch, A anchors, M boxes of the fullest image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detcore.config import schema
from detcore.matchers.chunks import Best, chunks
from detcore.matchers.state import BACKGROUND, IGNORED, POSITIVE
from detcore.ops.anchors import AnchorSet
from detcore.ops.boxes import iou_matrix


class ReportMaxIouMatcher:
    """An anchor whose best IoU is at least `high` is positive, below `low` background, between them
    ignored; an IoU below `floor` counts as 0.

    Apart from that, it differs from `max_iou` in the rescue: of each box one anchor, its best (the
    first on ties, where `max_iou` takes all), becomes positive, and only if their IoU is at least
    `floor`. A rescued anchor learns its own best box, which may be another one. Left open by the
    evidence: which of equally good anchors the report's code took. An image without boxes is all
    background, and with `floor` 0 a box that overlaps no anchor rescues none.
    """

    def __init__(self, cfg: schema.ReportMaxIouMatcher) -> None:
        self.cfg = cfg

    def __call__(self, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """anchors A, boxes B x M x 4, valid B x M bool -> index B x A int64, state B x A int8.
        No host sync."""
        best = Best(len(boxes), len(anchors.boxes), -1.0, boxes)
        rescued = torch.zeros_like(best.index, dtype=torch.bool)
        for start, some, there in chunks(boxes, valid, len(anchors.boxes)):
            iou = iou_matrix(some, anchors.boxes)
            # a row without a box gets -1: it is never the best and never reaches a threshold
            iou = iou.masked_fill(iou < self.cfg.floor, 0.0).masked_fill(~there[:, :, None], -1.0)
            best.look(iou, start)
            highest, rescuer = iou.max(dim=2, keepdim=True)
            # a row for each box: no two of them write to one place
            mine = torch.zeros_like(iou, dtype=torch.bool).scatter_(2, rescuer, highest > 0)
            rescued |= mine.any(dim=1)
        positive = (best.value >= self.cfg.high) | rescued
        state = torch.full_like(best.index, IGNORED, dtype=torch.int8)
        state.masked_fill_(best.value < self.cfg.low, BACKGROUND).masked_fill_(positive, POSITIVE)
        return best.index, state
