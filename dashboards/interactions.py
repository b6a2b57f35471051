"""By how much the effect of a level depends on the level of another axis.

Differences of differences of arm means, in the model of the table. The intervals of all
interactions of a sweep hold at once at 95 %, as those of its effects do (`dashboards.effects`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

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
    fours_of,
    half_of,
    numbers_of,
    others,
    subject_of,
    verdict_words,
)
from dashboards.study import Axis, Study


@dataclass(frozen=True)
class Interaction:
    """By how much the effect of a level depends on the level of another axis: `difference` is the
    effect at `by_level` less the effect at `by_against`, over `contexts` in which all four arms
    have a value of some seed (of `planned`); for a fraction these count its runs.

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
    means: tuple[tuple[float | None, float | None], tuple[float | None, float | None]]
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
    found = subject.judge([d.contrast for d in crossed])
    return [_interaction(subject, d, made) for d, made in zip(crossed, found, strict=True)]


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


def _crossed_drafts(subject: Subject) -> list[_Crossed]:
    drafts = []
    for one, two in itertools.combinations(subject.study.axes, 2):
        for level, at in itertools.product(others(one), others(two)):
            fours = fours_of(subject.study, one, level, two, at)
            if not fours:
                continue
            told = [four for four in fours if subject.seeds(*four.keys)]
            seeds = set().union(*(subject.seeds(*four.keys) for four in told))
            waits = subject.waits(*(key for four in fours for key in four.keys))
            contrast = Contrast("", _crossed_weights(told), len(seeds), waits)
            groups = _grouped(told)
            name = (one, level, two, at, str(against(one)), str(against(two)))
            drafts.append(_Crossed(*name, contrast, len(fours), len(told), groups))
    return drafts


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


def _interaction(subject: Subject, draft: _Crossed, found: Comparison) -> Interaction:
    (a, b), (c, d) = (tuple(_mean(subject, arms) for arms in row) for row in draft.groups)
    aliased, warning = confounded(draft.fraction, draft.one.name, draft.two.name)
    why = why_open(draft.fraction, draft.contrast, found)
    verdict: Literal["depends", "not separable", "open"] = "open"
    if found.verdict in ("better", "worse"):
        verdict = "depends"
    elif found.verdict == "not separable":
        verdict = "not separable"
    what, by = f"the effect of {draft.one.name}={draft.level}", draft.two.name
    text = {
        "depends": f"{what} depends on {by}",
        "not separable": f"{what} is not seen to depend on {by}",
        "open": f"whether {what} depends on {by} is open",
    }[verdict]
    if a is not None and b is not None and c is not None and d is not None:
        at = {draft.by_against: c - a, draft.at: d - b}
        text += f": {', '.join(f'{subject.number(v)} at {name}' for name, v in at.items())}"
    if found.difference is not None:
        text += f", a difference of {subject.number(found.difference, half_of(found))}"
    tail = "by less than matters" if found.small else ""
    if verdict == "open":  # `open (needs about 3 more seeds)`
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


def _mean(subject: Subject, arms: tuple[str, ...]) -> float | None:
    means = [mean for arm in arms if (mean := subject.mean(arm)) is not None]
    return sum(means) / len(means) if means and len(means) == len(arms) else None
