"""How sure one has to be at each look when a sweep is looked at after every round of seeds.

Looking seven times at the 5 % level finds a difference that is not there in far more than 5 % of
sweeps (Armitage, McPherson and Rowe 1969, JRSS A 132). The remedy is the one of Pocock (1977,
Biometrika 64): one nominal level for all looks, so small that a sweep in which every arm is run to
the end makes a false claim, at any look, in 5 % of cases. Intervals at that level are repeated
confidence intervals (Jennison and Turnbull 1989, JRSS B 51): all of them hold at once with 95 %,
for whatever reason and after whichever round an arm is ended. That is why dropping arms, and
running out of budget, needs no further allowance.

The nominal level has no closed form for several arms with one baseline and an estimated variance.
It is found by simulating that sweep, with one random stream, so that it is the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from dashboards.inference.critical import EQUAL, Array, critical
from dashboards.inference.verdicts import LEVEL, MISS

SWEEPS = 60_000  # the level of 0.05 is then met to 0.0009
_AT_ONCE = 2_000_000  # cells


@dataclass(frozen=True)
class Levels:
    """The nominal levels at each look: of the table's claims, and of overlooking an arm."""

    level: float
    miss: float


def look_levels(
    arms: int, looks: Sequence[int], level: float = LEVEL, miss: float = MISS
) -> Levels:
    """For `arms` beside the baseline, looked at when they have `looks` seeds (increasing). One seed
    tells nothing, so that is no look."""
    told = tuple(n for n in looks if n > 1)
    if len(told) < 2:
        return Levels(level, miss)
    return _look_levels(arms, told, level, miss)


@lru_cache(64)
def _look_levels(arms: int, looks: tuple[int, ...], level: float, miss: float) -> Levels:
    largest, first = _simulated(arms, looks)
    loads = (EQUAL,) * arms if arms > 1 else (0.0,)
    dfs = [arms * (n - 1) for n in looks]

    def claims(nominal: float) -> float:
        limits = np.array([critical(loads, df, nominal) for df in dfs])
        return float((largest > limits).any(1).mean()) - level

    def misses(nominal: float) -> float:
        limits = special.stdtrit(np.array(dfs, float), nominal)
        return float((first < limits).any(1).mean()) - miss

    found = [
        optimize.brentq(of, total / len(looks) / 2, total, xtol=1e-5)
        for of, total in ((claims, level), (misses, miss))
    ]
    return Levels(*(float(f"{value:.3g}") for value in found))


def _simulated(arms: int, looks: tuple[int, ...]) -> tuple[Array, Array]:
    """Of each sweep at each look: the largest |t| of all arms, and the t of the first, with noise
    and nothing else. SWEEPS x looks each.

    Least squares are brought up to date seed by seed: with the means m of n - 1 seeds and a new
    seed's values y, u = y - m, the means move by u / n and the squares of the residuals of
    `arm + seed` grow by (n - 1) / n times the sum of (u - mean(u))^2.
    """
    largest, first = np.empty((2, SWEEPS, len(looks)))
    step = max(1, _AT_ONCE // (arms + 1))
    random = np.random.default_rng(20)
    for start in range(0, SWEEPS, step):
        part = slice(start, min(start + step, SWEEPS))
        means = np.zeros((part.stop - part.start, arms + 1), np.float32)
        squares = np.zeros(len(means))
        for n in range(1, looks[-1] + 1):
            ahead = random.standard_normal(means.shape, np.float32) - means
            squares += (n - 1) / n * ahead.var(1) * (arms + 1)
            means += ahead / n
            if n in looks:
                error = np.sqrt(2 / n * squares / (arms * (n - 1)))
                t = (means[:, 1:] - means[:, :1]) / error[:, None]
                largest[part, looks.index(n)] = np.abs(t).max(1)
                first[part, looks.index(n)] = t[:, 0]
    return largest, first
