"""Every arm of a study against its baseline, at the level that its plan asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from dashboards.inference import LEVEL, MISS, Inference, Levels, compare, look_levels
from dashboards.inference.verdicts import Verdict
from dashboards.study import Study


def levels_of(study: Study) -> Levels:
    """At which a claim is made, and a miss risked: nominal ones, which keep the error rates over
    all looks where arms are looked at again as seeds are added.

    They are found for the family of arms. Effects and interactions share its noise; theirs differ
    in their number and correlations, which move the level of six looks by less than a twentieth.
    """
    return look_levels(max(len(study.arms) - 1, 1), study.looks)


def is_repeated(study: Study) -> bool:
    """Whether there is more than one look at which something can be told."""
    return sum(n > 1 for n in study.looks) > 1


def against_baseline(
    study: Study, metric: str, goal: Literal["max", "min"], min_effect: float | None
) -> Inference | None:
    """None for a study without a baseline, or whose baseline has no cells. Where arms are looked at
    again and again the interval is wide enough to hold at all looks at once, `level` and `miss` are
    those of all looks, and there is no `p`: one look's would not be adjusted for the others."""
    if study.baseline is None or not study.arm(study.baseline).cells:
        return None
    levels = levels_of(study)
    found = compare(
        study.observations(metric),
        study.baseline,
        goal=goal,
        min_effect=min_effect,
        variances=study.target.variances,
        level=levels.level,
        miss=levels.miss,
        growing=study.growing,
    )
    arms = found.comparisons
    if is_repeated(study):
        arms = tuple(replace(arm, p=None) for arm in arms)
    return replace(found, comparisons=arms, level=LEVEL, miss=MISS)


def on_target(study: Study) -> Inference | None:
    """On the metric that the sweep decides by."""
    target = study.target
    return against_baseline(study, target.name, target.goal, target.min_effect)


def told_otherwise(study: Study, found: Inference) -> Iterator[str]:
    """Where an arm's seeds were ended by a verdict that it does not have in the table. Both hold:
    all intervals, at every look, hold at once."""
    names: tuple[Verdict, ...] = ("better", "worse", "not separable")
    for decided in study.decisions:
        arm = study.arm(decided.arm)
        was = next((name for name in names if decided.verdict.startswith(name)), None)
        now = found[arm.key].verdict
        if not decided.ended or was is None or now == was:
            continue
        text = f"{arm.label or arm.key} was decided {was} after {decided.seeds} seeds"
        if decided.difference is not None and decided.low is not None and decided.high is not None:
            level = f"{1 - found.level:.0%} interval {decided.low:+.3g} to {decided.high:+.3g}"
            text += f" ({study.target.name} {decided.difference:+.3g}, {level})"
        yield (
            f"{text}, and got no more; the table, with the seeds that other arms got since, says "
            f"{now}. Intervals hold for all looks together: what was decided stands"
        )
