"""The shared head: order of its rows, what is shared and what is not, its first predictions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from detcore.config import schema
from detcore.heads import TowerHead

SIZES = [(8, 6), (4, 3), (2, 2), (1, 1), (1, 1)]


def build(norm: schema.NormAct, **settings: Any) -> TowerHead:
    torch.manual_seed(0)
    cfg = schema.TowerHead(norm_act=norm, **{"num_convs": 2, **settings})
    return TowerHead(cfg, 8, num_anchors=3, num_classes=5, num_levels=5)


def maps() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 8, *size) for size in SIZES]


def test_rows_are_levels_then_cells_then_anchors() -> None:
    head = build(schema.GroupNorm(groups=2))
    logits, deltas = head(maps())
    assert logits.shape == (2, 3 * sum(h * w for h, w in SIZES), 5)
    assert deltas.shape[:2] == logits.shape[:2]
    row = 0
    for level, x in enumerate(maps()):
        raw_classes = head.class_out(head.class_tower(x, level))
        raw_boxes = head.box_out(head.box_tower(x, level))
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                for anchor in range(3):
                    k, d = slice(5 * anchor, 5 * anchor + 5), slice(4 * anchor, 4 * anchor + 4)
                    assert torch.equal(logits[:, row], raw_classes[:, k, i, j])
                    assert torch.equal(deltas[:, row], raw_boxes[:, d, i, j])
                    row += 1


@pytest.mark.parametrize("norm", [schema.BatchNorm(), schema.EvoNormS0(groups=2)])
@pytest.mark.parametrize(("mode", "copies"), [("per_level", 5), ("shared", 1)])
def test_norms_per_level_or_shared(norm: schema.NormAct, mode: Any, copies: int) -> None:
    head = build(norm, norm_levels=mode)
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 2 * 2 + 2
    assert sum(p.shape == (8,) for p in head.class_tower.parameters()) == (
        2 * copies * (3 if norm.kind == "evonorm_s0" else 2)
    )


def test_per_level_bn_keeps_statistics_of_its_level_only() -> None:
    head = build(schema.BatchNorm(momentum=1.0), num_convs=1)
    head(maps())
    for level, x in enumerate(maps()[:3]):
        expected = head.class_tower.convs[0](x).mean(dim=(0, 2, 3))
        norm = head.class_tower.norm_acts[0][level]
        torch.testing.assert_close(norm.running_mean, expected)


def test_shared_bn_sees_all_levels_in_turn() -> None:
    head = build(schema.BatchNorm(), num_convs=1, norm_levels="shared")
    head(maps())
    assert head.class_tower.norm_acts[0][0].num_batches_tracked == 5


def test_first_predictions_are_the_prior() -> None:
    head = build(schema.GroupNorm(groups=2), prior_prob=0.02)
    nn.init.zeros_(head.class_out.weight)
    probability = head(maps())[0].sigmoid()
    torch.testing.assert_close(probability, torch.full_like(probability, 0.02))


def test_no_convs_is_a_linear_head() -> None:
    head = build(schema.GroupNorm(groups=2), num_convs=0)
    x = maps()
    doubled = [2 * m for m in x]
    torch.testing.assert_close(head(doubled)[1], 2 * head(x)[1])
