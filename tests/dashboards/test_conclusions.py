"""Conclusions in words: what is said of which numbers, in which order, and how sure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.conclusions import ORDER, Conclusion, conclusions
from dashboards.digits import places
from dashboards.inference import compare
from dashboards.outcomes import OUTCOMES
from dashboards.wording import LONG, MANY
from tests.dashboards import made

# By hand: two arms, so that Dunnett's interval is Student's. Baseline 0.200, 0.210, 0.220,
# `gn` that plus 0.050, 0.051, 0.052: mean +0.051, SD of the differences 0.001, error
# 0.001 / sqrt(3), and t(2, 0.975) = 4.3027: +-0.00248, so 0.0485 to 0.0535.
BN = [0.200, 0.210, 0.220]
GN = [0.250, 0.261, 0.272]


def told(
    arms: Mapping[str, Sequence[made.Seed]], baseline: str | None = "bn", **more: Any
) -> list[Conclusion]:
    """Of a sweep of one axis."""
    levels: dict[tuple[str, ...], Sequence[made.Seed]] = {(k,): v for k, v in arms.items()}
    base = [baseline] if baseline else None
    return conclusions(made.study(levels, {"norm": [*arms]}, base, **more))


def texts(*args: Any, **more: Any) -> list[str]:
    return [c.text for c in told(*args, **more)]


# ---------------------------------------------------------------- one of each


def test_what_is_better_is_said_with_its_interval_and_seeds() -> None:
    (said,) = told({"bn": BN, "gn": GN})
    assert said.text == (
        "norm=gn is better than the baseline (norm=bn): mAP +0.051 (95 % interval +0.049 to +0.053,"
        " 3 paired seeds)."
    )
    assert (said.kind, said.certainty, said.metric) == ("arm", "established", "mAP")
    assert said.arms == ("a1",)
    assert said.deltas == pytest.approx((0.051,))


def test_what_is_worse_and_where_less_is_better() -> None:
    assert texts({"bn": GN, "gn": BN})[0].startswith(
        "norm=gn is worse than the baseline (norm=bn): mAP"
    )
    (said,) = texts({"bn": GN, "gn": BN}, metric="train_hours", goal="min")
    assert said.startswith("norm=gn is better than the baseline (norm=bn): train_hours -0.051 h")


def test_a_small_one_is_called_so() -> None:
    (said,) = texts({"bn": BN, "gn": GN}, min_effect=0.06)
    assert (
        "is better than the baseline (norm=bn) by less than the 0.06 that matters: mAP +0.051"
        in said
    )


def test_no_number_is_printed_that_its_verdict_denies() -> None:
    # differences 0.000010, 0.000011, 0.000012: SD 0.000001, of which 4.3027 / sqrt(3) are
    # 0.00000248: 0.0000085 to 0.0000135
    near = [b + d for b, d in zip(BN, (0.000010, 0.000011, 0.000012), strict=True)]
    assert texts({"bn": BN, "gn": near}, min_effect=0.00004) == [
        "norm=gn is better than the baseline (norm=bn) by less than the 0.00004 that matters: mAP"
        " +0.00001 (95 % interval +0.00001 to +0.00001, 3 paired seeds)."
    ]
    # differences -0.0001, 0, 0.0001: 4.3027 * 0.0001 / sqrt(3) = 0.000248 to either side
    near = [b + d for b, d in zip(BN, (-0.0001, 0.0, 0.0001), strict=True)]
    assert texts({"bn": BN, "gn": near}) == [
        "norm=gn cannot be told apart from the baseline: mAP 0.0000 (95 % interval -0.0002 to"
        " +0.0002, 3 paired seeds); a difference of 0.0002 stays possible."
    ]


@pytest.mark.parametrize(
    ("low", "high", "matters", "digits"),
    [
        (0.004, 0.020, None, 3),
        (0.0004, 0.020, None, 4),  # 0.000 to 0.020 would hold 0
        (-0.020, -0.00006, None, 4),  # -0.0001
        (-0.0001, 0.020, None, 3),  # holds 0, as it is printed too
        (-0.00002, 0.00003, None, 5),  # 0 to 0 would be no interval
        (0.0489, 0.05368, 0.0537, 5),  # 0.054 and 0.0537 do not lie within 0.0537
        (0.0489, 0.05368, 0.05, 3),  # nor does this
        (-1e-17, 1e-17, None, 3),  # what rounding left
        (0.0, 0.0, None, 3),
        (None, 0.1, None, 3),
    ],
)
def test_digits_by_hand(
    low: float | None, high: float | None, matters: float | None, digits: int
) -> None:
    assert places(3, low, high, matters) == digits


def test_where_only_some_seeds_converged_both_are_said() -> None:
    claim, failed = told({"bn": BN, "gn": [*GN[:2], ("diverged", 120)]})
    assert claim.text.startswith(
        "norm=gn is better than the baseline (norm=bn) where it converged (2 of 3 seeds): mAP"
    )
    assert claim.text.endswith("2 paired seeds).")
    assert failed.text == (
        "norm=gn did not converge in 1 of 3 seeds: diverged once at step 120; the baseline"
        " converged in 3 of 3 seeds."
    )
    assert (failed.certainty, failed.arms) == ("failed", ("a1",))


def test_seeds_that_a_claim_leaves_out_are_in_it() -> None:
    # of 4 seeds 0 and 1 are paired: +0.05 and +0.052, t(1, 0.975) = 12.706 errors of 0.001
    claim, *rest = told({"bn": [0.200, 0.210, "diverged", 0.2], "gn": [0.250, 0.262, 0.272, "oom"]})
    assert claim.text == (
        "norm=gn is better than the baseline (norm=bn): mAP +0.051 (95 % interval +0.038 to"
        " +0.064, 2 paired seeds); of 4 seeds, in 1 only the baseline did not converge and 1 ended"
        " oom."
    )
    assert [c.certainty for c in rest] == ["failed"]
    # the arm's own failures are said once; a seed that waits is not lost
    (claim, *_) = told({"bn": BN, "gn": [0.250, 0.261, "diverged"]})
    assert claim.text.endswith("2 paired seeds).")
    (claim, *_) = told({"bn": BN, "gn": [0.250, 0.261, None]})
    assert claim.text.endswith("2 paired seeds).")
    # nor does it go without saying where nothing is found
    (said,) = told({"bn": BN, "gn": [0.199, 0.2101, "crashed"]}, min_effect=0.1)
    assert "; of 3 seeds, 1 ended crashed; 0.1 or more would have shown" in said.text


def test_what_cannot_be_told_apart() -> None:
    # differences -0.001, 0, 0.001: mean 0 and the same interval; TOST at 10 % needs t(2) = 1.8856
    # errors of 0.000577 below 0.003
    near = [0.199, 0.210, 0.221]
    (said,) = told({"bn": BN, "gn": near}, min_effect=0.003)
    assert said.text == (
        "norm=gn cannot be told apart from the baseline: mAP 0.000 (95 % interval -0.002 to +0.002,"
        " 3 paired seeds); 0.003 or more would have shown in 90 % of cases."
    )
    assert said.certainty == "not separable"
    (said,) = told({"bn": BN, "gn": near})
    assert said.text.endswith("3 paired seeds); a difference of 0.002 stays possible.")


def test_what_is_open_says_how_many_seeds_would_do() -> None:
    arms = {"bn": BN, "gn": [0.205, 0.211, 0.235]}
    study = made.study({(k,): v for k, v in arms.items()}, {"norm": [*arms]}, ["bn"])
    more = compare(study.observations("mAP"), "a0", min_effect=0.001)["a1"].more
    assert more is not None
    assert more > 1
    (said,) = told(arms, min_effect=0.001)
    assert said.text.startswith("norm=gn against the baseline is open: mAP +0.007 (95 % interval -")
    assert said.text.endswith(f"3 paired seeds); about {more} more seeds would decide it.")
    assert said.certainty == "open"


def test_failures_are_never_dropped() -> None:
    said = told(
        {
            "bn": ["diverged", ("stalled", 500), 0.1],
            "gn": [("diverged", 300), ("diverged", 120), None],
            "ln": ["stalled"] * 3,
        }
    )
    failed = [c.text for c in said if c.certainty == "failed"]
    assert failed == [
        "The baseline (norm=bn) did not converge in 2 of 3 seeds: diverged once, stalled once at"
        " step 500.",
        "norm=gn did not converge in 2 of 2 seeds with a result (3 planned): diverged twice at"
        " steps 120 and 300; the baseline converged in 1 of 3 seeds.",
        "norm=ln did not converge in 3 of 3 seeds: stalled 3 times; the baseline converged in 1 of"
        " 3 seeds.",
    ]


def test_failures_are_told_without_a_baseline_too() -> None:
    (said,) = told({"bn": [0.1, "stalled"], "gn": [0.2, 0.3]}, None)
    assert said.text == "norm=bn did not converge in 1 of 2 seeds: stalled once."


def test_faults_are_no_results() -> None:
    said = told({"bn": BN, "gn": ["oom", "oom", "crashed"]})
    assert [c.text for c in said] == ["norm=gn has no result in 3 seeds: 2 oom, 1 crashed."]
    assert said[0].certainty == "open"


# ---------------------------------------------------------------- single runs


def test_of_single_runs_nothing_is_claimed() -> None:
    (failed, said) = told({"bn": [0.2], "gn": [0.26], "ln": [0.19], "in": ["stalled"]})
    assert said.text == (
        "One run each: nothing can be claimed; the largest difference seen is mAP +0.060 (norm=gn)."
    )
    assert (said.kind, said.certainty, said.arms) == ("arms", "single run", ("a1", "a2"))
    assert said.deltas == pytest.approx((0.06, -0.01))
    assert failed.text.startswith(
        "norm=in did not converge in its one seed (a single run): stalled"
    )


def test_a_single_pair_among_more_seeds_is_called_so() -> None:
    said = told({"bn": BN, "gn": GN, "ln": [0.25, "oom", "oom"]})
    assert [c.certainty for c in said] == ["established", "single run"]
    assert said[1].text == (
        "Only one seed of 1 arm can be compared: nothing can be claimed; the difference seen is mAP"
        " +0.050 (norm=ln)."
    )


def test_without_a_baseline_that_converged_there_is_no_comparison() -> None:
    said = told({"bn": ["stalled", "stalled"], "gn": [0.2, 0.3]})
    assert [c.certainty for c in said] == ["failed", "open"]
    assert said[1].text == (
        "norm=gn against the baseline is open: no seed has a value here and in the baseline."
    )


# ---------------------------------------------------------------- order and length


def test_the_most_certain_come_first_and_of_these_the_largest() -> None:
    said = told(
        {
            "bn": BN,
            "same": [0.2001, 0.2099, 0.2201],
            "down": [v - 0.08 for v in BN],
            "fails": ["stalled"] * 3,
            "up": [v + 0.05 for v in BN],
            "one": [0.3, None, None],
        }
    )
    # `down` and `up` do not vary against the baseline, `same` does a little: that is the noise
    assert [c.certainty for c in said][:3] == ["established", "established", "failed"]
    assert [c.arms for c in said][:2] == [("a2",), ("a4",)]
    assert [c.certainty for c in said] == sorted(
        (c.certainty for c in said), key=lambda certainty: ORDER.index(certainty)
    )


def test_many_arms_alike_are_one_sentence() -> None:
    noise = [-0.001, 0.0, 0.001]
    names = [f"v{i}" for i in range(MANY + 2)]
    turned = {
        name: [b + noise[(k + i) % 3] for k, b in enumerate(BN)] for i, name in enumerate(names)
    }
    (said,) = told({"bn": BN, **turned})
    assert re.search(r"; differences of up to 0\.00\d stay possible\.$", said.text)
    (said,) = told({"bn": BN, **turned}, min_effect=0.01)
    assert said.kind == "arms"
    assert said.arms == tuple(f"a{i + 1}" for i in range(MANY + 2))
    assert said.text == (
        "7 arms cannot be told apart from the baseline (mAP 0.000 to 0.000, 3 paired seeds each):"
        " norm=v0, norm=v1, norm=v2, norm=v3, norm=v4 and 2 more."
    )


def test_many_open_arms_say_what_the_nearest_and_the_farthest_need() -> None:
    arms = {"bn": BN, **{f"v{i}": [0.205 + i / 1000, 0.2, 0.235] for i in range(MANY + 1)}}
    said = [c for c in told(arms, min_effect=0.0001) if c.certainty == "open"]
    assert len(said) == 1
    match = re.search(r"needs about (\d+) more seeds?, the farthest about (\d+)\.$", said[0].text)
    assert match
    assert 1 <= int(match[1]) <= int(match[2])


def test_a_long_name_is_cut_and_stays_in_one_line() -> None:
    (said,) = texts({"bn": BN, "x" * 300 + "\n<script>": GN})
    name = said.split(" is better")[0]
    assert len(name) == LONG
    assert name.endswith("x…")
    assert "\n" not in said
    (said,) = texts({"bn": BN, "a\nb <i>": GN})
    assert said.startswith("norm=a b <i> is better")  # escaped by who shows it


SEED = st.one_of(
    st.floats(0, 1).map(lambda v: round(v, 3)), st.sampled_from([*OUTCOMES[1:]]), st.none()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SEED, min_size=1, max_size=3), min_size=1, max_size=8))
def test_every_arm_is_spoken_of_and_no_more_is_said_than_the_verdicts(
    arms: list[list[made.Seed]],
) -> None:
    study = made.study(
        {(f"v{i}",): seeds for i, seeds in enumerate(arms)},
        {"norm": [f"v{i}" for i in range(len(arms))]},
        ["v0"],
    )
    said = conclusions(study)
    verdicts = {c.arm: c for c in compare(study.observations("mAP"), "a0").comparisons}
    established = {arm for c in said if c.certainty == "established" for arm in c.arms}
    assert established == {k for k, c in verdicts.items() if c.verdict in ("better", "worse")}
    failed = {arm for c in said if c.certainty == "failed" for arm in c.arms}
    assert failed == {k for k, c in verdicts.items() if c.failed}
    assert {arm for c in said for arm in c.arms} >= verdicts.keys() - {"a0"}
    for c in said:
        assert c.text.endswith(".")
        assert "None" not in c.text
        assert "nan" not in c.text
        assert not re.search(r"\b1 seeds|\b[2-9]\d* seed\b|\b0 seed\b", c.text)
