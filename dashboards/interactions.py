"""By how much the effect of a level depends on the level of another axis.

Differences of differences of arm means, in the model of the table. The intervals of all
interactions of a sweep hold at once at 95 %, as those of its effects do (`dashboards.effects`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

from dashboards import average
from dashboards.aliases import (
    Fraction,
    confounded,
    ends,
    fractions,
    over_runs,
    runs_of,
    why_open,
)
from dashboards.effects import Basis
from dashboards.inference import Comparison
from dashboards.inference.contrasts import Contrast
from dashboards.pairs import (
    Four,
    Subject,
    against,
    compared,
    fours_of,
    half_of,
    left_out,
    numbers_of,
    others,
    subject_of,
    verdict_words,
)
from dashboards.study import Axis, Study

Means = tuple[tuple[float | None, float | None], tuple[float | None, float | None]]


@dataclass(frozen=True)
class Interaction:
    """By how much the effect of a level depends on the level of another axis: `difference` is the
    effect at `by_level` less the effect at `by_against`, over `contexts` (of `planned`) in which
    all four arms have a value of two seeds, or of one where that is so nowhere; for a fraction
    these count its runs. `seeds`: how many each context has at least.

    `means`: of the level compared against and of `level`, each at `by_against` and `by_level`, over
    those contexts; plain ones, so that with cells missing `difference`, by least squares, is not
    exactly theirs.
    """

    axis: str
    level: str
    against: str
    by_axis: str
    by_level: str
    by_against: str
    metric: str
    basis: Basis
    planned: int
    contexts: int
    means: Means
    seeds: int
    difference: float | None
    half: float | None
    low: float | None
    high: float | None
    p: float | None  # adjusted for the number of interactions
    verdict: Literal["depends", "not separable", "open"]
    more: int | None
    why: str
    small: bool
    aliased: tuple[str, ...]
    warning: str
    words: str


def interactions(study: Study, metric: str | None = None) -> list[Interaction]:
    """For every two axes every two levels but the baseline's, where all four arms are planned or a
    fraction varies both. Raises ValueError for an unknown metric."""
    subject = subject_of(study, metric)
    crossed = _crossed_drafts(subject) + _fraction_crossed_drafts(subject)
    told = subject.judge_each(crossed, lambda draft: not draft.never)
    return [_interaction(subject, draft, found) for draft, found in told]


@dataclass(frozen=True)
class _Crossed:
    one: Axis
    level: str
    two: Axis
    at: str
    against: str
    by_against: str
    contrast: Contrast
    planned: int
    there: int
    groups: tuple[tuple[tuple[str, ...], tuple[str, ...]], tuple[tuple[str, ...], tuple[str, ...]]]
    fraction: Fraction | None = None
    left_out: str = ""
    never: str = ""  # why nothing is ever to be estimated


def _crossed_drafts(subject: Subject) -> list[_Crossed]:
    drafts = []
    for one, two in itertools.combinations(subject.study.axes, 2):
        for level, at in itertools.product(others(one), others(two)):
            fours = fours_of(subject.study, one, level, two, at)
            if not fours:
                continue
            told, seeds = compared(fours, lambda four: len(subject.seeds(*four.keys)))
            waits = subject.waits(*(key for four in fours for key in four.keys))
            contrast = Contrast("", _crossed_weights(told), seeds, waits)
            groups = _grouped(told)
            some = sum(bool(subject.seeds(*four.keys)) for four in fours)
            remark = left_out(some - len(told), "context")
            name = (one, level, two, at, str(against(one)), str(against(two)))
            counts = (len(fours), len(told))
            never = _never(subject, fours)
            drafts.append(_Crossed(*name, contrast, *counts, groups, None, remark, never))
    return drafts


def _never(subject: Subject, fours: list[Four]) -> str:
    """Of interactions in whose every context an arm has failed for good: as with effects, they are
    not estimated, and cost the others nothing."""
    failed = [[key for key in four.keys if subject.failed(key)] for four in fours]
    if not all(failed):
        return ""
    keys = list(dict.fromkeys(keys[0] for keys in failed))
    arms = subject.study.arm(keys[0]).label or keys[0]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"cannot be estimated: {arms}{more} never converged"


def _crossed_weights(told: list[Four]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for four in told:
        for key, sign in zip(four.keys, (1, -1, -1, 1), strict=True):
            weights[key] = weights.get(key, 0.0) + sign / len(told)
    return weights


def _grouped(told: list[Four]) -> Any:
    return tuple(tuple(tuple(f.arms[i][j] for f in told) for j in (0, 1)) for i in (0, 1))


def _fraction_crossed_drafts(subject: Subject) -> list[_Crossed]:
    drafts = []
    for fraction in fractions(subject.study):
        runs = runs_of(subject.study, fraction)
        axes = [axis for axis in subject.study.axes if axis.name in fraction.factors]
        for one, two in itertools.combinations(axes, 2):
            level, compared, turn = ends(one, fraction)
            at, by, turn_by = ends(two, fraction)
            signs = {a: (turn * of[one.name], turn_by * of[two.name]) for a, of in runs.items()}
            products = {arm: i * j for arm, (i, j) in signs.items()}
            contrast = over_runs(subject, fraction, products, 4 / max(len(runs), 1))
            groups: Any = tuple(
                tuple(tuple(a for a, s in signs.items() if s == (i, j)) for j in (-1, 1))
                for i in (-1, 1)
            )
            there = sum(bool(subject.values[arm]) for arm in runs)
            name = (one, level, two, at, compared, by)
            drafts.append(_Crossed(*name, contrast, fraction.runs, there, groups, fraction))
    return drafts


def _interaction(subject: Subject, draft: _Crossed, found: Comparison | None) -> Interaction:
    (a, b), (c, d) = (tuple(_mean(subject, arms) for arms in row) for row in draft.groups)
    aliased, warning = confounded(draft.fraction, draft.one.name, draft.two.name)
    warning = warning or draft.left_out
    why = draft.never or why_open(draft.fraction, draft.contrast, found)
    verdict: Literal["depends", "not separable", "open"] = "open"
    if found is not None and found.verdict in ("better", "worse"):
        verdict = "depends"
    elif found is not None and found.verdict == "not separable":
        verdict = "not separable"
    what, by = f"the effect of {draft.one.name}={draft.level}", draft.two.name
    text = {
        "depends": f"{what} depends on {by}",
        "not separable": f"{what} is not seen to depend on {by}",
        "open": f"whether {what} depends on {by} is open",
    }[verdict]
    simple = simple_effects(((a, b), (c, d)), found.difference if found else None)
    if simple is not None:
        at = dict(zip((draft.by_against, draft.at), simple, strict=True))
        text += f": {', '.join(f'{subject.number(v)} at {name}' for name, v in at.items())}"
    if found is not None and found.difference is not None:
        text += f", a difference of {subject.number(found.difference, half_of(found))}"
    tail = "by less than matters" if found is not None and found.small else draft.never
    if verdict == "open" and found is not None:  # `open (needs about 3 more seeds)`
        tail = verdict_words(found, why).removeprefix("open (").removesuffix(")")
    return Interaction(
        draft.one.name,
        draft.level,
        draft.against,
        draft.two.name,
        draft.at,
        draft.by_against,
        subject.metric,
        "fraction" if draft.fraction else "pairs",
        draft.planned,
        draft.there,
        ((a, b), (c, d)),
        draft.contrast.seeds,
        **numbers_of(found),
        verdict=verdict,
        why=why,
        aliased=aliased,
        warning=warning,
        words="; ".join(part for part in (text, tail, warning) if part),
    )


def simple_effects(means: Means, difference: float | None) -> tuple[float, float] | None:
    """What the level does at `by_against` and at `by_level`, by plain means; None where these are
    not the numbers that `difference` is made of, which is so where cells are missing."""
    (a, b), (c, d) = means
    if a is None or b is None or c is None or d is None or difference is None:
        return None
    same = abs((d - b) - (c - a) - difference) <= 1e-9 * max(map(abs, (a, b, c, d)))
    return (c - a, d - b) if same else None


def _mean(subject: Subject, arms: tuple[str, ...]) -> float | None:
    means = [mean for arm in arms if (mean := subject.mean(arm)) is not None]
    return average.mean(means) if len(means) == len(arms) else None
