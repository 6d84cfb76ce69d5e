"""Warm start: what fits is taken over, the rest is said, frozen layers do not learn, and a kill changes no bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

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
from ganpipe.training.warm_start import WarmStart, networks_in
from tests.conftest import R3, Killed, noise_data, with_

CPU = torch.device("cpu")


def trained(settings: Settings, folder: Path, side: int = 16) -> dict[str, Any]:
    """The last checkpoint of a training."""
    train(noise_data(side), settings, folder)
    saved = load_checkpoint(folder / "checkpoints", CPU)
    assert saved is not None
    return saved


def setup_from(saved: dict[str, Any], settings: Settings, folder: Path, side: int = 16) -> TrainingSetup:
    """Sets up a training that starts from this checkpoint."""
    WarmStart.of_run("noise-1", saved).write(folder)
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
    WarmStart.of_run("noise-1", saved).write(tmp_path / "second")
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
        WarmStart.of_run("noise-1", saved).write(tmp_path / name)
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
    WarmStart.of_run("noise-1", saved).write(tmp_path)
    start = WarmStart.read(tmp_path, training_compute(settings.training).device)
    assert start is not None
    assert set(start.weights) == {"G", "D", "G_ema"}


def setup_from_file(tensors: dict[str, Tensor], settings: Settings, folder: Path) -> TrainingSetup:
    """Sets up a training that starts from a file with these tensors."""
    folder.mkdir(parents=True)
    save_file({key: t.contiguous() for key, t in tensors.items()}, folder / "weights.safetensors")
    WarmStart.of_file(folder / "weights.safetensors").write(folder)
    return TrainingSetup(noise_data(), settings, folder, Distributed())


def test_a_file_of_a_generator_gives_g_and_its_average_and_d_starts_fresh(
    settings: Settings, tmp_path: Path
) -> None:
    saved = trained(settings, tmp_path / "first")
    setup = setup_from_file(saved["G_ema"], settings, tmp_path / "second")
    fresh = TrainingSetup(noise_data(), settings, tmp_path / "alone", Distributed()).state.algorithm.networks
    for own in (setup.state.algorithm.networks["G"], setup.state.ema):
        assert all(torch.equal(tensor, saved["G_ema"][key]) for key, tensor in own.state_dict().items())
    D = setup.state.algorithm.networks["D"].state_dict()
    assert all(torch.equal(D[key], tensor) for key, tensor in fresh["D"].state_dict().items())
    [said] = setup.notes()
    assert said.startswith("It starts from weights.safetensors (SHA-256 ")
    assert ": G 14 of 14 tensors, D 0 of 10 " in said
    assert setup.restart().nimg == 0, "a rollback to the start finds the tensors again"


def test_a_file_names_networks_by_the_beginning_of_its_tensors(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    tensors = {f"{name}.{key}": t.clone() for name in ("G", "D", "G_ema") for key, t in saved[name].items()}
    frozen = with_(settings, training__freeze_d_layers=1)
    setup = setup_from_file(tensors, frozen, tmp_path / "second")
    for name, own in (*setup.state.algorithm.networks.items(), ("G_ema", setup.state.ema)):
        assert all(torch.equal(tensor, saved[name][key]) for key, tensor in own.state_dict().items()), name
    assert "start fresh" not in setup.notes()[0]


def test_a_file_of_which_nothing_fits_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(
        GanpipeError, match=r"no tensor of weights\.safetensors .* fits\. It has other \(2, 3\);"
    ):
        setup_from_file({"other": torch.zeros(2, 3)}, settings, tmp_path / "run")


def test_layers_that_a_file_does_not_hold_are_not_to_be_frozen(settings: Settings, tmp_path: Path) -> None:
    saved = trained(settings, tmp_path / "first")
    frozen = with_(settings, training__freeze_d_layers=1)
    with pytest.raises(GanpipeError, match=r"layers\.0\.weight of D is not in weights\.safetensors"):
        setup_from_file(saved["G"], frozen, tmp_path / "second")


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"x": torch.tensor([1.0, float("nan")])}, "holds values that are not finite, the first in x"),
        ({}, "holds no tensor"),
        (b"PK no tensors", "is no readable safetensors file"),
        (None, "is no readable safetensors file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(tensors: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    if isinstance(tensors, dict):
        save_file(tensors, path)
    elif tensors:
        path.write_bytes(tensors)
    with pytest.raises(GanpipeError, match=why):
        WarmStart.of_file(path)
