"""Resize and flip: the standard size rule, boxes by the factors actually applied, and their
inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detcore.config.schema import Data, InputSize
from detcore.data.transforms import flip, image_rng, input_size, resize, train_sample

sides = st.integers(8, 200)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height, width = draw(sides), draw(sides)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    corners = rng.uniform(0, 1, (draw(st.integers(0, 5)), 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return pixels, boxes.astype(np.float32)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (800, 1067)),  # short side to 800: the size quoted for COCO everywhere
        (640, 480, (1067, 800)),
        (400, 1000, (533, 1333)),  # 800 / 400 would give a long side of 2000: capped
        (800, 800, (800, 800)),
    ],
)
def test_the_standard_size_rule(height: int, width: int, expected: tuple[int, int]) -> None:
    assert input_size(height, width, 800, 1333) == expected


@given(sides, sides, st.integers(16, 300), st.integers(16, 400))
def test_no_side_breaks_its_limit(height: int, width: int, short: int, longest: int) -> None:
    new = input_size(height, width, short, longest)
    assert min(new) <= short
    assert max(new) <= longest
    assert min(new) == short or max(new) == longest or 1 in new


@given(pictures())
def test_flipping_twice_is_the_identity(picture: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, boxes = picture
    once = flip(pixels, boxes)
    twice = flip(*once)
    np.testing.assert_array_equal(twice[0], pixels)
    np.testing.assert_allclose(twice[1], boxes, atol=2e-5)
    assert (once[1][:, 2] >= once[1][:, 0]).all()
    np.testing.assert_allclose(once[1][:, 2] - once[1][:, 0], boxes[:, 2] - boxes[:, 0], atol=2e-5)


@given(pictures(), sides, sides)
def test_boxes_divided_by_the_scale_are_the_original_boxes(
    picture: tuple[np.ndarray, np.ndarray], height: int, width: int
) -> None:
    pixels, boxes = picture
    resized, scaled, (sy, sx) = resize(pixels, boxes, (height, width))
    assert resized.shape == (height, width, 3)
    np.testing.assert_allclose(scaled / [sx, sy, sx, sy], boxes, rtol=1e-5, atol=1e-5)
    # the whole image as a box stays the whole image, exactly, in spite of the rounded size
    whole = np.array([[0, 0, pixels.shape[1], pixels.shape[0]]], np.float32)
    np.testing.assert_array_equal(
        resize(pixels, whole, (height, width))[1], [[0, 0, width, height]]
    )


def test_boxes_stay_on_their_pixels() -> None:
    """A white rectangle on black, through every draw: its box, recomputed from the pixels, agrees
    within the blur."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[12:36, 9:66] = 255
    boxes = np.array([[9, 12, 66, 36]], np.float32)
    data = Data(input=InputSize((40, 75, 120), 200, 64, 200))
    seen = set()
    for epoch in range(30):
        sample = train_sample(pixels, boxes, np.array([0]), 7, data, image_rng(0, epoch, 7))
        bright = sample.pixels[..., 0] >= 128
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(sample.boxes[0], found, atol=1.0)
        seen.add((sample.pixels.shape[0], bool(sample.boxes[0, 0] > sample.pixels.shape[1] / 5)))
    assert seen == {(s, f) for s in (40, 75, 120) for f in (False, True)}


def test_draws_depend_on_seed_epoch_and_image_and_stay_paired() -> None:
    draws = {key: image_rng(*key).random() for key in [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2)]}
    assert len(set(draws.values())) == 4
    assert image_rng(0, 0, 1).random() == draws[0, 0, 1]
    # another list of sides leaves the flips as they were
    pixels, boxes = np.zeros((20, 20, 3), np.uint8), np.array([[0, 0, 5, 5]], np.float32)
    flips = [
        [
            train_sample(pixels, boxes, np.array([0]), 1, data, image_rng(0, e, 1)).boxes[0, 0] > 0
            for e in range(40)
        ]
        for data in (Data(input=InputSize(s, 64, 32, 64)) for s in ((16,), (16, 20, 24)))
    ]
    assert flips[0] == flips[1]
    assert 8 < sum(flips[0]) < 32
