"""A PostgreSQL of its own for a measurement."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.orchestrator.server import free_port

USER = "postgres"  # who runs it where we are root, whom PostgreSQL refuses


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a new, empty database, as MLflow takes it. Raises SystemExit where PostgreSQL
    is not installed."""
    bin = _binaries()
    user = USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        port, data = free_port(), folder / "data"

        def run(*command: str) -> None:
            subprocess.run(
                [bin / command[0], *command[1:]],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        run("initdb", "-D", str(data), "-U", "bench", "-A", "trust", "--encoding=UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
        run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")


def _binaries() -> Path:
    found = [Path(p).resolve() for p in (shutil.which("pg_ctl"),) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    if not found:
        raise SystemExit("PostgreSQL is not installed (initdb, pg_ctl); try --store sqlite")
    return found[0].parent
