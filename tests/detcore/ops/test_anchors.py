"""Anchors against an example by hand and a loop over cells."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    torch.testing.assert_close(found, torch.tensor(expected))


def test_anchors_first_made_in_inference_mode_can_be_trained_with() -> None:
    cfg = schema.GridAnchors(octave=2, ratios=(0.7,))  # settings no other test has put in the cache
    sizes = [(3, 3), (2, 2), (1, 1), (1, 1), (1, 1)]
    with torch.inference_mode():
        grid_anchors(cfg, sizes, STRIDES, "cpu")
    anchors = grid_anchors(cfg, sizes, STRIDES, "cpu").boxes
    scale = torch.ones(4, requires_grad=True)
    (anchors * scale).sum().backward()
    torch.testing.assert_close(scale.grad, anchors.sum(dim=0))
