"""Trains small runs that fail and small runs that converge, unjudged, and keeps what the monitor
reads of each: loss and gradient norm of every step, and the mAP at the end.

The data are in tests/benchmarks/curves/curves.json; `judging` replays them. The runs fail as
real ones do: a learning rate far too large, without clipping or with it, a momentum near 1, two
images to a batch of BN. Those that converge include ones near the edge.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CURVES = HERE / "curves" / "curves.json"
BASES = HERE.parents[1] / "sweeps" / "bases"
STEPS = 400
BLIND = {"explode_factor": 1e30, "min_map": 0.0}  # ends only where a number is not finite

RETINA, FCOS, CENTER = "shapes_tiny", "shapes_tiny_fcos", "shapes_tiny_centernet"


def _norm(norm: str) -> dict[str, Any]:
    act = {"kind": norm} if norm == "bn" else {"kind": norm, "groups": 8}
    return {part: {"norm_act": act} for part in ("backbone", "neck", "head")}


def runs() -> list[tuple[str, str, dict[str, Any]]]:
    """Name, base, settings."""
    found = []
    for seed in (0, 1):
        for lr, clip in ((0.05, 2), (0.1, 2), (0.2, 2), (0.02, 0)):
            found.append((RETINA, "gn", lr, clip, 0.9, 4, seed))
        found += [
            (RETINA, "bn", 0.05, 2, 0.9, 4, seed),
            (RETINA, "bn", 0.05, 2, 0.9, 1, seed),
            (RETINA, "evonorm_s0", 0.05, 2, 0.9, 2, seed),
            (FCOS, "gn", 0.05, 2, 0.9, 4, seed),
            (CENTER, "gn", 0.05, 2, 0.9, 4, seed),
            # those that are meant to fail
            (RETINA, "gn", 1.0, 0, 0.9, 2, seed),
            (RETINA, "gn", 4.0, 0, 0.9, 2, seed),
            (RETINA, "bn", 4.0, 0, 0.9, 2, seed),
            (RETINA, "evonorm_s0", 2.0, 0, 0.9, 2, seed),
            (RETINA, "gn", 20.0, 2, 0.9, 2, seed),
            (RETINA, "gn", 0.5, 0, 0.99, 2, seed),
            (RETINA, "bn", 20.0, 2, 0.99, 2, seed),
            (FCOS, "gn", 2.0, 0, 0.9, 2, seed),
            (CENTER, "gn", 2.0, 0, 0.9, 2, seed),
        ]
    return [_run(*one) for one in found]


def _run(
    base: str, norm: str, lr: float, clip: float, momentum: float, batch: int, seed: int
) -> tuple[str, str, dict[str, Any]]:
    name = f"{base} {norm} lr={lr:g} clip={clip:g} momentum={momentum:g} batch={batch} seed={seed}"
    settings = {
        "seed": seed,
        "model": _norm(norm) if base == RETINA else {},  # the others have gn
        "optim": {"lr": lr, "clip_norm": clip, "momentum": momentum},
        "train": {"steps": STEPS, "workers": 1, "batch_per_gpu": batch},
        "monitor": BLIND,
        "runtime": {"log_every": 1, "checkpoint_every": 0, "loader_workers": 0, "threads": 1},
    }
    return name, base, settings


def record(run: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    from detcore.config import Config, from_dict
    from detcore.config.load import merge
    from detcore.result import Point
    from detcore.train import train

    name, base, settings = run
    points: list[Point] = []
    config = from_dict(
        Config, merge(yaml.safe_load((BASES / f"{base}.yaml").read_text()), settings)
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, workdir=Path(folder), report=points.append)
    steps = [p for p in points if "loss/total" in p.values]
    assert [p.step for p in steps] == list(range(len(steps)))
    return {
        "name": name,
        "seed": settings["seed"],
        "steps": STEPS,
        "mAP": result.metrics.get("mAP"),
        "loss": [_short(p.values["loss/total"]) for p in steps],
        "grad_norm": [_short(p.values["grad_norm"]) for p in steps],
    }


def _short(value: float) -> float | str:
    """Four digits; what is not finite as its name."""
    return float(f"{value:.4g}") if math.isfinite(value) else repr(value)


def main() -> None:
    # by its module's name, under which the other processes find it
    from tests.benchmarks.record_curves import record as recorded

    wanted = [run for run in runs() if all(word in run[0] for word in sys.argv[1:])]
    found = []
    with ProcessPoolExecutor(2) as pool:
        for made in pool.map(recorded, wanted):
            found.append(made)
            tail = f"{made['loss'][0]} ... {made['loss'][-1]}"
            print(
                f"{made['name']}: {len(made['loss'])} steps, {tail}, mAP {made['mAP']}", flush=True
            )
    if not sys.argv[1:]:
        CURVES.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in found)
        CURVES.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
