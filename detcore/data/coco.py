"""One split of a COCO-format folder as flat arrays, which forked and pickled loader processes share
cheaply.

Shape legend: N images, T boxes of all images, M boxes of one image.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detcore.config.schema import CocoFolder, Data, Shapes
from detcore.data.folder import (
    DataError,
    SplitName,
    find_annotations,
    find_images,
    missing_files,
    read_coco_json,
)
from detcore.data.holdout import is_held_out
from detcore.data.images import problem_of, read_image
from detcore.data.outlines import Outlines, coco_rings, join_rings
from detcore.data.shapes import ensure_shapes
from detcore.data.transforms import Picture, scaled

if TYPE_CHECKING:
    from detcore.data.resized import ResizedImages

CACHE_BYTES = 256 * 2**20
"""A split whose decoded images all fit in this many bytes is kept decoded in memory, once per
process."""


@dataclass(frozen=True)
class CocoSplit:
    """The images and boxes of one split.

    Class k is the category with the k-th smallest id. Boxes are clipped to their image;
    `dropped_boxes` had nothing left.
    """

    name: SplitName
    annotation_file: Path
    image_folder: Path
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    image_ids: np.ndarray  # N int64
    file_names: np.ndarray  # N text, relative to image_folder
    sizes: np.ndarray  # N x 2 int64: height, width
    starts: np.ndarray  # N + 1 int64: boxes of image i are starts[i] to starts[i + 1]
    boxes: np.ndarray  # T x 4 float32: x1 y1 x2 y2 in pixels of the image
    labels: np.ndarray  # T int64: 0..K-1
    dropped_boxes: int = 0
    skipped_images: tuple[int, ...] = ()  # ids of images that cannot be read
    outlines: Outlines | None = None  # of all T boxes; only where the training needs them
    resized: ResizedImages | None = None  # where images at their input size are kept
    _decoded: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_decoded": {}}  # decoded images do not travel to other processes

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def objects(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (M x 4) and labels (M) of image i."""
        at = slice(self.starts[i], self.starts[i + 1])
        return self.boxes[at], self.labels[at]

    def outlines_of(self, i: int) -> Outlines | None:
        """The outlines of the M boxes of image i, where the split has any."""
        if self.outlines is None:
            return None
        return self.outlines.part(int(self.starts[i]), int(self.starts[i + 1]))

    def image(self, i: int) -> np.ndarray:
        """Pixels of image i: height x width x 3 uint8 RGB, read-only. Raises DataError naming a
        file that cannot be read."""
        if i in self._decoded:
            return self._decoded[i]
        height, width = self.sizes[i].tolist()
        pixels = read_image(self.image_folder / str(self.file_names[i]), height, width)
        pixels.setflags(write=False)
        if 3 * int(self.sizes.prod(axis=1).sum()) <= CACHE_BYTES:
            self._decoded[i] = pixels
        return pixels

    def picture(self, i: int) -> Picture:
        """Image i, decoded only where no resized one is at hand."""

        def at(size: tuple[int, int]) -> np.ndarray:
            if self.resized is None:
                return scaled(self.image(i), size)
            file = self.image_folder / str(self.file_names[i])
            image_id = int(self.image_ids[i])
            return self.resized.get(file, image_id, size, lambda: scaled(self.image(i), size))

        height, width = self.sizes[i].tolist()
        return Picture((height, width), lambda: self.image(i), at)


