"""Resized images on a node's disk, shared by all cells that train there: a sweep reads the same
images hundreds of times, and decoding and resizing them is most of what its loaders do.

What is read here is bit for bit what would be computed. An entry holds raw pixels behind a header
with the source's size and time, the entry's own size and a checksum: one that is torn, truncated
or older than its source is made anew. Entries appear whole, by renaming, so that processes need not
know of each other.

A split read at given sizes is one set of entries, a folder. All sets together never take more than
the limit: a set has a quota, handed out under a lock, and which of its entries lie within it is
told by a hash of theirs, the same for every process. Images are read in random order, over and
over, so that a fixed part is as good as any, and nothing is ever evicted to make room for its like.
A set that nobody uses is deleted when another one needs the room.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import features

from detcore.config.schema import Data
from detcore.data.coco import CocoSplit
from detcore.data.shapes import cache_folder
from detcore.data.transforms import input_size

VERSION = 1  # raise it with every change of how images are decoded or resized
HEADER = struct.Struct("<8sqqIII")  # magic, bytes and mtime of the source, height, width, crc32
MAGIC = b"resized1"
GB = 10**9

Size = tuple[int, int]  # height, width


class ResizedImages:
    """The entries of one split. Picklable, for loader processes; the one that opened it holds it
    open for all of them."""

    def __init__(self, folder: Path, limit: int, hold: int) -> None:
        self.folder, self.limit = folder, limit
        self._is_off = False
        self._close = weakref.finalize(self, os.close, hold)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_close"}

    def get(
        self, source: Path, image_id: int, size: Size, make: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """The pixels of `source` at `size`, read-only, height x width x 3 uint8: those that `make`
        gives, or gave before."""
        if _place(np.array([image_id]), np.array([size]))[0] > self.limit:
            return make()
        try:
            stat = source.stat()
        except OSError:
            return make()  # it says what is wrong
        file = self.folder / f"{image_id % 1000:03d}" / f"{image_id}-{size[0]}x{size[1]}"
        about = (MAGIC, stat.st_size, stat.st_mtime_ns, *size)
        with suppress(OSError):
            stored = file.read_bytes()
            body = memoryview(stored)[HEADER.size :]
            whole = len(body) == 3 * size[0] * size[1]
            if whole and stored[: HEADER.size] == HEADER.pack(*about, zlib.crc32(body)):
                return np.frombuffer(body, np.uint8).reshape(*size, 3)
        pixels = make()
        self._store(file, about, np.ascontiguousarray(pixels).tobytes())
        return pixels

    def _store(self, file: Path, about: tuple[Any, ...], body: bytes) -> None:
        if self._is_off:
            return
        try:
            file.parent.mkdir(exist_ok=True)
            number, name = tempfile.mkstemp(dir=file.parent)
            try:
                with open(number, "wb") as out:  # noqa: PTH123, an open descriptor
                    out.write(HEADER.pack(*about, zlib.crc32(body)))
                    out.write(body)
                Path(name).replace(file)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            self._is_off = True
            _warn(self.folder, error)


def open_resized(
    split: CocoSplit, data: Data, limit_gb: float, root: Path | None = None
) -> ResizedImages | None:
    """The resized images of `split`, at the sizes in which `data` has them read; None with no room,
    and where an augmentation comes before the resize. A folder that cannot be used is told in one
    warning, and costs time alone."""
    is_train = split.name == "train"
    if not limit_gb > 0 or (is_train and data.augment != "none"):
        return None
    root = root or cache_folder() / "resized"
    ids, sizes = entries_of(split, data)
    folder = root / _key(split, ids, sizes)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            folder.mkdir(exist_ok=True)
            hold = os.open(folder / "use", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                os.utime(hold)
                quota = _quota(root, folder, hold, int(limit_gb * GB), int(_bytes(sizes).sum()))
                fcntl.flock(hold, fcntl.LOCK_SH)
            except OSError:
                os.close(hold)
                raise
    except OSError as error:
        _warn(root, error)
        return None
    return ResizedImages(folder, _last_place(ids, sizes, quota), hold)


def entries_of(split: CocoSplit, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """E image ids and the E x 2 sizes at which they may be read."""
    settings = data.input
    if split.name == "train":
        sides, longest = settings.train_short_sides, settings.train_max_side
    else:
        sides, longest = (settings.eval_short_side,), settings.eval_max_side
    at = [  # an elongated image has the same size at several sides
        dict.fromkeys(
            input_size(height, width, side, longest, settings.fit, settings.align) for side in sides
        )
        for height, width in split.sizes.tolist()
    ]
    ids = np.repeat(split.image_ids, [len(sizes) for sizes in at])
    return ids, np.array([size for sizes in at for size in sizes], np.int64)


def _key(split: CocoSplit, ids: np.ndarray, sizes: np.ndarray) -> str:
    made_by = f"{VERSION}\0{PIL.__version__}\0{features.version('jpg')}"
    digest = hashlib.sha256(f"{made_by}\0{split.image_folder.resolve()}\0".encode())
    digest.update("\0".join(split.file_names.tolist()).encode())
    digest.update(ids.astype(np.int64).tobytes())
    digest.update(sizes.tobytes())
    return digest.hexdigest()[:16]


def _bytes(sizes: np.ndarray) -> np.ndarray:
    found: np.ndarray = HEADER.size + 3 * sizes.prod(axis=1)
    return found


def _place(ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Where each entry stands in an order that is as good as random (splitmix64, Steele et al.
    2014)."""
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x ^= sizes[:, 0].astype(np.uint64) << np.uint64(32) | sizes[:, 1].astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found: np.ndarray = (x ^ (x >> np.uint64(31))) >> np.uint64(1)
    return found.astype(np.int64)


def _last_place(ids: np.ndarray, sizes: np.ndarray, quota: int) -> int:
    """The entries up to this place take no more than `quota` bytes together."""
    places = _place(ids, sizes)
    order = np.argsort(places)
    fits = np.cumsum(_bytes(sizes)[order]) <= quota
    return int(places[order][fits][-1]) if fits.any() else -1


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _quota(root: Path, folder: Path, hold: int, limit: int, wanted: int) -> int:
    """The bytes of the set `folder`, under the lock of `root`: what it was given, as long as others
    use it, else what the other sets leave of `limit`."""
    file = folder / "quota"
    before = _number(file)
    if not _alone(hold) and before is not None:
        return before
    for torn in folder.glob("*/tmp*"):  # of processes that were killed
        torn.unlink(missing_ok=True)
    others = sorted(
        (use for use in root.glob("*/use") if use.parent != folder),
        key=lambda use: use.stat().st_mtime,
    )
    taken = {use: _number(use.parent / "quota") or 0 for use in others}
    for use in others:
        if sum(taken.values()) + wanted <= limit:
            break
        if _delete(use):
            del taken[use]
    quota = max(0, min(wanted, limit - sum(taken.values())))
    if before is not None and quota < before:  # what lies there may be more than that
        for part in [part for part in folder.iterdir() if part.is_dir()]:
            shutil.rmtree(part)
    file.write_text(str(quota))
    return quota


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _alone(hold: int) -> bool:
    try:
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _delete(use: Path) -> bool:
    """Delete the set that the file `use` belongs to, unless a process uses it."""
    with use.open("r+") as file:
        if not _alone(file.fileno()):
            return False
        shutil.rmtree(use.parent)
        return True


def _warn(where: Path, error: OSError) -> None:
    warnings.warn(
        f"{where}: resized images are not kept: {error.strerror or error}",
        RuntimeWarning,
        stacklevel=3,
    )
