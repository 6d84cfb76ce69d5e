"""A batch of stylisations: contents × styles, bucketed by shape, kept in a manifest so that nothing is redone."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganpipe.config import StyleSettings
from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import read_json, sha256_of, sha256_of_json, write_json
from ganpipe.images import Refusal, decode_image, over_white, read_image_file, save_png
from ganpipe.perceptual import Vgg19, weights_id
from ganpipe.progress import Progress, Report, ignore
from ganpipe.style.optimise import Step, effort, resized, size_at, stylise
from ganpipe.training.device import Compute
from ganpipe.training.interrupt import stop_requests

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
BATCH = {"cpu": 4, "cuda": 16}  # more at once is no faster on two cores; halved where memory runs out
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass
class StyledItem:
    """What became of one content × style."""

    content: str
    style: str
    output: str
    state: str  # done, skipped or failed
    seconds: float = 0.0
    reason: str = ""


@dataclass
class StyleReport:
    """What became of the whole batch."""

    items: list[StyledItem] = field(default_factory=list)
    done: int = 0
    skipped: int = 0
    failed: int = 0
    steps_per_second: float = 0.0
    sheet: str | None = None


@dataclass
class Picture:
    """A decoded picture and the identity of its bytes."""

    path: Path
    sha256: str
    image: Image.Image

    def tensor(self) -> Tensor:
        """`[1, 3, H, W]` in [0, 1]."""
        pixels = np.asarray(over_white(self.image).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@dataclass
class Job:
    """One item to paint: its place in the report, its manifest key, its pictures."""

    item: StyledItem
    key: str
    content: Picture
    style: Picture

    def size(self, settings: StyleSettings) -> tuple[int, int]:
        """Height and width of the result; jobs of one size are painted together."""
        return size_at(self.content.image.height, self.content.image.width, effort(settings).long_edge_px)


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """Files, and the images of folders, in a fixed order.

    Raises:
        GanpipeError: a path does not exist, or there is no image at all.
    """
    found: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise GanpipeError(f"There is no file or folder {path}.")
    if not found:
        raise GanpipeError(f"No image was found in {', '.join(map(str, given))}.")
    return list(dict.fromkeys(found))


def stylize_batch(
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    settings: StyleSettings,
    compute: Compute,
    origin: dict[str, Any] | None = None,
    report: Report = ignore,
) -> StyleReport:
    """Paints every content in every style into `out`; what its manifest says is there already is skipped.

    A file that cannot be read fails its own items and stops nobody else.

    Raises:
        Interrupted: SIGINT or SIGTERM; finished pictures stay, and the next run goes on.
        GanpipeError: `out` cannot be written, or no style can be read.
    """
    result = StyleReport()
    manifest: dict[str, dict[str, str]] = read_json(out / MANIFEST) if (out / MANIFEST).exists() else {}
    jobs = _plan(contents, styles, out, settings, manifest, result)
    if jobs:
        network = Vgg19("relu5_1", pooling="average").to(compute.device)
        started, steps = time.monotonic(), 0
        buckets = _buckets(jobs, settings, BATCH[compute.device.type])
        total = len(buckets)
        for number, bucket in enumerate(buckets):
            steps += _paint_bucket(
                network, bucket, out, settings, compute, manifest, origin or {}, number, total, report
            )
        result.steps_per_second = steps / (time.monotonic() - started)
    for item in result.items:
        setattr(result, item.state, getattr(result, item.state) + 1)
    if any(item.state != "failed" for item in result.items):
        result.sheet = str(_contact_sheet(result, out, origin or {}))
    return result


def _plan(
    contents: Sequence[Path], styles: Sequence[Path], out: Path, settings: StyleSettings,
    manifest: dict[str, dict[str, str]], result: StyleReport,
) -> list[Job]:  # fmt: skip
    """Decodes everything once, and lists an item for each pair: those left to do are returned as jobs."""
    pictures = {path: _open(path) for path in dict.fromkeys([*contents, *styles])}
    names = _output_names(contents, styles)
    jobs = []
    for content in contents:
        for style in styles:
            output = out / names[content, style]
            item = StyledItem(str(content), str(style), str(output), "failed")
            result.items.append(item)
            bad = next((p for p in (content, style) if isinstance(pictures[p], str)), None)
            if bad is not None:
                item.reason = f"{bad}: {pictures[bad]}"
                log.warning("Not stylised: %s", item.reason)
                continue
            c, s = pictures[content], pictures[style]
            assert isinstance(c, Picture)
            assert isinstance(s, Picture)
            key = item_key(c.sha256, s.sha256, settings)
            known = manifest.get(key)
            if (
                known
                and output.name == known["output"]
                and output.exists()
                and sha256_of(output) == known["sha256"]
            ):
                item.state = "skipped"
            else:
                jobs.append(Job(item, key, c, s))
    return jobs


def item_key(content_sha256: str, style_sha256: str, settings: StyleSettings) -> str:
    """What fixes a stylised picture: content, style, settings, network."""
    return sha256_of_json(
        [content_sha256, style_sha256, asdict(settings), asdict(effort(settings)), weights_id()]
    )


def _open(path: Path) -> Picture | str:
    try:
        data = read_image_file(path)
        return Picture(path, hashlib.sha256(data).hexdigest(), decode_image(data))
    except Refusal as refusal:
        return refusal.sentence


def _output_names(contents: Sequence[Path], styles: Sequence[Path]) -> dict[tuple[Path, Path], str]:
    """`content__style.png`, with part of the path's hash where two would share a name."""
    names: dict[tuple[Path, Path], str] = {}
    taken: set[str] = set()
    for content in contents:
        for style in styles:
            name = f"{content.stem[:80]}__{style.stem[:80]}.png"
            if name.lower() in taken:
                mark = hashlib.sha256(
                    f"{content.resolve()}\0{style.resolve()}".encode("utf-8", "surrogateescape")
                )
                name = f"{content.stem[:80]}__{style.stem[:80]}_{mark.hexdigest()[:8]}.png"
            taken.add(name.lower())
            names[content, style] = name
    return names


