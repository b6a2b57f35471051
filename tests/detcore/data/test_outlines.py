"""Visible bounds of outlines against dense samples of their edges, and outlines read from COCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detcore.data.affine import rotation, shear, translation
from detcore.data.coco import open_split
from detcore.data.folder import DataError
from detcore.data.outlines import Outlines, box_outlines, join_rings, visible_bounds
from tests.detcore.data.builders import box, coco, folder, record, write_split

HEIGHT, WIDTH = 30, 40


def inside(rings: list[np.ndarray], x: float, y: float) -> bool:
    """Even-odd rule, one edge at a time."""
    odd = False
    for ring in rings:
        for k in range(len(ring)):
            (x1, y1), (x2, y2) = ring[k - 1], ring[k]
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                odd = not odd
    return odd


def sampled_bounds(rings: list[np.ndarray]) -> np.ndarray | None:
    """Bounds of 4001 points on each edge that lie in the image, and of its corners that lie in the
    object; None without any."""
    t = np.linspace(0, 1, 4001)[:, None]
    edges = [
        a + t * (b - a) for ring in rings for a, b in zip(ring, np.roll(ring, -1, 0), strict=True)
    ]
    points = np.concatenate(edges)
    points = points[((points >= 0) & (points <= [WIDTH, HEIGHT])).all(axis=1)]
    corners = [c for c in ((0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)) if inside(rings, *c)]
    points = np.concatenate([points, np.array(corners).reshape(-1, 2)])
    return np.concatenate([points.min(0), points.max(0)]) if len(points) else None


@st.composite
def objects(draw: st.DrawFn) -> list[list[np.ndarray]]:
    """Objects of one or two polygons in and around the image: any, self-intersecting ones among
    them, or rectangles of multiples of 10, whose sides lie on the border and end at it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    flat = draw(st.booleans())

    def ring() -> np.ndarray:
        if flat:
            x1, y1, x2, y2 = 10.0 * rng.integers(-2, 6, 4)
            return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        return rng.uniform(-10, 50, 2) + rng.uniform(-25, 25, (rng.integers(3, 8), 2))

    return [[ring() for _ in range(rng.integers(1, 3))] for _ in range(rng.integers(0, 5))]


@given(objects())
def test_visible_bounds_are_those_of_what_lies_in_the_image(
    parts: list[list[np.ndarray]],
) -> None:
    bounds = visible_bounds(join_rings(parts), HEIGHT, WIDTH)
    assert bounds.shape == (len(parts), 4)
    assert bounds.dtype == np.float32
    for found, rings in zip(bounds, parts, strict=True):
        rings = [r.astype(np.float32).astype(float) for r in rings]
        expected = sampled_bounds(rings)
        if expected is None:  # a piece too short for the samples, if anything
            assert max(found[2] - found[0], found[3] - found[1]) < 0.05
        else:
            np.testing.assert_allclose(found, expected, atol=0.05)


def test_an_object_around_the_whole_image_has_its_bounds() -> None:
    around = np.array([[-50, -50], [90, -60], [100, 90], [-70, 80]], float)
    hole = np.array([[-5, -5], [45, -5], [45, 35], [-5, 35]], float)
    found = visible_bounds(join_rings([[around], [around, hole]]), HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, [[0, 0, WIDTH, HEIGHT], [0, 0, 0, 0]])


def test_what_is_gone_does_not_count() -> None:
    """A triangle whose tip leaves the image above: its sides meet the border at x = 10 and 30, and
    moving it does the same to it as moving the points."""
    triangle = join_rings([[np.array([[20, -20], [40, 20], [0, 20]], float)]])
    np.testing.assert_allclose(visible_bounds(triangle, 10, WIDTH), [[5, 0, 35, 10]])
    low = triangle.moved(translation(0, -20))
    np.testing.assert_allclose(visible_bounds(low, 30, WIDTH), [[0, 0, 40, 0]])
    for matrix in (rotation(20, HEIGHT, WIDTH), shear(0.1, -0.2)):
        points = [matrix @ [x, y, 1] for x, y in triangle.points]
        np.testing.assert_allclose(triangle.moved(matrix).points, points, atol=1e-5)


def test_parts_are_the_objects_of_one_image() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    parts = [[square], [square + 5, square + 9], [], [square + 20]]
    joined = join_rings([p for p in parts if p])
    one = joined.part(1, 3)
    np.testing.assert_array_equal(visible_bounds(one, 30, 40), [[5, 5, 13, 13], [20, 20, 24, 24]])
    assert len(joined.part(1, 1).points) == 0
    assert visible_bounds(joined.part(3, 3), 30, 40).shape == (0, 4)
    boxes = np.array([[1, 2, 3, 4], [0, 0, 40, 30]], np.float32)
    np.testing.assert_array_equal(visible_bounds(box_outlines(boxes), 30, 40), boxes)


def outlined(root: Path, **settings: str) -> Outlines | None:
    ring, other = [2, 3, 12, 3, 12, 9, 2, 9], [20, 20, 50, 20, 25, 29]
    boxes = [
        box(1, 1, 1, [2, 3, 10, 6], segmentation=[ring, other]),
        box(2, 1, 1, [5, 5, 0, 1], segmentation=[ring]),  # nothing left of the box
        box(3, 1, 1, [30, 20, 20, 20], segmentation={"size": [30, 40], "counts": "x"}, iscrowd=1),
        box(4, 2, 1, [1, 1, 8, 8]),
        box(5, 2, 1, [1, 1, 9, 9], segmentation=[[1, 1, 2, 2]]),  # a line
    ]
    for split in ("train", "val"):
        write_split(root, split, coco([record(1), record(2)], boxes))
    return open_split(folder(root, **settings), "train").outlines


def test_outlines_come_from_polygons_or_from_the_box(tmp_path: Path) -> None:
    outlines = outlined(tmp_path, augment="waa", crowd="keep")
    assert outlines is not None
    bounds = visible_bounds(outlines, 30, 40)
    np.testing.assert_array_equal(
        bounds, [[2, 3, 40, 29], [30, 20, 40, 30], [1, 1, 9, 9], [1, 1, 10, 10]]
    )
    np.testing.assert_array_equal(outlines.starts, [0, 2, 3, 4, 5])
    assert len(outlines.points) == 4 + 3 + 4 + 4 + 4
    split = open_split(folder(tmp_path, augment="waa"), "train")  # crowd boxes are left out
    first, second = split.outlines_of(0), split.outlines_of(1)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(visible_bounds(first, 30, 40), [[2, 3, 40, 29]])
    np.testing.assert_array_equal(visible_bounds(second, 30, 40), split.objects(1)[0])


def test_outlines_are_built_only_where_they_are_read(tmp_path: Path) -> None:
    assert outlined(tmp_path) is None
    assert outlined(tmp_path, augment="aa_v0") is None
    assert open_split(folder(tmp_path, augment="waa"), "val").outlines is None


@pytest.mark.parametrize("wrong", [[[1, 2, 3]], [["a", 2, 3, 4, 5, 6]], [7], [[1, None] * 3]])
def test_what_is_no_polygon_is_named(tmp_path: Path, wrong: list) -> None:
    boxes = [box(9, 1, 1, [1, 1, 8, 8], segmentation=wrong)]
    write_split(tmp_path, "train", coco([record(1)], boxes))
    open_split(folder(tmp_path), "train")  # nobody reads it
    with pytest.raises(DataError, match=r"train\.json: annotation 9: segmentation must be lists"):
        open_split(folder(tmp_path, augment="waa"), "train")
