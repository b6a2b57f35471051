"""What identifies the data of a run, wherever they lie."""

from __future__ import annotations

import hashlib
from typing import get_args

from detcore.config.schema import CocoFolder, Shapes
from detcore.data.folder import DataError, SplitName, find_annotations, find_images, read_coco_json
from detcore.data.shapes import shapes_key


def data_fingerprint(source: Shapes | CocoFolder) -> str:
    """A short text that changes with the data and not with their place.

    For `shapes` it is made of the parameters and the generator's version, and nothing is generated.
    For a COCO folder it is a sha256 over the bytes of both annotation files and the name and size
    in bytes of every image they list (-1 where absent): the pixels themselves are not read. Raises
    DataError when the data are absent.
    """
    if isinstance(source, Shapes):
        return shapes_key(source)
    digest = hashlib.sha256()
    for split in get_args(SplitName):
        file = find_annotations(source, split)
        names = [r["file_name"] for r in read_coco_json(file)["images"]]
        folder = find_images(source, split, names)
        digest.update(f"{split}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
        for name in names:
            try:
                size = (folder / name).stat().st_size
            except FileNotFoundError:
                size = -1
            except OSError as error:
                raise DataError(f"{folder / name}: cannot be read: {error.strerror}") from None
            digest.update(f"{name}\0{size}\n".encode())
    return f"coco-{digest.hexdigest()}"
