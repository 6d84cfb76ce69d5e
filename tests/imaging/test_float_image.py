"""Images in and out of style transfer: exact at 8 and 16 bits, upright, in sRGB, with their origin."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin, PngImagePlugin
from torch import Tensor

from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import HAS_AVIF, decode_image
from ganpipe.imaging.encode import FORMATS, check_format, write_float_image
from ganpipe.imaging.float_image import over_white, read_float_image, upright_size
from ganpipe.imaging.icc import srgb_profile
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.provenance import read_origin
from tests.conftest import noise_image
from tests.imaging.test_decode import (
    ADOBE,
    D50,
    SRGB,
    SRGB_CURVE,
    encoded,
    exif_with,
    fixed,
    gray_profile,
    png_bytes,
    rgb_profile,
    srgb_of_adobe,
    srgb_of_light,
    tiff_bytes,
    upright,
)

ORIGIN = {"kind": "stylized", "name": "flowers × π", "settings": {"steps": 2}}
LOSSLESS = [("png", 8), ("tiff", 8), ("png", 16), ("tiff", 16)]


def noise(channels: int, height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    """uint16 samples `[H, W, C]` that are different for every seed."""
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def planes(samples: np.ndarray) -> Tensor:
    """Samples `[H, W, C]` of 8 or 16 bits → `[C, H, W]` in [0, 1]."""
    top = np.iinfo(samples.dtype).max
    return torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1) / top


def integers(image: Tensor, bit_depth: int) -> np.ndarray:
    """`[C, H, W]` in [0, 1] → `[H, W, C]` to the nearest."""
    return (image.double() * (2**bit_depth - 1)).round().permute(1, 2, 0).numpy().astype(int)


def saved(data: bytes, folder: Path, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def by_ffmpeg(data: bytes, codec: str) -> np.ndarray:
    """The samples that another decoder than ours sees."""
    context = av.CodecContext.create(codec, "r")
    frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    return frames[0].to_ndarray()


def from_ffmpeg(samples: np.ndarray, codec: str, layout: str, **options: str) -> bytes:
    """A file that another encoder than ours wrote."""
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = samples.shape[:2]
    context.pix_fmt, context.time_base, context.options = layout, Fraction(1), options
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), format=layout)
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode()))


# Out and in again


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize(("format", "bit_depth"), LOSSLESS)
def test_every_value_survives_a_lossless_file(
    tmp_path: Path, format: str, bit_depth: int, with_alpha: bool
) -> None:
    """All 256 or 65,536 of them, in each channel."""
    side = 2 ** (bit_depth // 2)
    ramp = np.arange(2**bit_depth).reshape(side, side)
    samples = np.stack([ramp, ramp.T, ramp[::-1]], axis=2).astype(f"uint{bit_depth}")
    alpha = torch.ones(side, side) if with_alpha else None
    image = read_float_image(
        write_float_image(tmp_path / "a", planes(samples), alpha, format, bit_depth, ORIGIN)
    )
    assert image.bit_depth == bit_depth
    assert (image.alpha is not None) == with_alpha
    np.testing.assert_array_equal(integers(image.pixels[0], bit_depth), samples)


@pytest.mark.parametrize(("format", "bit_depth"), LOSSLESS)
def test_alpha_is_kept_and_the_image_is_shown_on_white(tmp_path: Path, format: str, bit_depth: int) -> None:
    samples = noise(4)
    color, alpha = planes(samples)[:3], planes(samples)[3]
    image = read_float_image(write_float_image(tmp_path / "a", color, alpha, format, bit_depth, ORIGIN))
    step = 1 / (2**bit_depth - 1)
    assert image.alpha is not None
    torch.testing.assert_close(image.alpha, alpha, rtol=0, atol=0.51 * step)
    torch.testing.assert_close(image.pixels[0], color * alpha + 1 - alpha, rtol=0, atol=1.6 * step)


def test_webp_keeps_alpha_and_jpeg_is_shown_on_white(tmp_path: Path) -> None:
    color = torch.full((3, 16, 16), 0.25)
    alpha = torch.zeros(16, 16)
    alpha[:8] = 1
    webp = read_float_image(write_float_image(tmp_path / "a.webp", color, alpha, "webp", 8, ORIGIN))
    assert webp.alpha is not None
    assert torch.equal(webp.alpha, alpha)
    jpeg = read_float_image(write_float_image(tmp_path / "a.jpg", color, alpha, "jpeg", 8, ORIGIN))
    assert jpeg.alpha is None
    for image in (webp, jpeg):
        torch.testing.assert_close(image.pixels[0], over_white(color, alpha), rtol=0, atol=0.03)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_files_look_like_the_image(tmp_path: Path, format: str) -> None:
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64) * torch.tensor([1.0, 0.7, 0.3])[:, None, None]
    image = read_float_image(write_float_image(tmp_path / "a", ramp, None, format, 8, ORIGIN))
    assert image.bit_depth == 8
    torch.testing.assert_close(image.pixels[0], ramp, rtol=0, atol=0.03)


def test_a_jpeg_keeps_the_full_resolution_of_its_colors(tmp_path: Path) -> None:
    path = write_float_image(tmp_path / "a.jpg", planes(noise(3)), None, "jpeg", 8, ORIGIN)
    with Image.open(path) as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


@pytest.mark.parametrize(("bit_depth", "top"), [(8, 255), (16, 65535)])
def test_values_are_rounded_and_clamped(tmp_path: Path, bit_depth: int, top: int) -> None:
    values = torch.tensor([-0.5, 0.6 / top, 100.4 / top, 100.6 / top, 1 - 0.6 / top, 1.5])
    image = read_float_image(
        write_float_image(tmp_path / "a", values.expand(3, 1, 6), None, "png", bit_depth, ORIGIN)
    )
    assert integers(image.pixels[0], bit_depth)[0, :, 0].tolist() == [0, 1, 100, 101, top - 1, top]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("size", [(1, 1), (700, 300)], ids=["one pixel", "several bands"])
def test_another_program_reads_the_same_sixteen_bits(
    tmp_path: Path, size: tuple[int, int], format: str, channels: int
) -> None:
    """ffmpeg sees each sample; Pillow sees the upper eight bits."""
    samples = noise(channels, *size)
    alpha = planes(samples)[3] if channels == 4 else None
    path = write_float_image(tmp_path / "a", planes(samples)[:3], alpha, format, 16, ORIGIN)
    np.testing.assert_array_equal(by_ffmpeg(path.read_bytes(), format), samples)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), samples >> 8)


def test_another_program_reads_the_same_eight_bits_of_a_tiff(tmp_path: Path) -> None:
    samples = np.asarray(noise_image(0))
    path = write_float_image(tmp_path / "a", planes(samples), None, "tiff", 8, ORIGIN)
    np.testing.assert_array_equal(by_ffmpeg(path.read_bytes(), "tiff"), samples)


# In


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


# Color profiles


def adobe(kind: str) -> bytes:
    table = np.linspace(0, 1, 4096) ** (563 / 256)
    return rgb_profile(ADOBE, table if kind == "table" else 563 / 256 if kind == "gamma" else (0, 563 / 256))


@pytest.mark.parametrize("kind", ["gamma", "table", "parametric"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_adobe_rgb_is_converted_at_sixteen_bits(tmp_path: Path, format: str, kind: str) -> None:
    """Closed form; the numbers of a profile are rounded to 1/65536."""
    samples, profile = noise(3), adobe(kind)
    chunk = (b"iCCP", iccp(profile))
    data = png_bytes(samples, chunk) if format == "PNG" else tiff_bytes(samples, tags={34675: profile})
    image = read_float_image(saved(data, tmp_path))
    assert image.bit_depth == 16
    expected = srgb_of_adobe(samples / 65535)
    difference = np.abs(image.pixels[0].permute(1, 2, 0).numpy() - expected)
    assert np.median(difference) < 3e-5
    assert difference.max() < 2e-3  # where light is about 0, that rounding is multiplied by 12.92
    eight = np.asarray(decode_image(data)) / 255
    np.testing.assert_allclose(eight, expected, atol=2.5 / 255)


def iccp(profile: bytes) -> bytes:
    return b"a\0\0" + zlib.compress(profile)


# The kinds 0 to 4 of ICC.1:2010, table 65: their values, and what they make of x.
PARAMETRIC: list[tuple[tuple[float, ...], Any]] = [
    ((0, 1.8), lambda x: x**1.8),
    ((1, 2.0, 1.25, -0.25), lambda x: np.where(x >= 0.2, (1.25 * x - 0.25) ** 2, 0)),
    ((2, 2.0, 1.0, -0.0625, 0.12109375), lambda x: np.where(x >= 0.0625, (x - 0.0625) ** 2, 0) + 0.12109375),
    (SRGB_CURVE, lambda x: np.where(x >= 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)),
    (
        (4, 2.0, 0.75, 0.125, 1.0, 0.25, 0.234375, 0.08203125),
        lambda x: np.where(x >= 0.25, (0.75 * x + 0.125) ** 2 + 0.234375, x + 0.08203125),
    ),
]


@pytest.mark.parametrize(("values", "formula"), PARAMETRIC, ids=range(5))
def test_each_kind_of_curve_is_that_of_the_specification(
    tmp_path: Path, values: tuple[float, ...], formula: Any
) -> None:
    """Little CMS agrees at 8 bits. On sRGB's primaries, so that only the curve acts, and what is darkest is black."""
    samples = np.linspace(0, 65535, 100).round().astype(np.uint16).reshape(10, 10, 1)
    light, black = formula(samples[..., 0] / 65535), formula(np.float64(0))
    expected = srgb_of_light((light - black) / (1 - black))
    for profile in (gray_profile(values), rgb_profile(SRGB, values)):
        path = saved(png_bytes(samples, (b"iCCP", iccp(profile))), tmp_path)
        image = read_float_image(path)
        assert image.bit_depth == 16
        np.testing.assert_allclose(image.pixels[0, 1].numpy(), expected, atol=5e-4)
        eight = np.asarray(decode_image(path.read_bytes())) / 255
        np.testing.assert_allclose(eight, expected, atol=3 / 255)


