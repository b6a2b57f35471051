"""Norms with their activation, compiled and not: time and memory beside BN's.

    python -m tests.benchmarks norms [--batch 4] [--channels 256] [--side 64] [--amp]

`layer` is forward and backward of one layer (BN, GN or EvoNorm-S0 with its activation) on a map of
batch x channels x side x side, on CUDA where there is one, in turns. `kept` is what autograd keeps
for the backward pass, in maps.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from detcore.layers.norm_act import build_norm_act
from tests.benchmarks.memory import NORMS, saved
from tests.benchmarks.side_by_side import in_turns, ratio, write

TIMES = 10  # calls in one turn


def turn(layer: nn.Module, x: torch.Tensor, amp: bool) -> Callable[[], None]:
    gradient = torch.randn_like(x)

    def call() -> None:
        for _ in range(TIMES):
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=amp):
                y = layer(x * 1)  # a map that a convolution made
            y.backward(gradient.to(y.dtype))
        if x.is_cuda:
            torch.cuda.synchronize()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description="Norms beside BN: time and memory.")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--amp", action="store_true", help="bf16 maps")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    shape = (args.batch, args.channels, args.side, args.side)
    kind = torch.bfloat16 if args.amp else torch.float32
    x = torch.randn(shape, device=device, dtype=kind, requires_grad=True)
    rows: dict[str, dict[str, Any]] = {}
    for way in ("eager", "compiled"):
        layers: dict[str, nn.Module] = {}
        for name, cfg in NORMS.items():
            layer = build_norm_act(cfg, args.channels).to(device).train()
            layers[name] = torch.compile(layer) if way == "compiled" else layer  # type: ignore
        turns = {name: turn(layer, x, args.amp) for name, layer in layers.items()}
        seconds = in_turns(turns, args.rounds)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.amp):
            kept = {name: saved(layer, x) for name, layer in layers.items()}
        for name, times in seconds.items():
            longer, larger = ratio(times, seconds["bn"]), kept[name] / kept["bn"]
            print(
                f"{way:9} {name:11} {statistics.median(times) / TIMES * 1e3:8.3f} ms  "
                f"{longer:5.2f} of BN's time   kept {kept[name]:.2f} maps, {larger:.2f} of BN's"
            )
            rows[f"{way} {name}"] = {
                "seconds": times,
                "time_ratio": longer,
                "kept_maps": kept[name],
                "kept_ratio": larger,
            }
    write("norms", {"shape": shape, "dtype": str(kind), "device": device.type, "rows": rows})


if __name__ == "__main__":
    main()
