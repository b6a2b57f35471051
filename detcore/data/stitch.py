"""Several training views in one picture: the report's Stitch and Stitcher's four (Chen et al. 2020,
"Stitcher: Feedback-driven Data Provider for Object Detection").

Shape legend: h x w a view, H x W the padded canvas of its batch, M boxes.

A picture takes the whole canvas, so that stitching changes no batch's size. Where no view lies it
has the colour of padding. A view keeps its aspect and lies in the upper left of its cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detcore.data.transforms import MEAN_COLOUR, Sample, resize

Size = tuple[int, int]  # height, width


def batch_rng(seed: int, step: int, rank: int) -> np.random.Generator:
    """The random stream of one rank's batch of forward pass `step`: independent of workers and of
    all other batches."""
    # four words: shared neither with `image_rng` nor with `epoch_order`
    words = np.random.SeedSequence((seed, step, rank, 2**63 + 2))
    return np.random.Generator(np.random.PCG64(words))


def stitch_two(first: Sample, second: Sample, canvas: Size) -> Sample:
    """The report's: each view fills as much of its half of the canvas as its aspect allows, be it
    larger than before. The halves are one above the other or side by side, whichever leaves less
    empty; a tie goes to the former."""
    height, width = canvas
    views = (first, second)
    above = (max(1, height // 2), width)
    beside = (height, max(1, width // 2))
    covered = [sum(math.prod(_fitted(v, half)) for v in views) for half in (above, beside)]
    half = above if covered[0] >= covered[1] else beside
    corners = ((0, 0), (height - half[0], width - half[1]))
    return _compose(views, [_fitted(v, half) for v in views], corners, canvas)


def stitch_four(views: Sequence[Sample], canvas: Size) -> Sample:
    """Stitcher's: four views in the quarters of the canvas, at half their size, or less where that
    is larger than a quarter."""
    height, width = canvas
    quarter = max(1, height // 2), max(1, width // 2)
    y, x = height - quarter[0], width - quarter[1]
    sizes = [_fitted(v, quarter, most=0.5) for v in views]
    return _compose(views, sizes, ((0, 0), (0, x), (y, 0), (y, x)), canvas)


def _fitted(view: Sample, cell: Size, most: float = math.inf) -> Size:
    """The size of a view scaled to fit into `cell`, by `most` at most, at least 1 pixel."""
    height, width = view.pixels.shape[:2]
    scale = min(cell[0] / height, cell[1] / width, most)
    fitted = int(height * scale + 0.5), int(width * scale + 0.5)
    return max(1, min(fitted[0], cell[0])), max(1, min(fitted[1], cell[1]))


def _compose(
    views: Sequence[Sample], sizes: Sequence[Size], corners: Sequence[Size], canvas: Size
) -> Sample:
    """The views at `sizes` with their upper left at `corners` (y, x); boxes and labels in the order
    of the views. The picture keeps the first view's id, and its scale as it lies there."""
    pixels = np.empty((*canvas, 3), np.uint8)
    pixels[:] = MEAN_COLOUR
    boxes = []
    scales = []
    for view, size, (y, x) in zip(views, sizes, corners, strict=True):
        small, moved, scale = resize(view.pixels, view.boxes, size)
        pixels[y : y + size[0], x : x + size[1]] = small
        boxes.append(moved + np.array([x, y, x, y], np.float32))
        scales.append((view.scale[0] * scale[0], view.scale[1] * scale[1]))
    labels = np.concatenate([v.labels for v in views])
    return Sample(pixels, np.concatenate(boxes), labels, views[0].image_id, scales[0])
