"""How a feed-forward network learns: it is drawn towards the optimizer's losses on crops of the user's own contents.

The objective is the optimizer's own: the same layers, statistics and weights. Two departures from the papers that
`feedforward` names: the rows of a style learn faster than what all styles share, and batches are small.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.compute.schedules import cosine
from ganpipe.compute.signals import StopRequest, catch_stop_signals
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import sha256_of_json
from ganpipe.progress import Progress, Report, ignore
from ganpipe.style.feedforward.checkpoints import Checkpoints, State
from ganpipe.style.feedforward.crops import BATCH_IMAGES, Content, Crop, Crops
from ganpipe.style.feedforward.network import ConditionalNorm, FeedforwardConfig, FeedforwardNetwork
from ganpipe.style.losses import StyleTarget
from ganpipe.style.objective import Losses, Objective, content_targets
from ganpipe.style.optimize import SMALLEST_PX, StyleTask, style_targets
from ganpipe.style.params import StyleParams
from ganpipe.style.tiling import tiles_of
from ganpipe.vgg19.network import Vgg19

ROW_RATE = 10.0  # of the styles' rows, which begin at 1 and 0: Adam moves a number by about LR a step
LR = 1e-3  # falls to 0 along half a cosine
SAVE_EVERY_S = 30.0  # when a checkpoint is written changes nothing in the result


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained feed-forward network.

    `training_key` says what fixed it, in plain values; `curve` is a list of (nimg, total, content, style), each a mean since
    the point before; `seconds` are those of all processes that trained it.
    """

    feedforward: FeedforwardNetwork
    config: FeedforwardConfig
    training_key: dict[str, Any]
    curve: list[tuple[int, float, float, float]]
    seconds: float
    images_per_second: float
    weights_sha256: str


def train_network(
    network: Vgg19,
    contents: Sequence[Content],
    styles: Mapping[str, Tensor],
    params: StyleParams,
    images: int,
    compute: Compute,
    folder: Path,
    size: int,
    report: Report = ignore,
    seed: int = 0,
    width: int = 32,
) -> TrainedNetwork:
    """Trains a feed-forward network on `images` crops of `size` × `size` pixels, resuming from the newest checkpoint in `folder`.

    `contents`: images `[3, H, W]` or `[1, 3, H, W]` in [0, 1], or what loads one (called in another thread), with the
    longer edge at which they will be stylized: `params.long_edge_px`, at which the styles are looked at, too.
    `styles`: images `[1, 3, h, w]` by name. `folder` belongs to these contents alone.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: nothing to learn from, the loss is no number any more, or the disk is full.
    """
    _check(contents, styles, images, size)
    config = FeedforwardConfig(tuple(styles), width)
    training_key = _training_key(network, contents, styles, params, images, size, seed, config)
    saves = Checkpoints(folder, sha256_of_json(training_key))
    state = new_state(config, styles, compute, seed)
    saves.restore(state)
    training_objective = FeedforwardObjective.of(network, styles, params, compute, size)
    started, first, before_s = time.monotonic(), state.nimg, state.seconds
    saved = started
    with Crops(contents, len(styles), size, seed, images) as crops, catch_stop_signals() as stop:
        while state.nimg < images:
            crop = crops.batch(state.nimg)
            losses = training_objective.step(state, crop, cosine(LR, 0.0, state.nimg, images))
            state.add(losses, len(crop.images), images)
            state.seconds = before_s + time.monotonic() - started
            if stop.signum is not None or time.monotonic() - saved > SAVE_EVERY_S or state.nimg == images:
                saves.write(state)
                saved = time.monotonic()
            _stop_if_asked(stop, state.nimg, images)
            elapsed_s = time.monotonic() - started
            report(Progress("student", state.nimg, images, "images", elapsed_s, first, state.note))
    return TrainedNetwork(
        state.feedforward.eval(),
        config,
        training_key,
        state.curve,
        state.seconds,
        state.nimg / max(state.seconds, 1e-9),
        _sha256_of_weights(state.feedforward),
    )


def _check(contents: Sequence[Content], styles: Mapping[str, Tensor], images: int, size: int) -> None:
    if not contents or not styles:
        raise GanpipeError(
            f"A feed-forward network needs contents and styles; there are {len(contents)} and {len(styles)}."
        )
    if images < 1:
        raise GanpipeError(f"A feed-forward network was to see {images} images; it needs at least 1.")
    if size < SMALLEST_PX:
        raise GanpipeError(
            f"A feed-forward network's crops were to be {size} px; they need {SMALLEST_PX} at least."
        )


