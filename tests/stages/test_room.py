"""The room that a training needs is known before it starts."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from ganpipe.data.shards import PreparedData
from ganpipe.errors import GanpipeError
from ganpipe.models.registry import MODELS
from ganpipe.settings.schema import Settings
from ganpipe.stages.room import check_room, checkpoints_bytes
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.workspace import Workspace
from ganpipe.training.trainer import train
from tests.conftest import R3, with_

Usage = namedtuple("Usage", "total used free")
VERSION = DatasetVersion("cats", f"{'0' * 32}.dir", 1_000_000, 900_000, 100_000, 0, "")


def test_the_estimate_is_the_size_of_real_checkpoints(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    wide = with_(settings, model__g_channels=64, model__d_channels=64, training__total_images=16)
    train(prepared, wide, tmp_path)
    written = max(path.stat().st_size for path in (tmp_path / "checkpoints").glob("*.pt"))
    assert 0.9 < checkpoints_bytes(wide) / (4 * written) < 1.1


def test_the_estimate_includes_the_snapshots_of_averages(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    wide = with_(settings, model__g_channels=64, training__total_images=32, training__ema_snapshots=4)
    train(prepared, wide, tmp_path)
    folder = tmp_path / "checkpoints"
    checkpoint = max(path.stat().st_size for path in folder.glob("*.pt"))
    snapshots = [path.stat().st_size for path in folder.rglob("*.safetensors")]
    assert len(snapshots) == 4
    assert 0.9 < checkpoints_bytes(wide) / (4 * checkpoint + sum(snapshots) + snapshots[0]) < 1.1


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_is_counted_without_memory(model: str, settings: Settings) -> None:
    values = R3 if model == "r3gan" else {"model__name": model, "model__width": 0.1}
    tall = with_(settings, data__height_px=64, data__width_px=64, **values)
    assert checkpoints_bytes(with_(tall, model__spectral_norm=True)) == checkpoints_bytes(tall) > 10_000


def test_a_disk_without_room_for_the_shards_is_refused_in_one_sentence(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards_mib = 1_000_000 * 16 * 16 * 3 / 2**20
    for free_mib, fits in ((shards_mib + 100, True), (shards_mib - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, mib=free_mib: Usage(0, 0, mib * 2**20))
        if fits:
            check_room(workspace, VERSION, settings)
            continue
        with pytest.raises(GanpipeError, match=r"has 731\.4 MiB free; about 76\d\.\d MiB are needed"):
            check_room(workspace, VERSION, settings)
