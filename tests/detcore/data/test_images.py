"""Decoding: every colour mode to RGB, EXIF by the recorded size, broken files by name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from detcore.data.folder import DataError
from detcore.data.images import problem_of, read_image

COLOUR = (200, 120, 40)


def blocks() -> Image.Image:
    """24 x 16 pixels, a red block up left, so that a wrong orientation shows."""
    image = Image.new("RGB", (24, 16), COLOUR)
    image.paste((255, 0, 0), (0, 0, 8, 8))
    return image


def test_greyscale_jpeg_has_three_equal_channels(tmp_path: Path) -> None:
    blocks().convert("L").save(tmp_path / "a.jpg", quality=100)
    pixels = read_image(tmp_path / "a.jpg", 16, 24)
    assert pixels.shape == (16, 24, 3)
    assert pixels.dtype == np.uint8
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 1] == pixels[..., 2]).all()
    # ITU-R 601 luma of the ground colour
    assert abs(int(pixels[12, 16, 0]) - (0.299 * 200 + 0.587 * 120 + 0.114 * 40)) <= 2


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_adobe_cmyk_jpeg_agrees_with_torchvision(tmp_path: Path) -> None:
    """Adobe stores CMYK inverted; a decoder that forgets it gives the negative."""
    file = tmp_path / "a.jpg"
    blocks().convert("CMYK").save(file, quality=100, subsampling=0)
    assert b"Adobe" in file.read_bytes()
    pixels = read_image(file, 16, 24)
    data = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
    oracle = decode_jpeg(data, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    assert np.abs(pixels.astype(int) - oracle).max() <= 2
    assert np.abs(pixels[12, 16].astype(int) - COLOUR).max() <= 3


def test_palette_alpha_and_16_bit_grey(tmp_path: Path) -> None:
    blocks().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", 16, 24), np.asarray(blocks()))

    translucent = blocks()
    translucent.putalpha(7)
    translucent.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16, 24), np.asarray(blocks()))

    deep = np.array([[0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = read_image(tmp_path / "deep.png", 1, 6)
    assert grey[0, :, 0].tolist() == [0, 0, 1, 127, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_only_where_the_recorded_size_is_the_transposed_one(
    tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks().save(tmp_path / "a.png", exif=exif)
    stored = np.asarray(blocks())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16, 24), stored)
    # the four transposing orientations of the EXIF standard, as numpy operations
    turned = {
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }
    if orientation in turned:
        pixels = read_image(tmp_path / "a.png", 24, 16)
        np.testing.assert_array_equal(pixels, turned[orientation])
    else:
        with pytest.raises(DataError, match="24 x 16 pixels, recorded are 16 x 24"):
            read_image(tmp_path / "a.png", 24, 16)


def jpeg(quality: int = 90) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "jpeg cut in half": jpeg()[: len(jpeg()) // 2],
    "jpeg without its last tenth": jpeg()[: len(jpeg()) * 9 // 10],
    "jpeg cut in its header": jpeg()[:40],
    "png cut in half": png()[: len(png()) // 2],
    "png with a broken chunk": png()[:60] + b"\0\0\0\0" + png()[64:],
    "empty": b"",
    "text": b"<html>not found</html>",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named_and_found_by_the_quick_look(tmp_path: Path, case: str) -> None:
    file = tmp_path / "broken.img"
    file.write_bytes(BROKEN[case])
    with pytest.raises(DataError, match=r"broken\.img: the image cannot be read: ") as caught:
        read_image(file, 64, 80)
    assert "\n" not in str(caught.value)
    assert problem_of(file, 64, 80) is not None


def test_a_file_that_claims_a_gigantic_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice this
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read: Image size"):
        read_image(tmp_path / "a.png", 64, 80)
    assert problem_of(tmp_path / "a.png", 64, 80) is not None


def test_whole_files_have_no_problem_and_absent_ones_do(tmp_path: Path) -> None:
    for name, content in (("a.jpg", jpeg()), ("a.png", png())):
        (tmp_path / name).write_bytes(content)
        assert problem_of(tmp_path / name, 64, 80) is None
        assert problem_of(tmp_path / name, 64, 81) is not None
    assert problem_of(tmp_path / "none.jpg", 64, 80) is not None
    with pytest.raises(DataError, match=r"none\.jpg: the image is listed but absent"):
        read_image(tmp_path / "none.jpg", 64, 80)
