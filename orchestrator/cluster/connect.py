"""Ray: join the cluster that is named or start one on this machine, and say what it can hold."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

WORKER_ENV = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # a slow goodbye must not fail the next cell
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative data paths keep their meaning
}
DRIVER_ENV = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with the new console, verbose=0 is not silent
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # its own books are thrown away: the ledger is ours
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is handled by orchestrator.run
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


KNOCK_S = 20.0
HTTP2_SETTINGS = 4  # the type of the frame that both sides send first (RFC 9113, section 3.4)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, HTTP2_SETTINGS, 0, 0, 0, 0, 0])


class ClusterError(ValueError):
    """The cluster cannot be reached or cannot hold the sweep; one line with the remedy."""


@dataclass(frozen=True)
class Cluster:
    """A live connection. `dashboard` is the address of Ray's web page, empty when there is none."""

    nodes: tuple[Mapping[str, float], ...]  # what each living node has in all: CPU, GPU ...
    dashboard: str
    local: bool
    needs_token: bool

    def where(self) -> str:
        cpus, gpus = (sum(node.get(what, 0) for node in self.nodes) for what in ("CPU", "GPU"))
        size = f"{cpus:g} CPUs, {gpus:g} GPUs"
        return f"this machine ({size})" if self.local else f"{len(self.nodes)} nodes ({size})"

    def room_for(self, worker: Mapping[str, float]) -> float:
        """How many such workers this cluster holds at once; one that needs nothing fits always."""
        needs = {what: n for what, n in worker.items() if n}
        if not needs:
            return math.inf
        # a worker lies on one node: what is left over on several does not add up
        return sum(
            min(int(node.get(what, 0) / n + 1e-6) for what, n in needs.items())
            for node in self.nodes
        )


@contextmanager
def connected(address: str | None, largest_gang_cpus: float) -> Iterator[Cluster]:
    """A Ray cluster for the length of the block: the one at `address` or RAY_ADDRESS, else a local
    one that ends with it.

    A local cluster is given at least `largest_gang_cpus` logical CPUs, so that a small machine
    still runs every cell (slowly).
    """
    os.environ.update(DRIVER_ENV)
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.update(WORKER_ENV)
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            cpus = max(os.cpu_count() or 1, int(largest_gang_cpus + 0.999))
            context = ray.init(
                address="local",  # not whatever cluster happens to run on this machine
                num_cpus=cpus,
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                **quiet,
            )
        else:
            _knock(address)
            # no runtime_env: with one, each process of a gang starts another interpreter first
            context = ray.init(address=address, **quiet)
    except Exception as error:
        raise ClusterError(_explain(address, error)) from None
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # ray.init puts its own handler in its place
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield Cluster(
            nodes=tuple(node["Resources"] for node in ray.nodes() if node["Alive"]),
            dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
            local=address is None,
            needs_token=os.environ.get("RAY_AUTH_MODE") == "token",
        )
    finally:
        ray.shutdown()


def refuse_impossible(jobs: Iterable[dict[str, Any]], cluster: Cluster) -> None:
    """Raise ClusterError for the first cell that this cluster could never hold."""
    for job in jobs:
        each = {"CPU": job["cpus_per_worker"], "GPU": job["gpus_per_worker"]}
        if each["GPU"] % 1:
            raise ClusterError(
                f"cell {job['label']}: resources.gpus_per_worker must be a whole number, is "
                f"{each['GPU']:g}: two workers of one gang cannot share a GPU (NCCL refuses)"
            )
        room = cluster.room_for(each)
        if room < job["ranks"]:
            size = " and ".join(f"{n:g} {what}" for what, n in each.items() if n)
            raise ClusterError(
                f"cell {job['label']} needs {job['ranks']} workers of {size} at once, "
                f"{cluster.where()} has room for {room}; run on a larger cluster (--address), "
                "take another --profile, or leave the cell out (--only)"
            )


def _knock(address: str) -> None:
    """Raise OSError soon when nothing listens at `host:port`, or what does speaks no gRPC, as Ray
    does; Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S) as door:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        door.sendall(HTTP2)
        head = door.recv(9)
    if len(head) < 9 or head[3] != HTTP2_SETTINGS:
        raise OSError("what listens there is not Ray")


def _explain(address: str | None, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if first.startswith("Version mismatch"):  # the versions are in the lines below
        first = " ".join(str(error).split())[:300]
    if address is None:
        return f"Ray could not be started on this machine: {first}"
    hint = ""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        hint = (
            "; if the cluster uses token authentication, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN here as on its nodes"
        )
    elif not isinstance(error, ConnectionRefusedError | TimeoutError):
        hint = "; if it refuses the token, set RAY_AUTH_TOKEN here to that of its nodes"
    return f"no Ray cluster answers at {address}: {first}{hint}"
