"""DVC's cache and remote: a version of a dataset is read, fetched and checked out with every hash compared.

DVC itself does not compare a listing with its name, and puts files wherever a listing says. So nothing of a remote
enters the cache before it was checked here, and only a version that is whole is checked out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganpipe.data.manifest import MANIFEST, Record, is_dataset_file, parse_manifest
from ganpipe.data.raw_store import new_aside_folder, set_aside
from ganpipe.errors import STORAGE_SENTENCES, GanpipeError, classify_storage_error
from ganpipe.files import plain_disk_errors
from ganpipe.stores.dvc import VERSION, default_remote, dvc_config
from ganpipe.stores.workspace import Workspace

FETCHED_TOGETHER = 256  # objects; what a killed fetch has brought in is kept, batch by batch
READ_BYTES = 1 << 20


class AbsentVersion(GanpipeError):
    """A version, or a file of it, is not in DVC's cache and cannot be fetched."""


class RefusedVersion(GanpipeError):
    """A version that is damaged or that no ganpipe made: it is not used."""


@dataclass(frozen=True)
class Listing:
    """The files of a version by their path in the dataset, with their MD5, and the images that its manifest names."""

    version: str
    files: dict[str, str]
    records: list[Record]


class DatasetCache:
    """The cache of a workspace's DVC, wherever `cache.dir` puts it, and the default remote behind it."""

    def __init__(self, workspace: Workspace) -> None:
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import LocalFileSystem

        self.workspace = workspace
        config = dvc_config(workspace)["cache"]
        folder = Path(config.get("dir") or workspace.root / ".dvc/cache", "files/md5")
        options = {key: config[key] for key in ("type", "shared", "slow_link_warning") if config.get(key)}
        self._local_fs = LocalFileSystem()
        self.folder = folder
        self.odb: Any = get_odb(self._local_fs, str(folder), hash_name="md5", **options)

    def check_folder(self) -> None:
        """Raises GanpipeError, before any image is read, if the cache cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GanpipeError(
                f"DVC's cache {self.folder} cannot be written ({error.strerror}). Is its disk mounted? Its place is "
                f"cache.dir in {self.workspace.root / '.dvc/config'}."
            ) from None

    def versions_like(self, start: str) -> list[str]:
        """The listings in the cache whose hash begins like this."""
        stem = start.removesuffix(".dir")
        if not re.fullmatch(r"[0-9a-f]{5,32}", stem):
            return []
        found = (f"{stem[:2]}{p.name}" for p in sorted((self.folder / stem[:2]).glob(f"{stem[2:]}*.dir")))
        return [version for version in found if VERSION.fullmatch(version)]

    def path(self, md5: str) -> Path:
        """Where the cache has or would have an object."""
        return Path(self.odb.oid_to_path(md5))

    def whole(self, file: str, md5: str) -> bytes | None:
        """The bytes of a dataset's file if the cache has them whole; None if not."""
        path = self.path(md5)
        return path.read_bytes() if is_whole(path, file, md5) else None

    def listing(self, version: str) -> Listing:
        """A version's listing and manifest from the cache, checked; nothing is fetched or written.

        Raises:
            AbsentVersion: not in the cache.
            RefusedVersion: they are not what their names say, or list what is no file of a dataset.
        """
        data = self._read(version)
        if data is None:
            raise AbsentVersion(f"Version {version} is not in DVC's cache")
        files = parse_listing(data, version)
        manifest = self._read(files[MANIFEST])
        if manifest is None:
            raise AbsentVersion(f"The manifest of version {version} is not in DVC's cache")
        return Listing(version, files, parse_version_manifest(manifest, version, files))

    def _read(self, md5: str) -> bytes | None:
        path = self.path(md5)
        return path.read_bytes() if is_regular(path) else None

    def keep(self, raw: Path, records: list[Record], earlier: str | None) -> Listing:
        """Puts the files of a dataset into the cache and returns their listing: the version that `dvc add` would make.

        `dvc add` itself reads the whole repository first, so that one damaged pointer or a link in the path stops it.
        Of a file that the version `earlier` has, the bytes are not read again: its name promises them.

        Raises:
            GanpipeError: a file does not have the bytes that its name promises, or the disk is full.
        """
        known = self._files_of(earlier)
        names = sorted({MANIFEST, *(record.file for record in records)})
        new = [n for n in names if n == MANIFEST or not (n in known and is_regular(self.path(known[n])))]
        with ThreadPoolExecutor() as threads:
            hashed = dict(zip(new, threads.map(lambda name: hash_file(raw / name, name), new), strict=True))
        files = {name: hashed.get(name) or known[name] for name in names}
        tree = _tree(files)
        with plain_disk_errors(self.folder):
            self._missing({md5: name for name, md5 in hashed.items()})  # what is damaged there is moved away
            self.odb.add([str(raw / name) for name in new], self._local_fs, [hashed[name] for name in new])
            self._missing({tree.oid: tree.oid})
            self.odb.add(tree.path, tree.fs, tree.oid)
        return Listing(tree.oid, files, records)

    def _files_of(self, version: str | None) -> dict[str, str]:
        try:
            return self.listing(version).files if version else {}
        except (AbsentVersion, RefusedVersion):
            return {}

    def link(self, listing: Listing, raw: Path) -> None:
        """Makes links to the cache of the files in `raw`, if `cache.type` asks for them."""
        if self.odb.cache_types[0] in ("symlink", "hardlink"):
            self.check_out(listing, raw, listing.files, relink=True)

    def bring(self, version: str) -> Listing:
        """Makes sure that a version is in the cache, whole; what is missing or damaged is fetched from the remote.

        What is damaged is moved out of the cache, because DVC would check it out without a word.

        Raises:
            AbsentVersion, RefusedVersion: it cannot be had; the sentence says why.
        """
        self._bring({version: version})
        files = parse_listing(self.path(version).read_bytes(), version)
        self._bring({files[MANIFEST]: MANIFEST})
        manifest = self.path(files[MANIFEST]).read_bytes()
        listing = Listing(version, files, parse_version_manifest(manifest, version, files))
        self._bring({md5: file for file, md5 in files.items()})
        return listing

    def _bring(self, wanted: dict[str, str]) -> None:
        """`wanted`: files of a dataset by their MD5; a version stands for its own listing."""
        missing = self._missing(wanted)
        if not missing:
            return
        remote = self._remote()
        for start in range(0, len(missing), FETCHED_TOGETHER):
            self._fetch(remote, missing[start : start + FETCHED_TOGETHER], wanted)

    def _missing(self, wanted: dict[str, str]) -> list[str]:
        missing = [md5 for md5, file in wanted.items() if not is_whole(self.path(md5), file, md5)]
        bad = [str(path.relative_to(self.folder)) for m in missing if os.path.lexists(path := self.path(m))]
        set_aside(self.folder, bad, new_aside_folder(self.workspace.root, "dvc-cache"))
        return missing

    def _remote(self) -> Any:
        from dvc.exceptions import DvcException
        from dvc.fs import get_cloud_fs
        from dvc_data.hashfile.db import get_odb

        name = default_remote(self.workspace)
        if name is None:
            raise AbsentVersion(
                "The data are not whole in DVC's cache, and this workspace has no DVC remote to bring them from; name it, "
                "once: dvc remote add -d store /mnt/store"
            )
        try:
            kind, options, path = get_cloud_fs(dvc_config(self.workspace), name=name)
            if options.get("worktree") or options.get("version_aware"):
                raise GanpipeError(f"The DVC remote {name} is cloud-versioned; ganpipe needs a plain one.")
            fs = kind(**options)
            return get_odb(fs, fs.join(path, "files", "md5"), hash_name="md5")
        except (DvcException, OSError, ImportError, ValueError) as error:
            raise AbsentVersion(f"The DVC remote {name} cannot be used: {error}") from None

    def _fetch(self, remote: Any, chosen: list[str], wanted: dict[str, str]) -> None:
        """Copies objects from the remote to a scratch folder, and those that are whole into the cache."""
        from dvc_data.hashfile.db import get_odb

        failed: dict[str, BaseException] = {}
        with self.workspace.scratch_folder() as scratch:
            staged: Any = get_odb(self._local_fs, str(scratch), hash_name="md5")
            readable = [md5 for md5 in chosen if not _would_hang(remote, md5)]
            sources = [remote.oid_to_path(md5) for md5 in readable]
            try:
                staged.add(sources, remote.fs, readable, on_error=failed.__setitem__)
            except GanpipeError:  # a signal
                raise
            except (
                Exception
            ) as error:  # each kind of remote has its own; its sentence is all that we can tell
                failed |= dict.fromkeys(chosen, error)
            for problem in failed.values():  # a full disk here is no absent file there
                if fault := classify_storage_error(problem):
                    raise GanpipeError(f"Could not write {scratch}: {STORAGE_SENTENCES[fault]}.") from problem
            arrived = [m for m in chosen if m not in failed and os.path.lexists(staged.oid_to_path(m))]
            good = [m for m in arrived if is_whole(Path(staged.oid_to_path(m)), wanted[m], m)]
            self.odb.add([staged.oid_to_path(m) for m in good], self._local_fs, good, hardlink=True)
            if forged := [m for m in arrived if m not in set(good)]:
                raise RefusedVersion(_why_refused(Path(staged.oid_to_path(forged[0])), forged, wanted))
        if lost := [m for m in chosen if m not in set(good)]:
            cause = failed.get(lost[0])
            known = isinstance(cause, FileNotFoundError) or cause is None
            why = "it is not there" if known else f"{type(cause).__name__}: {cause}"
            raise AbsentVersion(
                f"{wanted[lost[0]]} ({len(lost)} of {len(chosen)} files asked for) is neither whole in DVC's cache nor "
                f"in the remote {default_remote(self.workspace)}: {why}"
            )

    def check_out(self, listing: Listing, raw: Path, present: dict[str, str], relink: bool = False) -> None:
        """Makes the folder `raw` hold the files of a version that was brought, linked as `cache.type` says.

        `present`: the files that are there now, with their MD5. `relink`: link those again, too.
        """
        from dvc_data.hashfile.checkout import CheckoutError, LinkError, checkout

        new, old = _tree(listing.files), _tree(present) if present else None
        try:
            checkout(str(raw), self._local_fs, new, self.odb, force=True, relink=relink, quiet=True, old=old)
        except (CheckoutError, LinkError, OSError) as error:
            fault = classify_storage_error(error)
            why = STORAGE_SENTENCES[fault] if fault else str(error)
            raise GanpipeError(f"{raw} could not be written: {why}") from error

    def bytes_of(self, listing: Listing) -> int:
        """The size of all files of a version that was brought."""
        return sum(self.path(md5).stat().st_size for md5 in listing.files.values())


