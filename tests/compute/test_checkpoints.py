"""Checkpoints are whole or absent; one that cannot be read is not one that is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganpipe.compute import checkpoints
from ganpipe.compute.checkpoints import load_checkpoint, save_checkpoint
from ganpipe.errors import GanpipeError

CPU = torch.device("cpu")


def test_a_disk_that_fills_up_before_the_note_leaves_no_checkpoint_that_nobody_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, "0-1", {"nimg": 1})

    def full(path: Path, value: Any) -> None:
        raise GanpipeError(f"Could not write {path}: the disk is full.")

    monkeypatch.setattr(checkpoints, "write_json", full)
    with pytest.raises(GanpipeError, match="the disk is full"):
        save_checkpoint(tmp_path, "0-2", {"nimg": 2})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0-1.json", "0-1.pt"]
    assert load_checkpoint(tmp_path, CPU) == {"nimg": 1}


def test_a_checkpoint_without_permission_is_not_passed_over_for_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in (1, 2):
        save_checkpoint(tmp_path, f"0-{k}", {"nimg": k})

    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints, "sha256_of", forbidden)
    with pytest.raises(GanpipeError, match=r"0-2\.pt cannot be read \(Permission denied\)"):
        load_checkpoint(tmp_path, CPU)
