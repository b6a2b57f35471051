"""Which code, which libraries and which process made a result; plain strings, for tags."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "pycocotools")


@cache
def code_tags() -> dict[str, str]:
    """`git.commit` (and `git.dirty`) when this package runs from a checkout, and `version.*` of
    what results depend on."""
    tags = {"version.python": platform.python_version()}
    for name in LIBRARIES:
        try:
            tags[f"version.{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    here = Path(__file__).resolve()
    # installed in an environment inside another checkout, that one's commit would say nothing
    if _git(here.parent, "ls-files", "--error-unmatch", here.name):
        tags["git.commit"] = _git(here.parent, "rev-parse", "HEAD")
        changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
        tags["git.dirty"] = str(bool(changed)).lower()
    return tags


@cache
def process_tags() -> dict[str, str]:
    """Names this process so that a later one can tell whether it still lives."""
    pid = os.getpid()
    return {
        "orchestrator.host": socket.gethostname(),
        "orchestrator.pid": str(pid),
        "orchestrator.started": _start_of(pid) or "",
    }


def owner_of(tags: dict[str, str]) -> str:
    """Whose is a run that carries these `process_tags`: `us`, `alive` (another process here),
    `gone`, or `elsewhere` (another host: whether that process lives cannot be told from here)."""
    mine = process_tags()
    theirs = {key: tags.get(key, "") for key in mine}
    if theirs == mine:
        return "us"
    if not theirs["orchestrator.pid"].isdigit():
        return "gone"
    if theirs["orchestrator.host"] != mine["orchestrator.host"]:
        return "elsewhere"
    started = _start_of(int(theirs["orchestrator.pid"]))
    return "alive" if started and started == theirs["orchestrator.started"] else "gone"


def _start_of(pid: int) -> str | None:
    """When process `pid` started, as the system writes it (None: no such process, or it is a
    zombie). Process ids are used again, so an id alone proves nothing."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] == "Z":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id")
        return f"{boot.read_text().strip()}:{fields[19]}" if boot.exists() else fields[19]
    return _run(["ps", "-o", "lstart=", "-p", str(pid)]) or None


def _git(folder: Path, *arguments: str) -> str:
    return _run(["git", "-C", str(folder), *arguments])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
