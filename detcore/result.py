"""What a training run says while it runs and when it ends. Plain data: it crosses process borders
and is stored as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

METRICS = (
    "mAP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
"""The 12 COCO metrics in pycocotools' order, under the names used in tables and in MLflow.
Fractions of 1; -1 where undefined."""

Verdict = Literal["converged", "diverged", "stalled", "cancelled"]


@dataclass(frozen=True)
class Point:
    """Values at one step: losses, lr, grad_norm, images_per_s ... (what goes into curves)."""

    step: int
    time: float  # seconds since the epoch
    values: dict[str, float]


@dataclass(frozen=True)
class Result:
    """How one run ended.

    `step` is where it ended; `evidence` holds the numbers behind a verdict. `metrics` has the 12
    COCO metrics when the run was evaluated, `values` the scalars beside them (train_hours,
    images_per_s, eval_s_per_img, peak_mem_gb, params_m, data_wait ...), `class_AP` the AP of each
    class by its name (empty when two classes share one).
    """

    outcome: Verdict
    reason: str
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    class_AP: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
