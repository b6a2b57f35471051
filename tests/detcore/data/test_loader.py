"""Batches: every image once per epoch, the same whatever the workers, ranks and the step a run
resumes at."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from detcore.config.schema import Data
from detcore.data.batch import Batch
from detcore.data.coco import CocoSplit, open_split
from detcore.data.folder import DataError
from detcore.data.loader import MEAN_COLOUR, collate, eval_batches, train_batches
from detcore.data.transforms import Sample
from tests.detcore.data.builders import box, coco, folder, record, simple, write_split


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return simple(tmp_path)


@pytest.fixture
def split(data: Data) -> CocoSplit:
    return open_split(data, "train")


def batches(split: CocoSplit, data: Data, count: int, **settings: int) -> list[Batch]:
    every = {"seed": 3, "batch": 2, "rank": 0, "world": 1, "start_step": 0, "workers": 0}
    stream = train_batches(split, data, **{**every, **settings}, pin_memory=False)
    return list(itertools.islice(stream, count))


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for name, value in vars(a).items():
            assert torch.equal(value, getattr(b, name)), name


def rows(batch: Batch) -> list[tuple]:
    """Each image of a batch without its padding."""
    out = []
    for i, (height, width) in enumerate(batch.sizes.tolist()):
        real = batch.labels[i] >= 0
        pixels = batch.images[i, :, :height, :width].numpy().tobytes()
        boxes = batch.boxes[i][real].tolist()
        labels, scale = batch.labels[i][real].tolist(), batch.scales[i].tolist()
        out.append((int(batch.image_ids[i]), pixels, boxes, labels, scale))
    return out


def test_collate_pads_right_and_below_with_the_mean_colour() -> None:
    one = Sample(
        np.full((20, 33, 3), 9, np.uint8), np.ones((2, 4), np.float32), np.array([1, 0]), 5, (1, 2)
    )
    none = np.zeros((0, 4), np.float32)
    two = Sample(np.full((31, 10, 3), 7, np.uint8), none, np.zeros(0, np.int64), 6, (3, 4))
    batch = collate([one, two], 16)
    assert batch.images.shape == (2, 3, 32, 48)
    assert (batch.images[0, :, :20, :33] == 9).all()
    colour = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)[:, None]
    assert (batch.images[0, :, 20:].flatten(1) == colour).all()
    assert (batch.images[1, :, :, 10:].flatten(1) == colour).all()
    assert batch.sizes.tolist() == [[20, 33], [31, 10]]
    assert batch.labels.tolist() == [[1, 0], [-1, -1]]
    assert batch.boxes[1].abs().sum() == 0
    assert batch.scales.tolist() == [[1, 2], [3, 4]]
    assert collate([two], 1).boxes.shape == (1, 1, 4)


def test_two_worker_processes_give_the_same_batches_bit_for_bit(
    split: CocoSplit, data: Data
) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with_workers = batches(split, data, 12, workers=2)
    assert torch.equal(before, torch.get_rng_state())  # the training's own stream is untouched
    assert_same(batches(split, data, 12), with_workers)
    inline = eval_batches(split, data, batch=3, rank=0, world=1, workers=0)
    assert_same(list(inline), list(eval_batches(split, data, batch=3, rank=0, world=1, workers=2)))


def test_the_ranks_together_see_what_one_rank_with_their_batch_sees(
    split: CocoSplit, data: Data
) -> None:
    alone = batches(split, data, 8, batch=6)
    shares = [batches(split, data, 8, batch=2, world=3, rank=r) for r in range(3)]
    for step, whole in enumerate(alone):
        together = [row for share in shares for row in rows(share[step])]
        assert together == rows(whole)


def test_accumulated_passes_see_what_one_large_batch_sees(split: CocoSplit, data: Data) -> None:
    large = batches(split, data, 4, batch=4)
    small = batches(split, data, 8, batch=2, accumulate=2)
    for step, whole in enumerate(large):
        assert rows(small[2 * step]) + rows(small[2 * step + 1]) == rows(whole)
    with pytest.raises(ValueError, match="start_step 3 is not a multiple of accumulate 2"):
        batches(split, data, 1, start_step=3, accumulate=2)


@pytest.mark.parametrize("step", [1, 5, 9])
def test_resuming_gives_the_tail_of_a_run_from_the_start(
    split: CocoSplit, data: Data, step: int
) -> None:
    whole = batches(split, data, 14, world=2, rank=1)
    assert_same(whole[step:], batches(split, data, 14 - step, world=2, rank=1, start_step=step))


def test_every_image_once_per_epoch_in_a_new_order(split: CocoSplit, data: Data) -> None:
    seen = [int(i) for b in batches(split, data, 21, batch=2) for i in b.image_ids]
    epochs = [seen[i : i + 7] for i in range(0, 42, 7)]
    for epoch in epochs:
        assert sorted(epoch) == split.image_ids.tolist()
    assert len({tuple(e) for e in epochs}) > 1
    other = [int(i) for b in batches(split, data, 21, batch=2, seed=4) for i in b.image_ids]
    assert other != seen


@pytest.mark.parametrize(("world", "batch"), [(1, 3), (2, 2), (3, 8), (9, 1)])
def test_evaluation_covers_every_image_once_in_order(
    split: CocoSplit, data: Data, world: int, batch: int
) -> None:
    parts = [
        [
            int(i)
            for b in eval_batches(split, data, batch=batch, rank=r, world=world, workers=0)
            for i in b.image_ids
        ]
        for r in range(world)
    ]
    assert parts == [split.image_ids[r::world].tolist() for r in range(world)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    write_split(
        tmp_path, "train", coco([record(i) for i in range(3)], [box(1, 0, 1, [0, 0, 3, 3])])
    )
    file = tmp_path / "train" / "2.png"
    file.write_bytes(file.read_bytes()[:200])
    data = folder(tmp_path)
    with pytest.raises(DataError, match=r"train/2\.png: the image cannot be read") as caught:
        batches(open_split(data, "train"), data, 3, workers=workers)
    assert "\n" not in str(caught.value)


def test_loader_processes_die_with_a_training_process_that_was_killed(tmp_path: Path) -> None:
    simple(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from detcore.data.coco import open_split\n"
        "from detcore.data.loader import train_batches\n"
        "from tests.detcore.data.builders import folder\n"
        "if __name__ == '__main__':\n"
        "    data = folder(Path(sys.argv[1]))\n"
        "    stream = train_batches(open_split(data, 'train'), data, seed=0, batch=1, rank=0,\n"
        "        world=1, start_step=0, workers=2, pin_memory=False)\n"
        "    next(stream)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(100)\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    family = _descendants(process.pid)
    assert len(family) >= 3  # the fork server and two loaders, at least
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while family & _running() and time.monotonic() < end:
        time.sleep(0.1)
    assert not family & _running()


def _parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(stat.parent.name)] = int(fields[1])
    return found


def _running() -> set[int]:
    return set(_parents())


def _descendants(pid: int) -> set[int]:
    parents, found = _parents(), {pid}
    while more := {p for p, up in parents.items() if up in found} - found:
        found |= more
    return found - {pid}
