"""Fast styles for big batches: a feed-forward network that learns the optimiser's losses on the user's own contents.

A student is an image transformer (Johnson, Alahi & Fei-Fei 2016, arXiv 1603.08155) with instance normalisation
(Ulyanov et al. 2016, arXiv 1607.08022) whose scale and shift belong to the style (Dumoulin et al. 2017,
arXiv 1610.07629), so that one network paints several styles and their blends. It sees crops of the contents at the
size at which they will be painted, and has the optimiser's own objective: the same layers, statistics and weights.

Departures, so that hundreds of images show the style and not tens of thousands: the last convolution is added to the
picture itself, and colours start as the style's, as the optimiser starts from the content; noise goes in with the
picture, or a plain sky gets no strokes (so Ulyanov et al. 2016, arXiv 1603.03417); the rows of a style learn faster
than what all styles share; batches are small.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from ganpipe.errors import GanpipeError, Interrupted
from ganpipe.files import read_json, sha256_of, sha256_of_json, write_bytes, write_json
from ganpipe.perceptual import Vgg19
from ganpipe.progress import Progress, Report, ignore
from ganpipe.style.losses import StyleTarget
from ganpipe.style.objective import Losses, Objective, content_targets, tiles_of
from ganpipe.style.optimise import SMALLEST_PX, Commission, resized, style_targets
from ganpipe.style.recipe import Recipe
from ganpipe.training.device import Compute
from ganpipe.training.interrupt import StopRequest, stop_requests
from ganpipe.training.schedule import cosine
from ganpipe.training.stream import EndlessOrder, generator_at

log = logging.getLogger(__name__)

EPS = 1e-5  # under the root of a variance
SHRINK = 4  # pixels of a cell of the residual blocks, each way
LEAST_PX = 16  # smaller pictures are padded to it
NOISE_CELLS_PX = (4, 16)
BATCH_IMAGES = 2  # a lower loss than 4 after as many images; 1 gained no more
ROW_RATE = 10.0  # of the styles' rows, which begin at 1 and 0: Adam moves a number by about LR a step
LR = 1e-3  # falls to 0 along half a cosine
CURVE_IMAGES = 40  # a point of the curve is the mean over so many
SAVE_EVERY_S = 30.0  # when a checkpoint is written changes nothing in the result
KEEP = 2
KEPT_BYTES = 256 * 2**20  # of the contents, in memory; the others are loaded whenever they are drawn
WEIGHTS, CONFIG = "model.safetensors", "model.json"

# Keys of independent streams drawn from the same seed, after those of `training.stream`.
CONTENTS, STYLES, CROPS, NOISE = 101, 102, 103, 104

Content = Tensor | Callable[[], Tensor]


class _Norm(torch.autograd.Function):
    """Instance normalisation of `x: [N, C, H, W]`, then `scale` and `shift: [N, C]`.

    By hand because torch's own leave channels-last memory (instance_norm) or are 20 times slower backward in it
    (group_norm). Sums are in float32, and backward has the two passes that it needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, square = _mean(x), _mean(x * x)
        rstd = (square - mean * mean).clamp_min(0).add(EPS).rsqrt()
        ctx.save_for_backward(x, mean, rstd, scale)
        return torch.addcmul(_map(shift - mean * rstd * scale, x), x, _map(rstd * scale, x))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, rstd, scale = ctx.saved_tensors
        slope = slopes[0]
        by_shift = _mean(slope)
        by_scale = (_mean(slope * x) - mean * by_shift) * rstd
        gain = rstd * scale
        of_x = -gain * rstd * by_scale
        rest = torch.addcmul(_map(-gain * by_shift - of_x * mean, x), x, _map(of_x, x))
        pixels = x.shape[2] * x.shape[3]
        return torch.addcmul(rest, slope, _map(gain, x)), by_scale * pixels, by_shift * pixels


def _mean(x: Tensor) -> Tensor:
    """Over positions, `[N, C]`, in float32 at least."""
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


def _map(values: Tensor, like: Tensor) -> Tensor:
    """`[N, C]` as `[N, C, 1, 1]` with the type of a map."""
    return values.to(like.dtype)[:, :, None, None]


