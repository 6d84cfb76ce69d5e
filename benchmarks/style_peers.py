"""The peers of ganpipe's style engine, with the same embedded VGG19 weights, on a CPU, float32 as they come.

    python -m benchmarks.style_peers [--checkout DIR] [--steps 5] [--edge 256] [--min-edge 256] [--out DIR]

`run_crowsonkb` is crowsonkb/style-transfer-pytorch: the code of a checkout that you name or, without one, a replica of
its loop written from its description (the run's name says which). `run_gatys` is the loop of every tutorial on Gatys
et al. 2016: one size, Gram matrices, Adam on the pixels. Both know VGG19 as torchvision lays it out and download its
weights; here `embedded_vgg19` gives them that layout with the weights that ganpipe uses. `main` times all of them.
"""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import functional as TF

from ganpipe.perceptual import Vgg19

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's normalisation, RGB in [0, 1]
# Places in torchvision's `vgg19().features`.
STYLE = (1, 6, 11, 20, 29)  # relu1_1 … relu5_1
CONTENT = 22  # relu4_2
# RMS activation of the embedded network on scikit-learn's two photographs at 256×171, where a loss reads it. The
# peers' losses have units and were weighed for torchvision's network; on Caffe's raw activations (or those divided by
# one number) crowsonkb's content drowns the style, and after 100 steps the photo's colours are still there. With each
# such layer divided by its level, and the factor taken back in the next convolution, the style's colours arrive.
LEVELS = {1: 53.0, 6: 215.0, 11: 279.0, 20: 927.0, 22: 754.0, 29: 146.0}
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {  # the factors keep the mean activation of max pooling
    "max": lambda x: F.max_pool2d(x, 2),
    "average": lambda x: F.avg_pool2d(x, 2) * 2.0,
    "l2": lambda x: F.lp_pool2d(x, 2.0, 2) * 0.78,
}


@dataclass(frozen=True)
class PeerRun:
    """What a peer made, and how long it took, on a clock that stands still while snapshots are taken."""

    name: str
    seconds_per_step: float  # median at the final size, its first step excluded
    total_s: float  # from the built network and the decoded pictures to the result, all sizes
    picture: Tensor  # [1, 3, H, W] in [0, 1]
    history: list[tuple[float, Tensor]]  # (elapsed_s, picture at that moment's size); the last is the result


@dataclass
class Watch:
    """Times the steps of a peer and keeps pictures of its way, every so many seconds (0: only the result)."""

    name: str
    snapshot_every_s: float = 0.0
    say_every: int = 50
    step_ends: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # by (width, height)
    history: list[tuple[float, Tensor]] = field(default_factory=list)
    paused_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def step(self, size: tuple[int, int], picture: Callable[[], Tensor]) -> None:
        """Notes the end of a step; `picture` makes the [1, 3, H, W] that would be shown now."""
        arrived = time.perf_counter()
        elapsed_s = arrived - self.started - self.paused_s
        ends = self.step_ends.setdefault(size, [])
        ends.append(elapsed_s)
        due = (len(self.history) + 1) * self.snapshot_every_s
        if self.snapshot_every_s and elapsed_s >= due:
            self.history.append((elapsed_s, picture().detach().clamp(0, 1)))
        if len(ends) % self.say_every == 0:
            print(f"{self.name}: {size[0]}×{size[1]}, step {len(ends)}, {elapsed_s:.0f} s", file=sys.stderr)
        self.paused_s += time.perf_counter() - arrived

    def finish(self, picture: Tensor) -> PeerRun:
        """The run whose result is `picture`."""
        total_s = time.perf_counter() - self.started - self.paused_s
        ends = self.step_ends[(picture.shape[3], picture.shape[2])]
        seconds = statistics.median(b - a for a, b in itertools.pairwise(ends))
        picture = picture.detach().clamp(0, 1)
        return PeerRun(self.name, seconds, total_s, picture, [*self.history, (total_s, picture)])


