"""Every arm of a study against its baseline, at the level that its plan asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from dashboards.inference import LEVEL, MISS, Inference, Levels, compare, look_levels
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
    goal: Literal["max", "min"] = "min" if target.goal == "min" else "max"
    return against_baseline(study, target.name, goal, target.min_effect)
