"""Search anchor sizes and ratios that fit the boxes of a folder in COCO format.

    python -m detcore.anchors --data DIR [--levels 5] [--per-level 3] [--ratios 3]

Prints settings to put under `model` in a config, and how well they fit beside the default ones.
It is the seed report's search with shared ratios (seed_components section 6), which its scaling of
the images leaves open: a short side of 576 fits its result best.

Shape legend: T boxes, S sizes, R ratios.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detcore.config.schema import CocoFolder, Data, GridAnchors
from detcore.data.coco import CocoSplit, open_split
from detcore.data.folder import DataError
from detcore.data.transforms import input_size

Floats = NDArray[np.float64]

ROUNDS = 1000
CHUNK = 2**16
"""Boxes that are compared with all shapes at once: COCO's 860,000 then need tens of megabytes."""

TIE = 1e-9
"""Overlaps closer than about this count as equal."""


@dataclass(frozen=True)
class Found:
    sizes: Floats  # S, pixels, rising
    ratios: Floats  # R, w/h, rising
    settled: bool  # False: stopped after ROUNDS


def box_shapes(split: CocoSplit, short_side: int, max_side: int) -> Floats:
    """Widths and heights, T x 2, of all boxes in pixels of the resized images."""
    factors = np.empty((len(split), 2))
    for i, (height, width) in enumerate(split.sizes.tolist()):
        new_height, new_width = input_size(height, width, short_side, max_side)
        factors[i] = new_width / width, new_height / height
    boxes = split.boxes.astype(np.float64)
    shapes: Floats = boxes[:, 2:] - boxes[:, :2]
    return shapes * factors.repeat(np.diff(split.starts), axis=0)


def search(shapes: Floats, num_sizes: int, num_ratios: int) -> Found:
    """Sizes and ratios for boxes of T x 2 widths and heights.

    Starts from one-dimensional k-means on sqrt(w h) and on w / h, then improves both by `update`
    until no size moves by more than 2 pixels and no ratio by more than 0.01. Raises ValueError when
    the boxes are too few, or too alike, for so many clusters.
    """
    size, ratio = np.sqrt(shapes.prod(axis=1)), shapes[:, 0] / shapes[:, 1]
    sizes = kmeans(size, num_sizes, "sizes")
    ratios = kmeans(ratio, num_ratios, "ratios")
    for _ in range(ROUNDS):
        new_sizes, new_ratios = update(shapes, sizes, ratios)
        size_move, ratio_move = abs(new_sizes - sizes).max(), abs(new_ratios - ratios).max()
        sizes, ratios = new_sizes, new_ratios
        if size_move <= 2 and ratio_move <= 0.01:
            return Found(np.sort(sizes), np.sort(ratios), settled=True)
    return Found(np.sort(sizes), np.sort(ratios), settled=False)


