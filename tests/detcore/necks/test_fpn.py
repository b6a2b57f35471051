"""The pyramid against torchvision's and against its equations, written out with
torch.nn.functional."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detcore.config import schema
from detcore.detectors import build_detector
from detcore.necks import build_neck
from detcore.necks.fpn import Fpn
from tests.detcore.necks.plain import (
    CHANNELS,
    EVEN,
    NORM,
    ODD,
    assert_same,
    conv1,
    features,
    nearest,
    randomise,
    weighted,
)

PLAIN = schema.NoNorm(act="none")
BOTH_SIZES = pytest.mark.parametrize("sizes", [EVEN, ODD])


def build(norm: schema.NormAct = NORM, **settings: Any) -> Fpn:
    torch.manual_seed(0)
    neck = build_neck(schema.Fpn(channels=8, norm_act=norm, **settings), CHANNELS)
    assert isinstance(neck, Fpn)
    return neck


@BOTH_SIZES
def test_without_a_norm_it_is_torchvisions(sizes: Any) -> None:
    """torchvision has no activation behind P3 to P6 and one between P6 and P7; with ReLU behind all
    of ours, ours are relu(its)."""
    bare, active = randomise(build(PLAIN)), randomise(build(schema.NoNorm(act="relu")))
    bare.load_state_dict(active.state_dict())
    torchvisions = FeaturePyramidNetwork(list(CHANNELS), 8, LastLevelP6P7(CHANNELS[-1], 8))
    for i in range(3):
        torchvisions.inner_blocks[i][0].load_state_dict(bare.lateral[i].state_dict())
        torchvisions.layer_blocks[i][0].load_state_dict(bare.output[i].state_dict())
    torchvisions.extra_blocks.p6.load_state_dict(bare.p6.state_dict())
    torchvisions.extra_blocks.p7.load_state_dict(bare.p7.state_dict())
    torchvisions.extra_blocks.use_P5 = False  # it takes P5 where C5 is as wide as the pyramid
    inputs = features(sizes)
    expected = list(torchvisions(dict(zip("345", inputs, strict=True))).values())
    assert_same(bare(inputs)[:4], expected[:4])
    assert_same(active(inputs), [x.relu() for x in expected])


@BOTH_SIZES
def test_maps_follow_the_equations(sizes: Any) -> None:
    neck = build()
    c3, c4, c5 = features(sizes)
    m5 = F.conv2d(c5, neck.lateral[2].weight, neck.lateral[2].bias)
    m4 = nearest(m5, c4.shape[2:]) + F.conv2d(c4, neck.lateral[1].weight, neck.lateral[1].bias)
    m3 = nearest(m4, c3.shape[2:]) + F.conv2d(c3, neck.lateral[0].weight, neck.lateral[0].bias)

    def norm_relu(x: Tensor) -> Tensor:
        return F.group_norm(x, 2).relu()

    p3, p4, p5 = (
        norm_relu(F.conv2d(m, conv.weight, padding=1))
        for m, conv in zip((m3, m4, m5), neck.output, strict=True)
    )
    p6 = norm_relu(F.conv2d(c5, neck.p6.weight, stride=2, padding=1))
    p7 = norm_relu(F.conv2d(p6, neck.p7.weight, stride=2, padding=1))
    assert_same(neck((c3, c4, c5)), [p3, p4, p5, p6, p7])


@BOTH_SIZES
@pytest.mark.parametrize("top", ["c6", "none"])
@pytest.mark.parametrize("fusion", ["sum", "avg", "wsum"])
def test_fusions_and_tops(fusion: Any, top: Any, sizes: Any) -> None:
    """The path from the top down, as a loop."""
    neck = randomise(build(PLAIN, fusion=fusion, top=top))
    inputs = list(features(sizes))
    maps = neck(tuple(inputs))
    if top == "c6":
        inputs.append(inputs[-1][:, :, ::2, ::2])
    path = [conv1(conv, x) for conv, x in zip(neck.lateral, inputs, strict=True)]
    for i in range(len(path) - 2, -1, -1):
        above = nearest(path[i + 1], path[i].shape[2:])
        if fusion == "wsum":
            path[i] = weighted(neck.merge[i], above, path[i])
        else:
            path[i] = (above + path[i]) / {"sum": 1, "avg": 2}[fusion]
    expected = [
        F.conv2d(m, conv.weight, conv.bias, padding=1)
        for m, conv in zip(path, neck.output, strict=True)
    ]
    assert_same(maps, expected)


def test_every_merge_has_weights_of_its_own_and_learns_them() -> None:
    neck = build(fusion="wsum")
    sum(x.square().sum() for x in neck(features(ODD))).backward()
    weights = [merge.weight for merge in neck.merge]
    assert [len(w) for w in weights] == [2, 2]
    for weight in weights:
        assert weight.grad is not None
        assert (weight.grad != 0).all()
    assert len({id(w) for w in weights}) == 2


@pytest.mark.parametrize("top", ["p6p7", "c6"])
def test_dropblock_acts_on_c3_to_c5_before_the_laterals_and_not_above(top: Any) -> None:
    settings = schema.DropBlock(size=3, drop=0.5)
    neck, clean = build(top=top, dropblock=settings), build(top=top)
    assert neck.dropblock is not None
    neck.dropblock.set_progress(1.0)
    inputs = features(((16, 16), (8, 8), (5, 5)))
    torch.manual_seed(3)
    maps = neck(inputs)
    torch.manual_seed(3)
    dropped = tuple(neck.dropblock(x) for x in inputs)
    assert all((x == 0).any() for x in dropped)
    if top == "p6p7":
        assert_same(maps[:3], clean(dropped)[:3])
    assert not torch.allclose(maps[2], clean(inputs)[2])
    assert_same(maps[3:], clean(inputs)[3:])
    assert_same(neck.eval()(inputs), clean(inputs))


@pytest.mark.parametrize("top", ["p6p7", "c6", "none"])
def test_arms_with_and_without_dropblock_or_weights_start_equal(top: Any) -> None:
    plain = build(top=top).state_dict()
    dropblock = build(top=top, dropblock=schema.DropBlock()).state_dict()
    wsum = build(top=top, fusion="wsum").state_dict()
    assert list(dropblock) == list(plain)
    assert set(plain) < set(wsum)
    for name, value in plain.items():
        assert torch.equal(value, dropblock[name])
        assert torch.equal(value, wsum[name])


def test_a_detector_tells_dropblock_how_far_the_run_is() -> None:
    norm = schema.GroupNorm(groups=4)
    cfg = schema.RetinaNet(
        backbone=schema.TinyBackbone(width=8, norm_act=norm),
        neck=schema.Fpn(channels=8, norm_act=norm, dropblock=schema.DropBlock()),
        head=schema.TowerHead(num_convs=1, norm_act=norm),
    )
    detector = build_detector(cfg, 3)
    detector.set_progress(0.25)
    assert float(detector.neck.dropblock.progress) == 0.25


def test_biases_only_where_no_norm_follows_and_xavier_weights() -> None:
    neck = build(schema.BatchNorm())
    assert all(conv.bias is not None for conv in neck.lateral)
    assert all(conv.bias is None for conv in (*neck.output, neck.p6, neck.p7))
    bare = build(schema.NoNorm())
    assert all(conv.bias is not None for conv in (*bare.output, bare.p6, bare.p7))
    limit = (6 / (9 * (8 + 8))) ** 0.5  # Glorot & Bengio 2010: sqrt(6 / (fan in + fan out))
    weight = neck.output[0].weight
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.95 * limit
