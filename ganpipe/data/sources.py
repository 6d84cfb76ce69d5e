"""Where images come from: folders, archives, IDX files, and named data sets. Nothing is decided here."""

from __future__ import annotations

import gzip
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.data import archives
from ganpipe.data.flowers import IMAGES, PAINTER, SEED, flower_png, mode_of
from ganpipe.data.inspect import Read
from ganpipe.errors import GanpipeError
from ganpipe.images import Pixels, Refusal, read_image_file

MAX_IDX_BYTES = 4 * 2**30
TEST_SPLIT_WORDS = ("t10k", "test")
SETTLED_NS = 2_000_000_000  # a file that changed a moment ago may change again without its times telling


@dataclass(frozen=True)
class FileItem:
    """One file that was found. `read` returns its bytes or raises Refusal.

    Equal stamps mean equal bytes; None: nothing is known without reading. `streamed`: it must be read in this process,
    before the next item is asked for; otherwise `read` is picklable.
    """

    name: str
    read: Read
    label: str | None = None
    holdout: bool | None = None  # None: the source has no test split
    stamp: str | None = None
    changed_ns: int = 0
    streamed: bool = False

    def settled_stamp(self) -> str | None:
        """The stamp, if the file has been still for long enough that its times can be trusted."""
        return self.stamp if time.time_ns() - self.changed_ns > SETTLED_NS else None


@dataclass(frozen=True)
class RefusedItem:
    """Something that was found and cannot be read as a file at all."""

    name: str
    refusal: Refusal


@dataclass(frozen=True)
class ArrayItem:
    """Images that came as one uint8 array `[N, H, W, C]`, with their labels and split."""

    name: str
    pixels: Pixels
    labels: list[str] | None
    holdout: bool | None


Item = FileItem | RefusedItem | ArrayItem


def read_source(spec: str, scratch: Path) -> Iterator[Item]:
    """What is at `spec`, in an order that does not depend on the machine.

    `spec` is a folder, an archive, an IDX file or folder, `sample:flowers`, `sklearn:digits` or
    `torchvision:NAME`. `scratch` may be filled with what must be downloaded first.

    Raises:
        GanpipeError: there is no such source, or it cannot be read at all.
    """
    if spec == "sample:flowers":
        return _flowers()
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
        return chain(_idx_set(path), _folder(path, without=_is_idx)) if _idx_images(path) else _folder(path)
    if not path.exists():
        raise GanpipeError(
            f"There is no file or folder {spec}; give a folder of images, an archive, or sample:flowers."
        )
    if path.is_file() and _is_idx(path):
        return _idx_set(path.parent)
    if path.is_file() and (members := archives.members_of(path)) is not None:
        return _archive(path, members)
    if path.is_file() and path.suffix.lower() in IMAGE_ENDINGS:
        return iter([_file(path, path.name)])
    raise GanpipeError(
        f"{spec} is neither a folder nor a .zip, .tar, .tar.gz, .tar.zst or IDX file, nor an image; give the folder "
        "that holds the images."
    )


IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"}


def _label_of(relative: str) -> str | None:
    """The folder that a file lies in, as in torchvision's ImageFolder."""
    parent = os.path.dirname(relative)
    return parent or None


def _folder(root: Path, without: Callable[[Path], bool] = lambda path: False) -> Iterator[Item]:
    """Every file below `root`: those of a folder first, then its subfolders, each by name.

    Links to folders are followed, but never in a circle.
    """
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(os.stat(root)),))]
    while waiting:
        inside, above = waiting.pop()
        entries = _entries(root, inside)
        if isinstance(entries, RefusedItem):
            yield entries
            continue
        folders: list[tuple[str, tuple[tuple[int, int], ...]]] = []
        for entry in entries:
            name = os.path.join(inside, entry.name)
            if not _is_folder(entry):
                if not without(Path(root, name)):
                    yield _file(Path(root, name), name)
                continue
            identity = _identity(os.stat(entry.path))
            if identity in above:
                yield RefusedItem(name, Refusal("link_loop", "it is a link to a folder that it lies in"))
            else:
                folders.append((name, (*above, identity)))
        waiting += reversed(folders)


def _entries(root: Path, inside: str) -> list[os.DirEntry[str]] | RefusedItem:
    try:
        return sorted(os.scandir(os.path.join(root, inside)), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        if not inside:
            raise GanpipeError(f"The folder {root} cannot be read ({error.strerror}).") from None
        return RefusedItem(inside, Refusal("unreadable", f"the folder cannot be read ({error.strerror})"))


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _file(path: Path, name: str) -> Item:
    try:
        info = path.stat()
    except FileNotFoundError:
        return RefusedItem(name, Refusal("dangling_link", "it is a link to nothing"))
    except OSError as error:
        code = "link_loop" if path.is_symlink() else "unreadable"
        return RefusedItem(name, Refusal(code, f"it cannot be read ({error.strerror})"))
    return FileItem(name, partial(read_image_file, path), _label_of(name), None, *_stamped(info))


def _stamped(info: os.stat_result) -> tuple[str, int]:
    """A file's stamp, and when it last changed, in nanoseconds."""
    stamp = f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
    return stamp, max(info.st_mtime_ns, info.st_ctime_ns)


def _archive(path: Path, members: Iterator[archives.Member]) -> Iterator[Item]:
    stamp, changed_ns = _stamped(path.stat())
    for member in members:
        if member.refusal is not None:
            yield RefusedItem(member.name, member.refusal)
        else:
            label = _label_of(member.name)
            yield FileItem(
                member.name, member.read, label, None, f"{stamp}!{member.place}", changed_ns, streamed=True
            )


def _flowers() -> Iterator[Item]:
    """Each is painted by whoever reads it, so that those that are known are not painted again."""
    order = sorted(range(IMAGES), key=lambda k: (mode_of(k).label, k))
    for k in order:
        label = mode_of(k).label
        stamp = f"sample:flowers:{PAINTER}:{SEED}:{k}"
        yield FileItem(f"{label}/{k:05d}.png", partial(flower_png, k, SEED), label, None, stamp)


def _open_maybe_gzip(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = (gzip.GzipFile(fileobj=file) if packed else file).read(MAX_IDX_BYTES + 1)
    if len(data) > MAX_IDX_BYTES:
        raise ValueError(f"it holds over {MAX_IDX_BYTES:,} bytes")
    return data


def _is_idx(path: Path) -> bool:
    """By its name and by how it begins: a picture may be called so."""
    if not ("idx" in path.name and "ubyte" in path.name):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(2)
            if head == b"\x1f\x8b":
                head = gzip.GzipFile(fileobj=BytesIO(head + file.read(4096))).read(2)
    except (OSError, EOFError, zlib.error):
        return False
    return head == b"\0\0"


def _idx_images(folder: Path) -> list[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise GanpipeError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    paths = [Path(entry.path) for entry in entries if "idx" in entry.name]
    return sorted(p for p in paths if p.is_file() and _is_idx(p) and "images" in p.name)


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
