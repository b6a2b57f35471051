"""Stitched pictures against a loop, and in the batches of a run: how often, which images, and the
same however they are loaded."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detcore.config.schema import Data, ReportStitch, Stitch
from detcore.data.batch import Batch
from detcore.data.coco import open_split
from detcore.data.loader import epoch_order, train_batches
from detcore.data.stitch import batch_rng, stitch_four, stitch_two
from detcore.data.transforms import MEAN_COLOUR, Sample, image_rng
from tests.detcore.data.builders import SHARED, folder, noise, simple

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]


def view(height: int, width: int, image_id: int, labels: list[int]) -> Sample:
    """Noise of low contrast with one rectangle per label, in the label's colour."""
    pixels = (noise(height, width, image_id) // 8 + 100).astype(np.uint8)
    step = width // max(1, len(labels))
    boxes = np.zeros((len(labels), 4), np.float32)
    for m, label in enumerate(labels):
        x1, x2 = m * step + step // 8, (m + 1) * step - step // 8
        y1, y2 = height // 4, height - height // 5
        pixels[y1:y2, x1:x2] = COLOURS[label]
        boxes[m] = x1, y1, x2, y2
    return Sample(pixels, boxes, np.array(labels, np.int64), image_id, (2.0, 2.0))


def by_hand(views: list[Sample], cells: list[tuple[int, int, int, int]], canvas) -> np.ndarray:
    """Each view resized by Pillow and pasted at (x, y) with size (w, h)."""
    out = Image.new("RGB", canvas[::-1], MEAN_COLOUR)
    for v, (x, y, w, h) in zip(views, cells, strict=True):
        out.paste(Image.fromarray(v.pixels).resize((w, h), Image.Resampling.BILINEAR), (x, y))
    return np.asarray(out)


def check_content(picture: Sample, labels: list[int]) -> None:
    """Boxes hold the colour of their label, and one pixel outside of them is none of it."""
    assert picture.labels.tolist() == labels
    assert picture.boxes.dtype == np.float32
    assert picture.labels.dtype == np.int64
    height, width = picture.pixels.shape[:2]
    for box, label in zip(picture.boxes, labels, strict=True):
        x1, y1, x2, y2 = box
        inner = picture.pixels[int(y1) + 2 : int(y2) - 1, int(x1) + 2 : int(x2) - 1]
        assert inner.size > 0
        assert (inner == COLOURS[label]).all()
        for y, x in ((y1 - 2, (x1 + x2) / 2), ((y1 + y2) / 2, x1 - 2), (y2 + 1, (x1 + x2) / 2)):
            if 0 <= y < height and 0 <= x < width:
                assert (picture.pixels[int(y), int(x)] != COLOURS[label]).any()


def test_two_wide_views_lie_one_above_the_other() -> None:
    """120 x 160 and 100 x 200 on 128 x 224. Halves of 64 x 224: 64 x 85 and 64 x 128. Halves of
    128 x 112: 84 x 112 and 56 x 112, which covers 15680 px against 13632: side by side."""
    a, b = view(120, 160, 1, [0, 3]), view(100, 200, 2, [1])
    picture = stitch_two(a, b, (128, 224))
    expected = by_hand([a, b], [(0, 0, 112, 84), (112, 0, 112, 56)], (128, 224))
    np.testing.assert_array_equal(picture.pixels, expected)
    check_content(picture, [0, 3, 1])
    np.testing.assert_allclose(picture.boxes[:2], a.boxes * 0.7, atol=1e-4)
    np.testing.assert_allclose(picture.boxes[2], b.boxes[0] * 0.56 + [112, 0, 112, 0], atol=1e-4)
    assert picture.image_id == 1
    assert picture.scale == pytest.approx((1.4, 1.4))

    # 60 x 240 twice on 128 x 256: 56 x 224 lies above; beside there would be 32 x 128 of each
    c, d = view(60, 240, 3, [2]), view(60, 240, 4, [5, 4])
    picture = stitch_two(c, d, (128, 256))
    expected = by_hand([c, d], [(0, 0, 256, 64), (0, 64, 256, 64)], (128, 256))
    np.testing.assert_array_equal(picture.pixels, expected)
    check_content(picture, [2, 5, 4])


@pytest.mark.parametrize("seed", range(12))
def test_two_views_leave_as_little_empty_as_either_split(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(40, 160, (2, 2))
    canvas = tuple((sizes.max(axis=0) + draw.integers(0, 32, 2)).tolist())
    views = [view(*size.tolist(), k, [k]) for k, size in enumerate(sizes)]
    covered = []
    for cell in ((canvas[0] // 2, canvas[1]), (canvas[0], canvas[1] // 2)):
        scales = [min(cell[0] / h, cell[1] / w) for h, w in sizes]
        covered.append(sum(h * w * s**2 for (h, w), s in zip(sizes, scales, strict=True)))
    picture = stitch_two(*views, canvas)
    assert picture.pixels.shape == (*canvas, 3)
    check_content(picture, [0, 1])
    areas = [
        (picture.pixels == colour).all(axis=2).sum() * h * w / (v.pixels == colour).all(2).sum()
        for colour, (h, w), v in zip(COLOURS, sizes, views, strict=False)
    ]
    assert sum(areas) == pytest.approx(max(covered), rel=0.15)  # from pixels of blurred rectangles


def test_four_views_lie_in_the_quarters_at_half_their_size() -> None:
    """The canvas is 130 x 200: quarters of 65 x 100, the second of each side at its far end. The
    third view is wider than the canvas and shrinks by 100 / 400 instead of a half."""
    views = [
        view(120, 160, 1, [0]),
        view(130, 100, 2, []),
        view(100, 400, 3, [1, 2, 3]),
        view(64, 64, 4, [4]),
    ]
    picture = stitch_four(views, (130, 200))
    cells = [(0, 0, 80, 60), (100, 0, 50, 65), (0, 65, 100, 25), (100, 65, 32, 32)]
    np.testing.assert_array_equal(picture.pixels, by_hand(views, cells, (130, 200)))
    check_content(picture, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(picture.boxes[0], views[0].boxes[0] / 2)
    np.testing.assert_allclose(picture.boxes[1:4], views[2].boxes / 4 + [0, 65, 0, 65], atol=1e-4)
    assert picture.scale == (1.0, 1.0)
    assert picture.image_id == 1


def test_pictures_without_boxes_and_of_odd_and_tiny_sizes() -> None:
    none = view(41, 77, 1, [])
    picture = stitch_two(none, none, (41, 77))
    assert picture.boxes.shape == (0, 4)
    assert picture.pixels.shape == (41, 77, 3)
    thin = Sample(noise(1, 50), np.array([[0, 0, 9, 1]], np.float32), np.array([2]), 9, (1, 1))
    assert stitch_four([thin] * 4, (1, 50)).pixels.shape == (1, 50, 3)
    assert stitch_two(thin, none, (41, 77)).labels.tolist() == [2]


def test_the_stream_of_a_batch_is_its_own() -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 0, 0)]
    draws = [batch_rng(*k).random() for k in keys] + [image_rng(*k).random() for k in keys]
    orders = [epoch_order(0, 0, 50).tolist(), batch_rng(0, 0, 0).permutation(50).tolist()]
    assert len(set(draws)) == 10
    assert orders[0] != orders[1]
    assert batch_rng(0, 1, 0).random() == draws[2]


def batches(data: Data, count: int, **settings: int) -> list[Batch]:
    every = {"seed": 3, "batch": 4, "rank": 0, "world": 1, "start_step": 0, "workers": 0}
    split = open_split(data, "train")
    stream = train_batches(split, data, **{**every, **settings}, pin_memory=False)
    return list(itertools.islice(stream, count))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(v, getattr(b, k)) for k, v in vars(a).items())


def test_an_eighth_of_a_batch_of_four_becomes_composites(tmp_path: Path) -> None:
    """400 batches at probability 1/2, beside the same run without stitching: a batch has one
    composite or none, all other images stay, the canvas stays, and half of the batches have one
    (within 5 standard deviations), any of the four."""
    data = simple(tmp_path, images=9)
    plain = batches(data, 400)
    stitched = batches(folder(tmp_path, stitch=ReportStitch()), 400)
    which = []
    for p, s in zip(plain, stitched, strict=True):
        assert s.images.shape == p.images.shape
        assert torch.equal(s.image_ids, p.image_ids)
        changed = [i for i in range(4) if not torch.equal(p.images[i], s.images[i])]
        assert len(changed) <= 1
        for i in range(4):
            have, had = int((s.labels[i] >= 0).sum()), int((p.labels[i] >= 0).sum())
            if i not in changed:
                assert have == had
                assert torch.equal(s.boxes[i, :have], p.boxes[i, :had])
            else:
                assert s.sizes[i].tolist() == list(p.images.shape[2:])
                extra = s.labels[i, had:have].tolist()
                donors = [p.labels[j][p.labels[j] >= 0].tolist() for j in range(4) if j != i]
                assert s.labels[i, :had].tolist() == p.labels[i, :had].tolist()
                assert extra in donors
        which += changed
    assert abs(len(which) - 200) < 5 * np.sqrt(400 / 4)
    assert {which.count(i) > 15 for i in range(4)} == {True}


def test_all_images_of_a_batch_become_pictures_of_four(tmp_path: Path) -> None:
    data = simple(tmp_path, images=9)
    plain = batches(data, 120)
    always = batches(folder(tmp_path, stitch=Stitch(probability=1.0)), 20)
    for p, s in zip(plain, always, strict=False):
        assert s.images.shape == p.images.shape
        assert s.sizes.tolist() == [list(p.images.shape[2:])] * 4
        assert torch.equal(s.image_ids, p.image_ids)
        for i in range(4):  # the first view is the batch's own image, at half its size
            had = int((p.labels[i] >= 0).sum())
            assert torch.equal(s.labels[i, :had], p.labels[i, :had])
            half = p.boxes[i, :had] / 2
            torch.testing.assert_close(s.boxes[i, :had], half, atol=0.6, rtol=0)
    sometimes = batches(folder(tmp_path, stitch=Stitch(probability=0.5)), 120)
    stitched = [not same(p, s) for p, s in zip(plain, sometimes, strict=True)]
    assert abs(sum(stitched) - 60) < 5 * np.sqrt(120 / 4)
    one = batches(folder(tmp_path, stitch=Stitch(probability=1.0)), 2, batch=1)  # alone on its rank
    assert [len(b.images) for b in one] == [1, 1]
    assert not any(same(a, b) for a, b in zip(one, batches(data, 2, batch=1), strict=True))
    never = batches(folder(tmp_path, stitch=Stitch(probability=0.0)), 20)
    assert all(same(p, s) for p, s in zip(plain, never, strict=False))


@pytest.mark.parametrize("augment", ["none", "aa_v0", "waa"])
@pytest.mark.parametrize("stitch", [ReportStitch(), Stitch()])
def test_resuming_gives_the_same_batches(
    tmp_path: Path, augment: str, stitch: ReportStitch | Stitch
) -> None:
    simple(tmp_path)
    data = folder(tmp_path, stitch=stitch, augment=augment)
    whole = batches(data, 24, world=2, rank=1)
    tail = batches(data, 15, world=2, rank=1, start_step=9)
    assert all(same(a, b) for a, b in zip(whole[9:], tail, strict=True))
    other = batches(data, 24, world=2, rank=1, seed=4)
    assert not all(same(a, b) for a, b in zip(whole, other, strict=True))


def test_worker_processes_stitch_and_augment_bit_for_bit(tmp_path: Path) -> None:
    simple(tmp_path)
    data = folder(tmp_path, stitch=Stitch(), augment="waa")
    inline, processes = batches(data, 16), batches(data, 16, workers=2)
    assert all(same(a, b) for a, b in zip(inline, processes, strict=True))


@pytest.mark.parametrize(
    ("augment", "stitch"),
    [
        ("aa_v0", None),
        ("aa_v0", ReportStitch(probability=1.0)),
        ("waa", ReportStitch(probability=1.0)),
        ("waa", Stitch(probability=1.0)),
    ],
)
def test_real_photographs_keep_the_contract(
    augment: str, stitch: ReportStitch | Stitch | None
) -> None:
    root = SHARED / "coco_mini_small"
    if not root.is_dir():
        pytest.skip("needs the data set coco_mini_small in shared/data beside the checkout")
    data = folder(root, augment=augment, stitch=stitch, crowd="keep")
    for batch in batches(data, 10):
        assert batch.images.dtype == torch.uint8
        assert batch.boxes.dtype == torch.float32
        height, width = batch.images.shape[2:]
        assert height % 16 == width % 16 == 0
        real = batch.labels >= 0
        assert real.any()
        boxes = batch.boxes[real]
        assert (boxes >= 0).all()
        limits = batch.sizes.flip(1).repeat(1, 2)[:, None].expand_as(batch.boxes)[real]
        assert (boxes <= limits + 1e-3).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
        assert (batch.boxes[~real] == 0).all()
