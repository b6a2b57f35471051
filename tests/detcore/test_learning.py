"""Every detector learns: it overfits four photographs from random weights, and its small form
reaches a useful mAP on drawn shapes.

    RUN_LONG=1 pytest -s tests/detcore/test_learning.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from detcore.config import Config, from_dict
from detcore.config.load import merge
from detcore.result import Point
from detcore.train import train
from tests.detcore.data.builders import SHARED

BASES = Path(__file__).parents[2] / "sweeps/bases"
PHOTOGRAPHS = SHARED / "coco_mini_small"
DETECTORS = {
    "retinanet": "shapes_tiny.yaml",
    "fcos": "shapes_tiny_fcos.yaml",
    "centernet": "shapes_tiny_centernet.yaml",
    "efficientdet": "shapes_tiny_efficientdet.yaml",
}


def base_of(detector: str) -> dict[str, Any]:
    base: dict[str, Any] = yaml.safe_load((BASES / DETECTORS[detector]).read_text())
    return base


def curve(points: list[Point]) -> str:
    """Loss and mAP over the steps, for a person."""
    lines = []
    for point in points:
        shown = {k: v for k, v in point.values.items() if k in ("loss/total", "mAP", "AP50")}
        if shown:
            lines.append(f"{point.step:>5} " + "  ".join(f"{k} {v:.3f}" for k, v in shown.items()))
    return "\n".join(lines)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_small_form_learns_drawn_shapes(detector: str, tmp_path: Path) -> None:
    settings = {"train": {"workers": 1, "batch_per_gpu": 4}, "runtime": {"log_every": 80}}
    points: list[Point] = []
    config = from_dict(Config, merge(base_of(detector), settings))
    result = train(config, workdir=tmp_path, report=points.append)
    print(f"\n{detector}\n{curve(points)}")
    assert result.outcome == "converged"
    assert result.metrics["mAP"] >= 0.25


def four_photographs(folder: Path) -> None:
    """Train and val are the same four images: those without crowds, with two to eight boxes, whose
    smallest box is largest."""
    content = json.loads(next(PHOTOGRAPHS.glob("annotations/*train*.json")).read_text())
    boxes: dict[int, list[dict]] = {}
    for a in content["annotations"]:
        boxes.setdefault(a["image_id"], []).append(a)

    def smallest(image: dict) -> float:
        mine = boxes.get(image["id"], [])
        if not 2 <= len(mine) <= 8 or any(a["iscrowd"] for a in mine):
            return 0.0
        return min(a["bbox"][2] * a["bbox"][3] for a in mine)

    images = sorted(content["images"], key=smallest, reverse=True)[:4]
    kept = {r["id"] for r in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in kept]
    classes = {a["category_id"] for a in annotations}
    subset = {
        "images": images,
        "annotations": annotations,
        "categories": [c for c in content["categories"] if c["id"] in classes],
    }
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(subset))
    (folder / "images").symlink_to((PHOTOGRAPHS / "images").resolve())


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not here")
@pytest.mark.parametrize("detector", DETECTORS)
def test_four_photographs_are_learned_by_heart(detector: str, tmp_path: Path) -> None:
    four_photographs(tmp_path / "data")
    sides = {
        "train_short_sides": [224],
        "train_max_side": 320,
        "eval_short_side": 224,
        "eval_max_side": 320,
    }
    settings: dict[str, Any] = {
        "data": {
            "source": {"kind": "coco", "root": str(tmp_path / "data")},
            "input": sides,
            "flip": 0.0,
        },
        "model": {"backbone": {"width": 32}, "neck": {"channels": 64}},
        "train": {"steps": 400, "batch_per_gpu": 4, "workers": 1},
        "eval": {"every": 100},
        "runtime": {"log_every": 50, "checkpoint_every": 0},
    }
    points: list[Point] = []
    config = from_dict(Config, merge(base_of(detector), settings))
    result = train(config, workdir=tmp_path / "run", report=points.append)
    print(f"\n{detector}\n{curve(points)}")
    assert result.metrics["mAP"] >= 0.60
