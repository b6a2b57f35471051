"""Points matched to boxes (FCOS, Tian et al. 2019, section 3), for a whole batch at once.

Shape legend: B batch, P points of all levels, M boxes of the fullest image, m boxes of a chunk, L
levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from detcore.matchers.chunks import Best, chunks
from detcore.matchers.state import BACKGROUND, POSITIVE
from detcore.ops.anchors import AnchorSet
from detcore.ops.boxes import area, centres, to_sides


class PointMatcher:
    """A point learns a box that it lies within (not on its edge), when its distance to the box's
    farthest side is within its level's range: 0 to ranges[0], ranges[0] to ranges[1], ..., the last
    to infinity, both ends included. Other points are background; none is ignored.

    Of several such boxes `ties` takes the one with the smallest `area` (published) or the one whose
    farthest side is nearest to the point (`largest_side`, the report's); on equal terms the first.

    `centre_radius` > 0 is centre sampling, from the paper's later version: the point must also be
    closer to the box's centre, in x and in y, than that many strides. The report had none.
    """

    def __init__(
        self,
        ranges: Sequence[float],
        ties: Literal["largest_side", "area"],
        centre_radius: float = 0.0,
    ) -> None:
        self.ranges = tuple(pairwise((0.0, *ranges, math.inf)))
        self.ties, self.centre_radius = ties, centre_radius

    def __call__(self, cells: AnchorSet, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """cells P (the squares of one stride around the points, L levels), boxes B x M x 4, valid
        B x M bool -> index B x P int64, state B x P int8, as every matcher. No host sync."""
        levels = cells.boxes.split(list(cells.level_lengths))
        found = [
            self._level(level, boxes, valid, *limits)
            for level, limits in zip(levels, self.ranges, strict=True)
        ]
        index, positive = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        state = torch.full_like(index, BACKGROUND, dtype=torch.int8)
        return index, state.masked_fill_(positive, POSITIVE)

    def _level(
        self, cells: Tensor, boxes: Tensor, valid: Tensor, low: float, high: float
    ) -> tuple[Tensor, Tensor]:
        points, best = centres(cells), Best(len(boxes), len(cells), -math.inf, boxes)
        for start, chunk, there in chunks(boxes, valid, len(cells)):
            some = chunk[:, :, None]  # B x m x 1 x 4
            sides = to_sides(points, some)
            farthest = sides.amax(-1)  # B x m x P
            takes = there[:, :, None] & (sides.amin(-1) > 0)
            takes = takes & (farthest >= low) & (farthest <= high)
            if self.centre_radius > 0:
                stride = cells[:, 2] - cells[:, 0]
                offset = (points - centres(some)).abs().amax(-1)
                takes = takes & (offset < self.centre_radius * stride)
            rank = area(some) if self.ties == "area" else farthest
            best.look(torch.where(takes, -rank, -math.inf), start)
        return best.index, best.value > -math.inf