def _would_hang(remote: Any, md5: str) -> bool:
    """Whether a folder that serves as the remote has a FIFO in a file's place."""
    return remote.fs.protocol == "local" and Path(remote.oid_to_path(md5)).is_fifo()


def _tree(files: dict[str, str]) -> Any:
    from dvc_data.hashfile.tree import Tree

    tree = Tree.from_list([{"md5": md5, "relpath": file} for file, md5 in files.items()], hash_name="md5")
    tree.digest()
    return tree


def _why_refused(path: Path, forged: list[str], wanted: dict[str, str]) -> str:
    file = wanted[forged[0]]
    what = f"the listing of version {file}" if file == forged[0] else file
    more = f" and {len(forged) - 1} more" if len(forged) > 1 else ""
    odd = ""
    if file == forged[0] and is_regular(path) and (stray := _stray(path.read_bytes())) is not None:
        odd = f"; it lists {stray!r}, which is no file of a dataset"
    return (
        f"The remote is damaged or forged: {what}{more} does not have the bytes that the name {forged[0]} "
        f"promises{odd}. It was not taken; push the version again from a workspace that has it whole"
    )


def _stray(data: bytes) -> str | None:
    try:
        return next((str(e["relpath"]) for e in json.loads(data) if not is_dataset_file(e["relpath"])), None)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def parse_listing(data: bytes, version: str) -> dict[str, str]:
    """The files of a version and their MD5, from DVC's listing, which may come from somebody else's remote.

    Raises:
        RefusedVersion: its hash is not `version`, or it lists what a ganpipe dataset does not hold: a path that leads
            outside, a name twice, anything but a manifest and images.
    """
    if hashlib.md5(data).hexdigest() + ".dir" != version:
        stray = _stray(data)
        odd = "" if stray is None else f": it lists {stray!r}, which is no file of a dataset"
        raise RefusedVersion(f"The listing of version {version} in DVC's cache is damaged or forged{odd}")
    files: dict[str, str] = {}
    try:
        for entry in json.loads(data):
            file, md5 = entry["relpath"], entry["md5"]
            if not is_dataset_file(file) or not re.fullmatch(r"[0-9a-f]{32}", md5) or file in files:
                raise RefusedVersion(f"Version {version} lists {file!r}, which is no file of a dataset")
            files[file] = md5
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedVersion(f"The listing of version {version} is damaged ({error})") from None
    if MANIFEST not in files:
        raise RefusedVersion(
            f"Version {version} has no manifest: ganpipe did not make it. Add its images as a dataset: ganpipe data add"
        )
    return files


