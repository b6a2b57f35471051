"""Which detection found what: what a COCO evaluation has matched, as arrays.

Shape legend: I images, K classes, D detections.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which else looks at millions of lists again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_uncollected()
def matches_of(run: Any) -> dict[str, np.ndarray]:
    """What a COCOeval has matched, image by image, once it has been evaluated: all that AP over
    areas of all sizes, with pycocotools' largest number of detections an image, is made of.

    Detections are in pycocotools' own order: by class, then by falling score, ties by image. In the
    16-bit numbers, bit t stands for the t-th IoU threshold.

    image_ids I int64 and category_ids K int64; truths I x K uint16, the boxes to be found (crowds
    are none); image D int32 and class D int16, places in those; score D float32; hit D uint16:
    found a box; ignored D uint16: counts neither as right nor as wrong.
    """
    p = run.params
    found = _found(run)
    image_of, class_of = ({id: i for i, id in enumerate(ids)} for ids in (p.imgIds, p.catIds))
    image = np.array([image_of[f["image_id"]] for f in found], np.int32)
    label = np.array([class_of[f["category_id"]] for f in found], np.int16)
    truths = np.zeros((len(image_of), len(class_of)), np.uint16)
    truths[image, label] = [sum(not ignored for ignored in f["gtIgnore"]) for f in found]
    counts = [len(f["dtScores"]) for f in found]
    bits = 1 << np.arange(len(p.iouThrs), dtype=np.int64)
    passed = _side_by_side([f["dtIgnore"] for f in found], len(bits)).astype(bool)
    right = _side_by_side([f["dtMatches"] for f in found], len(bits)).astype(bool) & ~passed
    columns = {
        "image": np.repeat(image, counts),
        "class": np.repeat(label, counts),
        "score": np.array(list(chain.from_iterable(f["dtScores"] for f in found)), np.float64),
        "hit": (bits @ right).astype(np.uint16),
        "ignored": (bits @ passed).astype(np.uint16),
    }
    # stable, like pycocotools' own sort: equal scores of an image stay in their order
    order = np.lexsort((columns["image"], -columns["score"], columns["class"]))
    columns["score"] = columns["score"].astype(np.float32)
    return {
        "image_ids": np.asarray(p.imgIds, np.int64),
        "category_ids": np.asarray(p.catIds, np.int64),
        "truths": truths,
        **{name: column[order] for name, column in columns.items()},
    }


def write_matches(path: Path, matches: Mapping[str, np.ndarray]) -> None:
    """An .npz file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        np.savez_compressed(file, **matches)  # type: ignore[arg-type]
    part.replace(path)


def _found(run: Any) -> list[dict[str, Any]]:
    """What an evaluation has matched, for objects of all sizes: one dict for each class in each
    image that has any."""
    if isinstance(run, COCOeval):
        every = list(run.params.areaRng[0])  # the first is of all sizes
        return [f for f in run.evalImgs if f is not None and list(f["aRng"]) == every]
    # hotcoco hands out numbers as Python's: once more, then, for the one range of sizes
    again = type(run)(run.cocoGt, run.cocoDt, "bbox")
    again.params.areaRng, again.params.areaRngLbl = run.params.areaRng[:1], ["all"]
    again.evaluate()
    return [f for f in again.evalImgs if f is not None]


def _side_by_side(parts: Sequence[Any], rows: int) -> np.ndarray:
    """Matrices of `rows` rows, arrays or lists of lists, side by side."""
    if parts and not isinstance(parts[0], np.ndarray):
        return np.array([list(chain.from_iterable(m[i] for m in parts)) for i in range(rows)])
    return np.concatenate([np.empty((rows, 0)), *parts], axis=1)
