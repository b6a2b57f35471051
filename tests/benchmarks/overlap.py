"""What an evaluation on the way costs a training: scored while it waits, and beside it
(`runtime.scoring`).

    python -m tests.benchmarks overlap [--images 1500] [--rounds 5]

The embedded set and detector, one process of one thread, so that a core is free, as the CPU's are
while GPUs train. A run has 3 evaluations on the way, of `images` images each, and one at its end.
`pause` is the longest time between two losses of a run, which is where it was evaluated: the
forward passes, and inline the scoring too. Results must be the same to every digit.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from detcore.config import Config, from_dict
from detcore.config.load import merge
from detcore.result import Point
from detcore.train import train
from tests.benchmarks.side_by_side import in_turns, ratio, write

BASE = Path(__file__).parents[2] / "sweeps/bases/shapes_tiny.yaml"
STEPS, EVERY = 400, 100


def training(
    images: int, scoring: str, pauses: list[float], results: list[object]
) -> Callable[[], None]:
    settings = {
        "data": {"source": {"val_images": images}},
        "train": {"steps": STEPS, "workers": 1},
        "eval": {"every": EVERY},
        "runtime": {"scoring": scoring, "checkpoint_every": 0, "log_every": 1},
    }
    config = from_dict(Config, merge(yaml.safe_load(BASE.read_text()), settings))

    def run() -> None:
        points: list[Point] = []
        with tempfile.TemporaryDirectory() as folder:
            result = train(config, workdir=Path(folder), report=points.append)
        told = [p.time for p in points if "loss/total" in p.values]
        pauses.append(max(b - a for a, b in itertools.pairwise(told)))
        metrics = sorted((p.step, p.values["mAP"]) for p in points if "mAP" in p.values)
        results.append((metrics, result.metrics, [p.values for p in points if p.step == STEPS]))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="What an evaluation on the way costs a training.")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pauses: dict[str, list[float]] = {"inline": [], "beside": []}
    results: list[object] = []
    seconds = in_turns(
        {way: training(args.images, way, pauses[way], results) for way in pauses}, args.rounds
    )
    assert all(found == results[0] for found in results)
    for way, times in seconds.items():
        pause = statistics.median(pauses[way][1:])
        print(f"{way:8} run {statistics.median(times):6.2f} s   pause {pause:5.2f} s")
    runs, waits = ratio(*seconds.values()), ratio(*(times[1:] for times in pauses.values()))
    print(f"a run inline takes {runs:.2f} times as long, its pauses {waits:.1f} times")
    sizes = {"images": args.images, "steps": STEPS, "evaluations": STEPS // EVERY}
    found = {"seconds": seconds, "pauses_s": pauses, "run_ratio": runs, "pause_ratio": waits}
    write("overlap", {**sizes, **found})


if __name__ == "__main__":
    main()
