"""Fusions against their formulas and a worked example."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detcore.layers.fusion import FUSIONS, WeightedFusion, build_fusion


def weighted(*weights: float) -> WeightedFusion:
    fusion = WeightedFusion(len(weights)).double()
    with torch.no_grad():
        fusion.weight.copy_(torch.tensor(weights))
    return fusion


def test_a_worked_example() -> None:
    """w = (3, -5, 1): the second counts 0, the others 3 / 4.0001 and 1 / 4.0001."""
    maps = [torch.full((1, 1, 2, 2), v, dtype=torch.double) for v in (1.0, 1000.0, 5.0)]
    y = weighted(3.0, -5.0, 1.0)(maps)
    torch.testing.assert_close(y, torch.full_like(y, (3 * 1 + 1 * 5) / 4.0001))
    assert build_fusion("sum", 3)(maps).unique().tolist() == [1006.0]
    assert build_fusion("avg", 3)(maps).unique().tolist() == [pytest.approx(1006 / 3)]


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=5))
def test_shares_are_not_negative_and_sum_to_almost_one(weights: list[float]) -> None:
    shares = weighted(*weights).shares()
    positive = sum(max(w, 0.0) for w in weights)
    assert (shares >= 0).all()
    assert shares[torch.tensor(weights) <= 0].sum() == 0
    assert float(shares.sum().detach()) == pytest.approx(positive / (positive + 1e-4))


def test_all_kinds_begin_as_a_plain_mean_or_sum() -> None:
    maps = [torch.randn(2, 3, 4, 5) for _ in range(3)]
    mean = torch.stack(maps).mean(dim=0)
    torch.testing.assert_close(build_fusion("wsum", 3)(maps), mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(build_fusion("avg", 3)(maps), mean)
    torch.testing.assert_close(build_fusion("sum", 3)(maps), 3 * mean)


def test_gradients_of_weights_and_maps() -> None:
    fusion = weighted(0.5, 2.0, -1.0)
    maps = [torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True) for _ in range(3)]

    def call(weight: Tensor, *maps: Tensor) -> Tensor:
        return torch.func.functional_call(fusion, {"weight": weight}, (maps,))

    assert torch.autograd.gradcheck(call, (fusion.weight, *maps))
    fusion(maps).square().sum().backward()
    assert fusion.weight.grad is not None
    assert (fusion.weight.grad[:2] != 0).all()
    assert fusion.weight.grad[2] == 0  # relu is flat there


def test_no_positive_weight_gives_zeros_and_no_nan() -> None:
    x = torch.randn(1, 2, 3, 3, dtype=torch.double, requires_grad=True)
    fusion = weighted(-1.0, 0.0)
    y = fusion([x, x])
    y.sum().backward()
    assert x.grad is not None
    assert fusion.weight.grad is not None
    assert (y == 0).all()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(fusion.weight.grad).all()


@pytest.mark.parametrize("kind", FUSIONS)
def test_dtype_of_bf16_maps_is_kept_and_nothing_is_drawn(kind: str) -> None:
    before = torch.get_rng_state()
    fusion = build_fusion(kind, 2)
    assert torch.equal(before, torch.get_rng_state())
    assert fusion([torch.ones(1, 1, 2, 2, dtype=torch.bfloat16)] * 2).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", FUSIONS)
def test_inputs_are_left_as_they_are(kind: str) -> None:
    maps = [torch.randn(1, 2, 2, 2) for _ in range(2)]
    before = [x.clone() for x in maps]
    build_fusion(kind, 2)(maps)
    assert all(torch.equal(x, y) for x, y in zip(maps, before, strict=True))
