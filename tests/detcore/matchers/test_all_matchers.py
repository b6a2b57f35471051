"""What holds of every matcher."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker

from detcore.config import schema
from detcore.config.load import from_dict
from detcore.matchers import BACKGROUND, MATCHERS, POSITIVE, build_matcher, chunks
from detcore.matchers.points import PointMatcher
from detcore.ops.anchors import AnchorSet
from tests.detcore.detectors.sync import NoHostWait
from tests.detcore.matchers.builders import boxes_anywhere, boxes_on_a_grid, padded, pyramid

every_kind = pytest.mark.parametrize("kind", sorted(MATCHERS))


def settings_of(kind: str) -> schema.Matcher:
    return from_dict(schema.RetinaNet, {"matcher": kind}).matcher


def batch() -> tuple[Tensor, Tensor]:
    """Three images with 4, 0 and 2 boxes."""
    torch.manual_seed(0)
    return padded([boxes_on_a_grid(n, 5) for n in (4, 0, 2)])


def test_every_kind_of_the_settings_has_a_matcher() -> None:
    kinds = {k for c in get_args(schema.Matcher) for k in get_args(get_type_hints(c)["kind"])}
    assert kinds == set(MATCHERS)


@every_kind
def test_nothing_waits_for_a_gpu(kind: str) -> None:
    matcher, anchors, (boxes, valid) = build_matcher(settings_of(kind)), pyramid(9), batch()
    with NoHostWait():
        matcher(anchors, boxes, valid)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_kind
def test_a_gpu_is_not_waited_for_and_matches_like_the_cpu(kind: str) -> None:
    """On boxes and anchors whose corners are whole numbers, so that their overlaps are alike."""
    matcher, (boxes, valid) = build_matcher(settings_of(kind)), batch()
    anchors = pyramid(9)
    there = AnchorSet(anchors.boxes.cuda(), anchors.level_lengths, anchors.per_cell)
    inputs = boxes.cuda(), valid.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        index, state = matcher(there, *inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected_index, expected_state = matcher(anchors, boxes, valid)
    positive = expected_state == POSITIVE
    assert torch.equal(state.cpu(), expected_state)
    assert torch.equal(index.cpu()[positive], expected_index[positive])


@every_kind
def test_images_without_boxes_are_all_background(kind: str) -> None:
    """Beside one with boxes, and rows without a box may hold anything."""
    boxes, valid = batch()
    boxes = torch.where(valid[..., None], boxes, torch.tensor([0.0, 0.0, 16.0, 16.0]))
    _, state = build_matcher(settings_of(kind))(pyramid(9), boxes, valid)
    assert state[1].eq(BACKGROUND).all()
    assert state[0].eq(POSITIVE).any()


@every_kind
def test_an_image_is_matched_alike_alone_and_in_any_batch(kind: str) -> None:
    matcher, anchors, (boxes, valid) = build_matcher(settings_of(kind)), pyramid(9), batch()
    index, state = matcher(anchors, boxes, valid)
    alone = matcher(anchors, boxes[2:, :2], valid[2:, :2])
    assert torch.equal(state[2:], alone[1])
    positive = alone[1] == POSITIVE
    assert torch.equal(index[2:][positive], alone[0][positive])


@every_kind
def test_compiles_whole_and_under_autocast(kind: str) -> None:
    matcher, anchors, (boxes, valid) = build_matcher(settings_of(kind)), pyramid(9), batch()
    torch.compiler.reset()
    compiled = torch.compile(lambda *args: matcher(*args), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compiled(anchors, boxes, valid)
    for one, other in zip(found, matcher(anchors, boxes, valid), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [*sorted(MATCHERS), "points"])
def test_memory_does_not_grow_with_the_boxes_of_an_image(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But by what a box itself takes: its corners, its row, its threshold."""
    anchors = pyramid(1 if kind == "points" else 9)
    largest = max(anchors.level_lengths) if kind == "points" else len(anchors.boxes)
    monkeypatch.setattr(chunks, "PAIRS", 2 * 8 * largest)
    matcher = PointMatcher((16.0, 32.0), "area", 1.5) if kind == "points" else None
    matcher = matcher or build_matcher(settings_of(kind))
    torch.manual_seed(0)

    def peak(count: int) -> int:
        boxes, valid = padded([boxes_anywhere(count, 48.0), boxes_anywhere(2, 48.0)])
        with MemTracker() as tracker:
            matcher(anchors, boxes, valid)
        at_peak = tracker.get_tracker_snapshot("peak")
        return sum(of_device["Total"] for of_device in at_peak.values())

    few, many = peak(32), peak(320)
    per_box = (many - few) / (2 * (320 - 32))
    assert few > 2 * 8 * largest * 4  # a map of the pairs of one chunk
    assert per_box < 64
