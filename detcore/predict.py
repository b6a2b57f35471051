"""Run a detector over a split with all ranks and score what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    matches_of,
    results_of,
    write_matches,
    write_results,
)
from detcore.precision import autocast, normalise


@dataclass(frozen=True)
class Evaluation:
    """`metrics`: the 12 COCO metrics by the protocol of `config.eval`; with another protocol than
    `coco` the official ones too, as `coco/mAP` and so on. `class_AP`: by class, as in `Scores`.
    `s_per_img`: seconds of forward pass and post-processing per image."""

    metrics: dict[str, float]
    class_AP: dict[str, float]
    s_per_img: float


@torch.no_grad()
def evaluate(
    detector: Detector,
    split: CocoSplit,
    config: Config,
    gang: Gang,
    device: torch.device,
    file: Path,
    alive: Callable[[], object],
) -> Evaluation:
    """Score `detector` on `split`; the same values on every rank.

    Images are shared out over the ranks. Rank 0 writes the detections to `file`, a COCO results
    file, scores them, and writes what they matched (`matches_of`) to matches.npz beside it. `alive`
    is called now and then, as a sign of life.
    """
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
    metrics: dict[str, float] = {}
    class_AP: dict[str, float] = {}
    s_per_img = 0.0
    if everything is not None and scale_of is not None and times is not None:  # rank 0
        everything = everything[np.lexsort((-everything[:, 5], everything[:, 0]))]
        write_results(file, everything)
        s_per_img = float(times[:, 0].sum() / max(1, times[:, 1].sum()))
        with _kept(alive):
            scores = coco_scores(split, everything, backend=config.runtime.coco_eval)
            metrics = scores.metrics
            if config.eval.protocol == "report":
                official = {f"coco/{name}": value for name, value in metrics.items()}
                seen = {int(image): (sy, sx) for image, sy, sx in scale_of.tolist()}
                scores = coco_scores(split, everything, seen, config.runtime.coco_eval)
                metrics = scores.metrics | official
            class_AP = scores.class_AP
            write_matches(file.with_name("matches.npz"), matches_of(scores.run))
    answer: Evaluation = gang.broadcast(Evaluation(metrics, class_AP, s_per_img))
    return answer


@contextmanager
def _kept(alive: Callable[[], object]) -> Iterator[None]:
    """Give signs of life from a thread: scoring thousands of images takes minutes."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(5.0):
            alive()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
