"""What the tests of the necks share: inputs, and the operators of the descriptions written as plain
loops or with torch.nn.functional, to be given a module's weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema

CHANNELS = (4, 6, 10)
EVEN = ((16, 16), (8, 8), (4, 4))
ODD = ((13, 9), (7, 5), (4, 3))  # an input of 97 to 104 x 65 to 72, rounded up at every level
NORM = schema.GroupNorm(groups=2)
EXTRA = schema.ExtraLevels(channels=12, norm_act=schema.GroupNorm(groups=3))


def features(sizes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor, Tensor]:
    c3, c4, c5 = (torch.randn(2, c, *s) for c, s in zip(CHANNELS, sizes, strict=True))
    return c3, c4, c5


def randomise(module: nn.Module) -> Any:
    """Other values than the first ones for norms, biases and fusion weights (which stay
    positive)."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.3, 1.5)
    return module


def nearest(x: Tensor, size: torch.Size) -> Tensor:
    """Row i of `size` reads row floor(i * h / size)."""
    rows = torch.arange(size[0]) * x.shape[2] // size[0]
    columns = torch.arange(size[1]) * x.shape[3] // size[1]
    return x[:, :, rows][:, :, :, columns]


def pool(x: Tensor, kind: str) -> Tensor:
    """The largest or the mean value of every 2 x 2 cells, of as many as there are at the edge."""
    height, width = x.shape[2:]
    out = x.new_empty(*x.shape[:2], (height + 1) // 2, (width + 1) // 2)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[:, :, i, j] = window.amax((2, 3)) if kind == "max" else window.mean((2, 3))
    return out


def weighted(fusion: Any, *maps: Tensor) -> Tensor:
    """sum of relu(w) x over (sum of relu(w) + 1e-4)."""
    weights = [max(w, 0.0) for w in fusion.weight.tolist()]
    products = [w * x for w, x in zip(weights, maps, strict=True)]
    return sum(products[1:], products[0]) / (sum(weights) + 1e-4)


def norm(layer: Any, x: Tensor, groups: int = 2) -> Tensor:
    """Group norm without an activation, with a layer's gamma and beta."""
    return F.group_norm(x, groups, layer.weight, layer.bias)


def conv1(conv: Any, x: Tensor) -> Tensor:
    """1 x 1 convolution as a product of matrices."""
    y = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x)
    return y if conv.bias is None else y + conv.bias.view(-1, 1, 1)


def extra_levels(extra: Any, c5: Tensor) -> list[Tensor]:
    """C6 and C7 with EXTRA's settings."""
    c6 = norm(extra.c6.norm_act, F.conv2d(c5, extra.c6.conv.weight, None, 2, 1), 3).relu()
    c7 = norm(extra.c7.norm_act, F.conv2d(c6, extra.c7.conv.weight, None, 2, 1), 3).relu()
    return [c6, c7]


def assert_same(maps: list[Tensor], expected: list[Tensor]) -> None:
    for mine, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
