"""Scenes of the embedded synthetic set: a few shapes on a textured background, with everything that
makes it not trivial.

Shape legend: S side of the square image, M objects.

What makes it hard: sizes over a factor of nine, any rotation, contrast down to little more than the
noise, textures on objects and background, occlusion, and distractors (bars and soft blobs) that
belong to no class. What keeps it learnable by a small net in minutes: four classes, clean outlines,
and hues that lean to a class without giving it away.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image

CLASSES = ("disc", "ring", "square", "triangle")
OBJECTS = (2, 6)  # per image, both ends included
EMPTY_SHARE = 0.03  # images without any object
SIDE = (0.11, 0.55)  # of S, drawn log-uniformly ...
LARGE_SHARE, LARGE_SIDE = 0.05, (0.78, 0.92)  # ... but for these
CONTRAST = (35.0, 110.0)  # grey levels between an object and what lies under its centre
HUE_SPREAD = 0.16  # standard deviation around the class's hue, of the hue circle
NOISE = (4.0, 12.0)  # standard deviation of pixel noise, grey levels
VISIBLE = 0.55  # an object is placed only where every object keeps this share of its pixels
TRIES = 12


@dataclass(frozen=True)
class Scene:
    pixels: np.ndarray  # S x S x 3 uint8
    owner: np.ndarray  # S x S int16: which object is visible, -1 for none
    labels: list[int]  # M, indices into CLASSES
    boxes: list[tuple[int, int, int, int]]  # M: x1 y1 x2 y2, tight around the visible pixels


def draw_scene(size: int, seed: tuple[int, ...]) -> Scene:
    """The scene that belongs to `seed`: the same on every call, and independent of all other
    scenes."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    canvas = _background(rng, size)
    for _ in range(rng.integers(1, 4)):
        _distractor(rng, canvas)
    count = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    owner = np.full((size, size), -1, np.int16)
    full: list[int] = []  # pixels of each object before others covered it
    labels: list[int] = []
    for _ in range(count):
        label = int(rng.integers(len(CLASSES)))
        alpha = _place(rng, label, owner, full)
        if alpha is None:
            continue
        _paint(canvas, alpha, _colours(rng, canvas, alpha, label))
        owner[alpha >= 0.5] = len(labels)
        full.append(int((alpha >= 0.5).sum()))
        labels.append(label)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(*NOISE)
    boxes = [_tight(owner == k) for k in range(len(labels))]
    return Scene(canvas.clip(0, 255).round().astype(np.uint8), owner, labels, boxes)


def outline(label: int, size: int, cx: float, cy: float, side: float, angle: float) -> np.ndarray:
    """Coverage in [0, 1] of every pixel, S x S: 0.5 minus the signed distance to the outline, in
    pixels.

    `side` is the width of the shape before rotation; `cx`, `cy` its centre. Pixel (i, j) has its
    centre at (j + .5, i + .5).
    """
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + np.float32(0.5)
    dx, dy = x - cx, y - cy
    u = np.cos(angle) * dx + np.sin(angle) * dy
    v = np.cos(angle) * dy - np.sin(angle) * dx
    r = side / 2
    match CLASSES[label]:
        case "disc":
            distance = np.hypot(u, v) - r
        case "ring":
            distance = np.abs(np.hypot(u, v) - 0.76 * r) - 0.24 * r
        case "square":
            distance = np.maximum(np.abs(u), np.abs(v)) - 0.85 * r
        case _:  # the triangle with its corners at distance 1.1 r: the largest of three half-planes
            lines = [np.cos(t) * u + np.sin(t) * v for t in np.pi * np.array([0.5, 7 / 6, 11 / 6])]
            distance = np.maximum.reduce(lines) - 0.55 * r
    return (0.5 - distance).clip(0, 1).astype(np.float32)


