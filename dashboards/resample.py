"""With one seed: how much a difference of two cells depends on which images were evaluated.

The paired bootstrap over images (Efron and Tibshirani, An Introduction to the Bootstrap, ch. 13):
the validation images are drawn again and again with replacement, the same ones for both cells, and
mAP is computed anew each time. The interval covers which images were drawn. It does not cover which
seed was: another seed moves mAP as well, and of that one seed tells nothing. It is therefore no
verdict.

The input is `matches.npz` of each cell: what each detection matched, so that no box is compared
twice. An image that is drawn n times counts as n images.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.05
COVERS = "covers which images were drawn, not which seed"

_IOUS = 10
_RECALLS = np.linspace(0.0, 1.0, 101)  # where pycocotools reads the precision
_TINY = np.spacing(1)  # pycocotools adds it where nothing has been found yet
_AT_ONCE = 4_000_000  # draws x detections of one class

Array = NDArray[np.float64]
Counts = NDArray[np.int32]
Whole = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Matches:
    """What a cell's detections matched. I images, K classes, D detections, by class and then by
    falling score; bit t of the 16-bit numbers stands for the IoU threshold 0.5 + 0.05 t."""

    image_ids: Whole  # I
    category_ids: Whole  # K
    truths: Whole  # I x K: boxes that are to be found
    image: Whole  # D: a place in image_ids
    of_class: Whole  # D: a place in category_ids
    hit: Whole  # D, bits: it found a box
    ignored: Whole  # D, bits: it counts neither as right nor as wrong


@dataclass(frozen=True)
class ImageInterval:
    """`difference` is second - first, of mAP."""

    images: int
    draws: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    level: float
    covers: str = COVERS


def read_matches(file: Path) -> Matches:
    """Raises ValueError for a file that is not one that an evaluation wrote."""
    names = ("image_ids", "category_ids", "truths", "image", "class", "hit", "ignored")
    try:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array")
        with stored:
            found = Matches(*(stored[name] for name in names))
        _check(found)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is not the matches.npz of a cell: {error}") from None
    return found


def paired(
    first: Matches, second: Matches, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> ImageInterval:
    """The percentile interval of the difference in mAP. Draws without any box to be found say
    nothing and are left out. Raises ValueError when the cells were evaluated on other images or
    classes, and when there is nothing to be found."""
    if not np.array_equal(first.image_ids, second.image_ids):
        a, b = len(first.image_ids), len(second.image_ids)
        raise ValueError(f"the two cells were not evaluated on the same images ({a} and {b})")
    if not (
        np.array_equal(first.category_ids, second.category_ids)
        and np.array_equal(first.truths, second.truths)
    ):
        raise ValueError("the two cells were not evaluated on the same boxes")
    values = mean_ap(first), mean_ap(second)
    if not np.isfinite(values).all():
        raise ValueError("there is no box to be found in these images")
    images = len(first.image_ids)
    random = np.random.default_rng(seed)
    times = random.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.int32)
    differences = mean_ap_of(second, times) - mean_ap_of(first, times)
    low, high = np.nanquantile(differences, [level / 2, 1 - level / 2])
    return ImageInterval(
        images, draws, *values, values[1] - values[0], float(low), float(high), level
    )


def mean_ap(matches: Matches) -> float:
    """With each image once: pycocotools' own mAP; nan where nothing is to be found."""
    return float(mean_ap_of(matches, np.ones((1, len(matches.image_ids)), np.int32))[0])


def mean_ap_of(matches: Matches, times: Counts) -> Array:
    """`times`: R x I, how often each image is drawn. R values of mAP: the mean over the classes
    that have a box to be found in that draw; nan where none has.

    Detections of one score that are drawn several times follow each other; pycocotools would take
    them image by image. That is the same unless a detection has exactly the score of another one of
    its class.
    """
    total, classes = np.zeros((2, len(times)))
    starts = np.searchsorted(matches.of_class, np.arange(len(matches.category_ids) + 1))
    for k in np.flatnonzero(matches.truths.any(0)):
        part = slice(starts[k], starts[k + 1])
        truths = times @ matches.truths[:, k].astype(np.int32)
        there = truths > 0
        classes += there
        image, hit, ignored = matches.image[part], matches.hit[part], matches.ignored[part]
        for rows in _chunks(len(times), len(image)):
            drawn = times[rows][:, image]
            ap = _average_precision(drawn, hit, ignored, np.maximum(truths[rows], 1))
            total[rows] += np.where(there[rows], ap, 0.0)
    with np.errstate(invalid="ignore"):
        return total / classes


def _average_precision(drawn: Counts, hit: Whole, ignored: Whole, truths: Counts) -> Array:
    """Of one class, averaged over the IoU thresholds. `drawn`: R x D, how often each detection
    counts; `truths`: R.

    The precision at a recall is the highest at that recall or beyond, and it is highest right after
    a hit: nothing needs to be known of what lies between hits but how many detections.
    """
    total = np.zeros(len(drawn))
    so_far = np.cumsum(drawn, axis=1, dtype=np.int32)
    for t in range(_IOUS):
        hits = np.flatnonzero(hit >> t & 1)
        if not len(hits):
            continue
        found = np.cumsum(drawn[:, hits], axis=1, dtype=np.int32)
        count = so_far[:, hits] - _passed(drawn, np.flatnonzero(ignored >> t & 1), hits)
        precision = found / (count + _TINY)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = found / truths[:, None]
        reached = np.searchsorted(_RECALLS, recall, side="right")  # of the 101
        total += (highest * np.diff(reached, axis=1, prepend=0)).sum(1)
    return total / len(_RECALLS) / _IOUS


def _passed(drawn: Counts, ignored: Whole, hits: Whole) -> Any:
    """How many ignored detections are before each hit: R x len(hits), or 0 for none at all."""
    if not len(ignored):
        return 0
    so_far = np.cumsum(drawn[:, ignored], axis=1, dtype=np.int32)
    before = np.concatenate([np.zeros((len(drawn), 1), np.int32), so_far], axis=1)
    return before[:, np.searchsorted(ignored, hits)]


def _chunks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(width, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _check(found: Matches) -> None:
    columns = (found.image, found.of_class, found.hit, found.ignored)
    images, classes = found.image_ids, found.category_ids
    if not all(np.issubdtype(a.dtype, np.integer) for a in (images, classes, found.truths)):
        raise ValueError("images, classes and boxes are not counted in whole numbers")
    if images.ndim != 1 or classes.ndim != 1 or found.truths.shape != (len(images), len(classes)):
        raise ValueError("its images, classes and boxes do not fit together")
    if any(a.shape != (len(found.image),) for a in columns):
        raise ValueError("its detections are not complete")
    if not all(np.issubdtype(a.dtype, np.integer) for a in columns):
        raise ValueError("its detections are not described in whole numbers")
    for places, room in ((found.image, len(images)), (found.of_class, len(classes))):
        if len(places) and not 0 <= places.min() <= places.max() < room:
            raise ValueError("a detection is of an image or a class that is not there")
    if (np.diff(found.of_class.astype(np.int64)) < 0).any():
        raise ValueError("its detections are not in order")
