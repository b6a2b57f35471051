"""Held-out training images: which they are, what the two splits have of them, and that nothing
changes for runs that hold none out."""

from __future__ import annotations

import hashlib
import json
import random
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from detcore.config import Config, from_dict, identity_dict
from detcore.config.schema import Data, Shapes
from detcore.data.coco import CocoSplit, open_split
from detcore.data.folder import DataError
from detcore.data.holdout import is_held_out
from detcore.data.shapes import ensure_shapes
from detcore.setup import open_splits
from detcore.train import train
from tests.detcore.data.builders import box, coco, folder, record, simple, write_split


def test_a_name_is_held_out_by_the_first_hex_digits_of_its_hash() -> None:
    """Half: the first digit is below 8; a sixteenth: it is 0. hashlib is the oracle."""
    for i in range(200):
        name = f"COCO_train2014_{i:012d}.jpg"
        digit = int(hashlib.sha256(name.encode()).hexdigest()[0], 16)
        assert is_held_out(name, 0.5) == (digit < 8)
        assert is_held_out(name, 1 / 16) == (digit == 0)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_share_is_what_is_asked_for_within_chance(share: float) -> None:
    """20,000 names like COCO's: two-sided bounds that a fair draw leaves once in a million."""
    n = 20_000
    held = sum(is_held_out(f"COCO_train2014_{i:012d}.jpg", share) for i in range(n))
    low, high = binom.interval(1 - 1e-6, n, share)
    assert low <= held <= high


