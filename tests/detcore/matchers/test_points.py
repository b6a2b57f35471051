"""Points against a loop written from the description, and against torchvision's FCOS."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.fcos import FCOS

from detcore.config import schema
from detcore.matchers import POSITIVE
from detcore.matchers.points import PointMatcher
from detcore.ops.anchors import AnchorSet, grid_anchors

Ties = Literal["largest_side", "area"]


def cells(sizes: list[tuple[int, int]]) -> AnchorSet:
    strides = [8 * 2**i for i in range(len(sizes))]
    cfg = schema.GridAnchors(sizes=tuple(map(float, strides)), octave=1, ratios=(1.0,))
    return grid_anchors(cfg, sizes, strides, "cpu")


def matched_by_loop(
    sizes: list[tuple[int, int]],
    ranges: tuple[float, ...],
    ties: Ties,
    radius: float,
    boxes: list[list[float]],
) -> list[int]:
    """For each point of one image the row of its box, -1 for background."""
    found = []
    limits = [0.0, *ranges, math.inf]
    for level, (height, width) in enumerate(sizes):
        stride = 8 * 2**level
        for i in range(height):
            for j in range(width):
                x, y = (j + 0.5) * stride, (i + 0.5) * stride
                best, row = math.inf, -1
                for m, (x1, y1, x2, y2) in enumerate(boxes):
                    sides = [x - x1, y - y1, x2 - x, y2 - y]
                    far = max(sides)
                    if min(sides) <= 0 or not limits[level] <= far <= limits[level + 1]:
                        continue
                    off = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                    if radius > 0 and off >= radius * stride:
                        continue
                    rank = far if ties == "largest_side" else (x2 - x1) * (y2 - y1)
                    if rank < best:
                        best, row = rank, m
                found.append(row)
    return found


def match(matcher: PointMatcher, anchors: AnchorSet, boxes: Tensor, valid: Tensor) -> Tensor:
    """B x P rows of boxes, -1 for background."""
    index, state = matcher(anchors, boxes, valid)
    assert index.dtype == torch.int64
    assert state.dtype == torch.int8
    return index.masked_fill(state != POSITIVE, -1)


SIZES = [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("radius", [0.0, 1.5])
@pytest.mark.parametrize("ties", ["largest_side", "area"])
def test_equals_a_loop(ties: Ties, radius: float) -> None:
    matcher = PointMatcher((24.0, 40.0), ties, radius)

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        # a grid of 4 pixels, so that edges, centres and ranges are met exactly
        side = st.integers(0, 24).map(lambda n: 4.0 * n)
        pair = st.tuples(side, side).map(sorted)
        box = st.tuples(pair, pair).map(lambda b: [b[0][0], b[1][0], b[0][1], b[1][1]])
        images = data.draw(st.lists(st.lists(box, max_size=5), min_size=1, max_size=2))
        boxes, valid = torch.zeros(len(images), 5, 4), torch.zeros(len(images), 5).bool()
        for b, image in enumerate(images):
            boxes[b, : len(image)] = torch.tensor(image).view(-1, 4)
            valid[b, : len(image)] = True
        found = match(matcher, cells(SIZES), boxes, valid)
        for mine, image in zip(found.tolist(), images, strict=True):
            assert mine == matched_by_loop(SIZES, (24.0, 40.0), ties, radius, image)

    check()


def torchvisions_match(radius: float, anchors: AnchorSet, boxes: list[Tensor]) -> list[Tensor]:
    """The rows that torchvision's FCOS gives to its head; its ranges are 64, 128, ..."""
    head = SimpleNamespace(compute_loss=lambda targets, outputs, anchors, rows: rows)
    model: Any = SimpleNamespace(center_sampling_radius=radius, head=head)
    targets = [{"boxes": b} for b in boxes]
    copies = [anchors.boxes.clone() for _ in boxes]
    rows: list[Tensor] = FCOS.compute_loss(model, targets, {}, copies, list(anchors.level_lengths))
    return rows


@pytest.mark.parametrize("radius", [1.5, 3.0])
def test_the_published_form_is_torchvisions(radius: float) -> None:
    torch.manual_seed(0)
    anchors = cells([(64, 80), (32, 40), (16, 20), (8, 10), (4, 5)])
    boxes = torch.zeros(3, 40, 4)
    boxes[..., :2] = torch.rand(3, 40, 2) * torch.tensor([600.0, 480.0])
    boxes[..., 2:] = boxes[..., :2] + 2 ** (torch.rand(3, 40, 2) * 7 + 3)
    valid = torch.arange(40) < torch.tensor([40, 0, 7])[:, None]
    expected = torchvisions_match(
        radius, anchors, [b[v] for b, v in zip(boxes, valid, strict=True)]
    )
    matcher = PointMatcher((64, 128, 256, 512), "area", radius)
    found = match(matcher, anchors, boxes, valid)
    assert torch.equal(found, torch.stack(expected))
    positive = (found >= 0).split(list(anchors.level_lengths), dim=1)
    assert all(p.any() for p in positive)


def test_forms_differ_where_they_should() -> None:
    # the point (36, 36) lies in a long flat box (area 1600, farthest side 76) and in a square one
    # (area 2500, farthest side 30)
    boxes = torch.tensor([[[32.0, 26, 112, 46], [16, 6, 66, 56]]])
    valid, anchors = torch.ones(1, 2).bool(), cells([(8, 16)])
    point = 4 * 16 + 4
    rows = {
        (ties, radius): int(match(PointMatcher((), ties, radius), anchors, boxes, valid)[0, point])
        for ties in ("largest_side", "area")
        for radius in (0.0, 1.5)
    }
    # centre sampling: (36, 36) is 5 from the square's centre and 36 from the flat one's, of 12
    assert rows == {
        ("largest_side", 0.0): 1,
        ("area", 0.0): 0,
        ("largest_side", 1.5): 1,
        ("area", 1.5): 1,
    }


def test_compiles_into_one_graph() -> None:
    torch._dynamo.reset()
    anchors = cells(SIZES)
    matcher = PointMatcher((24.0, 40.0), "area", 1.5)
    boxes = torch.rand(2, 4, 4) * 40
    boxes[..., 2:] += boxes[..., :2]
    valid = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    compiled = torch.compile(matcher.__call__, fullgraph=True, backend="aot_eager")
    for mine, expected in zip(
        compiled(anchors, boxes, valid), matcher(anchors, boxes, valid), strict=True
    ):
        assert torch.equal(mine, expected)
