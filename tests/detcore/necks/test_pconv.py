"""Pyramid convolutions against loops over levels, computed anew with the module's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.necks.pconv import PConv, Sepc
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
)

BOTH_SIZES = pytest.mark.parametrize("sizes", [EVEN, ODD])


def pconv(norm_act: schema.NormAct = NORM, **settings: Any) -> PConv:
    torch.manual_seed(0)
    cfg = schema.PConv(channels=8, norm_act=norm_act, extra=EXTRA, **settings)
    return randomise(PConv(cfg, CHANNELS))


def sepc(norm_act: schema.NormAct = NORM, **settings: Any) -> Sepc:
    torch.manual_seed(0)
    return randomise(Sepc(schema.Sepc(channels=8, norm_act=norm_act, **settings), CHANNELS))


@BOTH_SIZES
@pytest.mark.parametrize("norm_on", ["sum", "branch"])
def test_pconv_follows_the_equations(norm_on: Any, sizes: Any) -> None:
    neck = pconv(norm_on=norm_on, repeats=2)
    inputs = list(features(sizes))
    maps = neck(tuple(inputs))
    inputs += extra_levels(neck.extra, inputs[-1])

    def branch(layer: Any, x: Tensor) -> Tensor:
        if norm_on == "sum":
            return conv1(layer, x)
        return norm(layer.norm_act, conv1(layer.conv, x)).relu()

    old = [conv1(conv, x) for conv, x in zip(neck.lateral, inputs, strict=True)]
    for r in neck.rounds:
        new = []
        for i, x in enumerate(old):
            terms = [branch(r.same, x)]
            if i > 0:
                terms.append(pool(branch(r.below, old[i - 1]), "avg"))
            if i < 4:
                terms.append(nearest(branch(r.above, old[i + 1]), x.shape[2:]))
            y = torch.stack(terms).sum(dim=0)
            new.append(norm(r.norm_act, y).relu() if norm_on == "sum" else y)
        old = new
    assert_same(maps, old)


@BOTH_SIZES
@pytest.mark.parametrize("norm_levels", ["integrated", "shared"])
def test_sepc_follows_the_equations(norm_levels: Any, sizes: Any) -> None:
    neck = sepc(norm_levels=norm_levels, repeats=2)
    inputs = features(sizes)
    old = neck.fpn(inputs)
    for r in neck.rounds:
        sums = []
        for i, x in enumerate(old):
            y = F.conv2d(x, r.same.weight, padding=1)
            if i > 0:
                y = y + F.conv2d(old[i - 1], r.below.weight, stride=2, padding=1)
            if i < 4:
                above = F.conv2d(old[i + 1], r.above.weight, padding=1)
                y = y + F.interpolate(above, y.shape[2:], mode="bilinear", align_corners=True)
            sums.append(y)
        old = [
            (by_levels if norm_levels == "shared" else by_all)(r.norm_act, sums, i)
            for i in range(5)
        ]
    assert_same(neck(inputs), old)


def by_levels(layer: Any, maps: list[Tensor], i: int) -> Tensor:
    return norm(layer, maps[i]).relu()


def by_all(layer: Any, maps: list[Tensor], i: int) -> Tensor:
    """Mean and variance of a sample's group over the cells of all levels."""
    out = torch.empty_like(maps[i])
    for b in range(2):
        for group in (slice(0, 4), slice(4, 8)):
            values = torch.cat([x[b, group].flatten() for x in maps])
            centred = maps[i][b, group] - values.mean()
            out[b, group] = centred / (values.var(correction=0) + 1e-5).sqrt()
    return (out * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)).relu()


def test_integrated_bn_sees_the_cells_of_all_levels() -> None:
    """The paper's iBN: one mean and one variance for a channel."""
    neck = sepc(schema.BatchNorm(momentum=1.0), repeats=1)
    inputs = features(ODD)
    neck(inputs)
    maps = neck.fpn(inputs)
    r = neck.rounds[0]
    cells = torch.cat([r.level(maps, i).transpose(0, 1).flatten(1) for i in range(5)], dim=1)
    torch.testing.assert_close(r.norm_act.running_mean, cells.mean(dim=1))
    torch.testing.assert_close(r.norm_act.running_var, cells.var(dim=1))
    assert r.norm_act.num_batches_tracked == 1


@pytest.mark.parametrize("build", [pconv, sepc])
def test_all_levels_share_the_convolutions_of_a_round(build: Any) -> None:
    one, three = (
        sum(isinstance(m, nn.Conv2d) for m in build(repeats=r).rounds.modules()) for r in (1, 3)
    )
    assert (one, three) == (3, 9)


def test_spectral_norm_needs_a_convolution_of_its_own() -> None:
    with pytest.raises(ValueError, match="choose norm_on branch"):
        schema.PConv(norm_act=schema.SpectralNorm())
    with pytest.raises(ValueError, match="pconv with norm_on branch"):
        schema.Sepc(norm_act=schema.SpectralNorm())
    neck = pconv(schema.SpectralNorm(), norm_on="branch")
    sum(x.square().sum() for x in neck(features(ODD))).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in neck.parameters())
