"""The report's ATSS variants by hand.

Most examples are strips: the box is 100 x 10, an anchor of width w is w x 10 from the same corner,
so its IoU is w / 100 and its centre is inside.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from detcore.config import ConfigError, from_dict, schema
from detcore.matchers import BACKGROUND as B
from detcore.matchers import IGNORED as I
from detcore.matchers import POSITIVE as P
from detcore.matchers import build_matcher
from detcore.matchers.report_atss import REFERENCE
from detcore.ops.anchors import AnchorSet
from tests.detcore.matchers.builders import pyramid, report_atss

KIND = {"kind": "retinanet"}
BOX = [0.0, 0.0, 100.0, 10.0]


def strips(widths: list[float]) -> list[list[float]]:
    return [[0.0, 0.0, w, 10.0] for w in widths]


def match(
    kind: str, anchors: list[list[float]], boxes: list[list[float]], per_cell: int = 1
) -> tuple[Tensor, list[int]]:
    """Box index and state of every anchor."""
    cfg = report_atss(kind)
    rows = AnchorSet(torch.tensor(anchors), (len(anchors),), per_cell)
    index, state = build_matcher(cfg)(rows, torch.tensor([boxes]), torch.ones(1, len(boxes)) > 0)
    return index[0], state[0].tolist()


def test_v2_refuses_a_single_candidate() -> None:
    """Deviation 0: the threshold is the candidate's own IoU, which does not exceed itself."""
    anchors = [*strips([60.0]), [300.0, 300.0, 310.0, 310.0]]
    assert match("atss_v2", anchors, [BOX])[1] == [B, B]
    assert match("atss_v3", anchors, [BOX])[1] == [P, B]


@pytest.mark.parametrize("widths", [[37.0] * 7, [13.0, 37.0], [13.0, 37.0, 13.0, 37.0]])
def test_a_threshold_that_is_the_largest_iou_in_exact_arithmetic_is_so_in_floats(
    widths: list[float],
) -> None:
    """Equal IoUs, two of them, or two in equal numbers: mean + deviation is the largest one. v2
    takes none of it, v4 all of it."""
    anchors = strips(widths)
    assert match("atss_v2", anchors, [BOX])[1] == [B] * len(widths)
    assert match("atss_v4", anchors, [BOX])[1] == [P if w == 37.0 else B for w in widths]


def test_v2_takes_what_exceeds_mean_plus_deviation() -> None:
    """0.7, 0.9, 0.2, 0.3: mean 0.525, population deviation 0.286, threshold 0.811. The IoUs of 0.1
    are not above `floor`: if they counted, it would be 0.606, and 0.7 positive."""
    anchors = strips([70.0, 90.0, 20.0, 30.0, 10.0, 10.0, 10.0, 10.0])
    assert match("atss_v2", anchors, [BOX])[1] == [B, P, *[B] * 6]


def test_v3_asks_for_half_at_most_and_ignores_what_misses_by_less_than_a_tenth() -> None:
    """Mean 0.49 and deviation 0.18 give 0.67, cut to 0.5; ignored is above 0.4."""
    anchors = strips([90.0, 50.0, 49.0, 45.0, 41.0, 40.0, 30.0])
    assert match("atss_v3", anchors, [BOX])[1] == [P, P, I, I, I, B, B]
    assert match("atss_v4", anchors, [BOX])[1] == [P, P, B, B, B, B, B]


def test_v3_ignores_nothing_up_to_a_fifth() -> None:
    """Mean 0.193 and deviation 0.049 give 0.241; 0.22 and 0.18 miss it by less than 0.1."""
    anchors = strips([25.0, 22.0, 18.0, 12.0])
    assert match("atss_v3", anchors, [BOX])[1] == [P, I, B, B]
    assert match("atss_v4", anchors, [BOX])[1] == [P, B, B, B]


def test_v2_drops_what_is_refused_before_it_picks_the_box_and_v3_after() -> None:
    """The first anchor overlaps BOX by 0.45 and the small box by 0.3. BOX asks for more than 1 (v3:
    0.5); the small one's overlaps 0.3, 0.15 and 0.135 make it ask for 0.27."""
    small = [15.75, 0.0, 29.25, 10.0]
    anchors = strips([45.0, 90.0, 100.0])
    index, state = match("atss_v2", anchors, [BOX, small])
    assert state == [P, B, B]
    assert index[0] == 1
    assert match("atss_v3", anchors, [BOX, small])[1] == [I, P, P]
    assert match("atss_v4", anchors, [BOX, small])[1] == [B, P, P]


