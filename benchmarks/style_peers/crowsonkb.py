"""crowsonkb/style-transfer-pytorch: the code of a checkout that you name or, without one, a replica of its loop.

The replica is written from the loop's description; a run's name says which it was.
"""

from __future__ import annotations

import importlib
import io
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from benchmarks.peer_modules import peer_modules
from benchmarks.style_peers.timing import PeerRun, Watch, check_steps
from benchmarks.style_peers.vgg19 import CONTENT, STYLE, activations, at_edge, embedded_vgg19, open_rgb

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {  # the factors keep the mean activation of max pooling
    "max": lambda x: F.max_pool2d(x, 2),
    "average": lambda x: F.avg_pool2d(x, 2) * 2.0,
    "l2": lambda x: F.lp_pool2d(x, 2.0, 2) * 0.78,
}


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
    """crowsonkb's stylization with its own weights and learning rate; without a `checkout`, our replica of its loop.

    Sizes grow by √2 from `min_edge_px` (its default; `long_edge_px` makes it one size) with `steps` at each and
    `first_steps` at the first: by default, as its own 1,000 and 500, twice as many if there are several.

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
        return watch.finish(replica.stylize(*images, sizes, steps, first_steps, watch))
    with crowsonkb_module(checkout) as module, redirect_stdout(io.StringIO()):
        peer = module.StyleTransfer(pooling=pooling)
        watch = Watch("crowsonkb (checkout)", snapshot_every_s)

        def picture() -> Tensor:
            return peer.get_image_tensor()[None]

        peer.stylize(
            images[0],
            [images[1]],
            min_scale=sizes[0],
            end_scale=long_edge_px,
            iterations=steps,
            initial_iterations=first_steps,
            callback=lambda at: watch.step((at.w, at.h), picture),
        )
        return watch.finish(picture())


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
    ours = types.SimpleNamespace(features=embedded_vgg19())
    with peer_modules("style_transfer"), mock.patch.object(models, "vgg19", return_value=ours):
        sys.modules["style_transfer"] = package
        yield importlib.import_module("style_transfer.style_transfer")


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
    with step 0.02 and β (0.9, 0.99), warm from size to size; the image is the average of the iterates (0.99).
    """

    STYLE_WEIGHTS = (256 / 341, 64 / 341, 16 / 341, 4 / 341, 1 / 341)

    def __init__(self, pooling: str) -> None:
        first, *rest = embedded_vgg19()
        replicated = nn.Conv2d(3, 64, 3, padding=1, padding_mode="replicate")
        replicated.load_state_dict(first.state_dict())
        pooled = [Pooling(pooling) if isinstance(layer, nn.MaxPool2d) else layer for layer in rest]
        self.network = nn.Sequential(replicated, *pooled).requires_grad_(False)

    def stylize(
        self,
        content: Image.Image,
        style: Image.Image,
        sizes: list[int],
        steps: int,
        first_steps: int,
        watch: Watch,
    ) -> Tensor:
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
        """The loss of an image of `content`'s size."""
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
    """Mean square of the differences to the eight neighbors, diagonal ones a quarter as much, borders replicated."""
    x = F.pad(image, (1, 1, 1, 1), "replicate")
    middle = x[..., 1:-1, 1:-1]
    straight = (x[..., 1:-1, 2:] - middle).square().mean() + (x[..., 2:, 1:-1] - middle).square().mean()
    falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean()
    rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean()
    return 2 * (straight / 3 + (falling + rising) / 12)


def warm_adam(image: Tensor, before: torch.optim.Adam | None) -> torch.optim.Adam:
    """Adam for `image`, with the moments of the optimizer of the size before, enlarged."""
    adam = torch.optim.Adam([image], 0.02, betas=(0.9, 0.99))
    if before is not None:
        moments = next(iter(before.state.values()))
        adam.state[image] = {
            "step": moments["step"],
            "exp_avg": F.interpolate(moments["exp_avg"], image.shape[2:], mode="bicubic"),
            "exp_avg_sq": F.interpolate(moments["exp_avg_sq"], image.shape[2:], mode="bilinear").relu(),
        }
    return adam
