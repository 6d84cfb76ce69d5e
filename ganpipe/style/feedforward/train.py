"""Training of the feed-forward network: minimizes the style transfer losses on random crops of the user's contents.

The objective is that of the pixel optimization, with the same layers and statistics, but content weighs more. Besides the
departures listed in `network`, a style's scales and shifts have a higher learning rate than the shared weights, and batches
are small.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.compute.checkpoints import delete_checkpoints, load_checkpoint, save_checkpoint
from ganpipe.compute.device import Compute
from ganpipe.compute.schedules import cosine
from ganpipe.compute.signals import StopRequest, catch_stop_signals
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import sha256_of_json
from ganpipe.progress import Progress, Report, ignore
from ganpipe.style.feedforward.crops import BATCH_IMAGES, Content, Crop, Crops
from ganpipe.style.feedforward.network import (
    NETWORK_PX,
    NETWORK_VERSION,
    ConditionalNorm,
    FeedforwardConfig,
    FeedforwardNetwork,
)
from ganpipe.style.feedforward.state import TrainingState
from ganpipe.style.losses import StyleTarget
from ganpipe.style.objective import Losses, Objective, content_targets
from ganpipe.style.optimize import SMALLEST_PX, StyleTask, style_targets
from ganpipe.style.params import StyleParams
from ganpipe.style.tiling import tiles_of
from ganpipe.vgg19.network import Vgg19

log = logging.getLogger(__name__)

ROW_RATE = 10.0  # learning rate factor of scales and shifts, which start at 1 and 0; Adam moves a value by about LR per step
# Pixels start at the content and keep shapes that no loss asks for; a network does not: with 1 its contents were lost (LOG.md).
CONTENT_FACTOR = 5.0
LR = 1e-3  # decays to 0 along half a cosine
SAVE_EVERY_S = 30.0  # does not affect the result


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained feed-forward network.

    `inputs`: everything that determines the result, in plain values. `curve`: (nimg, total, content, style), each a mean
    since the point before. `seconds`: training time, summed over interrupted runs.
    """

    model: FeedforwardNetwork
    config: FeedforwardConfig
    inputs: dict[str, Any]
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
    """Trains a network on `images` crops of `size` × `size` pixels; resumes from the newest checkpoint in `folder`.

    `contents`: images `[3, H, W]` or `[1, 3, H, W]` in [0, 1], or functions that load one (called in another thread). Their
    longer edge is that of `training_params(params)`. `styles`: images `[1, 3, h, w]` by name. `folder` is
    used for these contents only.

    Raises:
        Interrupted: SIGINT or SIGTERM; the current step was finished and a checkpoint written.
        GanpipeError: no contents or styles, the loss is not finite, or the disk is full.
    """
    _check(contents, styles, images, size)
    params = training_params(params)
    config = FeedforwardConfig(tuple(styles), width)
    inputs = _training_inputs(network, contents, styles, params, images, size, seed, config)
    inputs_sha256 = sha256_of_json(inputs)
    state = new_state(config, styles, compute, seed)
    _resume(state, folder, inputs_sha256, compute)
    objective = FeedforwardObjective.of(network, styles, params, compute, size)
    started, first, before_s = time.monotonic(), state.nimg, state.seconds
    saved = started
    with Crops(contents, len(styles), size, seed, images) as crops, catch_stop_signals() as stop:
        while state.nimg < images:
            crop = crops.batch(state.nimg)
            losses = objective.step(state, crop, cosine(LR, 0.0, state.nimg, images))
            state.add(losses, len(crop.images), images)
            state.seconds = before_s + time.monotonic() - started
            if stop.signum is not None or time.monotonic() - saved > SAVE_EVERY_S or state.nimg == images:
                _save(state, folder, inputs_sha256)
                saved = time.monotonic()
            _stop_if_asked(stop, state.nimg, images)
            elapsed_s = time.monotonic() - started
            report(Progress("feed-forward", state.nimg, images, "images", elapsed_s, first, state.note))
    return TrainedNetwork(
        state.model.eval(),
        config,
        inputs,
        state.curve,
        state.seconds,
        state.nimg / max(state.seconds, 1e-9),
        _sha256_of_weights(state.model),
    )


def _save(state: TrainingState, folder: Path, inputs_sha256: str) -> None:
    """Writes a checkpoint.

    Raises:
        GanpipeError: the loss is not finite, or the disk is full.
    """
    state.check_finite()
    save_checkpoint(folder, f"0-{state.nimg:09d}", {"inputs_sha256": inputs_sha256} | state.as_dict())


def _resume(state: TrainingState, folder: Path, inputs_sha256: str, compute: Compute) -> None:
    """Resumes from the newest undamaged checkpoint; deletes all if none is usable or the inputs have changed."""
    try:
        saved = load_checkpoint(folder, compute.device)
    except GanpipeError:
        log.warning("All checkpoints in %s are damaged; the feed-forward network starts again.", folder)
        saved = None
    if saved and saved["inputs_sha256"] == inputs_sha256:
        state.restore(saved)
        log.info("Resumes the feed-forward network at %s images.", f"{state.nimg:,}")
        return
    if saved:
        log.info("The checkpoints in %s have other training inputs; training starts again.", folder)
    delete_checkpoints(folder)


