"""Anchors on the cells of a feature pyramid.

Shape legend: A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from detcore.config import schema


@dataclass(frozen=True)
class AnchorSet:
    """The anchors of all levels, one level after the other."""

    boxes: Tensor  # A x 4 float32 corners (x1 y1 x2 y2) in input pixels, not clipped
    level_lengths: tuple[int, ...]  # anchors of each level
    per_cell: int


def num_anchors_per_cell(cfg: schema.Anchors) -> int:
    sizes, ratios = cfg.table()[0]
    return len(sizes) * len(ratios)


def grid_anchors(
    cfg: schema.Anchors,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device | str,
) -> AnchorSet:
    """The anchors of maps of these sizes (height, width); do not write into them, they are cached.

    Levels in order, cells row by row, in a cell the ratios outside and the sizes inside. Cell (i,
    j) is centred at ((j + 0.5) * stride, (i + 0.5) * stride); an anchor of size s and ratio r is s
    * sqrt(r) wide and s / sqrt(r) high.
    """
    return _grid(cfg, tuple(feature_sizes), tuple(strides), torch.device(device))


# bounded: multi-scale training meets a few hundred padded sizes at megabytes each
@lru_cache(maxsize=64)
def _grid(
    cfg: schema.Anchors,
    sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    device: torch.device,
) -> AnchorSet:
    # outside inference mode: an inference tensor in the cache could not be used in a later training
    # step
    with torch.inference_mode(False):
        levels = [
            _level(*shapes, *size, stride)
            for shapes, size, stride in zip(cfg.table(), sizes, strides, strict=True)
        ]
        # built on the CPU and sent without waiting: a list of numbers made on a GPU would stop the
        # host
        boxes = torch.cat(levels).to(device, non_blocking=True)
    return AnchorSet(boxes, tuple(map(len, levels)), num_anchors_per_cell(cfg))


def _level(
    sizes: Sequence[float], ratios: Sequence[float], height: int, width: int, stride: int
) -> Tensor:
    half = torch.tensor([(s * r**0.5 / 2, s / r**0.5 / 2) for r in ratios for s in sizes])
    y = (torch.arange(height) + 0.5) * stride
    x = (torch.arange(width) + 0.5) * stride
    centre = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 2)
    return torch.cat((centre - half, centre + half), dim=-1).view(-1, 4)
