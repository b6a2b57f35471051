"""A training of seconds, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from detcore.config import Config, from_dict, set_path


def config(**changes: object) -> Config:
    """A run of seconds: 64 px, a handful of images, 20 steps."""
    norm = {"kind": "gn", "groups": 4}
    data = {
        "data": {
            "source": {"kind": "shapes", "train_images": 16, "val_images": 4, "size": 64},
            "input": {
                "train_short_sides": [64, 96],
                "train_max_side": 96,
                "eval_short_side": 64,
                "eval_max_side": 64,
            },
        },
        "model": {
            "kind": "retinanet",
            "backbone": {"kind": "tiny", "width": 8, "norm_act": norm},
            "neck": {"kind": "fpn", "channels": 16, "norm_act": norm},
            "head": {"num_convs": 1, "norm_act": norm},
            "anchors": {"kind": "grid", "sizes": [12, 24, 48, 64, 64]},
            "box_loss": "giou",
        },
        "optim": {"lr": 0.02},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "train": {"steps": 20, "batch_per_gpu": 2},
        "monitor": {"min_map": 0.0},
        "runtime": {
            "device": "cpu",
            "threads": 1,
            "loader_workers": 0,
            "log_every": 1,
            "checkpoint_every": 10,
        },
    }
    for path, value in changes.items():
        data = set_path(data, path.replace("__", "."), value)
    return from_dict(Config, data)


def losses(workdir: Path) -> list[tuple[int, float, float]]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        (p["step"], p["values"]["loss/total"], p["values"]["grad_norm"])
        for p in lines
        if "loss/total" in p["values"]
    ]


def weights(workdir: Path) -> dict[str, torch.Tensor]:
    state = torch.load(workdir / "checkpoint.pt", weights_only=True)
    return {**state["model"], **state["ranks"][0]["buffers"]}


class Crash(Exception):
    pass
