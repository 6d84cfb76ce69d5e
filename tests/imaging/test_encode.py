"""Images out of style transfer: exact at 8 and 16 bits, the same to other programs, refused before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

from ganpipe.errors import GanpipeError
from ganpipe.imaging.encode import FORMATS, check_format, write_float_image
from ganpipe.imaging.float_image import over_white, read_float_image
from ganpipe.imaging.icc import srgb_profile
from tests.conftest import noise_image
from tests.imaging.samples import ORIGIN, by_ffmpeg, integers, noise, planes

LOSSLESS = [("png", 8), ("tiff", 8), ("png", 16), ("tiff", 16)]


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


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    for format in FORMATS:
        paths = [write_float_image(tmp_path / n, planes(noise(3)), None, format, 8, ORIGIN) for n in "ab"]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert srgb_profile()[24:30] == bytes((7, 208, 0, 1, 0, 1))  # 2000-01-01, not when it was made


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
