"""Reads archive members one by one, never unpacked to disk; rejects traversal, links and bombs.

.zip, .tar, and .tar packed by gzip, bzip2, xz or Zstandard. A packed .tar is one stream, read once and in order; its
unpacked size is counted while it is read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from ganpipe.data.inspect import Read
from ganpipe.data.sources.items import FileItem, Item, RefusedItem, SidecarItem, file_stamp
from ganpipe.data.sources.labels import SourceLabels, is_annotation
from ganpipe.errors import GanpipeError
from ganpipe.imaging.decode import MAX_BYTES
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.paths import hidden_part

MAX_MEMBERS = 2_000_000
MAX_TOTAL_BYTES = 200 * 2**30
MAX_RATIO = (
    200  # unpacked to packed size, above RATIO_FROM_BYTES; images hardly compress, and blank ones are small
)
RATIO_FROM_BYTES = 32 * 2**20
NESTED = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
DAMAGE = (
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
)


@dataclass(frozen=True)
class Member:
    """A file inside an archive: readable, or rejected."""

    name: str
    place: int  # offset, which identifies it within the archive
    read: Read  # call it before the next member is requested
    rejected: RejectedImage | None = None


def members_of(path: Path) -> Iterator[Member] | None:
    """Iterates over the files in an archive; None if `path` is not an archive.

    Raises:
        GanpipeError: during iteration, if the archive is damaged or a bomb.
    """
    if zipfile.is_zipfile(path):
        return _zip(path)
    opener = _unpacker(path)
    if opener is not None or tarfile.is_tarfile(path):
        return _tar(path, opener)
    return None


def _reject(name: str, place: int, code: str, sentence: str) -> Member:
    return Member(name, place, bytes, RejectedImage(code, sentence))


def _check_name(name: str, place: int) -> Member | None:
    """Rejects a name that leads out of the archive or is another archive; None if it is fine."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(name) > 1 and name[1] == ":"):
        return _reject(name, place, "traversal", "its name leads out of the archive")
    if name.lower().endswith(NESTED):
        return _reject(
            name,
            place,
            "nested_archive",
            "it is an archive inside an archive: unpack it and add it by itself",
        )
    return None


def _zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
            _check_size(path, len(members), sum(m.file_size for m in members))
            for member in members:
                yield _zip_member(archive, member)
    except DAMAGE as error:
        raise GanpipeError(f"{path} is a damaged archive ({error}).") from None


def _zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Member:
    name, place = member.filename, member.header_offset
    if (member.external_attr >> 16) & 0o170000 == 0o120000:
        return _reject(name, place, "link", "it is a link inside an archive")
    if refused := _check_name(name, place):
        return refused
    if member.file_size > MAX_BYTES:
        sentence = f"it unpacks to {member.file_size:,} bytes; at most {MAX_BYTES:,} are read"
        return _reject(name, place, "too_large", sentence)
    if member.file_size > RATIO_FROM_BYTES and member.file_size > MAX_RATIO * max(1, member.compress_size):
        ratio = member.file_size // max(1, member.compress_size)
        return _reject(name, place, "bomb", f"it unpacks to {ratio:,} times its size")
    return Member(name, place, partial(_unzip, archive, member))


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            data = file.read(MAX_BYTES + 1)
    except DAMAGE as error:
        raise RejectedImage("unreadable", f"it cannot be unpacked ({error})") from None
    if len(data) > MAX_BYTES:  # its header lies
        raise RejectedImage("too_large", f"it unpacks to more than {MAX_BYTES:,} bytes")
    return data


def _check_size(path: Path, members: int, total_bytes: int) -> None:
    if members > MAX_MEMBERS or total_bytes > MAX_TOTAL_BYTES:
        raise GanpipeError(
            f"{path} holds {members:,} files of {total_bytes:,} bytes; at most {MAX_MEMBERS:,} files of "
            f"{MAX_TOTAL_BYTES:,} bytes are unpacked: split it."
        )


MAGIC: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: zstandard.ZstdDecompressor().stream_reader(
        file, read_across_frames=True
    ),
}


