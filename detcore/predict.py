"""Run a detector over a split with all ranks, and score what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from detcore.config import Config
from detcore.data.coco import CocoSplit
from detcore.data.loader import eval_batches
from detcore.detectors import Detector
from detcore.distributed import Gang, averaged_buffers
from detcore.evaluate import (
    coco_scores,
    results_of,
    write_results,
)
from detcore.matches import matches_of, write_matches
from detcore.precision import autocast, normalise


@dataclass(frozen=True)
class Found:
    """What was detected in a split: `results` N x 7 (see detcore.evaluate), `scales` images x 3
    (image id, y and x factor from original to input pixels), `s_per_img` seconds of forward pass
    and post-processing per image."""

    results: np.ndarray
    scales: np.ndarray
    s_per_img: float


@dataclass(frozen=True)
class Evaluation:
    """`metrics`: the 12 COCO metrics by the protocol of `config.eval`; with another protocol than
    `coco` the official ones too, as `coco/mAP` and so on. `class_AP`: by class, as in `Scores`.
    `s_per_img`: as in `Found`."""

    metrics: dict[str, float]
    class_AP: dict[str, float]
    s_per_img: float


@torch.no_grad()
def predict(
    detector: Detector,
    split: CocoSplit,
    config: Config,
    gang: Gang,
    device: torch.device,
    alive: Callable[[], object],
) -> Found | None:
    """Run `detector` over `split`, whose images are shared out over the ranks; what all found, on
    rank 0, None on the others. `alive` is called now and then, as a sign of life."""
    results, scales = [np.empty((0, 7))], [np.empty((0, 3))]
    seconds = 0.0
    was_training = detector.training
    detector.eval()
    batches = eval_batches(
        split,
        config.data,
        batch=config.eval.batch,
        rank=gang.rank,
        world=gang.world,
        workers=config.runtime.loader_workers,
    )
    with averaged_buffers(detector, gang):
        for host_batch in batches:
            batch = host_batch.to(device)
            _finish(device)
            begin = time.perf_counter()
            with autocast(config.train.amp, device):
                outputs = detector(normalise(batch.images))
            detections = detector.detect(outputs, batch.sizes)
            _finish(device)
            seconds += time.perf_counter() - begin
            alive()
            ids = host_batch.image_ids
            results.append(
                results_of(detections, ids, host_batch.scales, host_batch.sizes, split.category_ids)
            )
            scales.append(torch.cat((ids[:, None], host_batch.scales), dim=1).double().numpy())
    detector.train(was_training)
    everything = gang.gather_rows(np.concatenate(results))
    scale_of = gang.gather_rows(np.concatenate(scales))
    times = gang.gather_rows(np.array([[seconds, sum(map(len, scales))]]))
    if everything is None or scale_of is None or times is None:
        return None
    everything = everything[np.lexsort((-everything[:, 5], everything[:, 0]))]
    return Found(everything, scale_of, float(times[:, 0].sum() / max(1, times[:, 1].sum())))


def score(found: Found, split: CocoSplit, config: Config, file: Path) -> Evaluation:
    """Score what was found in `split`. Writes the detections to `file`, a COCO results file, and
    what they matched (`matches_of`) to matches.npz beside it."""
    write_results(file, found.results)
    scores = coco_scores(split, found.results, backend=config.runtime.coco_eval)
    metrics = scores.metrics
    if config.eval.protocol == "report":
        official = {f"coco/{name}": value for name, value in metrics.items()}
        scales = {int(image): (sy, sx) for image, sy, sx in found.scales.tolist()}
        scores = coco_scores(split, found.results, scales, config.runtime.coco_eval)
        metrics = scores.metrics | official
    write_matches(file.with_name("matches.npz"), matches_of(scores.run))
    return Evaluation(metrics, scores.class_AP, found.s_per_img)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