def parse_version_manifest(data: bytes, version: str, files: dict[str, str]) -> list[Record]:
    """The images of a version; the manifest must name exactly the files that the listing has.

    Raises:
        RefusedVersion: the manifest is damaged, or names other files.
    """
    if hashlib.md5(data).hexdigest() != files[MANIFEST]:
        raise RefusedVersion(f"The manifest of version {version} in DVC's cache is damaged or forged")
    try:
        records = parse_manifest(data.decode())
    except (ValueError, TypeError) as error:
        raise RefusedVersion(f"The manifest of version {version} is damaged ({error})") from None
    named = {record.file for record in records} | {MANIFEST}
    if differing := sorted(named ^ set(files)):
        raise RefusedVersion(
            f"The listing and the manifest of version {version} do not agree on {differing[0]!r}"
        )
    return records


def is_regular(path: Path) -> bool:
    """Whether a plain file is there: no link, pipe or folder."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_whole(path: Path, file: str, md5: str) -> bool:
    """Whether an object has the bytes that its MD5 and, for an image, its own name promise."""
    if not is_regular(path):
        return False
    found, sha256 = _digests(path)
    return found == md5.removesuffix(".dir") and _is_promised(file, sha256)


def hash_file(path: Path, file: str) -> str:
    """The MD5 of a file of a dataset.

    Raises:
        GanpipeError: it does not have the bytes that its name promises.
    """
    md5, sha256 = _digests(path)
    if not _is_promised(file, sha256):
        raise GanpipeError(
            f"{path} has other bytes than were added; add its source again, or bring it back with: ganpipe data verify"
        )
    return md5


def _digests(path: Path) -> tuple[str, str]:
    """MD5 and SHA-256 of a file, read once."""
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    with path.open("rb") as opened:
        while data := opened.read(READ_BYTES):
            md5.update(data)
            sha256.update(data)
    return md5.hexdigest(), sha256.hexdigest()


def _is_promised(file: str, sha256: str) -> bool:
    return not file.startswith("files/") or sha256 == Path(file).stem
