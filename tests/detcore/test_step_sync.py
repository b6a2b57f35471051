"""A whole training step of every detector, with everything its settings can switch on, never makes
the host wait for the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detcore.config import Config, from_dict
from detcore.config.load import merge
from detcore.data.coco import open_split
from detcore.data.loader import train_batches
from detcore.detectors import build_detector
from detcore.distributed import Gang
from detcore.measure import Meter
from detcore.setup import build_optimizer
from detcore.step import flagged, step_seed, train_step
from tests.detcore.detectors.sync import NoHostWait

BASES = Path(__file__).parents[2] / "sweeps/bases"
DROPBLOCK = {"neck": {"dropblock": {"size": 3}}, "hook": {"kind": "balance", "norm_act": "gn"}}
EXTRA = {"extra": {"channels": 16, "norm_act": {"kind": "evonorm_s0", "groups": 8}}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": ("shapes_tiny.yaml", DROPBLOCK | {"class_loss": "frequency_focal"}),
    "retinanet atss": ("shapes_tiny.yaml", {"matcher": "atss", "box_loss": "ciou"}),
    "retinanet atss_v3": ("report_shapes.yaml", {"matcher": "atss_v3"}),
    "retinanet spectral": ("shapes_tiny.yaml", {"head": {"norm_act": "spectral"}}),
    "retinanet atss_v5": (
        "shapes_tiny.yaml",
        {
            "matcher": "atss_v5",
            "neck": {"kind": "two_way_fpn", "channels": 16, "norm_act": "switchable"} | EXTRA,
            "head": {"norm_act": "sync_bn"},
        },
    ),
    "retinanet pconv": (
        "shapes_tiny.yaml",
        {
            "neck": {"kind": "pconv", "channels": 16, "norm_act": "sync_bn"} | EXTRA,
            "head": {"norm_act": "switchable"},
        },
    ),
    "retinanet sepc": (
        "shapes_tiny.yaml",
        {"neck": {"kind": "sepc", "channels": 16, "norm_act": "switchable"}},
    ),
    "efficientdet": ("shapes_tiny_efficientdet.yaml", {}),
    "fcos": ("shapes_tiny_fcos.yaml", DROPBLOCK | {"weighted_boxes": True, "centre_radius": 1.5}),
    "centernet": ("shapes_tiny_centernet.yaml", DROPBLOCK),
    "centernet maxpool_v2": ("shapes_tiny_centernet.yaml", {"pooling": "maxpool_v2"}),
}


def run_steps(name: str, device: torch.device, guard: Any) -> torch.Tensor:
    """Three steps, the last of them under `guard`: the first fill caches (anchors, workspaces)."""
    base, model = CASES[name]
    small = {
        "data": {"source": {"kind": "shapes", "train_images": 16, "val_images": 4, "size": 64}},
        "model": model,
        "train": {"batch_per_gpu": 2},
    }
    config = from_dict(Config, merge(yaml.safe_load((BASES / base).read_text()), small))
    torch.manual_seed(0)
    detector = build_detector(config.model, 4, [9, 5, 3, 1]).to(device).train()
    optimizer = build_optimizer(detector, config)
    stream = train_batches(
        open_split(config.data, "train"),
        config.data,
        seed=0,
        batch=2,
        rank=0,
        world=1,
        start_step=0,
        workers=0,
        pin_memory=device.type == "cuda",
    )
    stats = torch.zeros(0)
    for step in range(3):
        with guard if step == 2 else torch.enable_grad():
            torch.manual_seed(step_seed(0, step, 0))
            detector.set_progress(step / 3)
            stats = train_step(
                detector, detector, optimizer, stream, config, device, Meter(2), Gang()
            )
            stats = flagged(stats, False, True)
    assert stats[-2:].tolist() == [0, 1]
    return stats


@pytest.mark.parametrize("name", CASES)
def test_a_step_has_no_operation_that_waits(name: str) -> None:
    assert torch.isfinite(run_steps(name, torch.device("cpu"), NoHostWait())).all()


class SyncDebug:
    def __enter__(self) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_a_step_never_waits_for_the_device(name: str) -> None:
    assert torch.isfinite(run_steps(name, torch.device("cuda"), SyncDebug())).all()
