"""The small backbone: sizes, cost and that norms are the only thing a norm level changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detcore.backbones import build_backbone
from detcore.config import schema


@pytest.mark.parametrize("size", [(64, 64), (96, 130), (33, 65)])
def test_strides_and_channels(size: tuple[int, int]) -> None:
    model = build_backbone(schema.TinyBackbone(width=8))
    maps = model(torch.rand(1, 3, *size))
    assert [m.shape[1] for m in maps] == list(model.channels) == [16, 32, 32]
    for feature, stride in zip(maps, (8, 16, 32), strict=True):
        assert feature.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_a_128_px_image_costs_well_below_a_tenth_of_a_gigaflop() -> None:
    model = build_backbone(schema.TinyBackbone(width=16))
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 3, 128, 128))
    assert counter.get_total_flops() < 0.05e9


def test_the_same_seed_gives_the_same_convolutions_under_every_norm() -> None:
    weights = []
    for norm in (schema.BatchNorm(), schema.GroupNorm(groups=8), schema.EvoNormS0(groups=8)):
        torch.manual_seed(3)
        model = build_backbone(schema.TinyBackbone(width=8, norm_act=norm))
        weights.append([m.weight for m in model.modules() if isinstance(m, nn.Conv2d)])
    for others in weights[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights[0], others, strict=True))


def test_every_parameter_learns() -> None:
    model = build_backbone(schema.TinyBackbone(width=8, norm_act=schema.EvoNormS0(groups=4)))
    sum(m.square().mean() for m in model(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
