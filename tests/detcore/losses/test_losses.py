"""Every kind of loss compiles into one graph that gives what it gives without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore.config import schema
from detcore.losses import BOX_LOSSES, CLASS_LOSSES, build_box_loss, build_class_loss

SETTINGS: dict[str, Any] = {
    "focal": schema.FocalLoss(),
    "frequency_focal": schema.FrequencyFocalLoss(),
    "huber": schema.HuberLoss(),
    "smooth_l1": schema.SmoothL1Loss(),
    "giou": schema.IouLoss("giou", clip=True),
    "diou": schema.IouLoss("diou"),
    "ciou": schema.IouLoss("ciou", clip=True),
}


def boxes(*shape: int) -> Tensor:
    corner, size = torch.rand(*shape, 2) * 40, torch.rand(*shape, 2) * 40 + 1
    return torch.cat((corner, corner + size), dim=-1)


def test_every_kind_is_listed_here() -> None:
    assert set(SETTINGS) == set(CLASS_LOSSES) | set(BOX_LOSSES)


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_one_graph_with_the_same_values(kind: str) -> None:
    torch.manual_seed(0)
    weight = torch.rand(2, 8)
    loss: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    if kind in CLASS_LOSSES:
        loss = build_class_loss(SETTINGS[kind], [50, 3, 1])
        arguments = (torch.arange(16).view(2, 8, 1) % 4 == torch.arange(3), weight)
        x = torch.randn(2, 8, 3, requires_grad=True)
    else:
        loss = build_box_loss(SETTINGS[kind])
        arguments = (boxes(8), boxes(2, 8), weight, (64, 64))
        x = torch.randn(2, 8, 4, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected, found = loss(x, *arguments), compiled(x, *arguments)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(v, [x])[0] for v in (expected, found)]
    torch.testing.assert_close(slopes[1], slopes[0])