def embedded_vgg19() -> nn.Sequential:
    """torchvision's `vgg19().features` up to relu5_1, contiguous and frozen, with the embedded weights.

    Its input is torchvision's (RGB, normalised), whose step to that of ganpipe's network is linear and goes into the
    first convolution: exactly with replicated borders; a border of zeros means a grey less than 0.5 of 255 away
    from Caffe's. Its activations are the embedded network's divided by LEVELS, where a loss reads them.
    """
    network = models.vgg.make_layers(models.vgg.cfgs["E"])[: STYLE[-1] + 1]
    ours = Vgg19("relu5_1")  # takes RGB in [0, 1] less mean_rgb
    places = [(k, layer) for k, layer in enumerate(network) if isinstance(layer, nn.Conv2d)]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    level = 1.0
    with torch.no_grad():
        for (place, conv), source in zip(places, ours.convolutions.values(), strict=True):
            assert isinstance(source, nn.Conv2d)
            assert source.bias is not None
            assert conv.bias is not None
            weight, bias = source.weight.data, source.bias.data
            if place == 0:
                bias = bias + (weight * (mean - ours.mean_rgb)).sum((1, 2, 3))
                weight = weight * std
            before, level = level, LEVELS.get(place + 1, level)
            conv.weight.copy_(weight * (before / level))
            conv.bias.copy_(bias / level)
    return network.eval().requires_grad_(False)


def activations(network: nn.Sequential, picture: Tensor) -> dict[int, Tensor]:
    """What the losses read, by place, for `picture: [1, 3, H, W]` in [0, 1]."""
    x, found = TF.normalize(picture, list(MEAN), list(STD)), {}
    for place, layer in enumerate(network):
        x = layer(x)
        if place in LEVELS:
            found[place] = x
    return found


def open_rgb(path: Path) -> Image.Image:
    """The picture as RGB."""
    return Image.open(path).convert("RGB")


