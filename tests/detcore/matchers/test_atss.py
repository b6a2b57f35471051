"""Published ATSS by hand. The box is 100 x 10 and an anchor of width w, within it, overlaps it by
w / 100."""

from __future__ import annotations

import torch

from detcore.config import schema
from detcore.matchers import BACKGROUND, POSITIVE, build_matcher
from detcore.ops.anchors import AnchorSet

BOX = [0.0, 0.0, 100.0, 10.0]
CENTRE = 50.0


def strip(width: float, centre: float = CENTRE) -> list[float]:
    return [centre - width / 2, 0.0, centre + width / 2, 10.0]


def states(
    levels: list[list[list[float]]], top_k: int, per_cell: int = 1, box: list[float] = BOX
) -> list[int]:
    boxes = torch.tensor([a for level in levels for a in level])
    anchors = AnchorSet(boxes, tuple(len(level) for level in levels), per_cell)
    valid = torch.ones(1, 1, dtype=torch.bool)
    matcher = build_matcher(schema.Atss(top_k=top_k))
    result: list[int] = matcher(anchors, torch.tensor([[box]]), valid)[1][0].tolist()
    return result


def test_the_nearest_of_each_level_are_candidates_and_no_other_is_positive() -> None:
    """Candidates 0.4, 0.8, 0.1: mean 0.433, deviation 0.351 (over N - 1), threshold 0.784. The
    second anchor overlaps by 0.96 but is not the nearest of its level."""
    levels = [[strip(40), strip(96, 48)], [strip(80), strip(10, 20)], [strip(10)]]
    assert states(levels, top_k=1) == [BACKGROUND, BACKGROUND, POSITIVE, BACKGROUND, BACKGROUND]


def test_the_deviation_is_over_n_less_1() -> None:
    """Candidates 0.4, 0.8: threshold 0.6 + 0.283. Over N it would be 0.6 + 0.2, 0.8 positive."""
    assert states([[strip(40)], [strip(80)]], top_k=1) == [BACKGROUND, BACKGROUND]


def test_one_anchor_in_all_has_no_deviation() -> None:
    assert states([[strip(40)]], top_k=9) == [POSITIVE]


def test_a_cell_is_a_candidate_with_all_its_anchors() -> None:
    """Two anchors per cell, k = 1: the first cell's 0.3 and 0.9, then 0.3, 0.3: threshold 0.75. Of
    one anchor per candidate cell, 0.3 and 0.3 would both be positive."""
    near, far = [strip(30), strip(90)], [strip(30, 60), strip(80, 60)]
    found = states([near + far, [strip(30), strip(30)]], top_k=1, per_cell=2)
    assert found == [BACKGROUND, POSITIVE, *[BACKGROUND] * 4]


def test_a_centre_on_the_border_is_not_inside() -> None:
    anchor = [0.0, 0.0, 16.0, 16.0]
    assert states([[anchor]], 9, box=[8.0, 0.0, 28.0, 16.0]) == [BACKGROUND]
    assert states([[anchor]], 9, box=[7.5, 0.0, 28.0, 16.0]) == [POSITIVE]
