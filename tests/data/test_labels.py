"""Labels: some images have one and others none, and nothing fails after the training."""

from __future__ import annotations

import json
import math
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.compute.device import Compute
from ganpipe.data.ingest import AddReport, add_items
from ganpipe.data.manifest import read_manifest
from ganpipe.data.prepare import prepare
from ganpipe.data.shards import Split, load_prepared
from ganpipe.data.sources.registry import read_source
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import DataSettings, Settings
from ganpipe.training.algorithm import TrainingContext
from ganpipe.training.gan import GanAlgorithm
from tests.conftest import R3, noise_data, noise_image, with_

SMALL = DataSettings(height_px=16, width_px=16)


def labeled_folder(folder: Path, stray: int = 1) -> Path:
    """Twenty images in each of two label folders, and `stray` in the root."""
    for k in range(40):
        path = folder / ("cats" if k % 2 else "dogs") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise_image(k).save(path)
    for k in range(stray):
        noise_image(100 + k).save(folder / f"stray{k}.png")
    return folder


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    return folder.with_suffix(".zip")


def tarred(folder: Path) -> Path:
    with tarfile.open(folder.with_suffix(".tar"), "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.add(path, path.relative_to(folder))
    return folder.with_suffix(".tar")


def add(source: Path, raw: Path) -> AddReport:
    return add_items(raw, read_source(str(source), raw.parent / "scratch"))


@pytest.mark.parametrize("pack", [Path, zipped, tarred])
def test_the_account_of_an_addition_says_how_many_images_have_no_label(
    tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    report = add(pack(labeled_folder(tmp_path / "in")), tmp_path / "raw")
    assert (report.found, report.accepted, report.labels, report.unlabeled) == (41, 41, 2, 1)
    assert "1 image has no label, others have one" in report.label_note


def test_a_dataset_without_any_label_or_with_all_of_them_needs_no_note(tmp_path: Path) -> None:
    assert not add(labeled_folder(tmp_path / "in", stray=0), tmp_path / "raw").label_note
    shutil.rmtree(tmp_path / "in" / "cats")
    flat = add(tmp_path / "in" / "dogs", tmp_path / "flat")
    assert (flat.labels, flat.unlabeled, flat.label_note) == (0, 20, "")


def test_labels_may_arrive_with_a_later_addition(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(6):
        noise_image(k).save(folder / f"{k}.png")
    assert add(folder, tmp_path / "raw").unlabeled == 6
    for k in range(6):
        label = folder / ("cats" if k % 2 else "dogs")
        label.mkdir(exist_ok=True)
        (folder / f"{k}.png").rename(label / f"{k}.png")
    report = add(folder, tmp_path / "raw")
    assert (report.duplicates, report.accepted, report.newly_labeled) == (6, 0, 6)
    assert (report.labels, report.unlabeled) == (2, 0)
    assert [r.label for r in read_manifest(tmp_path / "raw")] == ["dogs", "cats"] * 3


def test_a_label_folder_whose_images_are_all_quarantined_is_no_label(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", stray=0)
    (folder / "broken").mkdir()
    (folder / "broken" / "x.png").write_bytes(b"no image")
    report = add(folder, tmp_path / "raw")
    assert (report.labels, report.unlabeled, len(report.quarantined)) == (2, 0, 1)


def test_a_mixed_dataset_is_trained_without_labels_and_counts_none_for_the_stray_image(
    tmp_path: Path,
) -> None:
    add(labeled_folder(tmp_path / "in", stray=8), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    data = load_prepared(tmp_path / "out", "v")
    assert not data.labeled
    assert sum(data.label_counts) + data.unlabeled == len(data.train)
    assert data.unlabeled > 0


def test_a_label_that_no_training_image_has_is_none(tmp_path: Path) -> None:
    add(labeled_folder(tmp_path / "in", stray=0), tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "out", SMALL)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    meta["label_names"] = ["birds", "cats", "dogs"]
    held_out = len(meta["labels"]["holdout"])
    meta["labels"]["train"] = [k + 1 for k in meta["labels"]["train"]]
    meta["labels"]["holdout"] = [0] * (held_out - 1) + [2]
    (tmp_path / "out" / "meta.json").write_text(json.dumps(meta))
    data = load_prepared(tmp_path / "out", "v")
    assert data.label_names == ("cats", "dogs")
    assert data.labeled
    assert set(data.train.labels.tolist()) == {0, 1}
    assert data.holdout.labels.tolist() == [-1] * (held_out - 1) + [1]


def test_the_held_out_signal_of_a_conditional_model_uses_images_with_a_label_or_fails_at_once(
    settings: Settings,
) -> None:
    wanted = with_(settings, **R3, augment__mode="adaptive", augment__signal="held_out")
    data, compute = noise_data(labels=True), Compute(torch.device("cpu"), "fp32")
    labels = data.holdout.labels.clone()
    labels[::2] = -1
    mixed = replace(data, holdout=Split(data.holdout.shards, labels))
    algorithm = GanAlgorithm(TrainingContext(mixed, wanted, compute, 3))
    assert (labels[algorithm._signal_rows()] >= 0).all()
    assert math.isfinite(algorithm._local_overfitting(0.5, 0))
    bare = replace(data, holdout=Split(data.holdout.shards, torch.full_like(labels, -1)))
    with pytest.raises(GanpipeError, match="holds no image out with a label"):
        GanAlgorithm(TrainingContext(bare, wanted, compute, 3))
