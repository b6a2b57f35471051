"""A gang: the rank actors of one cell, each in its own bundle of the cell's placement group, kept
warm from cell to cell.

These classes run inside Ray's worker processes. torch is imported there, on construction, and never
in the driver or in a supervisor. What a rank raises comes back as a value; only a dying process
raises (`RayActorError`).
"""

from __future__ import annotations

import collections
import socket
import time
import traceback
from pathlib import Path
from typing import Any

Job = dict[str, Any]
"""One cell for the gang: id, label, config (plain dict), folder, ranks, cpus_per_worker,
gpus_per_worker, timeouts."""


class Rank:
    """One process, one device. `run` trains; `poll` is called meanwhile, so the actor needs more
    than one thread."""

    def __init__(self) -> None:
        import torchvision  # noqa: F401

        import detcore.train  # noqa: F401

        self._points: collections.deque[dict[str, Any]] = collections.deque()
        self._beat = time.time()

    def where(self) -> dict[str, Any]:
        """What the supervisor needs to form the gang, and a person to find this process."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        context = ray.get_runtime_context()
        return {
            "ip": ray.util.get_node_ip_address(),
            "port": port,
            "node": context.get_node_id(),
            "actor": context.get_actor_id(),
            "gpus": [str(g) for g in ray.get_gpu_ids()],
        }

    def see_gpus(self, ids: list[str]) -> None:
        """Make all GPUs of this gang on this node visible, as NCCL's peer-to-peer transport wants;
        before CUDA starts."""
        import os

        import torch

        if ids and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ids)

    def run(self, job: Job, rank: int, local_rank: int, meeting: str) -> dict[str, Any]:
        """Train the cell as `rank`; returns {"result": ...}, or {"fault": ...} with the traceback
        of what went wrong."""
        from detcore.config import Config, from_dict
        from detcore.distributed import Gang, process_group
        from detcore.train import train

        self._points.clear()
        self._beat = time.time()
        config = from_dict(Config, _on_its_device(job))
        gang = Gang(rank, job["ranks"], local_rank)
        try:
            Path(job["folder"]).mkdir(parents=True, exist_ok=True)
            place = Path(meeting[5:]) if meeting.startswith("file:") else meeting
            # the supervisor notices a hang; a collective may wait while rank 0 scores
            patience = 3600 + job["hang_timeout_s"]
            with process_group(gang, place, config.runtime.device, patience):
                result = train(
                    config,
                    workdir=Path(job["folder"]),
                    gang=gang,
                    report=lambda point: self._points.append(vars(point)),
                    should_stop=self._alive,
                )
            return {"result": result.to_json()}
        except Exception as error:
            return {"fault": _describe(error, rank)}

    def poll(self) -> dict[str, Any]:
        """The points reported since the last call, and the seconds since this rank last gave a sign
        of life."""
        points = [self._points.popleft() for _ in range(len(self._points))]
        return {"points": points, "silent_s": time.time() - self._beat}

    def _alive(self) -> bool:
        """The trainer asks this in every step whether to stop: never yet, but it is a heartbeat."""
        self._beat = time.time()
        return False


def _on_its_device(job: Job) -> dict[str, Any]:
    """The config with `auto` settled: a cell trains on GPUs exactly when it has reserved them."""
    config: dict[str, Any] = job["config"]
    if config["runtime"]["device"] != "auto":
        return config
    device = "cuda" if job["gpus_per_worker"] else "cpu"
    return {**config, "runtime": {**config["runtime"], "device": device}}


def _describe(error: Exception, rank: int) -> dict[str, Any]:
    import torch

    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return {
        "outcome": "oom" if out_of_memory else "crashed",
        "reason": f"{type(error).__name__}: {error}".strip(),
        "traceback": traceback.format_exc(),
        "rank": rank,
        "time": time.time(),
        "final": isinstance(error, ValueError),  # a mistake in data or settings: stays as it is
        # a peer that died looks like this from here; the cause is to be looked for elsewhere
        "secondhand": isinstance(error, RuntimeError)
        and any(
            s in str(error)
            for s in ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError")
        ),
    }
