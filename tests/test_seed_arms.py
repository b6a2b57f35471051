"""Every arm of sweeps/seed/*.yaml takes effect: in its small form (`--profile shapes`) it differs
from every other in something that can be measured."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
import torch

from detcore.config import Config
from detcore.data.coco import open_split
from detcore.data.loader import eval_batches, train_batches
from detcore.detectors import build_detector
from detcore.distributed import Gang
from detcore.schedule import learning_rate
from orchestrator.expand import expand
from orchestrator.spec import load_sweep

FILES = sorted((Path(__file__).parents[1] / "sweeps/seed").glob("*.yaml"))

BOXES = torch.tensor(
    [
        [
            [10.0, 10, 60, 55],
            [70.2, 20.4, 74.7, 24.9],  # 4.5 pixels: IoU 0.08 with the smallest anchor
            [41, 81, 47, 87],  # overlaps one 16-pixel anchor by more than 0.1 and no other
            [30, 60, 120, 125],
            [80, 80, 100, 124],
            [2, 100, 24, 112],
        ]
    ]
)
LABELS = torch.tensor([[0, 1, 2, 2, 3, 1]])


def signature(config: Config) -> tuple[object, ...]:
    """What an arm is, measured: parameters, losses on a fixed batch, learning rates, batches."""
    torch.manual_seed(0)
    detector = build_detector(config.model, 4, [300, 100, 9, 1]).train()
    shapes = [(name, *p.shape) for name, p in detector.named_parameters()]
    buffers = [(name, *b.shape) for name, b in detector.named_buffers()]
    detector.set_progress(1.0)
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    losses = detector.losses(detector(images), BOXES, LABELS, Gang())
    parts = [f"{name} {value.item():.6g}" for name, value in losses.items()]
    steps = config.train.steps
    rates = [learning_rate(config.schedule, config.optim.lr, s, steps) for s in (0, 60, 140, 199)]
    return (
        tuple(shapes),
        tuple(buffers),
        tuple(parts),
        tuple(rates),
        batch_digest(config),
        (config.train.batch_per_gpu, config.train.workers),
    )


def batch_digest(config: Config) -> str:
    """The pixels and boxes of a rank's first batches, and the first evaluation batch."""
    digest = hashlib.sha256()
    split, data = open_split(config.data, "train"), config.data
    batches = train_batches(
        split,
        data,
        seed=0,
        batch=config.train.batch_per_gpu,
        rank=0,
        world=1,
        start_step=0,
        workers=0,
        pin_memory=False,
    )
    val = open_split(data, "val")
    looks = eval_batches(val, data, batch=1, rank=0, world=len(val), workers=0)
    for batch in [*itertools.islice(batches, 16), next(looks)]:
        digest.update(batch.images.numpy().tobytes())
        digest.update(batch.boxes.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_no_two_arms_are_the_same() -> None:
    found: dict[tuple[object, ...], str] = {}
    seen: set[str] = set()
    for file in FILES:
        for cell in expand(load_sweep(file, profile="shapes")):
            assert cell.ref is not None
            if cell.ref in seen:
                continue
            seen.add(cell.ref)
            same = found.setdefault(signature(cell.config), cell.ref)
            assert same == cell.ref, f"{cell.ref} does what {same} does"
    assert len(seen) > 35
