"""Images into style transfer: exact at 8 and 16 bits, upright, refused with a code."""

from __future__ import annotations

import hashlib
import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from ganpipe.imaging.decode import HAS_AVIF
from ganpipe.imaging.float_image import over_white, read_float_image, upright_size
from ganpipe.imaging.image import RejectedImage
from tests.conftest import noise_image
from tests.imaging.image_files import encoded, exif_with, png_bytes, tiff_bytes, upright
from tests.imaging.samples import from_ffmpeg, integers, noise, planes, saved


def test_an_image_knows_its_file(tmp_path: Path) -> None:
    path = saved(encoded(noise_image(0), "PNG"), tmp_path)
    image = read_float_image(path)
    assert image.path == path
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert image.pixels.shape == (1, 3, 24, 20)
    assert image.pixels.dtype == torch.float32
    assert image.alpha is None
    assert image.bit_depth == 8
    assert torch.equal(image.pixels[0], planes(np.asarray(noise_image(0))))


@pytest.mark.parametrize("codec", ["png", "tiff"])
@pytest.mark.parametrize(("layout", "channels"), [("gray16", 1), ("rgb48", 3), ("rgba64", 4)])
def test_sixteen_bits_of_another_program_are_read(
    tmp_path: Path, layout: str, channels: int, codec: str
) -> None:
    samples = noise(channels)
    if channels == 4:
        samples[..., 3] = 65535
    end, options = ("be", {}) if codec == "png" else ("le", {"compression_algo": "lzw"})
    written = samples[..., 0] if channels == 1 else samples
    image = read_float_image(saved(from_ffmpeg(written, codec, layout + end, **options), tmp_path))
    assert image.bit_depth == 16
    np.testing.assert_array_equal(
        integers(image.pixels[0], 16), np.broadcast_to(samples[..., :3], (12, 10, 3))
    )


@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tile"])
@pytest.mark.parametrize("deflated", [False, True], ids=["raw", "deflated"])
@pytest.mark.parametrize("big_endian", [False, True], ids=["II", "MM"])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_layout_of_sixteen_bit_tiff_is_read(
    tmp_path: Path, channels: int, big_endian: bool, deflated: bool, tiled: bool
) -> None:
    samples = noise(channels)
    tags: dict[int, object] = {338: 2} if channels == 4 else {}
    image = read_float_image(saved(tiff_bytes(samples, big_endian, deflated, tiled, tags=tags), tmp_path))
    assert image.bit_depth == 16
    expected = over_white(planes(samples)[:3], planes(samples)[3] if channels == 4 else None)
    torch.testing.assert_close(image.pixels[0], expected, rtol=0, atol=1e-6)


def test_sixteen_bit_planes_are_read_with_eight_bits(tmp_path: Path) -> None:
    samples = noise(3)
    image = read_float_image(saved(tiff_bytes(samples, deflated=True, planes=True), tmp_path))
    assert image.bit_depth == 8
    torch.testing.assert_close(image.pixels[0], planes(samples), rtol=0, atol=1 / 255)


def test_alpha_that_is_multiplied_in_is_undone_at_sixteen_bits(tmp_path: Path) -> None:
    """TIFF's associated alpha: on white it shows c + 1 − a."""
    samples = noise(4)
    samples[..., :3] = samples[..., :3] * (samples[..., 3:] / 65535)
    image = read_float_image(saved(tiff_bytes(samples, tags={338: 1}), tmp_path))
    assert image.alpha is not None
    expected = planes(samples)[:3] + 1 - planes(samples)[3]
    torch.testing.assert_close(image.pixels[0], expected, rtol=0, atol=1e-6)


