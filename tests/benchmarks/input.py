"""What a loader process can deliver: images decoded and resized, beside resized images read from
disk (`runtime.cache_gb`).

    python -m tests.benchmarks input [--images 100] [--rounds 5]

JPEGs of 640 x 480 pixels, as smooth as photographs, read in batches of 2 at the sides of the
report's schedules, by one process. The batches of both must be the same bit for bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detcore.config.schema import CocoFolder, Data, InputSize
from detcore.data.coco import CocoSplit, open_split
from detcore.data.loader import eval_batches
from detcore.data.resized import open_resized
from tests.benchmarks.side_by_side import in_turns, ratio, write

SIDES = {"800": (800, 1333), "512": (512, 864)}
HEIGHT, WIDTH = 480, 640


def photographs(root: Path, count: int, split: str = "val") -> None:
    """A folder in COCO format of `count` JPEGs with a box each."""
    random = np.random.default_rng(0)
    (root / split).mkdir(parents=True)
    images, boxes = [], []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        grain = random.normal(0, 6, smooth.shape).astype(np.int16)
        pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / split / f"{i}.jpg", quality=90)
        images.append({"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT})
        box = {"bbox": [10, 10, 90, 60], "area": 5400, "iscrowd": 0}
        boxes.append({"id": i + 1, "image_id": i, "category_id": 1, **box})
    content = {"images": images, "annotations": boxes}
    text = json.dumps({**content, "categories": [{"id": 1, "name": "thing"}]})
    (root / "annotations").mkdir()
    (root / "annotations" / f"{split}.json").write_text(text)


def reader(split: CocoSplit, data: Data) -> Callable[[], list[torch.Tensor]]:
    """Reads the whole split once; nothing stays in memory from one call to the next."""

    def read() -> list[torch.Tensor]:
        split._decoded.clear()
        stream = eval_batches(split, data, batch=2, rank=0, world=1, workers=0)
        return [batch.images for batch in stream]

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description="Images a second of one loader process.")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photographs(root / "set", args.images)
        for side, (short, longest) in SIDES.items():
            size = InputSize(eval_short_side=short, eval_max_side=longest)
            data = Data(source=CocoFolder(root=str(root / "set")), input=size)
            plain = open_split(data, "val")
            kept = replace(plain, resized=open_resized(plain, data, 100.0, root / "cache"))
            decoded, stored = reader(plain, data), reader(kept, data)
            stored()
            assert all(map(torch.equal, decoded(), stored()))
            seconds = in_turns({"decoded": decoded, "stored": stored}, args.rounds)
            speeds = {k: args.images / statistics.median(v) for k, v in seconds.items()}
            times = ratio(seconds["decoded"], seconds["stored"])
            both = f"{speeds['decoded']:.0f} images/s decoded, {speeds['stored']:.0f} stored"
            print(f"{side} px: {both}: {times:.2f} times")
            found[side] = {"images_per_s": speeds, "ratio": times}
    write("input", {"images": args.images, "rounds": args.rounds, "sides": found})


if __name__ == "__main__":
    main()
