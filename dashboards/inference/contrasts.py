"""Other questions to the same cells than arm against baseline: sums over the arms' means, such as
what a level does on average over the pairs of arms that differ in nothing else.

The model, the noise and the error rates are those of `verdicts`: least squares with seeds as
blocks, one variance unless a test says otherwise, at most 5 % of families with any false claim. The
intervals of a family hold at once. Where its correlations are those of several comparisons with one
thing (one factor, l_i l_j; nearly so with cells missing) the critical value is Dunnett's. Otherwise
it is that of as many comparisons without correlation, the studentized maximum modulus, which is
exact for the effects of a balanced two-level design and covers any other correlations (Sidak 1967,
JASA 62:626; Hochberg 1974, J. Multivariate Analysis 4:224).

Arms and their number are taken as they are: an interval says what the noise between seeds leaves
open, and nothing of other arms than those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dashboards.inference.critical import Array
from dashboards.inference.fit import Layout, fit
from dashboards.inference.variances import Variances, spread
from dashboards.inference.verdicts import (
    LEVEL,
    MISS,
    NO_NOISE,
    ONE_SEED,
    Comparison,
    Observation,
    Rule,
    value_of,
    waits,
)
from dashboards.outcomes import FAILED, SETTLED

NEAR = 0.05
"""Correlations so near to those of one factor have its critical value: that of cells with some
missing."""


@dataclass(frozen=True)
class Contrast:
    """A sum over arms, with `weights` that sum to 0.

    `seeds`: in how many of them it is seen; with one nothing is claimed. No weights: it cannot be
    estimated (yet), but counts as one of its family. `waits`: more of what it is about will come,
    beyond the cells of its arms.
    """

    name: str
    weights: Mapping[str, float]
    seeds: int
    waits: bool = False


def contrasts(
    observations: Iterable[Observation],
    asked: Sequence[Contrast],
    *,
    goal: Literal["max", "min"] = "max",
    min_effect: float | None = None,
    level: float = LEVEL,
    miss: float = MISS,
    variances: Variances = "auto",
    single: bool = False,
) -> tuple[Comparison, ...]:
    """Of each of `asked` its estimate, interval and verdict, as the comparison of an arm has them;
    `planned`, `settled`, `n` and `failed` count the cells of its arms, `pairs` is its `seeds`.
    `single`: each interval is for itself, not for the family, and no claim."""
    cells: dict[str, dict[int, Observation]] = {}
    for o in observations:
        cells.setdefault(o.arm, {})[o.seed] = o
    arms = list(cells)
    seeds = sorted({seed for of_arm in cells.values() for seed in of_arm})
    values = np.array([[value_of(cells[arm].get(seed)) for seed in seeds] for arm in arms])
    told = [one for one in asked if one.weights]
    if not told:
        return tuple(_untold(one, cells) for one in asked)
    column = {arm: i for i, arm in enumerate(arms)}
    weights = np.zeros((len(told), len(arms)))
    for row, one in zip(weights, told, strict=True):
        for arm, weight in one.weights.items():
            if arm in column:
                row[column[arm]] = weight
    found = fit(values.reshape(len(arms), len(seeds)), weights)
    spreads = spread(found, variances)
    loads = (0.0,) if single else _loads(found.layout, len(asked))
    rule = Rule(loads, level, miss, min_effect, goal)
    out: dict[int, Comparison] = {}
    for j, one in enumerate(told):
        plain = replace(_plain(one, cells), difference=float(found.difference[j]))
        if one.seeds < 2 or not found.layout.df > 0:
            made = replace(plain, verdict="open", why=ONE_SEED)
        elif not found.variance > 0:
            made = replace(plain, verdict="open", why=NO_NOISE)
        else:
            made = rule.decide(plain, found.difference[j], spreads.errors[j], spreads.dfs[j])
            done = not (one.waits or waits(cells, *one.weights))
            if made.verdict == "open" and min_effect is None and done:
                made = replace(made, verdict="not separable", more=None)
        out[id(one)] = made
    return tuple(out[id(one)] if one.weights else _untold(one, cells) for one in asked)


def _loads(layout: Layout, family: int) -> tuple[float, ...]:
    """One factor's where the family has them, else none; see above."""
    factor = np.asarray(layout.loads)
    again = np.abs(np.tril(layout.correlation, -1)).max(1) > 1 - 1e-9  # as in a fraction
    family -= int(again.sum())
    off = ~np.eye(len(factor), dtype=bool)
    one: Array = np.outer(factor, factor)[off] - layout.correlation[off]
    if len(factor) == family and np.abs(one).max(initial=0.0) < NEAR:
        return layout.loads
    return (0.0,) * family


def _untold(one: Contrast, cells: Mapping[str, Mapping[int, Observation]]) -> Comparison:
    return replace(_plain(one, cells), verdict="open", why="no seed has a value in all of its arms")


def _plain(one: Contrast, cells: Mapping[str, Mapping[int, Observation]]) -> Comparison:
    of_arms = [cell for arm in one.weights for cell in cells[arm].values()]
    return Comparison(
        one.name,
        planned=len(of_arms),
        settled=sum(cell.outcome in SETTLED for cell in of_arms),
        n=sum(not np.isnan(value_of(cell)) for cell in of_arms),
        failed=sum(cell.outcome in FAILED for cell in of_arms),
        mean=None,
        sd=None,
        pairs=one.seeds,
    )