def test_gray_with_alpha_keeps_sixteen_bits(tmp_path: Path) -> None:
    samples = noise(2)
    image = read_float_image(saved(png_bytes(samples), tmp_path))
    assert image.bit_depth == 16
    assert image.alpha is not None
    gray, alpha = planes(samples)
    torch.testing.assert_close(image.alpha, alpha, rtol=0, atol=1e-7)
    torch.testing.assert_close(
        image.pixels[0], (gray * alpha + 1 - alpha).expand(3, -1, -1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_one_transparent_color_is_told_from_its_neighbors(tmp_path: Path, channels: int) -> None:
    """Colors that differ in the last bit of one channel."""
    samples = np.full((8, 8, channels), 0x1234, np.uint16)
    samples[2, 3, 0] += 1
    data = png_bytes(samples, (b"tRNS", samples[2, 3].astype(">u2").tobytes()))
    image = read_float_image(saved(data, tmp_path))
    assert image.alpha is not None
    assert (image.alpha == 0).nonzero().tolist() == [[2, 3]]
    assert image.pixels[0, :, 2, 3].tolist() == [1, 1, 1]


def test_float_tiff_is_finer_than_eight_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = read_float_image(saved(encoded(Image.fromarray(values), "TIFF"), tmp_path))
    assert image.bit_depth == 16
    torch.testing.assert_close(image.pixels[0, 0], torch.from_numpy(values), rtol=0, atol=1e-6)


# Upright


def files_turned(orientation: int) -> dict[str, tuple[np.ndarray, bytes]]:
    """Makes the stored pixels, `[H, W, C]`, and a file of them that asks to be turned, by kind."""
    eight, sixteen, gray = np.asarray(noise_image(0, (9, 5))), noise(3, 5, 9), noise(1, 5, 9)
    exif = exif_with(orientation)
    chunk = (b"eXIf", exif.tobytes()[6:])
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    packet = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    image = Image.fromarray(eight)
    return {
        "png": (eight, encoded(image, "PNG", exif=exif)),
        "tiff": (eight, encoded(image, "TIFF", exif=exif)),
        "deflated tiff": (eight, encoded(image, "TIFF", exif=exif, compression="tiff_adobe_deflate")),
        "webp": (eight, encoded(image, "WEBP", exif=exif, lossless=True)),
        "16-bit png": (sixteen, png_bytes(sixteen, chunk)),
        "16-bit tiff": (sixteen, tiff_bytes(sixteen, tags={274: orientation})),
        "16-bit gray png": (gray, png_bytes(gray, chunk)),
        "16-bit gray tiff": (gray, tiff_bytes(gray, tags={274: orientation})),
        "16-bit gray and alpha": (noise(2, 5, 9), png_bytes(noise(2, 5, 9), chunk)),
        "exif behind the pixels": (sixteen, png_bytes(sixteen, late=((b"tEXt", b"a\0b"), chunk))),
        "xmp before the pixels": (sixteen, png_bytes(sixteen, packet)),
        "xmp behind the pixels": (sixteen, png_bytes(sixteen, late=(packet,))),
    }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", list(files_turned(1)))
def test_every_kind_of_file_is_turned_upright_and_its_size_is_known_before(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    stored, data = files_turned(orientation)[kind]
    path = saved(data, tmp_path)
    image = read_float_image(path)
    expected = planes(np.ascontiguousarray(upright(stored, orientation)))
    if kind == "16-bit gray and alpha":
        expected = over_white(expected[:1], expected[1])
    expected = expected.expand(3, -1, -1)
    torch.testing.assert_close(image.pixels[0], expected, rtol=0, atol=1e-6)
    assert upright_size(path) == tuple(expected.shape[1:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", *(["AVIF"] if HAS_AVIF else [])])
def test_a_lossy_file_is_turned_upright_and_its_size_is_known_before(
    tmp_path: Path, format: str, orientation: int
) -> None:
    stored = np.zeros((24, 40, 3), np.uint8)
    stored[:12, :20] = 250  # a bright corner
    path = saved(encoded(Image.fromarray(stored), format, exif=exif_with(orientation), quality=95), tmp_path)
    expected = planes(np.ascontiguousarray(upright(stored, orientation)))
    assert upright_size(path) == tuple(expected.shape[1:])
    assert (read_float_image(path).pixels[0] - expected).abs().mean() < 0.02


def test_the_size_is_read_without_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(image: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    for exif, size in ((exif_with(6), (200, 100)), (None, (100, 200))):
        data = encoded(noise_image(0, (200, 100)), "PNG", exif=exif)
        assert upright_size(saved(data, tmp_path)) == size


REFUSED = {
    "not_an_image": b"not an image",
    "empty": b"",
    "damaged": from_ffmpeg(noise(3, 200, 200), "png", "rgb48be")[:5000],
    "too_many_pixels": encoded(Image.new("1", (20_000, 20_000)), "PNG"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_cannot_be_read_is_refused_with_a_code(tmp_path: Path, code: str) -> None:
    path = saved(REFUSED[code], tmp_path)
    with pytest.raises(RejectedImage) as rejected:
        read_float_image(path)
    assert rejected.value.code == code
    if code != "damaged":  # the header is whole
        with pytest.raises(RejectedImage) as rejected:
            upright_size(path)
        assert rejected.value.code == code


def test_half_a_sixteen_bit_tiff_is_refused(tmp_path: Path) -> None:
    for deflated in (False, True):
        data = tiff_bytes(noise(3), deflated=deflated)
        with pytest.raises(RejectedImage, match="damaged"):
            read_float_image(saved(data[:-100], tmp_path))


@pytest.mark.parametrize("read", [read_float_image, upright_size])
def test_a_fifo_and_a_missing_file_are_refused(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(RejectedImage, match="not_a_file"):
        read(tmp_path / "fifo.png")
    with pytest.raises(RejectedImage, match="unreadable"):
        read(tmp_path / "gone.png")


def test_reading_warns_of_nothing(tmp_path: Path) -> None:
    """A warning of Pillow's over a large or odd image would stand in the middle of a progress bar."""
    buffer = BytesIO()
    Image.new("L", (9500, 9500)).save(buffer, "PNG", compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RejectedImage, match="too_many_pixels"):
            upright_size(saved(buffer.getvalue(), tmp_path), max_pixels=64_000_000)
