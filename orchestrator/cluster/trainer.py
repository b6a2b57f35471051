"""The one place where the orchestrator meets detcore's training: what a rank runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision  # noqa: F401 (warm before the first cell)

from detcore.config import Config, from_dict
from detcore.distributed import Gang, process_group
from detcore.train import train
from orchestrator.cluster.gang import Job


def train_cell(
    job: Job,
    rank: int,
    local_rank: int,
    meeting: str,
    *,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], bool],
) -> dict[str, Any]:
    """See `orchestrator.cluster.gang.Entry`. The ranks meet at `meeting`, `tcp://host:port` or
    `file:/path`."""
    config = from_dict(Config, _on_its_device(job))
    place = Path(meeting[5:]) if meeting.startswith("file:") else meeting
    gang = Gang(rank, job["ranks"], local_rank)
    # the supervisor notices a hang; a collective may wait while rank 0 scores
    patience = 3600 + job["hang_timeout_s"]
    with process_group(gang, place, config.runtime.device, patience):
        result = train(
            config,
            workdir=Path(job["folder"]),
            gang=gang,
            report=lambda point: report(vars(point)),
            should_stop=alive,
        )
    return result.to_json()


def _on_its_device(job: Job) -> dict[str, Any]:
    """The config with `auto` settled: a cell trains on GPUs exactly when it has reserved them."""
    config: dict[str, Any] = job["config"]
    if config["runtime"]["device"] != "auto":
        return config
    device = "cuda" if job["gpus_per_worker"] else "cpu"
    return {**config, "runtime": {**config["runtime"], "device": device}}