def _buckets(jobs: list[Job], settings: StyleSettings, batch: int) -> list[list[Job]]:
    """Jobs whose results have one shape, at most `batch` together."""
    by_size: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        by_size.setdefault(job.size(settings), []).append(job)
    return [group[k : k + batch] for group in by_size.values() for k in range(0, len(group), batch)]


def _paint_bucket(
    network: Vgg19, bucket: list[Job], out: Path, settings: StyleSettings, compute: Compute,
    manifest: dict[str, dict[str, str]], origin: dict[str, Any], number: int, total: int, report: Report,
) -> int:  # fmt: skip
    """Paints one bucket, halved as often as memory asks, and writes its pictures; returns item-steps."""
    started = time.monotonic()
    size = bucket[0].size(settings)
    contents = torch.cat([resized(job.content.tensor(), size) for job in bucket]).to(compute.device)
    by_sha = {job.style.sha256: job.style.tensor().to(compute.device) for job in bucket}
    steps = 0

    with stop_requests() as stop:

        def on_step(step: Step) -> None:
            nonlocal steps
            steps = step.done
            elapsed_s = time.monotonic() - started
            done = number + step.done / step.total
            report(Progress("stylise", round(done * 100, 1), total * 100, "%", elapsed_s, number * 100))
            if stop.signum is not None:
                raise Interrupted(
                    stop.signum,
                    "Stopped in the middle of a batch; the same command goes on after the last finished picture.",
                )

        try:
            painted = stylise(
                network, contents, [by_sha[j.style.sha256] for j in bucket], settings, compute, on_step
            )
        except (RuntimeError, MemoryError) as error:
            if len(bucket) == 1 or not ("out of memory" in str(error) or "can't allocate" in str(error)):
                raise
            log.warning("Memory ran out with %d pictures at once; going on with half of them.", len(bucket))
            middle = len(bucket) // 2
            halves = (bucket[:middle], bucket[middle:])
            return sum(
                _paint_bucket(network, half, out, settings, compute, manifest, origin, number, total, report)
                for half in halves
            )
    seconds = (time.monotonic() - started) / len(bucket)
    for job, pixels in zip(bucket, painted, strict=True):
        _write(job, pixels, out, settings, manifest, origin)
        job.item.state, job.item.seconds = "done", round(seconds, 3)
    return steps * len(bucket)


def _write(
    job: Job, pixels: Tensor, out: Path, settings: StyleSettings, manifest: dict[str, dict[str, str]],
    origin: dict[str, Any],
) -> None:  # fmt: skip
    """The picture by rename, then the manifest: a kill between the two repaints one picture."""
    image = Image.fromarray((pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy())
    if job.content.image.mode in ("LA", "RGBA"):
        image.putalpha(job.content.image.getchannel("A").resize(image.size, Image.Resampling.LANCZOS))
    path = Path(job.item.output)
    text = origin | {
        "kind": "stylised",
        "content": {"name": job.content.path.name, "sha256": job.content.sha256},
        "style": {"name": job.style.path.name, "sha256": job.style.sha256},
        "network": weights_id(),
        "settings": asdict(settings),
    }
    save_png(image, path, text)
    manifest[job.key] = {"output": path.name, "sha256": sha256_of(path)}
    write_json(out / MANIFEST, manifest)


def _contact_sheet(result: StyleReport, out: Path, origin: dict[str, Any]) -> Path:
    """Contents down, styles across, each result where they meet; drawn anew only when something was painted."""
    path = out / "contact-sheet.png"
    shown = [item for item in result.items if item.state != "failed"]
    if path.exists() and all(item.state == "skipped" for item in shown):
        return path
    contents = list(dict.fromkeys(item.content for item in shown))[:12]
    styles = list(dict.fromkeys(item.style for item in shown))[:8]
    cell, gap = 224, 6
    sheet = Image.new(
        "RGB", ((len(styles) + 1) * (cell + gap) + gap, (len(contents) + 1) * (cell + gap) + gap), "white"
    )

    def place(source: str, column: int, row: int) -> None:
        picture = over_white(decode_image(Path(source).read_bytes())).convert("RGB")
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        x = gap + column * (cell + gap) + (cell - picture.width) // 2
        sheet.paste(picture, (x, gap + row * (cell + gap) + (cell - picture.height) // 2))

    for column, style in enumerate(styles, start=1):
        place(style, column, 0)
    for row, content in enumerate(contents, start=1):
        place(content, 0, row)
    for item in shown:
        if item.content in contents and item.style in styles:
            place(item.output, styles.index(item.style) + 1, contents.index(item.content) + 1)
    return save_png(sheet, path, origin | {"kind": "contact sheet"})
