"""The guard that the detectors' tests run a step under sees what it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from tests.detcore.detectors.sync import NoHostWait

WAITS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: bool(x.any()),
    "a mask as index": lambda x: x[x > 0],
    "assignment by a mask": lambda x: x.__setitem__(x > 0, torch.ones(2)),
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": torch.nonzero,
    "where of one": lambda x: torch.where(x > 0),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "unique": torch.unique,
    "unique along a dimension": lambda x: torch.unique(x, dim=0),
    "unique_consecutive": torch.unique_consecutive,
    "unique_consecutive along a dimension": lambda x: torch.unique_consecutive(x, dim=0),
    "bincount": lambda x: torch.bincount(x.long().abs()),
    "histc": lambda x: torch.histc(x, 3),
    "multinomial": lambda x: torch.multinomial(x.abs(), 1),
    "repeats in a tensor": lambda x: x.repeat_interleave(torch.tensor([1, 2, 3])),
    "inverse": lambda x: torch.linalg.inv(torch.eye(3) + x),
    "nms": lambda x: nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), x[:1], 0.5),
}
PASSES: dict[str, Callable[[Tensor], Any]] = {
    "numbers as index": lambda x: x[torch.arange(2)],
    "where of three": lambda x: torch.where(x > 0, x, 0),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x),
    "as often for all": lambda x: x.repeat_interleave(2),
    "repeats with the size given": lambda x: x.repeat_interleave(
        torch.tensor([1, 2, 3]), output_size=6
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_guard_sees_a_wait(name: str) -> None:
    x = torch.tensor([0.5, -1.0, 2.0])
    WAITS[name](x.clone())
    with pytest.raises(AssertionError, match=r"waits|mask index"), NoHostWait():
        WAITS[name](x)


@pytest.mark.parametrize("name", PASSES)
def test_the_guard_lets_what_does_not_wait_pass(name: str) -> None:
    x = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    with NoHostWait():
        PASSES[name](x).sum().backward()
    assert x.grad is not None
