"""Images: right results for what people have, and refusals with a code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganpipe.imaging import decode
from ganpipe.imaging.decode import HAS_AVIF, decode_image, is_gray, over_white, read_image_file, reduce_large
from ganpipe.imaging.image import RejectedImage
from tests.conftest import noise_image
from tests.imaging.image_files import encoded, exif_with, png_bytes, tiff_bytes, upright


def test_sixteen_bit_gray_keeps_its_tones() -> None:
    """Pillow's own conversion to RGB turns it white."""
    values = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(values), "PNG"))
    assert image.mode == "L"
    np.testing.assert_allclose(np.asarray(image), values / 257, atol=1)


def test_float_tiff_keeps_its_tones() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(np.asarray(image), values * 255, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_is_turned_upright(format: str, orientation: int) -> None:
    stored = noise_image(0, (30, 10))
    data = encoded(
        stored, format, exif=exif_with(orientation), **({"lossless": True} if format == "WEBP" else {})
    )
    np.testing.assert_array_equal(np.asarray(decode_image(data)), upright(np.asarray(stored), orientation))


def test_an_image_with_damaged_exif_is_shown_as_it_lies() -> None:
    samples = np.zeros((10, 30, 3), np.uint16)
    assert decode_image(png_bytes(samples, (b"eXIf", b"no such thing"))).size == (30, 10)


def test_colors_under_full_transparency_stay_hidden() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(over_white(decode_image(encoded(image, "PNG")))).min() == 255


def ycck_jpeg(cmyk: tuple[int, int, int, int]) -> bytes:
    """As Photoshop saves it: inverted, with C, M and Y rotated to luma and chroma, and Adobe's mark of that."""
    y, cb, cr = Image.new("RGB", (1, 1), cmyk[:3]).convert("YCbCr").getpixel((0, 0))  # libjpeg: R is 255 − C
    # Pillow inverts what it writes as CMYK; Adobe stores 255 − C, which libjpeg calls C, so that R is our C.
    stored = Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, cmyk[3]))
    data = encoded(stored, "JPEG", quality=100, subsampling=0)
    mark = data.index(b"Adobe") + 11
    return data[:mark] + b"\x02" + data[mark + 1 :]


@pytest.mark.parametrize("ink", range(4))
@pytest.mark.parametrize("kind", ["CMYK", "YCCK"])
def test_cmyk_photographs_are_not_inverted(kind: str, ink: int) -> None:
    """Full cyan is (0, 255, 255), and so on: each ink takes away what it absorbs."""
    inks = tuple(255 * (k == ink) for k in range(4))
    data = (
        ycck_jpeg(inks) if kind == "YCCK" else encoded(Image.new("CMYK", (16, 16), inks), "JPEG", quality=100)
    )
    image = decode_image(data)
    assert image.mode == "RGB"
    expected = np.zeros(3) if ink == 3 else 255 - np.eye(3)[ink] * 255
    np.testing.assert_allclose(np.asarray(image)[8, 8], expected, atol=2)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("deflated", [False, True])
def test_sixteen_bit_planes_are_no_noise(deflated: bool, big_endian: bool, channels: int) -> None:
    """Pillow 13.0 reads uncompressed ones as if they had 8 bits."""
    samples = np.random.default_rng(0).integers(0, 65536, (12, 10, channels), dtype=np.uint16)
    tags = {338: 2} if channels == 4 else {}
    image = decode_image(tiff_bytes(samples, big_endian, deflated, planes=True, tags=tags))
    np.testing.assert_array_equal(np.asarray(image), samples >> 8)


def test_sixteen_bit_tiff_whose_zero_is_white_is_no_negative() -> None:
    samples = np.arange(0, 65536, 656, dtype=np.uint16)[:100].reshape(10, 10, 1)
    image = decode_image(tiff_bytes(samples, tags={262: 0}))
    np.testing.assert_allclose(np.asarray(image), 255 - samples[..., 0] / 257, atol=1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "LA"), (3, "RGBA")])
def test_one_transparent_color_of_sixteen_bits_is_transparent(channels: int, mode: str) -> None:
    samples = np.full((8, 8, channels), 0x8000, np.uint16)
    samples[2, 3] = [0x1234, 0x5678, 0x9ABC][:channels]
    image = decode_image(png_bytes(samples, (b"tRNS", samples[2, 3].astype(">u2").tobytes())))
    assert image.mode == mode
    alpha = np.asarray(image.getchannel("A"))
    assert (alpha == 0).sum() == 1
    assert alpha[2, 3] == 0


def test_a_refusal_passes_through_a_context_manager() -> None:
    """contextlib sets `__traceback__`, which a frozen dataclass forbids."""

    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    with pytest.raises(RejectedImage, match="empty"), nothing():
        raise RejectedImage("empty", "it has 0 bytes")


@pytest.mark.skipif(not HAS_AVIF, reason="this Pillow was built without AVIF")
def test_avif_is_read_where_pillow_can() -> None:
    assert decode_image(encoded(noise_image(1), "AVIF")).size == (20, 24)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_allowed_formats_are_read(format: str) -> None:
    image = decode_image(encoded(noise_image(1), format))
    assert image.size == (20, 24)
    assert image.mode == "RGB"


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
    with pytest.raises(RejectedImage) as rejected:
        decode_image(data)
    assert rejected.value.code == code


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(data) < 100_000
    with pytest.raises(RejectedImage, match="too_many_pixels"):
        decode_image(data)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(RejectedImage, match="not_a_file"):
        read_image_file(tmp_path / "fifo.png")


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(RejectedImage, match="empty"):
        read_image_file(tmp_path / "empty.png")
    with pytest.raises(RejectedImage, match="unreadable"):
        read_image_file(tmp_path / "gone.png")


def test_gray_is_recognized_in_color_files() -> None:
    assert is_gray(noise_image(0, mode="L").convert("RGB"))
    assert not is_gray(noise_image(0))


def test_the_limit_of_pixels_is_a_parameter() -> None:
    data = encoded(Image.new("L", (30, 20)), "PNG")
    assert decode_image(data, max_pixels=600).size == (30, 20)
    with pytest.raises(RejectedImage, match="30×20 is over 0 megapixels"):
        decode_image(data, max_pixels=599)


def test_a_large_picture_is_reduced_by_boxes_weighted_by_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hidden color under full transparency must not show, and small pictures stay as they are."""
    image = Image.new("RGBA", (80, 40), (255, 0, 0, 255))
    image.paste((0, 255, 0, 0), (0, 0, 1, 40))
    assert reduce_large(image, 20) is image
    monkeypatch.setattr(decode, "LARGE_PIXELS", 100)
    small = reduce_large(image, 20)
    assert (small.size, small.mode) == ((20, 10), "RGBA")
    assert small.getpixel((0, 0)) == (255, 0, 0, 191)
    assert [decode.shrink_large(20)(width, 10) for width in (20, 40, 80, 159, 160)] == [1, 2, 4, 4, 8]
    assert decode.shrink_large(2)(10, 10) == 1
