"""Generators and what they are trained with. `MODELS` is the table from which `model.name` chooses.

Every generator maps latents `z: [N, z_dim]` (and labels `[N]`, if it is class-conditional) to images
`[N, C, H, W]` in about `[-1, 1]`; every discriminator maps images (and labels) to logits `[N]` or `[N, P]`, larger
for images that look real. A VAE's generator is its decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganpipe.compute.random import MEAN, latents
from ganpipe.errors import GanpipeError
from ganpipe.imaging.image import ImageShape
from ganpipe.models import dcgan, fastgan, mlp, msggan, progan, r3gan, stylegan2, vae
from ganpipe.settings.schema import ModelSettings

MEAN_LATENTS = 4096  # whose mean learned input truncation moves towards
Build = Callable[[ModelSettings, ImageShape, int], nn.Module]


@dataclass(frozen=True)
class Architecture:
    """Builders of the generator and of its partner (the int is the number of classes, 0 for none), and what they support.

    `partner`: the network that the generator is trained with and that is not exported: a discriminator, or an encoder.
    `shape_problem`: None, or why a shape is impossible. `conditional`: the model can be class-conditional.
    `random_numbers`: how many numbers a `Styled` generator draws for one image beside its latent. `widths`: the settings
    that decide how many channels or units its layers have.
    """

    generator: Build
    partner: Build
    shape_problem: Callable[[ImageShape], str | None]
    conditional: bool = False
    algorithm: str = "gan"  # a row of training.algorithms.ALGORITHMS
    random_numbers: Callable[[ModelSettings, ImageShape], int] | None = None
    widths: tuple[str, ...] = ("model.width",)


MODELS: dict[str, Architecture] = {
    "dcgan": Architecture(
        dcgan.DcganGenerator,
        dcgan.DcganDiscriminator,
        dcgan.shape_problem,
        widths=("model.g_channels", "model.d_channels"),
    ),
    "mlp": Architecture(
        mlp.MlpGenerator, mlp.MlpDiscriminator, lambda shape: None, widths=("model.mlp_width",)
    ),
    "r3gan": Architecture(
        r3gan.R3GanGenerator, r3gan.R3GanDiscriminator, r3gan.shape_problem, conditional=True
    ),
    "fastgan": Architecture(fastgan.FastGanGenerator, fastgan.FastGanDiscriminator, fastgan.shape_problem),
    "progan": Architecture(progan.ProganGenerator, progan.ProganDiscriminator, progan.shape_problem),
    "msggan": Architecture(msggan.MsgGenerator, msggan.MsgDiscriminator, progan.shape_problem),
    "stylegan2": Architecture(
        stylegan2.StyleGan2Generator,
        stylegan2.StyleGan2Discriminator,
        stylegan2.shape_problem,
        conditional=True,
        random_numbers=stylegan2.random_numbers,
    ),
    "vae": Architecture(
        dcgan.DcganGenerator,
        vae.VaeEncoder,
        dcgan.shape_problem,
        algorithm="vae",
        widths=("model.g_channels",),
    ),
}


@runtime_checkable
class Reconstructs(Protocol):
    """A discriminator with decoders: FastGAN's self-supervision."""

    def reconstruct(self, images: Tensor, quarter: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits, and pairs of (reconstruction, original)."""


@runtime_checkable
class Mapped(Protocol):
    """A generator in two parts, G(z) = synthesis(mapping(z)), as StyleGAN2: truncation moves what is between them."""

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The learned input of the synthesis, `[N, …]`."""

    def synthesis(self, w: Tensor) -> Tensor:
        """The images of a learned input."""


@runtime_checkable
class Styled(Mapped, Protocol):
    """A `Mapped` generator whose layers have a style each, and noise: StyleGAN2.

    `layers`: the number of styles. `fixed_noise: [1, pixels]`: the noise unless other is given.
    """

    layers: int
    fixed_noise: Tensor

    def styles(self, z: Tensor, labels: Tensor | None = None, random: Tensor | None = None) -> Tensor:
        """The learned input of each layer, `[N, layers, w_dim]`, mixed if `random: [N, numbers]` is given."""

    def noise_in(self, random: Tensor | None) -> Tensor | None:
        """The noise `[N, pixels]` among these random numbers."""

    def synthesis(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """The images of `w: [N, w_dim]` or `[N, layers, w_dim]`."""

    def noise_maps(self, noise: Tensor) -> list[Tensor]:
        """`[N, pixels]` as maps `[N, 1, H, W]`, one per layer that takes noise."""


@dataclass(frozen=True)
class Gan:
    """A generator and a discriminator."""

    G: nn.Module
    D: nn.Module


def check_shape(settings: ModelSettings, shape: ImageShape) -> None:
    """Raises GanpipeError, before any work, if this model cannot make images of this shape."""
    architecture = MODELS[settings.name]
    if reason := architecture.shape_problem(shape):
        raise GanpipeError(f"model.name={settings.name} {reason}")
    if settings.conditional == "yes" and not architecture.conditional:
        able = ", ".join(name for name, a in MODELS.items() if a.conditional)
        raise GanpipeError(
            f"model.conditional=yes, and model.name={settings.name} takes no labels; use {able}, or conditional=no."
        )


def count_classes(settings: ModelSettings, label_names: tuple[str, ...], labeled: bool) -> int:
    """The number of classes of a class-conditional model; 0 if it is unconditional. `labeled`: every image has a label.

    Raises:
        GanpipeError: labels are required, and the dataset does not have them for all images.
    """
    possible = labeled and len(label_names) > 1
    if settings.conditional == "yes" and not possible:
        raise GanpipeError(
            "model.conditional=yes needs a label for every image and at least two labels; put the images into one "
            "folder for each label and add them again, or set model.conditional=no."
        )
    classes_used = settings.conditional != "no" and MODELS[settings.name].conditional and possible
    return len(label_names) if classes_used else 0


def build_generator(settings: ModelSettings, shape: ImageShape, classes: int = 0) -> nn.Module:
    """Builds a generator, initialized from torch's global random state."""
    check_shape(settings, shape)
    return MODELS[settings.name].generator(settings, shape, classes)


def build_partner(settings: ModelSettings, shape: ImageShape, classes: int = 0) -> nn.Module:
    """Builds a generator's partner, with spectral normalization if `model.spectral_norm` is set."""
    check_shape(settings, shape)
    partner = MODELS[settings.name].partner(settings, shape, classes)
    if settings.spectral_norm:
        for module in list(partner.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear) and not hasattr(module, "parametrizations"):
                if (
                    not module.weight.any()
                ):  # r3gan's fix-up starts at 0, and a norm of 0 cannot be divided by
                    nn.init.kaiming_normal_(module.weight)
                spectral_norm(module)
    return partner


def build_networks(
    settings: ModelSettings, shape: ImageShape, seed: int, classes: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Generator and partner with initial weights that depend only on `seed`; keeps torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_generator(settings, shape, classes), build_partner(settings, shape, classes)


def build_gan(settings: ModelSettings, shape: ImageShape, seed: int, classes: int = 0) -> Gan:
    """The networks of a GAN."""
    return Gan(*build_networks(settings, shape, seed, classes))


def first_layers(D: nn.Module, count: int, shape: ImageShape, classes: int = 0) -> frozenset[str]:
    """Names of the parameters of D's first `count` layers, in the order in which an image passes them.

    A layer is a convolution or a fully connected layer, with the norm that follows it (FreezeD: Mo et al. 2020, arXiv
    2002.10964).

    Raises:
        GanpipeError: no layer of D would be left to learn.
    """
    names = {module: name for name, module in D.named_modules()}
    leaves = [m for m in names if all(child == "parametrizations" for child, _ in m.named_children())]
    called: list[nn.Module] = []
    hooks = [
        m.register_forward_hook(lambda module, *_: called.append(module))
        for m in leaves
        if any(True for _ in m.parameters())
    ]
    was_training, weight = D.training, next(D.parameters())
    images = torch.zeros(2, shape.channels, shape.height_px, shape.width_px, device=weight.device)
    labels = torch.zeros(2, dtype=torch.long, device=weight.device) if classes else None
    with torch.no_grad():
        D.eval()(images, labels)
    D.train(was_training)
    for hook in hooks:
        hook.remove()
    found: set[str] = set()
    layers = 0
    for module in dict.fromkeys(called):
        layers += any(p.dim() > 1 for p in module.parameters())
        if layers <= count:
            found |= {f"{names[module]}.{name}" for name, _ in module.named_parameters()}
    if layers <= count:
        raise GanpipeError(
            f"training.freeze_d_layers is {count}, and D has {layers} layers; it must be at most {layers - 1}."
        )
    return frozenset(found)


def truncate_latents(z: Tensor, psi: float) -> Tensor:
    """Maps standard normal latents to the share `psi` of the normal distribution that is nearest to its mean.

    The distribution is that of Brock et al. 2019 (arXiv 1809.11096, section 3.1), who draw values above a threshold again;
    here the threshold is the ψ-quantile of |z|. Departure: each value moves to its quantile, so that an image changes
    smoothly with ψ instead of being drawn again.
    """
    return math.sqrt(2) * torch.erfinv(psi * torch.erf(z.double() / math.sqrt(2))).to(z.dtype)


def truncate_mapping(G: Mapped, z: Tensor, labels: Tensor | None, psi: float) -> Tensor:
    """The learned inputs of `z`, moved towards their mean over all latents: w̄ + ψ(w − w̄) (Karras et al. 2019, section B).

    arXiv 1812.04948. With labels the mean is that of the same label.
    """
    w = G.mapping(z, labels)
    drawn = latents(0, MEAN, 0, MEAN_LATENTS, z.shape[1], z.device)
    if labels is None:
        mean = G.mapping(drawn).mean(0, keepdim=True)
        return mean + psi * (w - mean)
    for label in labels.unique():
        mean = G.mapping(drawn, label.expand(MEAN_LATENTS)).mean(0, keepdim=True)
        w[labels == label] = mean + psi * (w[labels == label] - mean)
    return w


@torch.no_grad()
def sample(
    G: nn.Module, z: Tensor, labels: Tensor | None = None, batch_images: int = 256, truncation: float = 1.0
) -> Tensor:
    """Generates float32 images `[N, C, H, W]` from latents `z: [N, z_dim]` and labels `[N]`, in evaluation mode.

    The same latents give the same images whatever else is in the batch. `truncation`: ψ in (0, 1], by `truncate_mapping` if
    the model has a mapping, else by `truncate_latents`; 1: none.

    Raises:
        GanpipeError: another ψ.
    """
    if not 0 < truncation <= 1:
        raise GanpipeError(f"The truncation ψ is {truncation:g}; it must be above 0 and at most 1 (none).")
    was_training = G.training
    G.eval()
    parts = zip(
        z.split(batch_images),
        labels.split(batch_images) if labels is not None else _endless_none(),
        strict=False,
    )
    images = torch.cat([_images(G, part, some, truncation).float() for part, some in parts])
    G.train(was_training)
    return images


def _images(G: nn.Module, z: Tensor, labels: Tensor | None, truncation: float) -> Tensor:
    if truncation == 1:
        return G(z, labels)
    if isinstance(G, Mapped):
        return G.synthesis(truncate_mapping(G, z, labels, truncation))
    return G(truncate_latents(z, truncation), labels)


def _endless_none() -> Iterator[None]:
    while True:
        yield None


def count_parameters(module: nn.Module) -> int:
    """Counts the parameters of a module."""
    return sum(p.numel() for p in module.parameters())
