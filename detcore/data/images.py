"""Image files to RGB pixels.

Which way up: COCO boxes refer to the pixels that the recorded width and height describe. Where
these equal the size as stored, the pixels are taken as stored, whatever EXIF says; where they equal
the transposed size, the EXIF orientation is applied. Anything else is an error.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from detcore.data.folder import DataError

BROKEN = (
    OSError,
    SyntaxError,  # from its PNG reader
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on files that are truncated, are no images, or claim a gigantic size."""


def read_image(path: Path, height: int, width: int) -> np.ndarray:
    """Pixels of `path` as height x width x 3 uint8 RGB; alpha is dropped, 16-bit grey keeps its
    upper 8 bits.

    Raises DataError when the file is absent, truncated or no image, or when its size is not the
    recorded one.
    """
    try:
        with Image.open(path) as image:
            upright = _upright(image, path, height, width)
            return np.asarray(_to_rgb(upright))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: the image is listed but absent") from None
    except BROKEN as error:
        raise DataError(f"{path}: the image cannot be read: {_line(error)}") from None


def problem_of(path: Path, height: int, width: int) -> str | None:
    """Why `read_image` would refuse this file, or None. Decodes JPEGs at an eighth of their size,
    which reads all bytes."""
    try:
        with Image.open(path) as image:
            _check_size(image, path, height, width)
            image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
    except BROKEN as error:  # DataError is a ValueError
        return _line(error)
    return None


def _check_size(image: Image.Image, path: Path, height: int, width: int) -> bool:
    """True when the EXIF orientation has to be applied."""
    if image.size == (width, height):
        return False
    transposed = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    if transposed and image.size == (height, width):
        return True
    raise DataError(
        f"{path}: the image is {image.width} x {image.height} pixels, "
        f"recorded are {width} x {height}"
    )


def _upright(image: Image.Image, path: Path, height: int, width: int) -> Image.Image:
    if _check_size(image, path, height, width):
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")  # Pillow has undone Adobe's inversion of CMYK when it decoded


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
