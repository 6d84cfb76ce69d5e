"""Images upright, whichever way they lie in the file: orientations of every format, and damaged EXIF."""

from __future__ import annotations

from ganpipe.imaging.decode import HAS_AVIF
from tests.imaging.corpus.encoding import exif, saved
from tests.imaging.corpus.jpeg import jpeg, segment, with_segments
from tests.imaging.corpus.pictures import Random, Shown, deep_noise, gradient, noise, patches
from tests.imaging.corpus.png import png
from tests.imaging.corpus.registry import taken
from tests.imaging.corpus.tiff import tiff
from tests.imaging.image_files import upright


@taken(".jpg", each=range(1, 9))
def jpeg_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = patches(rng)
    data = with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(orientation, orientation % 2 == 0)))
    return data, upright(stored, orientation)


@taken(".png", each=range(1, 9))
def png_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, (b"eXIf", exif(orientation, True))), upright(stored, orientation)


@taken(".png", each=(3, 6))
def png_with_orientation_behind_its_pixels(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, late=((b"eXIf", exif(orientation)),)), upright(stored, orientation)


@taken(".webp", each=range(1, 9))
def webp_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True, exif=exif(orientation)), upright(stored, orientation)


@taken(".tif", each=range(1, 9))
def tiff_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return tiff(stored, tags={274: orientation}), upright(stored, orientation)


@taken(".tif", each=(5, 8))
def deep_tiff_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = deep_noise(rng)
    return tiff(stored, big_endian=True, tags={274: orientation}), upright(stored / 257, orientation)


@taken(".avif", each=range(1, 9), where=HAS_AVIF)
def avif_with_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = gradient(rng)
    data = saved(stored, "AVIF", quality=100, subsampling="4:4:4", speed=10, exif=exif(orientation))
    return data, upright(stored, orientation)


@taken(".jpg", each=(0, 9, 65535))
def jpeg_with_impossible_orientation(rng: Random, orientation: int) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(orientation))), stored


@taken(".jpg")
def jpeg_with_orientation_as_text(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(ord("6"), kind=2))), stored


@taken(".jpg")
def jpeg_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + rng.bytes(300))), stored


@taken(".jpg")
def jpeg_with_exif_cut_short(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(6)[:14])), stored


@taken(".jpg")
def jpeg_with_exif_that_declares_gigabytes(rng: Random) -> tuple[bytes, Shown]:
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0" + exif(6, kind=12, count=2**32 - 1))), stored


@taken(".jpg")
def jpeg_with_exif_that_ends_nowhere(rng: Random) -> tuple[bytes, Shown]:
    """Its first directory is at the end of 4 GB."""
    stored = patches(rng)
    return with_segments(jpeg(stored), segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), stored


@taken(".png")
def png_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return png(stored, (b"eXIf", b"no such thing")), stored


@taken(".webp")
def webp_with_damaged_exif(rng: Random) -> tuple[bytes, Shown]:
    stored = noise(rng)
    return saved(stored, "WEBP", lossless=True, exif=b"II*\0\xff\xff\xff\xff no such thing"), stored