@given(st.text(string.printable, min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_what_a_smaller_one_does(name: str, a: float, b: float) -> None:
    assert is_held_out(name, min(a, b)) <= is_held_out(name, max(a, b))
    assert not is_held_out(name, 0.0)


def scenes(root: Path, order: list[int], number_of: dict[int, int]) -> Data:
    """60 training images listed in `order` under the ids `number_of` gives them, image i with a box
    at x = i; the val split has one image."""
    records = [record(number_of[i], (100, 40), f"{i:03d}.png") for i in order]
    boxes = [box(k + 1, number_of[i], 1, [i, 3, 10, 10]) for k, i in enumerate(order)]
    write_split(root, "train", coco(records, boxes))
    write_split(root, "val", coco([record(1000)], [box(1, 1000, 1, [0, 0, 9, 9])]))
    return folder(root, holdout=0.3)


def named(split: CocoSplit) -> dict[str, list[float]]:
    """The left side of the boxes by file name."""
    return {
        str(name): split.objects(i)[0][:, 0].tolist() for i, name in enumerate(split.file_names)
    }


def test_the_parts_are_disjoint_complete_and_the_same_in_any_order(tmp_path: Path) -> None:
    order = list(range(60))
    ids = {i: i + 1 for i in order}
    train_split, held = open_splits(scenes(tmp_path / "a", order, ids))
    here, there = named(train_split), named(held)
    assert not here.keys() & there.keys()
    assert here | there == {f"{i:03d}.png": [float(i)] for i in order}  # each with its own boxes
    assert 0 < len(there) < len(here)
    assert held.name == "val"
    assert held.annotation_file == train_split.annotation_file
    random.Random(1).shuffle(order)
    other = {i: 500 - i for i in order}
    again = open_splits(scenes(tmp_path / "b", order, other))
    assert [named(split).keys() for split in again] == [here.keys(), there.keys()]


def test_without_a_holdout_the_splits_are_the_files(tmp_path: Path) -> None:
    data = replace(simple(tmp_path), holdout=0.0)
    train_split, val = open_splits(data)
    assert train_split.image_ids.tolist() == list(range(1, 8))
    assert val.image_ids.tolist() == list(range(101, 108))


def test_the_part_held_out_is_read_as_a_val_split(tmp_path: Path) -> None:
    """Training leaves empty images out and keeps crowds; the held-out part does neither."""
    records = [record(i, name=f"{i}.png") for i in range(1, 41)]
    boxes = [box(i, i, 1, [0, 0, 9, 9], iscrowd=int(i % 4 == 0)) for i in range(1, 41) if i % 2]
    boxes += [box(100 + i, i, 1, [0, 0, 9, 9], iscrowd=1) for i in range(4, 41, 4)]
    write_split(tmp_path, "train", coco(records, boxes))
    data = folder(tmp_path, holdout=0.5, empty_images="drop", crowd="keep")
    train_split, held = open_splits(data)
    expected = [i for i in range(1, 41) if is_held_out(f"{i}.png", 0.5)]
    assert held.image_ids.tolist() == expected
    assert sum(map(len, named(held).values())) == sum(i % 2 for i in expected)
    kept = [i for i in range(1, 41) if i not in expected and (i % 2 or i % 4 == 0)]
    assert train_split.image_ids.tolist() == kept
    assert all(named(train_split).values())


def test_an_image_that_is_absent_counts_in_its_own_part(tmp_path: Path) -> None:
    data = replace(scenes(tmp_path, list(range(60)), {i: i for i in range(60)}))
    name = next(f"{i:03d}.png" for i in range(60) if is_held_out(f"{i:03d}.png", 0.3))
    (tmp_path / "train" / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: the image is listed but absent"):
        open_split(data, "val")
    assert len(open_split(data, "train")) > 0
    train_split, held = open_splits(replace(data, on_bad_image="skip"))
    assert (len(train_split.skipped_images), len(held.skipped_images)) == (0, 1)


def test_a_part_without_images_or_boxes_is_an_error(tmp_path: Path) -> None:
    write_split(tmp_path, "train", coco([record(1), record(2)], [box(1, 1, 1, [0, 0, 5, 5])]))
    with pytest.raises(DataError, match=r"data\.holdout 1e-09 leaves val 0 of 2 images"):
        open_split(folder(tmp_path, holdout=1e-9), "val")
    records = [record(i) for i in range(1, 31)]
    boxes = [box(i, i, 1, [0, 0, 5, 5]) for i in range(1, 31) if not is_held_out(f"{i}.png", 0.5)]
    write_split(tmp_path, "train", coco(records, boxes))
    with pytest.raises(DataError, match=r"train\.json: the part held out has no boxes"):
        open_splits(folder(tmp_path, holdout=0.5))


def test_the_share_must_leave_something_to_train_on() -> None:
    for share in (1, -0.1):
        with pytest.raises(ValueError, match="holdout is a share below 1"):
            Data(holdout=share)


def test_no_run_without_a_holdout_has_another_identity() -> None:
    """The field came after code version 2: what was trained before must be found again."""
    assert "holdout" not in identity_dict(Config())["data"]
    held = replace(Config(), data=Data(holdout=0.1))
    assert identity_dict(held)["data"] == identity_dict(Config())["data"] | {"holdout": 0.1}


def test_a_run_is_trained_on_one_part_and_scored_on_the_other(tmp_path: Path) -> None:
    """Through the training entry point: every detection and the metrics are of held-out images."""
    source = {"kind": "shapes", "train_images": 24, "val_images": 4, "size": 64}
    sides = {"train_short_sides": [64], "train_max_side": 64}
    sides |= {"eval_short_side": 64, "eval_max_side": 64}
    norm = {"kind": "gn", "groups": 4}
    config = from_dict(
        Config,
        {
            "data": {"source": source, "input": sides, "holdout": 0.25},
            "model": {
                "kind": "retinanet",
                "backbone": {"kind": "tiny", "width": 8, "norm_act": norm},
                "neck": {"kind": "fpn", "channels": 16, "norm_act": norm},
                "head": {"num_convs": 1, "norm_act": norm},
                "postprocess": {"score_threshold": 0.0},
            },
            "train": {"steps": 3, "batch_per_gpu": 2},
            "monitor": {"min_map": 0.0},
            "runtime": {"device": "cpu", "threads": 1, "loader_workers": 0},
        },
    )
    result = train(config, workdir=tmp_path / "run")
    listed = json.loads(
        (
            ensure_shapes(Shapes(train_images=24, val_images=4, size=64))
            / "annotations"
            / "instances_train.json"
        ).read_text()
    )["images"]
    held = {r["id"] for r in listed if is_held_out(r["file_name"], 0.25)}
    found = {d["image_id"] for d in json.loads((tmp_path / "run/detections.json").read_text())}
    assert 0 < len(held) < 24
    assert found == held
    assert result.outcome == "converged"
    assert 0 <= result.metrics["mAP"] <= 1
