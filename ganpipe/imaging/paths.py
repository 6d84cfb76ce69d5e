"""Which files are meant: one reader of folders, patterns and file lists for every command.

Hidden files and folders, those of thumbnailers, and what ganpipe itself wrote are left out, and counted.
"""

from __future__ import annotations

import codecs
import json
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Literal

from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.provenance import origin_kind

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")
)
NO_CONTENT = (
    frozenset(  # of thumbnailers, NAS, macOS and Windows, in lower case; so are all names with a leading dot
        (
            "@eadir",
            "__macosx",
            "#recycle",
            "@recycle",
            "$recycle.bin",
            "system volume information",
            "lost+found",
            "thumbs.db",
            "desktop.ini",
        )
    )
)
OVERVIEWS = frozenset(
    (
        "contact sheet",
        "sample grid",
        "training grid",
        "difference",
        "interpolation",
        "style mixing",
        "projection",
        "quality chart",  # of earlier versions
        "report card",
        "nearest training images",
        "comparison",
        "preview",
    )
)
WORKSPACE_FOLDERS = ("raw", "prepared", "styles")  # below `data`
STATE_FOLDER = ".ganpipe"  # marks a workspace
MANIFEST = "manifest.jsonl"  # of a dataset and of a folder of stylized images
APPLE_DOUBLE = "._"  # before the name of a file that macOS keeps beside another
HIDDEN = RejectedImage("hidden", "it is hidden, or a thumbnailer's")
MACOS_FILE = RejectedImage("not_an_image", "macOS keeps it beside another file")
OWN_OUTPUT = RejectedImage("own_output", "ganpipe made it")
READ_ALREADY = RejectedImage("link_loop", "the folder that it links to is read under another name")
LISTS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file below a folder, by its name relative to it; or what is not read, with the reason."""

    name: str
    fault: RejectedImage | None = None


@dataclass
class FolderListing:
    """The entries that a folder stands for, in a fixed order, and those that are left out."""

    entries: list[FolderEntry] = field(default_factory=list)
    left_out: list[FolderEntry] = field(default_factory=list)

    def leave_out(self, name: str, why: RejectedImage) -> None:
        """Counts a file or a folder that is not meant."""
        self.left_out.append(FolderEntry(name, why))


@dataclass
class FoundImages:
    """Image paths, each once, and what was left out on the way."""

    paths: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_meant(root: Path, name: str) -> bool:
    """Whether a path below `root` may be an image of a person's: not hidden, not a thumbnailer's, not ganpipe's own."""
    parts = PurePosixPath(name).parts
    above = ("/".join(parts[:k]) for k in range(1, len(parts) + 1))
    return hidden_part(name) is None and not any(is_workspace_folder(root / folder) for folder in above)


def hidden_part(name: str) -> FolderEntry | None:
    """The topmost part of a file's relative path that is hidden or a thumbnailer's; None if no part is."""
    parts = PurePosixPath(name).parts
    for k, part in enumerate(parts, start=1):
        if why := _hidden(part, is_folder=k < len(parts)):
            return FolderEntry("/".join(parts[:k]), why)
    return None


def _hidden(name: str, is_folder: bool) -> RejectedImage | None:
    if is_folder:
        return HIDDEN if name.startswith(".") or name.lower() in NO_CONTENT else None
    return MACOS_FILE if name.startswith(APPLE_DOUBLE) else None


def is_workspace_folder(path: Path) -> bool:
    """Whether this is `data/raw`, `data/prepared` or `data/styles` of a workspace."""
    if path.name not in WORKSPACE_FOLDERS:
        return False
    data = Path(os.path.abspath(path.parent))
    return data.name == "data" and os.path.isdir(data.parent / STATE_FOLDER)


def list_folder(
    root: Path,
    without: Collection[Path] = (),
    enters: Callable[[str], bool] = lambda name: True,
    generated: Generated = "alone",
) -> FolderListing:
    """Lists the files below `root`: a folder's files first, then its subfolders, each by name.

    Follows links to folders, and reads each folder once. `without`: folders that are left out, too. `enters`: whether a subfolder
    is read at all. `generated`: whether images that ganpipe generated or stylized are taken; `alone`: if there are no others.

    Raises:
        GanpipeError: `root` cannot be read.
    """
    return _FolderReader(root, without, enters).listing(generated)


Generated = Literal["always", "alone", "never"]
Subfolder = tuple[str, tuple[tuple[int, int], ...]]  # its name, and the identities of the folders above it


