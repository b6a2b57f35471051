"""What holds for every kind of norm+activation: built without chance, gradients, dtypes, memory
formats, one value per channel, torch.compile. What is special to a kind is in its own file."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.config import schema
from detcore.layers.conv import ConvNormAct, xavier_conv
from detcore.layers.norm_act import NORM_ACTS, build_norm_act
from tests.detcore.detectors.sync import NoHostWait
from tests.detcore.layers.helpers import ALL, call, inputs, randomise

WITH_ACT = [cfg for cfg in ALL if cfg.kind != "evonorm_s0"]

BY_KIND = pytest.mark.parametrize("cfg", ALL, ids=lambda cfg: cfg.kind)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_every_kind_of_the_settings_has_a_layer() -> None:
    kinds = {member().kind for member in get_args(schema.NormAct)}
    assert set(NORM_ACTS) == kinds == {cfg.kind for cfg in ALL}


@BY_KIND
def test_building_draws_no_random_numbers(cfg: schema.NormAct) -> None:
    before = torch.get_rng_state()
    build_norm_act(cfg, 8)
    assert torch.equal(before, torch.get_rng_state())


@BY_KIND
@pytest.mark.parametrize("act", [True, False])
def test_no_negative_output_only_where_a_relu_follows(cfg: schema.NormAct, act: bool) -> None:
    y = call(build_norm_act(cfg, 8, act), torch.randn(2, 8, 6, 6))
    relu = act and cfg.kind != "evonorm_s0"
    assert bool((y >= 0).all()) == relu


@pytest.mark.parametrize(("act", "torchs"), [("relu", F.relu), ("swish", F.silu)])
@pytest.mark.parametrize("cfg", WITH_ACT, ids=lambda cfg: cfg.kind)
def test_the_activation_follows_the_norm(cfg: schema.NormAct, act: str, torchs: Any) -> None:
    x = torch.randn(2, 8, 5, 5)
    before = x.clone()
    layer, bare, without = (
        build_norm_act(replace(cfg, act=a), 8, on)
        for a, on in ((act, True), ("none", True), (act, False))
    )
    plain = call(bare, x)
    assert (plain < 0).any()
    assert torch.equal(call(layer, x), torchs(plain))
    assert torch.equal(call(without, x), plain)
    assert torch.equal(x, before)


def test_gn_is_torchs() -> None:
    ours = randomise(build_norm_act(schema.GroupNorm(groups=3, eps=1e-3), 6))
    torchs = nn.GroupNorm(3, 6, eps=1e-3)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(ours(x), torchs(x).relu())


@BY_KIND
@pytest.mark.parametrize("act", [True, False])
def test_one_value_per_channel_is_finite(cfg: schema.NormAct, act: bool) -> None:
    if isinstance(cfg, (schema.GroupNorm, schema.EvoNormS0)):
        cfg = replace(cfg, groups=8)
    layer = build_norm_act(cfg, 8, act)
    x = torch.randn(1, 8, 1, 1, requires_grad=True)
    y = call(layer, x)
    y.sum().backward()
    assert x.grad is not None
    for value in (y, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()):
        assert torch.isfinite(value).all()
    assert torch.isfinite(call(layer.eval(), x)).all()


@BY_KIND
@pytest.mark.parametrize("training", [True, False])
def test_gradient_is_the_slope(cfg: schema.NormAct, training: bool) -> None:
    layer = randomise(build_norm_act(cfg, 8, act=cfg.kind == "evonorm_s0")).double().train(training)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(2, 8, 2, 2, dtype=torch.double, requires_grad=True)
    if not training:
        with torch.no_grad():
            call(layer.train(), x)  # statistics that are not those of a fresh layer
        layer.eval()

    def again(x: Tensor, *values: Tensor) -> Tensor:
        """Leaves the layer's own running statistics and u as they are."""
        state = dict(zip(names, values, strict=True))
        state |= {name: value.clone() for name, value in layer.named_buffers()}
        return torch.func.functional_call(layer, state, inputs(layer, x))

    assert torch.autograd.gradcheck(again, (x, *layer.parameters()))


@BY_KIND
def test_bf16_behind_a_convolution_under_autocast(cfg: schema.NormAct) -> None:
    """Maps are bf16; gradients of parameters and statistics float32; all near the float32 run."""
    layer = ConvNormAct(xavier_conv(8, 8, 3), cfg)
    exact = copy.deepcopy(layer)
    x = torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    expected = exact(x)
    expected.square().sum().backward()
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    for mine, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None
        assert mine.grad.dtype == torch.float32
        scale = float(other.grad.abs().max()) + 1
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0.05 * scale)
    for (name, mine), (_, other) in zip(layer.named_buffers(), exact.named_buffers(), strict=True):
        assert mine.dtype == other.dtype, name
        torch.testing.assert_close(mine, other, rtol=0.02, atol=0.02)


@BY_KIND
def test_a_training_step_never_makes_the_host_wait(cfg: schema.NormAct) -> None:
    layer = ConvNormAct(xavier_conv(8, 8, 3), cfg)
    x = torch.randn(2, 8, 6, 6)
    with NoHostWait():
        layer(x).square().sum().backward()


@BY_KIND
def test_channels_last_is_kept_and_gives_the_same(cfg: schema.NormAct) -> None:
    layer = build_norm_act(cfg, 8)
    x = torch.randn(2, 8, 5, 4)
    y = call(layer, x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, call(build_norm_act(cfg, 8), x))


@BY_KIND
def test_compiled_whole_is_the_same(cfg: schema.NormAct) -> None:
    """Two training steps without a graph break: outputs, gradients, statistics."""
    torch._dynamo.reset()
    eager = ConvNormAct(xavier_conv(4, 8, 3), cfg)
    ours = copy.deepcopy(eager)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(2, 4, 3, 3)
        results = []
        for layer in (eager, compiled):
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            parameters = list(layer.parameters())
            results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *parameters])))
        torch.testing.assert_close(*results)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize("cfg", [schema.GroupNorm(groups=32), schema.EvoNormS0(groups=32)])
def test_groups_that_do_not_divide(cfg: schema.NormAct) -> None:
    with pytest.raises(ValueError) as error:
        build_norm_act(cfg, 24)
    message = str(error.value)
    assert message == (
        f"norm_act {cfg.kind}: groups = 32 does not divide 24 channels; "
        "choices: 1, 2, 3, 4, 6, 8, 12, 24"
    )
