"""Trains a feed-forward network for each style of a batch for which that saves time, and reuses it later."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.files import sha256_of, sha256_of_json
from ganpipe.imaging.image import RejectedImage
from ganpipe.progress import Report, format_duration, ignore
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.plan import BatchPlan, BatchTask
from ganpipe.style.feedforward.network import (
    CONFIG,
    NETWORK_VERSION,
    FeedforwardConfig,
    FeedforwardNetwork,
    apply_network,
    save_network,
)
from ganpipe.style.feedforward.train import determining, train_network, training_params
from ganpipe.style.objective import style_network
from ganpipe.style.optimize import SMALLEST_PX, StyleTask, objective_at, pyramid, resize, size_at
from ganpipe.style.params import STYLE_PRESETS, StyleParams, resolve_params, tile_px_of
from ganpipe.style.reading import read_content, read_style
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import style_weights

log = logging.getLogger(__name__)

MIN_IMAGES_TO_ESTIMATE = (
    12  # images in a style; with fewer, no network has saved time, and measuring would only cost some
)
PROBE_IMAGES = 8
CROP_PX = 256  # of the training crops, at most: those of 128 px taught fine regular patterns (LOG.md)


@dataclass(frozen=True)
class StyleNetwork:
    """A style's feed-forward network: its folder, whether this call trained it, and how long that took."""

    style: Path
    folder: Path
    new: bool
    seconds: float


def train_or_find_networks(
    plan: BatchPlan, settings: StyleSettings, compute: Compute, folder: Path, report: Report = ignore
) -> list[StyleNetwork]:
    """Finds each style's feed-forward network in `folder`, or trains one if `style.feedforward` asks or it saves time.

    Logs the estimate behind each decision. Raises as `train_network`.
    """
    by_style: dict[Path, list[BatchTask]] = {}
    for task in plan.tasks:
        if len(task.styles) == 1 and not task.masks and not task.video:
            by_style.setdefault(task.styles[0], []).append(task)
    if settings.feedforward == "never":
        return []
    params = resolve_params(settings)
    if params.color_mode != "style":
        return []  # the style itself then depends on the content
    network = style_network(params.last, style_weights(settings.weights)).to(compute.device)
    found = [
        _train_or_find(style, tasks, settings, params, network, compute, folder, report)
        for style, tasks in by_style.items()
    ]
    return [trained for trained in found if trained]


def _train_or_find(
    style: Path,
    tasks: list[BatchTask],
    settings: StyleSettings,
    params: StyleParams,
    network: Vgg19,
    compute: Compute,
    folder: Path,
    report: Report,
) -> StyleNetwork | None:
    trained, images = training_params(params), _training_images(settings)
    fixed = [sha256_of(style), determining(trained), network.weights.id, images, NETWORK_VERSION]
    stem = "".join(c if c.isprintable() else "_" for c in style.stem)[:40]  # MLflow takes it as a name
    own = folder / f"{stem}-{sha256_of_json(fixed)[:12]}"
    if (own / CONFIG).exists():
        return StyleNetwork(style, own, False, 0.0)
    if settings.feedforward == "auto" and len(tasks) < MIN_IMAGES_TO_ESTIMATE:
        return None
    try:
        image = read_style(style, settings, trained).pixels
    except RejectedImage:
        return None  # run_batch reports it for each image
    if settings.feedforward == "auto":
        estimate = estimate_break_even(tasks, image, settings, network, compute)
        log.info("%s", estimate.sentence(style.stem))
        if not estimate.pays:
            return None
    started = time.monotonic()
    contents = [_loader(task.content, settings, trained) for task in tasks]
    begun = folder / "unfinished" / own.name
    result = train_network(
        network, contents, {style.stem: image}, params, images, compute, begun, _crop_px(trained), report
    )
    origin = {"inputs": result.inputs, "curve": result.curve, "network": network.weights.id}
    save_network(own, result.model, result.config, origin)
    shutil.rmtree(begun, ignore_errors=True)
    return StyleNetwork(style, own, True, time.monotonic() - started)


