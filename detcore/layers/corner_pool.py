"""Corner pooling (Law & Deng 2018, CornerNet, section 3.3): a corner of a box lies outside the
object, so each cell takes the maximum of what lies in one direction from it.

Shape legend: B batch, C channels, h x w size of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Direction = Literal["top", "left", "bottom", "right"]
"""Named after the edge that the pool finds: `top` looks down and `left` looks right, as a top-left
corner must; `bottom` looks up and `right` looks left."""


def exact_pool(x: Tensor, direction: Direction) -> Tensor:
    """B x C x h x w -> the same: the running maximum from the border to each cell (CornerNet,
    equations 1 and 2). Its backward keeps an int64 index per value: 12 such pools at 128 channels
    of 72 x 100 take about 90 MB an image."""
    dim = -2 if direction in ("top", "bottom") else -1
    if direction in ("bottom", "right"):
        return x.cummax(dim).values
    return x.flip(dim).cummax(dim).values.flip(dim)


def sliding_pool(x: Tensor, direction: Direction, window: int) -> Tensor:
    """B x C x h x w -> the same: the maximum of a cell and the `window - 1` cells beside it, in the
    report's form.

    `left` and `right` look where the exact pools look. `top` and `bottom` look the opposite way,
    because the report pads the wrong end: its `top` is the maximum of the cells above. Centre
    pooling, which applies both in turn, does not feel it. Beyond the border are zeros, as in the
    report, so that a window that sticks out is never negative.
    """
    far = window - 1
    padding, kernel = {
        "left": ((0, far, 0, 0), (1, window)),
        "right": ((far, 0, 0, 0), (1, window)),
        "top": ((0, 0, far, 0), (window, 1)),
        "bottom": ((0, 0, 0, far), (window, 1)),
    }[direction]
    return F.max_pool2d(F.pad(x, padding), kernel, stride=1)


CORNER_POOLS: dict[str, Callable[[Tensor, Direction], Tensor]] = {
    "exact": exact_pool,
    "maxpool": partial(sliding_pool, window=11),
    "maxpool_v2": partial(sliding_pool, window=13),
}
