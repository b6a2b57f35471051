"""Anchors matched by their largest IoU (Ren et al. 2015; thresholds of RetinaNet), for a whole
batch at once.

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


class MaxIouMatcher:
    """An anchor whose best IoU is at least `high` is positive, below `low` background, between them
    ignored.

    With `rescue`, the anchors that share a box's highest IoU become positive too (all of them, on
    ties); like every anchor they learn their own best box, which may be another one. This is
    torchvision's Matcher(allow_low_quality_matches=True), but for one case: a box that overlaps no
    anchor rescues none (there it would make every anchor outside all boxes positive). An image
    without boxes is all background.
    """

    def __init__(self, cfg: schema.MaxIouMatcher) -> None:
        self.cfg = cfg

    def __call__(self, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """anchors A, boxes B x M x 4, valid B x M bool -> index B x A int64, state B x A int8.
        No host sync."""
        best = Best(len(boxes), len(anchors.boxes), -1.0, boxes)
        rescued = torch.zeros_like(best.index, dtype=torch.bool)
        for start, some, there in chunks(boxes, valid, len(anchors.boxes)):
            # a row without a box gets -1: below every real overlap, so it is never the best and
            # never reaches a threshold
            iou = iou_matrix(some, anchors.boxes).masked_fill(~there[:, :, None], -1.0)
            best.look(iou, start)
            if self.cfg.rescue:
                highest = iou.amax(dim=2, keepdim=True)
                rescued |= ((iou == highest) & (highest > 0)).any(dim=1)
        positive = (best.value >= self.cfg.high) | rescued
        state = torch.full_like(best.index, IGNORED, dtype=torch.int8)
        state.masked_fill_(best.value < self.cfg.low, BACKGROUND).masked_fill_(positive, POSITIVE)
        return best.index, state
