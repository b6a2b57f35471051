"""Affine maps of pixels, boxes and points, all in the coordinates of boxes: pixel (i, j) covers
[j, j + 1] x [i, i + 1], so that its centre is at (j + 0.5, i + 0.5).

Shape legend: h x w the image, M boxes, P points. A map is 2 x 3: x and y go to
map[:, :2] @ (x, y) + map[:, 2].
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def translation(x: float, y: float) -> np.ndarray:
    """2 x 3: content moves by (x, y) pixels."""
    return np.array([[1, 0, x], [0, 1, y]], float)


def shear(x: float, y: float) -> np.ndarray:
    """2 x 3: x loses `x` times y, and y loses `y` times x; the upper left corner stays (the sign of
    TensorFlow's AutoAugment, whose number maps output to input)."""
    return np.array([[1, -x, 0], [-y, 1, 0]], float)


def rotation(degrees: float, height: int, width: int) -> np.ndarray:
    """2 x 3: about the centre of the image, counterclockwise as one sees it."""
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.array([width, height]) / 2
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1)


def warp(
    pixels: np.ndarray, matrix: np.ndarray, fill: int, resample: Image.Resampling
) -> np.ndarray:
    """Pixels (h x w x 3) moved by `matrix` on a canvas of the same size; what comes from outside is
    `fill` in every channel."""
    inverse = np.linalg.inv(np.concatenate([matrix, [[0, 0, 1]]]))[:2]
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(inverse.ravel().tolist()),
        resample,
        fillcolor=(fill, fill, fill),
    )
    return np.asarray(image)


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """P x 2 -> P x 2 float64."""
    moved: np.ndarray = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def move_boxes(boxes: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """M x 4 -> M x 4 float32: the bounds of the four moved corners, clipped to the image. What left
    the image has no area. Larger than the moved object unless the map keeps axes."""
    corners = move_points(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 2), matrix)
    corners = corners.reshape(-1, 4, 2).clip(0, [width, height])
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """M x 4 -> M."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
