"""Feed-forward training: the gradient of the pixel optimization, crops by position, exact resume."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute import checkpoints
from ganpipe.compute.checkpoints import load_checkpoint
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.progress import Progress, Report, ignore
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.feedforward import crops, train
from ganpipe.style.feedforward import state as state_module
from ganpipe.style.feedforward.crops import Content, Crop, Crops
from ganpipe.style.feedforward.network import apply_network
from ganpipe.style.feedforward.state import TrainingState
from ganpipe.style.feedforward.train import FeedforwardObjective, TrainedNetwork, new_state, train_network
from ganpipe.style.losses import content_error, moments, style_loss, variation_loss
from ganpipe.style.objective import Losses
from ganpipe.style.params import StyleParams, resolve_params
from ganpipe.vgg19.network import Vgg19
from tests.conftest import Killed
from tests.style.feedforward.test_network import CPU, TWO, soft_image

SIZE = 48
CONTENTS = (soft_image(1), soft_image(2)[0], soft_image(3, 30, 40))
STYLES = {"red": soft_image(11, rgb=(1.0, 0.3, 0.1)), "blue": soft_image(12, rgb=(0.1, 0.3, 1.0))}


@pytest.fixture(scope="module")
def network() -> Vgg19:
    return Vgg19("relu2_1", pooling="average")


@pytest.fixture(scope="module")
def params() -> StyleParams:
    settings = StyleSettings(
        preset="draft", long_edge_px=64, content_layers="relu2_1", style_layers="relu1_1+relu2_1"
    )
    return resolve_params(settings)


def test_a_new_network_starts_in_the_colors_of_the_style() -> None:
    """Before any step: the mean and deviation of the style's channels, where the sigmoid begins."""
    state = new_state(TWO, STYLES, CPU, seed=0)
    styled = apply_network(state.model, CONTENTS[0].expand(2, -1, -1, -1), torch.eye(2), CPU)
    for found, style in zip(styled, STYLES.values(), strict=True):
        before, wanted = torch.logit(found), torch.logit(style[0].clamp(0.02, 0.98))
        torch.testing.assert_close(before.mean((1, 2)), wanted.mean((1, 2)), atol=1e-2, rtol=1e-2)
        torch.testing.assert_close(before.std((1, 2)), wanted.std((1, 2)), atol=1e-2, rtol=1e-2)


def test_the_gradient_of_a_step_is_that_of_the_optimizers_losses(network: Vgg19, params: StyleParams) -> None:
    """The step passes the objective's gradient on to the network; the test differentiates everything at once."""
    params = replace(params, content_weight=0.7, style_weight=1.3, variation_weight=2.0)
    objective = FeedforwardObjective.of(network, STYLES, params, CPU, SIZE)
    crop = Crop(torch.rand(3, 3, SIZE, SIZE), torch.tensor([0, 1, 1]), noise_seed=5)
    state = new_state(TWO, STYLES, CPU, seed=0)
    styled = state.model(crop.images, F.one_hot(crop.styles, 2).float(), 5)
    found, wanted = network(styled, params.layers), network(crop.images, params.content_layers)["relu2_1"]
    targets = {layer: target.of_items(crop.styles) for layer, target in objective.targets.items()}
    sums = {layer: moments(found[layer]) for layer in targets}
    content = content_error(found["relu2_1"], wanted) / wanted.square().flatten(1).sum(1)
    style = style_loss(sums, targets, params.statistics)
    total = 0.7 * content + 1.3 * style + 2.0 * variation_loss(styled)
    expected = torch.autograd.grad(total.mean(), list(state.model.parameters()))
    losses = objective.step(state, crop, lr=0.0)
    torch.testing.assert_close(losses.total, total.detach())
    for weight, grad in zip(state.model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, grad, atol=1e-6, rtol=1e-3)


def test_batches_are_a_function_of_seed_and_position() -> None:
    def batches(seed: int) -> list[Crop]:
        with Crops(CONTENTS, 2, SIZE, seed, total=7) as crops:
            return [crops.batch(position) for position in (0, 2, 4, 6)]

    once, again = batches(0), batches(0)
    with Crops(CONTENTS, 2, SIZE, 0, total=7) as crops:
        alone = crops.batch(4)
    assert all(torch.equal(a.images, b.images) for a, b in zip(once, again, strict=True))
    assert torch.equal(alone.images, once[2].images)
    assert torch.equal(alone.styles, once[2].styles)
    assert alone.noise_seed == once[2].noise_seed != once[1].noise_seed
    assert not torch.equal(batches(1)[0].images, once[0].images)
    assert [len(b.images) for b in once] == [2, 2, 2, 1]
    assert all(b.images.shape[1:] == (3, SIZE, SIZE) for b in once)
    assert sorted(once[0].styles.tolist()) == [0, 1]


