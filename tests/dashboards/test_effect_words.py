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


Arms = dict[tuple[str, str], Sequence[made.Seed]]


def crossed(arms: Mapping[tuple[str, str], Sequence[made.Seed]], **more: Any) -> list[Conclusion]:
    study = made.study(arms, {"norm": ["bn", "gn"], "batch": ["4", "2", "1"]}, ["bn", "4"], **more)
    return conclusions(study, None, axis_effects(study), interactions(study))


def test_an_axis_is_spoken_of_over_its_pairs_and_first() -> None:
    # gn - bn: +0.049, 0.05, 0.051 in both pairs, with no other noise; 2 is 4 less 0.1
    arms: Arms = {
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
    assert norm.startswith(
        "norm=gn is better than norm=bn in 2 of 2 pairs with a result (3 planned): mAP +0.0"
    )
    assert "; in 1 further pair only norm=bn never converged" in norm
    assert "; 3 seeds failed with norm=bn only" in norm


def plus(seeds: Sequence[float], by: float, noise: float = 0.001) -> list[made.Seed]:
    """`seeds` plus `by`, less and more than that in the first and the last of three."""
    return [b + by + d for b, d in zip(seeds, (-noise, 0.0, noise), strict=True)]


def test_of_a_level_that_never_converged_the_other_is_told_too() -> None:
    dead: list[made.Seed] = ["diverged"] * 3
    arms: Arms = {
        ("bn", "4"): BN,
        ("gn", "4"): dead,
        ("bn", "2"): plus(BN, -0.1),
        ("gn", "2"): dead,
    }
    (said,) = [c.text for c in crossed(arms) if c.text.startswith("norm=gn") and c.kind == "effect"]
    assert said == (
        "norm=gn did not converge in any of 2 pairs; in 2 pairs only norm=gn never converged; 6"
        " seeds failed with norm=gn only."
    )
    arms |= {("bn", "4"): dead, ("bn", "2"): dead}
    (said,) = [c.text for c in crossed(arms) if "norm=gn nor" in c.text]
    assert said == "Neither norm=gn nor norm=bn converged in any of 2 pairs."


def test_every_pair_that_is_planned_is_accounted_for() -> None:
    arms: dict[tuple[str, str], list[made.Seed]] = {
        ("bn", "4"): [*BN],
        ("gn", "4"): plus(BN, 0.05),
        ("bn", "2"): [*BN],
        ("gn", "2"): [None] * 3,
        ("bn", "1"): [*BN],
        ("gn", "1"): ["oom"] * 3,
    }
    (said,) = [c.text for c in crossed(arms) if c.text.startswith("norm=gn") and c.kind == "effect"]
    assert said.startswith(
        "norm=gn is better than norm=bn in 1 of 1 pair with a result (3 planned): mAP +0.050 (95 %"
    )
    assert said.endswith(
        "; in 1 further pair there is no result yet; in 1 further pair all cells have ended and no"
        " seed has a value in both arms."
    )


def test_where_most_pairs_point_the_other_way_both_are_said() -> None:
    # (0.09 - 0.01 - 0.01 - 0.01) / 4 = 0.015
    by = {"8": 0.09, "4": -0.01, "2": -0.01, "1": -0.01}
    arms: dict[tuple[str, ...], Sequence[made.Seed]] = {("bn", batch): BN for batch in by}
    arms |= {("gn", batch): plus(BN, d) for batch, d in by.items()}
    axes = {"norm": ["bn", "gn"], "batch": [*by]}
    study = made.study(arms, axes, ["bn", "8"])
    effects = axis_effects(study)
    (said,) = [c.text for c in conclusions(study, None, effects, []) if "on average" in c.text]
    on_average = "gn: on average better, though worse in 3 of 4 pairs, +0.015"
    assert effects[0].words.startswith(on_average)
    assert said.startswith(
        "norm=gn is on average better than norm=bn, though worse in 3 of 4 pairs: mAP +0.015 (95 %"
    )


def test_one_pair_that_is_not_against_the_baseline_is_told() -> None:
    arms: Arms = {("bn", "4"): BN, ("bn", "2"): plus(BN, -0.1), ("gn", "2"): plus(BN, -0.05)}
    said = [c for c in crossed(arms) if c.kind == "effect"]
    assert [c.text.split(" is ")[0] for c in said] == ["norm=gn"]  # batch=2 is an arm's own tale
    assert said[0].arms == ("a2", "a1")


def test_what_depends_on_another_axis_is_said() -> None:
    arms: Arms = {
        ("bn", "4"): BN,
        ("gn", "4"): [b + d for b, d in zip(BN, (0.009, 0.010, 0.011), strict=True)],
        ("bn", "2"): [b - 0.1 for b in BN],
        ("gn", "2"): [b + d for b, d in zip(BN, (0.001, 0.000, -0.001), strict=True)],
    }
    (said,) = [c for c in crossed(arms) if "depends" in c.text]
    assert said.text.startswith(  # +0.01 at 4; from -0.1 to 0 at 2
        "What norm=gn does depends on batch: mAP +0.010 at 4 and +0.100 at 2, +0.090 apart (95 %"
    )
    assert set(said.arms) == {"a0", "a1", "a2", "a3"}


def test_with_a_cell_missing_no_plain_means_stand_beside_the_least_squares_difference() -> None:
    # without its seed 0 the plain mean of gn at 2 is 0.215, and 0.105 above bn there: not 0.1
    arms: dict[tuple[str, str], list[made.Seed]] = {
        ("bn", "4"): [*BN],
        ("gn", "4"): plus(BN, 0.01),
        ("bn", "2"): [b - 0.1 for b in BN],
        ("gn", "2"): ["oom", 0.210, 0.220],
    }
    (said,) = [c.text for c in crossed(arms) if "depends" in c.text]
    assert re.fullmatch(
        r"What norm=gn does depends on batch: mAP \+0\.09\d apart \(95 % interval \+0\.0\d\d to"
        r" \+0\.\d{3}, \d seeds\)\.",
        said,
    )


def test_an_axis_of_one_pair_is_the_arm_itself() -> None:
    study = made.study({("bn",): BN, ("gn",): GN}, {"norm": ["bn", "gn"]}, ["bn"])
    said = conclusions(study, None, axis_effects(study), interactions(study))
    assert [c.kind for c in said] == ["arm"]
