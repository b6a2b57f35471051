"""What a config does, measured: two configs that differ and do the same are a mistake in a sweep.

    python -m detcore.signature < CONFIGS.json

reads a list of configs and writes a list of `answer`s, as JSON. Training settings are taken as
they stand; the model and the data are measured, on a small fixed batch and on the first batches,
because a component may ignore a setting.

Shape legend: B images, M boxes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detcore.config import Config, from_dict, to_dict
from detcore.config.schema import Data
from detcore.data.coco import CocoSplit
from detcore.data.loader import train_batches
from detcore.data.transforms import input_size
from detcore.detectors import Detector
from detcore.distributed import Gang
from detcore.setup import build_optimizer, first_detector, open_splits

SIZE = (128, 160)  # height, width of the fixed batch
IMAGES = 24  # at least so many images of the first batches are compared

Signature = dict[str, str]


def signature(config: Config) -> Signature:
    """A digest for each part of what training `config` means; equal parts do the same.

    `training`: what is set for optimiser, schedule, steps, batch, precision, evaluation, the choice
    of detections, weights by name, and how often images are flipped and stitched. `losses`: of a
    fixed batch with many boxes, in training. `parameters`: names, shapes, sizes and optimiser
    groups of all weights, and the running statistics after that batch. `data`: all images, boxes
    and input sizes. `batches`: pixels and boxes of a rank's first ones. Raises ValueError as
    training would.
    """
    train_split, _ = splits = _splits(config.data)
    same_seed = replace(config, seed=0, model=_without_download(config.model))
    detector = first_detector(same_seed, train_split).train()
    # before _parameters: moves the statistics
    losses = _losses(detector, len(train_split.category_ids))
    return {
        "training": _digest(_as_set(config)),
        "parameters": _digest(_parameters(detector, config)),
        "losses": _digest(losses),
        "data": _digest(_data(config, splits)),
        "batches": _first_batches(config.data, config.train.batch_per_gpu),
    }


@lru_cache(maxsize=4)
def _splits(data: Data) -> tuple[CocoSplit, CocoSplit]:
    """As training opens them, once: the arms of a sweep mostly share their data."""
    return open_splits(data)


def _without_download(model: Any) -> Any:
    """Published weights by name may lie on the nodes only; a file of weights is read."""
    weights = getattr(model.backbone, "weights", "none")
    if weights == "none" or Path(weights).is_file():
        return model
    return replace(model, backbone=replace(model.backbone, weights="none"))


def _as_set(config: Config) -> Any:
    data = to_dict(config)
    return [
        {k: v for k, v in data.items() if k not in ("model", "data", "runtime", "seed")},
        {k: v for k, v in data["model"].items() if k in _AS_SET},
        # events that may be too rare to be seen in the first batches
        [data["data"]["flip"], data["data"]["stitch"]],
        data["model"]["backbone"].get("weights"),
    ]


_AS_SET = (
    "postprocess",
    "corners",
    "pairs",
    "score",
    "score_threshold",
    "nms_iou",
    "max_detections",
    "normaliser",  # of a gang; a single rank's first step tells nothing
)
"""Settings of a detector that its first training step does not show."""


def _parameters(detector: Detector, config: Config) -> Any:
    names = {id(p): name for name, p in detector.named_parameters()}
    groups = [
        [sorted(names[id(p)] for p in group["params"]), group["weight_decay"]]
        for group in build_optimizer(detector, config).param_groups
    ]
    values = [
        [name, list(t.shape), f"{t.float().norm():.9g}"]
        for name, t in detector.state_dict().items()
    ]
    return [values, groups]


def _losses(detector: Detector, num_classes: int) -> Any:
    """Three looks at the loss: at the start, half-way and at the end of a run."""
    images, boxes, labels = fixed_batch(num_classes)
    out = []
    for progress in (0.0, 0.5, 1.0):
        detector.set_progress(progress)
        torch.manual_seed(1)
        with torch.no_grad():
            losses = detector.losses(detector(images), boxes, labels, Gang())
        out.append({name: f"{value.item():.9g}" for name, value in losses.items()})
    return out


def fixed_batch(num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images 2 x 3 x H x W, boxes 2 x M x 4 and labels 2 x M: boxes of many sizes and shapes, and
    some that lie on one cell's centre, so that matchers that differ at all differ here."""
    generator = torch.Generator().manual_seed(7)

    def uniform(low: float, high: float, n: int) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    height, width = SIZE
    images = torch.randn(2, 3, height, width, generator=generator)
    both = []
    for _ in range(2):
        n, m = 40, 20
        side = torch.cat((uniform(1.3, 4.9, n).exp(), uniform(4.0, 40.0, m)))
        ratio = torch.cat((uniform(-1.0, 1.0, n).exp(), torch.ones(m)))
        size = torch.stack((side * ratio.sqrt(), side / ratio.sqrt()), dim=1)
        loose = torch.stack((uniform(0, width, n), uniform(0, height, n)), dim=1)
        on_cells = (torch.randint(0, 15, (m, 2), generator=generator) + 0.5) * 8.0
        centre = torch.cat((loose, on_cells))
        box = torch.cat((centre - size / 2, centre + size / 2), dim=1)
        low, limit = torch.zeros(4), torch.tensor([width, height, width, height]).float()
        box = torch.minimum(torch.maximum(box, low), limit)
        kept = ((box[:, 2:] - box[:, :2]) > 1).all(dim=1)
        both.append(box[kept])
    most = max(map(len, both))
    boxes = torch.zeros(2, most, 4)
    labels = torch.full((2, most), -1)
    for b, box in enumerate(both):
        boxes[b, : len(box)] = box
        labels[b, : len(box)] = torch.arange(len(box)) % num_classes
    return images, boxes, labels


def _data(config: Config, splits: Sequence[CocoSplit]) -> Any:
    """Everything the settings make of the annotations: which images, which boxes, how large each
    image becomes. A sample of images would miss what is rare."""
    out: list[Any] = []
    cfg = config.data.input
    for split in splits:
        for table in (split.image_ids, split.starts, split.boxes, split.labels):
            out.append(hashlib.sha256(table.tobytes()).hexdigest())
    for split, sides, cap in (
        (splits[0], cfg.train_short_sides, cfg.train_max_side),
        (splits[1], (cfg.eval_short_side,), cfg.eval_max_side),
    ):
        sizes = sorted({(height, width) for height, width in split.sizes.tolist()})
        out += [
            [input_size(h, w, side, cap, cfg.fit, cfg.align) for h, w in sizes] for side in sides
        ]
    return [*out, cfg.pad_multiple]


@lru_cache(maxsize=32)
def _first_batches(data: Data, batch: int) -> str:
    train_split, _ = _splits(data)
    batches = train_batches(
        train_split,
        data,
        seed=0,
        batch=batch,
        rank=0,
        world=1,
        start_step=0,
        workers=0,
        pin_memory=False,
    )
    return _pixels(itertools.islice(batches, -(-IMAGES // batch)))


def _pixels(batches: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in (batch.images, batch.boxes, batch.labels):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def answer(data: dict[str, Any]) -> dict[str, Any]:
    """`{"signature": ...}`, or `{"error": text}` for what the user can mend."""
    try:
        config = from_dict(Config, data)
        return {"signature": signature(config)}
    except ValueError as error:
        return {"error": " ".join(str(error).split())}


def main() -> int:
    torch.set_num_threads(1)
    json.dump([answer(data) for data in json.load(sys.stdin)], sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