def open_split(data: Data, split: SplitName) -> CocoSplit:
    """Read the annotations of `split` and check that its images are there; raises DataError, one
    line that names the file.

    Training splits follow `data.crowd` and `data.empty_images`; in val, boxes are those that are
    not crowd, and no image is left out for being empty. With `on_bad_image: skip` every image is
    decoded once here (JPEGs at an eighth of their size), and what cannot be read is left out and
    recorded: so all ranks and loader workers, however many, see the same list. Outlines are built
    for training with `augment: waa`.

    With `data.holdout` both splits come from the training images: val is the share held out, read
    as any val split, and train is the rest.
    """
    source = data.source
    if isinstance(source, Shapes):
        source = CocoFolder(root=str(ensure_shapes(source)))
    listed: SplitName = "train" if data.holdout else split
    file = find_annotations(source, listed)
    content = read_coco_json(file)
    images = content["images"]
    folder = find_images(source, listed, [r["file_name"] for r in images])
    if data.holdout:
        images = _part(file, images, split, data.holdout)
    count = len(images)
    bad = _bad_images(folder, images, data.on_bad_image == "skip")
    images = [r for r in images if r["id"] not in bad]

    category_ids = tuple(sorted(c["id"] for c in content["categories"]))
    names = {c["id"]: c["name"] for c in content["categories"]}
    keep_crowd = split == "train" and data.crowd == "keep"
    per_image, dropped = _boxes(content["annotations"], images, category_ids, keep_crowd)
    if split == "train" and data.empty_images == "drop":
        images = [r for r in images if per_image[r["id"]]]
    if not images:
        raise DataError(
            f"{file}: the split is empty: of {count} images {len(bad)} cannot be "
            f"read and none of the others is left (data.empty_images: {data.empty_images})"
        )
    kept = [(r, row) for r in images for row in per_image[r["id"]]]
    counts = [len(per_image[r["id"]]) for r in images]
    table = np.asarray([row[:5] for _, row in kept], dtype=np.float64).reshape(-1, 5)
    outlines = None
    if split == "train" and data.augment == "waa":
        outlines = join_rings(
            coco_rings(file, row[5], row, r["width"], r["height"]) for r, row in kept
        )
    return CocoSplit(
        name=split,
        annotation_file=file,
        image_folder=folder,
        category_ids=category_ids,
        class_names=tuple(names[c] for c in category_ids),
        image_ids=np.asarray([r["id"] for r in images], dtype=np.int64),
        file_names=np.asarray([r["file_name"] for r in images]),
        sizes=np.asarray([(r["height"], r["width"]) for r in images], dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=table[:, :4].astype(np.float32),
        labels=table[:, 4].astype(np.int64),
        dropped_boxes=dropped,
        skipped_images=tuple(sorted(bad)),
        outlines=outlines,
    )


def _part(
    file: Path, images: list[dict[str, Any]], split: SplitName, share: float
) -> list[dict[str, Any]]:
    """The training images that `split` has where a `share` of them is held out."""
    kept = [r for r in images if is_held_out(r["file_name"], share) == (split == "val")]
    if len(kept) in (0, len(images)):
        raise DataError(
            f"{file}: data.holdout {share:g} leaves {split} {len(kept)} of {len(images)} images; "
            "training and evaluation need at least one each"
        )
    return kept


Row = tuple[float, float, float, float, int, dict[str, Any]]  # x1, y1, x2, y2, class, its record


def _boxes(
    annotations: list[dict[str, Any]],
    images: list[dict[str, Any]],
    category_ids: tuple[int, ...],
    keep_crowd: bool,
) -> tuple[dict[int, list[Row]], int]:
    """Clipped boxes by image id, and how many had nothing left of them."""
    class_of = {c: k for k, c in enumerate(category_ids)}
    size_of = {r["id"]: (r["width"], r["height"]) for r in images}
    out: dict[int, list[Row]] = {r["id"]: [] for r in images}
    dropped = 0
    for record in annotations:
        if record["image_id"] not in out or (record.get("iscrowd", 0) and not keep_crowd):
            continue
        x, y, w, h = record["bbox"]
        width, height = size_of[record["image_id"]]
        x1, x2 = min(max(x, 0.0), width), min(max(x + w, 0.0), width)
        y1, y2 = min(max(y, 0.0), height), min(max(y + h, 0.0), height)
        if x2 - x1 <= 1e-6 or y2 - y1 <= 1e-6:
            dropped += 1
        else:
            label = class_of[record["category_id"]]
            out[record["image_id"]].append((x1, y1, x2, y2, label, record))
    return out, dropped


def _bad_images(folder: Path, images: list[dict[str, Any]], skip: bool) -> set[int]:
    """Ids of the images that cannot be read; without `skip`, an absent one raises DataError."""
    missing = set(missing_files(folder, [r["file_name"] for r in images]))
    if missing and not skip:
        first = next(r["file_name"] for r in images if r["file_name"] in missing)
        raise DataError(
            f"{folder / first}: the image is listed but absent ({len(missing)} of {len(images)} "
            "are; data.on_bad_image: skip leaves them out)"
        )
    if not skip:
        return set()

    def unreadable(record: dict[str, Any]) -> bool:
        if record["file_name"] in missing:
            return True
        path = folder / record["file_name"]
        return problem_of(path, record["height"], record["width"]) is not None

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decoding releases the GIL
        return {r["id"] for r, bad in zip(images, pool.map(unreadable, images), strict=True) if bad}
