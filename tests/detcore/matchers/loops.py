"""The matchers once more as plain loops over numbers, from their descriptions, for one image.

Each gives for every anchor an answer (state, box), box None unless the state is POSITIVE; or None
for the answer, where a comparison with a computed threshold is closer than rounding can decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from detcore.config import schema
from detcore.matchers import BACKGROUND, IGNORED, POSITIVE

Box = Sequence[float]
Answer = tuple[int, int | None]
NEAR = 1e-5
NOTHING: Answer = (BACKGROUND, None)


def iou(a: Box, b: Box) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (total - w * h)


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def inside(anchor: Box, box: Box) -> bool:
    """Borders included."""
    x, y = centre(anchor)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def strictly_inside(anchor: Box, box: Box) -> bool:
    x, y = centre(anchor)
    return box[0] < x < box[2] and box[1] < y < box[3]


def close(a: float, b: float) -> bool:
    return abs(a - b) < NEAR


def max_iou_report(
    cfg: schema.ReportMaxIouMatcher, anchors: Sequence[Box], boxes: Sequence[Box]
) -> list[Answer | None]:
    answers: list[Answer | None] = []
    table = [[iou(box, anchor) for anchor in anchors] for box in boxes]
    table = [[v if v >= cfg.floor else 0.0 for v in row] for row in table]
    rescued = {row.index(max(row)) for row in table if max(row) > 0}
    for a in range(len(anchors)):
        column = [row[a] for row in table]
        best = max(column, default=-1.0)
        if best >= cfg.high or a in rescued:
            answers.append((POSITIVE, column.index(best)))
        elif best < cfg.low:
            answers.append(NOTHING)
        else:
            answers.append((IGNORED, None))
    return answers


def atss(
    top_k: int,
    anchors: Sequence[Box],
    level_lengths: Sequence[int],
    per_cell: int,
    boxes: Sequence[Box],
) -> list[Answer | None]:
    claims: list[list[tuple[float, int]]] = [[] for _ in anchors]
    unsure: set[int] = set()
    for g, box in enumerate(boxes):
        candidates: list[int] = []
        start = 0
        for length in level_lengths:
            level = range(start, start + length)
            away = {a: math.dist(centre(anchors[a]), centre(box)) for a in level}
            candidates += sorted(level, key=lambda a: (away[a], a))[: top_k * per_cell]
            start += length
        values = [iou(box, anchors[a]) for a in candidates]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
        threshold = mean + math.sqrt(variance)
        for a, value in zip(candidates, values, strict=True):
            if strictly_inside(anchors[a], box):
                if close(value, threshold):
                    unsure.add(a)
                elif value > threshold:
                    claims[a].append((value, g))
    return [None if a in unsure else winner(claims[a]) for a in range(len(anchors))]


def winner(claims: list[tuple[float, int]]) -> Answer:
    """The box with the highest IoU; the first on ties."""
    if not claims:
        return NOTHING
    return POSITIVE, min(claims, key=lambda c: (-c[0], c[1]))[1]


def report_atss(
    cfg: schema.ReportAtss, anchors: Sequence[Box], boxes: Sequence[Box]
) -> list[Answer | None]:
    table = [[iou(box, anchor) for anchor in anchors] for box in boxes]
    thresholds = []
    for row in table:
        if cfg.kind == "atss_v5":
            row = [v for a, v in enumerate(row) if a % 9 == 3]
        seen = [v for v in row if v > cfg.floor]
        threshold = 1.0
        if seen:
            mean = sum(seen) / len(seen)
            threshold = mean + math.sqrt(sum((v - mean) ** 2 for v in seen) / len(seen))
        thresholds.append(threshold if isinstance(cfg, schema.AtssV2) else min(threshold, cfg.cap))
    answers = []
    for a, anchor in enumerate(anchors):
        ious, within = [row[a] for row in table], [inside(anchor, b) for b in boxes]
        if isinstance(cfg, schema.AtssV2):
            answers.append(_v2(ious, within, thresholds))
        else:
            answers.append(_v3_to_v5(cfg, ious, within, thresholds))
    return answers


def _v2(ious: list[float], inside: list[bool], thresholds: list[float]) -> Answer | None:
    """The threshold of each box first, then the best of what is left."""
    if any(i and close(v, t) for v, i, t in zip(ious, inside, thresholds, strict=True)):
        return None
    rows = enumerate(zip(ious, inside, thresholds, strict=True))
    return winner([(v, g) for g, (v, i, t) in rows if i and v > t])


def _v3_to_v5(
    cfg: schema.AtssV3 | schema.AtssV4,
    ious: list[float],
    inside: list[bool],
    thresholds: list[float],
) -> Answer | None:
    """The best of the boxes round the centre first, then that box's threshold."""
    state, best = winner([(v, g) for g, (v, i) in enumerate(zip(ious, inside, strict=True)) if i])
    if state != POSITIVE or best is None:
        return NOTHING
    value, threshold = ious[best], thresholds[best]
    margin = cfg.margin if isinstance(cfg, schema.AtssV3) else 0.0
    lower = threshold - margin
    if (threshold < cfg.cap and close(value, threshold)) or (margin and close(value, lower)):
        return None
    if value >= threshold and value > cfg.floor:
        return POSITIVE, best
    if lower < value < threshold and value > 0.2:
        return IGNORED, None
    return NOTHING
