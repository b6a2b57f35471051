"""The batched matcher against torchvision's, image by image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher as Oracle
from torchvision.ops import box_iou

from detcore.config import schema
from detcore.matchers import BACKGROUND, IGNORED, POSITIVE, build_matcher
from tests.detcore.matchers.builders import anchor_set, boxes_on_a_grid, padded


def check_image(
    cfg: schema.MaxIouMatcher, anchors: Tensor, boxes: Tensor, index: Tensor, state: Tensor
) -> None:
    """One image's assignment equals torchvision's, for boxes that overlap some anchor."""
    if len(boxes) == 0:
        assert state.eq(BACKGROUND).all()
        return
    oracle = Oracle(cfg.high, cfg.low, allow_low_quality_matches=cfg.rescue)
    expected = oracle(box_iou(boxes, anchors))
    assert torch.equal(state == POSITIVE, expected >= 0)
    assert torch.equal(state == BACKGROUND, expected == Oracle.BELOW_LOW_THRESHOLD)
    assert torch.equal(state == IGNORED, expected == Oracle.BETWEEN_THRESHOLDS)
    assert torch.equal(index[expected >= 0], expected[expected >= 0])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    cells=st.sampled_from([2, 5, 40]),
    rescue=st.booleans(),
    thresholds=st.sampled_from([(0.4, 0.5), (0.5, 0.5), (0.0, 0.3), (0.3, 1.0)]),
)
def test_equals_torchvision_for_every_image_of_a_batch(
    seed: int, counts: list[int], cells: int, rescue: bool, thresholds: tuple[float, float]
) -> None:
    torch.manual_seed(seed)
    cfg = schema.MaxIouMatcher(low=thresholds[0], high=thresholds[1], rescue=rescue)
    anchors = boxes_on_a_grid(60, cells)
    images = [boxes_on_a_grid(count, cells) for count in counts]
    images = [b[box_iou(b, anchors).amax(1) > 0] if len(b) else b for b in images]
    boxes, valid = padded(images)
    index, state = build_matcher(cfg)(anchor_set(anchors), boxes, valid)
    for row, image in enumerate(images):
        check_image(cfg, anchors, image, index[row], state[row])


@pytest.mark.parametrize("thresholds", [(0.4, 0.5), (0.0, 0.5)])
def test_an_image_without_boxes_is_all_background(thresholds: tuple[float, float]) -> None:
    matcher = build_matcher(schema.MaxIouMatcher(low=thresholds[0], high=thresholds[1]))
    _, state = matcher(
        anchor_set(boxes_on_a_grid(9, 4)), torch.zeros(2, 3, 4), torch.zeros(2, 3).bool()
    )
    assert state.eq(BACKGROUND).all()


def test_a_box_that_no_anchor_overlaps_rescues_none() -> None:
    """torchvision makes every anchor positive here, those far away too: the best overlap is 0."""
    anchors = torch.tensor([[0.0, 0, 8, 8], [40, 40, 48, 48]])
    boxes = torch.tensor([[[20.0, 20, 21, 21]], [[4, 4, 4, 9]]])
    _, state = build_matcher(schema.MaxIouMatcher())(
        anchor_set(anchors), boxes, torch.ones(2, 1).bool()
    )
    assert state.eq(BACKGROUND).all()
    assert Oracle(0.5, 0.4, True)(box_iou(boxes[0], anchors)).eq(0).all()


def test_a_rescued_anchor_keeps_its_own_best_box() -> None:
    """The only anchor near both boxes is the best of each, and learns the one it overlaps more."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = torch.tensor([[[0.0, 0, 10, 3], [0, 0, 10, 2]]])  # IoU 0.3 and 0.2 with the first
    index, state = build_matcher(schema.MaxIouMatcher())(
        anchor_set(anchors), boxes, torch.ones(1, 2).bool()
    )
    assert state.tolist() == [[POSITIVE, BACKGROUND]]
    assert index[0, 0] == 0
