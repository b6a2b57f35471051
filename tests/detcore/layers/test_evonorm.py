"""EvoNorm-S0 against its formula as a loop and against timm; its written gradient against finite
differences."""

from __future__ import annotations

import math

import pytest
import torch
from timm.layers.evo_norm import EvoNorm2dS0
from torch import Tensor

from detcore.layers.evonorm import EvoNormS0


def formula(layer: EvoNormS0, x: Tensor) -> Tensor:
    """One value at a time, straight from the paper."""
    gamma, beta = layer.weight.tolist(), layer.bias.tolist()
    v = None if layer.v is None else layer.v.tolist()
    out = torch.empty_like(x)
    batch, channels, height, width = x.shape
    size = channels // layer.groups
    for b in range(batch):
        for c in range(channels):
            first = c // size * size
            group = [float(v) for v in x[b, first : first + size].flatten()]
            mean = sum(group) / len(group)
            variance = sum((v - mean) ** 2 for v in group) / len(group)
            for i in range(height):
                for j in range(width):
                    value = float(x[b, c, i, j])
                    gate = 1.0
                    if v is not None:
                        gate = 1 / (1 + math.exp(-v[c] * value))
                    scaled = value * gate / math.sqrt(variance + layer.eps)
                    out[b, c, i, j] = gamma[c] * scaled + beta[c]
    return out


def random_layer(channels: int, groups: int, act: bool) -> EvoNormS0:
    layer = EvoNormS0(channels, groups, act=act).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_value_is_the_formula(groups: int, act: bool) -> None:
    layer = random_layer(6, groups, act)
    x = torch.randn(2, 6, 3, 2, dtype=torch.double) * 3 + 1
    torch.testing.assert_close(layer(x), formula(layer, x))


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_forward_and_gradients_are_timms(groups: int) -> None:
    """Only with its activation: without one, timm leaves the normalisation out too."""
    layer = random_layer(8, groups, act=True)
    timms = EvoNorm2dS0(8, groups=groups, eps=layer.eps).double()
    timms.load_state_dict(layer.state_dict())
    x = torch.randn(2, 8, 5, 4, dtype=torch.double) * 3 + 1
    slope = torch.randn_like(x)
    results = []
    for norm in (layer, timms):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        leaves = [leaf, *(dict(norm.named_parameters())[n] for n in ("weight", "bias", "v"))]
        results.append((y, *torch.autograd.grad((y * slope).sum(), leaves)))
    # timm takes its statistics in float32 at best
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("size", [(3, 4), (1, 1)])
def test_gradient_is_the_slope(size: tuple[int, int], act: bool) -> None:
    layer = random_layer(6, 3, act)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(2, 6, *size, dtype=torch.double, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))


def test_samples_do_not_see_each_other() -> None:
    layer = random_layer(8, 2, True)
    x = torch.randn(3, 8, 4, 4, dtype=torch.double)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    layer = EvoNormS0(4, 2, act=False)
    x = torch.randn(1, 4, 16, 16)
    far = (x + 1000).requires_grad_()
    spread = layer(far).detach().unflatten(1, (2, -1)).std(dim=(2, 3, 4), correction=0)
    torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-3, atol=1e-3)


def test_bf16_keeps_its_dtype_and_has_fp32_statistics() -> None:
    """1 + noise of 0.05: statistics taken in bf16 (8 bits) would lose most of the noise."""
    layer = EvoNormS0(4, 2, act=False)
    x = (1 + 0.05 * torch.randn(1, 4, 32, 32)).bfloat16()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x.float()), rtol=2e-2, atol=2e-2)
    y.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_channels_last_is_kept_and_gives_the_same() -> None:
    layer = random_layer(8, 2, True)
    x = torch.randn(2, 8, 5, 4, dtype=torch.double)
    rows = x.clone().requires_grad_()
    last = x.clone().to(memory_format=torch.channels_last).requires_grad_()
    y = layer(last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(rows))
    weights = torch.randn_like(x)
    ((gradient,), (expected,)) = (
        torch.autograd.grad((layer(v) * weights).sum(), [v]) for v in (last, rows)
    )
    torch.testing.assert_close(gradient, expected)


def test_one_map_is_saved_for_the_backward_pass() -> None:
    layer = EvoNormS0(8, 2)
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.numel()) or t, lambda t: t
    ):
        layer(x)
    assert sum(n == x.numel() for n in saved) == 1
    assert sum(saved) < 1.1 * x.numel()
