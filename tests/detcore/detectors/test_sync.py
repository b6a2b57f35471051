"""The guard that the detectors' tests run a step under sees what it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.detcore.detectors.sync import NoHostWait


@pytest.mark.parametrize("waits", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.nonzero])
def test_the_guard_sees_a_wait(waits: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError), NoHostWait():
        waits(torch.randn(3))


def test_the_guard_lets_ordinary_work_pass() -> None:
    x = torch.randn(3, requires_grad=True)
    with NoHostWait():
        x[torch.arange(2)].where(x[:2] > 0, 0).sum().backward()
    assert x.grad is not None
