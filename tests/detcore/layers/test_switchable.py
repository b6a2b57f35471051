"""Switchable norm against its formula as a loop, and in its three corners, which are torch's
instance, layer and batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.config import schema
from detcore.layers.norm_act import build_norm_act
from detcore.layers.switchable import SwitchableNormAct
from tests.detcore.layers.helpers import randomise

EPS = 1e-3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(channels: int, momentum: float = 0.1) -> SwitchableNormAct:
    cfg = schema.SwitchableNorm(act="none", eps=EPS, momentum=momentum)
    layer = randomise(build_norm_act(cfg, channels))
    assert isinstance(layer, SwitchableNormAct)
    return layer.double()


def softmax(values: Tensor) -> list[float]:
    shares = [math.exp(v) for v in values.tolist()]
    return [share / sum(shares) for share in shares]


def mean_var(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / len(values)


def formula(layer: SwitchableNormAct, x: Tensor) -> Tensor:
    """One value at a time, straight from the paper."""
    p, q = softmax(layer.mean_weight), softmax(layer.var_weight)
    gamma, beta = layer.weight.tolist(), layer.bias.tolist()
    out = torch.empty_like(x)
    batch, channels, height, width = x.shape
    for b in range(batch):
        for c in range(channels):
            batch_part = (float(layer.running_mean[c]), float(layer.running_var[c]))
            if layer.training:
                batch_part = mean_var(x[:, c].flatten().tolist())
            parts = [
                mean_var(x[b, c].flatten().tolist()),
                mean_var(x[b].flatten().tolist()),
                batch_part,
            ]
            mean = sum(share * m for share, (m, _) in zip(p, parts, strict=True))
            var = sum(share * v for share, (_, v) in zip(q, parts, strict=True))
            for i in range(height):
                for j in range(width):
                    normal = (float(x[b, c, i, j]) - mean) / math.sqrt(var + EPS)
                    out[b, c, i, j] = gamma[c] * normal + beta[c]
    return out


def test_value_is_the_formula_in_training_and_evaluation() -> None:
    layer = build(4)
    for _ in range(3):
        x = torch.randn(2, 4, 3, 2, dtype=torch.double) * 3 + 1
        torch.testing.assert_close(layer(x), formula(layer, x))
    torch.testing.assert_close(layer.eval()(x), formula(layer, x))


def test_the_three_start_equal() -> None:
    layer = build_norm_act(schema.SwitchableNorm(), 4)
    for name in ("mean_weight", "var_weight"):
        torch.testing.assert_close(getattr(layer, name).softmax(0), torch.full((3,), 1 / 3))


CORNERS: list[Callable[[nn.BatchNorm2d, Tensor], Tensor]] = [
    lambda n, x: F.instance_norm(x, None, None, n.weight, n.bias, eps=n.eps),
    lambda n, x: F.group_norm(x, 1, n.weight, n.bias, n.eps),
    lambda n, x: n(x),
]


@pytest.mark.parametrize("corner", [0, 1, 2], ids=["instance", "layer", "batch"])
def test_each_corner_is_torchs_norm(corner: int) -> None:
    """Output and gradients over three training steps and at evaluation, and what bn stores."""
    layer = build(4, momentum=0.3)
    with torch.no_grad():
        for weight in (layer.mean_weight, layer.var_weight):
            weight.fill_(-1000.0)[corner] = 0.0  # a softmax of exactly 0 and 1
    torchs = nn.BatchNorm2d(4, eps=EPS, momentum=0.3).double()
    torchs.load_state_dict(layer.state_dict(), strict=False)
    for step in range(4):
        if step == 3:
            layer.eval()
            torchs.eval()
        x = torch.randn(3, 4, 5, 2, dtype=torch.double, requires_grad=True) * 2 + 1
        y, expected = layer(x), CORNERS[corner](torchs, x)
        torch.testing.assert_close(y, expected)
        slope = torch.randn_like(y)
        ours = torch.autograd.grad((y * slope).sum(), [x, layer.weight, layer.bias])
        theirs = torch.autograd.grad((expected * slope).sum(), [x, torchs.weight, torchs.bias])
        torch.testing.assert_close(ours, theirs)
    if corner == 2:
        for name, value in torchs.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[name], value)


def test_one_value_has_a_layer_variance_only() -> None:
    """1 x 1 map at batch 1: instance and batch variance are 0 and their means the value itself."""
    layer = build(4, momentum=0.25)
    with torch.no_grad():
        layer.mean_weight.fill_(1.0)
        layer.var_weight.fill_(1.0)
    x = torch.tensor([4.0, 8.0, -2.0, 2.0], dtype=torch.double).view(1, 4, 1, 1)
    gamma, beta = layer.weight.tolist(), layer.bias.tolist()
    y = layer(x.requires_grad_())
    var = mean_var([4.0, 8.0, -2.0, 2.0])[1] / 3
    for c, value in enumerate(x.flatten().tolist()):
        normal = (value - (2 * value + 3.0) / 3) / math.sqrt(var + EPS)
        assert y[0, c].item() == pytest.approx(gamma[c] * normal + beta[c])
    assert layer.running_mean.tolist() == [1.0, 2.0, -0.5, 0.5]  # a quarter of the way from 0
    assert layer.running_var.tolist() == [1.0] * 4  # one value estimates no variance
    y.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_bf16_has_float32_statistics() -> None:
    """1 + noise of 0.05: statistics taken in bf16 (8 bits) would lose most of the noise."""
    layer = build_norm_act(schema.SwitchableNorm(act="none"), 4)
    x = (1 + 0.05 * torch.randn(2, 4, 32, 32)).bfloat16()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x.float()), rtol=1e-2, atol=1e-2)
