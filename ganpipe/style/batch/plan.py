"""Plans a batch: contents × styles × variants of the settings; each file is read once, images that exist are skipped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control, sha256_of, sha256_of_json
from ganpipe.imaging.encode import FORMATS, check_format
from ganpipe.imaging.float_image import upright_size
from ganpipe.imaging.image import RejectedImage
from ganpipe.imaging.video_reading import VideoInfo, is_video_name, read_video_info
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.manifest import free_name, is_intact, keys_by_output, read_entries
from ganpipe.style.color import mask_path, parse_shares
from ganpipe.style.optimize import size_at
from ganpipe.style.params import StyleParams, resolve_params
from ganpipe.vgg19.weights import style_weights

log = logging.getLogger(__name__)

Fact = TypeVar("Fact")
VIDEO = ".mp4"  # of a stylized video
MIXED = " + "  # between the names of the styles of an image that mixes several
STEM_BYTES, VARIANT_BYTES = (
    100,
    28,
)  # of content and style, and of a variant, in an output's name; file systems allow 255


@dataclass
class StyledItem:
    """The outcome of one image. `variant`: see `Variant`."""

    content: str
    styles: tuple[str, ...]  # several if they are mixed
    output: str
    state: str  # done, skipped or failed
    variant: str = ""
    seconds: float = 0.0
    reason: str = ""
    quality: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its inputs in words, such as "photo.jpg in wave.jpg, strength=0.7"."""
        return f"{self.content} in {MIXED.join(self.styles)}{self.variant and f', {self.variant}'}"


@dataclass(frozen=True)
class Variant:
    """Settings that all contents are stylized with in all styles. `name`: how a sweep tells it from its others."""

    name: str
    settings: StyleSettings


@dataclass(frozen=True)
class BatchTask:
    """One image to stylize. `place`: of its item in the plan."""

    place: int
    key: str
    variant: Variant
    content: Path
    styles: tuple[Path, ...]
    shares: tuple[float, ...]
    masks: tuple[Path, ...]
    output: Path
    size: tuple[int, int]  # of the result
    video: VideoInfo | None = None  # of the content, if it is one


@dataclass(frozen=True)
class BatchPlan:
    """All items, the tasks that remain, and the files and folders that are no content and no style."""

    items: list[StyledItem]
    tasks: list[BatchTask]
    left_out: list[str] = field(default_factory=list)

    def shards(self, count: int) -> list[list[BatchTask]]:
        """The remaining tasks in shards of `count` images; images of one variant and size stay together."""
        ordered = sorted(self.tasks, key=lambda task: (task.variant.name, task.size, task.place))
        return [ordered[k : k + count] for k in range(0, len(ordered), count)]


def bytes_to_write(plan: BatchPlan) -> int:
    """About how many bytes the images of a plan will have."""
    return int(sum(_bytes_of(task) for task in plan.tasks))


def _bytes_of(task: BatchTask) -> float:
    """Frames of a video are kept as PNG until it is whole."""
    settings, samples = task.variant.settings, 3 * task.size[0] * task.size[1]
    if task.video:
        return samples * task.video.frames * FORMATS["png"].written_share
    return samples * settings.bit_depth / 8 * FORMATS[settings.format].written_share


