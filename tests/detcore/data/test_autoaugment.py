"""AutoAugment v0: boxes against masks moved by the same pixels, operations against loops written
from their descriptions, the policy's frequencies over many seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from detcore.data import autoaugment as aa
from tests.detcore.data.builders import mask_bounds, noise

GEOMETRY = {"translate_x": 0.2, "shear_x": 1.0, "shear_y": 1.0, "rotate": 1.0}


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", GEOMETRY)
def test_boxes_agree_with_masks_of_their_rectangles(name: str) -> None:
    """Each rectangle is painted on an image of its own and moved by the same draw. Where none of
    its corners leaves the image the box is tight (corners of a turned rectangle are thinner than a
    pixel: 2 px); always it holds the whole mask."""
    height, width = 120, 160
    whole, cut = 0, 0
    for seed in range(60):
        draw = rng(1000 + seed)
        x1, y1 = draw.integers(0, [width - 12, height - 12])
        x2, y2 = x1 + draw.integers(10, 60), y1 + draw.integers(10, 60)
        box = np.array([[x1, y1, min(x2, width), min(y2, height)]], np.float32)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y1:y2, x1:x2] = 255
        pixels, moved = aa.OPERATIONS[name]((pixels, box), GEOMETRY[name], rng(seed))
        assert pixels.shape == (height, width, 3)
        assert moved.dtype == np.float32
        assert (moved >= 0).all()
        assert (moved <= [width, height, width, height]).all()
        found = mask_bounds(pixels[..., 0] == 255)
        if found is None:
            assert aa.box_area(moved)[0] < 30  # at most a strip that a corner of the box made
            continue
        assert (moved[0, :2] <= found[:2] + 1.01).all()
        assert (moved[0, 2:] >= found[2:] - 1.01).all()
        inner = moved[0, :2].min() > 0 and (moved[0, 2:] < [width, height]).all()
        if inner or name == "translate_x":
            np.testing.assert_allclose(moved[0], found, atol=2)
            whole += 1
        cut += not inner
    assert whole >= 20
    assert cut >= 3


@pytest.mark.parametrize("strength", [0.2, -0.6, 1.0])
def test_content_moves_inside_its_box_as_in_a_loop(strength: float) -> None:
    pixels, box = noise(90, 70, seed=1), np.array([10.4, 20.0, 40.0, 85.2], np.float32)
    expected = pixels.copy()
    for y in range(20, 86):  # every row and column the box touches
        for x in range(10, 40):
            source = y - round(120 * strength)
            expected[y, x] = pixels[source, x] if 20 <= source < 86 else 128
    before = pixels.copy()
    found = aa.in_box(pixels, box, aa.translate_y_content, strength)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pixels, before)


def test_all_boxes_of_an_image_move_their_content_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Probability 3, of which a third is 1: each box moves its content by 24 px, all up or all
    down; the boxes themselves stay."""
    step = aa.Step("translate_y_in_boxes", 3.0, 2)
    monkeypatch.setattr(aa, "POLICY_V0", ((step,),))
    pixels = noise(100, 90, seed=2)
    boxes = np.array([[5, 10, 30, 80], [40, 0, 60, 100], [70, 40, 90, 60]], np.float32)
    signs = set()
    for seed in range(12):
        out, same, labels = aa.autoaugment(pixels, boxes, np.arange(3), rng(seed))
        np.testing.assert_array_equal(same, boxes)
        np.testing.assert_array_equal(labels, [0, 1, 2])
        down = bool((out[10:34, 5:30] == 128).all())
        signs.add(down)
        expected = pixels.copy()
        for x1, y1, x2, y2 in boxes.astype(int):
            area = pixels[y1:y2, x1:x2]
            moved = np.full_like(area, 128)
            if len(area) > 24:
                moved[24:] = area[:-24] if down else moved[24:]
                moved[:-24] = moved[:-24] if down else area[24:]
            expected[y1:y2, x1:x2] = moved
        np.testing.assert_array_equal(out, expected)
    assert signs == {True, False}


def test_boxes_that_leave_the_image_are_dropped_with_their_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aa, "POLICY_V0", ((aa.Step("translate_x", 1.0, 4),),))
    boxes = np.array([[0, 0, 90, 50], [120, 0, 180, 50], [210, 0, 300, 50]], np.float32)
    left_or_right = set()
    for seed in range(12):
        _, found, labels = aa.autoaugment(
            noise(60, 300, seed=0), boxes, np.array([5, 6, 7]), rng(seed)
        )
        if labels.tolist() == [6, 7]:  # 100 px to the left
            np.testing.assert_array_equal(found, [[20, 0, 80, 50], [110, 0, 200, 50]])
        else:
            assert labels.tolist() == [5, 6]
            np.testing.assert_array_equal(found, [[100, 0, 190, 50], [220, 0, 280, 50]])
        left_or_right.add(labels.tolist()[0])
    assert left_or_right == {5, 6}
    none = np.zeros((0, 4), np.float32)
    _, found, labels = aa.autoaugment(noise(60, 300), none, np.zeros(0, int), rng(0))
    assert found.shape == (0, 4)
    assert len(labels) == 0


