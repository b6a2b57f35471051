"""Detections to COCO results and to the 12 COCO metrics. pycocotools is the definition; hotcoco,
where it is asked for, gives the same numbers sooner.

Shape legend: B images, D detections of one image, N results: rows of image id, x, y, width, height,
score and category id, the array that both libraries take for a results file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcore.data.coco import CocoSplit
from detcore.data.folder import read_coco_json
from detcore.result import METRICS

Backend = Literal["pycocotools", "hotcoco"]


@dataclass(frozen=True)
class Scores:
    """What pycocotools says of one set of detections.

    `class_AP`: the AP of each class that has boxes to be found, by its name; empty when two classes
    share one. `run`: what `detcore.matches.matches_of` takes.
    """

    metrics: dict[str, float]
    class_AP: dict[str, float]
    run: Any


def results_of(
    detections: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    image_ids: torch.Tensor,
    scales: torch.Tensor,
    sizes: torch.Tensor,
    category_ids: Sequence[int],
) -> np.ndarray:
    """The results, N x 7 float64, for B images.

    `detections` has for each image boxes D x 4 (x1 y1 x2 y2 in input pixels), scores D and labels D
    (class 0..K-1); `image_ids` B, `scales` B x 2 and `sizes` B x 2 are those of the Batch. Boxes
    are divided by the (y, x) scales, clipped to the original image and written as x, y, width,
    height; classes become category ids, gaps and all. Boxes that are not finite are left out.
    """
    boxes, scores, labels = (torch.cat(part).cpu() for part in zip(*detections, strict=True))
    image = torch.arange(len(image_ids)).repeat_interleave(
        torch.tensor([len(of_image) for of_image, _, _ in detections])
    )
    scales, sizes = scales.double().cpu(), sizes.double().cpu()
    originals = (sizes / scales).round()
    corners = boxes.double() / scales.flip(1).repeat(1, 2)[image]
    corners = torch.minimum(corners.clamp(min=0), originals.flip(1).repeat(1, 2)[image])
    corners[:, 2:] -= corners[:, :2]
    category = torch.tensor(category_ids)[labels]
    columns = (image_ids.cpu()[image, None], corners, scores[:, None], category[:, None])
    results = torch.cat([column.double() for column in columns], dim=1)
    return results[corners.isfinite().all(dim=1)].numpy()


def entries(results: np.ndarray) -> list[dict[str, Any]]:
    """Results as the entries of a COCO results file."""
    return [
        {"image_id": int(image), "category_id": int(category), "bbox": [x, y, w, h], "score": score}
        for image, x, y, w, h, score, category in results.tolist()
    ]


def coco_scores(
    truth: CocoSplit | dict[str, Any],
    results: np.ndarray,
    scales: Mapping[int, tuple[float, float]] | None = None,
    backend: Backend = "pycocotools",
) -> Scores:
    """The 12 metrics of `detcore.result.METRICS` and what is behind them, of results N x 7, as
    pycocotools computes them for boxes. hotcoco's are the same numbers.

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
        run = _hotcoco(content, results) if backend == "hotcoco" else _coco(content, results)
        run.evaluate()
        run.accumulate()
        run.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, run.stats, strict=True)}
    return Scores(metrics, _class_AP(run), run)


def coco_metrics(
    truth: CocoSplit | dict[str, Any],
    results: np.ndarray,
    scales: Mapping[int, tuple[float, float]] | None = None,
    backend: Backend = "pycocotools",
) -> dict[str, float]:
    """The 12 metrics alone; see `coco_scores`."""
    return coco_scores(truth, results, scales, backend).metrics


def write_results(path: Path, results: np.ndarray) -> None:
    """A standard COCO results file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(entries(results)))
    part.replace(path)


def _coco(content: dict[str, Any], results: np.ndarray) -> COCOeval:
    truth = _index(content)
    if len(results):
        found = truth.loadRes(results)
    else:  # which loadRes refuses
        found = _index({**content, "annotations": []})
    return COCOeval(truth, found, "bbox")


def _hotcoco(content: dict[str, Any], results: np.ndarray) -> Any:
    import hotcoco

    truth = hotcoco.COCO(content)
    found = truth.loadRes(results) if len(results) else hotcoco.COCO(content | {"annotations": []})
    return hotcoco.COCOeval(truth, found, "bbox")


def _class_AP(run: Any) -> dict[str, float]:
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
    results: np.ndarray,
    scales: Mapping[int, tuple[float, float]],
) -> tuple[dict[str, Any], np.ndarray]:
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
    found = results[np.isin(results[:, 0], list(kept))]
    factors = np.array([scales[int(image)] for image in found[:, 0]]).reshape(-1, 2)
    found[:, 1:5] *= np.tile(factors[:, ::-1], 2)
    return {**content, "images": images, "annotations": annotations}, found


def _scaled(bbox: Sequence[float], scale: tuple[float, float]) -> list[float]:
    (x, y, w, h), (sy, sx) = bbox, scale
    return [x * sx, y * sy, w * sx, h * sy]


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