TAUGHT = (
    "long_edge_px",
    "statistics",
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "variation_weight",
    "style_scale",
    "color_mode",
)


def _training_key(
    network: Vgg19,
    contents: Sequence[Content],
    styles: Mapping[str, Tensor],
    params: StyleParams,
    images: int,
    size: int,
    seed: int,
    config: FeedforwardConfig,
) -> dict[str, Any]:
    """Everything that fixes a trained network besides the contents' pixels."""
    return {
        "model": asdict(config),
        "styles": {name: _sha256_of_pixels(style) for name, style in styles.items()},
        "contents": len(contents),
        "recipe": {name: value for name, value in params.as_dict().items() if name in TAUGHT},
        "network": {"weights": network.weights.id, "pool": type(network.pool).__name__},
        "images": images,
        "batch_images": BATCH_IMAGES,
        "size_px": size,
        "lr": LR,
        "row_rate": ROW_RATE,
        "seed": seed,
    }


def _sha256_of_pixels(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _stop_if_asked(stop: StopRequest, nimg: int, images: int) -> None:
    if stop.signum is not None:
        raise Interrupted(
            stop.signum,
            f"Stopped a feed-forward network at {nimg:,} of {images:,} images; the same call again goes on there.",
        )


def new_state(config: FeedforwardConfig, styles: Mapping[str, Tensor], compute: Compute, seed: int) -> State:
    """A new feed-forward network, already in the colors of its styles, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        feedforward = FeedforwardNetwork(config)
    for k, image in enumerate(styles.values()):
        feedforward.take_colors(k, image)
    compute.place(feedforward)
    rows = [w for m in feedforward.modules() if isinstance(m, ConditionalNorm) for w in m.parameters()]
    shared = [m.weight for m in feedforward.modules() if isinstance(m, nn.Conv2d)]
    groups = [{"params": shared, "rate": 1.0}, {"params": rows, "rate": ROW_RATE}]
    return State(feedforward, torch.optim.Adam(groups, LR, fused=True), torch.zeros(4, device=compute.device))


@dataclass(frozen=True)
class FeedforwardObjective:
    """The training objective: the optimizer's losses, with the targets of all styles."""

    network: Vgg19
    params: StyleParams
    compute: Compute
    targets: dict[str, StyleTarget]
    size: int

    @classmethod
    def of(
        cls, network: Vgg19, styles: Mapping[str, Tensor], params: StyleParams, compute: Compute, size: int
    ) -> FeedforwardObjective:
        """Looks at each style once, at the size of the whole images."""
        style_tasks = [StyleTask(style, (style,)) for style in styles.values()]
        targets = style_targets(network, style_tasks, params.long_edge_px, params, compute)
        return cls(network, params, compute, targets, size)

    def step(self, state: State, crop: Crop, lr: float) -> Losses:
        """One step of Adam; the losses `[N]` before it."""
        images = crop.images.to(self.compute.device, memory_format=torch.channels_last, non_blocking=True)
        rows = crop.styles.to(self.compute.device)
        objective = self.objective(images, rows)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        state.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            shares = F.one_hot(rows, len(state.feedforward.config.styles)).float()
            stylized_images = state.feedforward(images, shares, crop.noise_seed)
        losses, slope = objective.losses_and_slope(stylized_images.detach())
        stylized_images.backward(slope / len(images))
        state.optimizer.step()
        return losses

    def objective(self, images: Tensor, rows: Tensor) -> Objective:
        """That of a batch of crops, each in its style."""
        tiles = tiles_of(self.size, self.size, 0, self.params.last)
        content, content_size = content_targets(self.network, images, self.params, self.compute, tiles)
        style = {layer: target.of_items(rows) for layer, target in self.targets.items()}
        return Objective(self.network, self.params, self.compute, tiles, content, content_size, style)


def _sha256_of_weights(feedforward: FeedforwardNetwork) -> str:
    """SHA-256 over the names and bytes of all weights, in a fixed order."""
    digest = hashlib.sha256()
    for name, weight in sorted(feedforward.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
