"""Box losses against torch and torchvision, their clipped form, and boxes without area."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import (
    clip_boxes_to_image,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from detcore.config import schema
from detcore.losses import build_box_loss, build_corner_loss
from detcore.ops.boxes import centres, decode, encode

SIZE = (100, 120)  # height, width
TORCHVISION: dict[str, Callable[..., Tensor]] = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
KINDS = list(TORCHVISION)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def boxes(*shape: int) -> Tensor:
    corner, size = torch.rand(*shape, 2) * 100, torch.rand(*shape, 2) * 60 + 1
    return torch.cat((corner, corner + size), dim=-1)


@pytest.mark.parametrize(("delta", "scale"), [(1.0, 1.0), (0.1, 2.5)])
def test_huber_is_torchs_summed_over_the_positives(delta: float, scale: float) -> None:
    deltas, anchors, targets = torch.randn(2, 30, 4), boxes(30), boxes(2, 30)
    positive = torch.rand(2, 30) < 0.3
    loss = build_box_loss(schema.HuberLoss(delta=delta, weight=scale))
    found = loss(deltas, anchors, targets, positive.float(), SIZE)
    wanted = encode(targets, anchors)[positive]
    expected = scale * F.huber_loss(deltas[positive], wanted, reduction="sum", delta=delta)
    torch.testing.assert_close(found, expected)


def test_smooth_l1_by_hand() -> None:
    # errors 0.05 (below beta: 0.05^2 / 0.2 = 0.0125) and -2 (above: 2 - 0.05 = 1.95)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    deltas = torch.tensor([[[0.05, 0.0, -2.0, 0.0]]])
    loss = build_box_loss(schema.SmoothL1Loss(beta=0.1, weight=2.0))
    found = loss(deltas, anchors, anchors[None], torch.ones(1, 1), SIZE)
    torch.testing.assert_close(found, torch.tensor(2 * (0.0125 + 1.95)))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_smooth_l1_is_huber_over_beta_summed_over_the_positives(beta: float) -> None:
    deltas, anchors, targets = torch.randn(2, 30, 4), boxes(30), boxes(2, 30)
    positive = torch.rand(2, 30) < 0.3
    found = build_box_loss(schema.SmoothL1Loss(beta=beta))(
        deltas, anchors, targets, positive.float(), SIZE
    )
    wanted = encode(targets, anchors)[positive]
    expected = F.huber_loss(deltas[positive], wanted, reduction="sum", delta=beta) / beta
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_iou_losses_are_torchvisions_summed_over_the_positives(kind: str, clip: bool) -> None:
    deltas = torch.randn(2, 30, 4).mul(0.5).requires_grad_()
    anchors, targets = boxes(30), boxes(2, 30)
    # torchvision's CIoU divides by the height: no box that the cut leaves without one
    centre, limit = centres(decode(deltas, anchors)), torch.tensor(SIZE[::-1])
    positive = (torch.rand(2, 30) < 0.7) & ((centre > 0) & (centre < limit)).all(-1)
    cfg = schema.IouLoss(kind=kind, weight=2.0, clip=clip)  # type: ignore[arg-type]
    found = build_box_loss(cfg)(deltas, anchors, targets, positive.float(), SIZE)
    decoded = decode(deltas, anchors)[positive]
    if clip:
        cut = clip_boxes_to_image(decoded, SIZE)
        assert (cut != decoded).any()
        decoded = cut
    expected = 2 * TORCHVISION[kind](decoded, targets[positive], reduction="sum")
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(v, [deltas])[0] for v in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_clip_stops_the_gradient_of_what_sticks_out(kind: str) -> None:
    found = torch.tensor(
        [
            [-5.0, 10, 50, 110],  # left and below
            [20, -3, 130, 60],  # above and right
            [10, 10, 50, 60],  # inside
        ]
    )[None].requires_grad_()
    target = torch.tensor([[8.0, 12, 55, 90]]).expand(1, 3, 4)
    inside = torch.tensor([[[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1]]]).bool()
    for clip, moved in ((True, inside), (False, torch.ones_like(inside))):
        loss = build_corner_loss(schema.IouLoss(kind=kind, clip=clip))  # type: ignore[arg-type]
        [slope] = torch.autograd.grad(loss(found, target, torch.ones(1, 3), SIZE), [found])
        assert torch.equal(slope != 0, moved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_beyond_a_side_of_the_image_is_stuck_there_once_cut(kind: str) -> None:
    found = torch.tensor([[[-40.0, 10, -20, 30]]], requires_grad=True)
    loss = build_corner_loss(schema.IouLoss(kind=kind, clip=True))  # type: ignore[arg-type]
    target = torch.tensor([[[8.0, 12, 55, 90]]])
    [slope] = torch.autograd.grad(loss(found, target, torch.ones(1, 1), SIZE), [found])
    assert (slope[0, 0, [0, 2]] == 0).all()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_are_finite_with_their_gradients(kind: str, clip: bool) -> None:
    target = torch.tensor([10.0, 10, 40, 30])
    found = torch.tensor(
        [
            [10.0, 10, 40, 30],  # the target itself
            [20, 20, 20, 20],  # a point inside it
            [90, 90, 90, 90],  # a point outside it
            [20, 10, 20, 30],  # no width
            [10, 20, 40, 20],  # no height
            [0, 0, 0, 0],
            [-50, -50, -30, -30],  # a point after the cut
            [-1e6, -1e6, 1e6, 1e6],
        ]
    )[None].requires_grad_()
    cfg = schema.IouLoss(kind=kind, clip=clip)  # type: ignore[arg-type]
    for targets in (target.expand(1, 8, 4), found.detach()):
        value = build_corner_loss(cfg)(found, targets, torch.ones(1, 8), SIZE)
        [slope] = torch.autograd.grad(value, [found])
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize(
    "cfg",
    [
        schema.HuberLoss(delta=0.7),
        schema.SmoothL1Loss(beta=0.3),
        schema.IouLoss("giou"),
        schema.IouLoss("diou"),
        schema.IouLoss("diou", clip=True),
        # ciou's alpha passes no gradient, so its gradient is not its slope: torchvision is its
        # oracle above
    ],
)
def test_gradient_is_the_slope(cfg: schema.BoxLoss) -> None:
    deltas = torch.randn(1, 6, 4, dtype=torch.float64).mul(0.4).requires_grad_()
    anchors, targets = boxes(6).double(), boxes(1, 6).double()
    weight = torch.rand(1, 6, dtype=torch.float64)
    loss = build_box_loss(cfg)
    assert torch.autograd.gradcheck(lambda x: loss(x, anchors, targets, weight, SIZE), (deltas,))
