"""AutoAugment for detection, policy v0 (Zoph et al. 2019, "Learning Data Augmentation Strategies
for Object Detection"), as TensorFlow's code and so the report's row D18 have it.

Shape legend: h x w the image at its own resolution, M boxes.

One of five sub-policies, each as likely, is two operations in turn, each with its probability. Its
level 0 to 10 gives an operation its strength; translations, shears and rotations take either sign
with probability 1/2. What the text of the paper leaves open follows that code: an operation on the
content of boxes is drawn for each box apart, with a *third* of its probability, in random order,
with one sign for the image; content is looked up at the nearest pixel; shears keep the upper left
corner; a square to cut out is centred on any pixel.

Two things differ from that code. There a box that leaves the image becomes a strip of a twentieth
of the image at its border, with its label; here it is dropped (area 0 after clipping), as the paper
says nothing of such strips. And boxes are not truncated to whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from detcore.data.affine import box_area, move_boxes, rotation, shear, translation, warp

FILL = 128
MAX_LEVEL = 10
CONTENT_SHARE = 1 / 3  # of an operation's probability, for the content of each box

Picture = tuple[np.ndarray, np.ndarray]  # h x w x 3 uint8, M x 4 float32


class Step(NamedTuple):
    operation: str
    probability: float
    level: int


POLICY_V0: tuple[tuple[Step, Step], ...] = (
    (Step("translate_x", 0.6, 4), Step("equalize", 0.8, 10)),
    (Step("translate_y_in_boxes", 0.2, 2), Step("cutout", 0.8, 8)),
    (Step("sharpness", 0.0, 8), Step("shear_x", 0.4, 0)),
    (Step("shear_y", 1.0, 2), Step("translate_y_in_boxes", 0.6, 6)),
    (Step("rotate", 0.6, 10), Step("color", 1.0, 6)),
)


def autoaugment(
    pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, boxes and labels (M) after one sub-policy; the size stays, boxes may become fewer."""
    for step in POLICY_V0[int(rng.integers(len(POLICY_V0)))]:
        if step.operation in CONTENT_OPERATIONS:
            strength = signed(step.level / MAX_LEVEL, rng)
            operate = CONTENT_OPERATIONS[step.operation]
            for m in rng.permutation(len(boxes)):
                if rng.random() < step.probability * CONTENT_SHARE:
                    pixels = in_box(pixels, boxes[m], operate, strength)
        elif rng.random() < step.probability:
            pixels, boxes = OPERATIONS[step.operation]((pixels, boxes), step.level / MAX_LEVEL, rng)
            keep = box_area(boxes) > 0
            boxes, labels = boxes[keep], labels[keep]
    return pixels, boxes, labels


def signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def translate_x(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """By 250 px at strength 1."""
    return _moved(picture, translation(signed(250 * strength, rng), 0))


def shear_x(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """By 0.3 at strength 1."""
    return _moved(picture, shear(signed(0.3 * strength, rng), 0))


def shear_y(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """By 0.3 at strength 1."""
    return _moved(picture, shear(0, signed(0.3 * strength, rng)))


def rotate(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """By 30 degrees at strength 1."""
    degrees = signed(30 * strength, rng)
    return _moved(picture, rotation(degrees, *picture[0].shape[:2]))


def cutout(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A grey square of half-side 100 px at strength 1; boxes stay (DeVries and Taylor 2017)."""
    return cut_square(picture[0], int(100 * strength), FILL, rng), picture[1]


def equalize(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Flat histogram of each channel, whatever the strength."""
    return equalized(picture[0]), picture[1]


def sharpness(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Factor 0.1 (blurred) at strength 0 to 1.9 at strength 1; 1 changes nothing."""
    image = ImageEnhance.Sharpness(Image.fromarray(picture[0])).enhance(0.1 + 1.8 * strength)
    return np.asarray(image), picture[1]


def color(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Factor 0.1 (nearly grey) at strength 0 to 1.9 at strength 1; 1 changes nothing."""
    return coloured(picture[0], 0.1 + 1.8 * strength), picture[1]


def translate_y_content(pixels: np.ndarray, strength: float) -> np.ndarray:
    """By 120 px at strength 1."""
    return warp(pixels, translation(0, 120 * strength), FILL, Image.Resampling.NEAREST)


OPERATIONS: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    "translate_x": translate_x,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "rotate": rotate,
    "cutout": cutout,
    "equalize": equalize,
    "sharpness": sharpness,
    "color": color,
}
CONTENT_OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "translate_y_in_boxes": translate_y_content,
}


def in_box(
    pixels: np.ndarray,
    box: np.ndarray,
    operate: Callable[[np.ndarray, float], np.ndarray],
    strength: float,
) -> np.ndarray:
    """A copy of the pixels in which the rectangle of pixels that `box` (x1 y1 x2 y2) touches is
    replaced by what `operate` makes of it."""
    x1, y1 = np.floor(box[:2]).astype(int).tolist()
    x2, y2 = np.ceil(box[2:]).astype(int).tolist()
    out = pixels.copy()
    out[y1:y2, x1:x2] = operate(np.ascontiguousarray(pixels[y1:y2, x1:x2]), strength)
    return out


def cut_square(pixels: np.ndarray, half: int, fill: int, rng: np.random.Generator) -> np.ndarray:
    """A copy with a square of side 2 * half, centred on any pixel, set to `fill`; less of it where
    the image ends."""
    height, width = pixels.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    out = pixels.copy()
    out[max(0, y - half) : y + half, max(0, x - half) : x + half] = fill
    return out


def equalized(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(ImageOps.equalize(Image.fromarray(pixels)))


def coloured(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Grey (0), the image (1), and beyond."""
    return np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(factor))


def _moved(picture: Picture, matrix: np.ndarray) -> Picture:
    pixels, boxes = picture
    moved = warp(pixels, matrix, FILL, Image.Resampling.NEAREST)
    return moved, move_boxes(boxes, matrix, *pixels.shape[:2])
