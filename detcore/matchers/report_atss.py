"""The seed report's ATSSMatcher2 to 5 (seed_components section 7.2). None of them is the published
ATSS, which is `detcore.matchers.atss`.

Shape legend: B batch, A anchors, M boxes of the fullest image, m boxes of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detcore.config import schema
from detcore.matchers.chunks import Best, chunks
from detcore.matchers.state import BACKGROUND, IGNORED, POSITIVE
from detcore.matchers.statistics import mean_plus_deviation
from detcore.ops.anchors import AnchorSet
from detcore.ops.boxes import iou_matrix

IGNORE_ABOVE = 0.2
"""v3 ignores no anchor at or below this IoU."""

REFERENCE = 3
"""v5's reference anchor in a cell of 3 ratios x 3 sizes: the middle ratio in its smallest size."""


class ReportAtssMatcher:
    """Each box's threshold is the mean plus the population standard deviation of the IoUs above
    `floor` among all anchors of all levels (no nearest k), and any anchor may become positive whose
    centre is inside the box, borders included. Nothing is rescued.

    - v2: of the boxes that contain an anchor's centre and whose threshold its IoU *exceeds*, the
      anchor learns the one it overlaps most. A box with a single candidate gets no positive: the
      deviation is 0, and the IoU does not exceed itself.
    - v3: of the boxes that contain an anchor's centre the anchor looks only at the one it overlaps
      most. Thresholds are at most `cap`; positive from the threshold on, if above `floor` too;
      ignored if less than `margin` below the threshold and above 0.2.
    - v4: v3 that ignores none.
    - v5: v4 with candidates only among one reference anchor of each cell. Needs nine per cell,
      3 x 3.

    An anchor that overlaps several boxes equally looks at the first of them. Guessed, because the
    description does not say it: v2 applies the centre test before it picks the box, and where a box
    has no candidates v5 asks for `cap` (v2's threshold of 1, cut; in v2 to v4 no anchor could pass
    anyway). ATSSMatcher, without a number, is not here: no row is sure to have used it.
    """

    def __init__(self, cfg: schema.ReportAtss) -> None:
        self.cfg = cfg

    def __call__(self, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """anchors A, boxes B x M x 4, valid B x M bool -> index B x A int64, state B x A int8.
        No host sync. Raises ValueError where v5 has not nine anchors per cell."""
        centre = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
        found = Best(len(boxes), len(anchors.boxes), 0.0, boxes)
        thresholds = []
        for start, some, there in chunks(boxes, valid, len(anchors.boxes)):
            iou, sides = iou_matrix(some, anchors.boxes), some[:, :, None]
            threshold = self._thresholds(iou, anchors.per_cell)
            inside = ((centre >= sides[..., :2]) & (centre <= sides[..., 2:])).all(dim=-1)
            open_to = inside & there[..., None]
            if isinstance(self.cfg, schema.AtssV2):
                open_to = open_to & (iou > threshold[..., None])
            found.look(iou.masked_fill(~open_to, 0.0), start)
            thresholds.append(threshold)
        best, index = found.value, found.index
        state = torch.full_like(index, BACKGROUND, dtype=torch.int8)
        if isinstance(self.cfg, schema.AtssV2):
            return index, state.masked_fill_(best > 0, POSITIVE)
        asked = torch.cat(thresholds, dim=1).gather(1, index)
        if isinstance(self.cfg, schema.AtssV3):
            near = (best > asked - self.cfg.margin) & (best < asked) & (best > IGNORE_ABOVE)
            state.masked_fill_(near, IGNORED)
        return index, state.masked_fill_((best >= asked) & (best > self.cfg.floor), POSITIVE)

    def _thresholds(self, iou: Tensor, per_cell: int) -> Tensor:
        """B x m x A -> B x m."""
        if self.cfg.kind == "atss_v5":
            if per_cell != 9:
                raise ValueError(f"matcher: atss_v5 needs 9 anchors per cell, there are {per_cell}")
            iou = iou[..., REFERENCE::per_cell]
        among = iou > self.cfg.floor
        threshold = mean_plus_deviation(iou, among, correction=0)
        threshold = threshold.masked_fill(~among.any(dim=-1), 1.0)
        if isinstance(self.cfg, schema.AtssV2):
            return threshold
        return threshold.clamp(max=self.cfg.cap)
