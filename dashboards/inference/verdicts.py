"""Every arm against the baseline on one metric, with the uncertainty of the difference.

Two error rates are kept, and they are not the same:

- *Better* and *worse* are claims. In a table without any true difference a claim is made in at most
  5 % of tables, however many arms it has: the interval is Dunnett's, many to one, with seeds as
  blocks and one variance for all arms (Dunnett 1955, JASA 50:1096; Hsu 1996, Multiple Comparisons).
- *Not separable* says that a difference of `min_effect` or more would have shown. For each arm with
  such a difference it is said in at most 10 % of cases (two one-sided tests, Schuirmann 1987), the
  90 % power that one would plan for. Without `min_effect` it says only that all seeds are spent.

What is done when the arms' variances differ is said in `variances`. What each choice costs and
saves is simulated in tests/benchmarks/honesty.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from dashboards.inference.critical import EQUAL, Array, critical, within
from dashboards.inference.fit import fit
from dashboards.inference.variances import Variances, spread
from dashboards.outcomes import FAILED, OPEN, SETTLED

LEVEL = 0.05  # P(any false claim in a table)
MISS = 0.10  # P(`not separable` | a difference of min_effect), for each arm

ONE_SEED = "with one seed nothing can be claimed"
NO_NOISE = "its seeds do not vary: nothing tells the noise"

Verdict = Literal["better", "worse", "not separable", "open", "did not converge"]


@dataclass(frozen=True)
class Observation:
    """One planned cell. `outcome`: as in the ledger, or `waiting` or `running`."""

    arm: str
    seed: int
    outcome: str
    value: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline. Differences are arm - baseline, in the metric's unit; None
    where nothing can be said."""

    arm: str
    planned: int  # seeds
    settled: int  # of them with a result
    n: int  # of these with a value: what did not converge has none
    failed: int  # diverged or stalled
    mean: float | None
    sd: float | None  # between seeds
    pairs: int = 0  # seeds in common with the baseline
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None  # adjusted for the number of arms
    verdict: Verdict | None = None  # None: the baseline
    more: int | None = None  # while open: about so many more seeds decide it
    why: str = ""  # while open: why there is no interval
    small: bool = False  # better or worse, and less than min_effect

    @property
    def words(self) -> str:
        """`open (needs about 3 more seeds)`, `better where it converged (2 of 3)`, ..."""
        if self.verdict is None:
            return "baseline"
        if self.verdict == "did not converge":
            return f"did not converge (0 of {self.settled})"
        text: str = self.verdict
        if self.small:
            text += " by less than matters"
        if self.failed and self.n:
            text += f" where it converged ({self.n} of {self.n + self.failed})"
        if self.verdict == "open":
            seeds = "1 more seed" if self.more == 1 else f"{self.more} more seeds"
            return f"{text} ({self.why or f'needs about {seeds}'})"
        return text


@dataclass(frozen=True)
class Inference:
    comparisons: tuple[Comparison, ...]  # in the order in which arms came; the baseline among them
    baseline: str
    variances: Literal["equal", "unequal"]
    level: float
    miss: float
    min_effect: float | None
    noise: float | None  # the standard deviation that seeds leave, pooled
    df: int
    homogeneity: float | None  # p of Bartlett's test

    def __getitem__(self, arm: str) -> Comparison:
        return next(c for c in self.comparisons if c.arm == arm)


