"""The batched matchers against plain loops over boxes and anchors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detcore.config import schema
from detcore.matchers import BACKGROUND, IGNORED, POSITIVE, build_matcher
from detcore.ops.anchors import AnchorSet
from tests.detcore.matchers import loops
from tests.detcore.matchers.builders import (
    anchor_set,
    boxes_anywhere,
    boxes_on_a_grid,
    padded,
    pyramid,
    report_atss,
)

Kind = Literal["atss_v2", "atss_v3", "atss_v4", "atss_v5"]
KINDS: tuple[Kind, ...] = ("atss_v2", "atss_v3", "atss_v4", "atss_v5")
Loop = Callable[[AnchorSet, list[list[float]]], list[loops.Answer | None]]


def loop_of(cfg: schema.Matcher) -> Loop:
    if isinstance(cfg, schema.ReportMaxIouMatcher):
        return lambda anchors, boxes: loops.max_iou_report(cfg, anchors.boxes.tolist(), boxes)
    if isinstance(cfg, schema.ReportAtss):
        return lambda anchors, boxes: loops.report_atss(cfg, anchors.boxes.tolist(), boxes)
    assert isinstance(cfg, schema.Atss)
    return lambda anchors, boxes: loops.atss(
        cfg.top_k, anchors.boxes.tolist(), anchors.level_lengths, anchors.per_cell, boxes
    )


def check(cfg: schema.Matcher, anchors: AnchorSet, images: list[Tensor]) -> Counter:
    """Compare all images of a batch with the loop; how often each state occurred, and "unsure"."""
    boxes, valid = padded(images, extra=1)
    index, state = build_matcher(cfg)(anchors, boxes, valid)
    assert index.shape == state.shape == (len(images), len(anchors.boxes))
    assert (index.dtype, state.dtype) == (torch.int64, torch.int8)
    seen: Counter = Counter()
    for image, found_index, found_state in zip(images, index, state, strict=True):
        expected = loop_of(cfg)(anchors, image.tolist())
        found = zip(found_state.tolist(), found_index.tolist(), strict=True)
        for answer, (s, i) in zip(expected, found, strict=True):
            seen[answer[0] if answer else "unsure"] += 1
            assert answer is None or answer == (s, i if s == POSITIVE else None)
    return seen


def images_of(counts: list[int], make: Callable[[int], Tensor]) -> list[Tensor]:
    return [make(count) for count in counts]


batches = st.lists(st.integers(0, 6), min_size=1, max_size=3)
seeds = st.integers(0, 2**31)


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    counts=batches,
    cells=st.sampled_from([2, 5, 40, None]),
    thresholds=st.sampled_from([(0.4, 0.5), (0.5, 0.5), (0.0, 0.3)]),
    floor=st.sampled_from([0.0, 0.0625, 0.1, 0.25, 0.6]),
)
def test_max_iou_of_the_report(
    seed: int, counts: list[int], cells: int | None, thresholds: tuple[float, float], floor: float
) -> None:
    torch.manual_seed(seed)
    cfg = schema.ReportMaxIouMatcher(low=thresholds[0], high=thresholds[1], floor=floor)

    def make(count: int) -> Tensor:
        return boxes_on_a_grid(count, cells) if cells else boxes_anywhere(count, 40.0)

    check(cfg, anchor_set(make(40)), images_of(counts, make))


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    counts=batches,
    per_cell=st.sampled_from([1, 3, 9]),
    top_k=st.sampled_from([1, 2, 4, 9]),
    on_grid=st.booleans(),
)
def test_published_atss(
    seed: int, counts: list[int], per_cell: int, top_k: int, on_grid: bool
) -> None:
    torch.manual_seed(seed)
    images = images_of(
        counts, lambda n: boxes_on_a_grid(n, 4) if on_grid else boxes_anywhere(n, 30.0)
    )
    check(schema.Atss(top_k=top_k), pyramid(per_cell), images)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    counts=batches,
    kind=st.sampled_from(KINDS),
    per_cell=st.sampled_from([1, 3, 9]),
    on_grid=st.booleans(),
    floor=st.sampled_from([0.0, 0.1, 0.3]),
    cap=st.sampled_from([0.5, 0.2]),
)
def test_atss_of_the_report(
    seed: int, counts: list[int], kind: Kind, per_cell: int, on_grid: bool, floor: float, cap: float
) -> None:
    torch.manual_seed(seed)
    images = images_of(
        counts, lambda n: boxes_on_a_grid(n, 5) if on_grid else boxes_anywhere(n, 40.0)
    )
    cfg = report_atss(kind, floor, cap)
    check(cfg, pyramid(9 if kind == "atss_v5" else per_cell), images)


@pytest.mark.parametrize(
    "cfg",
    [schema.ReportMaxIouMatcher(), schema.Atss(), *(report_atss(k) for k in KINDS)],
    ids=lambda cfg: cfg.kind,
)
def test_the_comparisons_above_decide_nearly_everything(cfg: schema.Matcher) -> None:
    """Guards the oracles: every state that a matcher has occurs often, few anchors are unsure."""
    torch.manual_seed(0)
    seen: Counter = Counter()
    for _ in range(10):
        seen += check(cfg, pyramid(9), [boxes_on_a_grid(4, 5), boxes_anywhere(4, 40.0)])
    assert seen[POSITIVE] > 100
    assert seen[BACKGROUND] > 1000
    assert seen["unsure"] < 0.02 * seen.total()
    ignores = cfg.kind in ("max_iou_report", "atss_v3")
    assert (seen[IGNORED] > 100) == ignores
    assert ignores or seen[IGNORED] == 0
