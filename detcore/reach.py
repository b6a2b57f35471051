"""What torch finds on this machine, and whether the processes of a gang reach each other: one sum
over the process group that training uses.

    python -m detcore.reach [MEETING RANK WORLD cpu|cuda]

Prints a line of JSON on the machine, and another when the sum came out right. Without arguments
there is only the first.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from detcore.distributed import Gang, pick_device, process_group

PATIENCE_S = 60.0


def machine() -> dict[str, Any]:
    """`cuda`, whether torch can use a GPU; how many; the versions of CUDA and NCCL that it has."""
    has = torch.cuda.is_available()
    nccl = torch.distributed.is_nccl_available() and torch.version.cuda
    return {
        "cuda": has,
        "gpus": torch.cuda.device_count() if has else 0,
        "version.cuda": torch.version.cuda or "",
        "version.nccl": ".".join(map(str, torch.cuda.nccl.version())) if nccl else "",  # type: ignore[no-untyped-call]
    }


def sum_over(meeting: str, gang: Gang, device: str) -> float:
    """Add up the ranks' numbers; the seconds that it took with the meeting. Raises RuntimeError for
    a wrong sum, and what torch raises when they do not find each other."""
    began = time.monotonic()
    with process_group(gang, meeting, device, PATIENCE_S):
        ours = torch.full((1024,), float(gang.rank + 1), device=pick_device(device, gang))
        total = float(gang.mean_(ours).sum()) / 1024 * gang.world
    wanted = gang.world * (gang.world + 1) / 2
    if abs(total - wanted) > 1e-3:
        raise RuntimeError(f"the sum over {gang.world} processes is {total}, not {wanted}")
    return time.monotonic() - began


def main(argv: list[str]) -> int:
    print(json.dumps(machine()), flush=True)
    if argv:
        meeting, rank, world, device = argv
        seconds = sum_over(meeting, Gang(int(rank), int(world)), device)
        print(json.dumps({"seconds": seconds}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