def plan_batch(
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    variants: Sequence[Variant],
    masks: Sequence[Path] = (),
) -> BatchPlan:
    """Plans every content in every style and variant, and skips the images that already exist. Nothing that is in `out` is
    overwritten but an image of the same inputs and settings.

    Raises:
        GanpipeError: invalid format, blend, masks or layers.
    """
    if masks and len(masks) != len(styles):
        raise GanpipeError(f"{len(masks)} masks are given for {len(styles)} styles; give one for each style.")
    mixes = [_Mix.of(variant, len(styles), bool(masks)) for variant in variants]
    entries = {(entry.key, entry.output): entry for entry in read_entries(out)}
    keys = keys_by_output(entries.values())
    identities, names = _FileFacts(), _Names()
    plan = BatchPlan([], [])
    columns = [(mix, group) for mix in mixes for group in mix.groups(styles)]
    for content, (mix, group) in product(contents, columns):
        variant = mix.variant
        name = names.of(content, group, variant)
        item = StyledItem(str(content), tuple(map(str, group)), str(out / name), "failed", variant.name)
        plan.items.append(item)
        try:
            own_masks = tuple(mask_path(mask, content) for mask in masks)
            most_pixels = variant.settings.max_megapixels * 1_000_000
            video = identities.video(content) if is_video_name(content.name) else None
            upright = (video.height_px, video.width_px) if video else identities.size(content, most_pixels)
            size = size_at(*upright, mix.params.long_edge_px)
            if video:
                size = (size[0] // 2 * 2, size[1] // 2 * 2)  # H.264 needs even sides
            for style in group:
                identities.size(style, most_pixels)
            sha256s = [identities.sha256(p) for p in (content, *group, *own_masks)]
        except RejectedImage as rejected:
            item.reason = rejected.sentence
            log.warning("Not stylized: %s", escape_control(item.reason))  # Prefect keeps it, too
            continue
        key = item_key(sha256s, mix.shares, mix.params, mix.network, variant.settings, bool(video))
        output = out / free_name(out, name, key, keys)
        item.output = str(output)
        entry = entries.get((key, output.name))
        if entry and is_intact(out, entry):
            item.state, item.quality = "skipped", entry.quality
            continue
        place = len(plan.items) - 1
        plan.tasks.append(
            BatchTask(place, key, variant, content, group, mix.shares, own_masks, output, size, video)
        )
    return plan


@dataclass(frozen=True)
class _Mix:
    """A variant with the facts that hold for all its images. `together`: every image mixes all styles, with these shares."""

    variant: Variant
    params: StyleParams
    network: str
    together: bool
    shares: tuple[float, ...]

    @classmethod
    def of(cls, variant: Variant, styles: int, masked: bool) -> _Mix:
        settings = variant.settings
        params = resolve_params(settings)
        check_format(settings.format, settings.bit_depth)
        together = masked or bool(settings.blend)
        shares: tuple[float, ...] = (1.0,)
        if together:
            shares = parse_shares(settings.blend, styles) if settings.blend else (1 / styles,) * styles
        return cls(variant, params, style_weights(settings.weights).id, together, shares)

    def groups(self, styles: Sequence[Path]) -> list[tuple[Path, ...]]:
        """The styles of each image of a content."""
        return [tuple(styles)] if self.together else [(style,) for style in styles]


def item_key(
    sha256s: Sequence[str],
    shares: Sequence[float],
    params: StyleParams,
    network: str,
    settings: StyleSettings,
    video: bool = False,
) -> str:
    """Everything that fixes a stylized image or video: its inputs, the parameters, the network and the file format."""
    if video:
        own = ["video", settings.video_steps, settings.temporal_weight]
        return sha256_of_json([*sha256s, *shares, params.as_dict(), network, *own])
    feedforward = [settings.feedforward, settings.feedforward_images, settings.refine_steps]
    return sha256_of_json(
        [*sha256s, *shares, params.as_dict(), network, settings.format, settings.bit_depth, feedforward]
    )


class _FileFacts:
    """Size and hash of each file, each read once; raises RejectedImage, with the file's name, if it cannot be used."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int], Any] = {}
        self._hashes: dict[Path, str] = {}

    def video(self, path: Path) -> VideoInfo:
        return self._once(path, 0, lambda: read_video_info(path))

    def size(self, path: Path, most_pixels: int) -> tuple[int, int]:
        return self._once(path, most_pixels, lambda: upright_size(path, most_pixels))

    def _once(self, path: Path, most_pixels: int, read: Callable[[], Fact]) -> Fact:
        """Reads a fact the first time, and returns it, or raises the same error, every time."""
        if (path, most_pixels) not in self._known:
            try:
                self._known[path, most_pixels] = read()
            except RejectedImage as rejected:
                self._known[path, most_pixels] = RejectedImage(rejected.code, f"{path}: {rejected.sentence}")
        fact: Fact = self._known[path, most_pixels]
        if isinstance(fact, RejectedImage):
            raise fact
        return fact

    def sha256(self, path: Path) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = sha256_of(path)
            except OSError as error:
                raise RejectedImage("unreadable", f"{path}: it cannot be read ({error.strerror})") from None
        return self._hashes[path]


class _Names:
    """Names of outputs, `content__style.png` or `content__style__strength=0.7.png`, with part of a hash of
    the inputs added if two would be equal."""

    def __init__(self) -> None:
        self.taken = set[str]()

    def of(self, content: Path, styles: Sequence[Path], variant: Variant) -> str:
        stem = f"{_shorten(content.stem)}__{_shorten('+'.join(style.stem for style in styles))}"
        if variant.name:
            stem += f"__{_shorten(variant.name.replace('/', '_'), VARIANT_BYTES)}"
        if stem.lower() in self.taken:
            inputs = [str(path.resolve()) for path in (content, *styles)] + [variant.name] * bool(
                variant.name
            )
            stem += "_" + hashlib.sha256("\0".join(inputs).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        self.taken.add(stem.lower())
        return stem + (VIDEO if is_video_name(content.name) else FORMATS[variant.settings.format].suffix)


def _shorten(name: str, to_bytes: int = STEM_BYTES) -> str:
    """Shortens a name to so many bytes, in characters that can be printed and encoded."""
    plain = "".join(c if c.isprintable() else "_" for c in name)
    return plain.encode()[:to_bytes].decode(errors="ignore")