def test_crops_reach_every_edge_and_half_are_mirrored() -> None:
    """A ramp across in red and one down in green say where a crop began, and which way it runs."""
    steps = torch.arange(52.0).div(51)
    ramps = torch.stack([steps.expand(52, 52), steps[:, None].expand(52, 52), torch.zeros(52, 52)])
    with Crops([ramps], 1, SIZE, 0, total=400) as crops:
        cut = torch.cat([crops.batch(position).images for position in range(0, 400, 2)])
    across, down = (cut[:, 0, 0] * 51).round(), (cut[:, 1, :, 0] * 51).round()
    assert 150 < int((across[:, 0] > across[:, -1]).sum()) < 250
    assert set(across.min(1).values.tolist()) == set(down[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_contents_are_kept_as_far_as_memory_goes_and_loaded_again_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [soft_image(k, SIZE, SIZE) for k in range(3)]
    loaded = [0, 0, 0]

    def loader(k: int) -> Callable[[], Tensor]:
        def load() -> Tensor:
            loaded[k] += 1
            return images[k]

        return load

    monkeypatch.setattr(crops, "KEPT_BYTES", 2 * images[0].nbytes)
    with Crops([loader(k) for k in range(3)], 1, SIZE, 0, total=12) as batches:
        for position in range(0, 12, 2):
            batches.batch(position)
    assert sorted(loaded) == [1, 1, 4]


def train_small(
    network: Vgg19,
    params: StyleParams,
    folder: Path,
    images: int = 8,
    report: Report = ignore,
    contents: tuple[Content, ...] = CONTENTS,
    styles: dict[str, Tensor] = STYLES,
    seed: int = 0,
) -> TrainedNetwork:
    return train_network(network, contents, styles, params, images, CPU, folder, SIZE, report, seed, width=4)


def test_the_loss_falls_and_each_style_gets_its_own_colors(
    network: Vgg19, params: StyleParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "CURVE_IMAGES", 8)
    monkeypatch.setattr(train, "LR", 1e-2)
    result = train_small(network, params, tmp_path, images=48)
    assert [nimg for nimg, *_ in result.curve] == [8, 16, 24, 32, 40, 48]
    assert result.curve[-1][1] < 0.7 * result.curve[0][1]
    red, blue = apply_network(result.model, CONTENTS[0].expand(2, -1, -1, -1), torch.eye(2), CPU).mean((2, 3))
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2


def test_a_loss_that_is_no_number_ends_training_and_leaves_no_checkpoint(
    network: Vgg19, params: StyleParams, tmp_path: Path
) -> None:
    with pytest.raises(GanpipeError, match="loss became nan at 8 images"):
        train_small(network, params, tmp_path, contents=(soft_image(1) * float("nan"),))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("saving_always")
def test_weights_that_are_no_numbers_are_never_saved(
    network: Vgg19, params: StyleParams, tmp_path: Path
) -> None:
    """A checkpoint looks at the loss itself, whose next point is far away."""
    with pytest.raises(GanpipeError, match="loss became nan at 2 images"):
        train_small(network, params, tmp_path, contents=(soft_image(1) * float("nan"),))
    assert list(tmp_path.iterdir()) == []


def test_the_step_falls_along_half_a_cosine(
    network: Vgg19, params: StyleParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    step = FeedforwardObjective.step

    def watched(self: FeedforwardObjective, state: TrainingState, crop: Crop, lr: float) -> Losses:
        losses = step(self, state, crop, lr)
        seen.append(state.optimizer.param_groups[0]["lr"])
        assert state.optimizer.param_groups[1]["lr"] == pytest.approx(train.ROW_RATE * seen[-1])
        return losses

    monkeypatch.setattr(FeedforwardObjective, "step", watched)
    train_small(network, params, tmp_path)
    assert seen == pytest.approx([train.LR * share for share in (1.0, 0.853553, 0.5, 0.146447)], rel=1e-5)


def test_impossible_trainings_are_rejected_in_one_sentence(
    network: Vgg19, params: StyleParams, tmp_path: Path
) -> None:
    with pytest.raises(GanpipeError, match="needs contents and styles; there are 0 and 2"):
        train_small(network, params, tmp_path, contents=())
    with pytest.raises(GanpipeError, match="train on 0 images"):
        train_small(network, params, tmp_path, images=0)
    with pytest.raises(GanpipeError, match="crops of 20 px"):
        train_network(network, CONTENTS, STYLES, params, 8, CPU, tmp_path, size=20)


def test_a_content_that_cannot_be_loaded_says_so_from_its_thread(
    network: Vgg19, params: StyleParams, tmp_path: Path
) -> None:
    def load() -> Tensor:
        raise GanpipeError("b.png is damaged.")

    with pytest.raises(GanpipeError, match=r"b\.png is damaged"):
        train_small(network, params, tmp_path, contents=(load,))


# Exact resumption: four steps equal two, whatever happens then, and the rest.


@pytest.fixture(scope="module")
def whole(network: Vgg19, params: StyleParams, tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    """Four steps in one go."""
    return train_small(network, params, tmp_path_factory.mktemp("whole"))


def killed_at(nimg: int) -> Report:
    def report(progress: Progress) -> None:
        if progress.done == nimg:
            raise Killed

    return report


@pytest.fixture
def saving_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY_S", -1.0)


def same(found: TrainedNetwork, whole: TrainedNetwork) -> bool:
    return found.weights_sha256 == whole.weights_sha256 and found.curve == whole.curve


@pytest.mark.usefixtures("saving_always")
def test_a_kill_while_a_checkpoint_is_written_changes_no_bit(
    network: Vgg19,
    params: StyleParams,
    whole: TrainedNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dying(path: Path, value: object) -> None:
        if "000000006" in path.name:
            raise Killed
        write_json(path, value)

    write_json = checkpoints.write_json
    monkeypatch.setattr(checkpoints, "write_json", dying)
    with pytest.raises(Killed):
        train_small(network, params, tmp_path)
    assert (tmp_path / "0-000000006.pt").exists()
    monkeypatch.undo()
    heard: list[Progress] = []
    assert same(train_small(network, params, tmp_path, report=heard.append), whole)
    assert [(p.stage, p.done, p.total, p.unit, p.start) for p in heard] == [
        ("feed-forward", 6, 8, "images", 4),
        ("feed-forward", 8, 8, "images", 4),
    ]


def test_a_signal_writes_a_checkpoint_and_the_same_call_goes_on(
    network: Vgg19, params: StyleParams, whole: TrainedNetwork, tmp_path: Path
) -> None:
    def asking(progress: Progress) -> None:
        if progress.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="at 4 of 8 images") as stopped:
        train_small(network, params, tmp_path, report=asking)
    assert stopped.value.exit_code == 143
    saved = load_checkpoint(tmp_path, CPU.device)
    assert saved is not None
    assert saved["nimg"] == 4
    assert same(train_small(network, params, tmp_path), whole)


@pytest.mark.usefixtures("saving_always")
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    network: Vgg19,
    params: StyleParams,
    whole: TrainedNetwork,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Killed):
        train_small(network, params, tmp_path, report=killed_at(6))
    assert sorted(p.stem for p in tmp_path.glob("*.json")) == ["0-000000004", "0-000000006"]
    newest = tmp_path / "0-000000006.pt"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    heard: list[Progress] = []
    with caplog.at_level(logging.INFO):
        assert same(train_small(network, params, tmp_path, report=heard.append), whole)
    assert heard[0].start == 4
    assert "0-000000006.pt is damaged" in caplog.text


@pytest.mark.usefixtures("saving_always")
@pytest.mark.parametrize("damage", [b"", b"{}", b"not JSON", b"[1]"])
def test_where_every_checkpoint_is_damaged_the_network_starts_again(
    network: Vgg19,
    params: StyleParams,
    whole: TrainedNetwork,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: bytes,
) -> None:
    with pytest.raises(Killed):
        train_small(network, params, tmp_path, report=killed_at(4))
    for path in tmp_path.glob("*.json"):
        path.write_bytes(damage)
    heard: list[Progress] = []
    assert same(train_small(network, params, tmp_path, report=heard.append), whole)
    assert heard[0].start == 0
    assert "the feed-forward network starts again" in caplog.text


def test_a_finished_training_does_not_run_again(
    network: Vgg19, params: StyleParams, whole: TrainedNetwork, tmp_path: Path
) -> None:
    first = train_small(network, params, tmp_path)
    heard: list[Progress] = []
    second = train_small(network, params, tmp_path, report=heard.append)
    assert same(second, whole)
    assert heard == []
    assert second.seconds == first.seconds > 0
    assert second.images_per_second == first.images_per_second


@pytest.mark.parametrize("changed", ["params", "seed", "images", "styles", "network"])
def test_other_training_inputs_in_the_same_folder_start_again(
    network: Vgg19, params: StyleParams, tmp_path: Path, changed: str
) -> None:
    train_small(network, params, tmp_path, images=4)
    heard: list[Progress] = []
    restart = {
        "params": lambda: train_small(network, replace(params, style_weight=2.0), tmp_path, 4, heard.append),
        "seed": lambda: train_small(network, params, tmp_path, 4, heard.append, seed=1),
        "images": lambda: train_small(network, params, tmp_path, 2, heard.append),
        "styles": lambda: train_small(
            network, params, tmp_path, 4, heard.append, styles=STYLES | {"blue": soft_image(13)}
        ),
        "network": lambda: train_small(Vgg19("relu2_1", "max"), params, tmp_path, 4, heard.append),
    }[changed]
    restart()
    assert heard[0].start == 0
    assert len(list(tmp_path.glob("*.json"))) <= 2


def test_settings_of_the_descent_on_pixels_do_not_change_a_training(
    network: Vgg19, params: StyleParams, tmp_path: Path
) -> None:
    train_small(network, params, tmp_path, images=4)
    heard: list[Progress] = []
    train_small(network, replace(params, steps=9, scales=2, lr=0.5), tmp_path, 4, heard.append)
    assert heard == []