def _place(
    rng: np.random.Generator, label: int, owner: np.ndarray, full: list[int]
) -> np.ndarray | None:
    """Coverage of a new object at a place where nothing vanishes, or None when none was found."""
    size = len(owner)
    for _ in range(TRIES):
        if rng.random() < LARGE_SHARE:
            side = size * rng.uniform(*LARGE_SIDE)
        else:
            side = size * float(np.exp(rng.uniform(*np.log(SIDE))))
        # up to a sixth of an object may lie outside the image
        low = min(side / 3, size / 2)
        cx, cy = rng.uniform(low, size - low, 2)
        alpha = outline(label, size, cx, cy, side, rng.uniform(0, 2 * np.pi))
        mask = alpha >= 0.5
        left = np.bincount(owner[~mask & (owner >= 0)], minlength=len(full))
        if all(left[k] >= VISIBLE * full[k] for k in range(len(full))):
            return alpha
    return None


def _colours(
    rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, label: int
) -> np.ndarray:
    """S x S x 3 grey levels of an object: a base colour that stands out from what is under it, and
    a faint texture."""
    size = len(canvas)
    under = canvas[alpha >= 0.5].mean(axis=0)
    hue = (label / len(CLASSES) + rng.normal(0, HUE_SPREAD)) % 1.0
    colour = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.25, 0.9), 1.0)) * 255
    towards = colour - colour.mean()
    contrast = rng.uniform(*CONTRAST)
    sign = 1 if rng.random() < np.clip((255 - under.mean()) / 255, 0.15, 0.85) else -1
    base = under + sign * contrast + towards * rng.uniform(0.2, 0.6)
    texture = _smooth_noise(rng, size, int(rng.integers(6, 20)), 1) * rng.uniform(0, 14)
    if rng.random() < 0.3:  # stripes
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        t = rng.uniform(0, np.pi)
        wave = np.sin((np.cos(t) * x + np.sin(t) * y) * 2 * np.pi / rng.uniform(5, 12))
        texture = texture + wave[..., None].astype(np.float32) * rng.uniform(5, 20)
    return (base.astype(np.float32) + texture).clip(0, 255)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    base = rng.uniform(50, 205) + rng.normal(0, 18, 3)
    canvas = np.zeros((size, size, 3), np.float32) + base.astype(np.float32)
    canvas += _smooth_noise(rng, size, int(rng.integers(2, 5)), 3) * rng.uniform(5, 25)
    canvas += _smooth_noise(rng, size, int(rng.integers(10, 32)), 1) * rng.uniform(2, 14)
    return canvas


def _distractor(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """A thin bar or a soft blob: contrast that is no object."""
    size = len(canvas)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    cx, cy = rng.uniform(0, size, 2)
    t = rng.uniform(0, np.pi)
    u = np.cos(t) * (x - cx) + np.sin(t) * (y - cy)
    v = np.cos(t) * (y - cy) - np.sin(t) * (x - cx)
    if rng.random() < 0.5:
        half = size * rng.uniform(0.1, 0.5)
        distance = np.maximum(np.abs(u) - half, np.abs(v) - size * rng.uniform(0.008, 0.02))
        alpha = (0.5 - distance).clip(0, 1)
    else:
        a, b = size * rng.uniform(0.05, 0.2, 2)
        alpha = np.exp(-0.5 * ((u / a) ** 2 + (v / b) ** 2)) * 0.8
    _paint(canvas, alpha.astype(np.float32), rng.uniform(20, 235, 3).astype(np.float32))


def _smooth_noise(rng: np.random.Generator, size: int, cells: int, channels: int) -> np.ndarray:
    """S x S x channels, mean about 0 and deviation about 1, with features of S / cells pixels."""
    coarse = rng.standard_normal((channels, cells, cells), dtype=np.float32)
    fine = [Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(f) for f in fine], axis=-1)


def _paint(canvas: np.ndarray, alpha: np.ndarray, colours: np.ndarray) -> None:
    canvas += alpha[..., None] * (colours - canvas)


def _tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
