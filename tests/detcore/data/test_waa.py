"""WAA: borders by hand, boxes tight around masks painted from the outlines, its frequencies, and
real photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from pycocotools.coco import COCO

from detcore.config.schema import CocoFolder, Data
from detcore.data.affine import box_area, rotation, shear, warp
from detcore.data.coco import open_split
from detcore.data.outlines import Outlines, box_outlines, join_rings, visible_bounds
from detcore.data.transforms import image_rng, train_sample
from detcore.data.waa import add_border, waa
from tests.detcore.data.builders import SHARED, mask_bounds, noise

HEIGHT, WIDTH = 120, 160


def of_sub_policy(k: int) -> Iterator[np.random.Generator]:
    """Streams whose first draw selects sub-policy k."""
    for seed in range(10_000):
        if np.random.default_rng(seed).integers(5) == k:
            yield np.random.default_rng(seed)


def blob(draw: np.random.Generator) -> list[tuple[float, float]]:
    """A lopsided blob without thin tips, far from filling its box."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = draw.uniform(14, 30) * (1 + 0.3 * np.sin(2 * angles + draw.uniform(0, 6)))
    centre = draw.uniform([10, 10], [WIDTH - 10, HEIGHT - 10])
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [tuple(p) for p in points.clip(0, [WIDTH, HEIGHT]).tolist()]


