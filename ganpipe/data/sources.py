"""Where images come from: folders, archives, IDX files, and named data sets. Nothing is decided here."""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.data.flowers import paint_flowers
from ganpipe.errors import GanpipeError
from ganpipe.images import MAX_BYTES, Pixels, Refusal, read_image_file
from ganpipe.progress import Report, ignore

MAX_MEMBERS = 2_000_000
MAX_ARCHIVE_BYTES = 200 * 2**30
TEST_SPLIT_WORDS = ("t10k", "test")


@dataclass(frozen=True)
class FileItem:
    """One file that was found. `read` returns its bytes or raises Refusal."""

    name: str
    read: Callable[[], bytes]
    label: str | None = None
    holdout: bool | None = None  # None: the source has no test split


@dataclass(frozen=True)
class ArrayItem:
    """Images that came as one uint8 array `[N, H, W, C]`, with their labels and split."""

    name: str
    pixels: Pixels
    labels: list[str] | None
    holdout: bool | None


Item = FileItem | ArrayItem


def read_source(spec: str, scratch: Path, report: Report = ignore) -> Iterator[Item]:
    """What is at `spec`, in an order that does not depend on the machine.

    `spec` is a folder, an archive, an IDX file or folder, `sample:flowers`, `sklearn:digits` or
    `torchvision:NAME`. `scratch` may be filled with what must be painted or downloaded first.

    Raises:
        GanpipeError: there is no such source, or it cannot be read at all.
    """
    if spec == "sample:flowers":
        paint_flowers(scratch, report=report)
        return _folder(scratch)
    if spec == "sklearn:digits":
        return iter([_digits()])
    if spec.startswith("torchvision:"):
        return _torchvision(spec.partition(":")[2], scratch)
    if spec.split(":")[0] in ("sample", "sklearn"):
        raise GanpipeError(
            f"Unknown source {spec}: there are sample:flowers, sklearn:digits and torchvision:NAME."
        )
    path = Path(spec).expanduser()
    if path.is_dir():
        return _idx_set(path) if _idx_images(path) else _folder(path)
    if not path.exists():
        raise GanpipeError(
            f"There is no file or folder {spec}; give a folder of images, an archive, or sample:flowers."
        )
    if path.is_file() and _is_idx(path):
        return _idx_set(path.parent)
    if path.is_file() and zipfile.is_zipfile(path):
        return _zip(path)
    if path.is_file() and tarfile.is_tarfile(path):
        return _tar(path)
    raise GanpipeError(
        f"{spec} is neither a folder nor a .zip, .tar or IDX file; give the folder that holds the images."
    )


def _label_of(relative: str) -> str | None:
    """The folder that a file lies in, as in torchvision's ImageFolder."""
    parent = os.path.dirname(relative)
    return parent or None


def _folder(root: Path) -> Iterator[Item]:
    def refuse_folder(error: OSError) -> None:
        raise GanpipeError(f"The folder {error.filename} cannot be read ({error.strerror}).")

    for folder, subfolders, files in os.walk(root, onerror=refuse_folder):
        subfolders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            name = os.path.relpath(path, root)
            yield FileItem(name, partial(read_image_file, path), _label_of(name))


def _read_already(read: Callable[[], bytes]) -> Callable[[], bytes]:
    """Reads now, because an archive is one stream that several threads must not share; tells later."""
    try:
        data = read()
    except Refusal as refusal:
        found = refusal

        def refuse() -> bytes:
            raise found

        return refuse
    return lambda: data


def _zip(path: Path) -> Iterator[Item]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
            _check_archive(path, len(members), sum(m.file_size for m in members))
            for member in members:
                yield FileItem(
                    member.filename,
                    _read_already(partial(_read_zipped, archive, member)),
                    _label_of(member.filename),
                )
    except (zipfile.BadZipFile, OSError) as error:
        raise GanpipeError(f"{path} is a damaged archive ({error}).") from None


def _read_zipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if (member.external_attr >> 16) & 0o170000 == 0o120000:
        raise Refusal("link", "it is a link inside an archive")
    if member.file_size > MAX_BYTES:
        raise Refusal(
            "too_large", f"it unpacks to {member.file_size:,} bytes; at most {MAX_BYTES:,} are read"
        )
    try:
        return archive.read(member)
    except (
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        zlib.error,
    ) as error:
        raise Refusal("unreadable", f"it cannot be unpacked ({error})") from None