class ConditionalNorm(nn.Module):
    """Instance normalisation with a row of scales and one of shifts for each style (Dumoulin et al. 2017, eq. 5)."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """`x: [N, C, H, W]`; `shares: [N, S]` mix the rows."""
        # Products and sums, not a matrix product, which autocast would round to bf16.
        scale, shift = ((shares[:, :, None] * rows).sum(1) for rows in (self.scale, self.shift))
        normalised: Tensor = _Norm.apply(x, scale, shift)
        return normalised


class _Conv(nn.Module):
    """A convolution with reflected borders, then the conditional norm; upsampled before where asked."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, styles: int, stride: int = 1, up: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, bias=False, padding_mode="reflect"
        )
        self.norm = ConditionalNorm(outputs, styles)
        self.up = up

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        if self.up > 1:
            x = F.interpolate(x, scale_factor=float(self.up), mode="nearest")
        normalised: Tensor = self.norm(self.conv(x), shares)
        return normalised


class _Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.first, self.second = (_Conv(channels, channels, 3, styles) for _ in range(2))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        inner = F.relu(self.first(x, shares), inplace=True)
        outer: Tensor = x + self.second(inner, shares)
        return outer


@dataclass(frozen=True)
class StudentConfig:
    """What a student is made of. `styles`: their names, in the order of the columns of `shares`."""

    styles: tuple[str, ...]
    width: int = 32  # channels at full size; twice and four times as many below
    blocks: int = 5  # residual, at a quarter of the size


