"""A workspace's DVC repository: its command, its cache and its remote.

DVC is used through its command, whose interface is the stable one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from ganpipe.data.prepare import BEHALF_OF, FAILED, PREPARE_FILE, write_prepare_file
from ganpipe.errors import GanpipeError
from ganpipe.files import write_text
from ganpipe.stores.workspace import Workspace

# DVC's command, which ends with us: after a kill -9 it would go on beside the next ganpipe.
DVC = f"""
import os, sys
from ganpipe.compute.processes import exit_with_parent
exit_with_parent(int(os.environ["{BEHALF_OF}"]))
from dvc.cli import main
sys.exit(main(sys.argv[1:]))
"""


def dvc(workspace: Workspace, *arguments: str, check: bool = True) -> str:
    """Runs a dvc command in the workspace and returns what it printed.

    Raises:
        GanpipeError: dvc failed; its last line says why.
    """
    ensure_repository(workspace)
    done = subprocess.run(
        [sys.executable, "-c", DVC, "--wait-for-lock", *arguments],
        cwd=workspace.root,
        env=os.environ | {BEHALF_OF: str(os.getpid())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and check:
        printed = (done.stdout + done.stderr).splitlines()
        ours = [line.removeprefix(FAILED) for line in printed if line.startswith(FAILED)]
        if ours:
            raise GanpipeError(ours[0])
        lines = [line for line in printed if line.startswith("ERROR")]
        why = (lines or (done.stderr or done.stdout).strip().splitlines() or ["no message"])[0]
        if "No space left" in done.stderr:
            why = "the disk is full; free some room and run again"
        raise GanpipeError(f"dvc {' '.join(arguments[:2])} failed: {why.removeprefix('ERROR: ')}")
    return done.stdout


def ensure_repository(workspace: Workspace) -> None:
    """Writes what `dvc init` writes, and the data stages; existing files are left alone."""
    folder = workspace.root / ".dvc"
    if not (folder / "config").exists():
        write_text(folder / ".gitignore", "/config.local\n/tmp\n/cache\n")
        write_text(folder / "config", "[core]\n    analytics = false\n")
    if not (workspace.root / ".git").exists() and not (folder / "config.local").exists():
        write_text(folder / "config.local", "[core]\n    no_scm = true\n")
    stages = workspace.root / "dvc.yaml"
    if not stages.exists():
        write_text(stages, dvc_yaml_template())
    if not (workspace.root / PREPARE_FILE).exists():
        write_prepare_file(workspace.root / PREPARE_FILE, {})


def dvc_yaml_template() -> str:
    """The data stages of a workspace. (DVC reads every file called dvc.yaml below its root: ours must not be.)"""
    return resources.files("ganpipe").joinpath("templates/dvc-stages.txt").read_text()


def default_remote(workspace: Workspace) -> str | None:
    """The name of DVC's default remote; None if there is none."""
    named = dvc(workspace, "config", "core.remote", check=False).strip()
    return named or None


def require_remote(workspace: Workspace) -> str:
    remote = default_remote(workspace)
    if remote is None:
        raise GanpipeError(
            "This workspace has no DVC remote; name a folder or a bucket, once: "
            "dvc remote add -d store /mnt/store   (or s3://bucket/path)"
        )
    url = dvc(workspace, "config", f"remote.{remote}.url", check=False).strip()
    if url.startswith("s3://") and not find_spec("dvc_s3"):
        raise GanpipeError(f"The remote {remote} is {url}, which needs: pip install 'ganpipe[s3]'")
    return remote


def read_listing(workspace: Workspace, version: str) -> dict[str, str]:
    """The files of a version and their MD5, as DVC lists them; checked, because a remote may be somebody else's.

    Raises:
        GanpipeError: it is not in the cache, or lists what is no file of a dataset.
    """
    path = cached_file(workspace, version if version.endswith(".dir") else f"{version}.dir")
    if path is None:
        raise GanpipeError(
            f"Version {version} is not in DVC's cache; bring it from the remote with: dvc pull"
        )
    listing = {str(e["relpath"]): str(e["md5"]) for e in json.loads(path.read_text())}
    for file, md5 in listing.items():
        if not re.fullmatch(r"[0-9a-f]{32}", md5) or file.startswith("/") or ".." in Path(file).parts:
            raise GanpipeError(f"Version {version} lists {file!r}, which is no file of a dataset.")
    return listing


def cache_folder(workspace: Workspace) -> Path:
    return workspace.root / ".dvc/cache/files/md5"


def cached_file(workspace: Workspace, md5: str) -> Path | None:
    """A file of DVC's cache by the beginning of its hash; `.dir` behind it asks for a listing."""
    stem = md5.removesuffix(".dir")
    if not re.fullmatch(r"[0-9a-f]{5,32}", stem):
        return None
    matches = [
        p
        for p in sorted((cache_folder(workspace) / stem[:2]).glob(f"{stem[2:]}*"))
        if p.name.endswith(".dir") == md5.endswith(".dir")
    ]
    return matches[0] if len(matches) == 1 else None


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
