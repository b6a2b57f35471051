"""Run a detector over a split with all ranks and score what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from detcore.config import Config
from detcore.data.coco import CocoSplit
from detcore.data.loader import eval_batches
from detcore.detectors import Detector
from detcore.distributed import Gang, averaged_buffers
from detcore.evaluate import (
    coco_scores,
    matches_of,
    to_coco_results,
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
    results: list[dict[str, object]] = []
    scales: dict[int, tuple[float, float]] = {}
    seconds, images = 0.0, 0
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
            images += len(batch.image_ids)
            scales |= zip(
                host_batch.image_ids.tolist(), map(tuple, host_batch.scales.tolist()), strict=True
            )
            alive()
            results += to_coco_results(
                detections, batch.image_ids, batch.scales, batch.sizes, split.category_ids
            )
    detector.train(was_training)
    ranks = gang.gather_first((results, scales, seconds, images))
    metrics: dict[str, float] = {}
    class_AP: dict[str, float] = {}
    if gang.is_first:
        everything = [r for part, *_ in ranks for r in part]
        everything.sort(key=lambda r: (r["image_id"], -r["score"]))
        write_results(file, everything)
        with _kept(alive):
            scores = coco_scores(split, everything)
            metrics = scores.metrics
            if config.eval.protocol == "report":
                official = {f"coco/{name}": value for name, value in metrics.items()}
                seen = {image: scale for _, part, *_ in ranks for image, scale in part.items()}
                scores = coco_scores(split, everything, seen)
                metrics = scores.metrics | official
            class_AP = scores.class_AP
            write_matches(file.with_name("matches.npz"), matches_of(scores.run))
    s_per_img = sum(s for *_, s, _ in ranks) / max(1, sum(n for *_, n in ranks))
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
