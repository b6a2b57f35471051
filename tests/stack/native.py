"""What an image does for its command, done here: programs, a user, a database made on first use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.postgres import USER
from tests.cluster.conftest import ROOT

DEBIAN = Path("/usr/lib/postgresql")  # its programs are not on the path
OURS = ("python", "mlflow", "ray")
ENTRYPOINTS = {"prometheus": ["prometheus"]}  # what an image puts before the command


def program(name: str) -> str:
    """The program of this machine that a container calls `name`."""
    if name in OURS:
        return str(Path(sys.executable).with_name(name))
    newest = sorted(DEBIAN.glob(f"*/bin/{name}"), reverse=True)
    found = str(newest[0]) if newest else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def environment(folder: Path) -> dict[str, str]:
    """What every service has: our code, a home of its own, and nothing of the user's."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
    }


def command(
    kind: str,
    words: list[str],
    name: str,
    ip: str,
    environment: Mapping[str, str],
    folder: Path,
) -> list[str]:
    """`words` as a command of this machine."""
    if kind == "postgres":
        data = str(folder / "var/lib/postgresql/data")
        _make_database(data, environment)
        words = [*words, "-D", data, "-k", data]
    words = ENTRYPOINTS.get(kind, []) + words
    more = ["--node-ip-address", ip, "--node-name", name] if kind.startswith("ray-") else []
    return [program(words[0]), *words[1:], *more]


def process(kind: str) -> dict[str, Any]:
    """How it is run: PostgreSQL refuses root, and SIGINT is its image's signal to end."""
    if kind != "postgres":
        return {}
    user = USER if os.geteuid() == 0 else None
    return {"user": user, "stop_signal": signal.SIGINT}


def _make_database(data: str, environment: Mapping[str, str]) -> None:
    """As the image does when its volume is empty: a user with a password, which all who come by
    address are asked for, and a database."""
    if (Path(data) / "PG_VERSION").exists():
        return
    user = process("postgres")["user"]
    password = Path(data).with_name("password")
    password.write_text(environment["POSTGRES_PASSWORD"])
    for place in (Path(data), password):
        if user:
            shutil.chown(place, user)
    owner = environment["POSTGRES_USER"]
    init = ["initdb", "-D", data, "-U", owner, f"--pwfile={password}", "--encoding=UTF8"]
    init += ["--auth-local=trust", "--auth-host=scram-sha-256"]
    alone = ["postgres", "--single", "-D", data, "postgres"]
    for words, line in ((init, ""), (alone, f"create database {environment['POSTGRES_DB']}\n")):
        subprocess.run(
            [program(words[0]), *words[1:]],
            input=line,
            text=True,
            user=user,
            cwd=data,
            check=True,
            capture_output=True,
        )
    password.unlink()
