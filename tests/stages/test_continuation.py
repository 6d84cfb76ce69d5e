"""A finished run whose number of images was raised continues from its last checkpoint, and says so."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.stages import reproduce
from ganpipe.stores.mlflow_runs import Tracker
from ganpipe.stores.run_records import RunRecord, all_records, run_folder, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import Killed, copied
from tests.stages.test_stages import run_train, with_runs


@pytest.fixture(scope="session")
def trained_noise(
    tmp_path_factory: pytest.TempPathFactory, prepared_noise: Path, mlflow_database: Path, settings: Settings
) -> Path:
    """The dataset `noise` and a run of 64 images."""
    return with_runs(tmp_path_factory.mktemp("trained"), prepared_noise, mlflow_database, settings)


@pytest.fixture
def trained(workspace: Workspace, trained_noise: Path) -> Workspace:
    return copied(trained_noise, workspace)


def longer(settings: Settings, images: int = 128, **values: object) -> Settings:
    return settings.with_values({"training.total_images": images, **values})


def train_and_count(workspace: Workspace, settings: Settings) -> tuple[RunRecord, int]:
    """The record, and the number of images at which training began."""
    begun: list[int] = []

    def note(p: Progress) -> None:
        if p.stage == "train":
            begun.append(int(p.start))

    record = run_train(workspace, "noise", settings, note)
    return record, min(begun, default=-1)


def sha256(record: RunRecord) -> str:
    assert record.train is not None
    return record.train.weights_sha256


def test_a_raised_number_of_images_continues_and_says_so(
    trained: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = all_records(trained)
    with caplog.at_level(logging.WARNING, "ganpipe"):
        record, begun = train_and_count(trained, longer(settings))
    assert begun == 64
    assert f"continues run {first.run_id} at 64 of 128 images" in caplog.text
    assert "take the values of a run of 128 images" in caplog.text
    assert record.continues == first.run_id
    assert record.train is not None
    assert record.train.nimg == 128
    assert record.train.notes[0].startswith(f"It continues run {first.run_id} from 64 images on")
    assert record.origin()["continues"] == first.run_id
    run = Tracker(trained).client.get_run(str(record.mlflow_run_id))
    assert run.data.tags["ganpipe.continues"] == first.run_id
    again, begun = train_and_count(trained, longer(settings))
    assert (again, begun) == (record, -1)  # the same command finds it
    assert reproduce.reproduce(trained, record)["identical"]
    shutil.rmtree(run_folder(trained, first.run_id))
    assert train_and_count(trained, longer(settings)) == (record, -1)  # found without its parent, too


def test_a_continued_run_that_was_killed_ends_with_the_same_bits(
    trained: Workspace, settings: Settings
) -> None:
    def kill(p: Progress) -> None:
        if p.stage == "train" and p.done >= 104:
            raise Killed

    with pytest.raises(Killed):
        run_train(trained, "noise", longer(settings), kill)
    record, begun = train_and_count(trained, longer(settings))
    assert begun > 64
    shutil.rmtree(run_folder(trained, record.run_id))
    assert sha256(run_train(trained, "noise", longer(settings))) == sha256(record)


def test_a_continued_run_is_continued_in_turn(trained: Workspace, settings: Settings) -> None:
    second, _ = train_and_count(trained, longer(settings, 96))
    third, begun = train_and_count(trained, longer(settings, 128))
    assert (third.continues, begun) == (second.run_id, 96)
    assert len({r.fingerprint for r in all_records(trained)}) == 3


def test_a_lowered_number_or_another_setting_starts_at_zero(trained: Workspace, settings: Settings) -> None:
    for other in (longer(settings, 32), longer(settings, 128, **{"training.seed": 1})):
        record, begun = train_and_count(trained, other)
        assert (record.continues, begun) == (None, 0)


def test_an_unfinished_run_with_the_same_fingerprint_wins(trained: Workspace, settings: Settings) -> None:
    (first,) = all_records(trained)
    shelved = trained.root / "shelved"
    run_folder(trained, first.run_id).rename(shelved)

    def kill(p: Progress) -> None:
        if p.stage == "train" and p.done >= 40:
            raise Killed

    with pytest.raises(Killed):
        run_train(trained, "noise", longer(settings), kill)
    shelved.rename(run_folder(trained, first.run_id))
    record, begun = train_and_count(trained, longer(settings))
    assert record.continues is None
    assert begun < 64


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source_sha256": "0"}, "ganpipe's source changed since"),
        ({"state": "interrupted"}, "it is interrupted"),
    ],
)
def test_what_cannot_be_continued_says_why(
    trained: Workspace,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, str],
    why: str,
) -> None:
    (first,) = all_records(trained)
    save_record(trained, replace(first, **change))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "ganpipe"):
        record, begun = train_and_count(trained, longer(settings))
    assert (record.continues, begun) == (None, 0)
    assert why in caplog.text
    assert "starts at zero" in caplog.text


def test_without_an_undamaged_checkpoint_training_starts_at_zero(
    trained: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = all_records(trained)
    for path in (run_folder(trained, first.run_id) / "checkpoints").glob("*.pt"):
        path.write_bytes(b"rot")
    with caplog.at_level(logging.WARNING, "ganpipe"):
        record, begun = train_and_count(trained, longer(settings))
    assert (record.continues, begun) == (None, 0)
    assert "no undamaged checkpoint" in caplog.text


def test_a_continued_run_goes_on_with_the_snapshots_of_its_parent(
    migrated: Workspace, prepared_noise: Path, settings: Settings
) -> None:
    place, keeping = copied(prepared_noise, migrated), longer(settings, 64, **{"training.ema_snapshots": 4})
    first, second = (run_train(place, "noise", longer(keeping, images)) for images in (64, 128))
    assert second.continues == first.run_id
    names = {
        record.run_id: sorted(
            p.stem for p in run_folder(place, record.run_id).rglob("averages/*.safetensors")
        )
        for record in (first, second)
    }
    assert names[first.run_id] == [f"{nimg:012d}" for nimg in (16, 32, 48, 64)]
    assert names[second.run_id] == [*names[first.run_id], f"{96:012d}", f"{128:012d}"]
