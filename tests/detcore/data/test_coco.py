"""Splits: class numbers, clipping, crowd and empty images, and what happens to images that cannot
be read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from detcore.config.schema import CocoFolder, Data, Shapes
from detcore.data.coco import open_split
from detcore.data.folder import DataError
from tests.detcore.data.builders import SHARED, box, coco, folder, record, write_split


def test_classes_follow_sorted_category_ids_with_their_gaps(tmp_path: Path) -> None:
    boxes = [box(i, 1, c, [i, 0, 5, 5]) for i, c in ((1, 90), (2, 3), (3, 17))]
    write_split(tmp_path, "train", coco([record(1)], boxes, ids=(90, 3, 17, 44)))
    split = open_split(folder(tmp_path), "train")
    assert split.category_ids == (3, 17, 44, 90)
    assert split.class_names == ("c3", "c17", "c44", "c90")
    np.testing.assert_array_equal(split.objects(0)[1], [3, 0, 1])


def test_boxes_are_clipped_and_those_with_nothing_left_are_counted(tmp_path: Path) -> None:
    boxes = [
        box(1, 1, 1, [-5, -5, 15, 15]),  # left and above: 10 x 10 remain
        box(2, 1, 1, [35, 25, 50, 50]),  # right and below: 5 x 5 remain
        box(3, 1, 1, [50, 5, 10, 10]),  # outside
        box(4, 1, 1, [5, 5, 0, 10]),  # no width
        box(5, 1, 1, [9, 9, -3, 4]),  # negative width
        box(6, 1, 1, [40, 0, 3, 3]),  # touches the border from outside
    ]
    write_split(tmp_path, "train", coco([record(1, (40, 30))], boxes))
    split = open_split(folder(tmp_path), "train")
    np.testing.assert_array_equal(split.objects(0)[0], [[0, 0, 10, 10], [35, 25, 40, 30]])
    assert split.dropped_boxes == 4


def crowded(root: Path) -> None:
    """Image 1 has a box, image 2 only a crowd, image 3 nothing."""
    boxes = [box(1, 1, 1, [0, 0, 5, 5]), box(2, 2, 1, [0, 0, 9, 9], iscrowd=1)]
    for split in ("train", "val"):
        write_split(root, split, coco([record(i) for i in (1, 2, 3)], boxes))


@pytest.mark.parametrize(
    ("crowd", "empty", "ids", "counts"),
    [
        ("drop", "keep", [1, 2, 3], [1, 0, 0]),
        ("keep", "keep", [1, 2, 3], [1, 1, 0]),
        ("drop", "drop", [1], [1]),
        ("keep", "drop", [1, 2], [1, 1]),
    ],
)
def test_crowd_and_empty_images(
    tmp_path: Path, crowd: str, empty: str, ids: list[int], counts: list[int]
) -> None:
    crowded(tmp_path)
    data = folder(tmp_path, crowd=crowd, empty_images=empty)
    train = open_split(data, "train")
    assert train.image_ids.tolist() == ids
    assert [len(train.objects(i)[0]) for i in range(len(train))] == counts
    val = open_split(data, "val")  # evaluation keeps every image whatever training does
    assert val.image_ids.tolist() == [1, 2, 3]


def test_a_split_that_the_policies_leave_empty_is_an_error(tmp_path: Path) -> None:
    write_split(tmp_path, "train", coco([record(1)], []))
    with pytest.raises(DataError, match=r"train\.json: the split is empty: .*empty_images: drop"):
        open_split(folder(tmp_path, empty_images="drop"), "train")


def test_absent_images_are_named_at_opening(tmp_path: Path) -> None:
    write_split(tmp_path, "train", coco([record(i) for i in range(5)], []))
    for i in (1, 3):
        (tmp_path / "train" / f"{i}.png").unlink()
    with pytest.raises(
        DataError, match=r"train/1\.png: .* absent \(2 of 5 are; data\.on_bad_image"
    ):
        open_split(folder(tmp_path), "train")


def damaged(root: Path) -> None:
    """Of images 0 to 5: 1 is absent, 3 truncated, 4 recorded with a wrong size."""
    images = [record(i, (64, 48), f"{i}.jpg") for i in range(6)]
    content = coco(images, [box(i + 1, i, 1, [1, 1, 9, 9]) for i in range(6)])
    file = write_split(root, "train", content)
    (root / "train" / "1.jpg").unlink()
    cut = root / "train" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    images[4]["width"] = 65
    file.write_text(json.dumps(content))


def test_skip_leaves_out_and_records_whatever_cannot_be_read(tmp_path: Path) -> None:
    damaged(tmp_path)
    split = open_split(folder(tmp_path, on_bad_image="skip"), "train")
    assert split.skipped_images == (1, 3, 4)
    assert split.image_ids.tolist() == [0, 2, 5]
    assert len(split.boxes) == 3
    for i in range(len(split)):
        assert split.image(i).shape == (48, 64, 3)


def test_error_names_a_truncated_image_when_it_is_loaded(tmp_path: Path) -> None:
    damaged(tmp_path)
    (tmp_path / "train" / "1.jpg").write_bytes((tmp_path / "train" / "0.jpg").read_bytes())
    split = open_split(folder(tmp_path), "train")
    with pytest.raises(DataError, match=r"train/3\.jpg: the image cannot be read"):
        split.image(3)
    with pytest.raises(DataError, match=r"train/4\.jpg: the image is 64 x 48 .* recorded are 65"):
        split.image(4)


def test_decoded_images_are_shared_read_only_and_do_not_travel(tmp_path: Path) -> None:
    crowded(tmp_path)
    split = open_split(folder(tmp_path), "train")
    first = split.image(0)
    assert split.image(0) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1
    assert len(pickle.dumps(split)) < first.nbytes + len(
        pickle.dumps(open_split(folder(tmp_path), "train"))
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(split)).image(0), first)


def test_shapes_open_like_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path))
    data = Data(source=Shapes(train_images=3, val_images=2, size=64))
    split = open_split(data, "val")
    assert len(split) == 2
    assert split.class_names == ("disc", "ring", "square", "triangle")
    assert split.image(1).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("name", "images", "boxes", "crowd", "classes"),
    # images and boxes, those of them crowd, as the README beside the data counts them
    [
        ("bccd", (205, 87), (2804, 1137), (0, 0), 3),
        ("coco_mini_small", (70, 72), (684, 604), (8, 8), 80),
    ],
)
def test_real_photographs(
    name: str, images: tuple[int, int], boxes: tuple[int, int], crowd: tuple[int, int], classes: int
) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"needs the data set {name} in shared/data beside the checkout")
    for k, part in enumerate(("train", "val")):
        split = open_split(Data(source=CocoFolder(root=str(root))), part)
        assert len(split) == images[k]
        assert len(split.boxes) == boxes[k] - crowd[k]
        assert split.dropped_boxes == 0
        assert len(split.category_ids) == classes
        height, width = split.sizes[0]
        assert split.image(0).shape == (height, width, 3)