class _FolderReader:
    """One pass over a folder and its subfolders."""

    def __init__(self, root: Path, without: Collection[Path], enters: Callable[[str], bool]) -> None:
        self.root, self.enters = root, enters
        self.without = {os.path.realpath(folder) for folder in without}
        self.found = FolderListing()
        self.own: set[str] = set()  # images that ganpipe made
        self.read: set[tuple[int, int]] = set()  # identities of the folders that are read, or will be

    def listing(self, generated: Generated) -> FolderListing:
        waiting: list[Subfolder] = [("", (_identity(self.root),))]
        self.read.add(_identity(self.root))
        while waiting:
            inside, above = waiting.pop()
            waiting += reversed(self._read(inside, above))
        others = any(is_image_name(e.name) and e.name not in self.own for e in self.found.entries)
        if generated == "never" or (generated == "alone" and others):
            for name in sorted(self.own):
                self.found.leave_out(name, OWN_OUTPUT)
            self.found.entries = [e for e in self.found.entries if e.name not in self.own]
        return self.found

    def _read(self, inside: str, above: tuple[tuple[int, int], ...]) -> list[Subfolder]:
        """Takes a folder's files; returns its subfolders."""
        entries = self._entries(inside)
        outputs = _outputs(self.root / inside) if any(e.name == MANIFEST for e in entries) else set()
        if outputs is None and inside:
            self.found.leave_out(inside, OWN_OUTPUT)
            return []
        folders: list[Subfolder] = []
        for entry in entries:
            name = os.path.join(inside, entry.name)
            is_folder = _is_folder(entry)
            if why := _hidden(entry.name, is_folder):
                self.found.leave_out(name, why)
            elif not is_folder:
                self._take_file(name, entry.name in (outputs or ()))
            elif self._leaves_out(name):
                self.found.leave_out(name, OWN_OUTPUT)
            elif (identity := _identity(entry.path)) in above:
                fault = RejectedImage("link_loop", "it is a link to one of its parent folders")
                self.found.entries.append(FolderEntry(name, fault))
            elif identity in self.read:
                self.found.leave_out(name, READ_ALREADY)
            elif self.enters(name):
                self.read.add(identity)
                folders.append((name, (*above, identity)))
        return folders

    def _entries(self, inside: str) -> list[os.DirEntry[str]]:
        try:
            found = os.scandir(os.path.join(self.root, inside))
            return sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if not inside:
                raise GanpipeError(f"The folder {self.root} cannot be read ({error.strerror}).") from None
            fault = RejectedImage("unreadable", f"the folder cannot be read ({error.strerror})")
            self.found.entries.append(FolderEntry(inside, fault))
            return []

    def _take_file(self, name: str, is_output: bool) -> None:
        kind = origin_kind(self.root / name)
        if kind in OVERVIEWS:
            self.found.leave_out(name, OWN_OUTPUT)
            return
        if kind or is_output:
            self.own.add(name)
        self.found.entries.append(FolderEntry(name))

    def _leaves_out(self, name: str) -> bool:
        path, real = self.root / name, Path(os.path.realpath(self.root / name))
        linked = path.is_symlink() and (STATE_FOLDER in real.parts or is_workspace_folder(real))
        return linked or is_workspace_folder(path) or str(real) in self.without


def _outputs(folder: Path) -> set[str] | None:
    """Names of the stylized images that a folder's manifest lists; None if it is a dataset of ganpipe's."""
    outputs: set[str] = set()
    try:
        lines = (folder / MANIFEST).read_text(errors="replace").splitlines()
    except OSError:
        return outputs
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and {"sha256", "file", "row"} <= entry.keys():
            return None
        if isinstance(entry, dict) and {"sha256", "key", "output"} <= entry.keys():
            outputs.add(str(entry["output"]))
    return outputs


