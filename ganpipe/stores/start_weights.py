"""The run or the file that `training.start_from` names, fixed before anything depends on it. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import sha256_of
from ganpipe.models.generator_files import WEIGHTS
from ganpipe.settings.schema import Settings
from ganpipe.settings.start_from import CHAMPION, SCRATCH, split_pin
from ganpipe.stores.run_records import all_records
from ganpipe.stores.workspace import Workspace

SUFFIX = ".safetensors"


def pin_start(workspace: Workspace, settings: Settings) -> Settings:
    """The settings whose `training.start_from` cannot become another one: a run by its id, a file with its SHA-256.

    Raises:
        GanpipeError: there is neither a run nor a file of this name, or it is no safetensors file.
    """
    word = settings.training.start_from
    if word in (SCRATCH, CHAMPION) or split_pin(word)[1]:
        return settings
    run = next((r.run_id for r in all_records(workspace) if word in (r.run_id, r.mlflow_run_id)), None)
    named = run or f"{word}@sha256:{sha256_of(find_weights(workspace, word))}"
    return settings.with_values({"training.start_from": named})


def find_weights(workspace: Workspace, path: str) -> Path:
    """The safetensors file at `path`, which is relative to the workspace; in a generator's folder, the generator's.

    Raises:
        GanpipeError: there is none.
    """
    found = workspace.root / os.path.expanduser(path)
    found = found / WEIGHTS if found.is_dir() else found
    if not found.is_file():
        raise GanpipeError(
            f"training.start_from is {path!r}, and there is neither a run of this name nor a file {found}; name a run "
            f"(`ganpipe status` lists them), a {SUFFIX} file or a folder with a {WEIGHTS}."
        )
    if found.suffix != SUFFIX:
        raise GanpipeError(
            f"training.start_from is {path!r}; it must be a {SUFFIX} file. Other files of weights can hold programs; "
            "write their tensors with safetensors.torch.save_file."
        )
    return found
