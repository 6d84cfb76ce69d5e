"""Post-hoc EMA: the profile of an average, its rebuilding from snapshots, and the choice of a length."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.errors import GanpipeError
from ganpipe.settings.schema import Settings
from ganpipe.training import checkpointing, validation
from ganpipe.training.callbacks import Callbacks
from ganpipe.training.divergence import Divergence
from ganpipe.training.gan import GanAlgorithm
from ganpipe.training.posthoc_ema import (
    FOLDER,
    KEPT_SIGMA_REL,
    TRIED_SIGMA_REL,
    inner_products,
    power_of,
    rebuild_average,
    rebuild_weights,
    save_snapshot,
    update_power_averages,
)
from ganpipe.training.trainer import train
from tests.conftest import Killed, noise_data, with_
from tests.training.test_validation import blob_data, blobs

CPU = torch.device("cpu")


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    return with_(settings, training__ema_snapshots=4)


def snapshots_in(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "checkpoints" / FOLDER).glob("*")}


def test_the_power_has_the_relative_standard_deviation_of_its_profile() -> None:
    for sigma_rel in (*KEPT_SIGMA_REL, *TRIED_SIGMA_REL, 0.28):
        gamma = power_of(sigma_rel)
        assert (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5) == pytest.approx(sigma_rel)
    assert [round(power_of(sigma_rel), 2) for sigma_rel in KEPT_SIGMA_REL] == [16.97, 6.94]


@pytest.mark.parametrize("sigma_rel", [0.0, 0.29, 1.0])
def test_a_length_that_no_profile_has_is_refused(sigma_rel: float) -> None:
    with pytest.raises(GanpipeError, match=r"must be above 0 and at most 0\.28"):
        power_of(sigma_rel)


def test_inner_products_are_the_integrals_of_the_products() -> None:
    profiles = np.array([3.0, 5.0, 5.0]), np.array([0.5, 7.0, 17.0])
    tau = np.linspace(0, 5, 200_001)
    density = np.stack([(g + 1) * tau**g / t ** (g + 1) * (tau <= t) for t, g in zip(*profiles, strict=True)])
    assert inner_products(profiles, profiles) == pytest.approx(density @ density.T * tau[1], rel=1e-3)


class Steps(nn.Module):
    """A "network" whose weights follow a path: `[steps, size]`."""

    def __init__(self, path: Tensor) -> None:
        super().__init__()
        self.path, self.weight = path, nn.Parameter(path[0].clone())
        self.register_buffer("step", torch.tensor(0))

    def at(self, step: int) -> Steps:
        self.step = torch.tensor(step)
        self.weight.data.copy_(self.path[step])
        return self


def average_along(
    path: Tensor, sigma_rel: tuple[float, ...], batch: int, folder: Path | None, every: int
) -> Steps:
    """The first of the averages of a path; snapshots of all of them go into the folder."""
    network = Steps(path)
    averages: dict[float, nn.Module] = {sigma: copy.deepcopy(network) for sigma in sigma_rel}
    for step in range(len(path)):
        update_power_averages(averages, network.at(step), (step + 1) * batch, batch)
        if folder and (step + 1) % every == 0:
            save_snapshot(folder, averages, (step + 1) * batch)
    first = averages[sigma_rel[0]]
    assert isinstance(first, Steps)
    return first


def test_every_step_has_the_integral_of_the_profile_as_its_weight() -> None:
    steps, batch = 20, 8
    for sigma_rel in (0.05, 0.10, 0.25):
        average = average_along(torch.eye(steps, dtype=torch.float64), (sigma_rel,), batch, None, 1)
        edges = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** (power_of(sigma_rel) + 1)
        assert torch.allclose(average.weight, edges.diff(), atol=1e-12)


def random_walk(steps: int) -> Tensor:
    return torch.randn(steps, 50, generator=torch.Generator().manual_seed(0)).cumsum(0)


def test_a_rebuilt_average_of_a_kept_length_is_the_kept_one(tmp_path: Path) -> None:
    path = random_walk(320)
    for sigma_rel in KEPT_SIGMA_REL:
        other = tuple(sigma for sigma in KEPT_SIGMA_REL if sigma != sigma_rel)
        kept = average_along(path, (sigma_rel, *other), 8, tmp_path, 20)
        rebuilt = rebuild_average(tmp_path, Steps(path), sigma_rel)
        assert torch.allclose(rebuilt.weight, kept.weight, rtol=1e-6, atol=1e-6)


def test_a_rebuilt_average_is_the_one_that_would_have_been_kept(tmp_path: Path) -> None:
    """Relative to how far the weights move in training; with as few snapshots as the documentation names."""
    path = random_walk(800)
    average_along(path, KEPT_SIGMA_REL, 8, tmp_path, 50)
    for sigma_rel in TRIED_SIGMA_REL:
        kept = average_along(path, (sigma_rel,), 8, None, 1)
        rebuilt = rebuild_average(tmp_path, Steps(path), sigma_rel)
        assert (rebuilt.weight - kept.weight).norm() < 0.02 * path.std(0).norm()


def test_the_weights_of_a_rebuilt_average_sum_to_one() -> None:
    kept = [(nimg, sigma) for nimg in range(1000, 17_000, 1000) for sigma in KEPT_SIGMA_REL]
    for sigma_rel in TRIED_SIGMA_REL:
        assert rebuild_weights(kept, 16_000, sigma_rel).sum() == pytest.approx(1, abs=0.004)


def test_a_rebuilt_average_has_the_running_statistics_of_the_last_step(tmp_path: Path) -> None:
    path = random_walk(40)
    last = average_along(path, KEPT_SIGMA_REL, 8, tmp_path, 10)
    assert int(rebuild_average(tmp_path, last, 0.07).step) == 39


def test_without_snapshots_nothing_is_rebuilt(tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match=r"has no snapshots; .* training.ema_snapshots"):
        rebuild_average(tmp_path, Steps(random_walk(2)), 0.07)


def test_kept_averages_change_no_weight_and_no_point(
    keeping: Settings, settings: Settings, tmp_path: Path
) -> None:
    for options, name in ((keeping, "with"), (settings, "without")):
        train(noise_data(), options, tmp_path / name)
    saved = [load_checkpoint(tmp_path / name / "checkpoints", CPU) for name in ("with", "without")]
    assert saved[0] is not None
    assert saved[1] is not None
    for network in ("G", "D", "G_ema"):
        assert all(torch.equal(saved[0][network][key], value) for key, value in saved[1][network].items())
    assert set(saved[0]) - set(saved[1]) == {"G_ema_0.05", "G_ema_0.1"}


def test_a_killed_training_ends_with_the_same_snapshots(keeping: Settings, tmp_path: Path) -> None:
    expected = train(noise_data(), keeping, tmp_path / "whole").summary.weights_sha256

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= 56:  # a snapshot at 48, and the last checkpoint at 32
            raise Killed

    with pytest.raises(Killed):
        train(noise_data(), keeping, tmp_path / "parts", Callbacks(report=kill))
    assert sorted(snapshots_in(tmp_path / "parts"))[-1] == "000000000048.safetensors"
    assert train(noise_data(), keeping, tmp_path / "parts").summary.weights_sha256 == expected
    assert snapshots_in(tmp_path / "parts") == snapshots_in(tmp_path / "whole")
    assert sorted(snapshots_in(tmp_path / "whole")) == [
        f"{nimg:012d}.safetensors" for nimg in (16, 32, 48, 64)
    ]


def test_a_rollback_deletes_the_snapshots_that_it_goes_back_behind(
    keeping: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, seen = [], []

    def diverged(self: GanAlgorithm, means: object, nimg: int) -> Divergence | None:
        points.append(nimg)
        return Divergence("made up") if points == [16, 32, 48] else None

    def look(progress: object) -> None:
        seen.append((getattr(progress, "done", 0), len(snapshots_in(tmp_path))))

    monkeypatch.setattr(GanAlgorithm, "diverged", diverged)
    train(noise_data(), keeping, tmp_path, Callbacks(report=look))
    assert seen.count((40, 2)) == 2  # the second time after three had been there
    assert len(snapshots_in(tmp_path)) == 4


class Tried:
    """Stands in for the rebuilding: images of σ_rel 0.07 are like the held-out ones, all others are gray."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good: float | None) -> None:
        self.good = good
        monkeypatch.setattr(checkpointing, "rebuild_average", self.rebuild)
        monkeypatch.setattr(validation, "generate_pixels", self.generate)

    def rebuild(self, folder: Path, like: nn.Module, sigma_rel: float) -> nn.Module:
        rebuilt = copy.deepcopy(like)
        rebuilt.sigma_rel = sigma_rel  # type: ignore[assignment]
        return rebuilt

    def generate(self, G: nn.Module, z_dim: int, counts: object, count: int, *rest: object) -> Tensor:
        if self.good is not None and getattr(G, "sigma_rel", None) == self.good:
            return blobs(count, 7)
        return torch.full((count, 16, 16, 3), 128, dtype=torch.uint8)


