"""Whether the arms' noise has one variance, and the standard errors when it has not.

When the variances differ (Bartlett's test on the residuals, at the 25 % level that Bancroft 1964,
Biometrics 20:427, has for such preliminary tests), each difference gets a variance and degrees of
freedom of its own (Welch 1947, as in Games and Howell 1976), with each arm's variance drawn towards
the pooled one as if that were `PRIOR` degrees of freedom (Smyth 2004, SAGMB 3:3): with three seeds
an arm's own variance alone tells next to nothing. Nor can the test tell much with three seeds: what
is known to vary unequally is better compared with `variances="unequal"` from the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from dashboards.inference.critical import Array
from dashboards.inference.fit import Fit

UNEQUAL = 0.25  # the level of Bartlett's test
PRIOR = 3.0  # degrees of freedom: as if the arms' SDs were known to differ by a factor of 1.6 or so

Variances = Literal["auto", "equal", "unequal"]


@dataclass(frozen=True)
class Spread:
    """Of K differences. `homogeneity`: p of Bartlett's test."""

    kind: Literal["equal", "unequal"]
    errors: Array  # K: standard errors
    dfs: Array  # K: their degrees of freedom
    homogeneity: float | None


def spread(found: Fit, variances: Variances = "auto") -> Spread:
    p_equal = bartlett(found)
    if variances == "unequal" or (
        variances == "auto" and p_equal is not None and p_equal < UNEQUAL
    ):
        return Spread("unequal", *_own_errors(found), p_equal)
    dfs = np.full(len(found.difference), float(found.layout.df))
    return Spread("equal", found.error, dfs, p_equal)


def _own_errors(found: Fit) -> tuple[Array, Array]:
    """Welch's standard errors and degrees of freedom, from moderated variances of the arms.

    The pooled variance that they are drawn towards is estimated from the same cells, so that they
    never have more degrees of freedom than all cells together.
    """
    own_df = found.layout.own_df
    own = np.where(np.isnan(found.own_variance), 0.0, found.own_variance)
    moderated = (PRIOR * found.variance + own_df * own) / (PRIOR + own_df)
    parts = found.layout.share * moderated
    with np.errstate(divide="ignore", invalid="ignore"):
        dfs = parts.sum(1) ** 2 / (parts**2 / (PRIOR + own_df)).sum(1)
    # rounded down: a critical value is then computed once for nearly equal ones
    dfs = np.minimum(np.floor(2 * dfs) / 2, found.layout.df)
    return np.sqrt(parts.sum(1)), np.maximum(dfs, 1.0)


def bartlett(found: Fit) -> float | None:
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
