"""Scenes of the embedded synthetic set: a few shapes on a textured background, with everything that
makes it not trivial.

Shape legend: S side of the square image, M objects.

What makes it hard: sizes over a factor of five, any rotation, low contrast, textures on objects and
background, some occlusion, and distractors (bars and soft blobs) that belong to no class. What
keeps it learnable by a small net in a minute on one core: four classes, clean outlines, and hues
that lean strongly to a class, though a faint tint leaves only the outline to tell.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image

CLASSES = ("disc", "ring", "square", "triangle")
OBJECTS = (1, 4)  # per image, both ends included
EMPTY_SHARE = 0.03  # images without any object
SIDE = (0.18, 0.55)  # of S, drawn log-uniformly ...
LARGE_SHARE, LARGE_SIDE = 0.04, (0.8, 0.95)  # ... but for these
CONTRAST = (50.0, 120.0)  # grey levels between an object and what lies under its centre
HUE_SPREAD = 0.05  # standard deviation around the class's hue, of the hue circle
SATURATION, TINT = (0.25, 0.9), (0.7, 1.2)  # how much of that hue shows
NOISE = (3.0, 8.0)  # standard deviation of pixel noise, grey levels
VISIBLE = 0.85  # an object is placed only where every object keeps this share of its pixels
TRIES = 12


@dataclass(frozen=True)
class Scene:
    pixels: np.ndarray  # S x S x 3 uint8
    owner: np.ndarray  # S x S int16: which object is visible, -1 for none
    labels: list[int]  # M, indices into CLASSES
    boxes: list[tuple[int, int, int, int]]  # M: x1 y1 x2 y2, tight around the visible pixels


Window = tuple[slice, slice]  # the rows and columns of the canvas that a shape can touch


def draw_scene(size: int, seed: tuple[int, ...]) -> Scene:
    """The scene that belongs to `seed`: the same on every call, and independent of other scenes."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    canvas = _background(rng, size)
    for _ in range(rng.integers(1, 4)):
        _distractor(rng, canvas)
    owner = np.full((size, size), -1, np.int16)
    full: list[int] = []  # pixels of each object before others covered it
    labels: list[int] = []
    for side in _sides(rng, size):
        label = int(rng.integers(len(CLASSES)))
        placed = _place(rng, label, side, owner, full)
        if placed is None:
            continue
        window, alpha = placed
        mask = alpha >= 0.5
        _paint(canvas[window], alpha, _colours(rng, canvas[window], mask, label))
        owner[window][mask] = len(labels)
        full.append(int(mask.sum()))
        labels.append(label)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(*NOISE)
    boxes = [_tight(owner == k) for k in range(len(labels))]
    return Scene(canvas.clip(0, 255).round().astype(np.uint8), owner, labels, boxes)


def outline(
    label: int, size: int, cx: float, cy: float, side: float, angle: float
) -> tuple[Window, np.ndarray]:
    """Where in an S x S canvas a shape lies, and its coverage in [0, 1] of every pixel there: 0.5
    minus the signed distance of the pixel's centre to the outline, in pixels.

    `side` is the diameter of the circle the shape fits into, but for a triangle's corners, which
    reach a tenth further; `cx`, `cy` is its centre. The centre of pixel (i, j) is (j + .5, i + .5).
    """
    reach = 0.55 * side + 1
    window, u, v = _turned(size, cx, cy, angle, reach, reach)
    r = side / 2
    match CLASSES[label]:
        case "disc":
            distance = np.hypot(u, v) - r
        case "ring":
            distance = np.abs(np.hypot(u, v) - 0.76 * r) - 0.24 * r
        case "square":
            distance = np.maximum(np.abs(u), np.abs(v)) - r / np.sqrt(2)
        case _:  # a triangle with its corners at distance 1.1 r
            lines = [np.cos(t) * u + np.sin(t) * v for t in np.pi * np.array([0.5, 7 / 6, 11 / 6])]
            distance = np.maximum.reduce(lines) - 0.55 * r
    return window, (0.5 - distance).clip(0, 1).astype(np.float32)


