"""Memory: what norms keep for the backward pass, and what matchers take while they match.

    python -m tests.benchmarks memory

`saved` is what autograd keeps for the backward pass of one layer (norm with its activation), in
units of its input map, parameters left out; eager, and under torch.compile where a C++ compiler is
there. `match` is the peak memory of a matcher, in MB, for images with more and more boxes at a
fixed batch. Counted, not timed: the same on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from detcore.config import schema
from detcore.config.load import from_dict
from detcore.layers.norm_act import build_norm_act
from detcore.matchers import MATCHERS, build_matcher
from detcore.matchers.points import PointMatcher
from detcore.ops.anchors import AnchorSet, grid_anchors
from tests.benchmarks.side_by_side import write

NORMS: dict[str, schema.NormAct] = {
    "bn": schema.BatchNorm(),
    "gn": schema.GroupNorm(),
    "evonorm_s0": schema.EvoNormS0(),
}
MAP, CHANNELS = (4, 256, 64, 64), 256
FEATURES, STRIDES = [(100, 100), (50, 50), (25, 25), (13, 13), (7, 7)], (8, 16, 32, 64, 128)
BATCH, BOXES = 2, (10, 100, 300, 1000)


def saved(layer: nn.Module, x: Tensor) -> float:
    """Bytes that are kept for the backward pass of `layer` on the map x, over those of the map."""
    parameters = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        y = layer(x * 1)  # a map that a convolution made
    y.sum().backward()
    return sum(kept.values()) / (x.numel() * x.element_size())


def peak_mb(call: Callable[[], object]) -> float:
    with MemTracker() as tracker:
        call()
    peak = tracker.get_tracker_snapshot("peak")
    return sum(of_device["Total"] for of_device in peak.values()) / 1e6


def matchers() -> dict[str, tuple[Callable[..., object], AnchorSet]]:
    grid = grid_anchors(schema.GridAnchors(), FEATURES, STRIDES, "cpu")
    cells = grid_anchors(
        schema.GridAnchors(sizes=tuple(map(float, STRIDES)), octave=1, ratios=(1.0,)),
        FEATURES,
        STRIDES,
        "cpu",
    )
    found: dict[str, tuple[Callable[..., object], AnchorSet]] = {
        kind: (build_matcher(from_dict(schema.RetinaNet, {"matcher": kind}).matcher), grid)
        for kind in MATCHERS
    }
    points = PointMatcher((64.0, 128.0, 256.0, 512.0), "area", 1.5)
    return {**found, "points": (points, cells)}


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0]).parse_args()
    torch.manual_seed(0)
    norms: dict[str, dict[str, float | None]] = {}
    for name, cfg in NORMS.items():
        layer = build_norm_act(cfg, CHANNELS).train()
        x = torch.randn(MAP, requires_grad=True)
        norms[name] = {"eager": saved(layer, x), "compiled": None}
        try:
            norms[name]["compiled"] = saved(torch.compile(layer), x)  # type: ignore[arg-type]
        except Exception as error:  # no compiler on this machine, say
            print(f"not compiled: {str(error).splitlines()[0]}")
        shown = {k: "-" if v is None else f"{v:.2f}" for k, v in norms[name].items()}
        print(f"saved  {name:16} eager {shown['eager']} x   compiled {shown['compiled']} x")
    peaks: dict[str, list[float]] = {}
    for name, (matcher, anchors) in matchers().items():
        peaks[name] = []
        for count in BOXES:
            corner = torch.rand(BATCH, count, 2) * 700
            boxes = torch.cat((corner, corner + 8 + torch.rand(BATCH, count, 2) * 300), dim=-1)
            valid = torch.ones(BATCH, count, dtype=torch.bool)
            peaks[name].append(peak_mb(lambda: matcher(anchors, boxes, valid)))  # noqa: B023
        row = "  ".join(f"{n}: {mb:.0f}" for n, mb in zip(BOXES, peaks[name], strict=True))
        print(f"match  {name:16} {len(anchors.boxes)} anchors, boxes: MB  {row}")
    write("memory", {"saved_in_maps": norms, "boxes": BOXES, "match_peak_mb": peaks})


if __name__ == "__main__":
    main()
