"""Training for a time: the step is measured once, and the number of images follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganpipe.data.shards import PreparedData
from ganpipe.settings.schema import Settings
from ganpipe.training import length
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.length import Length, fix_length, measure_rate, read_length
from ganpipe.training.trainer import train
from tests.conftest import Killed, with_


@pytest.fixture
def short(settings: Settings) -> Settings:
    return with_(settings, training__minutes=0.01)


def test_the_number_of_images_is_what_the_measured_rate_makes_in_the_time(
    prepared: PreparedData, short: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length, "measure_rate", lambda *_: 1000.0)
    fixed = fix_length(tmp_path / "length.json", prepared, short).training
    assert fixed.minutes == 0
    assert fixed.total_images == 568  # 0.95 · 1,000 images/s · 0.6 s in batches of 8
    assert read_length(tmp_path / "length.json") == Length(0.01, 1000.0, 568)


def test_a_faster_machine_goes_on_to_the_same_number_of_images(
    prepared: PreparedData, short: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length, "measure_rate", lambda *_: 200.0)

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        train(prepared, short, tmp_path, Callbacks(report=kill))
    monkeypatch.setattr(length, "measure_rate", lambda *_: 9000.0)
    result = train(prepared, short, tmp_path)
    assert result.summary.nimg == 112
    whole = with_(short, training__minutes=0.0, training__total_images=112)
    assert train(prepared, whole, tmp_path / "whole").summary.weights_sha256 == result.summary.weights_sha256


@pytest.mark.parametrize("loss", ["logistic", "bce"])
def test_measuring_changes_nothing_in_the_training(
    prepared: PreparedData, settings: Settings, tmp_path: Path, loss: str
) -> None:
    settings = with_(settings, loss__name=loss, training__minutes=0.001)
    expected = train(prepared, with_(settings, training__minutes=0.0), tmp_path / "a").summary.weights_sha256
    assert measure_rate(prepared, settings) > 0
    assert (
        train(prepared, with_(settings, training__minutes=0.0), tmp_path / "b").summary.weights_sha256
        == expected
    )


def test_even_the_shortest_time_trains_one_batch(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length, "measure_rate", lambda *_: 0.1)
    fixed = fix_length(tmp_path / "length.json", prepared, with_(settings, training__minutes=0.01))
    assert fixed.training.total_images == settings.training.batch_images


def test_intervals_of_zero_follow_the_length(settings: Settings) -> None:
    automatic = with_(
        settings,
        training__total_images=1_200_000,
        training__log_every_images=0,
        training__grid_every_images=0,
        training__save_every_images=0,
    ).training
    assert (automatic.log_interval(), automatic.grid_interval(), automatic.save_interval()) == (
        12_000,
        100_000,
        60_000,
    )
    assert with_(settings, training__save_every_images=0).training.save_interval() == 50 * 8
    assert settings.training.save_interval() == 32