def painted(polygon: list[tuple[float, float]]) -> np.ndarray:
    """White on black, h x w x 3: the pixels whose centre is in the polygon."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    odd = np.zeros((HEIGHT, WIDTH), bool)
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return (odd[..., None].repeat(3, 2) * 255).astype(np.uint8)


def test_borders_move_boxes_by_their_width() -> None:
    pixels, boxes = noise(20, 30), np.array([[1, 2, 10, 12], [0, 0, 30, 20]], np.float32)
    wide, moved = add_border(pixels, boxes, 60, 0)
    assert wide.shape == (20, 90, 3)
    assert (wide[:, :60] == 127).all()
    np.testing.assert_array_equal(wide[:, 60:], pixels)
    np.testing.assert_array_equal(moved, [[61, 2, 70, 12], [60, 0, 90, 20]])
    high, moved = add_border(pixels, boxes, 0, 40)
    assert high.shape == (60, 30, 3)
    assert (high[:40] == 127).all()
    np.testing.assert_array_equal(high[40:], pixels)
    np.testing.assert_array_equal(moved, [[1, 42, 10, 52], [0, 40, 30, 60]])
    assert moved.dtype == np.float32


@pytest.mark.parametrize("k", [2, 3])
def test_boxes_are_tight_around_the_moved_masks(k: int) -> None:
    """A polygon of its own image through the shear or the rotation: the box holds what of it is
    visible and no more, within 1.5 px (its mask is pixels, and the rotation blurs it)."""
    draw = np.random.default_rng(k)
    moved, grown, cut = 0, 0, 0
    for rng in [r for r, _ in zip(of_sub_policy(k), range(50), strict=False)]:
        polygon = blob(draw)
        pixels = painted(polygon)
        outlines = join_rings([[np.array(polygon)]])
        boxes = visible_bounds(outlines, HEIGHT, WIDTH)
        out, found, labels = waa(pixels, boxes, np.array([3]), outlines, rng)
        assert labels.tolist() == [3]
        expected = mask_bounds(out[..., 0] > 190)
        np.testing.assert_allclose(found[0], expected, atol=1.5)
        assert out.dtype == np.uint8
        assert out.shape[0] in (HEIGHT, HEIGHT + 40)
        assert out.shape[1] == WIDTH
        grown += out.shape[0] > HEIGHT
        moved += not np.allclose(found, boxes)
        cut += bool((found[0, :2] == 0).any() or (found[0, 2:] == [WIDTH, out.shape[0]]).any())
    assert moved >= 20
    assert cut >= 5
    assert (grown > 0) == (k == 2)


def test_the_shear_lifts_the_right_side_and_the_angle_is_within_30_degrees() -> None:
    """A dot at x = 150.5 rises by 0.06 * 150.5 = 9.03 px in every draw; a dot right of the centre
    turns by any angle up to 30 degrees, and black comes from outside."""
    dot = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    dot[100, 150] = 255
    none, no_outlines = np.zeros((0, 4), np.float32), box_outlines(np.zeros((0, 4), np.float32))
    for rng in [r for r, _ in zip(of_sub_policy(2), range(10), strict=False)]:
        out = waa(dot, none, np.zeros(0, int), no_outlines, rng)[0]
        added = out.shape[0] - HEIGHT
        assert np.argwhere(out[..., 0] == 255).tolist() == [[91 + added, 150]]
        assert (out[added + 113 :, 155] == 128).all()
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    white[54:66, 115:126] = 100
    angles = []
    for rng in [r for r, _ in zip(of_sub_policy(3), range(80), strict=False)]:
        out = waa(white, none, np.zeros(0, int), no_outlines, rng)[0]
        rows, columns = np.nonzero((out[..., 0] > 90) & (out[..., 0] < 140))
        near = np.hypot(columns - 79.5, rows - 59.5) < 50
        x, y = np.median(columns[near]) - 79.5, np.median(rows[near]) - 59.5
        angles.append(np.degrees(np.arctan2(-y, x)))
        if abs(angles[-1]) > 10:
            assert (out[0, 0] == 0).all() or (out[-1, 0] == 0).all()
    assert max(np.abs(angles)) < 31.5
    assert max(angles) > 20
    assert min(angles) < -20
    assert 15 <= sum(abs(a) < 0.5 for a in angles) <= 50  # 0.4 of 80 do not turn


def test_sub_policies_and_probabilities() -> None:
    """3000 seeds, sorted by what can be seen in the image, each count within 5 standard deviations
    of the binomial. Nothing happens in sub-policy 4 and where both steps of 0 or 1 are left out."""
    grey = (np.arange(20)[:, None, None] * 3 + 90).repeat(30, 1).repeat(3, 2).astype(np.uint8)
    grey[..., 0] += 20
    boxes, labels = np.array([[2, 2, 18, 18]], np.float32), np.array([1])
    outlines = box_outlines(boxes)
    counts: Counter[str] = Counter()
    n = 3000
    for seed in range(n):
        out, found, _ = waa(grey, boxes, labels, outlines, np.random.default_rng(seed))
        added = out.shape[0] - 20, out.shape[1] - 30
        counts[f"border {added}"] += 1
        content = out[added[0] :, added[1] :]
        if added == (0, 0) and np.array_equal(content, grey):
            counts["same"] += 1
            np.testing.assert_array_equal(found, boxes)
        counts["black square"] += bool((content == 0).all(axis=2).sum() >= 64)
        coloured = np.asarray(ImageEnhance.Color(Image.fromarray(grey)).enhance(1.18))
        counts["only colour"] += np.array_equal(content, coloured)
    expected = {
        "border (0, 60)": 0.6 / 5,
        "border (40, 0)": (0.6 + 0.6) / 5,
        "border (0, 0)": 1 - 1.8 / 5,
        "same": (1 + 2 * 0.4 * 0.2) / 5,
        "only colour": 0.4 / 5,
    }
    for key, p in expected.items():
        assert abs(counts[key] - n * p) < 5 * np.sqrt(n * p * (1 - p)), (key, counts[key])
    assert sum(counts[k] for k in counts if k.startswith("border")) == n
    # 8 to 16 px of the square are in the image each way; a turned image may have black corners
    p = 0.8 / 5
    assert n * p - 5 * np.sqrt(n * p * (1 - p)) < counts["black square"] < n * (p + 0.6 / 5)


def test_cutout_is_sixteen_black_pixels_wide() -> None:
    white = np.full((60, 70, 3), 255, np.uint8)
    none = np.zeros((0, 4), np.float32)
    sizes = set()
    for rng in [r for r, _ in zip(of_sub_policy(1), range(60), strict=False)]:
        out = waa(white, none, np.zeros(0, int), box_outlines(none), rng)[0][..., 0] == 0
        found = mask_bounds(out)
        if found is not None:
            assert out.sum() == (found[2] - found[0]) * (found[3] - found[1])
            sizes.add(int(max(found[2:] - found[:2])))
    assert max(sizes) == 16


def test_boxes_below_two_square_pixels_after_the_resize_are_dropped() -> None:
    """100 px to 50: 2.8 px wide boxes become 1.4 px wide, 1.96 px^2; 2.9 px ones stay."""
    boxes = np.array([[10, 10, 12.8, 12.8], [10, 10, 12.9, 12.9]], np.float32)
    image = noise(100, 100)
    kept = []
    for augment in ("none", "aa_v0", "waa"):
        data = Data(augment=augment)  # type: ignore[arg-type]
        data = Data(**{**vars(data), "input": type(data.input)((50,), 50, 50, 50)})
        seen = set()
        for epoch in range(30):
            rng = image_rng(0, epoch, 1)
            sample = train_sample(image, boxes, np.array([4, 5]), 1, data, rng)
            assert len(sample.boxes) == len(sample.labels)
            seen.add(tuple(sample.labels.tolist()))
        kept.append(seen)
    assert kept[0] == {(4, 5)}
    assert (4, 5) in kept[1]
    assert (5,) in kept[2]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_real_photographs_have_boxes_tight_around_their_masks() -> None:
    """COCO's own polygons, sheared and turned: against pycocotools' masks moved the same way,
    within 2 px (a mask has whole pixels, and thin tips of it vanish)."""
    root = SHARED / "coco_mini_small"
    if not root.is_dir():
        pytest.skip("needs the data set coco_mini_small in shared/data beside the checkout")
    data = Data(source=CocoFolder(root=str(root)), augment="waa", crowd="keep")
    split = open_split(data, "train")
    api = COCO(str(split.annotation_file))
    compared, crowds = 0, 0
    for i in range(0, 24):
        height, width = split.sizes[i].tolist()
        outlines = split.outlines_of(i)
        assert isinstance(outlines, Outlines)
        boxes = split.objects(i)[0]
        np.testing.assert_allclose(visible_bounds(outlines, height, width), boxes, atol=0.05)
        matrix = shear(0, 0.06) if i % 2 else rotation(17.0 - 2 * i, height, width)
        found = visible_bounds(outlines.moved(matrix), height, width)
        for m, annotation in enumerate(api.imgToAnns[int(split.image_ids[i])]):
            if annotation["iscrowd"]:
                crowds += 1
                continue
            mask = api.annToMask(annotation)[..., None].repeat(3, 2) * 255
            moved = warp(mask.astype(np.uint8), matrix, 0, Image.Resampling.NEAREST)
            expected = mask_bounds(moved[..., 0] == 255)
            if expected is None:
                assert box_area(found[m : m + 1])[0] < 16
                continue
            assert (found[m, :2] <= expected[:2] + 1.5).all()
            assert (found[m, 2:] >= expected[2:] - 1.5).all()
            compared += np.abs(found[m] - expected).max() <= 2
    total = sum(len(api.imgToAnns[int(i)]) for i in split.image_ids[:24])
    assert total - crowds - compared <= 0.02 * total
