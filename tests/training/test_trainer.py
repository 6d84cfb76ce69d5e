"""Training: exact resume, clear failures, and a loss that really falls."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganpipe.compute.checkpoints import load_checkpoint, save_checkpoint
from ganpipe.compute.random import ORDER, InfiniteSampler, latents
from ganpipe.data.shards import PreparedData, Split
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.models.io import WEIGHTS, load_generator, save_generator
from ganpipe.models.registry import build_generator
from ganpipe.settings.schema import Settings
from ganpipe.training import checkpointing
from ganpipe.training.batches import ImageBatches
from ganpipe.training.callbacks import Callbacks, Point
from ganpipe.training.ema import update_ema
from ganpipe.training.trainer import due, train
from tests.conftest import Killed, with_

CPU = torch.device("cpu")


@pytest.mark.parametrize("model", ["dcgan", "mlp"])
@pytest.mark.parametrize("loss", ["logistic", "bce"])
@pytest.mark.parametrize("killed_at", [8, 40])
def test_a_killed_run_ends_with_the_same_bits_and_the_same_curve(
    prepared: PreparedData, settings: Settings, tmp_path: Path, model: str, loss: str, killed_at: int
) -> None:
    """Before the first checkpoint and between two: weights, optimizers, average and points are identical."""
    settings = with_(settings, model__name=model, loss__name=loss, model__mlp_width=8, loss__penalty_every=3)
    whole: list[Point] = []
    expected = train(prepared, settings, tmp_path / "whole", Callbacks(points=whole.extend))

    parts: list[Point] = []

    def kill(progress: object) -> None:
        if getattr(progress, "done", 0) >= killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(prepared, settings, tmp_path / "parts", Callbacks(points=parts.extend, report=kill))
    result = train(prepared, settings, tmp_path / "parts", Callbacks(points=parts.extend))
    assert result.summary.weights_sha256 == expected.summary.weights_sha256
    assert parts == whole


def test_a_killed_run_ends_with_the_same_bits_in_two_threads(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    """The other tests compute in one."""
    few = with_(settings, training__total_images=32, training__save_every_images=16)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        test_a_killed_run_ends_with_the_same_bits_and_the_same_curve(
            prepared, few, tmp_path, "dcgan", "logistic", 24
        )
    finally:
        torch.set_num_threads(before)


def test_another_seed_gives_other_weights(prepared: PreparedData, settings: Settings, tmp_path: Path) -> None:
    first = train(prepared, settings, tmp_path / "a")
    other = train(prepared, with_(settings, training__seed=1), tmp_path / "b")
    assert first.summary.weights_sha256 != other.summary.weights_sha256


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    prepared: PreparedData, settings: Settings, tmp_path: Path, signum: int, code: int
) -> None:
    expected = train(prepared, settings, tmp_path / "whole").summary.weights_sha256

    def interrupt(progress: object) -> None:
        if getattr(progress, "done", 0) == 24:
            os.kill(os.getpid(), signum)

    with pytest.raises(Interrupted, match="24 of 64 images") as stopped:
        train(prepared, settings, tmp_path / "parts", Callbacks(report=interrupt))
    assert stopped.value.exit_code == code
    assert train(prepared, settings, tmp_path / "parts").summary.weights_sha256 == expected


def test_training_draws_a_grid_of_the_same_latents(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    result = train(prepared, settings, tmp_path)
    assert [path.stem for path in result.grids] == ["000000000032", "000000000064"]


def test_the_discriminator_learns_to_tell_real_from_fake(settings: Settings, tmp_path: Path) -> None:
    """On white images against a frozen generator D's gap grows: the two phases do what they say."""
    white = torch.full((40, 16, 16, 3), 255, dtype=torch.uint8)
    labels = torch.full((40,), -1)
    data = PreparedData("white", "v", _shape(), (), Split.of(white, labels), Split.of(white, labels))
    points: list[Point] = []
    quick = with_(
        settings, training__g_lr=0.0, training__d_lr=1e-3, training__total_images=1600, loss__gamma=0.0
    )
    train(data, quick, tmp_path, Callbacks(points=points.extend))
    assert points[-1].values["d_gap"] > 1 + points[0].values["d_gap"]


def test_the_generator_learns_the_mean_of_its_data(settings: Settings, tmp_path: Path) -> None:
    """On images of one color, generated images move towards that color."""
    red = torch.zeros(64, 16, 16, 3, dtype=torch.uint8)
    red[..., 0] = 255
    labels = torch.full((64,), -1)
    data = PreparedData("red", "v", _shape(), (), Split.of(red, labels), Split.of(red, labels))
    quick = with_(
        settings,
        training__total_images=2400,  # later D tells this one color from any other, and training stops
        training__g_lr=2e-3,
        training__d_lr=2e-3,
        training__ema_halflife_images=50,
        model__g_channels=8,
        model__d_channels=8,
    )
    result = train(data, quick, tmp_path)
    from ganpipe.models.registry import sample

    mean = sample(result.model, torch.randn(32, 8)).mean((0, 2, 3))
    assert mean[0] > 0.3
    assert mean[1] < -0.3
    assert mean[2] < -0.3


def _shape() -> object:
    from ganpipe.imaging.image import ImageShape

    return ImageShape(3, 16, 16)


