"""Every row of the seed report at its full size on the CPU: two training steps and a prediction on
real photographs.

    python -m tests.benchmarks.full_size [ROW ...] [--data DIR]

Prints for every row its parameters, the GFLOPs of one forward pass of a 576 x 768 image (a multiply
and an add are two; convolutions and matrix products only), and the seconds of a training step and
of a prediction with one image. Weights are random: this shows that a row runs, not what it scores.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from detcore.config import Config, schema
from detcore.data.loader import eval_batches, train_batches
from detcore.distributed import Gang
from detcore.measure import Meter
from detcore.precision import normalise
from detcore.setup import build_optimizer, first_detector, open_splits
from detcore.step import train_step
from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import load_sweep

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT.parent / "shared/data/coco_mini_small"


def rows() -> dict[str, Config]:
    """The config of every row, in the order of the sweep files."""
    out: dict[str, Config] = {}
    for file in sorted((ROOT / "sweeps/seed").glob("*.yaml")):
        for cell in expand(load_sweep(file)):
            if cell.ref is not None:
                out.setdefault(cell.ref, cell.config)
    return out


def offline(config: Config, data: Path) -> Config:
    """The same detector with random weights, `data`, and the smallest batch that its
    augmentation allows."""
    source = schema.CocoFolder(root=str(data))
    backbone = dataclasses.replace(config.model.backbone, weights="none")
    batch = 2 if isinstance(config.data.stitch, schema.ReportStitch) else 1
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source=source),
        model=dataclasses.replace(config.model, backbone=backbone),
        train=dataclasses.replace(config.train, batch_per_gpu=batch, workers=1),
    )


@dataclasses.dataclass(frozen=True)
class Measured:
    params_m: float
    gflops: float
    step_s: float  # seconds of a training step, per image
    predict_s: float
    losses: list[float]
    finite: bool


def measure(config: Config) -> Measured:
    """Two steps with the row's optimiser and data pipeline, then one prediction."""
    split, val = open_splits(config.data)
    detector = first_detector(config, split).train()
    optimizer = build_optimizer(detector, config)
    for group in optimizer.param_groups:
        group["lr"] = config.optim.lr / 1000  # the first step of the warm-up
    batch = config.train.batch_per_gpu
    batches = train_batches(
        split,
        config.data,
        seed=0,
        batch=batch,
        rank=0,
        world=1,
        start_step=0,
        workers=0,
        pin_memory=False,
    )
    losses, cpu = [], torch.device("cpu")
    detector.set_progress(0.5)
    begin = time.perf_counter()
    for _ in range(2):
        stats = train_step(detector, detector, optimizer, batches, config, cpu, Meter(1), Gang())
        losses.append(float(stats[0]))
    step_s = (time.perf_counter() - begin) / 2 / batch
    detector.eval()
    one = next(iter(eval_batches(val, config.data, batch=1, rank=0, world=1, workers=0)))
    begin = time.perf_counter()
    with torch.no_grad():
        found = detector.detect(detector(normalise(one.images)), one.sizes)
    predict_s = time.perf_counter() - begin
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, 576, 768))
    tensors = [*found[0], *detector.parameters(), torch.tensor(losses)]
    return Measured(
        params_m=sum(p.numel() for p in detector.parameters()) / 1e6,
        gflops=counter.get_total_flops() / 1e9,
        step_s=step_s,
        predict_s=predict_s,
        losses=losses,
        finite=all(bool(torch.isfinite(t).all()) for t in tensors),
    )


def table(names: list[str], data: Path) -> Iterator[str]:
    """Lines of a Markdown table, as they are measured."""
    known = rows()
    yield "| row | params M | GFLOPs | step s/img | predict s | loss, 2 steps | finite |"
    yield "|---|---|---|---|---|---|---|"
    for name in names or list(known):
        m = measure(offline(known[name], data))
        losses = ", ".join(f"{loss:.3f}" for loss in m.losses)
        yield (
            f"| {name} | {m.params_m:.2f} | {m.gflops:.1f} | {m.step_s:.1f} | {m.predict_s:.1f} "
            f"| {losses} | {'yes' if m.finite else 'NO'} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.full_size")
    parser.add_argument("rows", nargs="*", help="ids such as B04 (default: all)")
    parser.add_argument("--data", type=Path, default=PHOTOGRAPHS, help="a folder in COCO format")
    args = parser.parse_args()
    for line in table(args.rows, args.data):
        print(line, flush=True)
