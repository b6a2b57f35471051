"""Did the run converge? Verdicts from numbers read one step late, the same on every rank."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from detcore.config.schema import Monitor


@dataclass(frozen=True)
class Verdict:
    """How a run ended and the numbers that say so."""

    outcome: Literal["converged", "diverged", "stalled"]
    reason: str
    step: int
    evidence: dict[str, Any] = field(default_factory=dict)


class ConvergenceMonitor:
    """Watches loss and gradient norm step by step, and mAP where the run is evaluated.

    Two rules find an explosion. A burst: the loss stays above factor times its running median for
    `explode_patience` steps on end; the median is over steps that were not themselves that high, so
    a loss that jumps and stays is measured against what it was. A drift: the median of all recent
    losses, however jagged they are, is above factor times the lowest it has been.
    """

    def __init__(self, config: Monitor, steps: int) -> None:
        self.config, self.steps = config, steps
        self.healthy: deque[float] = deque(maxlen=config.window)
        self.recent: deque[float] = deque(maxlen=config.window)
        self.exploding = 0
        self.lowest = math.inf  # of the medians of `recent`

    def observe(self, step: int, loss: float, grad_norm: float) -> Verdict | None:
        """`diverged` when loss or gradient is not finite, or the loss has exploded."""
        for name, value in (("loss", loss), ("gradient norm", grad_norm)):
            if not math.isfinite(value):
                before = list(self.recent)[-5:]
                evidence = {
                    "loss": repr(loss),
                    "grad_norm": repr(grad_norm),
                    "losses_before": before,
                }
                return Verdict("diverged", f"{name} is {value} at step {step}", step, evidence)
        self.recent.append(loss)
        return self._burst(step, loss) or self._drift(step)

    def _burst(self, step: int, loss: float) -> Verdict | None:
        usual = median(self.healthy) if self.healthy else math.inf
        if loss <= self.config.explode_factor * usual:
            self.healthy.append(loss)
            self.exploding = 0
            return None
        self.exploding += 1
        if self.exploding < self.config.explode_patience:
            return None
        since = step - self.exploding + 1
        reason = (
            f"loss {loss:.4g} at step {step}, above {self.config.explode_factor:g} times its "
            f"running median {usual:.4g} since step {since}"
        )
        evidence = {"loss": loss, "running_median": usual, "since": since}
        return Verdict("diverged", reason, step, evidence)

    def _drift(self, step: int) -> Verdict | None:
        level = median(self.recent)
        if len(self.recent) >= min(5, self.config.window):
            self.lowest = min(self.lowest, level)
        if level <= self.config.explode_factor * self.lowest:
            return None
        reason = (
            f"median loss {level:.4g} over the {len(self.recent)} steps to {step}, above "
            f"{self.config.explode_factor:g} times its lowest, {self.lowest:.4g}"
        )
        return Verdict("diverged", reason, step, {"median": level, "lowest_median": self.lowest})

    def due(self, step: int) -> bool:
        """Whether a declared checkpoint of progress falls on the end of step `step`."""
        return any(step == self._check_step(c.at) for c in self.config.progress)

    def progress(self, step: int, mean_ap: float) -> Verdict | None:
        """`stalled` when an evaluation at a declared checkpoint of progress is under its floor."""
        for check in self.config.progress:
            if step == self._check_step(check.at) and not mean_ap >= check.min_map:
                reason = (
                    f"mAP {mean_ap:.4f} after step {step}, "
                    f"the floor at {check.at:.0%} of the steps is {check.min_map:g}"
                )
                return Verdict("stalled", reason, step, {"mAP": mean_ap, "floor": check.min_map})
        return None

    def final(self, step: int, mean_ap: float) -> Verdict:
        """`converged`, or `stalled` when the run never learned."""
        if mean_ap >= self.config.min_map:
            return Verdict("converged", f"mAP {mean_ap:.4f}", step, {"mAP": mean_ap})
        reason = (
            f"never learned: mAP {mean_ap:.4f} after step {step}, "
            f"the floor is {self.config.min_map:g}"
        )
        return Verdict("stalled", reason, step, {"mAP": mean_ap, "floor": self.config.min_map})

    def state(self) -> dict[str, Any]:
        return {
            "healthy": list(self.healthy),
            "recent": list(self.recent),
            "exploding": self.exploding,
            "lowest": self.lowest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.healthy = deque(state["healthy"], maxlen=self.config.window)
        self.recent = deque(state["recent"], maxlen=self.config.window)
        self.exploding = state["exploding"]
        self.lowest = state["lowest"]

    def _check_step(self, at: float) -> int:
        return max(0, round(at * self.steps) - 1)