class Student(nn.Module):
    """The image transformer: two steps down, residual blocks, two steps up by upsampling and convolving."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        w, s = config.width, len(config.styles)
        self.config = config
        self.down = nn.ModuleList(
            [
                _Conv(3 + len(NOISE_CELLS_PX), w, 9, s),
                _Conv(w, 2 * w, 3, s, stride=2),
                _Conv(2 * w, 4 * w, 3, s, stride=2),
            ]
        )
        self.blocks = nn.ModuleList(_Residual(4 * w, s) for _ in range(config.blocks))
        self.up = nn.ModuleList([_Conv(4 * w, 2 * w, 3, s, up=2), _Conv(2 * w, w, 3, s, up=2)])
        self.out = nn.Conv2d(w, 3, 9, padding=4, bias=False, padding_mode="reflect")
        self.colours = ConditionalNorm(3, s)

    def forward(self, images: Tensor, shares: Tensor, noise_seed: int = 0) -> Tensor:
        """`images: [N, 3, H, W]` in [0, 1], of any size, painted in styles mixed by `shares: [N, S]`; in [0, 1].

        The noise is one for the whole batch, so that a picture does not depend on its companions.
        """
        height, width = images.shape[2:]
        whole = F.pad(images, (0, _missing(width), 0, _missing(height)), mode="replicate")
        noise = noise_maps(whole.shape[2], whole.shape[3], noise_seed).to(whole.device)
        x = torch.cat([whole, noise.expand(len(whole), -1, -1, -1)], 1)
        for conv in self.down:
            x = F.relu(conv(x, shares), inplace=True)
        for block in self.blocks:
            x = block(x, shares)
        for conv in self.up:
            x = F.relu(conv(x, shares), inplace=True)
        painted = self.colours(self.out(x).float() + whole, shares)
        return torch.sigmoid(painted)[:, :, :height, :width]

    @torch.no_grad()
    def take_colours(self, style: int, image: Tensor) -> None:
        """Gives pictures in a style the mean and deviation of `image: [1, 3, h, w]`, as they are before the sigmoid."""
        inner = torch.logit(image.to(self.colours.scale).clamp(0.02, 0.98))
        self.colours.shift[style] = inner.mean((0, 2, 3))
        self.colours.scale[style] = inner.std((0, 2, 3), correction=0)


def noise_maps(height: int, width: int, seed: int) -> Tensor:
    """`[1, M, H, W]`: smooth noise in cells of several sizes. Sharp cells showed as a grid in the pictures."""
    maps = []
    for cell in NOISE_CELLS_PX:
        shape = (1, 1, -(-height // cell), -(-width // cell))
        small = torch.randn(shape, generator=generator_at(seed, NOISE, cell))
        maps.append(F.interpolate(small, scale_factor=float(cell), mode="bilinear")[:, :, :height, :width])
    return torch.cat(maps, 1)


def _missing(size: int) -> int:
    """Pixels that an axis lacks to a whole number of cells."""
    return max(LEAST_PX, -(-size // SHRINK) * SHRINK) - size


@torch.no_grad()
def stylise_with(student: Student, contents: Tensor, shares: Tensor, compute: Compute) -> Tensor:
    """`contents: [N, 3, H, W]` in [0, 1] painted in styles mixed by `shares: [N, S]`: float32 in [0, 1]."""
    compute.place(student)
    images = contents.to(compute.device, memory_format=torch.channels_last)
    with compute.autocast():
        painted: Tensor = student(images, shares.to(compute.device))
    return painted


@dataclass(frozen=True)
class StudentResult:
    """A trained student.

    `lesson` says what fixed it, in plain values; `curve` is a list of (nimg, total, content, style), each a mean since
    the point before; `seconds` are those of all processes that trained it.
    """

    student: Student
    config: StudentConfig
    lesson: dict[str, Any]
    curve: list[tuple[int, float, float, float]]
    seconds: float
    images_per_second: float
    weights_sha256: str


def train_student(
    network: Vgg19, contents: Sequence[Content], styles: Mapping[str, Tensor], recipe: Recipe, images: int,
    compute: Compute, folder: Path, size: int, report: Report = ignore, seed: int = 0, width: int = 32,
) -> StudentResult:  # fmt: skip
    """Trains a student on `images` crops of `size` × `size` pixels, going on from the newest checkpoint in `folder`.

    `contents`: pictures `[3, H, W]` or `[1, 3, H, W]` in [0, 1], or what loads one (called in another thread), with the
    longer edge at which they will be painted: `recipe.long_edge_px`, at which the styles are looked at, too.
    `styles`: pictures `[1, 3, h, w]` by name. `folder` belongs to these contents alone.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step was finished and a checkpoint written.
        GanpipeError: nothing to learn from, the loss is no number any more, or the disk is full.
    """
    _check(contents, styles, images, size)
    config = StudentConfig(tuple(styles), width)
    lesson = _lesson(network, contents, styles, recipe, images, size, seed, config)
    saves = Checkpoints(folder, sha256_of_json(lesson))
    state = _fresh_state(config, styles, compute, seed)
    saves.restore(state)
    teacher = Teacher.of(network, styles, recipe, compute, size)
    started, first, before_s = time.monotonic(), state.nimg, state.seconds
    saved = started
    with Crops(contents, len(styles), size, seed, images) as crops, stop_requests() as stop:
        while state.nimg < images:
            crop = crops.batch(state.nimg)
            losses = teacher.step(state, crop, cosine(LR, 0.0, state.nimg, images))
            state.add(losses, len(crop.images), images)
            state.seconds = before_s + time.monotonic() - started
            if stop.signum is not None or time.monotonic() - saved > SAVE_EVERY_S or state.nimg == images:
                saves.write(state)
                saved = time.monotonic()
            _stop_if_asked(stop, state.nimg, images)
            elapsed_s = time.monotonic() - started
            report(Progress("student", state.nimg, images, "images", elapsed_s, first, state.note))
    return StudentResult(
        state.student.eval(), config, lesson, state.curve, state.seconds, state.nimg / max(state.seconds, 1e-9),
        _sha256_of_weights(state.student),
    )  # fmt: skip


def _check(contents: Sequence[Content], styles: Mapping[str, Tensor], images: int, size: int) -> None:
    if not contents or not styles:
        raise GanpipeError(
            f"A student needs contents and styles; there are {len(contents)} and {len(styles)}."
        )
    if images < 1:
        raise GanpipeError(f"A student was to see {images} images; it needs at least 1.")
    if size < SMALLEST_PX:
        raise GanpipeError(f"A student's crops were to be {size} px; they need {SMALLEST_PX} at least.")


TAUGHT = ("long_edge_px", "statistics", "content_layers", "style_layers", "content_weight", "style_weight",
          "variation_weight", "style_scale", "colours")  # fmt: skip


def _lesson(
    network: Vgg19, contents: Sequence[Content], styles: Mapping[str, Tensor], recipe: Recipe, images: int, size: int,
    seed: int, config: StudentConfig,
) -> dict[str, Any]:  # fmt: skip
    """What fixes a student beside the contents' pixels. Of the recipe: not what is about descent on pixels."""
    return {
        "model": asdict(config),
        "styles": {name: _sha256_of_pixels(style) for name, style in styles.items()},
        "contents": len(contents),
        "recipe": {name: value for name, value in recipe.as_dict().items() if name in TAUGHT},
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
            f"Stopped a student at {nimg:,} of {images:,} images; the same call again goes on there.",
        )


