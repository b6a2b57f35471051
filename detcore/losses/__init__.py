"""Losses: per-anchor terms, summed under a weight per anchor. The detector divides by its number of
positives.

A class loss maps (logits B x A x K, is_class B x A x K bool, weight B x A) to a scalar; a box loss
maps (deltas B x A x 4, anchors A x 4, boxes B x A x 4, weight B x A, (height, width) of the padded
input) to a scalar, its own weight applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from detcore.config import schema
from detcore.losses.box import giou_loss, huber_loss
from detcore.losses.focal import focal_loss

ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
BoxLoss = Callable[[Tensor, Tensor, Tensor, Tensor, tuple[int, int]], Tensor]


def build_class_loss(cfg: schema.ClassLoss, class_counts: Sequence[int]) -> ClassLoss:
    """`class_counts`: the boxes of each class in the training data."""
    return CLASS_LOSSES[cfg.kind](cfg, class_counts)


def build_box_loss(cfg: schema.BoxLoss) -> BoxLoss:
    return BOX_LOSSES[cfg.kind](cfg)


def _focal(cfg: schema.FocalLoss, class_counts: Sequence[int]) -> ClassLoss:
    return partial(focal_loss, alpha=cfg.alpha, gamma=cfg.gamma)


def _huber(cfg: schema.HuberLoss) -> BoxLoss:
    return partial(huber_loss, delta=cfg.delta, scale=cfg.weight)


def _giou(cfg: schema.IouLoss) -> BoxLoss:
    return partial(giou_loss, scale=cfg.weight)


CLASS_LOSSES: dict[str, Callable[[Any, Sequence[int]], ClassLoss]] = {"focal": _focal}
BOX_LOSSES: dict[str, Callable[[Any], BoxLoss]] = {"huber": _huber, "giou": _giou}
