"""How soon the monitor ends a run that has failed, and whether it ever ends one that has not, on
recorded curves; and what that saves.

The curves (`record_curves`) are of runs that nobody judged, so what became of each is known. When a
run was lost is told by its future alone: the first step from which the median of the next 20 losses
is above twice what the loss was before training (the mean of the first five) and stays there to the
end; or the first number that is not finite, whichever is earlier. The monitor sees the past alone.

Not every failed run is lost so: one whose loss stays where it began learns nothing, and only its
mAP tells (`monitor.progress` in the sweep, or the end).

    python -m tests.benchmarks judging
"""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

from detcore.config.schema import Monitor
from detcore.convergence import ConvergenceMonitor
from tests.benchmarks.record_curves import CURVES, STEPS
from tests.benchmarks.side_by_side import write

# The report's rows without a result: GPUs and train hours as it gives them (D02, D03, D07)
UNCONVERGED = {"D02": (1, 21.2), "D03": (2, 19.88), "D07": (2, 16.3)}
SCHEDULE = 90_000  # steps of its shortest schedule, 1x of batch 16
FIRST = 5  # steps
SPAN = 20  # steps, 5 % of a run


def curves() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CURVES.read_text())
    for run in found:
        for name in ("loss", "grad_norm"):
            run[name] = [float(value) for value in run[name]]  # 'nan' and 'inf' too
    return found


def lost(run: dict[str, Any]) -> int | None:
    """The step at which the run was lost, None where it was not."""
    losses, steps = run["loss"], len(run["loss"])
    pairs = zip(losses, run["grad_norm"], strict=True)
    broken = next((i for i, pair in enumerate(pairs) if not all(map(math.isfinite, pair))), steps)
    if broken <= FIRST:
        return broken if broken < steps else None
    before = statistics.fmean(losses[:FIRST])
    above = broken
    while (
        above and statistics.median(losses[above - 1 : min(above - 1 + SPAN, broken)]) > 2 * before
    ):
        above -= 1
    if broken - above < SPAN:  # a bad end of a noisy curve
        above = broken
    return above if above < steps else None


def judged(run: dict[str, Any], config: Monitor) -> int | None:
    """The step at which the monitor ends it, None where it goes on to the end."""
    monitor = ConvergenceMonitor(config, run["steps"])
    for step, (loss, grad_norm) in enumerate(zip(run["loss"], run["grad_norm"], strict=True)):
        if monitor.observe(step, loss, grad_norm):
            return step
    return None


def main() -> None:
    config = Monitor()
    rows, delays, onset = [], [], []
    false_stops = stalled = learned = 0
    for run in curves():
        at, told = lost(run), judged(run, config)
        good = run["mAP"] is not None and run["mAP"] >= config.min_map
        if good:
            learned += 1
            false_stops += told is not None
        elif at is not None:
            end = run["steps"] if told is None else told
            onset.append(at / run["steps"])
            delays.append(max(0, end - at) / run["steps"])
        else:
            stalled += 1
        rows.append({"name": run["name"], "mAP": run["mAP"], "lost": at, "judged": told})
        print(f"{run['name']}: mAP {run['mAP']}, lost at {at}, judged at {told}")
    worst, late = max(delays), sum(d > 0.05 for d in delays)
    print(f"\n{learned} runs learned, {false_stops} of them stopped")
    print(
        f"{len(delays)} runs were lost, at {min(onset):.1%} to {max(onset):.1%} of the steps: "
        f"judged after a median of {statistics.median(delays):.2%} of the planned steps, at most "
        f"{worst:.2%}; {late} later than 5 %"
    )
    print(f"{stalled} runs learned nothing and did not explode: known by their mAP alone")
    steps = round(worst * STEPS)
    print(f"the latest was judged {steps} steps late: {steps / SCHEDULE:.2%} of a 1x schedule")
    hours = {row: gpus * hours for row, (gpus, hours) in UNCONVERGED.items()}
    total = sum(hours.values())
    saved = {}
    for when, at in (
        ("median", statistics.median(onset)),
        ("latest", max(onset)),
        ("half", 0.5),
    ):
        saved[when] = total * (1 - at - worst)
        print(
            f"lost at {at:.1%} of the steps and judged {worst:.2%} later: {saved[when]:.1f} of the "
            f"{total:.1f} GPU-hours of {', '.join(hours)} saved"
        )
    write(
        "judging",
        {
            "learned": learned,
            "false_stops": false_stops,
            "lost": len(delays),
            "later_than_5_percent": late,
            "delay_median": statistics.median(delays),
            "delay_max": worst,
            "delay_max_steps": steps,
            "stalled": stalled,
            "planned_gpu_hours": hours,
            "saved_gpu_hours": saved,
            "runs": rows,
        },
    )


if __name__ == "__main__":
    main()
