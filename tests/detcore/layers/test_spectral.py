"""The report's spectral norm against the singular value decomposition, against its formula written
out, and in the places where it stands."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.config import schema
from detcore.heads.towers import Tower
from detcore.layers.conv import ConvNormAct, apply_norm_act, tower_conv, xavier_conv
from detcore.layers.norm_act import build_norm_act
from detcore.layers.spectral import SpectralNormAct
from tests.detcore.layers.helpers import randomise


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(channels: int, act: schema.Act = "none", beta: float = 1.0) -> SpectralNormAct:
    layer = build_norm_act(schema.SpectralNorm(act=act, beta=beta), channels)
    assert isinstance(layer, SpectralNormAct)
    return layer


def largest_singular_value(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


def settle(layer: SpectralNormAct, weight: Tensor) -> None:
    """Iterate until u is the singular vector."""
    with torch.no_grad():
        for _ in range(300):
            layer(torch.zeros(1, len(weight), 1, 1, dtype=weight.dtype), weight)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (12, 2, 1, 1), (1, 5, 3, 3)])
def test_sigma_becomes_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.double)
    layer = build(shape[0]).double()
    settle(layer, weight)
    torch.testing.assert_close(layer.sigma, largest_singular_value(weight))


def test_one_iteration_a_training_forward_none_at_evaluation() -> None:
    """Written out with plain loops over the matrix; the estimate is never above the true value."""
    weight, y = torch.randn(3, 2, 1, 1, dtype=torch.double), torch.randn(2, 3, 2, 2).double()
    layer = build(3).double()
    matrix = weight.view(3, 2)
    for _ in range(4):
        u = layer.u.clone()
        v = torch.stack([sum(u[i] * matrix[i, j] for i in range(3)) for j in range(2)])
        v = v / v.square().sum().sqrt()
        u = torch.stack([sum(matrix[i, j] * v[j] for j in range(2)) for i in range(3)])
        sigma = u.square().sum().sqrt()
        layer(y, weight)
        torch.testing.assert_close(layer.u, u / sigma)
        torch.testing.assert_close(layer.sigma, sigma)
        assert sigma <= largest_singular_value(weight) * (1 + 1e-12)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    out = layer.eval()(y, 5 * weight)
    torch.testing.assert_close(out, y / sigma + 1)  # the stored sigma, whatever the weight is now
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_output_and_gradients_are_those_of_the_normalised_weight() -> None:
    """conv(x, W) / sigma = conv(x, W / sigma), with u and v as constants."""
    conv = xavier_conv(2, 4, 3).double()
    layer = randomise(build(4, act="swish")).double()
    x = torch.randn(2, 2, 5, 4, dtype=torch.double, requires_grad=True)
    first_u = layer.u.clone()
    out = apply_norm_act(conv, layer, x)
    matrix = conv.weight.detach().flatten(1)
    v = F.normalize(matrix.T @ first_u, dim=0)
    sigma = layer.u @ conv.weight.flatten(1) @ v
    normal = F.conv2d(x, conv.weight / sigma, padding=1)
    expected = F.silu(layer.weight.view(-1, 1, 1) * normal + layer.bias.view(-1, 1, 1))
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    leaves = [x, conv.weight, layer.weight, layer.bias]
    ours, theirs = (torch.autograd.grad((y * slope).sum(), leaves) for y in (out, expected))
    torch.testing.assert_close(ours, theirs)


def test_gradient_is_the_slope_with_u_settled() -> None:
    """At the singular vectors sigma has no first-order change through u and v, so that finite
    differences see what autograd is told: the change through W alone."""
    weight = torch.randn(3, 2, 1, 2, dtype=torch.double, requires_grad=True)
    layer = randomise(build(3)).double()
    settle(layer, weight)
    u = layer.u.clone()
    x = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)

    def call(x: Tensor, weight: Tensor) -> Tensor:
        with torch.no_grad():
            layer.u.copy_(u)
        return layer(F.conv2d(x, weight), weight)

    assert torch.autograd.gradcheck(call, (x, weight))


def test_scaling_the_weight_changes_nothing() -> None:
    weight, y = torch.randn(4, 3, 3, 3), torch.randn(1, 4, 2, 2)
    one, other = build(4), build(4)
    torch.testing.assert_close(one(y, weight), other(8 * y, 8 * weight))


@pytest.mark.parametrize("beta", [1, 0.0])
def test_beta_starts_where_the_settings_say(beta: float) -> None:
    layer = build(5, beta=beta)
    assert layer.bias.dtype == torch.float32
    assert layer.bias.tolist() == [beta] * 5
    assert layer.weight.tolist() == [1.0] * 5
    assert schema.SpectralNorm().beta == 1


def test_before_any_training_step_it_is_affine() -> None:
    y = torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(build(4).eval()(y, torch.randn(4, 3, 1, 1)), y + 1)


def test_it_survives_a_weight_of_zero_and_goes_on_after_it() -> None:
    """Of W = 0, u = 0 would be the end: every later iteration would give 0 / 0."""
    conv = ConvNormAct(xavier_conv(3, 4, 3), schema.SpectralNorm(act="none"))
    layer, x = conv.norm_act, torch.randn(2, 3, 5, 5)
    conv(x)
    weight, u = conv.conv.weight.detach().clone(), layer.u.clone()
    with torch.no_grad():
        conv.conv.weight.zero_()
    out = conv(x)
    torch.testing.assert_close(out, torch.ones_like(out))  # beta
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in conv.parameters())
    assert torch.equal(layer.u, u)
    assert layer.sigma > 0
    torch.testing.assert_close(conv.eval()(x), out)
    with torch.no_grad():
        conv.conv.weight.copy_(weight)
    settle(layer.train(), conv.conv.weight)
    torch.testing.assert_close(layer.sigma, largest_singular_value(weight))


def test_it_needs_the_weight() -> None:
    with pytest.raises(TypeError, match="weight"):
        build(4)(torch.randn(1, 4, 2, 2))  # type: ignore[call-arg]


def test_used_twice_before_the_backward_pass() -> None:
    """A norm that the levels share runs once a level; its buffers are then written again while the
    first graph is still needed."""
    layer = ConvNormAct(xavier_conv(3, 4, 3), schema.SpectralNorm())
    loss = layer(torch.randn(1, 3, 4, 4)).sum() + layer(torch.randn(1, 3, 2, 2)).sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_a_separable_convolution_is_measured_by_its_pointwise_part() -> None:
    conv = tower_conv(4, 4, 3, "separable")
    layer = ConvNormAct(conv, schema.SpectralNorm())
    for _ in range(200):
        layer(torch.randn(1, 4, 3, 3))
    torch.testing.assert_close(layer.norm_act.sigma, largest_singular_value(conv[1].weight))


def test_levels_share_w_and_have_their_own_u_sigma_gamma_beta() -> None:
    cfg = schema.TowerHead(num_convs=1, norm_act=schema.SpectralNorm(), norm_levels="per_level")
    tower = Tower(cfg, 4, num_levels=3)
    norms = [norm for norms in tower.norm_acts for norm in norms]
    assert len(norms) == 3
    values = [v for norm in norms for v in (*norm.parameters(), *norm.buffers())]
    assert len({v.data_ptr() for v in values}) == 3 * 4
    before = [norm.u.clone() for norm in norms]
    tower(torch.randn(1, 4, 3, 3), 1)
    moved = [not torch.equal(norm.u, u) for norm, u in zip(norms, before, strict=True)]
    assert moved == [False, True, False]
    assert [float(norm.sigma) != 1 for norm in norms] == moved


def test_sigma_is_float32_under_autocast() -> None:
    """A weight whose singular value bf16 (8 bits) could not hold."""
    weight = torch.zeros(4, 4, 1, 1)
    weight[0, 0] = 1.001
    layer = build(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.randn(1, 4, 2, 2).bfloat16(), weight)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(float(layer.sigma), 1.001, rtol=1e-6, atol=0)
