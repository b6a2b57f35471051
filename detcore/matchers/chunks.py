"""Boxes looked at a few at a time, so that the memory of matching does not grow with the boxes of
the fullest image.

Shape legend: B batch, A anchors, M boxes of the fullest image, m boxes of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PAIRS = 2**24
"""Pairs of box and anchor (of all images together) that are looked at together: a float32 map of
them takes 64 MiB, and IoU makes about eight."""


def chunks(boxes: Tensor, valid: Tensor, anchors: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """boxes B x M x 4 and valid B x M in parts of m boxes, each with the number of boxes before it.
    m is at least 1, and as large as PAIRS allows."""
    batch, most = valid.shape
    size = max(1, PAIRS // max(1, batch * anchors))
    for start in range(0, most, size):
        yield start, boxes[:, start : start + size], valid[:, start : start + size]


class Best:
    """For each anchor the box with the largest value so far, the first on ties.

    `value` B x A, `index` B x A int64: the row of the box.
    """

    def __init__(self, batch: int, anchors: int, floor: float, like: Tensor) -> None:
        """Boxes whose value is not above `floor` are never the best: then `value` is `floor` and
        `index` 0."""
        self.value = like.new_full((batch, anchors), floor)
        self.index = torch.zeros((batch, anchors), dtype=torch.int64, device=like.device)

    def look(self, values: Tensor, start: int) -> None:
        """values B x m x A of the boxes from row `start` on."""
        value, index = values.max(dim=1)
        higher = value > self.value
        self.value = torch.where(higher, value, self.value)
        self.index = torch.where(higher, index + start, self.index)
