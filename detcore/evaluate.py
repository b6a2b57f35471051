"""Detections to COCO results and to the 12 COCO metrics. pycocotools is the definition.

Shape legend: B images, D detections of one image.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcore.data.coco import CocoSplit
from detcore.data.folder import read_coco_json
from detcore.result import METRICS


@dataclass(frozen=True)
class Scores:
    """What pycocotools says of one set of detections.

    `class_AP`: the AP of each class that has boxes to be found, by its name; empty when two classes
    share one. `run`: what `matches_of` takes.
    """

    metrics: dict[str, float]
    class_AP: dict[str, float]
    run: COCOeval


def to_coco_results(
    detections: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    image_ids: torch.Tensor,
    scales: torch.Tensor,
    sizes: torch.Tensor,
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Entries of a COCO results file for B images.

    `detections` has for each image boxes D x 4 (x1 y1 x2 y2 in input pixels), scores D and labels D
    (class 0..K-1); `image_ids` B, `scales` B x 2 and `sizes` B x 2 are those of the Batch. Boxes
    are divided by the (y, x) scales, clipped to the original image and written as x, y, width,
    height; classes become category ids, gaps and all. Boxes that are not finite are left out.
    """
    results = []
    originals = (sizes.double() / scales.double()).round().tolist()
    for (boxes, scores, labels), image_id, (sy, sx), (height, width) in zip(
        detections, image_ids.tolist(), scales.double().tolist(), originals, strict=True
    ):
        boxes = boxes.detach().double().cpu() / torch.tensor([sx, sy, sx, sy]).double()
        limits = torch.tensor([width, height, width, height]).double()
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            if not all(map(math.isfinite, box)):
                continue
            found = {"image_id": image_id, "category_id": category_ids[label]}
            results.append({**found, "bbox": box, "score": score})
    return results