def test_the_levels_are_the_published_strengths() -> None:
    """The table of policy v0, each operation measured on pixels at its own level."""
    dot = np.zeros((200, 300, 3), np.uint8)
    dot[100, 150] = 255
    none = np.zeros((0, 4), np.float32)
    places = {}
    for name, level in (("translate_x", 4), ("shear_y", 2), ("shear_x", 0)):
        outs = [aa.OPERATIONS[name]((dot, none), level / 10, rng(s))[0][..., 0] for s in range(8)]
        places[name] = {tuple(p) for out in outs for p in np.argwhere(out == 255).tolist()}
        assert {int(v) for out in outs for v in np.unique(out)} <= {0, 128, 255}
    assert places["translate_x"] == {(100, 50), (100, 250)}
    assert places["shear_y"] == {(91, 150), (109, 150)}  # 0.06 * 150.5 = 9.03 px
    assert places["shear_x"] == {(100, 150)}

    picture = noise(120, 160, seed=3)
    turned = {
        s: np.asarray(Image.fromarray(picture).rotate(30 * s, fillcolor=(128,) * 3))
        for s in (1, -1)
    }
    found = [aa.rotate((picture, none), 1.0, rng(seed))[0] for seed in range(8)]
    share = [[(f == t).all(axis=2).mean() for t in turned.values()] for f in found]
    assert all(max(s) > 0.99 for s in share)
    assert {int(np.argmax(s)) for s in share} == {0, 1}

    areas = [
        (aa.cutout((np.zeros((400, 500, 3), np.uint8), none), 0.8, rng(s))[0][..., 0] == 128).sum()
        for s in range(40)
    ]
    assert max(areas) == 160 * 160
    assert min(areas) < 160 * 160  # cut off where the image ends
    for seed in range(5):  # one rectangle, centred on a pixel
        out = aa.cut_square(np.zeros((60, 70, 3), np.uint8), 8, 9, rng(seed))[..., 0] == 9
        x1, y1, x2, y2 = mask_bounds(out)
        assert out.sum() == (x2 - x1) * (y2 - y1)
        assert max(x2 - x1, y2 - y1) <= 16


def test_colour_is_an_extrapolation_from_grey() -> None:
    pixels = noise(30, 40, seed=4)
    grey = np.floor(pixels @ [0.299, 0.587, 0.114] + 0.5)[..., None]
    expected = (grey + 1.18 * (pixels - grey)).clip(0, 255)
    found = aa.color((pixels, np.zeros((0, 4))), 0.6, rng(0))[0]
    assert np.abs(found - expected).max() <= 1.01  # Pillow truncates, and rounds the grey itself


def test_sharpness_is_an_extrapolation_from_a_smoothed_image() -> None:
    pixels = noise(20, 24, seed=5)
    smooth = pixels.astype(float)
    for y in range(1, 19):
        for x in range(1, 23):
            patch = pixels[y - 1 : y + 2, x - 1 : x + 2].reshape(9, 3).astype(float)
            smooth[y, x] = (patch.sum(axis=0) + 4 * patch[4]) / 13
    expected = (smooth + 1.54 * (pixels - smooth)).clip(0, 255)  # level 8: 0.1 + 1.8 * 0.8
    found = aa.sharpness((pixels, np.zeros((0, 4))), 0.8, rng(0))[0]
    assert np.abs(found - expected).max() <= 1.6
    oracle = ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(1.54)
    np.testing.assert_array_equal(found, np.asarray(oracle))


def test_equalize_flattens_each_channel_as_in_a_loop() -> None:
    """Value v goes to (pixels below v + half a step) // step, step = (pixels - those of the
    brightest value) // 255."""
    dark = (noise(40, 50, seed=6).astype(int) // 4 + [0, 30, 90]).astype(np.uint8)
    expected = np.zeros_like(dark)
    for c in range(3):
        channel = dark[..., c].astype(int)
        step = (channel.size - (channel == channel.max()).sum()) // 255
        for v in np.unique(channel):
            expected[channel == v, c] = min(255, ((channel < v).sum() + step // 2) // step)
    np.testing.assert_array_equal(aa.equalized(dark), expected)


def test_frequencies_of_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """6000 seeds with recorders in place of the operations, one box: every operation as often as
    1/5 times its probability (a third of it inside boxes), within 5 standard deviations of the
    binomial; and each at its level."""
    seen: list[tuple[str, float]] = []

    def recorder(name: str) -> object:
        def record(picture: aa.Picture, strength: float, _: np.random.Generator) -> aa.Picture:
            seen.append((name, round(strength, 6)))
            return picture

        return record

    def content(pixels: np.ndarray, strength: float) -> np.ndarray:
        seen.append(("translate_y_in_boxes", round(strength, 6)))
        return pixels

    for name in list(aa.OPERATIONS):
        monkeypatch.setitem(aa.OPERATIONS, name, recorder(name))
    monkeypatch.setitem(aa.CONTENT_OPERATIONS, "translate_y_in_boxes", content)
    pixels, boxes = np.zeros((8, 8, 3), np.uint8), np.array([[1, 1, 5, 5]], np.float32)
    n = 6000
    for seed in range(n):
        aa.autoaugment(pixels, boxes, np.array([0]), rng(seed))
    expected = {
        ("translate_x", 0.4): 0.6,
        ("equalize", 1.0): 0.8,
        ("translate_y_in_boxes", 0.2): 0.2 / 3 / 2,
        ("translate_y_in_boxes", -0.2): 0.2 / 3 / 2,
        ("cutout", 0.8): 0.8,
        ("shear_x", 0.0): 0.4,
        ("shear_y", 0.2): 1.0,
        ("translate_y_in_boxes", 0.6): 0.6 / 3 / 2,
        ("translate_y_in_boxes", -0.6): 0.6 / 3 / 2,
        ("rotate", 1.0): 0.6,
        ("color", 0.6): 1.0,
    }
    counts = Counter(seen)
    assert set(counts) == set(expected)
    for key, probability in expected.items():
        p = probability / 5
        assert abs(counts[key] - n * p) < 5 * np.sqrt(n * p * (1 - p)), key
