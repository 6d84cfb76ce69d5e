"""Training networks that grow: what learns when, exact resumption, and steps that get dearer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.compute.distributed import Distributed
from ganpipe.errors import GanpipeError
from ganpipe.models.io import save_generator
from ganpipe.models.progan import Growing
from ganpipe.models.registry import sample
from ganpipe.progress import Progress
from ganpipe.settings.schema import Settings
from ganpipe.training import length, probe
from ganpipe.training.algorithm import Phase, TrainingContext
from ganpipe.training.callbacks import Callbacks, TrainResult
from ganpipe.training.divergence import Remedies
from ganpipe.training.gan import GanAlgorithm
from ganpipe.training.probe import ProbeResult
from ganpipe.training.setup import TrainingSetup
from ganpipe.training.trainer import train
from ganpipe.training.warm_start import WarmStart
from tests.conftest import PROGAN, Killed, noise_data, with_

CPU = torch.device("cpu")
FP32 = Compute(CPU, "fp32")


@pytest.fixture(scope="module")
def growing(settings: Settings) -> Settings:
    """At 16 pixels: 4, to 8, 8, to 16, each for 24 images or 3 steps; then full size for 4 steps."""
    return with_(
        settings,
        **PROGAN,
        training__total_images=128,
        training__growth_share=0.75,
        training__save_every_images=8,
        training__grid_every_images=128,
    )


@dataclass(frozen=True)
class Trained:
    """A training that nobody killed."""

    result: TrainResult
    checkpoint: dict[str, Any]


@pytest.fixture(scope="module")
def whole(growing: Settings, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("whole")
    return Trained(train(noise_data(), growing, folder), checkpoint(folder))


def algorithm_of(settings: Settings, side: int = 16) -> GanAlgorithm:
    return GanAlgorithm(TrainingContext(noise_data(side), settings, FP32))


def checkpoint(folder: Path) -> dict[str, Any]:
    saved = load_checkpoint(folder / "checkpoints", CPU)
    assert saved is not None
    return saved


@pytest.mark.parametrize("nimg", [32, 40, 56, 80, 104])
def test_a_kill_in_a_fade_or_between_two_phases_changes_no_bit(
    growing: Settings, whole: Trained, tmp_path: Path, nimg: int
) -> None:
    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= nimg:
            raise Killed

    with pytest.raises(Killed):
        train(noise_data(), growing, tmp_path, Callbacks(report=kill))
    assert checkpoint(tmp_path)["nimg"] == nimg - 8
    resumed = train(noise_data(), growing, tmp_path).summary
    assert resumed.weights_sha256 == whole.result.summary.weights_sha256


def test_only_what_is_in_use_learns(growing: Settings) -> None:
    """Nothing of 8 pixels while there are 4; nothing from 4 pixels once there are 8; Adam's steps count from the first use."""
    algorithm = algorithm_of(growing)
    at: dict[int, dict[str, dict[str, torch.Tensor]]] = {}
    for nimg in range(0, 80, 8):
        at[nimg] = {name: copy.deepcopy(net.state_dict()) for name, net in algorithm.networks.items()}
        algorithm.set_progress(nimg)
        algorithm.step(algorithm.batch(nimg, 8, nimg // 8), algorithm.values_at(nimg, Remedies()), nimg // 8)
    for name, network in algorithm.networks.items():
        for key in ("blocks.1.first.weight", "images.1.weight"):
            assert torch.equal(at[24][name][key], at[0][name][key])
            assert not torch.equal(at[48][name][key], at[24][name][key])
        assert not torch.equal(at[48][name]["images.0.weight"], at[24][name]["images.0.weight"])
        assert torch.equal(at[72][name]["images.0.weight"], at[48][name]["images.0.weight"])
        steps = {
            key: algorithm.optimizers[name].state[weight].get("step")
            for key, weight in network.named_parameters()
        }
        assert steps["blocks.0.first.weight"] == 10
        assert (
            steps["blocks.1.first.weight"] == 6
        )  # α is 0 in the first step of the fade, which is one of 4 pixels
        assert steps["blocks.2.first.weight"] is None


def test_the_model_and_its_average_end_at_full_size(whole: Trained) -> None:
    model = whole.result.model
    assert isinstance(model, Growing)
    assert model.progress == 2
    images = sample(model, torch.randn(2, 8))
    assert images.shape == (2, 3, 16, 16)
    assert not torch.equal(images[..., ::2, ::2], images[..., 1::2, 1::2])


def test_phases_say_how_many_images_are_left_of_each(growing: Settings) -> None:
    algorithm = algorithm_of(growing)
    phases = algorithm.phases(0, 128)
    assert [phase.images for phase in phases] == [24, 24, 24, 24, 32]
    assert [phase.images for phase in algorithm.phases(60, 128)] == [0, 0, 12, 24, 32]
    shapes = []
    for phase in phases:
        algorithm.set_progress(phase.nimg)
        G = algorithm.networks["G"]
        assert isinstance(G, Growing)
        shapes.append((G.level, G.alpha == 1))
    assert shapes == [(0, True), (1, False), (1, True), (2, False), (2, True)]


def test_the_expected_duration_counts_cheaper_phases_by_their_share() -> None:
    plan = ProbeResult(8, 2.0, 0, 0, (0.25, 0.5))
    assert "about 40 s" in plan.sentence([160, 160, 40], 8, 1, "cpu")  # (40 + 80 + 40) / 8 · 2 s


@pytest.mark.parametrize("killed_at", [None, 56])
def test_the_time_left_counts_the_dearer_steps_to_come(
    growing: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int | None
) -> None:
    """Of 24, 24, 24, 24 and 32 images that take 0.1, 0.1, 0.1, 0.5 and 1: 7.2 + 12 + 32 in images at full size."""
    monkeypatch.setattr(probe, "_share", lambda *_: next(shares))
    shares = iter([0.1, 0.1, 0.1, 0.5])
    if killed_at:

        def kill(progress: Progress) -> None:
            if progress.done >= killed_at:
                raise Killed

        with pytest.raises(Killed):
            train(noise_data(), growing, tmp_path, Callbacks(report=kill))
    reports: list[Progress] = []
    train(noise_data(), growing, tmp_path, Callbacks(report=reports.append))
    at_72 = next(report for report in reports if report.done == 72)
    done = 7.2 - (4.8 if killed_at else 0)  # resumed at 48
    assert at_72.left_s == pytest.approx(at_72.elapsed_s * (12 + 32) / done)
    assert reports[-1].left_s == 0


def test_the_probe_finds_memory_at_full_size_and_the_share_of_each_phase(
    growing: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is said to take as long as its images have pixels on a side."""
    setup = TrainingSetup(noise_data(), growing, tmp_path, Distributed())
    sides: list[int] = []

    def measure(step: Any, images: int, device: torch.device) -> tuple[float, int]:
        step(images)
        return float(sides[-1]), images

    monkeypatch.setattr(probe, "measure_step", measure)
    step = GanAlgorithm.step

    def watched(self: GanAlgorithm, *args: Any) -> Any:
        G = self.networks["G"]
        assert isinstance(G, Growing)
        sides.append(4 * 2**G.level)
        return step(self, *args)

    monkeypatch.setattr(GanAlgorithm, "step", watched)
    plan = setup.probe()
    assert sides[:4] == [16] * 4
    assert plan.shares == [0.25, 0.5, 0.5, 1.0]
    assert isinstance(setup.state.algorithm.networks["G"], Growing)
    assert setup.state.algorithm.networks["G"].progress == 0


@pytest.mark.parametrize(("start", "rate"), [("scratch", 128 * 8 / (6 + 12 + 12 + 24 + 32)), ("champion", 8)])
def test_minutes_count_each_phase_at_its_own_rate(
    growing: Settings, monkeypatch: pytest.MonkeyPatch, start: str, rate: float
) -> None:
    """A step of 8 images is said to take a quarter, half and all of a second at 4, 8 and 16 pixels."""
    seen: list[Growing] = []
    begin = Growing.begin_growth

    def remember(self: Growing, images: int) -> None:
        seen.append(self)
        begin(self, images)

    monkeypatch.setattr(Growing, "begin_growth", remember)
    monkeypatch.setattr(length, "_seconds_a_step", lambda *_: 2 ** (seen[0].level - 2))
    measured = length.measure_rate(noise_data(), with_(growing, training__start_from=start))
    assert measured == pytest.approx(rate)


def test_parts_of_a_batch_are_larger_while_images_are_smaller(growing: Settings) -> None:
    """Twice as many images for each doubling that is left: two at 16 pixels, four at 8."""
    algorithm = algorithm_of(growing)
    step = algorithm.gan_step
    assert step._part_images(2) == 8
    algorithm.set_progress(50)
    assert step._part_images(2) == 4
    algorithm.set_progress(96)
    assert step._part_images(2) == 2
    assert step._part_images(0) == 0


def test_a_warm_start_begins_at_the_size_that_the_other_run_had(
    growing: Settings, whole: Trained, tmp_path: Path
) -> None:
    WarmStart.of_run("noise-1", whole.checkpoint).write(tmp_path)
    warm = with_(
        growing,
        training__start_from="champion",
        training__freeze_d_layers=2,
        training__total_images=16,
    )
    train(noise_data(), warm, tmp_path)
    before, after = whole.checkpoint["D"], checkpoint(tmp_path)["D"]
    for name in ("images.2.weight", "blocks.2.first.weight"):
        assert torch.equal(after[name], before[name]), "frozen"
    for name in ("blocks.2.second.weight", "blocks.1.first.weight"):
        assert not torch.equal(after[name], before[name])
    assert torch.equal(after["images.1.weight"], before["images.1.weight"]), "no longer in use"


def test_a_warm_start_grows_on_to_a_larger_size(growing: Settings, whole: Trained, tmp_path: Path) -> None:
    WarmStart.of_run("noise-1", whole.checkpoint).write(tmp_path)
    larger = with_(growing, training__start_from="champion")
    setup = TrainingSetup(noise_data(32), larger, tmp_path, Distributed())
    for network in (*setup.state.algorithm.networks.values(), setup.state.ema):
        assert isinstance(network, Growing)
        assert (network.levels, network.progress) == (3, 2)
        network.set_progress(128)
        assert network.progress == 3


def test_a_fresh_d_has_the_size_of_a_generator_that_was_given(
    growing: Settings, whole: Trained, tmp_path: Path
) -> None:
    """From the file of a saved generator, which holds no D."""
    save_generator(tmp_path, whole.result.model, growing.model, noise_data().shape, {})
    WarmStart.of_file(tmp_path / "generator.safetensors").write(tmp_path)
    options = with_(growing, training__start_from="champion", training__total_images=16)
    result = train(noise_data(), options, tmp_path)
    D = checkpoint(tmp_path)["D"]
    assert float(D["_extra_state"]) == 2
    assert "G " in result.summary.notes[0]


def test_progress_is_not_taken_over_without_weights(growing: Settings, whole: Trained) -> None:
    """Of a D with other widths a few biases fit."""
    start = WarmStart.of_run("noise-1", whole.checkpoint)
    wider = algorithm_of(with_(growing, model__width=0.05)).networks
    start.load(wider)
    assert "_extra_state" in start.unfit("D", wider["D"])
    assert isinstance(wider["D"], Growing)
    assert wider["D"].progress == 0


def test_frozen_layers_that_the_other_run_did_not_have_are_refused(
    growing: Settings, whole: Trained, tmp_path: Path
) -> None:
    WarmStart.of_run("noise-1", whole.checkpoint).write(tmp_path)
    larger = with_(growing, training__start_from="champion", training__freeze_d_layers=1)
    with pytest.raises(GanpipeError, match=r"would freeze fresh weights: images\.3\."):
        TrainingSetup(noise_data(32), larger, tmp_path, Distributed())


def test_a_growing_network_is_not_compiled_and_says_so(
    growing: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    algorithm = algorithm_of(with_(growing, training__compile="yes"))
    assert not algorithm.gan_step.compiled
    assert "model.name=progan keeps state beside its weights" in caplog.text


def test_a_phase_of_another_algorithm_is_the_whole_training(settings: Settings) -> None:
    assert algorithm_of(settings).phases(40, 128) == (Phase(88, 40),)
