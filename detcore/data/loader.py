"""Batches as a pure function of (seed, step, rank, world).

Shape legend: N images of the split, B images of a batch, M boxes of the fullest image (at least 1),
H and W the padded size.

The images are read in one endless order: epoch e is a permutation seeded by (seed, e), and the
epochs follow one another without a gap. Forward pass s takes the positions [s * G, (s + 1) * G) of
it, G = batch * world, of which rank r has the r-th part. So a run resumes from its step number
alone, and neither loader workers nor the number of ranks (at equal G) change what is seen. Only
stitching, which joins the images of one rank's batch, depends on how G is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detcore.beside import context, die_with_parent
from detcore.config.schema import Data, ReportStitch
from detcore.data.batch import Batch
from detcore.data.coco import CocoSplit
from detcore.data.folder import DataError
from detcore.data.stitch import batch_rng, stitch_four, stitch_two
from detcore.data.transforms import MEAN_COLOUR, Sample, eval_sample, image_rng, train_sample


def train_batches(
    split: CocoSplit,
    data_cfg: Data,
    *,
    seed: int,
    batch: int,
    rank: int,
    world: int,
    start_step: int,
    accumulate: int = 1,
    workers: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """Endless batches of `batch` images for one rank, from forward pass `start_step` on.

    With `accumulate` forward passes per optimiser step a run resumes between optimiser steps, so
    `start_step` must be a multiple of it. `workers` loader processes (0: this process) change the
    speed and nothing else. Raises DataError for an image that cannot be read.
    """
    if start_step % accumulate:
        raise ValueError(f"start_step {start_step} is not a multiple of accumulate {accumulate}")
    dataset = TrainBatches(split, data_cfg, seed, batch, rank, world)
    return _load(dataset, _CountFrom(start_step), workers, pin_memory)


def eval_batches(
    split: CocoSplit, data_cfg: Data, *, batch: int, rank: int, world: int, workers: int
) -> Iterator[Batch]:
    """Images rank, rank + world, ... of the split in order, each once; the last batch may be
    smaller, and there may be none."""
    mine = range(rank, len(split), world)
    groups = [mine[i : i + batch] for i in range(0, len(mine), batch)]
    dataset = EvalBatches(split, data_cfg, groups)
    return _load(dataset, range(len(groups)), min(workers, len(groups)), False)


def collate(samples: Sequence[Sample], pad_multiple: int) -> Batch:
    """Samples padded right and below to the largest of them, rounded up to `pad_multiple`."""
    shapes = np.array([s.pixels.shape[:2] for s in samples])
    height, width = padded_size(samples, pad_multiple)
    most = max(1, *(len(s.boxes) for s in samples))
    images = np.empty((len(samples), 3, height, width), np.uint8)
    images[:] = np.array(MEAN_COLOUR, np.uint8)[:, None, None]
    boxes = np.zeros((len(samples), most, 4), np.float32)
    labels = np.full((len(samples), most), -1, np.int64)
    for i, s in enumerate(samples):
        images[i, :, : s.pixels.shape[0], : s.pixels.shape[1]] = s.pixels.transpose(2, 0, 1)
        boxes[i, : len(s.boxes)] = s.boxes
        labels[i, : len(s.labels)] = s.labels
    return Batch(
        images=torch.from_numpy(images),
        sizes=torch.from_numpy(shapes.astype(np.int64)),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(labels),
        image_ids=torch.tensor([s.image_id for s in samples], dtype=torch.int64),
        scales=torch.tensor([s.scale for s in samples], dtype=torch.float32),
    )


def padded_size(samples: Sequence[Sample], pad_multiple: int) -> tuple[int, int]:
    """The height and width of the canvas that holds each of `samples`."""
    largest = np.max([s.pixels.shape[:2] for s in samples], axis=0)
    height, width = (-(-largest // pad_multiple) * pad_multiple).tolist()
    return height, width


def epoch_order(seed: int, epoch: int, images: int) -> np.ndarray:
    """Permutation of the N images: the order of one epoch."""
    # three words, the last out of reach of image ids in use: no stream is shared with `image_rng`
    words = np.random.SeedSequence((seed, epoch, 2**63 + 1))
    return np.random.Generator(np.random.PCG64(words)).permutation(images)


class TrainBatches(Dataset):
    """Item s is the batch of forward pass s (or the DataError met in making it)."""

    def __init__(
        self, split: CocoSplit, data: Data, seed: int, batch: int, rank: int, world: int
    ) -> None:
        self.split, self.data, self.seed = split, data, seed
        self.batch, self.rank, self.world = batch, rank, world
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> Batch | DataError:
        return _or_error(lambda: collate(self._samples(step), self.data.input.pad_multiple))

    def _samples(self, step: int) -> list[Sample]:
        first = (step * self.world + self.rank) * self.batch
        samples = [self._sample(first + i) for i in range(self.batch)]
        stitch = self.data.stitch
        if stitch is None:
            return samples
        rng = batch_rng(self.seed, step, self.rank)
        if rng.random() >= stitch.probability:
            return samples
        canvas = padded_size(samples, self.data.input.pad_multiple)
        if isinstance(stitch, ReportStitch):
            i, j = rng.permutation(len(samples))[:2].tolist()
            samples[i] = stitch_two(samples[i], samples[j], canvas)
            return samples
        others = rng.integers(len(self.split), size=(len(samples), 3)).tolist()
        return [
            stitch_four([s, *(self._view(i, rng) for i in row)], canvas)
            for s, row in zip(samples, others, strict=True)
        ]

    def _sample(self, position: int) -> Sample:
        epoch, at = divmod(position, len(self.split))
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(self.seed, epoch, len(self.split)))
        i = int(self._order[1][at])
        return self._view(i, image_rng(self.seed, epoch, int(self.split.image_ids[i])))

    def _view(self, i: int, rng: np.random.Generator) -> Sample:
        return train_sample(
            self.split.picture(i),
            *self.split.objects(i),
            int(self.split.image_ids[i]),
            self.data,
            rng,
            self.split.outlines_of(i),
        )


class EvalBatches(Dataset):
    """Item g is the batch of the images in groups[g] (or the DataError met in making it)."""

    def __init__(self, split: CocoSplit, data: Data, groups: Sequence[Sequence[int]]) -> None:
        self.split, self.data, self.groups = split, data, groups

    def __getitem__(self, group: int) -> Batch | DataError:
        return _or_error(
            lambda: collate(
                [self._sample(i) for i in self.groups[group]], self.data.input.pad_multiple
            )
        )

    def _sample(self, i: int) -> Sample:
        image_id = int(self.split.image_ids[i])
        return eval_sample(self.split.picture(i), *self.split.objects(i), image_id, self.data)


@dataclass(frozen=True)
class _CountFrom:
    first: int

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += 1


def _or_error(make: Callable[[], Batch]) -> Batch | DataError:
    """Errors travel from loader processes as values: a DataLoader would put a traceback into their
    text."""
    try:
        return make()
    except DataError as error:
        return error


def _load(
    dataset: TrainBatches | EvalBatches, keys: Iterable[int], workers: int, pin_memory: bool
) -> Iterator[Batch]:
    pin_memory = pin_memory and torch.cuda.is_available()
    if workers == 0:
        items: Iterable[Batch | DataError] = (dataset[k] for k in keys)
    else:
        items = _in_processes(dataset, keys, workers, pin_memory)
    for item in items:
        if isinstance(item, DataError):
            raise item
        yield item.pin_memory() if pin_memory and workers == 0 else item


def _in_processes(
    dataset: TrainBatches | EvalBatches, keys: Iterable[int], workers: int, pin_memory: bool
) -> Iterable[Batch | DataError]:
    return DataLoader(
        dataset,
        batch_size=None,  # the dataset makes whole batches
        sampler=keys,
        collate_fn=_as_is,
        worker_init_fn=die_with_parent,
        num_workers=workers,
        multiprocessing_context=context(),
        prefetch_factor=4,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else starting the workers would draw from the global stream
    )


def _as_is(item: Any) -> Any:
    return item
