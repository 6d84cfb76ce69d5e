"""Images: exact round trips, and right results for what people have."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin

from ganpipe.data.resize import resize_image
from ganpipe.errors import GanpipeError
from ganpipe.imaging import decode
from ganpipe.imaging.decode import HAS_AVIF, decode_image, is_gray, over_white, read_image_file, reduce_large
from ganpipe.imaging.grid import grid
from ganpipe.imaging.icc import srgb_profile
from ganpipe.imaging.image import ImageShape, RejectedImage
from ganpipe.imaging.provenance import read_origin, save_png
from ganpipe.imaging.tensors import to_float, to_uint8
from tests.conftest import noise_image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


# Red, green and blue of sRGB and Adobe RGB (1998) as columns of XYZ relative to D50 (brucelindbloom.com).
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
ADOBE = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parametric, type 3


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))


def xyz_tag(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(x, y, z)


def curve_tag(curve: float | tuple[float, ...] | np.ndarray) -> bytes:
    """A gamma (to 1/256), the type and values of a parametric curve, or a table of values in [0, 1]."""
    if isinstance(curve, tuple):
        return b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + fixed(*curve[1:])
    values = [round(curve * 256)] if isinstance(curve, float) else [round(v * 65535) for v in curve]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def profile_of(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2.4 or, as it has parametric curves, 4.3."""
    tags = {b"wtpt": xyz_tag(*D50)} | tags
    rows, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        rows += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    version = 0x04300000 if any(t[:4] == b"para" for t in tags.values()) else 0x02400000
    head = struct.pack(">I4xI4s4s4s", start + len(body), version, kind, space, connection)
    head += struct.pack(">6H4s28x", 2000, 1, 1, 0, 0, 0, b"acsp") + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + rows + body


def rgb_profile(
    columns: np.ndarray, curve: float | tuple[float, ...] | np.ndarray, tags: dict[bytes, bytes] | None = None
) -> bytes:
    names = (b"r", b"g", b"b")
    colors = {name + b"XYZ": xyz_tag(*columns[:, k]) for k, name in enumerate(names)}
    curves = {name + b"TRC": curve_tag(curve) for name in names}
    return profile_of(b"RGB ", b"XYZ ", b"mntr", colors | curves | (tags or {}))


def gray_profile(curve: float | tuple[float, ...] | np.ndarray) -> bytes:
    return profile_of(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": curve_tag(curve)})


def cmyk_profile(lab_of_corner: np.ndarray) -> bytes:
    """A press whose 16 full prints look as `[2, 2, 2, 2, 3]` Lab says, indexed by C, M, Y, K."""
    identity = bytes(range(256))
    grid = np.clip(np.round(lab_of_corner * [2.55, 1, 1] + [0, 128, 128]), 0, 255).astype(np.uint8)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return profile_of(
        b"CMYK", b"Lab ", b"prtr", {b"A2B0": table + 4 * identity + grid.tobytes() + 3 * identity}
    )


def srgb_of_light(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_of_adobe(values: np.ndarray) -> np.ndarray:
    """Adobe RGB `[..., 3]` in [0, 1] as sRGB, in closed form."""
    return srgb_of_light(values ** (563 / 256) @ (np.linalg.inv(SRGB) @ ADOBE).T)


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    f = np.array(
        [(lab[0] + 16) / 116 + lab[1] / 500, (lab[0] + 16) / 116, (lab[0] + 16) / 116 - lab[2] / 200]
    )
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return srgb_of_light(np.linalg.inv(SRGB) @ xyz)


def png_bytes(
    samples: np.ndarray, *chunks: tuple[bytes, bytes], late: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """uint16 samples `[H, W, C]`, C from 1 to 4, as a PNG with more chunks before its pixels or behind."""
    height, width, channels = samples.shape
    head = struct.pack(">2I5B", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    file = BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, data in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), *late, (b"IEND", b"")):
        PngImagePlugin.putchunk(file, kind, data)
    return file.getvalue()


def tiff_bytes(
    samples: np.ndarray,
    big_endian: bool = False,
    deflated: bool = False,
    tiled: bool = False,
    planes: bool = False,
    tags: dict[int, object] | None = None,
) -> bytes:
    """uint16 samples `[H, W, C]` of up to 16×16 pixels as a TIFF of four-row strips or of one tile a plane."""
    height, width, channels = samples.shape
    fields = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM" if big_endian else b"II")
    parts = [samples[..., k : k + 1] for k in range(channels)] if planes else [samples]
    if tiled:
        blocks = [np.pad(part, ((0, 16 - height), (0, 16 - width), (0, 0))) for part in parts]
    else:
        blocks = [part[y : y + 4] for part in parts for y in range(0, height, 4)]
    data = [block.astype(">u2" if big_endian else "<u2").tobytes() for block in blocks]
    data = [zlib.compress(block) for block in data] if deflated else data
    common = {
        256: width,
        257: height,
        258: (16,) * channels,
        259: 8 if deflated else 1,
        262: 1 if channels == 1 else 2,
        277: channels,
        284: 2 if planes else 1,
    }
    offsets, lengths, area = (324, 325, {322: 16, 323: 16}) if tiled else (273, 279, {278: 4})
    for tag, value in (common | area | {lengths: tuple(map(len, data))} | (tags or {})).items():
        fields[tag] = value
    fields[offsets], fields.tagtype[offsets] = tuple(0 for _ in data), 4
    start = len(fields.tobytes(8)) + 8 if tiled else 0  # Pillow adds it to the offsets of strips itself
    fields[offsets] = tuple(start + sum(map(len, data[:k])) for k in range(len(data)))
    fields.tagtype[offsets] = 4
    file = BytesIO()
    fields.save(file)
    return file.getvalue() + b"".join(data)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored rows and columns into the view that EXIF 2.3 (table 6) defines."""
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored),
    }
    return turned[orientation]


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_every_byte_survives_the_way_to_float_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    floats = to_float(pixels)
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(to_uint8(floats), pixels)


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


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_of_swapped_channels_swaps_them_back_and_keeps_alpha(mode: str, format: str) -> None:
    """The channel that the file calls red is sRGB's green."""
    profile = rgb_profile(SRGB[:, [1, 0, 2]], SRGB_CURVE)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    stored = noise_image(0, mode=mode)
    image = decode_image(encoded(stored, format, icc_profile=profile, exif=exif_with(6), **options))
    expected = np.rot90(np.asarray(stored), -1)[..., [1, 0, 2, 3][: len(mode)]]
    assert image.mode == mode
    assert image.info.get("icc_profile") in (None, srgb_profile())
    np.testing.assert_allclose(np.asarray(image, dtype=int), expected, atol=2)
    np.testing.assert_array_equal(np.asarray(image)[..., 3:], expected[..., 3:])


def test_adobe_rgb_is_converted_as_its_definition_says() -> None:
    stored = noise_image(0, (64, 64))
    image = decode_image(encoded(stored, "PNG", icc_profile=rgb_profile(ADOBE, 563 / 256)))
    np.testing.assert_allclose(np.asarray(image), srgb_of_adobe(np.asarray(stored) / 255) * 255, atol=2)


def test_a_palette_is_converted_too() -> None:
    stored = noise_image(0).quantize(16)
    image = decode_image(encoded(stored, "PNG", icc_profile=rgb_profile(ADOBE, 563 / 256)))
    expected = srgb_of_adobe(np.asarray(stored.convert("RGB")) / 255) * 255
    np.testing.assert_allclose(np.asarray(image), expected, atol=2)


@pytest.mark.parametrize("profile", [gray_profile(1.0), rgb_profile(SRGB, 1.0)], ids=["gray", "RGB"])
def test_linear_gray_becomes_brighter_and_stays_gray(profile: bytes) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = decode_image(encoded(Image.fromarray(ramp), "PNG", icc_profile=profile))
    assert image.mode == "L"
    np.testing.assert_allclose(np.asarray(image), srgb_of_light(ramp / 255) * 255, atol=2)
    both = Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(255 - ramp)))
    image = decode_image(encoded(both, "PNG", icc_profile=profile))
    assert image.mode == "LA"
    np.testing.assert_allclose(np.asarray(image)[..., 0], srgb_of_light(ramp / 255) * 255, atol=2)
    np.testing.assert_array_equal(np.asarray(image)[..., 1], 255 - ramp)


