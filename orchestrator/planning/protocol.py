"""How a cell is trained and scored, in the words of a reference file's `protocol`: what must agree
before its number may be set beside another report's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detcore.config import Config
from detcore.config.schema import Shapes
from detcore.data.folder import DataError, find_annotations


def protocol(config: Config) -> dict[str, Any]:
    """`batch` is images per GPU x GPUs (x forward passes per step), `images` what the network sees
    in all of training."""
    train, size = config.train, config.data.input
    shape = [train.batch_per_gpu, train.workers]
    shape += [train.accumulate] if train.accumulate > 1 else []
    return {
        "data": _data(config),
        "eval": config.eval.protocol,
        "train_short_sides": list(size.train_short_sides),
        "eval_short_side": size.eval_short_side,
        "steps": train.steps,
        "batch": "x".join(map(str, shape)),
        "images": train.steps * train.batch_per_gpu * train.workers * train.accumulate,
        "lr": config.optim.lr,
        "warmup_steps": config.schedule.warmup_steps,
        "weights": Path(getattr(config.model.backbone, "weights", "none")).name,
    }


def _data(config: Config) -> str:
    """The kind of data and, of a folder, its annotation file, which often tells the year."""
    source = config.data.source
    if isinstance(source, Shapes):
        return f"shapes, {source.train_images} images of {source.size} pixels"
    try:
        return f"COCO format, {find_annotations(source, 'train').name}"
    except DataError:  # absent in a dry run
        return "COCO format"
