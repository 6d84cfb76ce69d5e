"""Warm start: what fits is taken over, the rest is said, frozen layers do not learn, and a kill changes no bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import training_compute
from ganpipe.compute.distributed import Distributed
from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import build_partner, first_layers
from ganpipe.settings.schema import Settings
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.schedules import values_at
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.trainer import train
from ganpipe.training.warm_start import WarmStart, networks_in, write_start
from tests.conftest import R3, Killed, noise_data, with_

CPU = torch.device("cpu")


def trained(settings: Settings, folder: Path, side: int = 16) -> dict[str, Any]:
    """The last checkpoint of a training."""
    train(noise_data(side), settings, folder)
    saved = load_checkpoint(folder / "checkpoints", CPU)
    assert saved is not None
    return saved


def setup_from(saved: dict[str, Any], settings: Settings, folder: Path, side: int = 16) -> TrainingSetup:
    """What a training that starts from this checkpoint begins with."""
    write_start(folder, "noise-1", saved)
    return TrainingSetup(noise_data(side), settings, folder, Distributed())


@pytest.mark.parametrize("changed", [{}, R3])
def test_networks_and_average_begin_as_the_other_run_ended(
    settings: Settings, tmp_path: Path, changed: dict[str, object]
) -> None:
    settings = with_(settings, **changed)
    saved = trained(settings, tmp_path / "first")
    setup = setup_from(saved, settings, tmp_path / "second")
    for name in ("G", "D"):
        own = setup.state.algorithm.networks[name].state_dict()
        assert all(torch.equal(own[key], saved[name][key]) for key in own), name
    ema = setup.state.ema.state_dict()
    assert all(torch.equal(ema[key], saved["G_ema"][key]) for key in ema)
    assert not all(torch.equal(saved["G"][key], saved["G_ema"][key]) for key in ema), "they differ"
    assert setup.state.nimg == 0
    [said] = setup.notes()
    assert said.startswith("It starts from run noise-1 at 64 images: G ")
    assert "start fresh" not in said


def test_what_does_not_fit_starts_fresh_and_is_named(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    wider = with_(settings, model__d_channels=8)
    setup = setup_from(saved, wider, tmp_path / "second")
    alone = TrainingSetup(noise_data(), wider, tmp_path / "alone", Distributed())
    warm, fresh = (s.state.algorithm.networks["D"].state_dict() for s in (setup, alone))
    assert torch.equal(warm["layers.0.weight"], fresh["layers.0.weight"])
    assert torch.equal(setup.state.algorithm.networks["G"].layers[0].weight, saved["G"]["layers.0.weight"])  # type: ignore[index]
    [said] = setup.notes()
    assert "These do not fit and start fresh: D.layers.0.weight, " in said
    assert alone.notes() == []


def test_a_network_of_another_kind_starts_fresh_altogether(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    setup = setup_from(saved, with_(settings, **R3), tmp_path / "second")
    assert ": G 0 of " in setup.notes()[0]


@pytest.mark.parametrize("changed", [{}, R3, {"model__spectral_norm": True}])
def test_frozen_layers_keep_their_weights_and_the_others_learn(
    settings: Settings, tmp_path: Path, changed: dict[str, object]
) -> None:
    settings = with_(settings, **changed)
    saved = trained(settings, tmp_path / "first")
    frozen = with_(settings, training__start_from="champion", training__freeze_d_layers=2)
    write_start(tmp_path / "second", "noise-1", saved)
    train(noise_data(), frozen, tmp_path / "second")
    after = load_checkpoint(tmp_path / "second" / "checkpoints", CPU)
    assert after is not None
    D = build_partner(frozen.model, ImageShape(3, 16, 16))
    names = first_layers(D, 2, ImageShape(3, 16, 16))
    assert 2 <= len(names) < len(dict(D.named_parameters()))
    for name, _ in D.named_parameters():
        assert torch.equal(after["D"][name], saved["D"][name]) == (name in names), name


def test_layers_are_counted_in_the_order_in_which_an_image_passes_them(settings: Settings) -> None:
    """R3GAN registers the layers that halve an image after all others."""
    shape, model = ImageShape(3, 16, 16), with_(settings, **R3, model__taper_from_px=4).model
    D = build_partner(model, shape)
    assert first_layers(D, 1, shape) == {"from_image.weight"}
    assert first_layers(D, 8, shape) - first_layers(D, 7, shape) == {"changes.1.1.weight"}
    assert not any(name.startswith("stages.2") for name in first_layers(D, 8, shape))


def test_freezing_all_of_d_is_refused(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    frozen = with_(settings, training__start_from="champion", training__freeze_d_layers=9)
    with pytest.raises(GanpipeError, match="D has 3 layers; it must be at most 2"):
        setup_from(saved, frozen, tmp_path / "second")


def test_fresh_weights_are_never_frozen(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    frozen = with_(settings, training__freeze_d_layers=1)
    scratch = TrainingSetup(noise_data(), frozen, tmp_path / "scratch", Distributed())
    assert not scratch.state.algorithm.frozen["D"]
    with pytest.raises(GanpipeError, match=r"layers\.0\.weight of D has another shape"):
        setup_from(saved, with_(frozen, model__d_channels=8), tmp_path / "second")


def test_a_killed_warm_start_ends_with_the_same_bits(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    settings = with_(settings, training__start_from="champion", training__freeze_d_layers=1)
    for name in ("whole", "parts"):
        write_start(tmp_path / name, "noise-1", saved)
    expected = train(noise_data(), settings, tmp_path / "whole")

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 40:
            raise Killed

    with pytest.raises(Killed):
        train(noise_data(), settings, tmp_path / "parts", Callbacks(report=kill))
    resumed = train(noise_data(), settings, tmp_path / "parts")
    assert resumed.summary.weights_sha256 == expected.summary.weights_sha256
    assert resumed.summary.notes == expected.summary.notes
    cold = train(noise_data(), settings, tmp_path / "cold")
    assert cold.summary.weights_sha256 != expected.summary.weights_sha256


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_average_of_a_warm_start_has_no_warm_up(settings: Settings, schedule: str) -> None:
    settings = with_(settings, training__ema_schedule=schedule, training__ema_halflife_images=1000)
    assert values_at(8, settings).ema_halflife_images < 100
    assert values_at(8, settings, warm=True).ema_halflife_images == 1000


def test_optimizers_and_histories_are_no_networks(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path)
    assert set(networks_in(saved)) == {"G", "D", "G_ema"}
    write_start(tmp_path, "noise-1", saved)
    start = WarmStart.read(tmp_path, training_compute(settings.training).device)
    assert start is not None
    assert set(start.weights) == {"G", "D", "G_ema"}