def test_cmyk_is_converted_by_its_profile() -> None:
    """The inks of a made-up press; all that has black is black."""
    lab = np.zeros((2, 2, 2, 2, 3))
    inks = {
        (0, 0, 0): (100, 0, 0),
        (1, 0, 0): (60, -30, -30),
        (0, 1, 0): (50, 60, 0),
        (0, 0, 1): (90, -5, 80),
        (1, 1, 0): (30, 20, -40),
        (1, 0, 1): (50, -40, 30),
        (0, 1, 1): (45, 50, 30),
        (1, 1, 1): (0, 0, 0),
    }
    for index, color in inks.items():
        lab[(*index, 0)] = color
    for index in inks:
        stored = Image.new("CMYK", (16, 16), (*(255 * k for k in index), 0))
        image = decode_image(encoded(stored, "TIFF", icc_profile=cmyk_profile(lab)))
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image)[8, 8], srgb_of_lab(lab[(*index, 0)]) * 255, atol=2)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"broken"),
        ("RGB", srgb_profile()[:400]),
        ("RGB", gray_profile(1.0)),
        ("RGB", cmyk_profile(np.zeros((2, 2, 2, 2, 3)))),
        ("L", cmyk_profile(np.zeros((2, 2, 2, 2, 3)))),
        ("RGB", srgb_profile()),
        ("RGB", rgb_profile(SRGB, SRGB_CURVE)),
        ("L", srgb_profile()),
    ],
    ids=["broken", "cut short", "gray", "CMYK", "CMYK of gray", "sRGB", "another sRGB", "sRGB of gray"],
)
def test_a_profile_that_is_broken_or_of_other_channels_or_srgb_changes_nothing(
    mode: str, profile: bytes
) -> None:
    stored = noise_image(0, (200, 200), mode)
    image = decode_image(encoded(stored, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(stored))


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


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_any_image_fits_any_frame(fit: str, mode: str) -> None:
    for channels in (1, 3):
        pixels = resize_image(noise_image(0, (31, 9), mode), ImageShape(channels, 16, 32), fit)
        assert pixels.shape == (16, 32, channels)
        assert pixels.dtype == np.uint8


def test_pad_shows_the_whole_image_and_crop_fills_the_frame() -> None:
    white = Image.new("RGB", (40, 10), "white")
    padded, cropped = (resize_image(white, ImageShape(3, 16, 16), fit) for fit in ("pad", "crop"))
    assert padded.min() == 0
    assert cropped.min() == 255


def test_gray_is_recognized_in_color_files() -> None:
    assert is_gray(noise_image(0, mode="L").convert("RGB"))
    assert not is_gray(noise_image(0))


def test_a_grid_shows_every_image_in_its_place() -> None:
    pixels = np.stack([np.full((64, 64, 1), 10 * k, np.uint8) for k in range(5)])
    sheet = np.asarray(grid(pixels, columns=3, gap_px=2))
    assert [int(sheet[2 + 66 * (k // 3), 2 + 66 * (k % 3), 0]) for k in range(5)] == [0, 10, 20, 30, 40]


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
