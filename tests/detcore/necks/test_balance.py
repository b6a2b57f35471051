"""The hook against a loop of F.interpolate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detcore.config import schema
from detcore.necks import HOOKS, build_neck
from detcore.necks.balance import BalanceHook
from tests.detcore.necks.plain import CHANNELS, NORM, ODD, assert_same, features, norm, randomise

SIZES = [(13, 9), (7, 5), (4, 3), (2, 2), (1, 1)]


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_every_level_is_given_the_refined_mean(levels: int) -> None:
    torch.manual_seed(0)
    hook = randomise(HOOKS["balance"](schema.BalanceHook(norm_act=NORM), 6))
    maps = [torch.randn(2, 6, *size) for size in SIZES[:levels]]
    before = [x.clone() for x in maps]
    reference = SIZES[1] if levels > 1 else SIZES[0]
    mean = torch.zeros(2, 6, *reference)
    for x in maps:
        mean += bilinear(x, reference) / levels
    conv, layer = hook.refine.conv, hook.refine.norm_act
    refined = norm(layer, F.conv2d(mean, conv.weight, padding=1)).relu()
    expected = [x + bilinear(refined, s) for x, s in zip(maps, SIZES, strict=False)]
    assert_same(hook(maps), expected)
    assert_same(maps, before)


def test_a_worked_example() -> None:
    """Levels of 2 and 0 in the first channel: B = 1 everywhere; the kernel passes its centre on;
    3 and 1 come out."""
    hook = BalanceHook(schema.BalanceHook(norm_act=schema.NoNorm()), 1)
    with torch.no_grad():
        hook.refine.conv.weight.zero_()  # type: ignore[operator, union-attr]
        hook.refine.conv.weight[0, 0, 1, 1] = 1  # type: ignore[index]
    high, low = hook([torch.full((1, 1, 4, 6), 2.0), torch.zeros(1, 1, 2, 3)])
    assert high.unique().tolist() == [3.0]
    assert low.unique().tolist() == [1.0]


def test_size_of_the_report() -> None:
    hook = HOOKS["balance"](schema.BalanceHook(), 256)
    assert sum(p.numel() for p in hook.parameters()) == 3 * 3 * 256 * 256 + 3 * 256


def test_build_neck_puts_it_behind_the_neck() -> None:
    torch.manual_seed(0)
    cfg = schema.Fpn(channels=8, norm_act=NORM)
    both = build_neck(cfg, CHANNELS, schema.BalanceHook(norm_act=NORM))
    neck, hook = both
    inputs = features(ODD)
    assert_same(both(inputs), hook(neck(inputs)))