def coco_scores(
    truth: CocoSplit | dict[str, Any],
    results: list[dict[str, Any]],
    scales: Mapping[int, tuple[float, float]] | None = None,
) -> Scores:
    """The 12 metrics of `detcore.result.METRICS` and what is behind them, as pycocotools computes
    them for boxes.

    Without `scales` by the official protocol. With them (image id -> (y, x) factors from original
    to input pixels) as the seed report was scored: at the size of the network's input, so that the
    limits of small and large at 32^2 and 96^2 pixels mean smaller objects; with the area of the box
    in place of the mask's; crowds as ordinary boxes; images without boxes and boxes that stick out
    of their image left out.

    `truth` is a split, whose annotation file is read anew (crowd flags, areas and boxes as they
    stand there) and narrowed to the split's images, so that skipped images do not count as missed;
    or the content of an annotation file. -1 where a metric is undefined because nothing is there to
    be found.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        content = _truth(truth)
        if scales is not None:
            content, results = _as_in_report(content, results, scales)
        gt = _index(content)
        if results:
            dt = gt.loadRes([dict(r) for r in results])  # loadRes writes into its entries
        else:  # which loadRes refuses
            dt = _index({**gt.dataset, "annotations": []})
        run = COCOeval(gt, dt, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, run.stats, strict=True)}
    return Scores(metrics, _class_AP(run), run)


def coco_metrics(
    truth: CocoSplit | dict[str, Any],
    results: list[dict[str, Any]],
    scales: Mapping[int, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """The 12 metrics alone; see `coco_scores`."""
    return coco_scores(truth, results, scales).metrics


def matches_of(run: COCOeval) -> dict[str, np.ndarray]:
    """What a COCOeval has matched, image by image, once it has been evaluated: all that AP over
    areas of all sizes, with pycocotools' largest number of detections an image, is made of.

    I images, K classes and D detections, those in pycocotools' own order: by class, then by falling
    score, ties by image. In the 16-bit numbers, bit t stands for the t-th IoU threshold.

    image_ids I int64 and category_ids K int64; truths I x K uint16, the boxes to be found (crowds
    are none); image D int32 and class D int16, places in those; score D float32; hit D uint16:
    found a box; ignored D uint16: counts neither as right nor as wrong.
    """
    p = run._paramsEval
    images, classes, areas = len(p.imgIds), len(p.catIds), len(p.areaRng)
    truths = np.zeros((images, classes), np.uint16)
    bits = 1 << np.arange(len(p.iouThrs), dtype=np.int64)
    image, of_class, score, hit, ignored = [], [], [], [], []
    for k in range(classes):
        parts = []
        for i in range(images):
            found = run.evalImgs[k * areas * images + i]  # the first area is that of all sizes
            if found is None:
                continue
            truths[i, k] = np.count_nonzero(np.asarray(found["gtIgnore"]) == 0)
            scores = np.asarray(found["dtScores"], np.float64)
            passed = np.asarray(found["dtIgnore"]).astype(bool)
            right = np.asarray(found["dtMatches"]).astype(bool) & ~passed
            parts.append((np.full(len(scores), i), scores, bits @ right, bits @ passed))
        if not parts:
            continue
        i_, s_, h_, g_ = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(-s_, kind="stable")
        image.append(i_[order])
        of_class.append(np.full(len(order), k))
        score.append(s_[order])
        hit.append(h_[order])
        ignored.append(g_[order])
    return {
        "image_ids": np.asarray(p.imgIds, np.int64),
        "category_ids": np.asarray(p.catIds, np.int64),
        "truths": truths,
        "image": _joined(image, np.int32),
        "class": _joined(of_class, np.int16),
        "score": _joined(score, np.float32),
        "hit": _joined(hit, np.uint16),
        "ignored": _joined(ignored, np.uint16),
    }


def write_matches(path: Path, matches: Mapping[str, np.ndarray]) -> None:
    """An .npz file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        np.savez_compressed(file, **matches)  # type: ignore[arg-type]
    part.replace(path)


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """A standard COCO results file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(results))
    part.replace(path)


def _joined(parts: Sequence[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate([np.empty(0), *parts]).astype(kind)


def _class_AP(run: COCOeval) -> dict[str, float]:
    names = [run.cocoGt.cats[id]["name"] for id in run.params.catIds]
    if max(Counter(names).values(), default=0) > 1:
        return {}
    # IoU x recall x class, areas of all sizes, most detections; -1 where nothing is to be found
    precision = run.eval["precision"][:, :, :, 0, -1]
    return {
        name: float(precision[:, :, k].mean())
        for k, name in enumerate(names)
        if precision[:, :, k].min() > -1
    }


def _truth(truth: CocoSplit | dict[str, Any]) -> dict[str, Any]:
    if isinstance(truth, CocoSplit):
        content, ids = read_coco_json(truth.annotation_file), set(truth.image_ids.tolist())
    else:
        content, ids = truth, {r["id"] for r in truth["images"]}
    annotations = [
        # pycocotools needs both keys, files with boxes only often lack them
        {"iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3], **a}
        for a in content["annotations"]
        if a["image_id"] in ids
    ]
    images = [r for r in content["images"] if r["id"] in ids]
    return {**content, "images": images, "annotations": annotations}


def _as_in_report(
    content: dict[str, Any],
    results: list[dict[str, Any]],
    scales: Mapping[int, tuple[float, float]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results at the input's size, changed as `coco_metrics` says."""
    size_of = {r["id"]: (r["width"], r["height"]) for r in content["images"]}
    annotations = []
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        width, height = size_of[a["image_id"]]
        if w <= 0 or h <= 0 or x + w > width or y + h > height:
            continue
        bbox = _scaled(a["bbox"], scales[a["image_id"]])
        annotations.append({**a, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
    kept = {a["image_id"] for a in annotations}
    images = [r for r in content["images"] if r["id"] in kept]
    found = [
        {**r, "bbox": _scaled(r["bbox"], scales[r["image_id"]])}
        for r in results
        if r["image_id"] in kept
    ]
    return {**content, "images": images, "annotations": annotations}, found


def _scaled(bbox: Sequence[float], scale: tuple[float, float]) -> list[float]:
    (x, y, w, h), (sy, sx) = bbox, scale
    return [x * sx, y * sy, w * sx, h * sy]


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
