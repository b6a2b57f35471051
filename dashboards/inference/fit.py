"""Arms in blocks of seeds: y = arm + seed + noise, by least squares.

With every cell there, an arm's difference to the baseline is the mean of its differences seed by
seed. With cells missing, least squares still compares like with like: a seed that only some arms
have does not count as theirs being better (Searle, Linear Models, ch. 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from dashboards.inference.critical import Array, loadings


@dataclass(frozen=True)
class Layout:
    """What follows from which cells have a value alone. N cells, A arms (0 is the baseline), K
    comparisons: of the arms in `tested` with the baseline, or the contrasts of arms that were asked
    for, in that order."""

    df: int  # of the noise
    residual: Array  # N x N: what is left of the values when arms and seeds are taken out
    own_df: Array  # A: the part of each arm in `df`
    tested: tuple[int, ...]  # arms with two seeds or more in common with the baseline
    weights: Array  # K x N: comparisons as sums over cells

    @cached_property
    def correlation(self) -> Array:
        """K x K, of the comparisons."""
        scale = np.sqrt((self.weights**2).sum(1))
        found: Array = self.weights @ self.weights.T / np.outer(scale, scale)
        return found

    @cached_property
    def loads(self) -> tuple[float, ...]:
        """K: of the correlations; see `critical`."""
        return loadings(self.correlation) if len(self.weights) else ()


def layout(present: NDArray[np.bool_], contrasts: Array | None = None) -> Layout:
    """`present`: A x S, which arm has a value for which seed. `contrasts`: K x A, weights of arms
    that sum to 0; without them, every arm is compared with arm 0. Raises ValueError for a contrast
    of arms that no seeds connect."""
    asked = None if contrasts is None else np.asarray(contrasts, float).tobytes()
    return _layout(present.tobytes(), present.shape, asked)


@lru_cache(128)
def _layout(cells: bytes, shape: tuple[int, int], asked: bytes | None) -> Layout:
    present = np.frombuffer(cells, bool).reshape(shape)
    arms, seeds = shape
    model, inverse, residual = _solved(cells, shape)
    own_df = np.bincount(np.nonzero(present)[0], np.diag(residual), minlength=arms).astype(float)
    tested: tuple[int, ...] = ()
    if asked is None:
        # two seeds in common connect an arm with the baseline: its difference can be estimated
        tested = tuple(i for i in range(1, arms) if (present[i] & present[0]).sum() >= 2)
        contrasts = np.eye(arms)[list(tested)] - np.eye(arms)[[0] * len(tested)]
    else:
        contrasts = np.frombuffer(asked, float).reshape(-1, arms)
    weights = contrasts @ inverse[:arms]
    wanted = np.hstack([contrasts, np.zeros((len(contrasts), seeds))])
    if not np.allclose(weights @ model, wanted, atol=1e-8):
        raise ValueError("a contrast of arms that no seeds connect cannot be estimated")
    return Layout(round(np.trace(residual)), residual, own_df, tested, weights)


@lru_cache(16)
def _solved(cells: bytes, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """The model, N x (A + S), its pseudo-inverse, and what maps values to residuals."""
    arm, seed = np.nonzero(np.frombuffer(cells, bool).reshape(shape))
    arms, seeds = shape
    model = np.zeros((len(arm), arms + seeds))
    model[np.arange(len(arm)), arm] = 1
    model[np.arange(len(arm)), arms + seed] = 1
    inverse = np.linalg.pinv(model).astype(np.float64)
    return model, inverse, np.eye(len(arm)) - model @ inverse


@dataclass(frozen=True)
class Fit:
    layout: Layout
    difference: Array  # K
    variance: float  # of the noise, pooled over all arms; nan without degrees of freedom
    own_variance: Array  # A: of each arm's noise; nan where nothing tells it
    share: Array  # K x A: a difference's variance is the sum of share times an arm's variance

    @property
    def error(self) -> Array:
        """K: the standard error of each difference when all arms vary alike."""
        error: Array = np.sqrt(self.share.sum(1) * self.variance)
        return error


def fit(values: Array, contrasts: Array | None = None) -> Fit:
    """`values`: A x S, nan where a cell has none; arm 0 is the baseline, unless other `contrasts`
    are asked for (see `layout`)."""
    present = ~np.isnan(values)
    lay = layout(present, contrasts)
    y = values[present]
    arm = np.nonzero(present)[0]
    rest = lay.residual @ (y - y.mean() if len(y) else y)
    # what is left by rounding is nothing: cells that do not vary at all say nothing of noise
    if len(y) and np.abs(rest).max() < 1e-9 * max(np.abs(y).max(), 1e-300):
        rest = np.zeros_like(rest)
    arms = len(values)
    squares = np.bincount(arm, rest**2, minlength=arms)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(lay.own_df > 1e-9, squares / lay.own_df, np.nan)
    variance = float(squares.sum() / lay.df) if lay.df > 0 else float("nan")
    share = np.array([np.bincount(arm, w**2, minlength=arms) for w in lay.weights])
    return Fit(lay, lay.weights @ y, variance, own, share.reshape(len(lay.weights), arms))