def _training_images(settings: StyleSettings) -> int:
    return settings.feedforward_images or STYLE_PRESETS[settings.preset].feedforward_images


def _crop_px(trained: StyleParams) -> int:
    """Edge of the crops: the shorter edge of a photo of 3:2, or CROP_PX. Narrower contents are enlarged."""
    return max(SMALLEST_PX, min(CROP_PX, round(trained.long_edge_px * 2 / 3)))


def _loader(path: Path, settings: StyleSettings, params: StyleParams) -> Callable[[], Tensor]:
    def load() -> Tensor:
        pixels = read_content(path, settings, params).pixels
        return resize(pixels, size_at(pixels.shape[2], pixels.shape[3], params.long_edge_px))

    return load


def estimate_break_even(
    tasks: Sequence[BatchTask], style: Tensor, settings: StyleSettings, network: Vgg19, compute: Compute
) -> BreakEven:
    """Estimates the time of optimizing the tasks and of a feed-forward network, from a few measured steps of each."""
    params, size = resolve_params(settings), tasks[0].size
    trained, images = training_params(params), _training_images(settings)
    content = torch.rand(1, 3, *size)
    style_task = StyleTask(content, (style,))
    objective = objective_at(
        network, [style_task], size, params.long_edge_px, params, compute, tile_px_of(settings)
    )
    step_s = _fastest(lambda: objective.losses_and_slope(content.to(compute.device)))
    edges = pyramid(params.long_edge_px, params.scales)
    full_steps = sum(
        params.steps_at(k, len(edges)) * (edge / params.long_edge_px) ** 2 for k, edge in enumerate(edges)
    )
    small = resize(content, size_at(*size, trained.long_edge_px))
    with TemporaryDirectory() as scratch:
        probe = train_network(
            network,
            [small],
            {"probe": style},
            params,
            PROBE_IMAGES,
            compute,
            Path(scratch),
            _crop_px(trained),
        )
    feedforward = FeedforwardNetwork(FeedforwardConfig(("probe",)))
    apply_s = _fastest(lambda: apply_network(feedforward, content, torch.ones(1, 1), compute))
    stylize_s = apply_s + settings.refine_steps * step_s
    return break_even(len(tasks), step_s * full_steps, stylize_s, images / probe.images_per_second)


def _fastest(step: Callable[[], object]) -> float:
    """Seconds of the fastest of three calls: the first allocates."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        step()
        times.append(time.monotonic() - started)
    return min(times)


@dataclass(frozen=True)
class BreakEven:
    """The time of optimizing `images` images and of a feed-forward network, and from how many images the network is faster."""

    images: int
    optimize_s: float
    train_s: float
    stylize_s: float
    from_images: int | None  # None: never

    @property
    def pays(self) -> bool:
        """Whether the network is faster for these images."""
        return self.from_images is not None and self.images >= self.from_images

    def sentence(self, *styles: str) -> str:
        """Both times and the verdict as a sentence for the log."""
        named = " and ".join(f"'{style}'" for style in styles)
        start = f"{self.images:,} image{'s' * (self.images != 1)}" + (f" in {named}" if named else "")
        times = (
            f"optimizing takes about {format_duration(self.optimize_s)}, training a feed-forward network "
            f"{format_duration(self.train_s)} and stylizing {format_duration(self.stylize_s)}"
        )
        verdict = (
            "the network never saves time"
            if self.from_images is None
            else f"the network saves time from {self.from_images:,} image{'s' * (self.from_images != 1)} on"
        )
        return f"{start}: {times}: {verdict}."


def break_even(images: int, optimize_each_s: float, stylize_each_s: float, train_s: float) -> BreakEven:
    """Finds the least n with n · optimize > train + n · stylize."""
    saved = optimize_each_s - stylize_each_s
    least = math.floor(train_s / saved) + 1 if saved > 0 else None
    return BreakEven(images, images * optimize_each_s, train_s, images * stylize_each_s, least)
