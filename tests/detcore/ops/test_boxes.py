"""Box arithmetic against torchvision."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import (
    box_iou,
    clip_boxes_to_image,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from detcore.ops.boxes import (
    centres,
    ciou,
    clip,
    clip_to,
    decode,
    diou,
    encode,
    from_sides,
    giou,
    iou_matrix,
    to_sides,
)


def random_boxes(*shape: int) -> torch.Tensor:
    corner, size = torch.rand(*shape, 2) * 100, torch.rand(*shape, 2) * 60 + 1
    return torch.cat((corner, corner + size), dim=-1)


def test_deltas_by_hand() -> None:
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])  # centre (5, 10)
    box = torch.tensor([[5.0, 5.0, 25.0, 25.0]])  # centre (15, 15), 20 x 20
    expected = torch.tensor([[1.0, 0.25, math.log(2), 0.0]])
    torch.testing.assert_close(encode(box, anchor), expected)


def test_torchvisions_box_coder_agrees() -> None:
    torch.manual_seed(0)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes, anchors = random_boxes(50), random_boxes(50)
    torch.testing.assert_close(encode(boxes, anchors), coder.encode_single(boxes, anchors))
    deltas = torch.randn(50, 4) * 4  # some beyond the limit of the log scale
    torch.testing.assert_close(decode(deltas, anchors), coder.decode_single(deltas, anchors))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_decode_undoes_encode(seed: int) -> None:
    torch.manual_seed(seed)
    boxes, anchors = random_boxes(2, 7).double(), random_boxes(7).double()
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)


def test_a_wild_delta_stays_finite() -> None:
    anchors = random_boxes(1)
    assert torch.isfinite(decode(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), anchors)).all()


def test_iou_is_torchvisions_image_by_image_and_zero_without_area() -> None:
    torch.manual_seed(0)
    boxes, anchors = random_boxes(3, 6), random_boxes(40)
    boxes[1, 2] = 0
    found = iou_matrix(boxes, anchors)
    for mine, image in zip(found, boxes, strict=True):
        assert torch.equal(mine, box_iou(image, anchors))
    assert found[1, 2].eq(0).all()


def test_giou_is_torchvisions() -> None:
    torch.manual_seed(0)
    a, b = random_boxes(4, 100), random_boxes(4, 100)
    expected = 1 - generalized_box_iou_loss(a.view(-1, 4), b.view(-1, 4)).view(4, 100)
    torch.testing.assert_close(giou(a, b), expected)
    torch.testing.assert_close(giou(a, a), torch.ones(4, 100))


def test_diou_and_ciou_are_torchvisions() -> None:
    torch.manual_seed(0)
    a, b = random_boxes(4, 100), random_boxes(4, 100)
    for mine, theirs in ((diou, distance_box_iou_loss), (ciou, complete_box_iou_loss)):
        torch.testing.assert_close(mine(a, b), 1 - theirs(a, b))
        torch.testing.assert_close(mine(a, a), torch.ones(4, 100))


def test_diou_and_ciou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
    b = torch.tensor([[2.0, 0, 4, 2], [-1, 0, 3, 2]])
    # side by side: no overlap, centres 2 apart, diagonal^2 16 + 4; same centre: IoU 4 / 8
    torch.testing.assert_close(diou(a, b), torch.tensor([-0.2, 0.5]))
    v = 4 / math.pi**2 * (math.pi / 4 - math.atan(2)) ** 2  # a square and 4 x 2
    expected = torch.tensor([-0.2, 0.5 - v * v / (0.5 + v)])
    torch.testing.assert_close(ciou(a, b), expected)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_iou_family_is_ordered_symmetric_and_bounded(seed: int) -> None:
    torch.manual_seed(seed)
    a, b = random_boxes(20), random_boxes(20)
    iou = iou_matrix(a[None], b)[0].diagonal()
    for measure in (giou, diou, ciou):
        value = measure(a, b)
        torch.testing.assert_close(value, measure(b, a))
        assert (value <= iou + 1e-6).all()
        assert (value >= -1 - (measure is ciou)).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_sides_and_corners_are_inverse(seed: int) -> None:
    torch.manual_seed(seed)
    points, boxes = torch.rand(7, 2, dtype=torch.float64) * 100, random_boxes(2, 7).double()
    torch.testing.assert_close(from_sides(points, to_sides(points, boxes)), boxes)
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    at_centre = to_sides(centres(boxes), boxes)
    torch.testing.assert_close(at_centre, torch.cat((half, half), dim=-1))


def test_sides_by_hand() -> None:
    point, box = torch.tensor([[10.0, 20.0]]), torch.tensor([[3.0, 15.0, 11.0, 50.0]])
    assert to_sides(point, box).tolist() == [[7.0, 5.0, 1.0, 30.0]]  # left, upper, right, lower


def test_clip_to_is_torchvisions() -> None:
    torch.manual_seed(0)
    boxes = random_boxes(2, 30) * 2 - 60
    assert torch.equal(clip_to(boxes, (50, 70)), clip_boxes_to_image(boxes, (50, 70)))


def test_clip_is_torchvisions_with_a_size_per_image() -> None:
    torch.manual_seed(0)
    boxes = random_boxes(2, 30) * 2 - 60
    sizes = torch.tensor([[50, 70], [90, 40]])
    for mine, image, (height, width) in zip(clip(boxes, sizes), boxes, sizes.tolist(), strict=True):
        assert torch.equal(mine, clip_boxes_to_image(image, (height, width)))
