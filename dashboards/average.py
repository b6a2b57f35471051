"""Means and their spread, of numbers there may be none of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float | None:
    """None for none."""
    return statistics.fmean(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for one value or none."""
    return statistics.stdev(values) if len(values) > 1 else None
