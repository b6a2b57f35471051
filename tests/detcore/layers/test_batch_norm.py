"""Batch norm against torch.nn, and what torch.nn does not do: one value per channel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from detcore.config import schema
from detcore.layers.norm_act import build_norm_act
from tests.detcore.layers.helpers import randomise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