@dataclass(frozen=True)
class Crop:
    """A batch: `images: [N, 3, size, size]`, the style of each, `[N]`, and what fixes its noise."""

    images: Tensor
    styles: Tensor
    noise_seed: int


class Crops:
    """Batches as a function of (seed, position): contents and styles in endless random order, cut and flipped at random.

    One batch is prepared ahead, in a thread. Contents stay in memory as far as KEPT_BYTES go.
    """

    def __init__(self, contents: Sequence[Content], styles: int, size: int, seed: int, total: int) -> None:
        self.contents, self.size, self.seed, self.total = contents, size, seed, total
        self.content_order = EndlessOrder(len(contents), seed, CONTENTS)
        self.style_order = EndlessOrder(styles, seed, STYLES)
        self.kept: dict[int, Tensor] = {}
        self.room = KEPT_BYTES
        self.reader = ThreadPoolExecutor(1)
        self.ahead: dict[int, Future[Crop]] = {}

    def __enter__(self) -> Crops:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.shutdown(cancel_futures=True)

    def batch(self, position: int) -> Crop:
        """The batch that stands at `position`; the one after it is begun."""
        now = self.ahead.pop(position, None) or self.reader.submit(self._read, position)
        after = position + BATCH_IMAGES
        self.ahead = {after: self.reader.submit(self._read, after)} if after < self.total else {}
        return now.result()

    def _read(self, position: int) -> Crop:
        count = min(BATCH_IMAGES, self.total - position)
        rows = self.content_order.rows(position, count).tolist()
        generator = generator_at(self.seed, CROPS, position)
        draws = torch.rand(count, 3, generator=generator).tolist()
        crops = [self._cut(self._picture(row), *draw) for row, draw in zip(rows, draws, strict=True)]
        noise_seed = int(torch.randint(2**31, (), generator=generator))
        return Crop(torch.cat(crops), self.style_order.rows(position, count), noise_seed)

    def _picture(self, row: int) -> Tensor:
        """Content `row` as `[1, 3, H, W]`, no edge shorter than a crop."""
        if row in self.kept:
            return self.kept[row]
        content = self.contents[row]
        image = content if isinstance(content, Tensor) else content()
        picture = self._at_least_a_crop(image.detach().cpu().float().reshape(1, *image.shape[-3:]))
        if self.room >= picture.nbytes:
            self.kept[row], self.room = picture, self.room - picture.nbytes
        return picture

    def _at_least_a_crop(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        scale = max(1.0, self.size / min(height, width))
        return resized(image, (max(self.size, round(height * scale)), max(self.size, round(width * scale))))

    def _cut(self, image: Tensor, down: float, across: float, flip: float) -> Tensor:
        top = int(down * (image.shape[2] - self.size + 1))
        left = int(across * (image.shape[3] - self.size + 1))
        crop = image[:, :, top : top + self.size, left : left + self.size]
        return crop.flip(3) if flip < 0.5 else crop


@dataclass
class State:
    """All that changes: what a checkpoint holds. `pending: [4]`: sums of the losses since the last point, and images."""

    student: Student
    optimiser: torch.optim.Adam
    pending: Tensor
    nimg: int = 0
    steps: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The newest loss, for people."""
        return f"loss {self.curve[-1][1]:.3f}" if self.curve else ""

    def add(self, losses: Losses, count: int, total: int) -> None:
        """Counts a step of `count` images, and notes a point of the curve where one is due."""
        self.pending += torch.stack([*(part.sum() for part in (losses.total, losses.content, losses.style)),
                                     torch.tensor(float(count), device=self.pending.device)])  # fmt: skip
        before, self.nimg, self.steps = self.nimg, self.nimg + count, self.steps + 1
        if self.nimg // CURVE_IMAGES > before // CURVE_IMAGES or self.nimg == total:
            all_of, content, style = (self.pending[:3] / self.pending[3]).tolist()
            self.curve.append((self.nimg, all_of, content, style))
            self.check(all_of)
            self.pending.zero_()

    def check(self, loss: float) -> None:
        """Raises GanpipeError where the loss is no number any more."""
        if not math.isfinite(loss):
            raise GanpipeError(
                f"A student's loss became {loss} at {self.nimg:,} images; set training.precision to fp32, give other "
                "pictures, or set style.student to never."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Weights and Adam's moments by name, and what is pending."""
        found = {"pending": self.pending}
        for name, weight in self.student.named_parameters():
            moments = self.optimiser.state[weight]
            found |= {f"weight/{name}": weight, f"first/{name}": moments["exp_avg"]}
            found[f"second/{name}"] = moments["exp_avg_sq"]
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """The inverse of `tensors`, with a checkpoint's JSON."""
        for name, weight in self.student.named_parameters():
            weight.copy_(tensors[f"weight/{name}"])
            # Fused Adam reads by address: moments must lie in memory as their weights do, channels last.
            first, second = (
                torch.empty_like(weight).copy_(tensors[f"{k}/{name}"]) for k in ("first", "second")
            )
            step = torch.tensor(float(note["steps"]), device=weight.device)
            self.optimiser.state[weight] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        self.pending.copy_(tensors["pending"])
        self.nimg, self.steps, self.seconds = note["nimg"], note["steps"], note["seconds"]
        self.curve = [(int(n), t, c, s) for n, t, c, s in note["curve"]]


def _fresh_state(config: StudentConfig, styles: Mapping[str, Tensor], compute: Compute, seed: int) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(config)
    for k, image in enumerate(styles.values()):
        student.take_colours(k, image)
    compute.place(student)
    rows = [w for m in student.modules() if isinstance(m, ConditionalNorm) for w in m.parameters()]
    shared = [m.weight for m in student.modules() if isinstance(m, nn.Conv2d)]
    groups = [{"params": shared, "rate": 1.0}, {"params": rows, "rate": ROW_RATE}]
    return State(student, torch.optim.Adam(groups, LR, fused=True), torch.zeros(4, device=compute.device))


@dataclass(frozen=True)
class Teacher:
    """What a student is drawn towards: the optimiser's objective, with the targets of all styles."""

    network: Vgg19
    recipe: Recipe
    compute: Compute
    targets: dict[str, StyleTarget]
    size: int

    @classmethod
    def of(
        cls, network: Vgg19, styles: Mapping[str, Tensor], recipe: Recipe, compute: Compute, size: int
    ) -> Teacher:
        """Looks at each style once, at the size of the whole pictures."""
        commissions = [Commission(style, (style,)) for style in styles.values()]
        targets = style_targets(network, commissions, recipe.long_edge_px, recipe, compute)
        return cls(network, recipe, compute, targets, size)

    def step(self, state: State, crop: Crop, lr: float) -> Losses:
        """One step of Adam; the losses `[N]` before it."""
        images = crop.images.to(self.compute.device, memory_format=torch.channels_last, non_blocking=True)
        rows = crop.styles.to(self.compute.device)
        objective = self.objective(images, rows)
        for group in state.optimiser.param_groups:
            group["lr"] = lr * group["rate"]
        state.optimiser.zero_grad(set_to_none=True)
        with self.compute.autocast():
            shares = F.one_hot(rows, len(state.student.config.styles)).float()
            painted = state.student(images, shares, crop.noise_seed)
        losses, slope = objective.losses_and_slope(painted.detach())
        painted.backward(slope / len(images))
        state.optimiser.step()
        return losses

    def objective(self, images: Tensor, rows: Tensor) -> Objective:
        """That of a batch of crops, each in its style."""
        tiles = tiles_of(self.size, self.size, 0, self.recipe.last)
        content, content_size = content_targets(self.network, images, self.recipe, self.compute, tiles)
        style = {layer: target.of_items(rows) for layer, target in self.targets.items()}
        return Objective(self.network, self.recipe, self.compute, tiles, content, content_size, style)


@dataclass(frozen=True)
class Checkpoints:
    """The last two, each a safetensors file and then its JSON, without which it does not count.

    0-000000800.safetensors   weights, moments, pending losses
    0-000000800.json          its SHA-256, the lesson's, and all plain numbers
    """

    folder: Path
    lesson: str

    def write(self, state: State) -> None:
        """Writes a checkpoint, whole or not at all, and drops all but it and the one before.

        Raises:
            GanpipeError: the loss is no number any more, or the disk is full.
        """
        if state.pending[3] > 0:
            state.check(float(state.pending[0]))
        path = self.folder / f"0-{state.nimg:09d}.safetensors"
        data = save(state.tensors())
        write_bytes(path, data)
        note = {"sha256": hashlib.sha256(data).hexdigest(), "lesson": self.lesson}
        numbers = {name: getattr(state, name) for name in ("nimg", "steps", "seconds", "curve")}
        write_json(path.with_suffix(".json"), note | numbers)
        self._drop(self._listed()[:-KEEP])

    def restore(self, state: State) -> None:
        """Goes on from the newest that is whole and of this lesson; without one the state is as it was."""
        notes = self._listed()
        for path in reversed(notes):
            if self._restored(state, path):
                log.info("Going on with a student after %s images.", f"{state.nimg:,}")
                return
        if notes:
            log.warning("No checkpoint in %s is of use; the student starts again.", self.folder)
        self._drop(notes)

    def _restored(self, state: State, path: Path) -> bool:
        try:
            note = read_json(path)
            data = path.with_suffix(".safetensors").read_bytes()
            if note["lesson"] != self.lesson:
                log.info("The checkpoint %s is of another lesson.", path)
                return False
            if hashlib.sha256(data).hexdigest() == note["sha256"]:
                state.restore(load(data), note)
                return True
        except (OSError, GanpipeError, SafetensorError, KeyError, TypeError, ValueError):
            pass
        log.warning("The checkpoint %s is damaged; falling back to the one before.", path)
        return False

    def _listed(self) -> list[Path]:
        return sorted(self.folder.glob("0-*.json"))

    @staticmethod
    def _drop(notes: list[Path]) -> None:
        for note in notes:
            note.unlink(missing_ok=True)
            note.with_suffix(".safetensors").unlink(missing_ok=True)


def _sha256_of_weights(student: Student) -> str:
    """SHA-256 over the names and bytes of all weights, in a fixed order."""
    digest = hashlib.sha256()
    for name, weight in sorted(student.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_student(folder: Path, student: Student, config: StudentConfig, origin: dict[str, Any]) -> None:
    """Writes the student's weights, and the JSON that says how to build it and where it comes from.

    `origin`: at least the result's `lesson`.
    """
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in student.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(tensors))
    note = {
        "format": 1,
        "model": asdict(config),
        "weights_sha256": sha256_of(folder / WEIGHTS),
        "origin": origin,
    }
    write_json(folder / CONFIG, note)


def load_student(folder: Path) -> tuple[Student, dict[str, Any]]:
    """The student in `folder`, on the CPU in evaluation mode, and its JSON.

    Raises:
        GanpipeError: a file is missing or damaged.
    """
    note = read_json(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.exists() or sha256_of(path) != note.get("weights_sha256"):
        raise GanpipeError(f"{path} is missing or damaged: its bytes are not those that {CONFIG} names.")
    try:
        model = note["model"]
        student = Student(StudentConfig(tuple(model["styles"]), model["width"], model["blocks"]))
        student.load_state_dict(load(path.read_bytes()))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise GanpipeError(f"{path} does not fit its model ({str(error).splitlines()[0]}).") from None
    return student.eval(), note


@dataclass(frozen=True)
class BreakEven:
    """Whether training a student costs less time than optimising each picture, and from how many pictures on."""

    pictures: int
    optimising_seconds: float
    training_seconds: float
    painting_seconds: float
    from_pictures: int | None  # None: never

    @property
    def pays(self) -> bool:
        """Whether it does for these pictures."""
        return self.from_pictures is not None and self.pictures >= self.from_pictures

    def sentence(self, *styles: str) -> str:
        """For people."""
        named = " and ".join(f"'{style}'" for style in styles)
        start = f"{self.pictures:,} picture{'s' * (self.pictures != 1)}" + (f" in {named}" if named else "")
        times = (
            f"optimising takes about {_spoken(self.optimising_seconds)}, training a student "
            f"{_spoken(self.training_seconds)} and painting {_spoken(self.painting_seconds)}"
        )
        verdict = (
            "the student never pays"
            if self.from_pictures is None
            else f"the student pays from {self.from_pictures:,} picture{'s' * (self.from_pictures != 1)} on"
        )
        return f"{start}: {times}: {verdict}."


def break_even(
    pictures: int, seconds_each_optimised: float, seconds_each_student: float, training_seconds: float
) -> BreakEven:
    """The least n with n · optimised > training + n · student."""
    saved = seconds_each_optimised - seconds_each_student
    least = math.floor(training_seconds / saved) + 1 if saved > 0 else None
    return BreakEven(
        pictures, pictures * seconds_each_optimised, training_seconds, pictures * seconds_each_student, least
    )


def _spoken(seconds: float) -> str:
    """Such as 20 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
