"""How long the COCO metrics take: hotcoco beside pycocotools, which defines them.

    python -m tests.benchmarks evaluation [--images 5000] [--detections 100] [--rounds 5]

Random images of 7 boxes among 80 classes and `detections` results each, most of them near a box.
`metrics` is the time from the array of results to the 12 numbers and the AP of each class, with the
annotation file's content at hand; `matches` what follows once a run: which result found a box. The
numbers of both must be the same to every digit, or nothing is printed.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import Any, get_args

import numpy as np

from detcore.evaluate import Backend, coco_scores
from detcore.matches import matches_of
from tests.benchmarks.side_by_side import in_turns, ratio, write

CLASSES, BOXES = 80, 7


def scene(images: int, detections: int, seed: int = 0) -> tuple[dict[str, Any], np.ndarray]:
    """The content of an annotation file, and results N x 7."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images + 1):
        bbox = np.concatenate(
            (random.uniform(0, 350, (BOXES, 2)), random.uniform(4, 140, (BOXES, 2))), axis=1
        )
        label = random.integers(1, CLASSES + 1, BOXES)
        for box, kind in zip(bbox.tolist(), label.tolist(), strict=True):
            made = {"id": len(annotations) + 1, "image_id": image, "category_id": kind}
            made |= {"bbox": box, "area": 0.7 * box[2] * box[3]}
            annotations.append({**made, "iscrowd": int(random.random() < 0.02)})
        near = random.integers(0, BOXES, detections)
        shaken = np.abs(bbox[near] + random.normal(0, 12, (detections, 4))) + 1
        other = random.integers(1, CLASSES + 1, detections)
        kinds = np.where(random.random(detections) < 0.4, label[near], other)
        columns = (np.full(detections, image), *shaken.T, random.random(detections), kinds)
        results.append(np.stack(columns, axis=1))
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
        "annotations": annotations,
    }
    return truth, np.concatenate(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    truth, results = scene(args.images, args.detections)
    backends: tuple[Backend, ...] = get_args(Backend)
    scores = {name: coco_scores(truth, results, backend=name) for name in backends}
    definition, fast = scores["pycocotools"], scores["hotcoco"]
    assert fast.metrics == definition.metrics
    assert fast.class_AP == definition.class_AP
    calls = {name: partial(coco_scores, truth, results, backend=name) for name in backends}
    metrics = in_turns(calls, args.rounds)
    matches = in_turns({name: partial(matches_of, scores[name].run) for name in backends}, 1)
    for name in backends:
        median, once = statistics.median(metrics[name]), matches[name][0]
        print(f"{name:12} metrics {median:7.2f} s   matches {once:6.2f} s")
    times = ratio(metrics["pycocotools"], metrics["hotcoco"])
    print(f"hotcoco's metrics are there {times:.1f} times sooner")
    counts = {"images": args.images, "results": len(results), "rounds": args.rounds}
    found = {"metrics_s": metrics, "matches_s": matches, "ratio": times, "mAP": fast.metrics["mAP"]}
    write("evaluation", {**counts, **found})


if __name__ == "__main__":
    main()
