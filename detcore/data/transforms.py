"""Image and boxes to network input: augmentation, resize by the short side, horizontal flip. All
draws come from one seeded stream per image.

Resizing is Pillow's BILINEAR, whose support grows with the reduction (antialiased).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from detcore.config.schema import Data
from detcore.data.affine import box_area
from detcore.data.autoaugment import autoaugment
from detcore.data.outlines import Outlines, box_outlines
from detcore.data.waa import MIN_AREA, waa

MEAN_COLOUR = (124, 116, 104)
"""RGB of the padding: ImageNet's mean, rounded; the detector subtracts the mean, so padding is
close to 0 there."""


@dataclass(frozen=True)
class Sample:
    pixels: np.ndarray  # h x w x 3 uint8
    boxes: np.ndarray  # M x 4 float32: x1 y1 x2 y2 in pixels of the input
    labels: np.ndarray  # M int64
    image_id: int
    scale: tuple[float, float]  # (y, x): input pixels per original pixel


@dataclass(frozen=True)
class Picture:
    """An image whose pixels are made when they are asked for."""

    size: tuple[int, int]  # height, width
    whole: Callable[[], np.ndarray]
    at: Callable[[tuple[int, int]], np.ndarray]  # at another size

    @classmethod
    def of(cls, pixels: np.ndarray) -> Picture:
        height, width = pixels.shape[:2]
        return cls((height, width), lambda: pixels, lambda size: scaled(pixels, size))


def image_rng(seed: int, epoch: int, image_id: int) -> np.random.Generator:
    """The random stream of one view of one image: independent of workers, ranks, order and all
    other images."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, image_id))))


def input_size(
    height: int,
    width: int,
    short_side: int,
    max_side: int,
    fit: Literal["inside", "short"] = "inside",
    align: int = 1,
) -> tuple[int, int]:
    """Height and width after scaling by min(short_side / shorter, max_side / longer), rounded half
    up, at least 1.

    `short`: a side below short_side is then raised to it by itself, so that the shorter side is
    always exact and the image is distorted where the cap binds (the report's rule). At the end each
    side is rounded up to a multiple of `align`, beyond the cap if need be.
    """
    scale = min(short_side / min(height, width), max_side / max(height, width))
    least = short_side if fit == "short" else 1
    sides = (max(least, int(side * scale + 0.5)) for side in (height, width))
    new_height, new_width = (-(-side // align) * align for side in sides)
    return new_height, new_width


def scaled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels at `size` (height, width)."""
    if size == pixels.shape[:2]:
        return pixels
    image = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def resize(
    image: np.ndarray | Picture, boxes: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Pixels and boxes at `size` (height, width), and the (y, x) factors actually applied, which
    differ by the rounding."""
    picture = _picture(image)
    height, width = picture.size
    scale = (size[0] / height, size[1] / width)
    pixels = picture.at(size)
    factors = np.array([scale[1], scale[0], scale[1], scale[0]])
    return pixels, (boxes * factors).astype(np.float32), scale


def flip(pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right swapped: x1 becomes width - x2."""
    width = pixels.shape[1]
    flipped = boxes.copy()
    flipped[:, 0], flipped[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return pixels[:, ::-1], flipped


def train_sample(
    image: np.ndarray | Picture,
    boxes: np.ndarray,
    labels: np.ndarray,
    image_id: int,
    data: Data,
    rng: np.random.Generator,
    outlines: Outlines | None = None,
) -> Sample:
    """One training view: augmented at its own resolution, resized, flipped.

    The draws of side and flip come first and are the same whatever the settings, so that arms stay
    paired; an augmentation draws after them. `outlines` are read by `waa` only (left out: the
    corners of the boxes).
    """
    sides, draw = data.input.train_short_sides, rng.random(2)  # integers(1) would draw nothing
    side = sides[int(draw[0] * len(sides))]
    flipped = draw[1] < data.flip
    picture = _picture(image)
    if data.augment == "aa_v0":
        pixels, boxes, labels = autoaugment(picture.whole(), boxes, labels, rng)
        picture = Picture.of(pixels)
    elif data.augment == "waa":
        known = box_outlines(boxes) if outlines is None else outlines
        pixels, boxes, labels = waa(picture.whole(), boxes, labels, known, rng)
        picture = Picture.of(pixels)
    height, width = picture.size
    fit, align = data.input.fit, data.input.align
    size = input_size(height, width, side, data.input.train_max_side, fit, align)
    pixels, boxes, scale = resize(picture, boxes, size)
    if flipped:
        pixels, boxes = flip(pixels, boxes)
    if data.augment == "waa":
        keep = box_area(boxes) >= MIN_AREA
        boxes, labels = boxes[keep], labels[keep]
    return Sample(pixels, boxes, labels, image_id, scale)


def eval_sample(
    image: np.ndarray | Picture,
    boxes: np.ndarray,
    labels: np.ndarray,
    image_id: int,
    data: Data,
) -> Sample:
    """The one view of evaluation."""
    picture = _picture(image)
    height, width = picture.size
    short, longest = data.input.eval_short_side, data.input.eval_max_side
    size = input_size(height, width, short, longest, data.input.fit, data.input.align)
    pixels, boxes, scale = resize(picture, boxes, size)
    return Sample(pixels, boxes, labels, image_id, scale)


def _picture(image: np.ndarray | Picture) -> Picture:
    return image if isinstance(image, Picture) else Picture.of(image)
