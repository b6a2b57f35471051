"""Where the files of a COCO-format folder lie, and whether they are what they claim to be.

Imports neither torch nor numpy: the data fingerprint is computed by processes that do not train.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from detcore.config.schema import CocoFolder

SplitName = Literal["train", "val"]

ANNOTATION_NAMES = (
    "annotations/instances_{split}2017.json",
    "annotations/instances_{split}2014.json",
    "annotations/instances_{split}.json",
    "annotations/{split}2017.json",
    "annotations/{split}2014.json",
    "annotations/{split}.json",
    "{split}.json",
    "{split}/_annotations.coco.json",
)
IMAGE_FOLDERS = (
    "{split}2017",
    "{split}2014",
    "{split}",
    "images/{split}2017",
    "images/{split}2014",
    "images/{split}",
    "images",
    ".",
)


_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)  # as os.path.expandvars has it


class DataError(ValueError):
    """Data that are absent or are not what they should be. One line that names the file and the way
    out."""


def data_root(root: str) -> Path:
    """`data.source.root` on this machine: `$NAME`, `${NAME}` and `~` are what they are here, so
    that every node of a cluster may keep the data in its own place. A folder that really is called
    so stays what it is.

    Raises DataError for a variable that is not set, or empty: the path would be another one.
    """
    if Path(root).is_dir():
        return Path(root)
    names = (plain or braced for plain, braced in _VARIABLE.findall(root))
    if unset := next((name for name in names if not os.environ.get(name)), None):
        raise DataError(
            f"data.source.root is {root}, and the variable {unset} is not set on "
            f"{socket.gethostname()}; set it there to the folder that holds the data"
        )
    try:
        return Path(os.path.expandvars(root)).expanduser()
    except RuntimeError as error:
        raise DataError(f"data.source.root is {root}: {error}") from None


def find_annotations(source: CocoFolder, split: SplitName) -> Path:
    """The annotation file of `split`; raises DataError when there is none, or more than one under
    the usual names."""
    root = _root(source)
    key = f"data.source.{split}_annotations"
    given = source.train_annotations if split == "train" else source.val_annotations
    if given is not None:
        if not (root / given).is_file():
            raise DataError(f"{root / given}: no such annotation file ({key})")
        return root / given
    names = [name.format(split=split) for name in ANNOTATION_NAMES]
    found = [name for name in names if (root / name).is_file()]
    if not found:
        raise DataError(
            f"{root}: no annotation file for {split}; looked for {', '.join(names)}; set {key}"
        )
    if len(found) > 1:
        raise DataError(
            f"{root}: {len(found)} annotation files for {split}: {', '.join(found)}; "
            f"set {key} to one"
        )
    return root / found[0]


def find_images(source: CocoFolder, split: SplitName, file_names: Sequence[str]) -> Path:
    """The folder that the names listed for `split` are relative to; raises DataError when none or
    several hold them."""
    root = _root(source)
    key = f"data.source.{split}_images"
    given = source.train_images if split == "train" else source.val_images
    if given is not None:
        if not (root / given).is_dir():
            raise DataError(f"{root / given}: no such image folder ({key})")
        return root / given
    names = [name.format(split=split) for name in IMAGE_FOLDERS]
    present = [name for name in names if (root / name).is_dir()]
    found = [n for n in present if any((root / n / f).is_file() for f in file_names)]
    if not found:
        raise DataError(
            f"{root}: none of the {len(file_names)} images listed for {split} (first: "
            f"{file_names[0]}) is in any of {', '.join(names)}; set {key}"
        )
    if len(found) > 1:
        raise DataError(
            f"{root}: images listed for {split} are in {' and in '.join(found)}; set {key} to one"
        )
    return root / found[0]


LARGEST_ID = 2**53  # results are rows of float64


def missing_files(folder: Path, file_names: Iterable[str]) -> list[str]:
    """Those of `file_names` that `folder` does not hold. Lists each folder once: cheap on network
    disks."""
    names_of: dict[Path, set[str]] = {}
    missing = []
    for name in file_names:
        path = folder / name
        if path.parent not in names_of:
            there = path.parent.iterdir() if path.parent.is_dir() else ()
            names_of[path.parent] = {p.name for p in there}
        if path.name not in names_of[path.parent]:
            missing.append(name)
    return missing


def read_coco_json(file: Path) -> dict[str, Any]:
    """The content of an annotation file, its structure checked; raises DataError naming what is
    wrong with it.

    Checked: JSON; `images`, `annotations`, `categories` are lists of mappings that have the keys
    used here with the right types; ids are unique; annotations refer to listed images and
    categories; categories and images are not empty.
    """
    try:
        data = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: is not JSON: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: is not COCO: the top level must be a mapping, is a {_type(data)}")
    for key in ("images", "annotations", "categories"):
        if key not in data:
            raise DataError(f"{file}: is not COCO: the key {key!r} is missing")
        if not isinstance(data[key], list):
            raise DataError(f"{file}: is not COCO: {key!r} must be a list, is a {_type(data[key])}")
    if not data["categories"]:
        raise DataError(f"{file}: has no categories")
    if not data["images"]:
        raise DataError(f"{file}: the split is empty: no images")
    categories = _checked(file, "categories", data["categories"], {"id": int, "name": str})
    images = _checked(
        file,
        "images",
        data["images"],
        {"id": int, "file_name": str, "width": int, "height": int},
    )
    for record in data["images"]:
        if record["width"] < 1 or record["height"] < 1 or record["id"] < 0:
            raise DataError(
                f"{file}: image {record['file_name']}: width and height must be positive and the "
                f"id not negative, are {record['width']}, {record['height']} and {record['id']}"
            )
    _checked(
        file,
        "annotations",
        data["annotations"],
        {"id": int, "image_id": int, "category_id": int, "bbox": list},
    )
    for record in data["annotations"]:
        here = f"{file}: annotation {record['id']}"
        if record["image_id"] not in images:
            raise DataError(f"{here}: image_id {record['image_id']} is not among the images")
        if record["category_id"] not in categories:
            raise DataError(
                f"{here}: category_id {record['category_id']} is not among the categories"
            )
        box = record["bbox"]
        if len(box) != 4 or not all(_is(float, v) and math.isfinite(v) for v in box):
            raise DataError(f"{here}: bbox must be four finite numbers x, y, w, h, is {box}")
    return data


def _root(source: CocoFolder) -> Path:
    root = data_root(source.root)
    if not root.is_dir():
        given = "" if "$" not in source.root else f": {source.root} on {socket.gethostname()}"
        raise DataError(f"{root}: no such folder (data.source.root{given})")
    return root


def _checked(file: Path, what: str, records: list[Any], keys: dict[str, type]) -> set[int]:
    """The ids of `records`, each of which must have `keys`."""
    ids: set[int] = set()
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(
                f"{file}: is not COCO: {what}[{i}] must be a mapping, is a {_type(record)}"
            )
        for key, kind in keys.items():
            if key not in record:
                raise DataError(f"{file}: is not COCO: {what}[{i}] has no key {key!r}")
            if not _is(kind, record[key]):
                wanted = {int: "a whole number", str: "text", list: "a list"}[kind]
                raise DataError(
                    f"{file}: is not COCO: {what}[{i}].{key} must be {wanted}, is {record[key]!r}"
                )
        if record["id"] in ids:
            raise DataError(f"{file}: {what}: the id {record['id']} is given twice")
        if abs(record["id"]) > LARGEST_ID:
            raise DataError(
                f"{file}: {what}: the id {record['id']} is beyond {LARGEST_ID}, the largest whole "
                "number that the arrays of COCO results hold exactly"
            )
        ids.add(record["id"])
    return ids


def _is(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _type(value: Any) -> str:
    names = {dict: "mapping", str: "text", type(None): "null", bool: "truth value"}
    return names.get(type(value), "list" if isinstance(value, list) else "number")
