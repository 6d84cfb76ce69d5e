"""Color profiles of curves and a matrix, applied at sixteen bits: Little CMS as Pillow has it converts 8 bits only."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import (
    Image,
    ImageCms,
)

from ganpipe.imaging.srgb import encode_srgb

Floats = npt.NDArray[np.float32]
Curve = Callable[[Floats], Floats]

NOTHING = np.zeros(1, dtype=np.float32)  # a channel of the darkest pixel
BRIGHTEST_BLACK = np.float32((66 / 116) ** 3)  # L* 50: where Little CMS stops, too
LUMINANCE = np.array([0.2225, 0.7169, 0.0606], dtype=np.float32)  # of linear sRGB relative to D50


def in_srgb(color: Floats, profile: bytes | None) -> Floats | None:
    """Colors `[H, W, 1 or 3]` in [0, 1] in sRGB; None if their profile asks for Little CMS and 8 bits."""
    transform = srgb_transform(profile) if profile else None
    if profile is None or transform is None or transform.input_mode == "CMYK":
        return color
    channels = color.shape[2]
    if transform.input_mode == "L":
        if channels == 3:
            return color  # a gray profile says nothing about colors
        curve = _curves(profile, b"GRAY", (b"kTRC",))
        return None if curve is None else _clip_and_encode(_from_black(curve[0](color), curve[0](NOTHING)))
    curves, matrix = _curves(profile, b"RGB ", (b"rTRC", b"gTRC", b"bTRC")), _to_linear_srgb(profile)
    if curves is None or matrix is None:
        return None
    linear = np.stack([curves[k](color[..., k % channels]) for k in range(3)], axis=2) @ matrix.T
    black = np.concatenate([curve(NOTHING) for curve in curves]) @ matrix.T @ LUMINANCE
    converted = _clip_and_encode(_from_black(linear, black))
    return converted if channels == 3 else converted[..., 1:2]


def _from_black(linear: Floats, black: Floats) -> Floats:
    """Black point compensation: light scaled so that what the profile shows as black, taken for gray, is none."""
    black = np.minimum(black, BRIGHTEST_BLACK)
    return (linear - black) / (1 - black)


def _clip_and_encode(linear: Floats) -> Floats:
    """Clips light to [0, 1], as relative colorimetric conversion does, and encodes it in sRGB."""
    return encode_srgb(linear.clip(0, 1).astype(np.float32))


def _tags_of(profile: bytes, space: bytes) -> dict[bytes, bytes] | None:
    """The tags of a profile of curves (and a matrix) between `space` and XYZ; None for any other.

    Layout: ICC.1:2010, 7.2 (header) and 7.3 (tag table).
    """
    (count,) = struct.unpack_from(">I", profile, 128)
    rows = [struct.unpack_from(">4sII", profile, 132 + 12 * k) for k in range(count)]
    tags = {name: profile[start : start + size] for name, start, size in rows}
    tables = any(name[:3] in (b"A2B", b"D2B") for name in tags)
    return None if tables or profile[16:24] != space + b"XYZ " else tags


def _curves(profile: bytes, space: bytes, names: tuple[bytes, ...]) -> list[Curve] | None:
    try:
        tags = _tags_of(profile, space)
        return None if tags is None else [_curve(tags[name]) for name in names]
    except (struct.error, LookupError, ValueError):
        return None


def _to_linear_srgb(profile: bytes) -> Floats | None:
    """The matrix `[3, 3]` from a profile's linear RGB to that of sRGB, both relative to D50."""
    matrices = []
    for bytes_ in (profile, srgb_profile()):
        try:
            tags = _tags_of(bytes_, b"RGB ") or {}
            columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        except (struct.error, LookupError):
            return None
        matrices.append(np.array(columns).T / 65536)
    return np.asarray(np.linalg.inv(matrices[1]) @ matrices[0], dtype=np.float32)