def kmeans(values: Floats, count: int, name: str = "values") -> Floats:
    """Lloyd's algorithm on numbers -> `count` rising centres. It starts from evenly spaced
    quantiles of the distinct values, so equal input gives equal output."""
    distinct = np.unique(values.round(6))  # what differs by rounding is one value
    if len(distinct) < count:
        raise ValueError(
            f"{count} {name} cannot be found: {len(values)} boxes have {len(distinct)} different "
            f"{name}"
        )
    centres: Floats = distinct[((np.arange(count) + 0.5) * len(distinct) / count).astype(int)]
    for _ in range(ROUNDS):
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        moved = _means(values, nearest, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def update(shapes: Floats, sizes: Floats, ratios: Floats) -> tuple[Floats, Floats]:
    """One round: each box goes to the (size, ratio) whose shape it overlaps most when both have the
    same centre; a size becomes the mean of its boxes' sqrt(w h), a ratio the geometric mean of
    their w / h. What has no boxes stays.

    Ties are common: a box inside, or round, the shapes that one size has in two ratios overlaps
    both alike. It goes to the ratio nearest to its own; the report's code left it to rounding.
    """
    best = np.concatenate([_nearest(part, sizes, ratios) for part in _chunks(shapes)])
    size, log_ratio = np.sqrt(shapes.prod(axis=1)), np.log(shapes[:, 0] / shapes[:, 1])
    new_ratios: Floats = np.exp(_means(log_ratio, best // len(sizes), np.log(ratios)))
    return _means(size, best % len(sizes), sizes), new_ratios


def mean_best_iou(shapes: Floats, sizes: Floats, ratios: Floats) -> float:
    """Mean over the boxes of the largest IoU with any shape, centre on centre: what anchors could
    reach if every box lay just right for them."""
    best = [_iou(part, sizes, ratios).max(axis=(1, 2)) for part in _chunks(shapes)]
    return float(np.concatenate(best).mean())


def _chunks(shapes: Floats) -> list[Floats]:
    return [shapes[start : start + CHUNK] for start in range(0, len(shapes), CHUNK)]


def _nearest(shapes: Floats, sizes: Floats, ratios: Floats) -> NDArray[np.intp]:
    """T x 2 -> T, the number of the best of the R S shapes, the ratios outside."""
    apart = abs(np.log(shapes[:, 0] / shapes[:, 1])[:, None] - np.log(ratios))
    score = _iou(shapes, sizes, ratios) - TIE * apart[:, :, None]
    best: NDArray[np.intp] = score.reshape(len(shapes), -1).argmax(axis=1)
    return best


def _iou(shapes: Floats, sizes: Floats, ratios: Floats) -> Floats:
    """T x 2 -> T x R x S, centre on centre."""
    w, h = np.outer(np.sqrt(ratios), sizes), np.outer(1 / np.sqrt(ratios), sizes)
    width, height = shapes.T[..., None, None]
    shared = np.minimum(width, w) * np.minimum(height, h)
    iou: Floats = shared / (width * height + w * h - shared)
    return iou


def _means(values: Floats, group: NDArray[np.intp], empty: Floats) -> Floats:
    """The mean of each group's values; that of a group without any is in `empty`."""
    count = np.bincount(group, minlength=len(empty))
    total = np.bincount(group, weights=values, minlength=len(empty))
    means: Floats = np.where(count > 0, total / np.maximum(count, 1), empty)
    return means


def default_shapes() -> tuple[Floats, Floats]:
    """Sizes (of all levels) and ratios of the default anchors."""
    table = GridAnchors().table()
    return np.concatenate([sizes for sizes, _ in table]), np.asarray(table[0][1])


def as_yaml(sizes: Floats, ratios: Floats, levels: int) -> str:
    """The lines that go under `model` in a config, numbers to two decimals."""
    per_level = [f"[{_numbers(part)}]" for part in np.split(sizes, levels)]
    return (
        "anchors:\n  kind: listed\n"
        f"  sizes: [{', '.join(per_level)}]\n  ratios: [[{_numbers(ratios)}]]"
    )


def _numbers(values: Floats) -> str:
    return ", ".join(f"{v:.2f}" for v in values)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    paths = {f"{args.split}_annotations": args.annotations, f"{args.split}_images": args.images}
    try:
        source = CocoFolder(root=args.data, **paths)
        split = open_split(Data(source=source), args.split)
        shapes = box_shapes(split, args.short_side, args.max_side)
        if len(shapes) == 0:
            raise DataError(f"{split.annotation_file}: no boxes in {len(split)} images")
        found = search(shapes, args.levels * args.per_level, args.ratios)
    except ValueError as error:
        print(_in_options(str(error), args.split), file=sys.stderr)
        return 2
    print(
        f"# under `model` of a config that resizes images to a short side of {args.short_side} "
        "(data.input.eval_short_side)"
    )
    print(as_yaml(found.sizes, found.ratios, args.levels))
    print(
        f"# {len(shapes)} boxes of {len(split)} images ({args.split}), short side "
        f"{args.short_side}, long side at most {args.max_side}"
    )
    fit = mean_best_iou(shapes, found.sizes, found.ratios)
    default_fit = mean_best_iou(shapes, *default_shapes())
    print(
        f"# mean best IoU of the boxes: {fit:.3f}; with the default anchors (32 to 813 pixels) "
        f"{default_fit:.3f}" + ("" if fit > default_fit else ": these are no better")
    )
    if not found.settled:
        print(f"# not settled after {ROUNDS} rounds")
    return 0


def _in_options(message: str, split: str) -> str:
    """Settings of a config, named as options of this command."""
    for key in ("annotations", "images"):
        message = message.replace(f"data.source.{split}_{key}", f"--{key}")
    return message.replace("data.source.root", "--data").replace("root is", "--data is")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m detcore.anchors",
        description="Find anchor sizes and ratios that fit the boxes of a folder in COCO format.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder in COCO format")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--annotations", metavar="FILE", help="if it has no usual name, below DIR")
    parser.add_argument("--images", metavar="FOLDER", help="if it has no usual name, below DIR")
    for name, default, text in (
        ("--levels", 5, "how many levels the pyramid has"),
        ("--per-level", 3, "how many sizes on each level"),
        ("--ratios", 3, "how many ratios w/h, the same on all levels"),
        ("--short-side", 576, "the images' short side after resizing, pixels"),
        ("--max-side", 1333, "at most this for the long side, pixels"),
    ):
        parser.add_argument(name, type=_positive, default=default, help=f"{text} (%(default)s)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, is {text!r}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
