"""How often a table claims a difference that is not there, and finds one that is.

    python -m tests.benchmarks.honesty [--sweeps 1000] [--seed 0]

Sweeps of 8 arms beside the baseline with 3 seeds, the protocol of `sweep_systems.md` 3.4: an arm's
AP varies between seeds with SD 0.15, half of that variance is the seed's own and the same in every
arm. `false` is the share of sweeps without any difference in which some arm is called better or
worse; `better` counts only the former. `found` is the share in which one arm with a true +0.4 AP is
called better. In `unequal` every arm has another SD, 0.15 exp(0.35 g) with g standard normal; in
`one wild` one arm without a difference has three times the others' SD, in `wild baseline` the
baseline, which is in every comparison. `auto` is what tables use:
one variance for all arms unless a test says that they differ; `equal` and `unequal` are its halves.

With three seeds no test sees that SDs differ by a third: `auto` then claims too much, and what is
known to vary unequally has to be compared with `unequal`, which costs power where it is not so.
Where the baseline itself varies three times as much neither keeps the 5 %: three seeds say too
little of its variance, and all comparisons share its error.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dashboards.inference import Observation, compare
from dashboards.inference.variances import Variances

RESULTS = Path(__file__).parent / "results"
SD, EFFECT, SHARED = 0.15, 0.4, 0.5
ARMS, SEEDS = 8, 3
BASELINE, PLANTED = "arm0", "arm1"

Deviations = Callable[[np.random.Generator], NDArray[np.float64]]


def alike(random: np.random.Generator) -> NDArray[np.float64]:
    return np.full(ARMS + 1, SD)


def unequal(random: np.random.Generator) -> NDArray[np.float64]:
    return SD * np.exp(0.35 * random.standard_normal(ARMS + 1))


def one_wild(random: np.random.Generator) -> NDArray[np.float64]:
    return SD * np.where(np.arange(ARMS + 1) == 2, 3.0, 1.0)


def wild_baseline(random: np.random.Generator) -> NDArray[np.float64]:
    return SD * np.where(np.arange(ARMS + 1) == 0, 3.0, 1.0)


WORLDS: dict[str, Deviations] = {
    "equal": alike,
    "unequal": unequal,
    "one wild": one_wild,
    "wild baseline": wild_baseline,
}


def draws(
    sweeps: int, effect: float, deviations: Deviations, seeds: int, shared: float, seed: int
) -> Iterator[NDArray[np.float64]]:
    """The AP of each arm and seed, sweep by sweep: (ARMS + 1) x seeds."""
    random = np.random.default_rng(seed)
    for _ in range(sweeps):
        sd = deviations(random)[:, None]
        own = sd * math.sqrt(1 - shared) * random.standard_normal((ARMS + 1, seeds))
        values = own + SD * math.sqrt(shared) * random.standard_normal(seeds)
        values[1] += effect
        yield values


def observed(values: NDArray[np.float64]) -> list[Observation]:
    return [
        Observation(f"arm{arm}", seed, "converged", float(value))
        for arm, of_arm in enumerate(values)
        for seed, value in enumerate(of_arm)
    ]


def rates(world: str, variances: Variances, sweeps: int, seed: int) -> dict[str, float]:
    """The shares of sweeps: with a false claim, with a false `better`, with the effect found."""
    verdicts = {}
    for effect in (0.0, EFFECT):
        drawn = draws(sweeps, effect, WORLDS[world], SEEDS, SHARED, seed + (effect > 0))
        tables = (compare(observed(y), BASELINE, variances=variances) for y in drawn)
        verdicts[effect] = [{c.arm: c.verdict for c in t.comparisons} for t in tables]
    null = [set(arms.values()) for arms in verdicts[0.0]]
    return {
        "false": sum(bool(v & {"better", "worse"}) for v in null) / sweeps,
        "better": sum("better" in v for v in null) / sweeps,
        "found": sum(arms[PLANTED] == "better" for arms in verdicts[EFFECT]) / sweeps,
    }


def standard_error(share: float, sweeps: int) -> float:
    return math.sqrt(share * (1 - share) / sweeps)


def main() -> None:
    parser = argparse.ArgumentParser(description="False claims and power of the ablation table.")
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{args.sweeps} sweeps of {ARMS} arms and a baseline, {SEEDS} seeds; ± standard error")
    print(f"{'variances':<13} {'method':<8} {'false':>14} {'better':>14} {'found':>14}")
    rows = []
    methods: tuple[Variances, ...] = ("auto", "equal", "unequal")
    for world in WORLDS:
        for method in methods:
            row = rates(world, method, args.sweeps, args.seed)
            shown = (f"{v:.3f} ± {standard_error(v, args.sweeps):.3f}" for v in row.values())
            print(f"{world:<13} {method:<8} " + " ".join(f"{text:>14}" for text in shown))
            rows.append({"variances": world, "method": method, **row})
    RESULTS.mkdir(exist_ok=True)
    out = {"sweeps": args.sweeps, "seed": args.seed, "arms": ARMS, "seeds": SEEDS, "rows": rows}
    (RESULTS / "honesty.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
