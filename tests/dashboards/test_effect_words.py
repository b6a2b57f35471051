"""What is said of axes: over all pairs of arms, failures among them, and of interactions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dashboards.conclusions import Conclusion, conclusions
from dashboards.effects import axis_effects
from dashboards.interactions import interactions
from tests.dashboards import made

BN = [0.200, 0.210, 0.220]
GN = [0.250, 0.261, 0.272]


def crossed(arms: Mapping[tuple[str, str], Sequence[made.Seed]], **more: Any) -> list[Conclusion]:
    study = made.study(arms, {"norm": ["bn", "gn"], "batch": ["4", "2", "1"]}, ["bn", "4"], **more)
    return conclusions(study, None, axis_effects(study), interactions(study))


def test_an_axis_is_spoken_of_over_its_pairs_and_first() -> None:
    # gn - bn: +0.049, 0.05, 0.051 in both pairs, with no other noise; 2 is 4 less 0.1
    arms = {
        ("bn", "4"): BN,
        ("gn", "4"): [b + d for b, d in zip(BN, (0.049, 0.050, 0.051), strict=True)],
        ("bn", "2"): [b - 0.1 for b in BN],
        ("gn", "2"): [b - 0.1 + d for b, d in zip(BN, (0.049, 0.050, 0.051), strict=True)],
    }
    said = crossed(arms)
    batch, norm = said[:2]
    assert re.fullmatch(
        r"norm=gn is better than norm=bn in 2 of 2 pairs: mAP \+0\.050 \(95 % interval \+0\.04\d to"
        r" \+0\.05\d, 3 seeds\)\.",
        norm.text,
    )
    assert batch.text.startswith("batch=2 is worse than batch=4 in 2 of 2 pairs: mAP -0.100 (95 %")
    assert (norm.kind, norm.certainty) == ("effect", "established")
    assert norm.deltas == pytest.approx((0.05,))
    assert set(norm.arms) == {"a0", "a1", "a2", "a3"}
    assert [c.kind for c in said] == ["effect"] * 2 + ["arm"] * (len(said) - 2)


def test_pairs_that_failed_are_in_the_sentence() -> None:
    arms: dict[tuple[str, str], list[made.Seed]] = {
        ("bn", "4"): [*BN],
        ("gn", "4"): [*GN],
        ("bn", "2"): [0.101, 0.110, 0.119],
        ("gn", "2"): [0.150, 0.162, 0.170],
        ("bn", "1"): ["diverged"] * 3,
        ("gn", "1"): [0.05, 0.06, 0.07],
    }
    said = [c.text for c in crossed(arms) if c.kind == "effect"]
    (norm,) = [text for text in said if text.startswith("norm=gn")]
    assert norm.startswith("norm=gn is better than norm=bn in 2 of 2 pairs: mAP +0.0")
    assert "; in 1 further pair only norm=bn never converged" in norm
    assert "; 3 seeds failed with norm=bn only" in norm


def test_what_depends_on_another_axis_is_said() -> None:
    arms = {
        ("bn", "4"): BN,
        ("gn", "4"): [b + d for b, d in zip(BN, (0.009, 0.010, 0.011), strict=True)],
        ("bn", "2"): [b - 0.1 for b in BN],
        ("gn", "2"): [b + d for b, d in zip(BN, (0.001, 0.000, -0.001), strict=True)],
    }
    (said,) = [c.text for c in crossed(arms) if "depends" in c.text]
    assert said.startswith(  # +0.01 at 4; from -0.1 to 0 at 2
        "What norm=gn does depends on batch: mAP +0.010 at 4 and +0.100 at 2, +0.090 apart (95 %"
    )


def test_an_axis_of_one_pair_is_the_arm_itself() -> None:
    study = made.study({("bn",): BN, ("gn",): GN}, {"norm": ["bn", "gn"]}, ["bn"])
    said = conclusions(study, None, axis_effects(study), interactions(study))
    assert [c.kind for c in said] == ["arm"]
