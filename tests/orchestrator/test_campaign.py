"""The order in which cells are started."""

from __future__ import annotations

from typing import Any

from orchestrator.campaign import in_order


def job(name: str, seed: int, steps: int, ranks: int = 2, gpus: float = 0) -> dict[str, Any]:
    config = {"seed": seed, "train": {"steps": steps}}
    return {"id": name, "config": config, "ranks": ranks, "gpus_per_worker": gpus}


def test_large_gangs_then_seeds_in_their_order_then_few_steps() -> None:
    jobs = [
        job("seed 7, long", 7, 100),
        job("seed 7, short", 7, 10),
        job("seed 3, long", 3, 100),
        job("seed 3, short, four workers", 3, 10, ranks=4),
        job("seed 3, one GPU", 3, 100, ranks=1, gpus=1),
        job("seed 7, short too", 7, 10),
    ]
    assert [j["id"] for j in in_order(jobs)] == [
        "seed 3, one GPU",
        "seed 3, short, four workers",
        "seed 7, short",
        "seed 7, short too",
        "seed 7, long",
        "seed 3, long",
    ]
