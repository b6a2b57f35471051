"""What a level of an axis does, over all pairs of arms that differ in nothing else.

Effects are contrasts of arm means in the model of the table (`inference.fit`: arm + seed + noise).
The intervals of all effects of a sweep hold at once at 95 % (`inference.contrasts` says how). They
tell what the noise between seeds leaves open for the pairs that there are, and nothing of pairs
that were not tried. That two arms' noise of one seed is independent, once the seed itself is taken
out, is assumed: what a level does to a seed in all of its arms alike is not in that noise.

A fractional design has no such pairs. There an effect is the mean over the runs with the one level
less that over the runs with the other, and stands beside what it cannot be told apart from.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dashboards.aliases import (
    Fraction,
    confounded,
    ends,
    fractions,
    over_runs,
    runs_of,
    why_open,
)
from dashboards.inference import Comparison
from dashboards.inference.contrasts import Contrast
from dashboards.inference.verdicts import Verdict
from dashboards.pairs import (
    Pair,
    Subject,
    against,
    compared,
    half_of,
    judged,
    left_out,
    numbers_of,
    others,
    pairs_of,
    subject_of,
    verdict_words,
)
from dashboards.study import Study
from dashboards.wording import count

Basis = Literal["pairs", "fraction"]


@dataclass(frozen=True)
class Effect:
    """`level` of an axis against another one; differences are level - against in the metric's unit,
    None where nothing can be said. `half` is the half-width of the interval from `low` to `high`.

    `pairs` have a value of some seed in both arms, of `planned` ones; they are better, worse or
    equal. The difference is over those that have two such seeds, or over all where none has;
    `seeds`: how many each of them has at least. Of the rest, in `only_level_failed` the level's arm
    never converged and the other did. For a fraction, which has no pairs, these are 0 and `planned`
    and `pairs` count its runs.
    `level_failed` and `other_failed`: seeds of pairs in which the one cell converged and the other
    is settled and did not.
    """

    axis: str
    level: str
    against: str
    metric: str
    basis: Basis
    planned: int
    pairs: int
    better: int
    worse: int
    equal: int
    only_level_failed: int
    only_other_failed: int
    both_failed: int
    level_failed: int
    other_failed: int
    seeds: int
    difference: float | None
    half: float | None
    low: float | None
    high: float | None
    p: float | None  # adjusted for the number of effects
    verdict: Verdict
    more: int | None
    why: str
    small: bool
    aliased: tuple[str, ...]
    warning: str
    words: str
    rows: tuple[Pair, ...]


def axis_effects(study: Study, metric: str | None = None) -> list[Effect]:
    """For every axis every level but the baseline's (without a baseline, but the first) for which
    there are pairs or a fraction. Raises ValueError for an unknown metric."""
    subject = subject_of(study, metric)
    drafts = _pair_drafts(subject) + _fraction_drafts(subject)
    told = subject.judge_each(drafts, lambda draft: not _hopeless(subject, draft))
    return [_effect(subject, draft, found) for draft, found in told]


@dataclass(frozen=True)
class _Draft:
    axis: str
    level: str
    against: str
    contrast: Contrast
    planned: int
    there: int
    rows: tuple[Pair, ...] = ()
    fraction: Fraction | None = None
    left_out: str = ""


def _pair_drafts(subject: Subject) -> list[_Draft]:
    levels = [(axis, level) for axis in subject.study.axes for level in others(axis)]
    every = [(axis, level, pairs_of(subject.study, axis, level)) for axis, level in levels]
    rows = iter(judged(subject, [pair for *_, pairs in every for pair in pairs]))
    drafts = []
    for axis, level, planned in every:
        pairs = tuple(itertools.islice(rows, len(planned)))
        if not pairs:
            continue
        told, seeds = compared(pairs, lambda pair: pair.seeds)
        weights = {pair.arm: 1 / len(told) for pair in told}
        for pair in told:
            weights[pair.other] = -1 / len(told)  # an arm has one level: it is in one pair
        waits = subject.waits(*(arm for pair in pairs for arm in (pair.arm, pair.other)))
        contrast = Contrast(f"{axis.name}={level}", weights, seeds, waits)
        name = (axis.name, level, str(against(axis)))
        there = sum(pair.seeds > 0 for pair in pairs)
        remark = left_out(there - len(told), "pair")
        drafts.append(_Draft(*name, contrast, len(pairs), there, rows=pairs, left_out=remark))
    return drafts


def _hopeless(subject: Subject, draft: _Draft) -> bool:
    """All cells with the level are settled and none has converged: nothing is to be estimated."""
    return bool(draft.rows) and all(subject.failed(pair.arm) for pair in draft.rows)


def _fraction_drafts(subject: Subject) -> list[_Draft]:
    drafts = []
    for fraction in fractions(subject.study):
        runs = runs_of(subject.study, fraction)
        for axis in subject.study.axes:
            if axis.name not in fraction.factors:
                continue
            level, compared, turn = ends(axis, fraction)
            signs = {arm: turn * of[axis.name] for arm, of in runs.items()}
            contrast = over_runs(subject, fraction, signs, 2 / max(len(runs), 1))
            there = sum(bool(subject.values[arm]) for arm in runs)
            name = (axis.name, level, compared)
            drafts.append(_Draft(*name, contrast, fraction.runs, there, fraction=fraction))
    return drafts


def _effect(subject: Subject, draft: _Draft, found: Comparison | None) -> Effect:
    standings = Counter(pair.standing for pair in draft.rows)
    level_failed, other_failed = _failed_seeds(subject, draft.rows)
    verdict: Verdict = "did not converge"
    if found is not None:
        verdict = found.verdict or "open"
    aliased, warning = confounded(draft.fraction, draft.axis)
    warning = warning or draft.left_out
    why = why_open(draft.fraction, draft.contrast, found)
    return Effect(
        draft.axis,
        draft.level,
        draft.against,
        subject.metric,
        "fraction" if draft.fraction else "pairs",
        draft.planned,
        draft.there,
        standings["better"],
        standings["worse"],
        standings["equal"],
        standings["only the level failed"],
        standings["only the other failed"],
        standings["both failed"],
        level_failed,
        other_failed,
        draft.contrast.seeds,
        **numbers_of(found),
        verdict=verdict,
        why=why,
        aliased=aliased,
        warning=warning,
        words=_words(subject, draft, found, standings, why, warning),
        rows=draft.rows,
    )


def _failed_seeds(subject: Subject, pairs: tuple[Pair, ...]) -> tuple[int, int]:
    failed = {
        arm.key: {c.seed for c in arm.cells if c.settled and c.outcome != "converged"}
        for arm in subject.study.arms
    }
    converged = {
        arm.key: {c.seed for c in arm.cells if c.outcome == "converged"}
        for arm in subject.study.arms
    }
    return (
        sum(len(failed[p.arm] & converged[p.other]) for p in pairs),
        sum(len(failed[p.other] & converged[p.arm]) for p in pairs),
    )


def _words(
    subject: Subject,
    draft: _Draft,
    found: Comparison | None,
    standings: Mapping[str, int],
    why: str,
    warning: str,
) -> str:
    """`giou: better in 6 of 6 pairs, +0.041 ± 0.006`."""
    parts = []
    claim = found.verdict if found is not None else None
    if draft.there and draft.rows:
        way = "better" if standings["better"] >= standings["worse"] else "worse"
        most = f"{way} in {standings[way]} of {count(draft.there, 'pair')}"
        opposed = claim in ("better", "worse") and claim != way
        parts.append(f"on average {claim}, though {most}" if opposed else most)
    elif claim in ("better", "worse"):
        parts.append(claim)
    if found is not None and found.difference is not None:
        number = subject.number(found.difference, half_of(found))
        runs = f" over {draft.planned} runs" if draft.fraction else ""
        parts.append(number + runs)
    failures = {
        "only the level failed": f"only {draft.level} did not converge",
        "only the other failed": f"only {draft.against} did not converge",
        "both failed": "neither converged",
    }
    for standing, what in failures.items():
        if standings[standing]:
            parts.append(f"in {count(standings[standing], 'pair')} {what}")
    untold = [pair for pair in draft.rows if pair.standing == "no result yet"]
    waits = sum(subject.waits(pair.arm, pair.other) for pair in untold)
    for pairs, reason in (
        (waits, "there is no result yet"),
        (len(untold) - waits, "no seed has a value in both arms"),
    ):
        if pairs:
            parts.append(f"in {count(pairs, 'pair')} {reason}")
    text = f"{draft.level}: {', '.join(parts) or 'no result yet'}"
    verdict = verdict_words(found, why)
    return "; ".join(part for part in (text, verdict, warning) if part)