def _identity(path: str | Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop
        return False


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """The paths of `find_images`."""
    return find_images(given).paths


def folder_images(folder: Path) -> FoundImages:
    """The images in a folder and below it, whoever made them.

    Raises:
        GanpipeError: there is none.
    """
    found = FoundImages()
    _take_listing(found, folder, list_folder(folder, generated="always"))
    return require_images(found, [folder])


def find_images(given: Sequence[str | Path], without: Collection[Path] = ()) -> FoundImages:
    """Expands the given words into image paths, each once, in a fixed order.

    A folder gives the images in it and below it (see `list_folder`). `@FILE` gives the paths that it lists, one per line,
    relative to its folder. A name with `*`, `?` or `[` that is not a file gives its matches (`**` descends into folders).
    `without`: output folders. Below another folder they are left out; named themselves, they give what ganpipe has not made.

    Raises:
        GanpipeError: a path does not exist, a pattern matches nothing, or there is no image at all.
    """
    found = FoundImages()
    for word in given:
        expand(str(word), found, without)
    return require_images(found, given)


def require_images(found: FoundImages, given: Sequence[str | Path]) -> FoundImages:
    """The images found for the given words, each path once.

    Raises:
        GanpipeError: there is no image.
    """
    found = FoundImages(list(dict.fromkeys(found.paths)), list(dict.fromkeys(found.left_out)))
    if not found.paths:
        left = f" ({len(found.left_out)} files and folders were left out)" if found.left_out else ""
        raise GanpipeError(f"No image was found in {', '.join(map(str, given))}{left}.")
    return found


def expand(word: str, found: FoundImages, without: Collection[Path] = ()) -> None:
    """Adds what one word of `find_images` gives; that may be nothing but what is left out."""
    if os.path.lexists(word):
        _expand_path(Path(word), found, without)
    elif word.startswith("@"):
        _expand_list(Path(word[1:]), found, without)
    elif has_magic(word):
        _expand_pattern(word, found, without)
    else:
        raise GanpipeError(f"There is no file or folder {word}.")


def _expand_path(path: Path, found: FoundImages, without: Collection[Path]) -> None:
    """Takes a named file, or the images of a named folder. A shell names them, too, where somebody typed `*`."""
    if not path.is_dir():
        _take(found, path, leave=origin_kind(path) in OVERVIEWS)
    elif path.name.lower() in NO_CONTENT:
        found.left_out.append(str(path))
    else:
        is_output = os.path.realpath(path) in map(os.path.realpath, without)
        _take_listing(found, path, list_folder(path, without, generated="never" if is_output else "alone"))


def _take(found: FoundImages, path: Path, leave: bool = False) -> None:
    if leave:
        found.left_out.append(str(path))
    else:
        found.paths.append(path)


def _take_listing(
    found: FoundImages,
    root: Path,
    listing: FolderListing,
    matches: Callable[[str], bool] = lambda name: True,
) -> None:
    named = [e for e in listing.entries if matches(e.name)]
    found.paths += sorted(root / e.name for e in named if e.fault is None and is_image_name(e.name))
    found.left_out += [str(root / e.name) for e in named if e.fault is not None]
    found.left_out += [str(root / e.name) for e in listing.left_out if matches(e.name)]


def _expand_pattern(word: str, found: FoundImages, without: Collection[Path]) -> None:
    """Takes the images that match, and those below folders that match.

    A part that exists under its own name is that file or folder, such as a folder `Rome [2019]`.
    """
    base, parts = _literal_base(word)
    listing = (
        list_folder(base, without, enters=lambda name: bool(_step(name, parts)))
        if base.is_dir()
        else FolderListing()
    )
    before = len(found.paths)
    _take_listing(found, base, listing, lambda name: len(parts) in _step(name, parts))
    if len(found.paths) == before:
        raise GanpipeError(f"Nothing matches {word}: no image has such a name.")


def _literal_base(pattern: str) -> tuple[Path, list[str]]:
    """The folder at which a pattern's own part begins, and the parts that follow."""
    path = Path(pattern)
    base, parts = Path(path.anchor), list(path.parts[1:] if path.anchor else path.parts)
    while parts and (not has_magic(parts[0]) or os.path.lexists(base / parts[0])):
        base /= parts.pop(0)
    return base, parts


def _step(name: str, pattern: list[str]) -> set[int]:
    """How many parts of the pattern a relative path can have used up; none of them: it leads to no match."""
    places = _closure({0}, pattern)
    for part in name.split("/"):
        after = {k for k in places if k == len(pattern) or pattern[k] == "**"}
        after |= {k + 1 for k in places if k < len(pattern) and fnmatchcase(part, pattern[k])}
        places = _closure(after, pattern)
    return places


def _closure(places: set[int], pattern: list[str]) -> set[int]:
    """`**` may also stand for no folder."""
    found = set(places)
    for k, part in enumerate(pattern):
        if k in found and part == "**":
            found.add(k + 1)
    return found


def _expand_list(path: Path, found: FoundImages, without: Collection[Path]) -> None:
    """Takes the paths of a file list; empty lines and lines that begin with # are skipped.

    A line that names nothing stays as a path that cannot be read. It is shown by its number unless it ends like an image:
    the file may be no list at all, but somebody's secrets.

    Raises:
        GanpipeError: the file cannot be read, or no line names anything.
    """
    before = len(found.paths)
    missing: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(path), start=1):
        if line and not line.startswith("#") and not _expand_line(path.parent, line, found, without):
            missing.append((number, line))
    if missing and len(found.paths) == before and not any(is_image_name(line) for _, line in missing):
        raise GanpipeError(
            f"Line {missing[0][0]} of the file list {path} names no file, folder or pattern that is there, and no other "
            "line does."
        )
    found.paths += [
        path.parent / line if is_image_name(line) else Path(f"{path}:{number}") for number, line in missing
    ]


def _expand_line(folder: Path, line: str, found: FoundImages, without: Collection[Path]) -> bool:
    """Whether a line names something, in one of the ways in which its name may be encoded."""
    for name in _spellings(line):
        try:
            expand(str(folder / os.path.expanduser(name)), found, without)
        except (GanpipeError, OSError, RuntimeError, ValueError):
            continue
        return True
    return False


def _spellings(name: str) -> Iterable[str]:
    """A name as it is, and as another system or program would have written it."""
    yield name
    yield from (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    yield os.fsencode(name).decode("cp1252", "replace")


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        mark, encoding = next((row for row in LISTS if data.startswith(row[0])), (b"", "utf-8"))
        text = data[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GanpipeError(f"The file list {path} cannot be read ({why}).") from None
    return [line.strip(" \t\r") for line in text.split("\n")]  # names may hold any other line break