def _curve(tag: bytes) -> Curve:
    """A curveType or parametricCurveType (ICC.1:2010, 10.5 and 10.15) as a function of values in [0, 1].

    Raises:
        ValueError, LookupError, struct.error: it is neither, or cut short.
    """
    if tag[:4] == b"para":
        return _parametric_curve(tag)
    if tag[:4] != b"curv":
        raise ValueError(tag[:4])
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda x: x
    values = np.array(struct.unpack_from(f">{count}H", tag, 12))
    if count == 1:
        return lambda x: x ** np.float32(values[0] / 256)
    knots = np.linspace(0, 1, count)
    return lambda x: np.interp(x, knots, values / 65535).astype(np.float32)


def _parametric_curve(tag: bytes) -> Curve:
    (kind,) = struct.unpack_from(">H", tag, 8)
    given = [v / 65536 for v in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = given + [0.0] * (7 - len(given))
    if kind == 0:
        a = 1.0
    elif kind == 2:  # like 1 without linear part, but all of it lifted by c
        c, e = 0.0, c

    def curve(x: Floats) -> Floats:
        return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f).clip(0, 1).astype(np.float32)

    return curve


def apply_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """A image whose numbers are light to the power of `gamma`, in sRGB; alpha as it is."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    curve = encode_srgb(light)
    table = np.clip(np.round(curve * 255), 0, 255).astype(int).tolist()
    bands = [
        band if name == "A" else band.point(table)
        for name, band in zip(image.getbands(), image.split(), strict=True)
    ]
    return Image.merge(image.mode, bands)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A image of mode L, LA, RGB, RGBA or CMYK in sRGB; CMYK becomes RGB."""
    image.info.pop("icc_profile", None)  # it would no longer be true
    transform = srgb_transform(profile) if profile else None
    speaks_of = transform.input_mode if transform else None
    if image.mode == "CMYK":
        # Pillow inverts every CMYK JPEG, as browsers do: Adobe's are all stored inverted.
        return transform.apply(image) if transform and speaks_of == "CMYK" else image.convert("RGB")
    if transform is None or speaks_of == "CMYK":
        return image
    if image.mode in ("L", "LA"):
        gray = image.getchannel("L").point(gray_curve(transform))
        return gray if image.mode == "L" else Image.merge("LA", (gray, image.getchannel("A")))
    if speaks_of != "RGB":
        return image
    color = transform.apply(image.convert("RGB"))
    if image.mode == "RGBA":
        color.putalpha(image.getchannel("A"))
    return color


@lru_cache(maxsize=16)
def srgb_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """From an ICC profile's colors, mode L, RGB or CMYK, to sRGB; None if it is broken, or sRGB already.

    Relative colorimetric with black point compensation, as photographs are usually converted.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        target = ImageCms.ImageCmsProfile(BytesIO(srgb_profile()))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        if mode == "L":  # with Little CMS 2.19's optimization a linear gray of 1 becomes 6 instead of 13
            flags |= ImageCms.Flags.NOOPTIMIZE
        transform = ImageCms.buildTransform(source, target, mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError, TypeError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no color of a cube of 17³ moves by more than 1 of 255: the many profiles named sRGB differ so."""
    ramp = np.round(np.linspace(0, 255, 17)).astype(np.uint8)
    cube = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(17, 17 * 17, 3)
    if transform.input_mode == "L":
        cube = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    before = Image.fromarray(cube)
    after = transform.apply(before if transform.input_mode == "RGB" else before.getchannel(0))
    return int(np.abs(np.asarray(after, dtype=np.int16) - cube).max()) <= 1


def gray_curve(transform: ImageCms.ImageCmsTransform) -> list[int]:
    """Where the 256 grays go; gray files often carry an RGB profile."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256))
    converted = transform.apply(ramp if transform.input_mode == "L" else ramp.convert("RGB"))
    return list(converted.getchannel("G").tobytes())


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """The ICC profile of sRGB (588 bytes with Little CMS 2.19), the same bytes on every day."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]  # its time of creation