def test_a_profile_of_tables_is_converted_at_eight_bits(tmp_path: Path) -> None:
    """A2B0 with two points a side: black is black, and every other corner, such as red, a fifth of the light."""
    grid = np.array(D50) / 5 * np.arange(8).clip(0, 1)[:, None]
    tables = struct.pack(">6H", *(0, 65535) * 3)
    table = (
        b"mft2\0\0\0\0" + bytes((3, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 2, 2)
    )
    table += tables + (grid * 32768).round().astype(">u2").tobytes() + tables
    red = np.full((8, 8, 3), (65535, 0, 0), np.uint16)
    chunk = (b"iCCP", iccp(rgb_profile(SRGB, 1.0, {b"A2B0": table})))
    image = read_float_image(saved(png_bytes(red, chunk), tmp_path))
    assert image.bit_depth == 8
    expected = torch.full((1, 3, 8, 8), float(srgb_of_light(np.float64(0.2))))
    torch.testing.assert_close(image.pixels, expected, rtol=0, atol=2 / 255)


@pytest.mark.parametrize("profile", [b"broken", srgb_profile()[:400], srgb_profile(), gray_profile(1.0)])
def test_a_profile_that_says_nothing_leaves_sixteen_bits_as_they_are(tmp_path: Path, profile: bytes) -> None:
    samples = noise(3)
    image = read_float_image(saved(png_bytes(samples, (b"iCCP", iccp(profile))), tmp_path))
    np.testing.assert_array_equal(integers(image.pixels[0], 16), samples)


# Origin


@pytest.mark.parametrize(
    ("format", "bit_depth"), [(name, depth) for name, f in FORMATS.items() for depth in f.bit_depths]
)
def test_each_format_carries_its_origin_and_names_its_colors(
    tmp_path: Path, format: str, bit_depth: int
) -> None:
    path = tmp_path / f"a{FORMATS[format].suffix}"
    assert write_float_image(path, planes(noise(3)), None, format, bit_depth, ORIGIN) == path
    assert read_origin(path) == ORIGIN
    with Image.open(path) as image:
        assert image.format == format.upper()
        assert image.info["icc_profile"] == srgb_profile()


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    for format in FORMATS:
        paths = [write_float_image(tmp_path / n, planes(noise(3)), None, format, 8, ORIGIN) for n in "ab"]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert srgb_profile()[24:30] == bytes((7, 208, 0, 1, 0, 1))  # 2000-01-01, not when it was made


def test_an_origin_too_long_for_a_jpeg_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = saved(b"old", tmp_path, "a.jpg")
    long = {"text": "x" * 70_000}
    with pytest.raises(GanpipeError, match="write png, tiff or webp"):
        write_float_image(path, planes(noise(3)), None, "jpeg", 8, long)
    assert path.read_bytes() == b"old"
    for format in ("png", "tiff", "webp"):
        assert read_origin(write_float_image(path, planes(noise(3)), None, format, 8, long)) == long


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "WEBP"])
def test_the_description_of_another_program_is_no_origin(tmp_path: Path, format: str) -> None:
    exif = Image.Exif()
    exif[270] = "OLYMPUS DIGITAL CAMERA"
    with pytest.raises(GanpipeError, match="carries no ganpipe origin"):
        read_origin(saved(encoded(noise_image(0), format, exif=exif), tmp_path))
    exif[270] = 'ganpipe:{"kind": '
    with pytest.raises(GanpipeError, match="damaged ganpipe origin"):
        read_origin(saved(encoded(noise_image(0), format, exif=exif), tmp_path))


# Refusals


def test_what_cannot_be_written_is_said_before_any_work() -> None:
    for name, form in FORMATS.items():
        for bit_depth in form.bit_depths:
            check_format(name, bit_depth, (1024, 768))
    with pytest.raises(
        GanpipeError, match=r"jpeg holds 8 bits per channel, not 16: choose 8, or write png or tiff"
    ):
        check_format("jpeg", 16)
    with pytest.raises(GanpipeError, match=r"png holds 8 or 16 bits per channel, not 12: choose 8 or 16\."):
        check_format("png", 12)
    with pytest.raises(GanpipeError, match="'gif'; choose one of png, jpeg, tiff, webp"):
        check_format("gif", 8)
    with pytest.raises(GanpipeError, match="webp is at most 16,383 pixels per side, not 20,000"):
        check_format("webp", 8, (100, 20_000))


def test_an_image_that_cannot_be_written_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GanpipeError, match="Could not write"):
        write_float_image(tmp_path / "file" / "a.png", planes(noise(3)), None, "png", 8, ORIGIN)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


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
