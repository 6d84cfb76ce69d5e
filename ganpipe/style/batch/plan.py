"""Plans a batch: contents × styles; each file is read once, and images that exist already are skipped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ganpipe.errors import GanpipeError
from ganpipe.files import escape_control, sha256_of, sha256_of_json
from ganpipe.imaging.encode import FORMATS, check_format
from ganpipe.imaging.float_image import upright_size
from ganpipe.imaging.image import RejectedImage
from ganpipe.settings.schema import StyleSettings
from ganpipe.style.batch.manifest import free_name, is_intact, keys_by_output, read_entries
from ganpipe.style.color import mask_path, parse_shares
from ganpipe.style.optimize import size_at
from ganpipe.style.params import StyleParams, resolve_params
from ganpipe.vgg19.weights import style_weights

log = logging.getLogger(__name__)

MIXED = " + "  # between the styles of an image that mixes several
STEM_BYTES = 100  # of each of the two names in an output's name; file systems allow 255 in all


@dataclass
class StyledItem:
    """The outcome of one image. `style` names all styles if several are blended."""

    content: str
    style: str
    output: str
    state: str  # done, skipped or failed
    seconds: float = 0.0
    reason: str = ""
    quality: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchTask:
    """One image to stylize. `place`: of its item in the plan."""

    place: int
    key: str
    content: Path
    styles: tuple[Path, ...]
    shares: tuple[float, ...]
    masks: tuple[Path, ...]
    output: Path
    size: tuple[int, int]  # of the result


@dataclass(frozen=True)
class BatchPlan:
    """All items, the tasks that remain, and the files and folders that are no content and no style."""

    items: list[StyledItem]
    tasks: list[BatchTask]
    left_out: list[str] = field(default_factory=list)

    def shards(self, count: int) -> list[list[BatchTask]]:
        """The remaining tasks in shards of `count` images; images of one size stay together."""
        ordered = sorted(self.tasks, key=lambda task: (task.size, task.place))
        return [ordered[k : k + count] for k in range(0, len(ordered), count)]


def bytes_to_write(plan: BatchPlan, settings: StyleSettings) -> int:
    """About how many bytes the images of a plan will have."""
    samples = sum(3 * height * width for height, width in (task.size for task in plan.tasks))
    return int(samples * settings.bit_depth / 8 * FORMATS[settings.format].written_share)


def plan_batch(
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    settings: StyleSettings,
    masks: Sequence[Path] = (),
) -> BatchPlan:
    """Plans every content in every style, and skips the images that already exist. Nothing that is in `out` is overwritten
    but an image of the same inputs and settings.

    Raises:
        GanpipeError: invalid format, blend, masks or layers.
    """
    params = resolve_params(settings)
    check_format(settings.format, settings.bit_depth)
    if masks and len(masks) != len(styles):
        raise GanpipeError(f"{len(masks)} masks are given for {len(styles)} styles; give one for each style.")
    network = style_weights(settings.weights).id
    together = bool(masks) or bool(settings.blend)
    shares = parse_shares(settings.blend, len(styles)) if settings.blend else (1 / len(styles),) * len(styles)
    entries = {(entry.key, entry.output): entry for entry in read_entries(out)}
    keys = keys_by_output(entries.values())
    identities = _FileFacts(settings.max_megapixels * 1_000_000)
    names = _Names(FORMATS[settings.format].suffix)
    plan = BatchPlan([], [])
    for content in contents:
        for group in [tuple(styles)] if together else [(style,) for style in styles]:
            name = names.of(content, group)
            output = out / name
            item = StyledItem(str(content), MIXED.join(map(str, group)), str(output), "failed")
            plan.items.append(item)
            try:
                own_masks = tuple(mask_path(mask, content) for mask in masks)
                size = size_at(*identities.size(content), params.long_edge_px)
                for style in group:
                    identities.size(style)
                own_shares = shares if together else (1.0,)
                key = item_key(
                    [identities.sha256(p) for p in (content, *group, *own_masks)],
                    own_shares,
                    params,
                    network,
                    settings,
                )
            except RejectedImage as rejected:
                item.reason = rejected.sentence
                log.warning("Not stylized: %s", escape_control(item.reason))  # Prefect keeps it, too
                continue
            output = out / free_name(out, name, key, keys)
            item.output = str(output)
            entry = entries.get((key, output.name))
            if entry and is_intact(out, entry):
                item.state, item.quality = "skipped", entry.quality
                continue
            task = BatchTask(len(plan.items) - 1, key, content, group, own_shares, own_masks, output, size)
            plan.tasks.append(task)
    return plan


def item_key(
    sha256s: Sequence[str],
    shares: Sequence[float],
    params: StyleParams,
    network: str,
    settings: StyleSettings,
) -> str:
    """Everything that fixes a stylized image: its inputs, the parameters, the network and the file format."""
    feedforward = [settings.feedforward, settings.feedforward_images, settings.refine_steps]
    return sha256_of_json(
        [*sha256s, *shares, params.as_dict(), network, settings.format, settings.bit_depth, feedforward]
    )


class _FileFacts:
    """Size and hash of each file, each read once; raises RejectedImage, with the file's name, if it cannot be used."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._sizes: dict[Path, tuple[int, int] | RejectedImage] = {}
        self._hashes: dict[Path, str] = {}

    def size(self, path: Path) -> tuple[int, int]:
        if path not in self._sizes:
            try:
                self._sizes[path] = upright_size(path, self._max_pixels)
            except RejectedImage as rejected:
                self._sizes[path] = RejectedImage(rejected.code, f"{path}: {rejected.sentence}")
        size = self._sizes[path]
        if isinstance(size, RejectedImage):
            raise size
        return size

    def sha256(self, path: Path) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = sha256_of(path)
            except OSError as error:
                raise RejectedImage("unreadable", f"{path}: it cannot be read ({error.strerror})") from None
        return self._hashes[path]


class _Names:
    """Names of outputs, `content__style.png`, with part of the paths' hash added if two would be equal."""

    def __init__(self, suffix: str) -> None:
        self.suffix, self.taken = suffix, set[str]()

    def of(self, content: Path, styles: Sequence[Path]) -> str:
        stem = f"{_shorten(content.stem)}__{_shorten('+'.join(style.stem for style in styles))}"
        if stem.lower() in self.taken:
            paths = "\0".join(str(path.resolve()) for path in (content, *styles))
            stem += "_" + hashlib.sha256(paths.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        self.taken.add(stem.lower())
        return stem + self.suffix


def _shorten(name: str) -> str:
    """Shortens a name to STEM_BYTES, in characters that can be printed and encoded."""
    plain = "".join(c if c.isprintable() else "_" for c in name)
    return plain.encode()[:STEM_BYTES].decode(errors="ignore")
