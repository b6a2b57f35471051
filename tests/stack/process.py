"""A service as a process tree: what a container is to compose."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.conftest import MARK, PATIENCE, marked


@dataclass
class Service:
    """One service, or one of several of a kind (`ray-worker-1`). `check` is the health check of the
    compose file; `user` who runs it, None for us."""

    name: str
    command: list[str]
    environment: dict[str, str]
    check: list[str]
    folder: Path
    log: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def mark(self) -> str:
        return self.environment[MARK]

    def start(self) -> None:
        """Start it, and wait until its health check passes."""
        assert not self.is_running(), f"{self.name} runs"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_healthy()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_healthy(self) -> bool:
        """One health check, as compose makes it."""
        return not self._checked().returncode

    def wait_until_healthy(self) -> None:
        give_up = time.monotonic() + PATIENCE
        while (done := self._checked()).returncode:
            said = f"{self.name}: {done.stderr.decode()[-500:]}\n{self.said()}"
            assert self.is_running(), f"ended: {said}"
            if time.monotonic() > give_up:
                pytest.fail(f"not healthy after {PATIENCE} s: {said}")
            time.sleep(0.5)

    def kill(self) -> None:
        """SIGKILL to all of it at once, as when its machine goes."""
        for pid in self.living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait_for_all()

    def stop(self) -> None:
        """Ask it to end, as `docker compose stop` does; then kill what is left."""
        if self.process and self.is_running():
            self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.kill()

    def living(self) -> dict[int, str]:
        """Every process that came of it: pid to command line."""
        found = marked(self.mark)
        if self.process and self.is_running():
            # PostgreSQL's write their titles over the environment that has the mark
            found |= _below(self.process.pid)
        return found

    def said(self, lines: int = 40) -> str:
        """The end of what it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _checked(self) -> subprocess.CompletedProcess[bytes]:
        environment = {k: v for k, v in self.environment.items() if k != MARK}
        return subprocess.run(
            self.check, cwd=self.folder, env=environment, user=self.user, capture_output=True
        )

    def _wait_for_all(self) -> None:
        if self.process:
            self.process.wait()
        give_up = time.monotonic() + PATIENCE
        while left := self.living():
            assert time.monotonic() < give_up, left
            time.sleep(0.1)


def _below(pid: int) -> dict[int, str]:
    """A process and all that came of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        here = waiting.pop()
        with suppress(OSError):
            line = Path(f"/proc/{here}/cmdline").read_bytes()
            found[here] = line.replace(b"\0", b" ").decode().strip()
        waiting += children.get(here, [])
    return found
