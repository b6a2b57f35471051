"""Keypoint losses against plain loops over cells, boxes and pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.losses.keypoints import heatmap_focal_loss, offset_loss, tag_losses


def some_heatmaps() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5).double() * 3
    targets = torch.rand(2, 3, 4, 5).double()
    targets[0, 0, 1, 1], targets[1, 2, 0, 3], targets[0, 1, 2, 2] = 1.0, 1.0, 0.5
    return logits, targets


def some_tags() -> tuple[Tensor, Tensor, Tensor]:
    """Three images with 3, 0 and 1 boxes."""
    torch.manual_seed(0)
    valid = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, False]])
    return torch.randn(3, 4).double(), torch.randn(3, 4).double(), valid


def test_heatmap_loss_equals_a_loop() -> None:
    logits, targets = some_heatmaps()
    total, positives = 0.0, 0
    for x, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        if y >= 0.5:
            total -= (1 - p) ** 2 * math.log(p)
            positives += 1
        else:
            total -= (1 - y) ** 4 * p**2 * math.log(1 - p)
    assert 0 < positives < targets.numel()
    found = heatmap_focal_loss(logits, targets)
    assert float(found) == pytest.approx(total / (positives + 1e-4), rel=1e-6)


def test_heatmap_loss_of_an_image_without_boxes_is_the_undivided_sum() -> None:
    """All cells at probability 1/2, targets 0: log(2) / 4 each."""
    found = heatmap_focal_loss(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    assert float(found) == pytest.approx(24 * math.log(2) / 4 / 1.0001, rel=1e-6)


def test_heatmap_loss_is_finite_at_wild_logits() -> None:
    logits = torch.tensor([[[[1e4, -1e4, 1e4, -1e4]]]], requires_grad=True)
    loss = heatmap_focal_loss(logits, torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e4, rel=1e-3)
    assert torch.isfinite(logits.grad).all()


def test_tag_losses_equal_a_loop() -> None:
    first, second, valid = some_tags()
    pulls, pushes = [], []
    for a, b, v in zip(first.tolist(), second.tolist(), valid.tolist(), strict=True):
        tags = [(a[i], b[i]) for i in range(4) if v[i]]
        means = [(x + y) / 2 for x, y in tags]
        pulls += [(x - m) ** 2 + (y - m) ** 2 for (x, y), m in zip(tags, means, strict=True)]
        pushes += [
            max(0.0, 1 - abs(m - n))
            for i, m in enumerate(means)
            for j, n in enumerate(means)
            if i != j
        ]
    assert len(pulls) == 4
    assert len(pushes) == 6
    pull, push = tag_losses(first, second, valid)
    assert float(pull) == pytest.approx(sum(pulls) / 4)
    assert float(push) == pytest.approx(sum(pushes) / 6)


def test_offset_loss_by_hand() -> None:
    """Errors 0.5 and 3 are 0.125 and 2.5; the second row is no box."""
    offsets = torch.tensor([[[0.5, 0.0], [9.0, 9.0]], [[0.0, -3.0], [9.0, 9.0]]])
    valid = torch.tensor([[True, False], [True, False]])
    found = offset_loss(offsets, torch.zeros(2, 2, 2), valid)
    assert float(found) == pytest.approx((0.125 + 2.5) / 4)


@pytest.mark.parametrize("boxes", [0, 3])
def test_no_boxes_no_loss_and_no_nan(boxes: int) -> None:
    tags = torch.full((2, boxes), math.nan, requires_grad=True)  # masked, not multiplied by 0
    valid = torch.zeros(2, boxes, dtype=torch.bool)
    offsets = torch.full((2, boxes, 6), math.nan)
    losses = (*tag_losses(tags, tags, valid), offset_loss(offsets, offsets, valid))
    assert [float(x.detach()) for x in losses] == [0, 0, 0]


def flat_losses() -> list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    logits, targets = some_heatmaps()
    first, second, valid = some_tags()
    return [
        (lambda x: heatmap_focal_loss(x, targets), (logits,)),
        (lambda a, b: torch.stack(tag_losses(a, b, valid)), (first, second)),
        (lambda x: offset_loss(x, x.detach() * 0, valid), (torch.randn(3, 4, 6).double() * 2,)),
    ]


@pytest.mark.parametrize("which", range(3), ids=["heatmap", "tags", "offset"])
def test_gradient_and_one_graph(which: int) -> None:
    function, inputs = flat_losses()[which]
    inputs = tuple(x.requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(function, inputs)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), function(*inputs))
