"""Stylizes planned tasks in buckets of one shape, as many at once as fit in memory, and writes each when it is finished."""

from __future__ import annotations

import hashlib
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganpipe.compute.device import Compute
from ganpipe.compute.memory import USABLE_SHARE, free_memory, is_out_of_memory
from ganpipe.compute.signals import catch_stop_signals
from ganpipe.errors import Interrupted
from ganpipe.files import escape_control, plain_disk_errors, sha256_of, write_bytes
from ganpipe.imaging.encode import encode_float_image
from ganpipe.imaging.float_image import FloatImage
from ganpipe.imaging.image import Pixels, RejectedImage
from ganpipe.imaging.provenance import origin_kind, read_origin
from ganpipe.imaging.tensors import from_pixels
from ganpipe.imaging.video import write_stylized_video
from ganpipe.progress import Progress, Report, ignore
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.manifest import (
    ManifestEntry,
    add_entry,
    free_name,
    keys_by_output,
    read_entries,
)
from ganpipe.style.batch.plan import BatchTask, StyledItem, Variant
from ganpipe.style.batch.preview import Preview
from ganpipe.style.batch.videos import VideoFrames
from ganpipe.style.color import finish_colors, read_masks, styles_for
from ganpipe.style.feedforward.network import apply_network, load_network
from ganpipe.style.metrics import structure_similarity, style_distance
from ganpipe.style.objective import style_network
from ganpipe.style.optimality_gap import optimality_gap
from ganpipe.style.optimize import OnStep, Step, StyledImages, StyleTask, resize, stylize
from ganpipe.style.params import resolve_params, tile_px_of
from ganpipe.style.reading import read_content, read_style
from ganpipe.style.video import VideoParams, VideoStylizer
from ganpipe.vgg19.network import Vgg19
from ganpipe.vgg19.weights import style_weights

log = logging.getLogger(__name__)

MOST_AT_ONCE = {"cpu": 4, "cuda": 32}  # more at once is no faster (benchmarks.style), and a kill loses more
SMALLEST_TILE_PX = 128
STYLE_CACHE_BYTES = 256 * 2**20  # of style images; reading one again takes far less time than a stylization
# Activations that autograd keeps for relu1_1 to relu5_1, plus what its backward needs: measured as the growth
# of the peak over images of 256² and 512² (LOG.md).
BYTES_PER_PIXEL = {"bf16": 2_000, "fp32": 3_600}


@dataclass(frozen=True)
class BatchOutcome:
    """The outcome of tasks: items by place, and item-steps with the seconds that they took."""

    items: dict[int, StyledItem]
    steps: int
    seconds: float


def run_batch(
    tasks: Sequence[BatchTask],
    compute: Compute,
    report: Report = ignore,
    feedforward_networks: Mapping[Path, Path] | None = None,
) -> BatchOutcome:
    """Stylizes and writes tasks, as many of one size at once as fit in memory; the whole plan, or a shard of it.

    `feedforward_networks`: the folder of a feed-forward network for each style that has one. A file that cannot be read fails
    only its own items.

    Raises:
        Interrupted: SIGINT or SIGTERM; finished images are in the manifest, and the next run resumes after them.
        GanpipeError: the output cannot be written.
    """
    if not tasks:
        return BatchOutcome({}, 0, 0.0)
    by_variant: dict[Variant, list[BatchTask]] = {}
    for task in tasks:
        by_variant.setdefault(task.variant, []).append(task)
    work = _Work(report, len(tasks), Preview(tasks[0].output.parent))
    steps, seconds = 0, 0.0
    try:
        for variant, some in by_variant.items():
            runner = _BatchRunner(variant.settings, compute, work, feedforward_networks or {})
            seconds += runner.run(some)
            steps += runner.steps
    finally:
        work.preview.remove()
    return BatchOutcome(work.items, steps, seconds)


