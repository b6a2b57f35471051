"""The two-way pyramid against its equations, computed anew with the module's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detcore.config import schema
from detcore.necks.two_way_fpn import TwoWayFpn
from tests.detcore.necks.plain import (
    CHANNELS,
    EVEN,
    EXTRA,
    NORM,
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


def build(**settings: Any) -> TwoWayFpn:
    torch.manual_seed(0)
    cfg = schema.TwoWayFpn(channels=8, norm_act=NORM, extra=EXTRA, **settings)
    return randomise(TwoWayFpn(cfg, CHANNELS))


def projected(layer: Any, x: Tensor) -> Tensor:
    return norm(layer.norm_act, conv1(layer.conv, x)).relu()


@pytest.mark.parametrize("sizes", [EVEN, ODD])
@pytest.mark.parametrize("fusion", ["sum", "wsum"])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_maps_follow_the_equations(kind: Any, fusion: Any, sizes: Any) -> None:
    neck = build(fusion=fusion, pool=kind)
    inputs = list(features(sizes))
    maps = neck(tuple(inputs))
    inputs += extra_levels(neck.extra, inputs[-1])

    def fuse(merge: Any, *pair: Tensor) -> Tensor:
        return weighted(merge, *pair) if fusion == "wsum" else pair[0] + pair[1]

    down = {7: projected(neck.down[4], inputs[4])}
    for level in (6, 5, 4, 3):
        lateral = projected(neck.down[level - 3], inputs[level - 3])
        above = nearest(down[level + 1], lateral.shape[2:])
        down[level] = fuse(neck.down_merge[level - 3], above, lateral)
    up = {3: projected(neck.up[0], inputs[0])}
    for level in (4, 5, 6, 7):
        lateral = projected(neck.up[level - 3], inputs[level - 3])
        up[level] = fuse(neck.up_merge[level - 4], pool(up[level - 1], kind), lateral)
    expected = []
    for level in (3, 4, 5, 6, 7):
        depthwise, pointwise = neck.output[level - 3].conv
        y = F.conv2d(down[level] + up[level], depthwise.weight, padding=1, groups=8)
        expected.append(norm(neck.output[level - 3].norm_act, conv1(pointwise, y)).relu())
    assert_same(maps, expected)


def test_every_fusion_has_weights_of_its_own() -> None:
    neck = build()
    sum(x.square().sum() for x in neck(features(ODD))).backward()
    merges = [*neck.down_merge, *neck.up_merge]
    assert len({id(m.weight) for m in merges}) == 8
    assert all((m.weight.grad != 0).all() for m in merges)
