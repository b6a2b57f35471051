"""Norm+activation layers against torch.nn, and what torch.nn does not do: one value per channel."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from detcore.config import schema
from detcore.layers.norm_act import NORM_ACTS, build_norm_act

ALL = [
    schema.BatchNorm(),
    schema.FrozenBatchNorm(),
    schema.GroupNorm(groups=4),
    schema.EvoNormS0(groups=4),
]
BY_KIND = pytest.mark.parametrize("cfg", ALL, ids=lambda cfg: cfg.kind)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomise(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def test_every_kind_of_the_settings_has_a_layer() -> None:
    kinds = {member().kind for member in get_args(schema.NormAct)}
    assert set(NORM_ACTS) == kinds


@BY_KIND
def test_building_draws_no_random_numbers(cfg: schema.NormAct) -> None:
    before = torch.get_rng_state()
    build_norm_act(cfg, 8)
    assert torch.equal(before, torch.get_rng_state())


@BY_KIND
@pytest.mark.parametrize("act", [True, False])
def test_no_negative_output_only_where_a_relu_follows(cfg: schema.NormAct, act: bool) -> None:
    y = build_norm_act(cfg, 8, act)(torch.randn(2, 8, 6, 6))
    relu = act and cfg.kind != "evonorm_s0"
    assert bool((y >= 0).all()) == relu


@pytest.mark.parametrize("kind", [schema.BatchNorm, schema.FrozenBatchNorm, schema.GroupNorm])
def test_act_none_leaves_the_activation_out(kind: Any) -> None:
    groups = {"groups": 4} if kind is schema.GroupNorm else {}
    layer = build_norm_act(kind(act="none", **groups), 8)
    without = build_norm_act(kind(act="relu", **groups), 8, act=False)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(layer(x), without(x))
    assert (layer(x) < 0).any()


def test_bn_is_torchs_in_output_statistics_and_gradient() -> None:
    ours = randomise(build_norm_act(schema.BatchNorm(momentum=0.03, eps=1e-3), 6, act=False))
    torchs = nn.BatchNorm2d(6, eps=1e-3, momentum=0.03)
    torchs.load_state_dict(ours.state_dict())
    for step in range(3):
        x = torch.randn(2, 6, 4, 3, requires_grad=True)
        ours_y, torchs_y = ours(x), torchs(x)
        torch.testing.assert_close(ours_y, torchs_y)
        weight = torch.randn_like(x)
        mine, theirs = (torch.autograd.grad((y * weight).sum(), [x])[0] for y in (ours_y, torchs_y))
        torch.testing.assert_close(mine, theirs)
        assert ours.num_batches_tracked == step + 1
    for name, value in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    x = torch.randn(2, 6, 4, 3)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_bn_of_one_value_gives_beta_and_sane_statistics() -> None:
    layer = build_norm_act(schema.BatchNorm(momentum=0.25), 3, act=False)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -2.0, 0.5]))
    x = torch.tensor([4.0, 8.0, -2.0]).view(1, 3, 1, 1).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.flatten().tolist() == [1.0, -2.0, 0.5]
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-4
    assert layer.running_mean.tolist() == [1.0, 2.0, -0.5]  # a quarter of the way from 0
    assert layer.running_var.tolist() == [1.0, 1.0, 1.0]
    assert layer.num_batches_tracked == 1
    assert torch.isfinite(layer.eval()(x)).all()


def test_torch_itself_would_store_nan_there() -> None:
    """The reason for our own branch; when this fails, torch has changed and the branch may go."""
    mean, var = torch.zeros(3), torch.ones(3)
    torch.batch_norm(torch.randn(1, 3, 1, 1), None, None, mean, var, True, 0.1, 1e-5, False)
    assert var.isnan().all()


def test_frozen_bn_uses_its_statistics_and_keeps_them() -> None:
    layer = build_norm_act(schema.FrozenBatchNorm(eps=1e-3), 5, act=False)
    with torch.no_grad():
        for value in layer.state_dict().values():
            value.uniform_(0.5, 2)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.randn(2, 5, 4, 4)
    mean, var, gamma, beta = (
        before[k].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    expected = gamma * (x - mean) / (var + 1e-3).sqrt() + beta
    for mode in (True, False):
        torch.testing.assert_close(layer.train(mode)(x), expected)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("affine", "learning"), [("trainable", 2), ("frozen", 0)])
def test_frozen_bn_affine(affine: Any, learning: int) -> None:
    layer = build_norm_act(schema.FrozenBatchNorm(affine=affine), 5)
    assert sum(p.requires_grad for p in layer.parameters()) == learning
    assert set(layer.state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_gn_is_torchs() -> None:
    ours = randomise(build_norm_act(schema.GroupNorm(groups=3, eps=1e-3), 6))
    torchs = nn.GroupNorm(3, 6, eps=1e-3)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(ours(x), torchs(x).relu())


@pytest.mark.parametrize("cfg", [schema.GroupNorm(groups=6), schema.EvoNormS0(groups=6)])
def test_one_value_per_group_is_finite(cfg: schema.NormAct) -> None:
    x = torch.randn(1, 6, 1, 1, requires_grad=True)
    y = build_norm_act(cfg, 6)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("cfg", [schema.GroupNorm(groups=32), schema.EvoNormS0(groups=32)])
def test_groups_that_do_not_divide(cfg: schema.NormAct) -> None:
    with pytest.raises(ValueError) as error:
        build_norm_act(cfg, 24)
    message = str(error.value)
    assert message == (
        f"norm_act {cfg.kind}: groups = 32 does not divide 24 channels; "
        "choices: 1, 2, 3, 4, 6, 8, 12, 24"
    )
