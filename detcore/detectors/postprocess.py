"""From logits and boxes to detections (Lin et al. 2017, section 4.1).

Shape legend: B batch, A anchors or points of all levels, K classes, L levels, T candidates of an
image, N detections of an image.
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
    values, index, labels = best_of_levels(logits, level_lengths, cfg.top_k)
    boxes = clip(decode(take_rows(deltas, index), anchors[index]), sizes)
    scores = values.sigmoid()
    keep = scores > cfg.score_threshold
    return suppress(boxes, scores, labels, keep, cfg.nms_iou, cfg.max_detections)


def best_of_levels(
    logits: Tensor, level_lengths: Sequence[int], top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest `top_k` logits of each level, levels one after the other: values, indices of
    anchors and labels, each B x T."""
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


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """B x A x 4 and row numbers B x T -> B x T x 4."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor, nms_iou: float, max_detections: int
) -> Detections:
    """boxes B x T x 4, scores, labels and keep (bool) B x T -> for each image those to keep after
    class-wise NMS, at most `max_detections`, best first."""
    detections = []
    for image in zip(boxes, scores, labels, keep, strict=True):
        b, s, c = (x[image[-1]] for x in image[:-1])
        best = batched_nms(b, s, c, nms_iou)[:max_detections]
        detections.append((b[best], s[best], c[best]))
    return detections
