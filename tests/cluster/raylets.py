"""Nodes of a Ray cluster as they are started by hand: `ray start`, each with an environment of its
own, which its workers inherit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.cluster.conftest import MARK, ROOT, marked, until
from tests.orchestrator.server import free_port

UP = b"Ray runtime started"
TRIES = 3  # Ray gives a node half a minute to start, which a very busy machine does not keep
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class Raylets:
    """`with Raylets() as nodes: nodes.start("a") ...`; the first node is the head. Nothing of them
    stays."""

    def __init__(self, token: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))  # Ray puts sockets below it
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.mark = f"raylets-{os.getpid()}-{self.port}"
        self.auth = {"RAY_AUTH_MODE": "disabled"}
        if token:
            self.auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Raylets:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, **more: str) -> dict[str, str]:
        """What a driver of this cluster has."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_", "TUNE_"))
        }
        return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **self.auth, **more}

    def start(
        self, name: str, cpus: float = 1, gpus: float = 0, before: str = "", **environment: str
    ) -> None:
        """`before` is a shell command, run in a mount namespace of the node's own."""
        command = [*RAY, "start", "--block", "--node-name", name, "--num-cpus", str(cpus)]
        command += ["--num-gpus", str(gpus), "--disable-usage-stats"]
        if self.processes:
            command += ["--address", self.address]
        else:
            command += ["--head", "--port", str(self.port), "--temp-dir", str(self.folder)]
            command += ["--include-dashboard", "false", "--ray-client-server-port"]
            command += [str(free_port())]
            command += ["--node-ip-address", "127.0.0.1"]
        if before:
            words = " ".join(f"'{word}'" for word in command)
            command = ["unshare", "-m", "sh", "-c", f"{before} && exec {words}"]
        log = self.folder / f"{name}.log"
        for _ in range(TRIES):
            with log.open("wb") as out:
                self.processes[name] = subprocess.Popen(
                    command,
                    env=self.environment(**environment) | {MARK: self.mark},
                    cwd=self.folder,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            until(lambda: UP in log.read_bytes() or self._has_ended(name), f"node {name}")
            if UP in log.read_bytes():
                return
        raise AssertionError(log.read_text())

    def _has_ended(self, name: str) -> bool:
        return self.processes[name].poll() is not None
