"""Anchors against an example by hand, a loop over cells, torchvision's generator and the seed
report's numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detcore.config import schema
from detcore.ops.anchors import grid_anchors, num_anchors_per_cell

STRIDES = (8, 16, 32, 64, 128)


def test_first_and_last_anchor_by_hand() -> None:
    cfg = schema.GridAnchors(octave=1, ratios=(1.0, 4.0))
    anchors = grid_anchors(cfg, [(2, 3), (1, 2), (1, 1), (1, 1), (1, 1)], STRIDES, "cpu").boxes
    assert anchors.dtype == torch.float32
    assert anchors[0].tolist() == [-12, -12, 20, 20]  # 32 x 32 round (4, 4)
    assert anchors[1].tolist() == [-28, -4, 36, 12]  # 64 x 16 round (4, 4)
    assert anchors[2].tolist() == [-4, -12, 28, 20]  # the next cell of the row, (12, 4)
    assert anchors[2 * 6].tolist() == [-24, -24, 40, 40]  # P4: 64 x 64 round (8, 8)
    assert anchors[-2].tolist() == [-192, -192, 320, 320]  # P7: 512 x 512 round (64, 64)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=5, max_size=5),
    octave=st.integers(1, 3),
    ratios=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=3),
)
def test_equals_a_loop(sizes: list[tuple[int, int]], octave: int, ratios: list[float]) -> None:
    cfg = schema.GridAnchors(octave=octave, ratios=tuple(ratios))
    expected = []
    for base, (height, width), stride in zip(cfg.sizes, sizes, STRIDES, strict=True):
        for i in range(height):
            for j in range(width):
                x, y = (j + 0.5) * stride, (i + 0.5) * stride
                for ratio in ratios:
                    for k in range(octave):
                        size = base * 2 ** (k / octave)
                        w, h = size * ratio**0.5, size / ratio**0.5
                        expected.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    found = grid_anchors(cfg, sizes, STRIDES, "cpu").boxes
    assert len(found) == num_anchors_per_cell(cfg) * sum(h * w for h, w in sizes)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-4)  # pixels


def test_anchors_first_made_in_inference_mode_can_be_trained_with() -> None:
    cfg = schema.GridAnchors(octave=2, ratios=(0.7,))  # settings no other test has put in the cache
    sizes = [(3, 3), (2, 2), (1, 1), (1, 1), (1, 1)]
    with torch.inference_mode():
        grid_anchors(cfg, sizes, STRIDES, "cpu")
    anchors = grid_anchors(cfg, sizes, STRIDES, "cpu").boxes
    scale = torch.ones(4, requires_grad=True)
    (anchors * scale).sum().backward()
    torch.testing.assert_close(scale.grad, anchors.sum(dim=0))


def test_sizes_and_ratios_of_each_level_equal_torchvisions_generator() -> None:
    """It starts cells at their corner, and its ratio is h/w. It rounds corners, so the sizes are
    chosen to give whole ones. Both have the ratios outside and the sizes inside."""
    sizes = ((16.0, 32.0), (32.0, 48.0), (64.0, 80.0), (128.0, 160.0), (256.0, 512.0))
    ratios = ((0.25, 1.0, 4.0), (1.0, 4.0, 0.25), (4.0, 0.25, 1.0), (4.0, 1.0, 0.25), (1, 0.25, 4))
    feature_sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 1)]
    generator = AnchorGenerator(sizes, tuple(tuple(1 / r for r in level) for level in ratios))
    images = ImageList(torch.zeros(1, 3, 128, 192), [(128, 192)])
    maps = [torch.zeros(1, 1, *size) for size in feature_sizes]
    expected = generator(images, maps)[0]
    cfg = schema.ListedAnchors(sizes=sizes, ratios=ratios)
    found = grid_anchors(cfg, feature_sizes, STRIDES, "cpu")
    assert found.per_cell == 6
    assert found.level_lengths == (6 * 16 * 24, 6 * 8 * 12, 6 * 4 * 6, 6 * 2 * 3, 6)
    half = torch.cat(
        [torch.full((n, 1), s / 2) for n, s in zip(found.level_lengths, STRIDES, strict=True)]
    )
    assert torch.equal(found.boxes, expected + half)


RATIOS = (0.5, 1.0, 2.0)
DEFAULT_SIZES = tuple(tuple(b * 2 ** (i / 3) for i in range(3)) for b in (32, 64, 128, 256, 512))
EQUAL_INTERVAL = tuple(tuple(32 + 480 / 14 * (3 * i + k) for k in range(3)) for i in range(5))
SEARCHED = (
    (10.57, 21.97, 37.15),
    (56.87, 81.08, 109.32),
    (141.30, 176.59, 214.98),
    (256.63, 302.07, 351.56),
    (406.23, 470.85, 550.60),
)
UNORDERED = ((0.5, 1.0, 2.0), (1.0, 2.0, 0.5), (2.0, 0.5, 1.0), (2.0, 1.0, 0.5), (1.0, 0.5, 2.0))


@pytest.mark.parametrize(
    ("cfg", "sizes", "ratios"),
    [
        (schema.GridAnchors(), DEFAULT_SIZES, [RATIOS] * 5),
        (schema.GridAnchors(octave=1), ((32,), (64,), (128,), (256,), (512,)), [RATIOS] * 5),
        (
            schema.GridAnchors(octave=1, ratios=(1.0,)),
            ((32,), (64,), (128,), (256,), (512,)),
            [(1.0,)] * 5,
        ),
        (schema.ListedAnchors(sizes=DEFAULT_SIZES, ratios=UNORDERED), DEFAULT_SIZES, UNORDERED),
        (schema.ListedAnchors(sizes=EQUAL_INTERVAL), EQUAL_INTERVAL, [RATIOS] * 5),
        (
            schema.ListedAnchors(sizes=SEARCHED, ratios=((0.29, 0.77, 2.14),)),
            SEARCHED,
            [(0.29, 0.77, 2.14)] * 5,
        ),
    ],
    ids=["default", "three", "one", "unordered", "equal_interval", "searched"],
)
def test_the_reports_anchor_sets(
    cfg: schema.Anchors,
    sizes: tuple[tuple[float, ...], ...],
    ratios: list[tuple[float, ...]],
) -> None:
    """Shapes in the first cell of every level, sqrt(w h) and w / h, in their order in the cell; and
    at 576 x 768 the report's 82,890 anchors, if a cell has nine."""
    maps = [(72, 96), (36, 48), (18, 24), (9, 12), (5, 6)]
    anchors = grid_anchors(cfg, maps, STRIDES, "cpu")
    assert len(anchors.boxes) == sum(anchors.level_lengths) == 9210 * anchors.per_cell
    start = 0
    for level, length in enumerate(anchors.level_lengths):
        cell = anchors.boxes[start : start + anchors.per_cell].double()
        w, h = (cell[:, 2:] - cell[:, :2]).unbind(1)
        expected = [(s, r) for r in ratios[level] for s in sizes[level]]
        expected_sizes, expected_ratios = torch.tensor(expected, dtype=torch.float64).unbind(1)
        torch.testing.assert_close((w * h).sqrt(), expected_sizes, rtol=1e-5, atol=0)
        torch.testing.assert_close(w / h, expected_ratios, rtol=1e-4, atol=0)
        start += length


def test_the_reports_listed_sizes() -> None:
    """The numbers that the report prints for its default and its equally spaced sizes."""
    last = [round(s, 2) for s in schema.GridAnchors().table()[-1][0]]
    assert last == [512.0, 645.08, 812.75]
    spaced = [[round(s, 2) for s in level] for level in EQUAL_INTERVAL]
    assert spaced[0] == [32.0, 66.29, 100.57]
    assert spaced[4] == [443.43, 477.71, 512.0]
