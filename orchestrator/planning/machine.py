"""What this machine has, without torch: the processors and, by the driver's own tool, the GPUs."""

from __future__ import annotations

import os
import subprocess

from orchestrator.planning.headroom import Gpu

_QUERY = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]


def gpus_here() -> list[Gpu]:
    """The NVIDIA GPUs of this machine that CUDA_VISIBLE_DEVICES lets through; [] without a
    driver."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return read_gpus(done.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def read_gpus(text: str, visible: str | None = None) -> list[Gpu]:
    """From lines such as `0, GPU-8a1c..., NVIDIA H100 80GB HBM3, 81559` (MiB); `visible` as in
    CUDA_VISIBLE_DEVICES: numbers, or beginnings of the second column."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4:
            continue
        index, uuid, name, memory = parts
        chosen = [v.strip() for v in visible.split(",")] if visible is not None else [index]
        if any(v == index or (v and uuid.startswith(v)) for v in chosen):
            found.append(Gpu(name, int(memory) * 2**20 / 1e9 if memory.isdigit() else None))
    return found
