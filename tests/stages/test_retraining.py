"""The rule of the section `watch`: when a changed dataset is worth another training, and what status says until then."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ganpipe.settings.schema import Settings, WatchSettings
from ganpipe.stages.retraining import Decision, decide, last_trained, read_decisions
from ganpipe.stages.status import workspace_status
from ganpipe.stores import datasets
from ganpipe.stores.dataset_versions import checkout_dataset, open_version
from ganpipe.stores.run_records import new_record, save_record
from ganpipe.stores.workspace import Workspace
from tests.conftest import changed, copied, noise_image

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
RULE = WatchSettings(min_new_images=5, min_changed_percent=10.0, at_most_every="1h")


@pytest.fixture
def noise(workspace: Workspace, added_noise: Path) -> Workspace:
    """The dataset `noise`: 90 images."""
    return copied(added_noise, workspace)


def add(workspace: Workspace, settings: Settings, seeds: range) -> None:
    """Adds an image for each seed."""
    folder = workspace.root.parent / f"more-{seeds.start}"
    folder.mkdir()
    for seed in seeds:
        noise_image(seed).save(folder / f"{seed}.png")
    datasets.add_dataset(workspace, str(folder), "noise", settings.data)


def train_on_it(workspace: Workspace, settings: Settings, state: str = "finished", seed: int = 0) -> None:
    """A run on the present version, as its record tells."""
    version = open_version(workspace, "noise", settings.data).version
    settings = settings.with_values({"training.seed": seed})
    save_record(workspace, replace(new_record("noise", version, settings, ("cpu", "fp32")), state=state))


def decided(workspace: Workspace, minutes: int = 0, rule: WatchSettings = RULE) -> Decision:
    return decide(workspace, "noise", rule, NOON + timedelta(minutes=minutes))


def test_a_dataset_that_was_never_trained_on_is_worth_it(noise: Workspace, settings: Settings) -> None:
    train_on_it(noise, settings, "interrupted")
    found = decided(noise)
    assert (found.worth, found.started) == (True, NOON.isoformat())


def test_below_the_rule_status_says_how_much_is_missing(noise: Workspace, settings: Settings) -> None:
    train_on_it(noise, settings)
    assert (decided(noise).worth, decided(noise).reason) == (False, "this version was trained on already")
    add(noise, settings, range(200, 203))
    found = decided(noise)
    assert not found.worth
    assert found.reason == "not worth retraining yet: 3 of 5 new images and 3.3 of 10% changed"
    assert workspace_status(noise, settings.data).retraining == [found]
    bare = changed(RULE, min_changed_percent=0.0)
    assert decided(noise, rule=bare).reason == "not worth retraining yet: 3 of 5 new images"
    add(noise, settings, range(300, 302))
    assert read_decisions(noise) == [], "it is about another version"
    assert decided(noise).worth


def test_removed_images_count_as_changes_and_not_as_new_ones(noise: Workspace, settings: Settings) -> None:
    train_on_it(noise, settings)
    datasets.remove_from_dataset(noise, "noise", [f"00{k}.png" for k in range(8)], settings.data)
    assert (decided(noise).new, decided(noise).worth) == (0, False)
    datasets.remove_from_dataset(noise, "noise", ["010.png"], settings.data)
    found = decided(noise)
    assert (found.new, found.changed_percent, found.worth) == (0, 10.0, True)


def test_runs_start_at_most_every_so_often(noise: Workspace, settings: Settings) -> None:
    first = decided(noise)
    assert decided(noise, 10) == first, "the same version: its run was stopped, and resumes"
    train_on_it(noise, settings)
    add(noise, settings, range(200, 230))
    early = decided(noise, 20)
    assert not early.worth
    assert early.not_before == (NOON + timedelta(hours=1)).isoformat()
    assert "at most one run every 1h, the next at 2026-11-29T13:00:00" in early.reason
    late = decided(noise, 61)
    assert (late.worth, late.started) == (True, (NOON + timedelta(minutes=61)).isoformat())


def test_a_version_that_was_checked_out_again_is_compared_with_itself(
    noise: Workspace, settings: Settings
) -> None:
    first = open_version(noise, "noise", settings.data).version
    train_on_it(noise, settings)
    add(noise, settings, range(200, 230))
    second = open_version(noise, "noise", settings.data).version
    train_on_it(noise, settings)
    assert last_trained(noise, "noise") == second
    assert last_trained(noise, "noise", besides=second) == first
    checkout_dataset(noise, "noise", first, settings.data)
    assert decided(noise).reason == "this version was trained on already"


def test_if_the_earlier_version_is_gone_it_is_trained_on_again(noise: Workspace, settings: Settings) -> None:
    train_on_it(noise, settings)
    add(noise, settings, range(200, 201))
    assert not decided(noise).worth
    shutil.rmtree(noise.root / ".dvc" / "cache")
    assert decided(noise).worth


def test_a_dataset_that_is_not_there_yet_is_no_failure(workspace: Workspace) -> None:
    assert decided(workspace).reason == "there is no dataset noise yet"
