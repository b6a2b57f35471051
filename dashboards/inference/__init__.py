"""Is an arm better than the baseline, and how sure is that? Numbers in, verdicts out."""

from dashboards.inference.looks import Levels, look_levels
from dashboards.inference.variances import Variances
from dashboards.inference.verdicts import (
    LEVEL,
    MISS,
    ONE_SEED,
    Comparison,
    Inference,
    Observation,
    compare,
)

__all__ = [
    "LEVEL",
    "MISS",
    "ONE_SEED",
    "Comparison",
    "Inference",
    "Levels",
    "Observation",
    "Variances",
    "compare",
    "look_levels",
]
