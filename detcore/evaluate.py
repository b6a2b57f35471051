"""Detections to COCO results and to the 12 COCO metrics. pycocotools is the definition.

Shape legend: B images, D detections of one image.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcore.data.coco import CocoSplit
from detcore.data.folder import read_coco_json
from detcore.result import METRICS


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


def coco_metrics(
    truth: CocoSplit | dict[str, Any],
    results: list[dict[str, Any]],
    scales: Mapping[int, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """The 12 metrics of `detcore.result.METRICS`, as pycocotools computes them for boxes.

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
    return {name: float(value) for name, value in zip(METRICS, run.stats, strict=True)}


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """A standard COCO results file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(results))
    part.replace(path)


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
