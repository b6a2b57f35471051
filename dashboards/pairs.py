"""Arms that differ in one axis or in two and in nothing else, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from dashboards.arms import is_repeated, levels_of
from dashboards.average import mean
from dashboards.digits import places
from dashboards.inference import LEVEL, MISS, Comparison, Levels, Observation
from dashboards.inference.contrasts import Contrast, contrasts
from dashboards.metrics import describe
from dashboards.outcomes import FAILED, OPEN
from dashboards.study import ABSENT, Arm, Axis, Study

Goal = Literal["max", "min"]
T = TypeVar("T")


class Draft(Protocol):
    """What is going to be told of a contrast."""

    @property
    def contrast(self) -> Contrast: ...


D = TypeVar("D", bound=Draft)


@dataclass(frozen=True)
class Subject:
    """A study with the metric that is asked about."""

    study: Study
    metric: str
    goal: Goal
    min_effect: float | None
    digits: int
    observations: tuple[Observation, ...]
    values: Mapping[str, Mapping[int, float]]  # by arm and seed

    def seeds(self, *arms: str) -> set[int]:
        """Those in which every one of `arms` has a value."""
        return set.intersection(*(set(self.values[arm]) for arm in arms))

    def mean(self, arm: str) -> float | None:
        return mean(list(self.values[arm].values()))

    def failed(self, arm: str) -> bool:
        """All its cells are settled, and none has converged."""
        return all(cell.outcome in FAILED for cell in self.study.arm(arm).cells)

    def waits(self, *arms: str) -> bool:
        """For a result of theirs, or for seeds that they may still get."""
        if not self.study.growing.isdisjoint(arms):
            return True
        cells = (cell for arm in arms for cell in self.study.arm(arm).cells)
        return any(cell.outcome in OPEN for cell in cells)

    def judge(self, asked: Sequence[Contrast], single: bool = False) -> tuple[Comparison, ...]:
        """At the levels of the table of arms, for all its looks; `single`: at 95 % for each alone.
        Where looks are repeated there is no p, as there is none for arms."""
        levels = Levels(LEVEL, MISS) if single else levels_of(self.study)
        found = contrasts(
            self.observations,
            asked,
            goal=self.goal,
            min_effect=self.min_effect,
            level=levels.level,
            miss=levels.miss,
            variances=self.study.target.variances,
            single=single,
        )
        return tuple(replace(c, p=None) for c in found) if is_repeated(self.study) else found

    def judge_each(
        self, drafts: Sequence[D], is_told: Callable[[D], bool]
    ) -> list[tuple[D, Comparison | None]]:
        """Each of `drafts` with what is found of its contrast; of those that are not told nothing
        is asked, so that they cost the family nothing."""
        asked = [draft for draft in drafts if is_told(draft)]
        made = self.judge([draft.contrast for draft in asked])
        found = dict(zip(map(id, asked), made, strict=True))
        return [(draft, found.get(id(draft))) for draft in drafts]

    def number(self, value: float, half: float | None = None) -> str:
        """`+0.041 ± 0.006`, with as many digits as the metric has and the uncertainty needs; they
        are those of tables and sentences too (`dashboards.digits`)."""
        digits = self.digits
        if half:
            digits = max(digits, min(9, -math.floor(math.log10(half))))
            digits = places(digits, value - half, value + half, self.min_effect)
        return f"{value:+.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in one axis. `difference` is that of `arm` to `other`; `half` the
    half-width of its interval at 95 %, for this pair alone: of a pair no claim is made.

    `standing`: better, worse, equal (by the difference, whatever its noise), `only the level
    failed`, `only the other failed`, `both failed`: no cell of an arm converged; `no result yet`:
    no seed has a value in both.
    """

    arm: str
    other: str
    context: Mapping[str, str]  # the levels of the other axes
    seeds: int  # with a value in both
    difference: float | None = None
    half: float | None = None
    standing: str = "no result yet"


@dataclass(frozen=True)
class Four:
    """Arms by the levels of two axes: `arms[i][j]` has level i of one and level j of the other, 0
    being what it is compared against."""

    arms: tuple[tuple[str, str], tuple[str, str]]
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, str, str, str]:
        return (*self.arms[0], *self.arms[1])


def subject_of(study: Study, metric: str | None) -> Subject:
    """Raises ValueError for a metric that no cell has."""
    name = metric or study.target.name
    have = sorted({key for cell in study.cells for key in cell.metrics})
    if name != study.target.name and name not in have:
        raise ValueError(f"unknown metric {name!r}; choices: {', '.join(have) or 'none yet'}")
    known, is_target = describe(name), name == study.target.name
    return Subject(
        study,
        name,
        study.target.goal if is_target else known.goal,
        study.target.min_effect if is_target else None,
        known.digits,
        tuple(study.observations(name)),
        {
            arm.key: {c.seed: v for c in arm.cells if (v := c.value(name)) is not None}
            for arm in study.arms
        },
    )