def test_d_is_left_alone_while_its_loss_is_too_low(
    prepared: PreparedData, settings: Settings, tmp_path: Path
) -> None:
    points: list[Point] = []
    train(
        prepared,
        with_(settings, training__skip_d_below_loss=1e9),
        tmp_path / "always",
        Callbacks(points=points.extend),
    )
    assert all(p.values["d_skipped"] == 1 for p in points)
    points.clear()
    train(prepared, settings, tmp_path / "never", Callbacks(points=points.extend))
    assert all(p.values["d_skipped"] == 0 for p in points)


def test_a_loss_that_is_not_finite_stops_with_its_evidence(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganpipe.training.losses import LOSSES

    broken = replace(LOSSES["logistic"], g_loss=lambda fake, real: fake.mean() * float("nan"))
    monkeypatch.setitem(LOSSES, "logistic", broken)
    with pytest.raises(GanpipeError, match=r"diverged at 16 images: .*loss_g.*Lower training\.d_lr"):
        train(prepared, settings, tmp_path)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for nimg in (8, 16, 24):
        save_checkpoint(tmp_path, f"{nimg:03d}", {"nimg": nimg})
    assert len(list(tmp_path.glob("*.pt"))) == 2
    newest = tmp_path / "024.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    assert load_checkpoint(tmp_path, CPU) == {"nimg": 16}
    assert "damaged" in caplog.text
    (tmp_path / "016.pt").unlink()
    with pytest.raises(GanpipeError, match="All 2 checkpoints"):
        load_checkpoint(tmp_path, CPU)


def test_a_checkpoint_without_its_checksum_does_not_count(tmp_path: Path) -> None:
    """A kill between the two files leaves the earlier checkpoint as the newest."""
    save_checkpoint(tmp_path, "008", {"nimg": 8})
    save_checkpoint(tmp_path, "016", {"nimg": 16})
    (tmp_path / "016.json").unlink()
    assert load_checkpoint(tmp_path, CPU) == {"nimg": 8}


def test_a_full_disk_keeps_the_previous_checkpoint(
    prepared: PreparedData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_save = checkpointing.save_checkpoint

    def save(folder: Path, name: str, state: dict[str, object]) -> Path:
        if name > "0-000000000032":
            raise GanpipeError("Could not write x: the disk is full; free some room and run again.")
        return real_save(folder, name, state)

    monkeypatch.setattr(checkpointing, "save_checkpoint", save)
    with pytest.raises(GanpipeError, match="disk is full"):
        train(prepared, settings, tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoints", CPU)
    assert saved is not None
    assert saved["nimg"] == 32


def test_every_image_is_shown_once_an_epoch_wherever_batches_begin() -> None:
    images = InfiniteSampler(10, 3, ORDER)
    order = torch.cat([images.rows(start, 4) for start in range(0, 40, 4)])
    for epoch in order.reshape(4, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(order[:10], order[10:20])
    assert torch.equal(images.rows(7, 25), order[7:32])


def test_several_shards_are_one_split() -> None:
    whole = torch.arange(10 * 4, dtype=torch.uint8).view(10, 2, 2, 1)
    split = Split((whole[:3], whole[3:4], whole[4:]), torch.arange(10))
    rows = torch.tensor([9, 0, 3, 2, 4, 9])
    pixels, labels = split.rows(rows)
    assert torch.equal(pixels, whole[rows])
    assert torch.equal(labels, rows)
    assert len(split) == 10
    assert split.nbytes == 40


def test_mirroring_shows_about_half_of_the_images_mirrored() -> None:
    pixels = torch.zeros(64, 4, 4, 1, dtype=torch.uint8)
    pixels[:, :, 0] = 255
    split = Split.of(pixels, torch.full((64,), -1))
    batch, _ = ImageBatches(split, 0, True, CPU).batch(0, 64)
    mirrored = (batch[:, 0, 0, 3] == 1).float().mean()
    assert 0.3 < mirrored < 0.7
    assert (ImageBatches(split, 0, False, CPU).batch(0, 64)[0][:, 0, 0, 0] == 1).all()


def test_latents_are_a_function_of_seed_stream_and_counter() -> None:
    first = latents(0, 3, 64, 5, 8, CPU)
    assert torch.equal(first, latents(0, 3, 64, 5, 8, CPU))
    for other in (latents(1, 3, 64, 5, 8, CPU), latents(0, 4, 64, 5, 8, CPU), latents(0, 3, 65, 5, 8, CPU)):
        assert not torch.equal(first, other)


def test_the_average_has_half_of_the_old_after_its_half_life() -> None:
    old, new = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(old.weight)
    torch.nn.init.ones_(new.weight)
    for _ in range(10):
        update_ema(old, new, 10, 100)
    assert old.weight.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("every", "before", "now", "expected"), [(10, 0, 8, False), (10, 8, 16, True), (10, 10, 18, False)]
)
def test_due_says_whether_a_multiple_was_passed(every: int, before: int, now: int, expected: bool) -> None:
    assert due(every, before, now) is expected


def test_a_generator_survives_being_written_down(settings: Settings, tmp_path: Path) -> None:
    from ganpipe.imaging.image import ImageShape

    shape = ImageShape(3, 16, 16)
    G = build_generator(settings.model, shape).eval()
    save_generator(tmp_path, G, settings.model, shape, {"run": "r"})
    loaded, config = load_generator(tmp_path)
    z = torch.randn(2, settings.model.z_dim)
    assert torch.equal(loaded(z), G(z))
    assert config["origin"] == {"run": "r"}
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(GanpipeError, match="missing or damaged"):
        load_generator(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without a GPU")
def test_a_missing_gpu_is_one_sentence(prepared: PreparedData, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(GanpipeError, match="no CUDA device"):
        train(prepared, with_(settings, training__device="cuda"), tmp_path)