@dataclass
class _Work:
    """The finished items of a batch, who is told of them, and the preview: for all its variants."""

    report: Report
    total: int
    preview: Preview
    items: dict[int, StyledItem] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)


@dataclass
class _LoadedTask:
    """A task with its images in memory."""

    task: BatchTask
    content: FloatImage
    styles: list[FloatImage]
    style_task: StyleTask


class _BatchRunner:
    """The state of a run of one variant: networks, style images, steps."""

    def __init__(
        self,
        settings: StyleSettings,
        compute: Compute,
        work: _Work,
        feedforward_networks: Mapping[Path, Path],
    ) -> None:
        self.settings, self.compute, self.work = settings, compute, work
        self.params = resolve_params(settings)
        weights = style_weights(settings.weights)
        self.network = style_network(self.params.last, weights).to(compute.device)
        self.judge = Vgg19("relu4_1").to(compute.device)  # the embedded weights: scores stay comparable
        self.items = work.items
        self.steps = 0
        self.styles: dict[Path, FloatImage] = {}
        self.feedforward_networks = {
            style: load_network(folder) for style, folder in feedforward_networks.items()
        }

    def run(self, tasks: Sequence[BatchTask]) -> float:
        """Returns the seconds that the stylization itself took."""
        seconds = 0.0
        with catch_stop_signals() as self.stop:
            for bucket in self._buckets([task for task in tasks if not task.video]):
                if loaded := self._load(bucket):
                    before = time.monotonic()
                    self._stylize_bucket(loaded, self._tile_px(loaded[0].task.size))
                    seconds += time.monotonic() - before
            for task in tasks:
                if task.video:
                    before = time.monotonic()
                    self._stylize_video(VideoFrames(task, task.video), self._tile_px(task.size))
                    seconds += time.monotonic() - before
        return seconds

    def _buckets(self, tasks: Sequence[BatchTask]) -> Iterator[list[BatchTask]]:
        """Tasks with one result shape and one number of masks, as many as fit in memory."""
        groups: dict[Any, list[BatchTask]] = {}
        for task in tasks:
            groups.setdefault((task.size, len(task.masks), self._feedforward_style(task)), []).append(task)
        for (size, _, _), group in groups.items():
            count = 1 if self.params.optimizer == "lbfgs" else self._at_once(size)
            for k in range(0, len(group), count):
                yield group[k : k + count]

    def _feedforward_style(self, task: BatchTask) -> Path | None:
        """The style whose feed-forward network stylizes the task; None if the task is optimized."""
        style = task.styles[0]
        return (
            style if len(task.styles) == 1 and not task.masks and style in self.feedforward_networks else None
        )

    def _at_once(self, size: tuple[int, int]) -> int:
        if self.settings.batch_items:
            return self.settings.batch_items
        fitting = int(USABLE_SHARE * free_memory(self.compute.device) / self._bytes_of(*size))
        return max(1, min(MOST_AT_ONCE[self.compute.device.type], fitting))

    def _tile_px(self, size: tuple[int, int]) -> int:
        """Edge of the tiles: the setting or the preset's; 0 if the whole image fits; else what fits in a fifth of the free
        memory."""
        if asked := tile_px_of(self.settings):
            return asked
        free = USABLE_SHARE * free_memory(self.compute.device)
        if self._bytes_of(*size) <= free:
            return 0
        fitting = int((free / 5 / self._bytes_of(1, 1)) ** 0.5) // 128 * 128
        return max(SMALLEST_TILE_PX, min(1024, fitting))

    def _bytes_of(self, height: int, width: int) -> int:
        """Bytes that an image takes while it is stylized whole (BYTES_PER_PIXEL)."""
        return height * width * BYTES_PER_PIXEL[self.compute.precision]

    def _load(self, bucket: list[BatchTask]) -> list[_LoadedTask]:
        """Loads the tasks whose images can be read; fails the others."""
        loaded = []
        for task in bucket:
            try:
                content = read_content(task.content, self.settings, self.params)
                styles = [self._style(path) for path in task.styles]
                loaded.append(
                    _LoadedTask(task, content, styles, self._style_task(task, content.pixels, styles))
                )
            except RejectedImage as rejected:
                self._fail(task, f"{rejected.sentence}")
        return loaded

    def _style(self, path: Path) -> FloatImage:
        if path not in self.styles:
            if sum(style.pixels.nbytes for style in self.styles.values()) > STYLE_CACHE_BYTES:
                self.styles.clear()
            self.styles[path] = read_style(path, self.settings, self.params)
        return self.styles[path]

    def _style_task(self, task: BatchTask, content: Tensor, styles: list[FloatImage]) -> StyleTask:
        pixels = resize(content, task.size)
        masks = _masks_of(task)
        matched_styles = styles_for(pixels, [style.pixels for style in styles], self.params.color_mode, masks)
        return StyleTask(pixels, matched_styles, task.shares, masks)

    def _fail(self, task: BatchTask, reason: str) -> None:
        item = _item(task, "failed")
        item.reason = f"{task.content}: {reason}"
        log.warning("Not stylized: %s", escape_control(item.reason))  # Prefect keeps it, too
        self.items[task.place] = item

    def _stylize_bucket(self, bucket: list[_LoadedTask], tile_px: int) -> None:
        """Stylizes a bucket and writes its images; splits it into halves or tiles if memory runs out."""
        started, on_step = time.monotonic(), self._on_step([loaded.task for loaded in bucket])
        try:
            style_tasks = [loaded.style_task for loaded in bucket]
            if style := self._feedforward_style(bucket[0].task):
                stylized_images = self._apply_feedforward(style, style_tasks, tile_px, on_step)
            else:
                stylized_images = stylize(
                    self.network, style_tasks, self.params, self.compute, tile_px, on_step
                )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._stylize_smaller(bucket, tile_px)
            return
        self._write(bucket, stylized_images, (time.monotonic() - started) / len(bucket))

    def _on_step(self, tasks: Sequence[BatchTask]) -> OnStep:
        """Reports and shows the steps of some tasks, and stops between two of them if a signal asks for it."""
        already, work = len(self.items), self.work

        def on_step(step: Step) -> None:
            done = already + step.share * len(tasks)
            elapsed_s = time.monotonic() - work.started
            work.report(Progress("stylize", round(done, 4), work.total, "images", elapsed_s))
            work.preview.show(step.image, tasks[0].output.name)
            if self.stop.signum is not None:
                raise Interrupted(
                    self.stop.signum,
                    "Stopped in the middle of a batch; the same command resumes after the last finished image.",
                )

        return on_step

    def _stylize_video(self, frames: VideoFrames, tile_px: int) -> None:
        """Stylizes a video and writes it; in smaller tiles if memory runs out."""
        started, task, settings = time.monotonic(), frames.task, self.settings
        try:
            styles = [self._style(path) for path in task.styles]
            task_of = self._frame_task(frames, styles)
            params = replace(self.params, long_edge_px=max(task.size))  # even
            of_frames = VideoParams(settings.video_steps, settings.temporal_weight)
            stylizer = VideoStylizer(self.network, params, of_frames, task_of, self.compute, tile_px)
            frames.stylize(stylizer, self._on_step([task]))
            self.steps += stylizer.steps
            self._write_video(frames, task_of, styles, time.monotonic() - started)
        except RejectedImage as rejected:
            self._fail(task, rejected.sentence)
        except (RuntimeError, MemoryError) as error:
            smaller = (tile_px or max(task.size)) // 2
            if not is_out_of_memory(error) or smaller < SMALLEST_TILE_PX:
                raise
            log.warning("Memory ran out; continuing with tiles of %d pixels.", smaller)
            self._stylize_video(frames, smaller)

    def _frame_task(self, frames: VideoFrames, styles: list[FloatImage]) -> Callable[[Pixels], StyleTask]:
        """The style task of a content frame; all frames take the styles that are matched to the first."""
        first = from_pixels(next(frames.contents()))
        matched = self._style_task(frames.task, first, styles)
        return lambda pixels: replace(matched, content=from_pixels(pixels))

    def _write_video(
        self,
        frames: VideoFrames,
        task_of: Callable[[Pixels], StyleTask],
        styles: list[FloatImage],
        seconds: float,
    ) -> None:
        """Writes the .mp4 beside the frames, the manifest entry, then the .mp4 in its place, as `_write_one`."""
        task, mode = self._with_free_output(frames.task), self.params.color_mode
        measured = [self._distances(task, f.stylized, task_of(f.content)) for f in frames.sample()]
        quality = {name: round(statistics.mean(each[name] for each in measured), 4) for name in measured[0]}
        quality["flicker"] = round(frames.flicker(), 5)
        made = frames.folder / task.output.name
        pixels, masks = [style.pixels for style in styles], _masks_of(task)
        finished = frames.finished(
            lambda stylized, content: finish_colors(stylized, content, pixels, mode, masks)
        )
        origin = self._origin(task, sha256_of(task.content), styles, quality)
        video = {"frames": frames.video.frames, "steps": self.settings.video_steps}
        origin |= {"video": video | {"temporal_weight": self.settings.temporal_weight}}
        write_stylized_video(finished, made, frames.video.rate, task.content, origin)
        self._add_entry(task, sha256_of(made), seconds, quality)
        with plain_disk_errors(task.output):
            made.replace(task.output)
        frames.remove()
        self.items[task.place] = replace(_item(task, "done"), seconds=round(seconds, 3), quality=quality)

    def _apply_feedforward(
        self, style: Path, style_tasks: list[StyleTask], tile_px: int, on_step: OnStep
    ) -> StyledImages:
        """The feed-forward network's images, refined by `style.refine_steps` optimizer steps."""
        contents = torch.cat([style_task.content for style_task in style_tasks])
        feedforward, _ = self.feedforward_networks[style]
        stylized_images = apply_network(feedforward, contents, torch.ones(len(contents), 1), self.compute)
        if not self.settings.refine_steps:
            return StyledImages(stylized_images, [], [0] * len(contents))
        few = replace(self.params, scales=1, steps=self.settings.refine_steps, stop_below=0.0)
        return stylize(self.network, style_tasks, few, self.compute, tile_px, on_step, stylized_images)

    def _stylize_smaller(self, bucket: list[_LoadedTask], tile_px: int) -> None:
        height, width = bucket[0].task.size
        if len(bucket) > 1:
            log.warning("Memory ran out with %d images at once; continuing with half of them.", len(bucket))
            middle = len(bucket) // 2
            self._stylize_bucket(bucket[:middle], tile_px)
            self._stylize_bucket(bucket[middle:], tile_px)
        elif (smaller := (tile_px or max(height, width)) // 2) >= SMALLEST_TILE_PX:
            log.warning("Memory ran out; continuing with tiles of %d pixels.", smaller)
            self._stylize_bucket(bucket, smaller)
        else:
            self._fail(
                bucket[0].task, f"memory ran out at {width}×{height} even in tiles; lower style.long_edge_px"
            )

    def _write(self, bucket: list[_LoadedTask], stylized_images: StyledImages, seconds: float) -> None:
        for n, loaded in enumerate(bucket):
            pixels = stylized_images.images[n : n + 1].float().cpu()
            self.steps += stylized_images.steps[n]
            if not torch.isfinite(pixels).all():
                self._fail(loaded.task, "its losses are no longer finite; lower style.lr")
                continue
            pixels = finish_colors(
                pixels,
                loaded.style_task.content,
                [style.pixels for style in loaded.styles],
                self.params.color_mode,
                loaded.style_task.masks,
            )
            loss = {"loss": round(stylized_images.losses[n], 6)} if stylized_images.losses else {}
            quality = loss | self._measure(loaded, pixels)
            self._write_one(loaded, pixels, seconds, quality)

    def _measure(self, loaded: _LoadedTask, pixels: Tensor) -> dict[str, float]:
        """Distance from the style and similarity to the content, neither of which was optimized."""
        found = self._distances(loaded.task, pixels, loaded.style_task)
        quality = {name: round(value, 4) for name, value in found.items()}
        if loaded.task.place < self.settings.reference_items and self.params.color_mode != "luminance":
            tile_px = self._tile_px(loaded.task.size)
            gap = optimality_gap(self.network, loaded.style_task, pixels, self.params, self.compute, tile_px)
            quality["gap"] = round(gap, 4)
        return quality

    def _distances(self, task: BatchTask, pixels: Tensor, style_task: StyleTask) -> dict[str, float]:
        distances = [
            share * style_distance(self.judge, pixels, style, self.compute)
            for share, style in zip(task.shares, style_task.styles, strict=True)
        ]
        structure = structure_similarity(pixels, style_task.content)
        return {"style_distance": sum(distances), "structure": structure}

    def _write_one(
        self, loaded: _LoadedTask, pixels: Tensor, seconds: float, quality: dict[str, float]
    ) -> None:
        """Writes the manifest entry, then the image: a kill between the two stylizes one image again."""
        task = self._with_free_output(loaded.task)
        alpha = loaded.content.alpha
        if alpha is not None:
            alpha = F.interpolate(alpha[None, None], task.size, mode="bilinear", antialias=True)[0, 0].clamp(
                0, 1
            )
        origin = self._origin(task, loaded.content.sha256, loaded.styles, quality)
        data = encode_float_image(pixels[0], alpha, self.settings.format, self.settings.bit_depth, origin)
        self._add_entry(task, hashlib.sha256(data).hexdigest(), seconds, quality)
        write_bytes(task.output, data)
        self.items[task.place] = replace(_item(task, "done"), seconds=round(seconds, 3), quality=quality)

    def _origin(
        self, task: BatchTask, content_sha256: str, styles: list[FloatImage], quality: dict[str, float]
    ) -> dict[str, Any]:
        """The origin that is written into a result."""
        made_of = [{"name": style.path.name, "sha256": style.sha256} for style in styles]
        return {
            "kind": "stylized",
            "content": {"name": task.content.name, "sha256": content_sha256} | _made_by(task.content),
            "style": made_of[0] if len(made_of) == 1 else made_of,
            "shares": list(task.shares),
            "masks": [mask.name for mask in task.masks],
            "network": self.network.weights.id,
            "preset": self.settings.preset,
            "by": "feedforward" if self._feedforward_style(task) else self.params.optimizer,
            "recipe": self.params.as_dict(),
            "quality": quality,
        }

    def _add_entry(self, task: BatchTask, sha256: str, seconds: float, quality: dict[str, float]) -> None:
        entry = ManifestEntry(
            task.key, task.output.name, sha256, self.settings.preset, round(seconds, 3), quality
        )
        add_entry(task.output.parent, entry)

    def _with_free_output(self, task: BatchTask) -> BatchTask:
        """The task, with another name if a batch that ran at the same time has taken its own."""
        if not os.path.lexists(task.output):
            return task
        folder = task.output.parent
        name = free_name(folder, task.output.name, task.key, keys_by_output(read_entries(folder)))
        return replace(task, output=folder / name)


def _masks_of(task: BatchTask) -> Tensor | None:
    return read_masks(task.masks, task.size) if task.masks else None


def _made_by(content: Path) -> dict[str, Any]:
    """The run and the model of a content image that ganpipe has generated; empty for a photo."""
    if origin_kind(content) is None:
        return {}
    origin = read_origin(content)
    return {key: origin[key] for key in ("run", "model", "seed", "index") if key in origin}


def _item(task: BatchTask, state: str) -> StyledItem:
    styles = tuple(map(str, task.styles))
    return StyledItem(str(task.content), styles, str(task.output), state, task.variant.name)