def _tar(path: Path) -> Iterator[Item]:
    try:
        with tarfile.open(path) as archive:
            members = sorted((m for m in archive.getmembers() if not m.isdir()), key=lambda m: m.name)
            _check_archive(path, len(members), sum(m.size for m in members))
            # In the archive's own order, because going back in a compressed one unpacks it again.
            for member in sorted(members, key=lambda m: m.offset):
                yield FileItem(
                    member.name,
                    _read_already(partial(_read_tarred, archive, member)),
                    _label_of(member.name),
                )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise GanpipeError(f"{path} is a damaged archive ({error}).") from None


def _read_tarred(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg():
        raise Refusal("link" if member.islnk() or member.issym() else "not_a_file", "it is no regular file")
    if member.size > MAX_BYTES:
        raise Refusal("too_large", f"it has {member.size:,} bytes; at most {MAX_BYTES:,} are read")
    file = archive.extractfile(member)
    return file.read() if file else b""


def _check_archive(path: Path, members: int, total_bytes: int) -> None:
    if members > MAX_MEMBERS or total_bytes > MAX_ARCHIVE_BYTES:
        raise GanpipeError(
            f"{path} holds {members:,} files of {total_bytes:,} bytes; at most {MAX_MEMBERS:,} files of "
            f"{MAX_ARCHIVE_BYTES:,} bytes are unpacked: split it."
        )


def _open_maybe_gzip(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _is_idx(path: Path) -> bool:
    return "idx" in path.name and "ubyte" in path.name


def _idx_images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and _is_idx(p) and "images" in p.name)


def read_idx(path: Path) -> Pixels:
    """The uint8 array in an IDX file, plain or .gz (format: LeCun's MNIST page; big-endian sizes).

    Raises:
        GanpipeError: it is no IDX file of bytes, or is cut short.
    """
    try:
        data = _open_maybe_gzip(path)
        shape = _idx_shape(data)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise GanpipeError(f"{path} is a damaged IDX file ({error}).") from None


def _idx_shape(data: bytes) -> tuple[int, ...]:
    zero, kind, dimensions = struct.unpack(">HBB", data[:4])
    if (zero, kind) != (0, 0x08):
        raise ValueError("it does not begin as an IDX file of bytes")
    return struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])


def _idx_set(folder: Path) -> Iterator[Item]:
    for path in sorted(_idx_images(folder), key=lambda p: any(w in p.name for w in TEST_SPLIT_WORDS)):
        pixels = read_idx(path)
        if pixels.ndim != 3:
            raise GanpipeError(
                f"{path} holds {pixels.ndim} dimensions; images have 3 (number, height, width)."
            )
        stem = path.name.split("images")[0]
        labels = next((p for p in sorted(folder.iterdir()) if p.name.startswith(stem + "labels")), None)
        values = [str(v) for v in read_idx(labels)] if labels else None
        if values is not None and len(values) != len(pixels):
            raise GanpipeError(
                f"{labels} has {len(values)} labels for the {len(pixels)} images of {path.name}."
            )
        yield ArrayItem(path.name, pixels[..., None], values, any(w in path.name for w in TEST_SPLIT_WORDS))


def _digits() -> ArrayItem:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return ArrayItem("digits", pixels, [str(v) for v in digits.target], None)


def _torchvision(name: str, scratch: Path) -> Iterator[Item]:
    from torchvision import datasets

    cls = getattr(datasets, name, None)
    if cls is None or not isinstance(cls, type):
        raise GanpipeError(
            f"torchvision has no data set {name}; FashionMNIST, CIFAR10 and Flowers102 are three of them."
        )
    for train in (True, False):
        dataset = _download(cls, name, scratch, train)
        yield from _torchvision_items(dataset, "train" if train else "test", holdout=not train)


def _download(cls: Any, name: str, scratch: Path, train: bool) -> Any:
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        try:
            return cls(scratch, train=train, download=True)
        except TypeError:
            return cls(scratch, split="train" if train else "test", download=True)
    except Exception as error:  # whatever a downloader of torchvision meets, it is one sentence here
        reason = " ".join(str(error).split())[:200]
        raise GanpipeError(
            f"torchvision:{name} could not be downloaded ({type(error).__name__}: {reason}); with no network, "
            "give a folder, or sample:flowers."
        ) from None


def _torchvision_items(dataset: Any, split: str, holdout: bool) -> Iterator[Item]:
    pixels, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    if pixels is not None and targets is not None:
        array = np.asarray(pixels)
        array = array[..., None] if array.ndim == 3 else array
        yield ArrayItem(split, array, [str(int(t)) for t in targets], holdout)
        return
    for k in range(len(dataset)):
        image, target = dataset[k][:2]
        yield FileItem(f"{split}/{k:06d}.png", partial(_png_bytes, image), str(target), holdout)


def _png_bytes(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
