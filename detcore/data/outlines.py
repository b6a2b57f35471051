"""The outlines of objects, from COCO's polygons, and the bounds of what an image shows of them.

Shape legend: M boxes, R rings (closed polygons; an object in parts has several), P points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.affine import move_points
from detcore.data.folder import DataError


@dataclass(frozen=True)
class Outlines:
    points: np.ndarray  # P x 2 float: x y in pixels of the image
    rings: np.ndarray  # R + 1 int64: ring r is points rings[r] to rings[r + 1], closed
    starts: np.ndarray  # M + 1 int64: box m has the rings starts[m] to starts[m + 1], at least one

    def part(self, first: int, last: int) -> Outlines:
        """The outlines of boxes first to last (without it)."""
        starts = self.starts[first : last + 1]
        rings = self.rings[starts[0] : starts[-1] + 1]
        return Outlines(self.points[rings[0] : rings[-1]], rings - rings[0], starts - starts[0])

    def moved(self, matrix: np.ndarray) -> Outlines:
        """All points through a 2 x 3 affine map."""
        return Outlines(move_points(self.points, matrix), self.rings, self.starts)


def join_rings(objects: Iterable[Sequence[np.ndarray]]) -> Outlines:
    """Outlines of M objects, each a list of rings (points x 2), at least one."""
    rings: list[np.ndarray] = []
    counts = [0]
    for parts in objects:
        rings.extend(parts)
        counts.append(len(parts))
    points = np.concatenate(rings) if rings else np.zeros((0, 2))
    return Outlines(
        points=points.astype(np.float32),
        rings=np.cumsum([0, *(len(r) for r in rings)], dtype=np.int64),
        starts=np.cumsum(counts, dtype=np.int64),
    )


def box_outlines(boxes: np.ndarray) -> Outlines:
    """Each box (M x 4) as the ring of its four corners."""
    return join_rings([[box[[[0, 1], [2, 1], [2, 3], [0, 3]]]] for box in boxes])


def coco_rings(
    file: Path, record: dict[str, Any], box: Sequence[Any], width: int, height: int
) -> list[np.ndarray]:
    """The polygons of one annotation, clipped to the image; where there are none (run-length masks,
    which crowds have, or no mask at all) the corners of its clipped box (x1 y1 x2 y2). Polygons of
    fewer than three points enclose nothing and are left out. Raises DataError for what is no
    polygon."""
    polygons = record.get("segmentation")
    rings = []
    for polygon in polygons if isinstance(polygons, list) else ():
        if not _is_polygon(polygon):
            raise DataError(
                f"{file}: annotation {record['id']}: segmentation must be lists of x, y pairs "
                "(data.augment: waa reads the outlines)"
            )
        if len(polygon) >= 6:
            points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
            rings.append(points.clip(0, [width, height]))
    x1, y1, x2, y2 = box[:4]
    return rings or [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)]


def visible_bounds(outlines: Outlines, height: int, width: int) -> np.ndarray:
    """Bounds (M x 4 float32) of the part of each object that lies in the image, exactly: an object
    that leaves it does not keep the extent of what is gone. Without a visible part: zeros.

    The extremes of polygon and image together are on an edge of the polygon, clipped to the image
    (Liang and Barsky 1984), or are a corner of the image inside the polygon (even-odd rule over all
    rings of the object).
    """
    count = len(outlines.starts) - 1
    if count == 0:
        return np.zeros((0, 4), np.float32)
    start = np.asarray(outlines.points, np.float64)
    after = np.arange(1, len(start) + 1)
    after[outlines.rings[1:] - 1] = outlines.rings[:-1]
    end = start[after]
    first = outlines.rings[outlines.starts[:-1]]  # the first point of each object

    ends = _clipped(start, end, np.array([width, height], float))  # 2 x P x 2, NaN: not visible
    low = np.fmin.reduceat(np.fmin(*ends), first)
    high = np.fmax.reduceat(np.fmax(*ends), first)
    for corner in ((0, 0), (width, 0), (0, height), (width, height)):
        inside = np.add.reduceat(_crossings(start, end, corner), first)[:, None] % 2 == 1
        low = np.where(inside, np.fmin(low, corner), low)
        high = np.where(inside, np.fmax(high, corner), high)
    bounds = np.concatenate([low, high], axis=1).clip(0, [width, height, width, height])
    return np.nan_to_num(bounds, nan=0.0).astype(np.float32)


def _clipped(start: np.ndarray, end: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Both ends (2 x P x 2) of what of each segment lies in [0, limit]; NaN where nothing does."""
    step = end - start
    flat = step == 0
    divisor = np.where(flat, 1, step)
    low, high = -start / divisor, (limit - start) / divisor
    inside = (start >= 0) & (start <= limit)
    near = np.where(flat, np.where(inside, -np.inf, np.inf), np.minimum(low, high))
    far = np.where(flat, np.where(inside, np.inf, -np.inf), np.maximum(low, high))
    enter, leave = near.max(axis=1).clip(min=0), far.min(axis=1).clip(max=1)
    t = np.where(enter <= leave, [enter, leave], np.nan)
    return start + t[..., None] * step


def _crossings(start: np.ndarray, end: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """1 for each segment that the ray from `at` to the right crosses, else 0."""
    x, y = at
    passes = (start[:, 1] > y) != (end[:, 1] > y)
    rise = np.where(passes, end[:, 1] - start[:, 1], 1)
    cross = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    return (passes & (x < cross)).astype(np.int64)


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) % 2 == 0
        and all(isinstance(v, int | float) and math.isfinite(v) for v in polygon)
    )
