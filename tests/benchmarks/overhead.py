"""What a cell costs beside its training: this orchestrator, and Ray Tune with Ray Train.

    python -m tests.benchmarks.overhead [--noop 200] [--ddp 10] [--theirs 4]

One cell at a time, two ranks, on a Ray of this machine. `noop` cells return at once; `ddp` cells
train 50 steps of a three-layer convolution on 64-pixel images with gloo, and say how long it took.
The cost of a cell is the time from the end of the one before to its own end, less its training;
printed is the median, the first cell left out (it starts processes) and shown by itself. Theirs is
the documented pattern: a Tune function that calls TorchTrainer.fit. Both run in turns, in one go.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cluster.connect import DRIVER_ENV, WORKER_ENV
from orchestrator.cluster.gangs import Gangs
from orchestrator.cluster.queue import Limits
from orchestrator.running.campaign import Campaign
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from tests.cluster.light import Noted, job

RANKS, STEPS = 2, 50
TRAINS = {"noop": False, "ddp": True}


def conv_steps() -> float:
    """Train; the seconds that it took. The process group stands."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    began = time.monotonic()
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 4, 3, 2)
    )
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images = torch.randn(4, 3, 64, 64)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
    return time.monotonic() - began


def our_cell(
    job: dict[str, Any],
    rank: int,
    local_rank: int,
    meeting: str,
    *,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], bool],
) -> dict[str, Any]:
    seconds = 0.0
    if job["config"]["train"]["steps"] > 1:
        import torch.distributed as dist

        where = meeting.replace("file:", "file://")
        dist.init_process_group("gloo", where, rank=rank, world_size=job["ranks"])
        try:
            seconds = conv_steps()
        finally:
            dist.destroy_process_group()
    values = {"seconds": seconds}
    return {"outcome": "converged", "reason": "", "step": 1, "metrics": {}, "values": values}


def ours(kind: str, count: int, folder: Path) -> list[float]:
    noted = Noted()
    entry, steps = "tests.benchmarks.overhead:our_cell", STEPS if TRAINS[kind] else 1
    jobs = [
        job(
            f"{kind}{i}",
            ranks=RANKS,
            gpus=0,
            entry=entry,
            folder=str(folder / f"{kind}{i}"),
            config={"seed": 0, "train": {"steps": steps}},
        )
        for i in range(count)
    ]
    began = time.monotonic()
    with Gangs() as gangs:
        one = Limits(cells=1)
        run_cells(Campaign(jobs, noted, gangs, Policy(Failure()), limits=one), "ours")
    ends = [began, *(at for at, _, _ in noted.of("ended"))]
    faults = [end["fault"]["reason"] for _, _, end in noted.of("ended") if "fault" in end]
    assert not faults, faults[0]
    spent = [end["result"]["values"]["seconds"] for _, _, end in noted.of("ended")]
    return [b - a - s for a, b, s in zip(ends, ends[1:], spent, strict=False)]


def theirs(kind: str, count: int, folder: Path) -> list[float]:
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    trains = TRAINS[kind]

    def worker(config: dict[str, Any]) -> None:
        ray.train.report({"seconds": conv_steps() if trains else 0.0})

    def cell(config: dict[str, Any]) -> None:
        TorchTrainer(
            worker,
            train_loop_config={},
            scaling_config=ray.train.ScalingConfig(num_workers=RANKS),
            run_config=ray.train.RunConfig(
                name=f"{kind}-{config['i']}",
                storage_path=str(folder),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    class Ends(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.spent: list[float] = []

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any) -> None:
            self.spent.append(result["seconds"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            self.ends.append(time.monotonic())

    seen, began = Ends(), time.monotonic()
    tune.Tuner(
        tune.with_resources(cell, {"CPU": 0.01}),
        param_space={"i": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(name=kind, storage_path=str(folder), verbose=0, callbacks=[seen]),
    ).fit()
    ends = [began, *seen.ends]
    return [b - a - s for a, b, s in zip(ends, ends[1:], seen.spent, strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead")
    parser.add_argument("--noop", type=int, default=200)
    parser.add_argument("--ddp", type=int, default=10)
    parser.add_argument("--theirs", type=int, default=4, help="cells of theirs, of each kind")
    args = parser.parse_args()
    # what their users would set as well: reports once in 2 s are no part of the comparison
    train = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    os.environ.update({**DRIVER_ENV, **WORKER_ENV, **train, "RAY_AUTH_MODE": "disabled"})
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=2 * RANKS, include_dashboard=False, **quiet)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        for kind, count in (("noop", args.noop), ("ddp", args.ddp)):
            if not count:
                continue
            mine = ours(kind, count, Path(scratch))
            other = theirs(kind, args.theirs, Path(scratch))
            pair = [statistics.median(costs[1:]) for costs in (mine, other)]
            print(
                f"{kind}: seconds a cell beside training: ours {pair[0]:.3f} ({count} cells, the "
                f"first {mine[0]:.1f}), Ray Tune + Ray Train {pair[1]:.3f} ({args.theirs} cells, "
                f"the first {other[0]:.1f}); ratio {pair[0] / pair[1]:.3f}",
                flush=True,
            )
    ray.shutdown()


if __name__ == "__main__":
    main()
