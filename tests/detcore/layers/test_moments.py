"""Moments against torch.var_mean; the pooling of sets against the moments of their union."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detcore.layers.moments import moments, pool


def test_moments_are_torchs_with_their_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(moments(x), (mean, var))
    assert torch.autograd.gradcheck(moments, (x,))


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    mean=st.floats(-100, 100),
    seed=st.integers(0, 2**16),
)
def test_pooling_is_the_union(sizes: list[int], mean: float, seed: int) -> None:
    torch.manual_seed(seed)
    sets = [torch.randn(1, 2, 1, n, dtype=torch.double) + mean for n in sizes]
    means, variances = zip(*(moments(x) for x in sets), strict=True)
    share = torch.tensor(sizes, dtype=torch.double).view(-1, 1, 1, 1) / sum(sizes)
    pooled = pool(torch.cat(means), torch.cat(variances), dim=0, share=share)
    torch.testing.assert_close(pooled, moments(torch.cat(sets, dim=3)))


def test_without_shares_the_sets_are_equal() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 6, dtype=torch.double)
    for dim, union in ((0, (0, 2, 3)), (1, (1, 2, 3))):
        var, mean = torch.var_mean(x, dim=union, correction=0, keepdim=True)
        torch.testing.assert_close(pool(*moments(x), dim=dim), (mean, var))


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    near = pool(*moments(x), dim=0)[1]
    far = pool(*moments(x + 1000), dim=0)[1]  # float32: 1e6 + 1 would leave no digit for E[x^2]
    torch.testing.assert_close(far, near, rtol=1e-3, atol=0)


def test_a_bf16_map_has_float32_moments_and_a_bf16_gradient() -> None:
    torch.manual_seed(0)
    x = (1 + 0.05 * torch.randn(1, 2, 32, 32)).bfloat16().requires_grad_()
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        mean, var = moments(x)
    torch.testing.assert_close((mean, var), moments(x.detach().float()))
    assert [t.dtype for t in saved if t.numel() == x.numel()] == [torch.bfloat16]
    var.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
