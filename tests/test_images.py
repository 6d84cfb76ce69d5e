"""Pictures: exact round trips, and right results for what people have."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.images import (
    ImageShape,
    Refusal,
    decode_image,
    fit_image,
    grid,
    is_grey,
    over_white,
    read_image_file,
    read_origin,
    save_png,
    to_float,
    to_uint8,
)
from tests.conftest import noise_image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def test_every_byte_survives_the_way_to_float_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    floats = to_float(pixels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(to_uint8(floats), pixels)


def test_sixteen_bit_grey_keeps_its_tones() -> None:
    """Pillow's own conversion to RGB turns it white."""
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(values), "PNG"))
    assert image.mode == "L"
    np.testing.assert_allclose(np.asarray(image), values / 257, atol=1)


def test_float_tiff_keeps_its_tones() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(np.asarray(image), values * 255, atol=1)


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    image = decode_image(encoded(noise_image(0, (30, 10)), "JPEG", exif=exif))
    assert image.size == (10, 30)


def test_colours_under_full_transparency_stay_hidden() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(over_white(decode_image(encoded(image, "PNG")))).min() == 255


def test_cmyk_becomes_rgb() -> None:
    assert decode_image(encoded(noise_image(0).convert("CMYK"), "JPEG")).mode == "RGB"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_allowed_formats_are_read(format: str) -> None:
    assert decode_image(encoded(noise_image(1), format)).size == (20, 24)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"not an image", "not_an_image"),
        (encoded(noise_image(0, (200, 200)), "JPEG")[:3000], "damaged"),
        (encoded(noise_image(0, (200, 200)), "PNG")[:3000], "damaged"),
        (encoded(noise_image(0), "PPM"), "not_an_image"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_a_code(data: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        decode_image(data)
    assert refusal.value.code == code


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(data) < 100_000
    with pytest.raises(Refusal, match="too_many_pixels"):
        decode_image(data)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(Refusal, match="not_a_file"):
        read_image_file(tmp_path / "fifo.png")


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(Refusal, match="empty"):
        read_image_file(tmp_path / "empty.png")
    with pytest.raises(Refusal, match="unreadable"):
        read_image_file(tmp_path / "gone.png")


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_any_picture_fits_any_frame(fit: str, mode: str) -> None:
    for channels in (1, 3):
        pixels = fit_image(noise_image(0, (31, 9), mode), ImageShape(channels, 16, 32), fit)
        assert pixels.shape == (16, 32, channels)
        assert pixels.dtype == np.uint8


def test_pad_shows_the_whole_picture_and_crop_fills_the_frame() -> None:
    white = Image.new("RGB", (40, 10), "white")
    padded, cropped = (fit_image(white, ImageShape(3, 16, 16), fit) for fit in ("pad", "crop"))
    assert padded.min() == 0
    assert cropped.min() == 255


def test_grey_is_recognised_in_colour_files() -> None:
    assert is_grey(noise_image(0, mode="L").convert("RGB"))
    assert not is_grey(noise_image(0))


def test_a_grid_shows_every_picture_in_its_place() -> None:
    pixels = np.stack([np.full((64, 64, 1), 10 * k, np.uint8) for k in range(5)])
    sheet = np.asarray(grid(pixels, columns=3, gap_px=2))
    assert [int(sheet[2 + 66 * (k // 3), 2 + 66 * (k % 3), 0]) for k in range(5)] == [0, 10, 20, 30, 40]


def test_a_picture_carries_its_origin(tmp_path: Path) -> None:
    origin = {"kind": "grid", "name": "flowers × π", "nimg": 3}
    path = save_png(noise_image(0), tmp_path / "a.png", origin)
    assert read_origin(path) == origin


def test_a_picture_without_origin_says_so(tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "a.png")
    with pytest.raises(GanpipeError, match="carries no ganpipe origin"):
        read_origin(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(GanpipeError, match="not a readable image"):
        read_origin(tmp_path / "b.png")
    with pytest.raises(GanpipeError, match="does not exist"):
        read_origin(tmp_path / "c.png")