def _unpacker(path: Path) -> Callable[[IO[bytes]], Any] | None:
    """The opener of a compressed .tar; None for anything else."""
    with path.open("rb") as file:
        head = file.read(6)
        opener = next((o for magic, o in MAGIC.items() if head.startswith(magic)), None)
        if opener is None:
            return None
        file.seek(0)
        try:
            block = opener(file).read(512)
        except DAMAGE:
            return opener if ".t" in path.name.lower() else None
    return opener if block[257:262] == b"ustar" or ".t" in path.name.lower() else None


class _Counted(BufferedIOBase):
    """A packed stream that fails when it unpacks to far more than its size."""

    def __init__(self, path: Path, stream: Any, packed_bytes: int) -> None:
        self.path, self.stream, self.packed_bytes, self.count = path, stream, packed_bytes, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self.count += len(data)
        if self.count > RATIO_FROM_BYTES and self.count > MAX_RATIO * self.packed_bytes:
            raise GanpipeError(
                f"{self.path} unpacks to more than {MAX_RATIO} times its size: no archive of images does; nothing was added."
            )
        if self.count > MAX_TOTAL_BYTES:
            raise GanpipeError(f"{self.path} unpacks to over {MAX_TOTAL_BYTES:,} bytes: split it.")
        return data


def _tar(path: Path, opener: Callable[[IO[bytes]], Any] | None) -> Iterator[Member]:
    try:
        with path.open("rb") as file:
            stream = file if opener is None else _Counted(path, opener(file), path.stat().st_size)
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for count, member in enumerate(archive, start=1):
                    _check_size(path, count, 0)
                    if not member.isdir():
                        yield _tar_member(archive, member)
    except DAMAGE as error:
        raise GanpipeError(f"{path} is a damaged archive ({error}).") from None


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    name, place = member.name, member.offset
    if member.islnk() or member.issym():
        return _reject(name, place, "link", "it is a link inside an archive")
    if not member.isreg():
        return _reject(name, place, "not_a_file", "it is not a regular file")
    if refused := _check_name(name, place):
        return refused
    if member.size > MAX_BYTES:
        return _reject(
            name, place, "too_large", f"it has {member.size:,} bytes; at most {MAX_BYTES:,} are read"
        )
    return Member(name, place, partial(_untar, archive, member))


def _untar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:
        file = archive.extractfile(member)
        return file.read() if file else b""
    except DAMAGE as error:
        raise GanpipeError(f"{archive.name!s} is a damaged archive ({error}).") from None


def is_archive(path: Path) -> bool:
    """Whether a file is a .zip or .tar, plain or compressed."""
    return path.is_file() and members_of(path) is not None


def read_archive(path: Path) -> Iterator[Item]:
    """Reads the files in an archive, member by member, never unpacked to disk.

    It is read twice: labels may come after the images that they name.
    """
    labels = _labels(path)
    yield from labels.problems
    stamp, changed_ns = file_stamp(path.stat())
    hidden: set[str] = set()
    for member in members_of(path) or ():
        name = _plain(member.name)
        if entry := hidden_part(name) if member.rejected is None else None:
            if entry.name not in hidden and entry.fault:
                yield RefusedItem(entry.name, entry.fault)
            hidden.add(entry.name)
        elif member.rejected is not None:
            yield RefusedItem(member.name, member.rejected)
        elif labels.is_sidecar(name):
            yield SidecarItem(name)
        else:
            label, holdout = labels.label(name), labels.holdout(name)
            place = f"{stamp}!{member.place}"
            yield FileItem(name, member.read, label, holdout, place, changed_ns, streamed=True)


def _labels(path: Path) -> SourceLabels:
    names, texts = [], {}
    for member in members_of(path) or ():
        name = _plain(member.name)
        if member.rejected is not None or hidden_part(name):
            continue
        names.append(name)
        if is_annotation(name):
            try:
                texts[name] = member.read()
            except RejectedImage:
                continue  # it is quarantined with its reason like any other file
    return SourceLabels(names, texts)


def _plain(name: str) -> str:
    """A member's name without `./` and with `/` between folders, as Windows may not have written it."""
    return posixpath.normpath(name.replace("\\", "/"))
