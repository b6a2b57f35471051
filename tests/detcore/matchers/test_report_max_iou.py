"""What sets the report's max-IoU matcher apart, by hand."""

from __future__ import annotations

import torch

from detcore.config import schema
from detcore.matchers import BACKGROUND, IGNORED, POSITIVE, build_matcher
from tests.detcore.matchers.builders import anchor_set


def match(
    anchors: list[list[float]], boxes: list[list[float]], floor: float = 0.1
) -> tuple[list[int], list[int]]:
    """Box index and state of every anchor."""
    matcher = build_matcher(schema.ReportMaxIouMatcher(floor=floor))
    valid = torch.ones(1, len(boxes), dtype=torch.bool)
    index, state = matcher(anchor_set(torch.tensor(anchors)), torch.tensor([boxes]), valid)
    return index[0].tolist(), state[0].tolist()


def test_of_equally_good_anchors_the_first_alone_is_rescued() -> None:
    """Both overlap the box by 0.2; max_iou rescues both."""
    anchors = [[0.0, 0, 10, 10], [0.0, 0, 10, 10], [50.0, 50, 60, 60]]
    boxes = [[0.0, 0, 10, 2]]
    assert match(anchors, boxes)[1] == [POSITIVE, BACKGROUND, BACKGROUND]
    usual = build_matcher(schema.MaxIouMatcher())
    state = usual(anchor_set(torch.tensor(anchors)), torch.tensor([boxes]), torch.ones(1, 1) > 0)[1]
    assert state[0].tolist() == [POSITIVE, POSITIVE, BACKGROUND]


def test_an_overlap_below_the_floor_rescues_none() -> None:
    """IoU 0.08: none at the first floor, one at the second that the report's code had; and a box
    that reaches the floor exactly is rescued."""
    anchors = [[0.0, 0, 10, 10]]
    assert match(anchors, [[0.0, 0, 10, 0.8]])[1] == [BACKGROUND]
    assert match(anchors, [[0.0, 0, 10, 0.8]], floor=0.0625)[1] == [POSITIVE]
    assert match(anchors, [[0.0, 0, 10, 5]], floor=0.5)[1] == [POSITIVE]


def test_a_box_that_no_anchor_overlaps_rescues_none_at_floor_0() -> None:
    assert match([[0.0, 0, 10, 10]], [[20.0, 20, 30, 30]], floor=0.0)[1] == [BACKGROUND]


def test_a_rescued_anchor_keeps_its_own_best_box() -> None:
    """The first anchor is the best of both boxes, overlaps 0.3 and 0.2; the second lies between the
    thresholds."""
    index, state = match(
        [[0.0, 0, 10, 10], [50.0, 0, 60, 10], [50.0, 0, 60, 4.5]],
        [[0.0, 0, 10, 2], [0.0, 0, 10, 3], [50.0, 0, 60, 10]],
    )
    assert state == [POSITIVE, POSITIVE, IGNORED]
    assert index[:2] == [1, 2]