def at_edge(image: Image.Image, long_edge_px: int, enlarge: bool = True) -> Tensor:
    """`[1, 3, H, W]` in [0, 1] with that longer edge, bicubic."""
    if enlarge or max(image.size) > long_edge_px:
        width, height = (round(long_edge_px * side / max(image.size)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return TF.to_tensor(image)[None]


# --- crowsonkb/style-transfer-pytorch -------------------------------------------------------------------------------


def run_crowsonkb(
    content: Path,
    style: Path,
    steps: int,
    long_edge_px: int,
    checkout: Path | None = None,
    *,
    first_steps: int | None = None,
    min_edge_px: int = 128,
    pooling: str = "max",
    snapshot_every_s: float = 0.0,
) -> PeerRun:
    """crowsonkb's stylisation with its own weights and learning rate; without a `checkout`, our replica of its loop.

    Sizes grow by √2 from `min_edge_px` (its default; `long_edge_px` makes it one size) with `steps` at each and
    `first_steps` at the first: by default, as its own 1,000 and 500, twice as many where there are several.

    Raises:
        ValueError: fewer than two steps, of which none could be timed.
        FileNotFoundError: `checkout` holds no style_transfer/style_transfer.py.
    """
    check_steps(steps)
    sizes = pyramid(min(min_edge_px, long_edge_px), long_edge_px)
    first_steps = first_steps or (2 * steps if len(sizes) > 1 else steps)
    images = open_rgb(content), open_rgb(style)
    if checkout is None:
        replica = Replica(pooling)
        watch = Watch("crowsonkb (our replica)", snapshot_every_s)
        return watch.finish(replica.stylise(*images, sizes, steps, first_steps, watch))
    with crowsonkb_module(checkout) as module, redirect_stdout(io.StringIO()):
        peer = module.StyleTransfer(pooling=pooling)
        watch = Watch("crowsonkb (checkout)", snapshot_every_s)

        def picture() -> Tensor:
            return peer.get_image_tensor()[None]

        peer.stylize(images[0], [images[1]], min_scale=sizes[0], end_scale=long_edge_px, iterations=steps,
                     initial_iterations=first_steps,
                     callback=lambda at: watch.step((at.w, at.h), picture))  # fmt: skip
        return watch.finish(picture())


def check_steps(steps: int) -> None:
    """Refuses what cannot be timed."""
    if steps < 2:
        raise ValueError(f"steps is {steps}; the first is not timed, so at least 2 are needed.")


@contextmanager
def crowsonkb_module(checkout: Path) -> Iterator[Any]:
    """The checkout's style_transfer.style_transfer, whose `models.vgg19` is ours while the context lasts.

    The package's own __init__ is passed over: it only adds a web server that needs aiohttp.
    """
    folder = checkout / "style_transfer"
    if not (folder / "style_transfer.py").is_file():
        raise FileNotFoundError(
            f"{folder / 'style_transfer.py'} does not exist: name a checkout's top folder."
        )
    package = types.ModuleType("style_transfer")
    package.__path__ = [str(folder)]
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_peers(name)}
    sys.modules["style_transfer"] = package
    ours = types.SimpleNamespace(features=embedded_vgg19())
    try:
        with mock.patch.object(models, "vgg19", return_value=ours):
            yield importlib.import_module("style_transfer.style_transfer")
    finally:
        for name in [name for name in sys.modules if _is_peers(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_peers(name: str) -> bool:
    return name.split(".")[0] == "style_transfer"


def pyramid(smallest_px: int, largest_px: int) -> list[int]:
    """Longer edges from coarse to fine, √2 apart, counted from the largest."""
    edges, k = [largest_px], 1
    while (edge := round(largest_px / 2 ** (k / 2))) >= smallest_px:
        edges.append(edge)
        k += 1
    return edges[::-1]


class Replica:
    """crowsonkb's loop, re-written from its description.

    VGG19 with replicated borders at its first convolution; style as the Wasserstein-2 distance of Gaussians at five
    layers, weighed 256 : 64 : 16 : 4 : 1; content as 0.015 of a mean square; 2 of a nine-point total variation; Adam
    with step 0.02 and β (0.9, 0.99), warm from size to size; the picture is the average of the iterates (0.99).
    """

    STYLE_WEIGHTS = (256 / 341, 64 / 341, 16 / 341, 4 / 341, 1 / 341)

    def __init__(self, pooling: str) -> None:
        first, *rest = embedded_vgg19()
        replicated = nn.Conv2d(3, 64, 3, padding=1, padding_mode="replicate")
        replicated.load_state_dict(first.state_dict())
        pooled = [Pooling(pooling) if isinstance(layer, nn.MaxPool2d) else layer for layer in rest]
        self.network = nn.Sequential(replicated, *pooled).requires_grad_(False)

    def stylise(self, content: Image.Image, style: Image.Image, sizes: list[int], steps: int, first_steps: int,
                watch: Watch) -> Tensor:  # fmt: skip
        """`[1, 3, H, W]` in [0, 1]: `steps` at each of the `sizes` (longer edges), `first_steps` at the first."""
        image, adam = at_edge(content, sizes[0]), None
        for edge in sizes:
            shown = at_edge(content, edge)
            loss = self.objective(shown, at_edge(style, edge, enlarge=False))
            shape = shown.shape[2:]
            image = F.interpolate(image, shape, mode="bicubic").clamp(0, 1).requires_grad_()
            average, weight = 0.01 * image.detach(), 0.01
            adam = warm_adam(image, adam)
            for _ in range(first_steps if edge == sizes[0] else steps):
                adam.zero_grad()
                loss(image).backward()
                adam.step()
                with torch.no_grad():
                    image.clamp_(0, 1)
                    average.lerp_(image, 0.01)
                weight += 0.01 * (1 - weight)
                watch.step((shape[1], shape[0]), partial(torch.div, average, weight))
            image = average / weight
        return image

    def objective(self, content: Tensor, style: Tensor) -> Callable[[Tensor], Tensor]:
        """The loss of a picture of `content`'s size."""
        with torch.no_grad():
            wanted = activations(self.network, content)[CONTENT]
            found = activations(self.network, style)
            gaussians = {k: Gaussian.of(found[k]).rooted() for k in STYLE}

        def loss(image: Tensor) -> Tensor:
            found = activations(self.network, image)
            total = 0.015 * F.mse_loss(found[CONTENT], wanted) + 2 * nine_point_variation(image)
            for place, weight in zip(STYLE, self.STYLE_WEIGHTS, strict=True):
                total = total + weight * wasserstein(Gaussian.of(found[place]), *gaussians[place])
            return total

        return loss


class Pooling(nn.Module):
    """A row of POOLINGS as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.pool = POOLINGS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Half the size."""
        return self.pool(x)


@dataclass(frozen=True)
class Gaussian:
    """Mean `[C]` and covariance `[C, C]` of a layer's activations over the positions."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """The Gaussian of `features: [1, C, H, W]`; 1e-4 on the diagonal keeps the root's gradient finite."""
        flat = features[0].flatten(1)
        mean = flat.mean(1)
        moment = flat @ flat.T / flat.shape[1]
        return cls(mean, moment - mean.outer(mean) + 1e-4 * torch.eye(len(mean)))

    def rooted(self) -> tuple[Gaussian, Tensor]:
        """Itself and the square root of its covariance."""
        return self, MatrixRoot.apply(self.covariance)


def wasserstein(found: Gaussian, target: Gaussian, root: Tensor) -> Tensor:
    """W2² a channel: ‖m − m'‖² + tr(S + S' − 2 (√S' S √S')^½), divided by C (Olkin & Pukelsheim 1982)."""
    cross = MatrixRoot.apply(root @ found.covariance @ root)
    spread = (found.covariance + target.covariance - 2 * cross).diagonal().mean()
    return F.mse_loss(found.mean, target.mean) + spread


class MatrixRoot(torch.autograd.Function):
    """√A of a symmetric `A: [C, C]` by 12 Newton–Schulz steps, forward and back (Lin & Maji 2017, section 3).

    Back: X with √A X + X √A = gradient is the off-diagonal block that sign([[√A, gradient], [0, −√A]]) converges to.
    """

    STEPS = 12

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """√A."""
        norm, three = a.norm(), 3 * torch.eye(len(a))
        y, z = a / norm, torch.eye(len(a))
        for _ in range(MatrixRoot.STEPS):
            t = (three - z @ y) / 2
            y, z = y @ t, t @ z
        root = y * norm.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The Lyapunov equation's solution."""
        (root,) = ctx.saved_tensors
        norm, three = root.norm(), 3 * torch.eye(len(root))
        a, q = root / norm, gradients[0] / norm
        for _ in range(MatrixRoot.STEPS):
            rest = three - a @ a
            a, q = a @ rest / 2, (q @ rest - a @ (a @ q - q @ a)) / 2
        return q / 2


def nine_point_variation(image: Tensor) -> Tensor:
    """Mean square of the differences to the eight neighbours, diagonal ones a quarter as much, borders replicated."""
    x = F.pad(image, (1, 1, 1, 1), "replicate")
    middle = x[..., 1:-1, 1:-1]
    straight = (x[..., 1:-1, 2:] - middle).square().mean() + (x[..., 2:, 1:-1] - middle).square().mean()
    falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean()
    rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean()
    return 2 * (straight / 3 + (falling + rising) / 12)


def warm_adam(image: Tensor, before: torch.optim.Adam | None) -> torch.optim.Adam:
    """Adam for `image`, with the moments of the optimiser of the size before, enlarged."""
    adam = torch.optim.Adam([image], 0.02, betas=(0.9, 0.99))
    if before is not None:
        moments = next(iter(before.state.values()))
        adam.state[image] = {
            "step": moments["step"],
            "exp_avg": F.interpolate(moments["exp_avg"], image.shape[2:], mode="bicubic"),
            "exp_avg_sq": F.interpolate(moments["exp_avg_sq"], image.shape[2:], mode="bilinear").relu(),
        }
    return adam


# --- Gatys et al. 2016, as tutorials write it -----------------------------------------------------------------------


def run_gatys(
    content: Path,
    style: Path,
    steps: int,
    long_edge_px: int,
    *,
    style_weight: float = 1e2,
    lr: float = 0.02,
    snapshot_every_s: float = 0.0,
) -> PeerRun:
    """The plain loop: Gram matrices of relu1_1 … relu5_1, content at relu4_2, Adam on the pixels from the content.

    A step is one forward and one backward pass. Content is a mean square and weighs 1; style is the mean square of
    the difference of Gram matrices, averaged over the layers, and weighs `style_weight`: a hundred times as much gives
    nearly the same picture after 100 steps.

    Raises:
        ValueError: fewer than two steps, of which none could be timed.
    """
    check_steps(steps)
    network = embedded_vgg19()
    images = open_rgb(content), open_rgb(style)
    watch = Watch("Gatys (tutorial loop)", snapshot_every_s)
    shown = at_edge(images[0], long_edge_px)
    with torch.no_grad():
        wanted = activations(network, shown)[CONTENT]
        found = activations(network, at_edge(images[1], long_edge_px))
        grams = {place: gram(found[place]) for place in STYLE}
    image = shown.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr)
    for _ in range(steps):
        adam.zero_grad()
        found = activations(network, image)
        strokes = sum(F.mse_loss(gram(found[place]), target) for place, target in grams.items()) / len(grams)
        (F.mse_loss(found[CONTENT], wanted) + style_weight * strokes).backward()
        adam.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        watch.step((image.shape[3], image.shape[2]), lambda: image)
    return watch.finish(image)


def gram(features: Tensor) -> Tensor:
    """`[C, C]` of `features: [1, C, H, W]`, divided by the number of positions."""
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def main() -> None:
    """Runs each peer for a few steps and prints the table."""
    from ganpipe.style.paint import sample_photos, sample_styles

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, help="of crowsonkb/style-transfer-pytorch")
    parser.add_argument("--steps", type=int, default=5, help="at each size")
    parser.add_argument("--edge", type=int, default=256, help="longer edge in pixels")
    parser.add_argument("--min-edge", type=int, help="smallest size of the pyramid; without it, one size")
    parser.add_argument("--pooling", default="max", choices=list(POOLINGS))
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        content, style = sample_photos(Path(scratch))[0], sample_styles(Path(scratch))[0]
        sizes: dict[str, Any] = {"min_edge_px": given.min_edge or given.edge, "pooling": given.pooling}
        checkouts = [given.checkout, None] if given.checkout else [None]
        runs = [run_gatys(content, style, given.steps, given.edge)]
        runs += [
            run_crowsonkb(content, style, given.steps, given.edge, where, **sizes) for where in checkouts
        ]
    print(f"{'peer':<24}{'size':>9}{'s a step':>10}{'of Gatys':>10}{'total s':>9}")
    for run in runs:
        size = f"{run.picture.shape[3]}×{run.picture.shape[2]}"
        ratio = run.seconds_per_step / runs[0].seconds_per_step
        print(f"{run.name:<24}{size:>9}{run.seconds_per_step:>10.2f}{ratio:>10.2f}{run.total_s:>9.1f}")
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            TF.to_pil_image(run.picture[0]).save(
                given.out / f"{run.name.translate(str.maketrans(' ', '-', '()'))}.png"
            )


if __name__ == "__main__":
    main()
