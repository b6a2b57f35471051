"""Resized images on disk: the same pixels whatever happens to the files, and never too many."""

from __future__ import annotations

import fcntl
import os
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from PIL import Image

from detcore.config.schema import Data
from detcore.data.batch import Batch
from detcore.data.coco import CocoSplit, open_split
from detcore.data.loader import eval_batches, train_batches
from detcore.data.resized import GB, ResizedImages, entries_of, open_resized
from tests.detcore.data.builders import simple

COUNT = 8


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Images of noise, each of another size, read at two sides."""
    return simple(tmp_path / "set", COUNT)


def opened(data: Data, root: Path, gb: float = 1.0, name: str = "train") -> CocoSplit:
    split = open_split(data, name)  # type: ignore[arg-type]
    return replace(split, resized=open_resized(split, data, gb, root))


def batches(split: CocoSplit, data: Data, workers: int = 0, steps: int = 24) -> list[Batch]:
    """Four epochs of training, in which every image is met at each side, or one of evaluation."""
    if split.name == "val":
        stream = eval_batches(split, data, batch=2, rank=0, world=1, workers=workers)
        return list(stream)
    stream = train_batches(
        split,
        data,
        seed=0,
        batch=2,
        rank=0,
        world=1,
        start_step=0,
        workers=workers,
        pin_memory=False,
    )
    return [next(stream) for _ in range(steps)]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for name, value in vars(a).items():
            assert torch.equal(value, getattr(b, name)), name


def files(root: Path) -> list[Path]:
    return [f for f in root.glob("*/*/*") if f.is_file()]


@pytest.mark.parametrize("name", ["train", "val"])
def test_the_same_batches_without_it_while_it_fills_and_when_it_is_full(
    data: Data, tmp_path: Path, name: str
) -> None:
    plain = batches(open_split(data, name), data)  # type: ignore[arg-type]
    root = tmp_path / "cache"
    assert_same(plain, batches(opened(data, root, name=name), data))
    filled = {f: f.stat().st_mtime_ns for f in files(root)}
    assert len(filled) == len(plain) * 2 if name == "val" else COUNT < len(filled) <= 2 * COUNT
    assert_same(plain, batches(opened(data, root, name=name), data, workers=2))
    assert {f: f.stat().st_mtime_ns for f in files(root)} == filled  # read, not made again


def test_a_full_one_is_read_and_a_newer_source_is_not(data: Data, tmp_path: Path) -> None:
    """Sources are overwritten with nothing: with their old size and time they are not looked into.
    With another time they are."""
    root, images = tmp_path / "cache", sorted((tmp_path / "set" / "val").glob("*.png"))
    before = batches(opened(data, root, name="val"), data)
    for file in images:
        stat, size = file.stat(), Image.open(file).size
        file.write_bytes(bytes(stat.st_size))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        later = file.with_suffix(".later")
        Image.new("RGB", size, (7, 8, 9)).save(later, "png")
    assert_same(before, batches(opened(data, root, name="val"), data))
    for file in images:
        file.with_suffix(".later").replace(file)
    after = batches(opened(data, root, name="val"), data)
    assert [b.images[0, :, 0, 0].tolist() for b in after] == [[7, 8, 9]] * len(after)


@pytest.mark.parametrize("damage", ["empty", "short", "long", "a bit", "a folder"])
def test_a_damaged_entry_is_made_again(data: Data, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "cache"
    plain = batches(opened(data, root, name="val"), data)
    for file in files(root):
        content = bytearray(file.read_bytes())
        file.unlink()
        if damage == "a folder":
            file.mkdir()
            continue
        content[len(content) // 2] ^= 1 if damage == "a bit" else 0
        changed = {"empty": b"", "short": content[:-1], "long": content + b"x"}
        file.write_bytes(changed.get(damage, content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if damage == "a folder" else "error")
        assert_same(plain, batches(opened(data, root, name="val"), data))
    if damage != "a folder":
        healed = {f: f.stat().st_mtime_ns for f in files(root)}
        assert_same(plain, batches(opened(data, root, name="val"), data))
        assert {f: f.stat().st_mtime_ns for f in files(root)} == healed
    assert not [f for f in files(root) if f.name.startswith("tmp")]


def test_no_more_bytes_than_the_limit_and_always_the_same_entries(
    data: Data, tmp_path: Path
) -> None:
    split = open_split(data, "train")
    whole = sum(3 * h * w for h, w in entries_of(split, data)[1].tolist())
    kept = []
    for name in ("a", "b"):
        half = opened(data, tmp_path / name, gb=whole / 2 / GB)
        assert_same(batches(split, data, steps=60), batches(half, data, steps=60))
        found = files(tmp_path / name)
        assert whole / 4 < sum(f.stat().st_size for f in found) <= whole / 2
        kept.append({f.name for f in found})
    assert kept[0] == kept[1]


def test_sets_share_the_limit_and_only_an_idle_one_makes_room(data: Data, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    other = replace(data, input=replace(data.input, train_short_sides=(20, 28)))
    first = opened(data, root)
    batches(first, data, steps=60)
    used = sum(f.stat().st_size for f in files(root))
    limit = 1.5 * used / GB
    assert first.resized is not None
    second = opened(other, root, limit)
    batches(second, other, steps=60)
    assert used < sum(f.stat().st_size for f in files(root)) <= limit * GB
    assert second.resized is not None
    assert 0 < second.resized.limit < first.resized.limit  # a part of it
    folder = first.resized.folder
    first = second = replace(first, resized=None)
    assert opened(other, root, limit).resized is not None
    assert not folder.exists()  # nobody used it any more


def test_a_smaller_limit_counts_for_what_lies_there_already(data: Data, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    batches(opened(data, root), data, steps=60)
    used = sum(f.stat().st_size for f in files(root))
    split = opened(data, root, used / 2 / GB)
    batches(split, data, steps=60)
    assert 0 < sum(f.stat().st_size for f in files(root)) <= used / 2


def test_what_a_killed_process_left_half_written_goes(data: Data, tmp_path: Path) -> None:
    split = opened(data, tmp_path / "cache")
    batches(split, data)
    assert split.resized is not None
    torn = files(tmp_path / "cache")[0].parent / "tmpabc"
    torn.write_bytes(b"half")
    opened(data, tmp_path / "cache")
    assert torn.exists()  # somebody uses the set, and may be at it
    split = replace(split, resized=None)
    opened(data, tmp_path / "cache")
    assert not torn.exists()


def test_without_room_or_behind_an_augmentation_there_is_none(data: Data, tmp_path: Path) -> None:
    assert opened(data, tmp_path / "cache", gb=0).resized is None
    drawn = replace(data, augment="aa_v0")
    assert opened(drawn, tmp_path / "cache").resized is None
    assert opened(drawn, tmp_path / "cache", name="val").resized is not None


def test_a_disk_that_takes_nothing_costs_one_warning(data: Data, tmp_path: Path) -> None:
    plain = batches(open_split(data, "train"), data)
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match="resized images are not kept") as told:
        split = opened(data, tmp_path / "file" / "cache")
    assert (split.resized, len(told)) == (None, 1)
    split = opened(data, tmp_path / "cache")
    assert split.resized is not None
    for part in range(COUNT):  # a file where a folder would be: every write fails
        (split.resized.folder / f"{part:03d}").touch()
    with pytest.warns(RuntimeWarning, match="resized images are not kept") as told:
        assert_same(plain, batches(split, data))
    assert len(told) == 1


def _fill(data: Data, root: Path) -> list[bytes]:
    split = opened(data, root)
    return [b.images.numpy().tobytes() for b in batches(split, data)]


def test_processes_fill_one_together(data: Data, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    plain = [b.images.numpy().tobytes() for b in batches(open_split(data, "train"), data)]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_fill, [data] * 4, [root] * 4))
    assert found == [plain] * 4
    assert not [f for f in files(root) if f.name.startswith("tmp")]
    assert len({s.parent for s in root.glob("*/use")}) == 1


def test_a_loader_process_does_not_hold_it_open(data: Data, tmp_path: Path) -> None:
    split = opened(data, tmp_path / "cache")
    assert isinstance(split.resized, ResizedImages)
    folder = split.resized.folder
    copy = pickle.loads(pickle.dumps(split.resized))
    with (folder / "use").open("r+") as use, pytest.raises(BlockingIOError):
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by the first
    del split
    with (folder / "use").open("r+") as use:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert copy.folder == folder  # which lives


def test_a_size_that_two_sides_come_to_is_one_entry(data: Data, tmp_path: Path) -> None:
    """The longest side cuts every image to the same size, whatever its shorter one is asked for."""
    cut = replace(data, input=replace(data.input, train_max_side=16))
    split = open_split(cut, "train")
    ids, sizes = entries_of(split, cut)
    assert ids.tolist() == split.image_ids.tolist()
    assert sizes.max(axis=1).tolist() == [16] * COUNT
    assert len(entries_of(split, data)[0]) == 2 * COUNT


def test_images_numbered_otherwise_are_another_set(data: Data, tmp_path: Path) -> None:
    split = open_split(data, "train")
    other = replace(split, file_names=split.file_names[::-1])
    kept = [open_resized(each, data, 1.0, tmp_path / "cache") for each in (split, split, other)]
    assert all(kept)
    assert len({each.folder for each in kept if each}) == 2
