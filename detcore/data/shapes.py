"""The embedded synthetic set: generated on first use, then an ordinary COCO-format folder.

Imports neither torch nor numpy until it has to draw, because the fingerprint of a run asks for
`shapes_key` only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from detcore.config.schema import Shapes
from detcore.data.folder import DataError

GENERATOR_VERSION = 2
"""Raise this by one in every change that alters a pixel or a box; caches and results of older
versions are then not used."""


def shapes_key(cfg: Shapes) -> str:
    """What the content of the set depends on, as text that can name a folder."""
    return (
        f"shapes-v{GENERATOR_VERSION}-{cfg.size}px-{cfg.train_images}-{cfg.val_images}"
        f"-seed{cfg.seed}"
    )


def cache_folder() -> Path:
    """$DETCORE_CACHE, else $XDG_CACHE_HOME/detcore, else ~/.cache/detcore."""
    if own := os.environ.get("DETCORE_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "detcore"
    return Path.home() / ".cache" / "detcore"


def ensure_shapes(cfg: Shapes, cache: Path | None = None) -> Path:
    """The folder of the set `cfg` describes, generated if it is not there yet.

    Several processes may call this at once: each writes to a folder of its own and renames it; the
    first rename wins and the others use it. So a folder under the final name is always whole.
    Raises DataError when the cache cannot be written.
    """
    cache = cache_folder() if cache is None else cache
    final = cache / shapes_key(cfg)
    if final.is_dir():
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=cache))
        try:
            _write(cfg, made)
            made.chmod(0o755)  # mkdtemp is private to the user; a shared cache is not
            made.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{final}: the shapes cannot be written: {error.strerror}; DETCORE_CACHE names another "
            "folder"
        ) from None
    return final


def _write(cfg: Shapes, folder: Path) -> None:
    from PIL import Image

    from detcore.data.draw import CLASSES, draw_scene

    (folder / "annotations").mkdir()
    first_id = 1
    for number, (split, count) in enumerate((("train", cfg.train_images), ("val", cfg.val_images))):
        (folder / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            scene = draw_scene(cfg.size, (cfg.seed, number, i))
            name = f"{first_id + i:06d}.png"
            Image.fromarray(scene.pixels).save(folder / split / name, compress_level=1)
            images.append(
                {"id": first_id + i, "file_name": name, "width": cfg.size, "height": cfg.size}
            )
            for label, (x1, y1, x2, y2) in zip(scene.labels, scene.boxes, strict=True):
                w, h = x2 - x1, y2 - y1
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": first_id + i,
                        "category_id": label + 1,
                        "bbox": [x1, y1, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
        first_id += count
        content = {
            "info": {"description": shapes_key(cfg), "version": str(GENERATOR_VERSION)},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