def _turned(
    size: int, cx: float, cy: float, angle: float, reach_x: float, reach_y: float
) -> tuple[Window, np.ndarray, np.ndarray]:
    """A window around (cx, cy), and the coordinates of its pixels in axes turned by `angle`."""
    x1, x2 = max(0, int(cx - reach_x)), min(size, int(cx + reach_x) + 1)
    y1, y2 = max(0, int(cy - reach_y)), min(size, int(cy + reach_y) + 1)
    dx = np.arange(x1, x2, dtype=np.float32) + np.float32(0.5 - cx)
    dy = (np.arange(y1, y2, dtype=np.float32) + np.float32(0.5 - cy))[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (slice(y1, y2), slice(x1, x2)), cos * dx + sin * dy, cos * dy - sin * dx


def _sides(rng: np.random.Generator, size: int) -> list[float]:
    """Sizes of the objects to draw, largest first, so that large ones find a place and do not bury
    small ones."""
    if rng.random() < EMPTY_SHARE:
        return []
    count = rng.integers(OBJECTS[0], OBJECTS[1] + 1)
    usual = np.exp(rng.uniform(np.log(SIDE[0]), np.log(SIDE[1]), count))
    large = rng.uniform(LARGE_SIDE[0], LARGE_SIDE[1], count)
    return sorted((size * np.where(rng.random(count) < LARGE_SHARE, large, usual)).tolist())[::-1]


def _place(
    rng: np.random.Generator, label: int, side: float, owner: np.ndarray, full: list[int]
) -> tuple[Window, np.ndarray] | None:
    """Window and coverage of a new object where no other one vanishes; None if none is found."""
    size = len(owner)
    left = np.bincount(owner[owner >= 0], minlength=len(full))
    for _ in range(TRIES):
        low = min(side / 3, size / 2)  # up to a sixth of an object may lie outside the image
        cx, cy = rng.uniform(low, size - low, 2)
        window, alpha = outline(label, size, cx, cy, side, rng.uniform(0, 2 * np.pi))
        covered = owner[window][alpha >= 0.5]
        lost = np.bincount(covered[covered >= 0], minlength=len(full))
        if all(left[k] - lost[k] >= VISIBLE * full[k] for k in range(len(full))):
            return window, alpha
    return None


def _colours(
    rng: np.random.Generator, under: np.ndarray, mask: np.ndarray, label: int
) -> np.ndarray:
    """Grey levels of an object in its window: a base colour that stands out from what is under it,
    and a faint texture."""
    ground = under[mask].mean(axis=0)
    hue = (label / len(CLASSES) + rng.normal(0, HUE_SPREAD)) % 1.0
    tint = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*SATURATION), 1.0)) * 255
    contrast = rng.uniform(*CONTRAST) * rng.choice((-1, 1))
    if not 10 <= ground.mean() + contrast <= 245:  # black on black would be clipped away
        contrast = -contrast
    base = ground + contrast + (tint - tint.mean()) * rng.uniform(*TINT)
    height, width = mask.shape
    texture = _smooth_noise(rng, (height, width), rng.uniform(6, 20), 1) * rng.uniform(0, 14)
    if rng.random() < 0.3:  # stripes
        t, period = rng.uniform(0, np.pi), rng.uniform(5, 12)
        phase = np.cos(t) * np.arange(width) + np.sin(t) * np.arange(height)[:, None]
        texture = texture + np.sin(phase * 2 * np.pi / period)[..., None] * rng.uniform(5, 20)
    return (base + texture).clip(0, 255).astype(np.float32)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    base = rng.uniform(50, 205) + rng.normal(0, 18, 3)
    canvas = np.zeros((size, size, 3), np.float32) + base.astype(np.float32)
    patches = size / float(rng.integers(2, 5))
    canvas += _smooth_noise(rng, (size, size), patches, 3) * rng.uniform(5, 25)
    canvas += _smooth_noise(rng, (size, size), rng.uniform(4, 12), 1) * rng.uniform(2, 14)
    return canvas


def _distractor(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """A thin bar or a soft blob: contrast that is no object."""
    size = len(canvas)
    cx, cy = rng.uniform(0, size, 2)
    _, u, v = _turned(size, cx, cy, rng.uniform(0, np.pi), 2 * size, 2 * size)
    if rng.random() < 0.5:
        half, thick = size * rng.uniform(0.1, 0.5), size * rng.uniform(0.008, 0.02)
        alpha = (0.5 - np.maximum(np.abs(u) - half, np.abs(v) - thick)).clip(0, 1)
    else:
        a, b = size * rng.uniform(0.05, 0.2, 2)
        alpha = np.exp(-0.5 * ((u / a) ** 2 + (v / b) ** 2)) * 0.8
    _paint(canvas, alpha.astype(np.float32), rng.uniform(20, 235, 3).astype(np.float32))


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], feature: float, channels: int
) -> np.ndarray:
    """Height x width x channels noise of mean 0 and deviation about 1, its features `feature`
    pixels wide."""
    height, width = shape
    cells = (channels, int(height / feature) + 2, int(width / feature) + 2)
    coarse = rng.standard_normal(cells, dtype=np.float32)
    fine = [Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(f) for f in fine], axis=-1)


def _paint(canvas: np.ndarray, alpha: np.ndarray, colours: np.ndarray) -> None:
    canvas += alpha[..., None] * (colours - canvas)


def _tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
