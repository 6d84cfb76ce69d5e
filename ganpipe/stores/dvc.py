"""A workspace's DVC repository: its configuration, its command, its pointers and its stage.

What reads DVC's whole repository (push, repro) goes through its command in a process of its own, because only that waits
for DVC's lock and ends when we do. The cache is read and filled, and the remote fetched from, through DVC's API: see
dvc_cache.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ganpipe.data.prepare_file import BEHALF_OF, FAILED, PREPARE_FILE, write_prepare_file
from ganpipe.errors import STORAGE_SENTENCES, GanpipeError, classify_storage_text
from ganpipe.files import write_text
from ganpipe.settings.yaml_files import dump_yaml, parse_yaml, read_yaml
from ganpipe.stores.workspace import Workspace, ignore_in_git

log = logging.getLogger(__name__)

VERSION = re.compile(r"[0-9a-f]{32}\.dir")

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
    if set("{}") & set(str(workspace.root)):  # its progress bar takes them for fields of a format
        raise GanpipeError(
            f"The path of the workspace {workspace.root} has a brace, which DVC cannot use; rename the folder."
        )
    ensure_repository(workspace)
    mend_repository(workspace)
    # A relative path: of an absolute one DVC's database expands what looks like a variable, such as $HOME.
    places = {"DVC_SITE_CACHE_DIR": str(workspace.state.relative_to(workspace.root) / "dvc")}
    done = subprocess.run(
        [sys.executable, "-c", DVC, "--wait-for-lock", *arguments],
        cwd=workspace.root,
        # Safe path: a yaml.py that lies in the workspace is nobody's module.
        env=places | os.environ | {BEHALF_OF: str(os.getpid()), "PYTHONSAFEPATH": "1"},
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
        if fault := classify_storage_text(done.stdout + done.stderr, workspace.root):
            why = STORAGE_SENTENCES[fault]
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
    ignore_in_git(workspace.state)  # of an earlier version of ganpipe
    (folder / "tmp").mkdir(exist_ok=True)


def mend_repository(workspace: Workspace) -> None:
    """Takes away what a power cut has torn and DVC makes again: its list of locks, and dvc.lock.

    The caller holds the lock of whoever changes datasets.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import load_yaml

    locks, lock_file = workspace.root / ".dvc/tmp/rwlock", workspace.root / "dvc.lock"
    with suppress(FileNotFoundError):
        try:
            json.loads(locks.read_text())
        except ValueError:
            locks.unlink()
            log.warning(f"{locks} was damaged, and is made again.")
    try:
        is_whole = not lock_file.exists() or "schema" in load_yaml(str(lock_file))
    except (DvcException, OSError, ValueError, TypeError):
        is_whole = False
    if not is_whole:
        kept = lock_file.rename(workspace.state / "dvc.lock.damaged")
        log.warning(f"{lock_file} was damaged, and is made again; the damaged one is {kept}.")


def dvc_yaml_template() -> str:
    """The data stages of a workspace. (DVC reads every file called dvc.yaml below its root: ours must not be.)"""
    return resources.files("ganpipe").joinpath("templates/dvc-stages.txt").read_text()


def check_stage(workspace: Workspace) -> None:
    """Raises GanpipeError unless the stage `prepare` of dvc.yaml is the one that ganpipe wrote: no other command is run.

    Other stages in the file are their owner's; ganpipe runs none of them.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import load_yaml, parse_yaml

    path, ours = workspace.root / "dvc.yaml", parse_yaml(dvc_yaml_template(), "dvc.yaml")
    try:
        found = load_yaml(str(path))
    except (DvcException, OSError, ValueError):
        found = None
    stages = found.get("stages") if isinstance(found, dict) else None
    same = isinstance(stages, dict) and stages.get("prepare") == ours["stages"]["prepare"]
    if not same or found.get("vars") != ours["vars"]:
        raise GanpipeError(
            f"The stage prepare of {path} is not the one that ganpipe writes, and ganpipe runs no other command. "
            "Bring `vars` and the stage back from git, or move the file away: ganpipe writes it again."
        )


def dvc_config(workspace: Workspace) -> Any:
    """DVC's configuration of the workspace, its system, user and local levels included; nothing is written."""
    from dvc.config import Config, ConfigError

    try:
        return Config(str(workspace.root / ".dvc"))
    except ConfigError as error:
        raise GanpipeError(f"DVC's configuration in {workspace.root / '.dvc'} is wrong: {error}.") from None


def default_remote(workspace: Workspace) -> str | None:
    """The name of DVC's default remote; None if there is none."""
    return dvc_config(workspace)["core"].get("remote") or None


def require_remote(workspace: Workspace) -> str:
    """The name of DVC's default remote.

    Raises:
        GanpipeError: there is none, or it needs a package that is not installed.
    """
    remote = default_remote(workspace)
    if remote is None:
        raise GanpipeError(
            "This workspace has no DVC remote; name a folder or a bucket, once: "
            "dvc remote add -d store /mnt/store   (or s3://bucket/path)"
        )
    url = str(dvc_config(workspace)["remote"].get(remote, {}).get("url", ""))
    if url.startswith("s3://") and not find_spec("dvc_s3"):
        raise GanpipeError(f"The remote {remote} is {url}, which needs: pip install 'ganpipe[s3]'")
    return remote


def pointer_file(workspace: Workspace, name: str) -> Path:
    """The .dvc file of a dataset."""
    return Path(f"{workspace.raw(name)}.dvc")


def new_pointer(name: str, version: str, size: int | None = None, files: int | None = None) -> str:
    """The text of a pointer, as `dvc add` writes it."""
    counts = {} if size is None or files is None else {"size": size, "nfiles": files}
    return dump_yaml({"outs": [{"md5": version, **counts, "hash": "md5", "path": name}]})


def version_in(text: str) -> str:
    """The hash that a recorded pointer names; nothing else in it is used, since it may come from elsewhere."""
    try:
        version = str(parse_yaml(text, "the pointer")["outs"][0]["md5"])
    except (GanpipeError, KeyError, IndexError, TypeError):
        version = ""
    if not VERSION.fullmatch(version):
        raise GanpipeError("The DVC pointer that was recorded is damaged: it names no version.")
    return version


def read_pointer(workspace: Workspace, name: str) -> str:
    """The version that the pointer of a dataset names.

    Raises:
        GanpipeError: it is damaged, or holds what `dvc add data/raw/NAME` never writes: a command, another path, a
            remote, dependencies. DVC must not read such a file.
    """
    path = pointer_file(workspace, name)
    try:
        tree = read_yaml(path)
        (out,) = tree["outs"]
        extra = {*map(str, tree)} - {"outs"} | {*map(str, out)} - {"md5", "size", "nfiles", "hash", "path"}
        version, place, kind = str(out.get("md5")), out.get("path"), out.get("hash")
    except (GanpipeError, KeyError, TypeError, ValueError, AttributeError):
        raise GanpipeError(
            f"{path} is damaged; bring it back from git, or delete it and add the data again."
        ) from None
    if extra or place != name or kind != "md5" or not VERSION.fullmatch(version):
        what = f"it has {', '.join(sorted(extra))}" if extra else "it names another path or no version"
        raise GanpipeError(
            f"{path} is not a pointer that ganpipe writes ({what}), and DVC will not be asked to read it; "
            "bring it back from git, or delete it and add the data again."
        )
    return version
