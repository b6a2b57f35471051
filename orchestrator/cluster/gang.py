"""One rank of a gang: a process with one device, kept warm from cell to cell.

This runs inside Ray's worker processes. The function that trains is named by the job; its module
(and with it torch) is imported here, on construction, and never in the driver or in a supervisor.
What a rank raises comes back as a value; only a dying process raises (`RayActorError`).
"""

from __future__ import annotations

import collections
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cluster import evidence, last_words
from orchestrator.cluster.celllog import cell_log
from orchestrator.cluster.node_facts import free_port
from orchestrator.tracking.provenance import rank_tags

Job = dict[str, Any]
"""One cell for the gang: id, label, config (plain dict), folder, entry, ranks, cpus_per_worker,
gpus_per_worker, timeouts, whether it is of the baseline arm."""

Entry = Callable[..., dict[str, Any]]
"""What trains a cell in one rank: `entry(job, rank, local_rank, meeting, report=, alive=)` returns
the result (detcore.result.Result as plain data). `report` takes points as dicts, from rank 0;
`alive` is called in every step."""

TRAIN = "orchestrator.cluster.trainer:train_cell"


class Rank:
    """`run` trains; `poll` is called meanwhile, so the actor needs more than one thread."""

    def __init__(self, entry: str, folder: str, rank: int) -> None:
        self._points: collections.deque[dict[str, Any]] = collections.deque()
        self._beat = time.time()
        self._entry: Entry | None = None
        self._broken: dict[str, Any] | None = None
        module, _, function = entry.partition(":")
        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
            with last_words.kept(place, rank):
                self._entry = getattr(importlib.import_module(module), function)
        except (Exception, SystemExit) as error:
            self._broken = evidence.of_exception(error, rank, place)

    def where(self) -> dict[str, Any]:
        """What the gang needs to meet, and a person to find this process; with `broken`, the fault
        that keeps it from training."""
        import ray

        context = ray.get_runtime_context()
        return {
            "ip": ray.util.get_node_ip_address(),
            "node": context.get_node_id(),
            "actor": context.get_actor_id(),
            "job": context.get_job_id(),
            "gpus": [str(g) for g in ray.get_gpu_ids()],
            "pid": os.getpid(),
            "broken": self._broken,
        }

    def see_gpus(self, ids: list[str]) -> None:
        """Make all GPUs of this gang on this node visible, as NCCL's peer-to-peer transport wants;
        before CUDA starts."""
        torch = sys.modules.get("torch")
        if ids and torch and not torch.cuda.is_initialized():
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ids)

    def machine(self, local_rank: int, on_gpu: bool) -> dict[str, str]:
        """What the numbers of this rank depend on beside the code, as tags."""
        return rank_tags(local_rank, on_gpu)

    def free_port(self) -> int:
        return free_port()

    def run(self, job: Job, rank: int, local_rank: int, meeting: str) -> dict[str, Any]:
        """Train the cell as `rank`; returns {"result": ...}, or {"fault": ...} with the traceback
        of what went wrong."""
        self._points.clear()
        self._beat = time.time()
        folder = Path(job["folder"])
        try:
            assert self._entry is not None, "its gang was told that this rank is broken"
            folder.mkdir(parents=True, exist_ok=True)
            with cell_log(folder, rank), last_words.kept(folder, rank):
                result = self._entry(
                    job, rank, local_rank, meeting, report=self._points.append, alive=self._alive
                )
            return {"result": result}
        except (Exception, SystemExit) as error:  # the latter would take the process along
            return {"fault": evidence.of_exception(error, rank, folder)}

    def poll(self) -> dict[str, Any]:
        """The points reported since the last call, and the seconds since this rank last gave a sign
        of life."""
        points = [self._points.popleft() for _ in range(len(self._points))]
        return {"points": points, "silent_s": time.time() - self._beat}

    def _alive(self) -> bool:
        """The trainer asks this in every step whether to stop: never yet, but it is a heartbeat."""
        self._beat = time.time()
        return False
