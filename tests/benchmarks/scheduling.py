"""How well a mixed sweep fills a cluster, on real Ray with cells that sleep.

    python -m tests.benchmarks.scheduling [--arms 30] [--seeds 2] [--mean 20] [--cancels 200]

Four nodes of eight logical GPUs on this machine; gangs of 1, 2, 4 and 8. Printed: the share of the
slots that cells used, beside the best that any schedule could (the work over the slots, or the
longest cell); how long gangs of eight waited; and whether a placement group is left, at the end and
after so many cells were cancelled.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.cluster.connect import DRIVER_ENV, WORKER_ENV
from orchestrator.cluster.gangs import Gangs
from orchestrator.running.campaign import Campaign
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from tests.cluster.light import Noted, job

NODES, GPUS = 4, 8


@contextmanager
def cluster() -> Iterator[None]:
    os.environ.update({**DRIVER_ENV, **WORKER_ENV, "RAY_AUTH_MODE": "disabled"})
    import ray
    from ray.cluster_utils import Cluster

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    for _ in range(NODES):
        made.add_node(num_cpus=GPUS, num_gpus=GPUS)
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def groups_left() -> int:
    from ray.util import placement_group_table

    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


def workload(arms: int, seeds: int, mean: float) -> list[dict[str, Any]]:
    """The same for every call: sizes at random, lengths between half and one and a half `mean`."""
    dice = random.Random(0)
    drawn = [(dice.choice([1, 2, 4, 8]), dice.uniform(0.5, 1.5) * mean) for _ in range(arms)]
    return [
        job(
            f"seed{seed}-arm{arm}",
            ranks=ranks,
            baseline=arm == 0,
            config={"seed": seed, "train": {"steps": round(seconds)}, "sleep_s": seconds},
        )
        for seed in range(seeds)
        for arm, (ranks, seconds) in enumerate(drawn)
    ]


def fill(jobs: list[dict[str, Any]]) -> dict[str, float]:
    """Run `jobs`; what they came to. A slot is used from the start of a cell to its end: the time
    that processes of gangs take to start is not."""
    noted = Noted()
    with Gangs() as gangs:
        run_cells(Campaign(jobs, noted, gangs, Policy(Failure())), "fill")
    began = {id: at for at, id, _ in noted.of("started")}
    ended = {id: at for at, id, _ in noted.of("ended")}
    span = max(ended.values()) - min(began.values())
    seconds = {j["id"]: j["config"]["sleep_s"] for j in jobs}
    work = sum(j["ranks"] * seconds[j["id"]] for j in jobs)
    bound = max(work / (NODES * GPUS), max(seconds.values()))
    large = [began[j["id"]] - min(began.values()) for j in jobs if j["ranks"] == GPUS]
    return {
        "cells": len(jobs),
        "span_s": span,
        "bound_s": bound,
        "utilisation": bound / span,
        "last_large_gang_started_s": max(large, default=0.0),
        "placement_groups_left": groups_left(),
    }


class _Cancels:
    """A control that cancels every second cell as soon as it has a gang, the others when they
    run."""

    draining = drops = False

    def __init__(self, noted: Noted) -> None:
        self.noted = noted

    def read(self, running: Any, ended: Any) -> None:
        """Nobody is asked."""

    def cancelled(self, running: set[str]) -> set[str]:
        began = {id for _, id, _ in self.noted.of("started")}
        return {id for id in running if id in began or int(id[1:]) // 4 % 2}

    def starting(self, cell: str) -> bool:
        return True

    def dropped(self, cell: str) -> bool:
        return False

    def reason(self, cell: str) -> str:
        return "cancelled"


def cancel(count: int) -> dict[str, float]:
    """Cancel so many cells while their gangs start or run."""
    noted = Noted()
    jobs = [job(f"c{i}", ranks=(1, 2, 4, 8)[i % 4], sleep_s=600) for i in range(count)]
    began = time.monotonic()
    with Gangs() as gangs:
        control: Any = _Cancels(noted)
        run_cells(Campaign(jobs, noted, gangs, Policy(Failure()), control=control), "cancel")
    outcomes = [end["fault"]["outcome"] for _, _, end in noted.of("ended")]
    return {
        "cancelled": outcomes.count("cancelled"),
        "of_them_running": len({id for _, id, about in noted.of("started") if about}),
        "seconds": time.monotonic() - began,
        "placement_groups_left": groups_left(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scheduling")
    parser.add_argument("--arms", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--mean", type=float, default=20.0, help="seconds of a cell")
    parser.add_argument("--cancels", type=int, default=200)
    args = parser.parse_args()
    with cluster():
        if args.arms:
            for name, value in fill(workload(args.arms, args.seeds, args.mean)).items():
                print(f"{name:<28} {value:.3g}", flush=True)
        if args.cancels:
            for name, value in cancel(args.cancels).items():
                print(f"{name:<28} {value:.3g}", flush=True)


if __name__ == "__main__":
    main()
