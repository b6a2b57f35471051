"""The pyramid against its equations, written out with torch.nn.functional."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detcore.config import schema
from detcore.necks import build_neck
from detcore.necks.fpn import Fpn


def build(norm: schema.NormAct) -> Fpn:
    torch.manual_seed(0)
    neck = build_neck(schema.Fpn(channels=8, norm_act=norm), (4, 6, 10))
    assert isinstance(neck, Fpn)
    return neck


def features(*sizes: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    c3, c4, c5 = (torch.randn(2, c, *s) for c, s in zip((4, 6, 10), sizes, strict=True))
    return c3, c4, c5


def nearest(x: Tensor, size: torch.Size) -> Tensor:
    """Row i of `size` reads row floor(i * h / size)."""
    rows = torch.arange(size[0]) * x.shape[2] // size[0]
    columns = torch.arange(size[1]) * x.shape[3] // size[1]
    return x[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("sizes", [((16, 16), (8, 8), (4, 4)), ((13, 9), (7, 5), (4, 3))])
def test_maps_follow_the_equations(sizes: tuple[tuple[int, int], ...]) -> None:
    neck = build(schema.GroupNorm(groups=2))
    c3, c4, c5 = features(*sizes)
    m5 = F.conv2d(c5, neck.lateral[2].weight, neck.lateral[2].bias)
    m4 = nearest(m5, c4.shape[2:]) + F.conv2d(c4, neck.lateral[1].weight, neck.lateral[1].bias)
    m3 = nearest(m4, c3.shape[2:]) + F.conv2d(c3, neck.lateral[0].weight, neck.lateral[0].bias)

    def norm_relu(x: Tensor) -> Tensor:
        return F.group_norm(x, 2).relu()

    p3, p4, p5 = (
        norm_relu(F.conv2d(m, conv.weight, padding=1))
        for m, conv in zip((m3, m4, m5), neck.output, strict=True)
    )
    p6 = norm_relu(F.conv2d(c5, neck.p6.weight, stride=2, padding=1))
    p7 = norm_relu(F.conv2d(p6, neck.p7.weight, stride=2, padding=1))
    for mine, expected in zip(neck((c3, c4, c5)), (p3, p4, p5, p6, p7), strict=True):
        torch.testing.assert_close(mine, expected)


def test_biases_only_where_no_norm_follows_and_xavier_weights() -> None:
    neck = build(schema.BatchNorm())
    assert all(conv.bias is not None for conv in neck.lateral)
    assert all(conv.bias is None for conv in (*neck.output, neck.p6, neck.p7))
    limit = (6 / (9 * (8 + 8))) ** 0.5  # Glorot & Bengio 2010: sqrt(6 / (fan in + fan out))
    weight = neck.output[0].weight
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.95 * limit
