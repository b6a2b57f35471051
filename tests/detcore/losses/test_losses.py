"""Losses against torchvision and torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from detcore.config import schema
from detcore.losses import build_box_loss, build_class_loss
from detcore.ops.boxes import decode, encode


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def boxes(*shape: int) -> torch.Tensor:
    corner, size = torch.rand(*shape, 2) * 100, torch.rand(*shape, 2) * 60 + 1
    return torch.cat((corner, corner + size), dim=-1)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_focal_is_torchvisions_over_the_weighted_anchors(alpha: float, gamma: float) -> None:
    logits = (torch.randn(2, 50, 4) * 5).requires_grad_()
    is_class = torch.rand(2, 50, 4) < 0.1
    weight = (torch.rand(2, 50) < 0.7).float()
    loss = build_class_loss(schema.FocalLoss(alpha=alpha, gamma=gamma), [])(
        logits, is_class, weight
    )
    each = sigmoid_focal_loss(logits, is_class.float(), alpha, gamma)
    expected = (each * weight[..., None]).sum()
    torch.testing.assert_close(loss, expected)
    mine, theirs = (torch.autograd.grad(v, [logits])[0] for v in (loss, expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("target", [True, False])
def test_focal_is_finite_with_its_gradient_at_extreme_logits(target: bool) -> None:
    logits = torch.tensor([[[-200.0], [0.0], [200.0]]], requires_grad=True)
    is_class = torch.full((1, 3, 1), target)
    loss = build_class_loss(schema.FocalLoss(), [])(logits, is_class, torch.ones(1, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("delta", "scale"), [(1.0, 1.0), (0.1, 2.5)])
def test_huber_is_torchs_summed_over_the_positives(delta: float, scale: float) -> None:
    deltas, anchors, targets = torch.randn(2, 30, 4), boxes(30), boxes(2, 30)
    positive = torch.rand(2, 30) < 0.3
    loss = build_box_loss(schema.HuberLoss(delta=delta, weight=scale))
    found = loss(deltas, anchors, targets, positive.float(), (64, 64))
    wanted = encode(targets, anchors)[positive]
    expected = scale * F.huber_loss(deltas[positive], wanted, reduction="sum", delta=delta)
    torch.testing.assert_close(found, expected)


def test_giou_is_torchvisions_summed_over_the_positives() -> None:
    deltas, anchors, targets = torch.randn(2, 30, 4).requires_grad_(), boxes(30), boxes(2, 30)
    positive = torch.rand(2, 30) < 0.3
    found = build_box_loss(schema.IouLoss(weight=2.0))(
        deltas, anchors, targets, positive.float(), (64, 64)
    )
    decoded = decode(deltas, anchors)[positive]
    expected = 2 * generalized_box_iou_loss(decoded, targets[positive], reduction="sum")
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(v, [deltas])[0] for v in (found, expected))
    torch.testing.assert_close(mine, theirs)
