"""WAA: the report's own light rewrite of AutoAugment's policy v0 (rows B08, B23, D16, D17; the
summary's label "AA" in B08 means this one). In no paper.

Shape legend: h x w the image at its own resolution, M boxes.

One of five sub-policies, each as likely. Beside `aa_v0`: images grow by a border where that one
pushes content out of the frame or shifts it inside boxes, the square cut out is 16 px wide and
black, the angle is continuous, the shear has one sign, and after a shear or a rotation a box is the
bounds of the object's moved outline, not of the box's moved corners. The report took those bounds
from masks of pixels; here they come from the polygons themselves, within a pixel of them. Objects
without polygons take the corners of their boxes.

The report's shear looks up the nearest pixel and fills with 128; its rotation interpolates and
fills with black (this from reading its code; seed_components names no fill). The drop of boxes
below 2 px^2 after the resize is `transforms.train_sample`'s.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from detcore.data.affine import box_area, rotation, shear, warp
from detcore.data.autoaugment import coloured, cut_square, equalized
from detcore.data.outlines import Outlines, visible_bounds

MIN_AREA = 2.0  # px^2 of the network's input; smaller boxes are dropped
LEFT, TOP = 60, 40  # px of border
BORDER = 127
SUB_POLICIES = 5


def waa(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    outlines: Outlines,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, boxes and labels (M) after one sub-policy; the image may grow, boxes may become
    fewer. `outlines` has those of the M boxes."""
    match int(rng.integers(SUB_POLICIES)):
        case 0:
            if rng.random() < 0.6:
                pixels, boxes = add_border(pixels, boxes, LEFT, 0)
            if rng.random() < 0.8:
                pixels = equalized(pixels)
        case 1:
            if rng.random() < 0.6:
                pixels, boxes = add_border(pixels, boxes, 0, TOP)
            if rng.random() < 0.8:
                pixels = cut_square(pixels, 8, 0, rng)
        case 2:
            matrix = shear(0, 0.06)
            boxes = visible_bounds(outlines.moved(matrix), *pixels.shape[:2])
            pixels = warp(pixels, matrix, 128, Image.Resampling.NEAREST)
            if rng.random() < 0.6:
                pixels, boxes = add_border(pixels, boxes, 0, TOP)
        case 3:
            if rng.random() < 0.6:
                matrix = rotation(rng.uniform(-30, 30), *pixels.shape[:2])
                boxes = visible_bounds(outlines.moved(matrix), *pixels.shape[:2])
                pixels = warp(pixels, matrix, 0, Image.Resampling.BILINEAR)
            pixels = coloured(pixels, 1.18)
    keep = box_area(boxes) > 0
    return pixels, boxes[keep], labels[keep]


def add_border(
    pixels: np.ndarray, boxes: np.ndarray, left: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The image with grey columns and rows added, and the boxes moved with it."""
    pixels = np.pad(pixels, ((top, 0), (left, 0), (0, 0)), constant_values=BORDER)
    return pixels, boxes + np.array([left, top, left, top], np.float32)