def compare(
    observations: Iterable[Observation],
    baseline: str,
    *,
    goal: Literal["max", "min"] = "max",
    min_effect: float | None = None,
    level: float = LEVEL,
    miss: float = MISS,
    variances: Variances = "auto",
    spent: bool | None = None,
    growing: Collection[str] = (),
) -> Inference:
    """Compare each arm with `baseline`, paired by seed. Values count for `converged` cells only.

    An arm has a verdict other than `open` once it has two seeds in common with the baseline: with
    one seed nothing can be claimed. `spent`: no further seeds will come, so that without
    `min_effect` what is open is not separable (None: when no cell waits, for arms that are not
    `growing`: those that may get seeds beyond the cells that there are). Raises ValueError for a
    baseline without cells and for a cell that is there twice.
    """
    cells: dict[str, dict[int, Observation]] = {}
    for o in observations:
        if o.seed in cells.setdefault(o.arm, {}):
            raise ValueError(f"seed {o.seed} of arm {o.arm!r} is there twice")
        cells[o.arm][o.seed] = o
    if baseline not in cells:
        raise ValueError(f"no cells of the baseline {baseline!r}; arms: {', '.join(cells)}")
    arms = [baseline, *(arm for arm in cells if arm != baseline)]
    seeds = sorted({seed for of_arm in cells.values() for seed in of_arm})
    values = np.array([[value_of(cells[arm].get(seed)) for seed in seeds] for arm in arms])
    found = fit(values)
    spreads = spread(found, variances)
    hopeless = [arm for arm in arms[1:] if _hopeless(cells[arm].values())]
    family = max(len(arms) - 1 - len(hopeless), 1)
    loads = (*found.layout.loads, *[EQUAL] * (family - len(found.layout.loads)))
    rule = Rule(loads, level, miss, min_effect, goal)
    out: dict[str, Comparison] = {}
    for i, arm in enumerate(arms):
        pairs = int((~np.isnan(values[i]) & ~np.isnan(values[0])).sum())
        plain = _described(arm, cells[arm].values(), values[i], pairs)
        j = found.layout.tested.index(i) if i in found.layout.tested else None
        if i == 0:
            out[arm] = plain
        elif arm in hopeless:
            out[arm] = replace(plain, verdict="did not converge")
        elif j is None:
            difference = float(np.nanmean(values[i] - values[0])) if pairs else None
            why = ONE_SEED if pairs else "no seed has a value here and in the baseline"
            out[arm] = replace(plain, difference=difference, verdict="open", why=why)
        elif not found.variance > 0:
            difference = float(found.difference[j])
            out[arm] = replace(plain, difference=difference, verdict="open", why=NO_NOISE)
        else:
            made = rule.decide(plain, found.difference[j], spreads.errors[j], spreads.dfs[j])
            done = spent
            if done is None:
                done = arm not in growing and not waits(cells, arm, baseline)
            if made.verdict == "open" and min_effect is None and done:
                made = replace(made, verdict="not separable", more=None)
            out[arm] = made
    return Inference(
        tuple(out[arm] for arm in cells),
        baseline,
        spreads.kind,
        level,
        miss,
        min_effect,
        math.sqrt(found.variance) if found.layout.df > 0 else None,
        found.layout.df,
        spreads.homogeneity,
    )


@dataclass(frozen=True)
class Rule:
    """How a difference with its standard error becomes a verdict."""

    loads: Sequence[float]
    level: float
    miss: float
    min_effect: float | None
    goal: str

    def decide(self, arm: Comparison, difference: float, error: float, df: float) -> Comparison:
        claim = critical(self.loads, df, self.level) * error
        arm = replace(
            arm,
            difference=float(difference),
            low=float(difference - claim),
            high=float(difference + claim),
            p=max(0.0, 1 - within(abs(difference) / error, self.loads, df)),
        )
        size, smallest = abs(difference), self.min_effect
        overlook = -float(special.stdtrit(df, self.miss)) * error
        if size > claim:
            better = (difference > 0) == (self.goal == "max")
            small = smallest is not None and bool(size + claim < smallest)
            return replace(arm, verdict="better" if better else "worse", small=small)
        if smallest is not None and size + overlook < smallest:
            return replace(arm, verdict="not separable")
        # the errors shrink with the root of the seeds: which decision comes first, if the
        # difference is the one seen
        ways = [claim / size] if size else []
        if smallest is not None and size < smallest:
            ways.append(overlook / (smallest - size))
        if not ways:
            return replace(arm, verdict="open", why="no difference at all so far")
        more = max(1, math.ceil(arm.pairs * min(ways) ** 2) - arm.pairs)
        return replace(arm, verdict="open", more=more)


# ---------------------------------------------------------------- cells


def value_of(cell: Observation | None) -> float:
    if cell is None or cell.outcome != "converged" or cell.value is None:
        return math.nan
    return cell.value if math.isfinite(cell.value) else math.nan


def _described(arm: str, cells: Iterable[Observation], values: Array, pairs: int) -> Comparison:
    outcomes = [cell.outcome for cell in cells]
    have = values[~np.isnan(values)]
    return Comparison(
        arm,
        planned=len(outcomes),
        settled=sum(outcome in SETTLED for outcome in outcomes),
        n=len(have),
        failed=sum(outcome in FAILED for outcome in outcomes),
        mean=float(have.mean()) if len(have) else None,
        sd=float(have.std(ddof=1)) if len(have) > 1 else None,
        pairs=pairs,
    )


def _hopeless(cells: Iterable[Observation]) -> bool:
    """All cells are settled and none has converged."""
    return all(cell.outcome in FAILED for cell in cells)


def waits(cells: Mapping[str, Mapping[int, Observation]], *arms: str) -> bool:
    return any(cell.outcome in OPEN for arm in arms for cell in cells[arm].values())
