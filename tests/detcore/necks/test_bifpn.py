"""BiFPN against the figure of the paper, node by node, computed anew with the module's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detcore.config import schema
from detcore.layers.fusion import WeightedFusion
from detcore.necks.bifpn import BiFpn
from tests.detcore.necks.plain import (
    CHANNELS,
    EVEN,
    EXTRA,
    ODD,
    assert_same,
    conv1,
    extra_levels,
    features,
    nearest,
    norm,
    pool,
    randomise,
    weighted,
)

SWISH = schema.GroupNorm(groups=2, act="swish")


def build(norm_act: schema.NormAct = SWISH, **settings: Any) -> BiFpn:
    torch.manual_seed(0)
    cfg = schema.BiFpn(channels=8, norm_act=norm_act, extra=EXTRA, **settings)
    return randomise(BiFpn(cfg, CHANNELS))


def node(layer: Any, *maps: Tensor) -> Tensor:
    """GN(conv(swish(fused)))."""
    x = weighted(layer.fuse, *maps)
    x = x * torch.sigmoid(x)
    conv = layer.conv.conv
    if isinstance(conv, torch.nn.Sequential):
        x = conv1(conv[1], F.conv2d(x, conv[0].weight, padding=1, groups=8))
    else:
        x = F.conv2d(x, conv.weight, padding=1)
    return norm(layer.conv.norm_act, x)


@pytest.mark.parametrize("sizes", [EVEN, ODD])
@pytest.mark.parametrize("conv", ["full", "separable"])
def test_maps_follow_the_figure(conv: Any, sizes: Any) -> None:
    neck = build(conv=conv, repeats=2)
    inputs = list(features(sizes))
    maps = neck(tuple(inputs))
    inputs += extra_levels(neck.extra, inputs[-1])
    p3, p4, p5, p6, p7 = (
        norm(layer.norm_act, conv1(layer.conv, x))
        for layer, x in zip(neck.project, inputs, strict=True)
    )
    for r in neck.rounds:
        t6 = node(r.down[3], p6, nearest(p7, p6.shape[2:]))
        t5 = node(r.down[2], p5, nearest(t6, p5.shape[2:]))
        t4 = node(r.down[1], p4, nearest(t5, p4.shape[2:]))
        p3 = node(r.down[0], p3, nearest(t4, p3.shape[2:]))
        p4 = node(r.up[0], p4, pool(p3, "max"), t4)
        p5 = node(r.up[1], p5, pool(p4, "max"), t5)
        p6 = node(r.up[2], p6, pool(p5, "max"), t6)
        p7 = node(r.up[3], p7, pool(p6, "max"))
    assert_same(maps, [p3, p4, p5, p6, p7])


def test_a_node_worked_by_hand() -> None:
    """Maps of 2 and 4 with weights 1 and 3: fused 14 / 4.0001; relu leaves it, a kernel with 1 in
    its centre too, and no norm and no activation follow (-5 stays)."""
    cfg = schema.BiFpn(channels=1, norm_act=schema.NoNorm(act="relu"), extra=EXTRA, repeats=1)
    layer = BiFpn(cfg, CHANNELS).rounds[0].down[0]
    with torch.no_grad():
        layer.fuse.weight.copy_(torch.tensor([1.0, 3.0]))
        layer.conv.conv.weight.zero_()
        layer.conv.conv.weight[0, 0, 1, 1] = 1
    two, four = torch.full((1, 1, 3, 3), 2.0), torch.full((1, 1, 3, 3), 4.0)
    torch.testing.assert_close(layer(two, four), torch.full((1, 1, 3, 3), 14 / 4.0001))
    with torch.no_grad():
        layer.conv.conv.bias.fill_(-5.0)
    torch.testing.assert_close(layer(-two, -four), torch.full((1, 1, 3, 3), -5.0))


def test_fusion_weights_share_out_one_and_all_learn() -> None:
    neck = build(repeats=2)
    fusions = [m for m in neck.modules() if isinstance(m, WeightedFusion)]
    assert [len(f.weight) for f in fusions] == 2 * [2, 2, 2, 2, 3, 3, 3, 2]
    for fusion in fusions:
        assert float(fusion.shares().sum().detach()) == pytest.approx(1, abs=3e-4)
    sum(x.square().sum() for x in neck(features(ODD))).backward()
    for fusion in fusions:
        assert fusion.weight.grad is not None
        assert (fusion.weight.grad != 0).all()


def test_an_input_with_a_negative_weight_counts_nothing() -> None:
    layer = build(repeats=1).rounds[0].up[0]
    with torch.no_grad():
        layer.fuse.weight[1] = -2.0
    maps = [torch.randn(1, 8, 4, 4) for _ in range(3)]
    expected = layer(*maps)
    maps[1] = maps[1] + 100
    torch.testing.assert_close(layer(*maps), expected)


def test_evonorm_keeps_its_activation_behind_the_convolution() -> None:
    neck = build(schema.EvoNormS0(groups=2), repeats=1)
    layer = neck.rounds[0].down[0]
    assert layer.conv.norm_act.v is not None
    assert neck.project[0].norm_act.v is None
    a, b = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(layer(a, b), layer.conv(weighted(layer.fuse, a, b)))
