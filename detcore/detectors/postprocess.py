"""From logits and deltas to detections (Lin et al. 2017, section 4.1).

Shape legend: B batch, A anchors of all levels, K classes, L levels, N detections of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detcore.config import schema
from detcore.ops.boxes import clip, decode

Detections = list[tuple[Tensor, Tensor, Tensor]]


def select_detections(
    cfg: schema.Postprocess,
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    level_lengths: Sequence[int],
    sizes: Tensor,
) -> Detections:
    """Per level the best `top_k` of anchor x class, those above the threshold, decoded, cut to the
    valid image, class-wise NMS over all levels, the best `max_detections`.

    logits B x A x K, deltas B x A x 4, anchors A x 4, level_lengths L (anchors per level), sizes B
    x 2 (height, width) -> for each image boxes N x 4, scores N and labels N int64, best first. One
    anchor may give several classes.
    """
    values, anchor_index, labels = _top_k(logits, level_lengths, cfg.top_k)
    chosen = deltas.gather(1, anchor_index[..., None].expand(-1, -1, 4))
    boxes = clip(decode(chosen, anchors[anchor_index]), sizes)
    scores = values.sigmoid()
    return [_suppress(cfg, *image) for image in zip(boxes, scores, labels, strict=True)]


def _top_k(
    logits: Tensor, level_lengths: Sequence[int], top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest logits of each level, levels one after the other: values, anchor indices and
    labels, each B x (sum of k)."""
    num_classes = logits.shape[-1]
    values, indices, start = [], [], 0
    for level in logits.split(level_lengths, dim=1):
        flat = level.flatten(1)
        best, index = flat.topk(min(top_k, flat.shape[1]))
        values.append(best)
        indices.append(index + start * num_classes)
        start += level.shape[1]
    index = torch.cat(indices, dim=1)
    return torch.cat(values, dim=1), index // num_classes, index % num_classes


def _suppress(
    cfg: schema.Postprocess, boxes: Tensor, scores: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    keep = scores > cfg.score_threshold
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    best = batched_nms(boxes, scores, labels, cfg.nms_iou)[: cfg.max_detections]
    return boxes[best], scores[best], labels[best]
