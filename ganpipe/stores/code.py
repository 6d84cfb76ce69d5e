"""The code that a run was made with: its git commit, what was changed since, and the hash of each source file."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ganpipe
from ganpipe.errors import GanpipeError
from ganpipe.files import read_dataclass, write_bytes, write_json
from ganpipe.stores.fingerprint import source_files

CODE, DIFF = "code.json", "code.diff"  # in a run folder
GIT_S = 20.0
PACKAGE = Path(ganpipe.__file__).parent


@dataclass(frozen=True)
class Code:
    """`commit`: of ganpipe's repository; None if it was installed as a package. `is_changed`: the sources were not those of
    the commit, and code.diff has the difference. `files`: SHA-256 of each source file of the core."""

    ganpipe: str
    commit: str | None
    is_changed: bool
    files: dict[str, str]


def record_code(folder: Path) -> list[Path]:
    """Writes which code runs now into a run folder; returns the files. A run that is resumed keeps what it has."""
    paths = [folder / CODE, folder / DIFF]
    if not paths[0].exists():
        commit = _git("rev-parse", "HEAD") if _is_tracked() else None
        diff = _diff(folder) if commit else b""
        if diff:
            write_bytes(folder / DIFF, diff)
        named = commit.decode().strip() if commit else None
        write_json(folder / CODE, Code(ganpipe.__version__, named, bool(diff), source_files()))
    return [path for path in paths if path.exists()]


def read_code(folder: Path) -> Code | None:
    """The code of a run; None for a run of an earlier ganpipe, or if the file is damaged."""
    try:
        return read_dataclass(folder / CODE, Code)
    except GanpipeError:
        return None


def changed_files(code: Code) -> list[str]:
    """The source files that differ now from those of a run, such as "training/gan.py (changed)"."""
    now = source_files()
    names = sorted(name for name in {*now, *code.files} if now.get(name) != code.files.get(name))
    words = {
        name: "new" if name not in code.files else "gone" if name not in now else "changed" for name in names
    }
    return [f"{name} ({words[name]})" for name in names]


def restoring_command(code: Code, folder: Path) -> str:
    """The command that brings the code of a run back."""
    if code.commit is None:
        return f"pip install ganpipe=={code.ganpipe}"
    root = _git("rev-parse", "--show-toplevel") if _is_tracked() else None
    place = root.decode().strip() if root else "GANPIPE"
    command = f"git -C {place} checkout {code.commit}"
    return f"{command} && git -C {place} apply {folder / DIFF}" if code.is_changed else command


def _is_tracked() -> bool:
    """Whether ganpipe lies in its own repository: a virtual environment may lie in somebody else's."""
    return _git("ls-files", "--error-unmatch", "__init__.py") is not None


def _diff(folder: Path) -> bytes:
    """Computes the diff from the commit, new files included; the repository's own index stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"scratch-{os.getpid()}-") as scratch:
        index = Path(scratch) / "index"
        if _git("read-tree", "HEAD", index=index) is None or _git("add", "-N", ".", index=index) is None:
            return b""
        plain = ("--binary", "--no-ext-diff", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
        return _git("diff", "HEAD", *plain, "--", ".", index=index) or b""


def _git(*words: str, index: Path | None = None) -> bytes | None:
    """Runs git on ganpipe's own folder and returns its output; None if git fails or is not there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words],
            capture_output=True,
            check=False,
            env=environment,
            timeout=GIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
