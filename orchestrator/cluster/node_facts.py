"""What a process on a node can say about it, as plain data.

This module is sent to the nodes as it is (`orchestrator.cluster.nodes`), because what they have
installed may be another version, or nothing at all: it uses the standard library alone, and what it
asks of the package there it imports inside a function. It imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "detection-ablation"
LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "numpy", "pillow", "pycocotools")
SOURCES = ("detcore", "orchestrator")  # what runs on a node
GPUS = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
TOKEN_S = 5.0  # a network disk shows a new file to others after a moment

Facts = dict[str, Any]


def node_facts(folder: str, token: str) -> Facts:
    """What this node has installed, its GPUs, and what it sees of `folder`, the cells' files, in
    which the file `token` was written elsewhere."""
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {name: v for name in (PACKAGE, *LIBRARIES) if (v := _version(name))},
        "source": _source(),
        "gpus": _gpus(),
        "storage": _storage(Path(folder), token),
        "free_bytes": _free(Path(folder)),
    }


def data_facts(sources: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Of each source of a config (detcore.config) its fingerprint on this node, or an `error`."""
    return [_data(source) for source in sources]


def _data(source: dict[str, Any]) -> dict[str, str]:
    try:
        from detcore.config import from_dict
        from detcore.config.schema import CocoFolder
        from detcore.data.fingerprint import data_fingerprint

        return {"fingerprint": data_fingerprint(from_dict(CocoFolder, source))}
    except ValueError as error:  # DataError among them, which says it in a line
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _source() -> dict[str, str]:
    """Where the package lies that a process on this node imports, and the sha256 of its Python
    files; empty without one."""
    digest = hashlib.sha256()
    place = ""
    for name in SOURCES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            return {}
        root = Path(next(iter(spec.submodule_search_locations)))
        place = str(root.parent)
        for file in sorted(root.rglob("*.py")):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name}/{file.relative_to(root).as_posix()} {content}\n".encode())
    return {"place": place, "sha256": digest.hexdigest()}


def _gpus() -> list[str]:
    """`NVIDIA H100 80GB HBM3, 81559 MiB`; of the whole machine, whatever this process may use."""
    try:
        done = subprocess.run(GPUS, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _storage(folder: Path, token: str) -> str:
    """What is wrong with `folder` here; empty when it is the driver's and can be written to."""
    give_up = time.monotonic() + TOKEN_S
    while not (folder / token).is_file():
        if time.monotonic() > give_up:
            return "is not shared" if folder.is_dir() else "does not exist"
        time.sleep(0.2)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-"):
            return ""
    except OSError as error:
        return f"cannot be written to ({error.strerror})"


def _free(folder: Path) -> int | None:
    """Bytes that a user may still write to the disk of `folder`, whether it exists yet or not."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def torch_facts(arguments: list[str], patience_s: float) -> dict[str, Any]:
    """What `python -m detcore.reach ARGUMENTS` says here, in a process of its own (this one has no
    torch); with `error`, the last line that it wrote before it failed."""
    environment = dict(os.environ)
    if not environment.get("CUDA_VISIBLE_DEVICES"):  # Ray hides them from a task that reserves none
        environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "detcore.reach", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience_s, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no end within {patience_s:.0f} s"}
    facts: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with suppress(ValueError):
            facts |= json.loads(line)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        facts["error"] = said[-1] if said else f"exit code {done.returncode}"
    return facts


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
