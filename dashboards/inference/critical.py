"""The distribution of Dunnett's test: the largest |t| among comparisons with one baseline.

T_i = Z_i / S for i = 1..k, where the Z are normal with correlations l_i l_j (i != j) and S^2 is
chi^2 / df. Comparisons with a common baseline have such correlations when arms differ in their
number of seeds only; otherwise the nearest l are taken, as SAS and JMP do (Hsu 1992, "The factor
analytic approach to simultaneous inference in the general linear model", JCGS 1).
With them the probability is a double integral (Dunnett 1955, JASA 50), done here by Gauss-Legendre
quadrature: scipy's multivariate t gives the same to its own random error, which a table that must
print the same twice cannot have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Array = NDArray[np.float64]

EQUAL = math.sqrt(0.5)
"""The loading of an arm that has as many seeds as the baseline: correlations are 1/2."""


def loadings(correlation: Array) -> tuple[float, ...]:
    """The l_i in [0, 1) with l_i l_j nearest to a k x k correlation matrix, in the least squares of
    what is off the diagonal. To three digits, so that nearly equal ones are computed once."""
    k = len(correlation)
    if k == 1:
        return (0.0,)
    off = correlation - np.diag(np.diag(correlation))
    found = np.full(k, math.sqrt(max(off.sum() / (k * (k - 1)), 0.0)))
    if np.allclose(off, np.outer(found, found) * (1 - np.eye(k)), atol=1e-9):
        return tuple(found.round(3))
    for _ in range(100):
        before = found.copy()
        for i in range(k):
            others = (found**2).sum() - found[i] ** 2
            found[i] = np.clip(off[i] @ found / others if others > 0 else 0.0, 0.0, 0.999)
        if np.abs(found - before).max() < 1e-9:
            break
    return tuple(found.round(3))


def within(t: float, loads: Sequence[float], df: float) -> float:
    """P(every |T_i| <= t)."""
    s, weights = _scales(df)
    z, normal = _normals()
    reach = (t * s)[:, None]
    product = np.ones((len(s), len(z)))
    for load, times in zip(*np.unique(np.asarray(loads), return_counts=True), strict=True):
        rest = math.sqrt(1 - load * load)
        inside = special.ndtr((reach + load * z) / rest) - special.ndtr((load * z - reach) / rest)
        product *= inside**times
    return float(weights @ (product @ normal))


def critical(loads: Sequence[float], df: float, level: float) -> float:
    """The t that the largest |T_i| exceeds with probability `level`."""
    return _critical(tuple(sorted(loads)), df, level)


@lru_cache(4096)
def _critical(loads: tuple[float, ...], df: float, level: float) -> float:
    low = -float(special.stdtrit(df, level / 2))  # of one comparison
    high = -float(special.stdtrit(df, level / 2 / len(loads)))  # Bonferroni's
    if len(loads) == 1:
        return low
    wanted = 1 - level
    return float(optimize.brentq(lambda t: within(t, loads, df) - wanted, low, high, xtol=1e-7))


@lru_cache(512)
def _scales(df: float) -> tuple[Array, Array]:
    """Nodes for S and their weights. In log S, because with one degree of freedom S is near 0 often
    enough to matter."""
    low, high = np.log(stats.chi.ppf([1e-11, 1 - 1e-14], df) / math.sqrt(df))
    x, weight = np.polynomial.legendre.leggauss(80)
    s = np.exp(low + (x + 1) / 2 * (high - low))
    density = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df) * s
    weights = weight * (high - low) / 2 * density
    return s, weights / weights.sum()


@lru_cache(1)
def _normals() -> tuple[Array, Array]:
    x, weight = np.polynomial.legendre.leggauss(64)
    z = 8.0 * x
    weights = 8.0 * weight * stats.norm.pdf(z)
    return z, weights / weights.sum()
