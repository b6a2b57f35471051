"""Arms in blocks of seeds: y = arm + seed + noise, by least squares.

With every cell there, an arm's difference to the baseline is the mean of its differences seed by
seed. With cells missing, least squares still compares like with like: a seed that only some arms
have does not count as theirs being better (Searle, Linear Models, ch. 7).

Arms are many and seeds are few, so the arms are eliminated first: what is left are the equations of
the seeds alone, M beta = B'y, where a row of B is a cell's seed less the mean of its arm's seeds,
and M = B'B. Nothing is ever solved that is larger than seeds x seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dashboards.inference.critical import Array, loadings

TINY = 1e-10  # of the largest eigenvalue: what is smaller is 0 and rounding


@dataclass(frozen=True)
class Layout:
    """What follows from which cells have a value alone. A arms (0 is the baseline), S seeds, K
    comparisons: of the arms in `tested` with the baseline, or the contrasts of arms that were asked
    for, in that order."""

    df: int  # of the noise
    own_df: Array  # A: the part of each arm in `df`
    tested: tuple[int, ...]  # arms with two seeds or more in common with the baseline
    contrasts: Array  # K x A: weights of arms
    present: NDArray[np.bool_]  # A x S
    inverse: Array  # S x S: of the seeds' equations

    @cached_property
    def cells(self) -> Array:
        """A: how many of each arm there are; 1 for none, which nothing is divided by."""
        found: Array = np.maximum(self.present.sum(1), 1).astype(np.float64)
        return found

    @cached_property
    def mixes(self) -> Array:
        """A x S: the part of each seed in an arm's mean."""
        found: Array = self.present / self.cells[:, None]
        return found

    @cached_property
    def _tilts(self) -> Array:
        """K x S: how much of each seed a difference of plain means has too much."""
        found: Array = self.contrasts @ self.mixes
        return found

    @cached_property
    def share(self) -> Array:
        """K x A: a difference's variance is the sum of share times an arm's variance; it is the sum
        of the squares of the weights that the arm's cells have in it."""
        pulls = self._tilts @ self.inverse
        present = self.present.T.astype(float)
        spread = pulls**2 @ present - (pulls @ present) ** 2 / self.cells
        found: Array = self.contrasts**2 / self.cells + spread
        return found

    @cached_property
    def scale(self) -> Array:
        """K: a difference's variance as a multiple of the noise's."""
        tilt = ((self._tilts @ self.inverse) * self._tilts).sum(1)
        found: Array = (self.contrasts**2 / self.cells).sum(1) + tilt
        return found

    @cached_property
    def correlation(self) -> Array:
        """K x K, of the comparisons."""
        few = sparse.csr_array(self.contrasts / self.cells)  # arms of one comparison
        shared = few @ self.contrasts.T
        shared += self._tilts @ self.inverse @ self._tilts.T
        scale = np.sqrt(self.scale)
        found: Array = shared / np.outer(scale, scale)
        return found

    @cached_property
    def loads(self) -> tuple[float, ...]:
        """K: of the correlations; see `critical`."""
        return loadings(self.correlation) if len(self.contrasts) else ()

    def solve(self, values: Array) -> tuple[Array, Array]:
        """K: the differences. A x S: what is left of `values` (0 where there are none) when arms
        and seeds are taken out."""
        means = values.sum(1) / self.cells
        within = (values - means[:, None]) * self.present
        seeds = self.inverse @ (within.sum(0))
        rest = (within - (seeds - (self.mixes @ seeds)[:, None])) * self.present
        difference: Array = self.contrasts @ means - self._tilts @ seeds
        return difference, rest


def layout(present: NDArray[np.bool_], contrasts: Array | None = None) -> Layout:
    """`present`: A x S, which arm has a value for which seed. `contrasts`: K x A, weights of arms
    that sum to 0; without them, every arm is compared with arm 0. Raises ValueError for a contrast
    of arms that no seeds connect."""
    asked = None if contrasts is None else np.asarray(contrasts, float).tobytes()
    return _layout(present.tobytes(), present.shape, asked)


@lru_cache(128)
def _layout(cells: bytes, shape: tuple[int, int], asked: bytes | None) -> Layout:
    present = np.frombuffer(cells, bool).reshape(shape)
    arms = len(present)
    tested: tuple[int, ...] = ()
    if asked is None:
        # two seeds in common connect an arm with the baseline: its difference can be estimated
        tested = tuple(i for i in range(1, arms) if (present[i] & present[0]).sum() >= 2)
        contrasts = np.eye(arms)[list(tested)] - np.eye(arms)[[0] * len(tested)]
    else:
        contrasts = np.frombuffer(asked, float).reshape(-1, arms)
    counts = present.sum(1)
    mixes = present / np.maximum(counts, 1)[:, None]
    matrix = np.diag(present.sum(0).astype(float)) - present.T.astype(float) @ mixes
    inverse, rank = _inverse(matrix)
    tilts = contrasts @ mixes
    connected = np.allclose(tilts @ inverse @ matrix, tilts, atol=1e-8)
    if not connected or np.abs(contrasts[:, counts == 0]).max(initial=0.0) > 0:
        raise ValueError("a contrast of arms that no seeds connect cannot be estimated")
    # a cell's residual has the variance 1 - 1/n - b'M^-1 b of the noise's, summed over its arm
    own_df = np.maximum(counts - 1, 0) - np.array(_spread(present, mixes, inverse))
    df = int(present.sum() - (counts > 0).sum() - rank)
    return Layout(df, own_df, tested, contrasts, present, inverse)


def _spread(present: NDArray[np.bool_], mixes: Array, inverse: Array) -> Array:
    """A: the sum over an arm's cells of b'M^-1 b."""
    mean = ((mixes @ inverse) * mixes).sum(1) * present.sum(1)
    found: Array = present @ np.diag(inverse) - mean
    return found


def _inverse(matrix: Array) -> tuple[Array, int]:
    """The pseudo-inverse of a positive semi-definite matrix, and its rank."""
    values, vectors = np.linalg.eigh(matrix)
    large = values > TINY * max(values.max(initial=0.0), 1.0)
    kept = vectors[:, large]
    found: Array = (kept / values[large]) @ kept.T
    return found, int(large.sum())


@dataclass(frozen=True)
class Fit:
    layout: Layout
    difference: Array  # K
    variance: float  # of the noise, pooled over all arms; nan without degrees of freedom
    own_variance: Array  # A: of each arm's noise; nan where nothing tells it

    @property
    def error(self) -> Array:
        """K: the standard error of each difference when all arms vary alike."""
        error: Array = np.sqrt(self.layout.scale * self.variance)
        return error


def fit(values: Array, contrasts: Array | None = None) -> Fit:
    """`values`: A x S, nan where a cell has none; arm 0 is the baseline, unless other `contrasts`
    are asked for (see `layout`)."""
    present = ~np.isnan(values)
    lay = layout(present, contrasts)
    y = values[present]
    centre = y.mean() if len(y) else 0.0
    difference, rest = lay.solve(np.where(present, values - centre, 0.0))
    # what is left by rounding is nothing: cells that do not vary at all say nothing of noise
    if len(y) and np.abs(rest).max() < 1e-9 * max(np.abs(y).max(), 1e-300):
        rest = np.zeros_like(rest)
    squares = (rest**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(lay.own_df > 1e-9, squares / lay.own_df, np.nan)
    variance = float(squares.sum() / lay.df) if lay.df > 0 else float("nan")
    return Fit(lay, difference, variance, own)