def against(axis: Axis) -> str | None:
    """The level that the others of an axis are compared with: the baseline's, or the first."""
    if axis.baseline is not None and axis.baseline != ABSENT:
        return axis.baseline
    return next((level for level in axis.levels if level != ABSENT), None)


def others(axis: Axis) -> Iterator[str]:
    yield from (level for level in axis.levels if level not in (against(axis), ABSENT))


def pairs_of(study: Study, axis: Axis, level: str) -> list[Pair]:
    """All arms with `level`, each with the arm that has the axis' baseline level instead."""
    found = []
    for arm in study.arms:
        if arm.levels.get(axis.name) == level:
            other = study.by_levels.get(_turned(arm, {axis.name: str(against(axis))}))
            if other is not None:
                found.append(Pair(arm.key, other.key, _context(arm, axis.name), 0))
    return found


def fours_of(study: Study, one: Axis, level: str, two: Axis, at: str) -> list[Four]:
    first, second = str(against(one)), str(against(two))
    by_levels, found = study.by_levels, []
    for arm in study.arms:
        if arm.levels.get(one.name) == level and arm.levels.get(two.name) == at:
            (a, b), (c, d) = [
                [by_levels.get(_turned(arm, {one.name: i, two.name: j})) for j in (second, at)]
                for i in (first, level)
            ]
            if a and b and c and d:
                keys = ((a.key, b.key), (c.key, d.key))
                found.append(Four(keys, _context(arm, one.name, two.name)))
    return found


def judged(subject: Subject, pairs: Sequence[Pair]) -> list[Pair]:
    """`pairs` with what is known of them. Differences are least squares', as in the table of arms:
    the means of seeds in common, where no cell is missing."""
    asked, told = [], []
    for pair in pairs:
        seeds = subject.seeds(pair.arm, pair.other)
        if seeds:
            asked.append(Contrast("", {pair.arm: 1.0, pair.other: -1.0}, len(seeds)))
            told.append(pair)
    made = dict(zip(map(id, told), subject.judge(asked, single=True), strict=True))
    return [_stands(subject, pair, made.get(id(pair))) for pair in pairs]


def compared(of: Sequence[T], seeds: Callable[[T], int]) -> tuple[list[T], int]:
    """Those of `of` that a claim can be about, and how many seeds each of them has at least: what
    has one seed is left out, unless nothing has two, as with one seed nothing is claimed."""
    most = max(map(seeds, of), default=0)
    told = [one for one in of if seeds(one) >= min(most, 2) > 0]
    return told, min(map(seeds, told), default=0)


def left_out(number: int, what: str) -> str:
    """`1 pair with one seed is left out`; empty for none."""
    if not number:
        return ""
    return (
        f"{number} {what}{' with one seed is' if number == 1 else 's with one seed are'} left out"
    )


def half_of(found: Comparison) -> float | None:
    if found.difference is None or found.high is None:
        return None
    return found.high - found.difference


def numbers_of(found: Comparison | None) -> dict[str, Any]:
    """The fields that an effect and an interaction take from what was found."""
    if found is None:
        names = ("difference", "half", "low", "high", "p", "more")
        return dict.fromkeys(names) | {"small": False}
    names = ("difference", "low", "high", "p", "more", "small")
    return {name: getattr(found, name) for name in names} | {"half": half_of(found)}


def verdict_words(found: Comparison | None, why: str) -> str:
    """What the numbers of a difference do not say by themselves."""
    if found is None or (found.verdict in ("better", "worse") and not found.small):
        return ""
    if found.verdict == "open" and why:
        return f"open ({why})"
    return replace(found, failed=0).words  # which pairs failed is told beside it


def _stands(subject: Subject, pair: Pair, found: Comparison | None) -> Pair:
    if found is None or found.difference is None:
        level, other = subject.failed(pair.arm), subject.failed(pair.other)
        standing = "no result yet"
        if level and other:
            standing = "both failed"
        elif level and subject.values[pair.other]:
            standing = "only the level failed"
        elif other and subject.values[pair.arm]:
            standing = "only the other failed"
        return Pair(pair.arm, pair.other, pair.context, 0, standing=standing)
    size = max(abs(v) for arm in (pair.arm, pair.other) for v in subject.values[arm].values())
    difference, standing = found.difference, "equal"
    if abs(difference) > 1e-9 * size:  # what is left by rounding is nothing
        standing = "better" if (difference > 0) == (subject.goal == "max") else "worse"
    return Pair(
        pair.arm, pair.other, pair.context, found.pairs, difference, half_of(found), standing
    )


def _turned(arm: Arm, levels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset({**arm.levels, **levels}.items())


def _context(arm: Arm, *without: str) -> dict[str, str]:
    return {name: level for name, level in arm.levels.items() if name not in without}
