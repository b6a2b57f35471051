"""Focal losses: against torchvision, and the report's weights by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from detcore.config import schema
from detcore.losses import build_class_loss


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def one_class(*shape: int) -> torch.Tensor:
    """Random anchors x classes with at most one True in a row, half of the rows background."""
    labels = torch.randint(-shape[-1], shape[-1], shape[:-1])
    return labels[..., None] == torch.arange(shape[-1])


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
@pytest.mark.parametrize("cfg", [schema.FocalLoss(), schema.FrequencyFocalLoss()])
def test_finite_with_its_gradient_at_extreme_logits(cfg: schema.ClassLoss, target: bool) -> None:
    logits = torch.tensor([[[-200.0], [0.0], [200.0]]], requires_grad=True)
    is_class = torch.full((1, 3, 1), target)
    loss = build_class_loss(cfg, [5])(logits, is_class, torch.ones(1, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_rare_classes_are_spared_by_hand() -> None:
    # of 200 boxes: 60 %, 39.5 %, 0.5 %, and a class without boxes, which counts as 1 %
    loss = build_class_loss(schema.FrequencyFocalLoss(alpha=0.5, gamma=0.0), [120, 79, 1, 0])
    labels = torch.tensor([[0, 1, 2, 3, -1, 0]])
    expected = torch.tensor(
        [
            [1, 39.5 / 60, 0.5 / 60, 1 / 60],
            [1, 1, 0.5 / 39.5, 1 / 39.5],  # 60 / 39.5 is cut to 1
            [1, 1, 1, 1],
            [1, 1, 0.5, 1],
            [1, 1, 0.5, 1],  # background
            [0, 0, 0, 0],  # ignored
        ]
    )
    logits = torch.zeros(1, 6, 4, requires_grad=True)
    is_class = labels[..., None] == torch.arange(4)
    weight = torch.tensor([[1.0, 1, 1, 1, 1, 0]])
    value = loss(logits, is_class, weight)
    value.backward()
    # at logit 0, alpha 0.5 and gamma 0 a term is ln(2) / 2 and its slope 1/4, down for the
    # anchor's own class
    torch.testing.assert_close(value, expected.sum() * math.log(2) / 2)
    slope = torch.where(is_class, -0.25, 0.25) * expected
    torch.testing.assert_close(logits.grad, slope)


def test_frequency_focal_is_a_loop_over_its_elements() -> None:
    counts = [500, 3, 40, 0, 7]
    logits, is_class = torch.randn(2, 20, 5) * 3, one_class(2, 20, 5)
    weight = (torch.rand(2, 20) < 0.8).float()
    percent = [100 * n / 550 if n else 1.0 for n in counts]
    each = sigmoid_focal_loss(logits, is_class.float(), 0.25, 2.0)
    expected = 0.0
    for b in range(2):
        for a in range(20):
            own = [c for c in range(5) if is_class[b, a, c]]
            f_t = percent[own[0]] if own else 1.0
            for c in range(5):
                w = 1.0 if c in own else min(1.0, percent[c] / f_t)
                expected += float(weight[b, a]) * w * float(each[b, a, c])
    found = build_class_loss(schema.FrequencyFocalLoss(), counts)(logits, is_class, weight)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_equally_frequent_classes_make_it_plain_focal_loss() -> None:
    logits, is_class, weight = torch.randn(2, 30, 4), one_class(2, 30, 4), torch.ones(2, 30)
    found = build_class_loss(schema.FrequencyFocalLoss(), [9] * 4)(logits, is_class, weight)
    plain = build_class_loss(schema.FocalLoss(), [])(logits, is_class, weight)
    torch.testing.assert_close(found, plain)


def test_frequencies_must_be_given_and_are_no_part_of_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="frequency_focal needs class_counts"):
        build_class_loss(schema.FrequencyFocalLoss(), [])
    loss = build_class_loss(schema.FrequencyFocalLoss(), [1, 2])
    assert isinstance(loss, torch.nn.Module)
    assert loss.state_dict() == {}


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("kind", [schema.FocalLoss, schema.FrequencyFocalLoss])
def test_gradient_is_the_slope(kind: type[schema.FocalLoss], gamma: float) -> None:
    logits = torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True)
    is_class, weight = one_class(1, 6, 3), torch.rand(1, 6, dtype=torch.float64)
    loss = build_class_loss(kind(gamma=gamma), [100, 5, 1])
    assert torch.autograd.gradcheck(lambda x: loss(x, is_class, weight), (logits,))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="alpha must be in"):
        schema.FocalLoss(alpha=1.5)
    with pytest.raises(ValueError, match="gamma must not be negative"):
        schema.FrequencyFocalLoss(gamma=-1.0)
