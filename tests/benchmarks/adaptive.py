"""What it costs to run further seeds only where the verdict is open, and what that finds.

    python -m tests.benchmarks.adaptive [--sweeps 1000] [--seed 0]

The sweeps of `tests.benchmarks.honesty` (8 arms and a baseline, seed SD 0.15 AP), with
`seeds: {list: [0, 1, 2], extend_to: 8}` and a `min_effect` of 0.3 AP, decided by the rule itself
(`orchestrator.planning.rounds`), beside 5 seeds of every arm, which is 45 cells. `false`: sweeps
without any difference in which some arm is called better or worse, at whatever round. `found`: of
sweeps in which one arm has a true +0.4 AP, those in which it is called better. `missed`: those in
which it is called not separable. Cells are the means of both kinds of sweeps. `shared` is the part
of the variance that a seed has in common in all arms: 0.5 as in `sweep_systems.md` 3.4, and 0,
where pairing by seed gains nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dashboards.inference import compare
from orchestrator.planning.rounds import Arm, End, Study, replay
from orchestrator.sweep.seeds import Seeds
from tests.benchmarks.honesty import (
    ARMS,
    BASELINE,
    EFFECT,
    PLANTED,
    RESULTS,
    WORLDS,
    draws,
    observed,
    standard_error,
)

MIN_EFFECT, FIXED = 0.3, 5
SEEDS = Seeds((0, 1, 2), (3, 4, 5, 6, 7))
COLUMNS = ("false", "found", "missed", "cells without", "cells with")


def study(seeds: Seeds = SEEDS) -> Study:
    everything = (*seeds.listed, *seeds.more)
    arms = [
        Arm(f"arm{i}", {seed: f"arm{i}/{seed}" for seed in everything}, frozenset(seeds.listed))
        for i in range(ARMS + 1)
    ]
    return Study(arms[0], tuple(arms[1:]), seeds, min_effect=MIN_EFFECT)


def ends(values: NDArray[np.float64]) -> dict[str, End]:
    return {f"{o.arm}/{o.seed}": End(o.outcome, o.value) for o in observed(values)}


def adaptive(values: NDArray[np.float64], of: Study) -> tuple[Mapping[str, str], int]:
    """The verdict of each arm, and how many cells were run."""
    found = replay(of, ends(values))
    return {decision.arm: decision.verdict for decision in found.decisions}, len(found.due)


def fixed(values: NDArray[np.float64]) -> tuple[Mapping[str, str], int]:
    table = compare(observed(values[:, :FIXED]), BASELINE, min_effect=MIN_EFFECT)
    return {c.arm: c.words for c in table.comparisons}, (ARMS + 1) * FIXED


def rates(
    design: str, world: str, shared: float, sweeps: int, seed: int, of: Study | None = None
) -> dict[str, float]:
    of = of or study()
    most = of.seeds.looks[-1]
    out = {}
    for effect in (0.0, EFFECT):
        drawn = draws(sweeps, effect, WORLDS[world], most, shared, seed + (effect > 0))
        made = [fixed(y) if design == "fixed" else adaptive(y, of) for y in drawn]
        if effect:
            planted = [verdicts[PLANTED] for verdicts, _ in made]
            out["found"] = sum(v.startswith("better") for v in planted) / sweeps
            out["missed"] = sum(v == "not separable" for v in planted) / sweeps
        else:
            claims = [any(v.startswith(("better", "worse")) for v in m[0].values()) for m in made]
            out["false"] = sum(claims) / sweeps
        out["cells with" if effect else "cells without"] = sum(cells for _, cells in made) / sweeps
    return {name: out[name] for name in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(description="Adaptive seeds beside a fixed design.")
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{args.sweeps} sweeps of {ARMS} arms and a baseline; ± standard error")
    head = f"{'variances':<10}{'shared':>7}  {'seeds':<9}"
    print(head + "".join(f"{name:>15}" for name in COLUMNS))
    rows = []
    for world, shared in (("equal", 0.5), ("equal", 0.0), ("unequal", 0.5)):
        for design in ("adaptive", "fixed"):
            row = rates(design, world, shared, args.sweeps, args.seed)
            text = f"{world:<10}{shared:>7.1f}  {design:<9}"
            for name, value in row.items():
                if "cells" in name:
                    shown = f"{value:.1f}"
                else:
                    shown = f"{value:.3f} ± {standard_error(value, args.sweeps):.3f}"
                text += f"{shown:>15}"
            print(text, flush=True)
            rows.append({"variances": world, "shared": shared, "seeds": design, **row})
    RESULTS.mkdir(exist_ok=True)
    out = {"sweeps": args.sweeps, "seed": args.seed, "arms": ARMS, "rows": rows}
    (RESULTS / "adaptive.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
