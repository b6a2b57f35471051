"""Learning rates: a linear warm-up, then steps or half a cosine. Pure functions of the step, so
resuming needs no state."""

from __future__ import annotations

import math

from detcore.config.schema import CosineSchedule, StepSchedule


def learning_rate(
    schedule: StepSchedule | CosineSchedule, base: float, step: int, steps: int
) -> float:
    """The rate of optimiser step `step` (0-based) of `steps`.

    The warm-up rises linearly from base/warmup_steps at step 0 to base at its last step.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return base * (step + 1) / warmup
    if isinstance(schedule, StepSchedule):
        passed = sum(step >= round(m * steps) for m in schedule.milestones)
        return base * schedule.gamma**passed
    progress = (step - warmup) / max(1, steps - warmup)
    floor = min(schedule.floor, base)
    return floor + 0.5 * (base - floor) * (1 + math.cos(math.pi * progress))
