"""Small COCO folders for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detcore.config.schema import CocoFolder, Data, InputSize

SHARED = Path(__file__).parents[4] / "shared" / "data"
"""Real photographs, where a checkout has them beside it."""


def record(image_id: int, size: tuple[int, int] = (40, 30), name: str | None = None) -> dict:
    """An image entry; `size` is (width, height)."""
    file_name = name or f"{image_id}.png"
    return {"id": image_id, "file_name": file_name, "width": size[0], "height": size[1]}


def box(ann_id: int, image_id: int, category_id: int, bbox: list[float], **extra: Any) -> dict:
    area = bbox[2] * bbox[3]
    rest = {"bbox": bbox, "area": area, "iscrowd": 0, **extra}
    return {"id": ann_id, "image_id": image_id, "category_id": category_id, **rest}


def coco(images: list[dict], annotations: list[dict], ids: tuple[int, ...] = (1, 2)) -> dict:
    categories = [{"id": i, "name": f"c{i}"} for i in ids]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_split(root: Path, split: str, content: Any, *, pixels: bool = True) -> Path:
    """Write annotations/{split}.json and, in {split}/, an image of noise for every entry."""
    file = root / "annotations" / f"{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    (root / split).mkdir(exist_ok=True)
    for r in content["images"] if pixels else []:
        noise = np.random.default_rng(r["id"]).integers(0, 256, (r["height"], r["width"], 3))
        Image.fromarray(noise.astype(np.uint8)).save(root / split / r["file_name"])
    return file


def folder(root: Path, **settings: Any) -> Data:
    """Settings that read `root` at small sizes."""
    sides = InputSize((24, 32), 64, 32, 64, pad_multiple=16)
    return Data(**{"source": CocoFolder(root=str(root)), "input": sides, **settings})


def simple(root: Path, images: int = 7) -> Data:
    """Train and val splits of `images` images of various sizes, image i with i % 3 boxes."""
    for number, split in enumerate(("train", "val")):
        first = 1 + 100 * number
        records = [record(first + i, (30 + 3 * i, 44 - 2 * i)) for i in range(images)]
        boxes = [
            box(10 * i + k + 1, first + i, 1 + k, [2 + i, 3 + 4 * k, 10 + k, 8])
            for i in range(images)
            for k in range(i % 3)
        ]
        write_split(root, split, coco(records, boxes))
    return folder(root)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def mask_bounds(mask: np.ndarray) -> np.ndarray | None:
    """x1 y1 x2 y2 around the true pixels; None without any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
