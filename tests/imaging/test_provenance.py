"""An image carries its origin in every format, and says so if it has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ganpipe.errors import GanpipeError
from ganpipe.imaging.encode import FORMATS, write_float_image
from ganpipe.imaging.icc import srgb_profile
from ganpipe.imaging.provenance import read_origin, save_png
from tests.conftest import noise_image
from tests.imaging.image_files import encoded
from tests.imaging.samples import ORIGIN, noise, planes, saved


def test_an_image_carries_its_origin(tmp_path: Path) -> None:
    origin = {"kind": "grid", "name": "flowers × π", "nimg": 3}
    path = save_png(noise_image(0), tmp_path / "a.png", origin)
    assert read_origin(path) == origin


def test_an_image_without_origin_says_so(tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / "a.png")
    with pytest.raises(GanpipeError, match="carries no ganpipe origin"):
        read_origin(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(GanpipeError, match="not a readable image"):
        read_origin(tmp_path / "b.png")
    with pytest.raises(GanpipeError, match="does not exist"):
        read_origin(tmp_path / "c.png")


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
