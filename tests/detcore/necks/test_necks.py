"""What holds for every neck: shapes for any input size, gradients everywhere, torch.compile, no
wait for a GPU, biases only without a norm."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.progress import Scheduled
from detcore.necks import HOOKS, NECKS, build_neck
from tests.detcore.detectors.sync import NoHostWait
from tests.detcore.necks.plain import CHANNELS, EXTRA, NORM, ODD, features

DROP = schema.DropBlock(size=3, drop=0.3)
ALL: dict[str, schema.Neck] = {
    "fpn": schema.Fpn(channels=8, norm_act=NORM),
    "fpn_c6": schema.Fpn(channels=8, norm_act=NORM, top="c6", fusion="wsum", dropblock=DROP),
    "fpn_none": schema.Fpn(channels=8, norm_act=NORM, top="none", fusion="avg"),
    "two_way_fpn": schema.TwoWayFpn(channels=8, norm_act=NORM, extra=EXTRA),
    "pconv": schema.PConv(channels=8, norm_act=NORM, extra=EXTRA, repeats=1),
    "pconv_branch": schema.PConv(channels=8, norm_act=NORM, extra=EXTRA, norm_on="branch"),
    "sepc": schema.Sepc(channels=8, norm_act=NORM, repeats=1),
    "bifpn": schema.BiFpn(channels=8, norm_act=NORM, extra=EXTRA, repeats=1),
}
HOOK = schema.BalanceHook(norm_act=NORM)
BY_NAME = pytest.mark.parametrize("name", ALL)


def build(name: str, hook: schema.Hook | None = None) -> nn.Module:
    torch.manual_seed(0)
    neck = build_neck(ALL[name], CHANNELS, hook)
    for module in neck.modules():
        if isinstance(module, Scheduled):
            module.set_progress(1.0)
    return neck


def inputs_of(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a backbone gives for an image of height x width."""
    return features(tuple((math.ceil(height / s), math.ceil(width / s)) for s in (8, 16, 32)))


def test_every_kind_of_the_settings_has_a_neck_and_a_hook() -> None:
    assert set(NECKS) == {member().kind for member in get_args(schema.Neck)}
    assert set(NECKS) == {cfg.kind for cfg in ALL.values()}
    assert set(HOOKS) == {schema.Hook().kind}


@BY_NAME
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 200), hooked=st.booleans())
def test_shapes_for_any_size_of_image(name: str, height: int, width: int, hooked: bool) -> None:
    cfg = ALL[name]
    with torch.no_grad():
        maps = build(name, HOOK if hooked else None)(inputs_of(height, width))
    assert len(maps) == cfg.levels
    for level, x in enumerate(maps, start=3):
        assert x.shape == (2, 8, math.ceil(height / 2**level), math.ceil(width / 2**level))
        assert torch.isfinite(x).all()


@BY_NAME
def test_every_parameter_learns(name: str) -> None:
    neck = build(name, HOOK)
    maps = neck(features(ODD))
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    for key, parameter in neck.named_parameters():
        assert parameter.grad is not None, key
        assert (parameter.grad != 0).any(), key


@BY_NAME
def test_nothing_waits_for_a_gpu(name: str) -> None:
    neck = build(name, HOOK)
    with NoHostWait():
        sum(x.square().sum() for x in neck(features(ODD))).backward()


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("fpn", "fpn_none", "pconv_branch")])
def test_compiled_whole_it_gives_the_same(name: str) -> None:
    """One of each kind; the FPN with all that it can have, and the hook."""
    torch._dynamo.reset()
    neck = build(name, HOOK if name == "fpn_c6" else None)
    inputs = features(ODD)
    compiled = torch.compile(neck, backend="aot_eager", fullgraph=True)
    results = []
    for module in (neck, compiled):
        torch.manual_seed(5)
        maps = module(inputs)
        gradient = torch.autograd.grad(sum(x.square().sum() for x in maps), [*neck.parameters()])
        results.append((*maps, *gradient))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4)


@BY_NAME
def test_bf16_under_autocast(name: str) -> None:
    neck = build(name, HOOK)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = neck(features(ODD))
    assert all(torch.isfinite(x).all() for x in maps)
    sum(x.float().square().sum() for x in maps).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in neck.parameters())


@pytest.mark.parametrize("kind", NECKS)
@pytest.mark.parametrize("norm", [schema.NoNorm(), schema.BatchNorm()])
def test_convolutions_before_a_norm_have_no_bias(kind: str, norm: schema.NormAct) -> None:
    members = {member().kind: member for member in get_args(schema.Neck)}
    cfg = members[kind](channels=8, norm_act=norm)
    if hasattr(cfg, "extra"):
        cfg = replace(cfg, extra=schema.ExtraLevels(8, norm))
    neck = build_neck(cfg, CHANNELS)
    free = ("lateral", "fpn")  # no norm stands behind these
    for name, module in neck.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith(free):
            pointwise = module.groups == 1  # the bias of a separable one is the pointwise half's
            assert (module.bias is not None) == (norm.kind == "none" and pointwise), name


def test_groups_that_do_not_divide_name_the_place() -> None:
    cfg = schema.BiFpn(channels=32, extra=schema.ExtraLevels(channels=40))
    with pytest.raises(ValueError, match=r"^extra: .*groups = 32 does not divide 40 channels"):
        build_neck(cfg, CHANNELS)
