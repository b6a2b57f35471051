"""What the benchmarks share: contestants timed in turns, the machine described, results as data."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def in_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int = 5
) -> dict[str, list[float]]:
    """Seconds of each call: every contestant once in a round, after one round that is not counted.
    Other work on the machine then slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, call in contestants.items():
            began = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times faster the second is: the median over the rounds of their ratio."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "gpu": gpu,
        "torch": torch.__version__,
        "load_average": os.getloadavg()[1],
    }


def write(name: str, found: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**found, **machine()}, indent=1) + "\n")
