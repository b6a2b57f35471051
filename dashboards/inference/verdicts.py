"""Every arm against the baseline on one metric, with the uncertainty of the difference.

Two error rates are kept, and they are not the same:

- *Better* and *worse* are claims. In a table without any true difference a claim is made in at most
  5 % of tables, however many arms it has: the interval is Dunnett's, many to one, with seeds as
  blocks and one variance for all arms (Dunnett 1955, JASA 50:1096; Hsu 1996, Multiple Comparisons).
- *Not separable* says that a difference of `min_effect` or more would have shown. For each arm with
  such a difference it is said in at most 10 % of cases (two one-sided tests, Schuirmann 1987), the
  90 % power that one would plan for. Without `min_effect` it says only that all seeds are spent.

When the arms' variances differ (Bartlett's test on the residuals, at the 25 % level that Bancroft
1964, Biometrics 20:427, has for such preliminary tests), each difference gets a variance and
degrees of freedom of its own (Welch 1947, as in Games and Howell 1976), with each arm's variance
drawn towards the pooled one as if that were `PRIOR` degrees of freedom (Smyth 2004, SAGMB 3:3):
with three seeds an arm's own variance alone tells next to nothing. Nor can the test tell much with
three seeds: what is known to vary unequally is better compared with `variances="unequal"` from the
start. What each choice costs and saves is simulated in tests/benchmarks/honesty.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special, stats

from dashboards.inference.critical import EQUAL, Array, critical, within
from dashboards.inference.fit import Fit, fit

LEVEL = 0.05  # P(any false claim in a table)
MISS = 0.10  # P(`not separable` | a difference of min_effect), for each arm
UNEQUAL = 0.25  # the level of Bartlett's test
PRIOR = 3.0  # degrees of freedom: as if the arms' SDs were known to differ by a factor of 1.6 or so

RESULTS = ("converged", "diverged", "stalled")  # outcomes of a settled cell
FAILED = ("diverged", "stalled")
UNSETTLED = ("waiting", "running")
ONE_SEED = "with one seed nothing can be claimed"
NO_NOISE = "its seeds do not vary: nothing tells the noise"

Verdict = Literal["better", "worse", "not separable", "open", "did not converge"]
Variances = Literal["auto", "equal", "unequal"]


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
) -> Inference:
    """Compare each arm with `baseline`, paired by seed. Values count for `converged` cells only.

    An arm has a verdict other than `open` once it has two seeds in common with the baseline: with
    one seed nothing can be claimed. `spent`: no further seeds will come, so that without
    `min_effect` what is open is not separable (None: when no cell waits). Raises ValueError for a
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
    values = np.array([[_value(cells[arm].get(seed)) for seed in seeds] for arm in arms])
    found = fit(values)
    p_equal = _bartlett(found)
    unequal = variances == "unequal" or (
        variances == "auto" and p_equal is not None and p_equal < UNEQUAL
    )
    errors, dfs = _own_errors(found) if unequal else _pooled_errors(found)
    hopeless = [arm for arm in arms[1:] if _hopeless(cells[arm].values())]
    family = max(len(arms) - 1 - len(hopeless), 1)
    loads = (*found.layout.loads, *[EQUAL] * (family - len(found.layout.loads)))
    rule = _Rule(loads, level, miss, min_effect, goal)
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
            made = rule.decide(plain, found.difference[j], errors[j], dfs[j])
            done = not _waits(cells, arm, baseline) if spent is None else spent
            if made.verdict == "open" and min_effect is None and done:
                made = replace(made, verdict="not separable", more=None)
            out[arm] = made
    return Inference(
        tuple(out[arm] for arm in cells),
        baseline,
        "unequal" if unequal else "equal",
        level,
        miss,
        min_effect,
        math.sqrt(found.variance) if found.layout.df > 0 else None,
        found.layout.df,
        p_equal,
    )


@dataclass(frozen=True)
class _Rule:
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


# ---------------------------------------------------------------- variances


def _pooled_errors(found: Fit) -> tuple[Array, Array]:
    return found.error, np.full(len(found.difference), float(found.layout.df))


def _own_errors(found: Fit) -> tuple[Array, Array]:
    """Welch's standard errors and degrees of freedom, from moderated variances of the arms."""
    own_df = found.layout.own_df
    own = np.where(np.isnan(found.own_variance), 0.0, found.own_variance)
    moderated = (PRIOR * found.variance + own_df * own) / (PRIOR + own_df)
    parts = found.share * moderated
    with np.errstate(divide="ignore", invalid="ignore"):
        dfs = parts.sum(1) ** 2 / (parts**2 / (PRIOR + own_df)).sum(1)
    # rounded down: a critical value is then computed once for nearly equal ones
    return np.sqrt(parts.sum(1)), np.maximum(np.floor(2 * dfs) / 2, 1.0)


def _bartlett(found: Fit) -> float | None:
    """P of Bartlett's test that the arms' noise has one variance. Residuals in place of samples:
    an arm's degrees of freedom are its part in those of the fit, not its seeds less one."""
    told = found.layout.own_df > 0.5
    df, own = found.layout.own_df[told], found.own_variance[told]
    if len(own) < 2 or not found.variance > 0:
        return None
    if not own.min() > 0:
        return 0.0 if df.min() >= 1 else None
    total = df.sum()
    pooled = float((df * own).sum() / total)
    statistic = total * math.log(pooled) - float((df * np.log(own)).sum())
    correction = 1 + float((1 / df).sum() - 1 / total) / (3 * (len(own) - 1))
    return float(stats.chi2.sf(statistic / correction, len(own) - 1))


# ---------------------------------------------------------------- cells


def _value(cell: Observation | None) -> float:
    if cell is None or cell.outcome != "converged" or cell.value is None:
        return math.nan
    return cell.value if math.isfinite(cell.value) else math.nan


def _described(arm: str, cells: Iterable[Observation], values: Array, pairs: int) -> Comparison:
    outcomes = [cell.outcome for cell in cells]
    have = values[~np.isnan(values)]
    return Comparison(
        arm,
        planned=len(outcomes),
        settled=sum(outcome in RESULTS for outcome in outcomes),
        n=len(have),
        failed=sum(outcome in FAILED for outcome in outcomes),
        mean=float(have.mean()) if len(have) else None,
        sd=float(have.std(ddof=1)) if len(have) > 1 else None,
        pairs=pairs,
    )


def _hopeless(cells: Iterable[Observation]) -> bool:
    """All cells are settled and none has converged."""
    return all(cell.outcome in FAILED for cell in cells)


def _waits(cells: Mapping[str, Mapping[int, Observation]], *arms: str) -> bool:
    return any(cell.outcome in UNSETTLED for arm in arms for cell in cells[arm].values())
