"""Which code, which libraries, which machine and which process made a result; plain strings, for
tags. Imports no torch: a rank has it loaded, the orchestrator has not."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "pycocotools", "numpy", "pillow")
PACKAGES = ("orchestrator/*.py", "detcore/*.py")  # with all folders below
PLAIN = (  # whatever the user's settings are
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-relative"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
LARGEST_DIFF = 1_000_000  # characters


@cache
def code_tags() -> dict[str, str]:
    """`git.commit` and `git.dirty` when this package runs from a checkout, `git.diff` (what
    `diff_id` gives) when that was changed, and `version.*` of what results depend on."""
    tags = {"version.python": platform.python_version()}
    for name in LIBRARIES:
        try:
            tags[f"version.{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if root := _checkout():
        diff = code_diff()
        tags["git.commit"] = _git(root, "rev-parse", "HEAD")
        tags["git.dirty"] = str(bool(diff)).lower()
        if diff:
            tags["git.diff"] = diff_id(diff)
    return tags


@cache
def code_diff() -> str:
    """What the checkout has over its commit, as `git apply` takes it: changed files, and new Python
    files of the packages that train. Empty for none, and outside a checkout; of a very long one
    only the beginning."""
    root = _checkout()
    if not root:
        return ""
    parts = [_git(root, "diff", "HEAD", *PLAIN, strip=False)]
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *PACKAGES)
    for name in filter(None, new.split("\0")):
        parts.append(
            _git(root, "diff", *PLAIN, "--no-index", "--", os.devnull, name, strip=False, ok=(0, 1))
        )
        if sum(map(len, parts)) > LARGEST_DIFF:
            break
    return _cut("".join(parts))


def diff_id(diff: str) -> str:
    """A short name of a diff: equal for equal ones."""
    return hashlib.sha256(diff.encode()).hexdigest()[:12]


# ---------------------------------------------------------------- the machine, seen by a rank


def rank_tags(local_rank: int, on_gpu: bool) -> dict[str, str]:
    """What a rank's numbers depend on beside the code: `cpu.name`, `threads.*` and, with `on_gpu`,
    `gpu.name` and the versions of CUDA, cuDNN, NCCL and the driver. To be called in the rank's own
    process, with torch loaded and the gang's GPUs visible: CUDA starts here. Never raises."""
    tags = {"cpu.name": _cpu_name(), "threads.omp": os.environ.get("OMP_NUM_THREADS", "not set")}
    torch = sys.modules.get("torch")
    if torch is None:
        return tags
    tags["threads.torch"] = str(torch.get_num_threads())
    with suppress(Exception):  # a GPU that does not start is told by the training that needs it
        if on_gpu and torch.cuda.is_available():
            tags["gpu.name"] = gpu_names()[local_rank % torch.cuda.device_count()]
            versions = {
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
                "nccl": ".".join(map(str, torch.cuda.nccl.version())),
                "driver": _driver(),
            }
            tags |= {f"version.{name}": str(v) for name, v in versions.items() if v}
    return tags


def gpu_names() -> list[str]:
    """The GPUs that this process sees, in the order of their numbers; [] without torch or CUDA."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]


def gang_tags(ranks: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The `rank_tags` of a gang's ranks, in their order, as tags of the cell. Where ranks differ,
    all values are named; `gpu.names` counts them: `2 x NVIDIA H100 80GB HBM3`."""
    names = dict.fromkeys(name for tags in ranks for name in tags)
    merged = {
        name: ", ".join(dict.fromkeys(tags[name] for tags in ranks if name in tags))
        for name in names
    }
    if merged.pop("gpu.name", None):
        counts = Counter(tags["gpu.name"] for tags in ranks if "gpu.name" in tags)
        merged["gpu.names"] = ", ".join(f"{n} x {name}" for name, n in counts.items())
    return merged


# ---------------------------------------------------------------- processes


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


def process_began() -> float | None:
    """When this process started, in seconds since the epoch; None where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


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


def _checkout() -> Path | None:
    """The checkout that this package runs from; None when it is installed elsewhere. (In an
    environment inside another checkout, that one's commit would say nothing.)"""
    here = Path(__file__).resolve()
    if not _git(here.parent, "ls-files", "--error-unmatch", here.name):
        return None
    top = _git(here.parent, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def _driver() -> str:
    asked = _run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return asked.partition("\n")[0].strip()


def _cut(text: str) -> str:
    if len(text) <= LARGEST_DIFF:
        return text
    return f"{text[:LARGEST_DIFF]}\n[cut: only the first {LARGEST_DIFF} characters are kept]\n"


def _git(folder: Path, *arguments: str, strip: bool = True, ok: Sequence[int] = (0,)) -> str:
    return _run(["git", "-C", str(folder), *arguments], strip, ok)


def _run(command: list[str], strip: bool = True, ok: Sequence[int] = (0,)) -> str:
    """Standard output, empty when the command fails or is not there."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode not in ok:
        return ""
    return done.stdout.strip() if strip else done.stdout
