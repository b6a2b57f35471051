"""Losses: per-anchor terms, summed under a weight per anchor. The detector divides by its number of
positives, and passes everything in float32, also under autocast.

A class loss maps (logits B x A x K, is_class B x A x K bool, weight B x A) to a scalar; a box loss
maps (deltas B x A x 4, anchors A x 4, boxes B x A x 4, weight B x A, (height, width) of the padded
input) to a scalar, its own weight applied. A corner loss is a box loss of corners: (found B x A x
4, boxes, weight, size), for detectors without anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from detcore.config import schema
from detcore.losses.box import decoded_loss, huber_loss, iou_loss, smooth_l1_loss
from detcore.losses.focal import FrequencyFocalLoss, focal_loss
from detcore.ops.boxes import ciou, diou, giou

ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
BoxLoss = Callable[[Tensor, Tensor, Tensor, Tensor, tuple[int, int]], Tensor]
CornerLoss = Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Tensor]


def build_class_loss(cfg: schema.ClassLoss, class_counts: Sequence[int]) -> ClassLoss:
    """`class_counts`: the boxes of each class in the training data. Raises ValueError when a loss
    needs them and there are none."""
    return CLASS_LOSSES[cfg.kind](cfg, class_counts)


def build_box_loss(cfg: schema.BoxLoss) -> BoxLoss:
    return BOX_LOSSES[cfg.kind](cfg)


def build_corner_loss(cfg: schema.IouLoss) -> CornerLoss:
    measure = IOU_MEASURES[cfg.kind]
    return partial(iou_loss, measure=measure, clip=cfg.clip, scale=cfg.weight)


def _focal(cfg: schema.FocalLoss, class_counts: Sequence[int]) -> ClassLoss:
    return partial(focal_loss, alpha=cfg.alpha, gamma=cfg.gamma)


def _frequency_focal(cfg: schema.FrequencyFocalLoss, class_counts: Sequence[int]) -> ClassLoss:
    return FrequencyFocalLoss(class_counts, cfg.alpha, cfg.gamma)


def _huber(cfg: schema.HuberLoss) -> BoxLoss:
    return partial(huber_loss, delta=cfg.delta, scale=cfg.weight)


def _smooth_l1(cfg: schema.SmoothL1Loss) -> BoxLoss:
    return partial(smooth_l1_loss, beta=cfg.beta, scale=cfg.weight)


def _iou(cfg: schema.IouLoss) -> BoxLoss:
    return partial(decoded_loss, loss=build_corner_loss(cfg))


CLASS_LOSSES: dict[str, Callable[[Any, Sequence[int]], ClassLoss]] = {
    "focal": _focal,
    "frequency_focal": _frequency_focal,
}
IOU_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
}
BOX_LOSSES: dict[str, Callable[[Any], BoxLoss]] = {
    "huber": _huber,
    "smooth_l1": _smooth_l1,
    "giou": _iou,
    "diou": _iou,
    "ciou": _iou,
}