def test_the_length_whose_images_are_nearest_to_the_held_out_ones_becomes_the_model(
    keeping: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_features: None
) -> None:
    Tried(monkeypatch, good=0.07)
    result = train(blob_data(), with_(keeping, training__validation_images=32), tmp_path)
    assert result.model.sigma_rel == 0.07
    note = result.summary.notes[-1]
    assert note.startswith("The model is the average of σ_rel 0.07 (post-hoc EMA): it is nearer")
    assert result.summary.validation is not None
    assert f"0.07 {result.summary.validation.energy:.3f}" in note


def test_no_length_becomes_the_model_if_chance_explains_the_difference(
    keeping: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_features: None
) -> None:
    Tried(monkeypatch, good=None)
    result = train(blob_data(), with_(keeping, training__validation_images=32), tmp_path)
    assert not hasattr(result.model, "sigma_rel")
    assert "not better than the average at 64 images" in result.summary.notes[-1]


def test_a_damaged_snapshot_costs_the_choice_and_not_the_training(
    keeping: Settings, tmp_path: Path, pixel_features: None
) -> None:
    def damage(progress: object) -> None:
        for path in (tmp_path / "checkpoints" / FOLDER).glob("*16.safetensors"):
            path.write_bytes(b"no tensors")

    options = with_(keeping, training__validation_images=32)
    result = train(blob_data(), options, tmp_path, Callbacks(report=damage))
    assert "rebuilt no average. The snapshot" in result.summary.notes[-1]
    assert result.summary.nimg == 64


def test_the_chosen_model_is_rebuilt_from_the_snapshots(
    keeping: Settings, tmp_path: Path, pixel_features: None
) -> None:
    """Without stand-ins: whatever length wins, or none, the model has finite weights and draws."""
    result = train(blob_data(), with_(keeping, training__validation_images=32), tmp_path)
    assert "σ_rel" in result.summary.notes[-1]
    assert all(torch.isfinite(weight).all() for weight in result.model.parameters())