def _check(contents: Sequence[Content], styles: Mapping[str, Tensor], images: int, size: int) -> None:
    if not contents or not styles:
        raise GanpipeError(
            f"A feed-forward network needs contents and styles; there are {len(contents)} and {len(styles)}."
        )
    if images < 1:
        raise GanpipeError(f"A feed-forward network cannot train on {images} images; give at least 1.")
    if size < SMALLEST_PX:
        raise GanpipeError(f"Training crops of {size} px are too small; give at least {SMALLEST_PX} px.")


def training_params(params: StyleParams) -> StyleParams:
    """The parameters of a training: images of at most NETWORK_PX, whose content weighs CONTENT_FACTOR times as much."""
    return replace(
        params,
        long_edge_px=min(params.long_edge_px, NETWORK_PX),
        content_weight=CONTENT_FACTOR * params.content_weight,
    )


TRAINING_PARAMS = (
    "long_edge_px",
    "statistics",
    "content_layers",
    "style_layers",
    "content_weight",
    "style_weight",
    "variation_weight",
    "style_scale",
    "style_scales",
    "style_rotations",
    "color_mode",
)


def determining(params: StyleParams) -> dict[str, Any]:
    """The parameters that determine a network, as plain values: those of pixel descent do not."""
    return {name: value for name, value in params.as_dict().items() if name in TRAINING_PARAMS}


def _training_inputs(
    network: Vgg19,
    contents: Sequence[Content],
    styles: Mapping[str, Tensor],
    params: StyleParams,
    images: int,
    size: int,
    seed: int,
    config: FeedforwardConfig,
) -> dict[str, Any]:
    """Returns everything that determines the network except the contents' pixels."""
    return {
        "version": NETWORK_VERSION,
        "model": asdict(config),
        "styles": {name: _sha256_of_pixels(style) for name, style in styles.items()},
        "contents": len(contents),
        "params": determining(params),
        "network": {"weights": network.weights.id, "pooling": network.pooling},
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
            f"Stopped training a feed-forward network at {nimg:,} of {images:,} images; the same call resumes there.",
        )


def new_state(
    config: FeedforwardConfig, styles: Mapping[str, Tensor], compute: Compute, seed: int
) -> TrainingState:
    """Creates a network initialized to its styles' colors, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FeedforwardNetwork(config)
    for k, image in enumerate(styles.values()):
        model.take_colors(k, image)
    compute.place(model)
    rows = [w for m in model.modules() if isinstance(m, ConditionalNorm) for w in m.parameters()]
    shared = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    groups = [{"params": shared, "rate": 1.0}, {"params": rows, "rate": ROW_RATE}]
    return TrainingState(
        model, torch.optim.Adam(groups, LR, fused=True), torch.zeros(4, device=compute.device)
    )


@dataclass(frozen=True)
class FeedforwardObjective:
    """The objective of the pixel optimization, with the targets of all styles."""

    network: Vgg19
    params: StyleParams
    compute: Compute
    targets: dict[str, StyleTarget]
    size: int

    @classmethod
    def of(
        cls, network: Vgg19, styles: Mapping[str, Tensor], params: StyleParams, compute: Compute, size: int
    ) -> FeedforwardObjective:
        """Computes the targets of each style once, at the size of the whole images."""
        tasks = [StyleTask(style, (style,)) for style in styles.values()]
        targets = style_targets(network, tasks, params.long_edge_px, params, compute)
        return cls(network, params, compute, targets, size)

    def step(self, state: TrainingState, crop: Crop, lr: float) -> Losses:
        """Makes one step of Adam; returns the losses `[N]` before it."""
        images = crop.images.to(self.compute.device, memory_format=torch.channels_last, non_blocking=True)
        rows = crop.styles.to(self.compute.device)
        objective = self.objective(images, rows)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        state.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            shares = F.one_hot(rows, len(state.model.config.styles)).float()
            styled = state.model(images, shares, crop.noise_seed)
        losses, grad = objective.losses_and_slope(styled.detach())
        styled.backward(grad / len(images))
        state.optimizer.step()
        return losses

    def objective(self, images: Tensor, rows: Tensor) -> Objective:
        """Returns the objective of a batch of crops, each in its own style."""
        tiles = tiles_of(self.size, self.size, 0, self.params.last)
        content, content_size = content_targets(self.network, images, self.params, self.compute, tiles)
        style = {layer: target.of_items(rows) for layer, target in self.targets.items()}
        return Objective(self.network, self.params, self.compute, tiles, content, content_size, style)


def _sha256_of_weights(model: FeedforwardNetwork) -> str:
    """Hashes the names and bytes of all weights, in a fixed order."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
