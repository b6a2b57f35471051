"""Finding and checking the files of a COCO folder. Every mistake is one line that names what to
mend."""

from __future__ import annotations

import copy
import json
import socket
from pathlib import Path

import pytest

from detcore.config.schema import CocoFolder
from detcore.data.folder import (
    ANNOTATION_NAMES,
    DataError,
    data_root,
    find_annotations,
    find_images,
    missing_files,
    read_coco_json,
)
from tests.detcore.data.builders import box, coco, record


@pytest.mark.parametrize("name", [n.format(split="val") for n in ANNOTATION_NAMES])
def test_each_usual_annotation_name_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert find_annotations(CocoFolder(root=str(tmp_path)), "val") == tmp_path / name


def test_annotations_absent_ambiguous_and_named(tmp_path: Path) -> None:
    source = CocoFolder(root=str(tmp_path))
    with pytest.raises(
        DataError, match=r"looked for annotations/instances_train2017\.json, .*set "
    ):
        find_annotations(source, "train")
    (tmp_path / "annotations").mkdir()
    for name in ("train2014.json", "train2017.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    with pytest.raises(
        DataError, match=r"2 annotation files .*2017.*2014.*data\.source\.train_ann"
    ):
        find_annotations(source, "train")
    named = CocoFolder(root=str(tmp_path), train_annotations="annotations/train2014.json")
    assert find_annotations(named, "train").name == "train2014.json"
    wrong = CocoFolder(root=str(tmp_path), train_annotations="no.json")
    with pytest.raises(
        DataError, match=r"no\.json: no such annotation file \(data\.source\.train_"
    ):
        find_annotations(wrong, "train")


@pytest.mark.parametrize("root", ["$PLACE/set", "${PLACE}/set", "~/set"])
def test_a_root_is_what_it_is_on_this_machine(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "val.json").write_text("{}")
    assert find_annotations(CocoFolder(root=root), "val") == tmp_path / "set" / "val.json"


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named_with_the_machine(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLACE", raising=False)
    if value is not None:
        monkeypatch.setenv("PLACE", value)
    said = rf"root is \${{PLACE}}/set, and the variable PLACE is not set on {socket.gethostname()}"
    with pytest.raises(DataError, match=said):
        find_annotations(CocoFolder(root="${PLACE}/set"), "val")


def test_a_folder_that_is_not_there_is_named_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLACE", "/nowhere")
    said = rf"/nowhere/set: no such folder \(.*: \$PLACE/set on {socket.gethostname()}\)"
    with pytest.raises(DataError, match=said):
        find_annotations(CocoFolder(root="$PLACE/set"), "val")
    with pytest.raises(DataError, match=r"~nobody-of-that-name/set: "):
        find_annotations(CocoFolder(root="~nobody-of-that-name/set"), "val")


def test_a_folder_may_be_called_like_a_variable(tmp_path: Path) -> None:
    (tmp_path / "$PLACE").mkdir()
    assert data_root(str(tmp_path / "$PLACE")) == tmp_path / "$PLACE"


def test_missing_root_is_named() -> None:
    with pytest.raises(DataError, match=r"/nowhere: no such folder \(data\.source\.root\)"):
        find_annotations(CocoFolder(root="/nowhere"), "val")


@pytest.mark.parametrize(
    "folder", ["val2017", "val2014", "val", "images/val2017", "images/val", "images", "."]
)
def test_the_image_folder_is_the_one_that_holds_the_files(tmp_path: Path, folder: str) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)  # present, and holds none of them
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "b.jpg").touch()
    source = CocoFolder(root=str(tmp_path))
    assert find_images(source, "val", ["a.jpg", "b.jpg"]) == tmp_path / folder


def test_images_absent_ambiguous_and_named(tmp_path: Path) -> None:
    source = CocoFolder(root=str(tmp_path))
    with pytest.raises(DataError, match=r"none of the 1 images .*a\.jpg.*set data\.source\.val_im"):
        find_images(source, "val", ["a.jpg"])
    for folder in ("val", "images"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    with pytest.raises(
        DataError, match=r"in val and in images; set data\.source\.val_images to one"
    ):
        find_images(source, "val", ["a.jpg"])
    assert (
        find_images(CocoFolder(root=str(tmp_path), val_images="images"), "val", ["a.jpg"])
        == tmp_path / "images"
    )
    with pytest.raises(DataError, match="no such image folder"):
        find_images(CocoFolder(root=str(tmp_path), val_images="other"), "val", ["a.jpg"])


def test_missing_files_looks_into_subfolders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    (tmp_path / "b.png").touch()
    names = ["sub/a.png", "b.png", "sub/b.png", "a.png", "none/a.png"]
    assert missing_files(tmp_path, names) == ["sub/b.png", "a.png", "none/a.png"]


GOOD = coco([record(5)], [box(1, 5, 2, [0, 0, 4, 4])])

MISTAKES = {
    "not JSON": ("{", "is not JSON"),
    "not UTF-8": (b"\xff\xfe{", "is not JSON"),
    "a list": ("[]", "is not COCO: the top level must be a mapping, is a list"),
    "no images": ({**GOOD, "images": None}, "'images' must be a list, is a null"),
    "no annotations": (
        {k: v for k, v in GOOD.items() if k != "annotations"},
        "the key 'annotations' is missing",
    ),
    "no categories": ({**GOOD, "categories": []}, "has no categories"),
    "empty": ({**GOOD, "images": []}, "the split is empty: no images"),
    "text among images": ({**GOOD, "images": ["a"]}, r"images\[0\] must be a mapping, is a text"),
    "image without width": (("images", 0, "width", None), r"images\[0\].width must be a whole nu"),
    "image of no size": (("images", 0, "height", 0), "width and height must be positive"),
    "negative image id": (("images", 0, "id", -1), "the id not negative"),
    "id as text": (("images", 0, "id", "5"), r"images\[0\].id must be a whole number, is '5'"),
    "category without name": (("categories", 1, "name", 3), r"categories\[1\].name must be text"),
    "unknown image": (("annotations", 0, "image_id", 6), "annotation 1: image_id 6 is not among"),
    "unknown category": (("annotations", 0, "category_id", 9), "annotation 1: category_id 9 is no"),
    "three numbers": (("annotations", 0, "bbox", [1, 2, 3]), "bbox must be four finite numbers"),
    "NaN": (("annotations", 0, "bbox", [1, 2, 3, float("nan")]), "bbox must be four finite"),
    "text in a box": (("annotations", 0, "bbox", [1, 2, 3, "4"]), "bbox must be four finite"),
    "image id too large": (
        {**GOOD, "images": [record(2**53 + 1)]},
        "images: the id 9007199254740993 is beyond 9007199254740992",
    ),
    "image id twice": ({**GOOD, "images": [record(5), record(5)]}, "images: the id 5 is given twi"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_is_wrong_with_a_file_is_named_in_one_line(tmp_path: Path, case: str) -> None:
    content, message = MISTAKES[case]
    if isinstance(content, tuple):
        key, index, field, value = content
        content = copy.deepcopy(GOOD)
        content[key][index][field] = value
    file = tmp_path / "val.json"
    raw = content if isinstance(content, bytes | str) else json.dumps(content)
    file.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_coco_json(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text(json.dumps(GOOD))
    assert read_coco_json(tmp_path / "val.json") == GOOD
