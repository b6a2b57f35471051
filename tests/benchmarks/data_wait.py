"""The share of its time that a training waits for data: decoded JPEGs, and resized images that are
read from disk (`runtime.cache_gb`).

    python -m tests.benchmarks data_wait [--workers 4] [--size 800] [--batch 16] [--steps 60]

RetinaNet-R50 in bf16, channels_last and compiled on CUDA; on a CPU the small detector of the
embedded set, which shows that the benchmark runs and no more. JPEGs of 640 x 480 pixels, random
sizes of the shorter side as in multi-scale training are left out: shapes are fixed. Steps of
compilation and of full queues (the first third) are not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from detcore.config import Config, from_dict, schema
from detcore.config.load import merge
from detcore.curves import LateReader
from detcore.data.coco import CocoSplit, open_split
from detcore.data.loader import train_batches
from detcore.data.resized import entries_of, open_resized
from detcore.distributed import Gang
from detcore.measure import Meter
from detcore.setup import build_optimizer, first_detector
from detcore.step import parallel, stats_of, train_step
from tests.benchmarks.input import photographs
from tests.benchmarks.side_by_side import write
from tests.benchmarks.train_step import OURS

BASE = Path(__file__).parents[2] / "sweeps/bases/shapes_tiny.yaml"


def config_of(args: argparse.Namespace, root: Path, on_gpu: bool) -> Config:
    changes = {"train": {"workers": 1}, "schedule": {"warmup_steps": 0}}
    small = merge(yaml.safe_load(BASE.read_text()), changes)
    config = from_dict(Config, small)
    sides = schema.InputSize(train_short_sides=(args.size,), train_max_side=args.size * 5 // 3)
    data = schema.Data(source=schema.CocoFolder(root=str(root)), input=sides)
    train = replace(config.train, batch_per_gpu=args.batch, amp="bf16", steps=args.steps)
    runtime = schema.Runtime(channels_last=True, compile=on_gpu)
    model = OURS["RetinaNet-R50"] if on_gpu else config.model
    return replace(config, data=data, train=train, runtime=runtime, model=model)


def share(config: Config, split: CocoSplit, workers: int, device: torch.device) -> dict[str, float]:
    """What `Meter` says of the last two thirds of the steps."""
    detector = first_detector(config, split).to(device, memory_format=torch.channels_last).train()
    optimizer, gang = build_optimizer(detector, config), Gang()
    forward = parallel(detector, config, gang, device)
    stream = train_batches(
        split,
        config.data,
        seed=0,
        batch=config.train.batch_per_gpu,
        rank=0,
        world=1,
        start_step=0,
        workers=workers,
        pin_memory=device.type == "cuda",
    )
    meter, late = Meter(config.train.batch_per_gpu), LateReader(gang, stats_of(detector))
    for step in range(config.train.steps):
        if step == config.train.steps // 3:
            meter = Meter(config.train.batch_per_gpu)
        stats = train_step(forward, detector, optimizer, stream, config, device, meter, gang)
        late.exchange(step, stats)
        meter.step_done()
    return meter.overall()


def main() -> None:
    parser = argparse.ArgumentParser(description="The share of time that a training waits.")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--size", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photographs(root / "set", args.images, "train")
        config = config_of(args, root / "set", device.type == "cuda")
        plain = open_split(config.data, "train")
        kept = replace(plain, resized=open_resized(plain, config.data, 100.0, root / "cache"))
        for i, (height, width) in enumerate(entries_of(kept, config.data)[1].tolist()):
            kept.picture(i).at((height, width))  # filled before anything is measured
        for kind, split in (("decoded", plain), ("stored", kept)):
            told = share(config, split, args.workers, device)
            print(
                f"{kind:8} {told['images_per_s']:7.1f} images/s, "
                f"{told['data_wait']:.1%} of the time waiting for {args.workers} loader processes"
            )
            found[kind] = told
    write("data_wait", {**vars(args), "device": device.type, "rows": found})


if __name__ == "__main__":
    main()