def test_a_centre_on_the_border_is_inside_and_one_beyond_is_not() -> None:
    """Each anchor is the only candidate of its box."""
    anchors = [[0.0, 0.0, 16.0, 16.0]]
    assert match("atss_v3", anchors, [[8.0, 0.0, 28.0, 16.0]])[1] == [P]
    assert match("atss_v3", anchors, [[8.5, 0.0, 28.0, 16.0]])[1] == [B]


def test_v5_takes_its_threshold_from_the_reference_anchors() -> None:
    """Two cells; their fourth anchors overlap by 0.3 and 0.2: threshold 0.3. Any anchor may reach
    it. Over all anchors (v4) the threshold is cut to 0.5."""
    cells = [[80.0, 29.0, 31.0, 30.0, 10.0, 10.0, 10.0, 10.0, 10.0]]
    cells += [[70.0, 90.0, 15.0, 20.0, 10.0, 10.0, 10.0, 10.0, 10.0]]
    anchors = strips([w for cell in cells for w in cell])
    state = match("atss_v5", anchors, [BOX], per_cell=9)[1]
    assert state == [P, B, P, P, *[B] * 5, P, P, *[B] * 7]
    state = match("atss_v4", anchors, [BOX], per_cell=9)[1]
    assert state == [P, *[B] * 8, P, P, *[B] * 7]


def test_v5_asks_for_half_where_no_reference_anchor_overlaps() -> None:
    """Our reading: the threshold of 1 for boxes without candidates, cut like any other."""
    widths = [60.0, 50.0, 49.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0]
    assert match("atss_v5", strips(widths), [BOX], per_cell=9)[1] == [P, P, *[B] * 7]


def test_the_reference_anchor_has_ratio_one_and_the_smallest_size() -> None:
    """In the cells that `grid_anchors` makes."""
    first = pyramid(9).boxes[REFERENCE]
    assert (first[2:] - first[:2]).tolist() == [16.0, 16.0]


def test_v5_needs_nine_anchors_in_a_cell() -> None:
    with pytest.raises(ValueError, match="atss_v5 needs 9 anchors per cell, there are 3"):
        match("atss_v5", strips([60.0, 50.0, 40.0]), [BOX], per_cell=3)


V5_ANCHORS: dict[str, tuple[schema.Anchors, bool]] = {
    "3 x 3": (schema.GridAnchors(), True),
    "3 in a cell": (schema.GridAnchors(octave=1), False),
    "9 sizes": (schema.GridAnchors(octave=9, ratios=(1.0,)), False),
    "9 ratios": (schema.GridAnchors(octave=1, ratios=(1.0,) * 9), False),
    "1 is last": (schema.GridAnchors(ratios=(0.5, 2.0, 1.0)), False),
    "middle is not 1": (schema.GridAnchors(ratios=(0.29, 0.77, 2.14)), False),
    "smallest size is last": (schema.ListedAnchors(sizes=((3.0, 2.0, 1.0),) * 5), False),
    "1 is first on one level": (
        schema.ListedAnchors(
            sizes=((1.0, 2.0, 3.0),) * 5,
            ratios=(*((0.5, 1.0, 2.0),) * 4, (1.0, 0.5, 2.0)),
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", V5_ANCHORS)
def test_v5_needs_the_reference_anchor_where_it_looks_for_it(name: str) -> None:
    anchors, fits = V5_ANCHORS[name]
    schema.RetinaNet(anchors=anchors)
    with nullcontext() if fits else pytest.raises(ValueError, match=r"3 sizes .* 1 in the middle"):
        schema.RetinaNet(matcher=report_atss("atss_v5"), anchors=anchors)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("v2", {"floor"}), ("v3", {"floor", "cap", "margin"})]
    + [(kind, {"floor", "cap"}) for kind in ("v4", "v5")],
)
def test_a_setting_that_a_version_does_not_read_is_refused(kind: str, keys: set[str]) -> None:
    for key in ("floor", "cap", "margin"):
        matcher = {"kind": f"atss_{kind}", key: 0.3}
        with nullcontext() if key in keys else pytest.raises(ConfigError, match="unknown key"):
            assert getattr(from_dict(schema.RetinaNet, {"matcher": matcher} | KIND).matcher, key)
