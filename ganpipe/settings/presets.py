"""The presets: a table of what differs from the defaults, and the choice of a preset if none is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganpipe.errors import GanpipeError, nearest

Row = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """The changes from the defaults: `scale` for every model, and a recipe for each model that has one.

    `model` is the default architecture; `why` ends the sentence "preset NAME: …".
    """

    why: str
    scale: Row
    model: str
    recipes: dict[str, Row]


# Published by Huang et al. 2025 (arXiv 2501.05441, appendix): the same in all three configurations.
R3GAN = {
    "training.horizontal_flip": True,
    "model.z_dim": 64,
    "loss.name": "rpgan",
    "loss.gamma_end": 0.1,
    "augment.mode": "scheduled",
    "training.separate_g_batch": True,
    "training.g_lr": 2e-4,
    "training.d_lr": 2e-4,
    "training.lr_end": 0.25,
    "training.beta1": 0.0,
    "training.beta2": 0.9,
    "training.beta2_end": 0.99,
    "training.ema_schedule": "cosine",
    "training.decay_images": 20_000_000,
    "augment.kinds": "geometry+color",
}
R3GAN_CPU: Row = R3GAN | {
    "training.horizontal_flip": False,
    "model.width": 1 / 6,
    "model.taper_from_px": 8,
    "model.blocks": 1,
    "loss.gamma": 3.0,
    "loss.gamma_end": 1.0,
    "augment.mode": "none",
    "training.batch_images": 16,
    "training.separate_g_batch": False,
    "training.g_lr": 1e-3,
    "training.d_lr": 1e-3,
    "training.beta2": 0.99,
    "training.beta2_end": 0.0,
    "training.decay_images": 0,
    "training.ema_schedule": "linear",
    "training.ema_halflife_images": 5_000,
}
DCGAN_R1: Row = {"model.d_norm": "none", "model.d_minibatch_std": True, "loss.penalty_every": 4}
# β1 and β2 as Kingma & Ba 2015 (arXiv 1412.6980) recommend; the low β1 is a remedy for GANs.
VAE: Row = {"training.g_lr": 1e-3, "training.beta1": 0.9, "training.beta2": 0.999}
# Liu et al. 2021 (arXiv 2101.04775), section 4, and its DiffAugment.
FASTGAN: Row = {
    "model.z_dim": 256,
    "loss.name": "hinge",
    "augment.mode": "fixed",
    "augment.probability": 1.0,
    "augment.kinds": "color+translation",
    "training.batch_images": 8,
    "training.g_lr": 2e-4,
    "training.d_lr": 2e-4,
    "training.beta1": 0.5,
    "training.beta2": 0.999,
    "training.ema_halflife_images": 5_500,
}
# 13 images/s at a width of 0.25 on two cores (LOG.md).
FASTGAN_CPU: Row = FASTGAN | {"model.width": 0.125}
# Karras et al. 2018 (arXiv 1710.10196), appendix A.1.
PROGAN: Row = {
    "model.z_dim": 512,
    "loss.name": "wgan-gp",
    "loss.drift": 1e-3,
    "training.batch_images": 16,
    "training.g_lr": 1e-3,
    "training.d_lr": 1e-3,
    "training.beta1": 0.0,
    "training.beta2": 0.99,
    "training.ema_halflife_images": 11_000,  # 0.999 a step
}
# Lazy penalties: WGAN-GP has one at each step. The logistic loss leaves some six kinds of flowers. High rates: weights of
# equalized layers are drawn from N(0, 1) and scaled in use: DCGAN's rate of 2e-3 changes them by a tenth as much. 60,000 images
# at 2e-3, 1e-2, 3e-2, 6e-2: KD 10,281, 3,708, 2,448, 3,608 (LOG.md). For more images than that, a third of the best of these.
PROGAN_CPU: Row = PROGAN | {
    "model.z_dim": 128,
    "model.width": 0.0625,
    "model.taper_from_px": 8,
    "loss.name": "rpgan",
    "loss.penalty_every": 4,
    "loss.drift": 0.0,
    "training.batch_images": 32,
    "training.g_lr": 1e-2,
    "training.d_lr": 1e-2,
    "training.lr_end": 0.3,
    "training.ema_halflife_images": 4_000,
}
# Karnewar & Wang 2020 (arXiv 1903.06048), section 3.1: ProGAN's, with a higher rate.
MSGGAN: Row = PROGAN | {"training.g_lr": 3e-3, "training.d_lr": 3e-3}
MSGGAN_CPU: Row = PROGAN_CPU
# Configuration F of Karras et al. 2020 (arXiv 1912.04958). γ by resolution and batch: 0.0002·pixels/batch.
STYLEGAN2: Row = {
    "model.z_dim": 512,
    "model.taper_from_px": 64,
    "loss.name": "logistic",
    "loss.penalty_every": 16,
    "loss.path_length_weight": 2.0,
    "training.g_lr": 2e-3,
    "training.d_lr": 2e-3,
    "training.beta1": 0.0,
    "training.beta2": 0.99,
}
# As Karras et al. 2020b (arXiv 2006.06676, appendix) chose for CIFAR-10: no path-length regularization, no style mixing, two
# mapping layers, a small γ; and a high rate, as PROGAN_CPU. 71,000 images at 2e-3 with all of the paper: KD 2,843; 30,000 at 1e-2
# without them: 1,646 (LOG.md).
STYLEGAN2_CPU: Row = STYLEGAN2 | {
    "loss.name": "rpgan",
    "loss.gamma": 0.1,
    "loss.path_length_weight": 0.0,
    "model.z_dim": 128,
    "model.width": 0.125,
    "model.taper_from_px": 8,
    "model.mapping_layers": 2,
    "model.style_mixing": 0.0,
    "training.batch_images": 16,
    "training.g_lr": 5e-3,
    "training.d_lr": 5e-3,
    "training.ema_halflife_images": 5_000,
}
INTERVALS = ("training.log_every_images", "training.grid_every_images", "training.save_every_images")
DEMO: Row = dict.fromkeys(INTERVALS, 0) | {
    "data.height_px": 32,
    "data.width_px": 32,
    "training.minutes": 3.0,
    "training.total_images": 180_000,  # if the minutes are set to 0
    "training.batch_images": 32,
    "training.validation_images": 128,
    "evaluation.images": 500,
    "style.preset": "draft",
}
# G wider than D and β1 = 0: better on Fashion-MNIST and flowers in equal time (LOG.md).
# High rates: minutes are too short for low ones. 90 s at 5e-4, 1e-3, 2e-3: KD 1,996, 1,661, 1,498 (LOG.md).
DEMO_DCGAN: Row = DCGAN_R1 | {
    "model.g_channels": 48,
    "model.d_channels": 32,
    "training.g_lr": 2e-3,
    "training.d_lr": 2e-3,
    "training.lr_end": 0.3,
    "training.beta1": 0.0,
    "training.ema_halflife_images": 8_000,
}
DEMO_VAE: Row = VAE | {
    "model.g_channels": 32,
    "training.lr_end": 0.3,
    "training.ema_halflife_images": 8_000,
}
DEMO_PROGAN: Row = PROGAN_CPU | {"training.g_lr": 3e-2, "training.d_lr": 3e-2}
DEMO_STYLEGAN2: Row = STYLEGAN2_CPU | {"training.g_lr": 1e-2, "training.d_lr": 1e-2}
SMALL: Row = {
    "training.total_images": 500_000,
    "training.validate_every_images": 50_000,
    "evaluation.images": 2_000,
    "style.preset": "standard",
}
GPU: Row = {
    "training.total_images": 5_000_000,
    "training.grid_every_images": 250_000,
    "training.save_every_images": 250_000,
    "training.validate_every_images": 250_000,
    "evaluation.images": 10_000,
    "style.preset": "best",
}


def _published(side_px: int, batch: int, gamma: float, augment: float, ema: int) -> Preset:
    """A configuration of the paper: 25 million images, the schedules over the first 20 million."""
    scale = GPU | {
        "data.height_px": side_px,
        "data.width_px": side_px,
        "training.total_images": 25_000_000,
        "training.batch_images": batch,
        "training.validation_images": 2_000,
    }
    params = R3GAN | {
        "loss.gamma": gamma,
        "augment.probability": augment,
        "training.ema_halflife_images": ema,
    }
    return Preset(f"R3GAN as published for images of {side_px} pixels", scale, "r3gan", {"r3gan": params})


PRESETS: dict[str, Preset] = {
    # At most six minutes in all on two CPU cores (LOG.md).
    "demo": Preset(
        "3 minutes of training on a CPU, 32 pixels",
        DEMO,
        "dcgan",
        {
            "dcgan": DEMO_DCGAN,
            "r3gan": R3GAN_CPU,
            "fastgan": FASTGAN_CPU,
            "progan": DEMO_PROGAN,
            "msggan": DEMO_PROGAN,
            "stylegan2": DEMO_STYLEGAN2,
            "vae": DEMO_VAE,
        },
    ),
    "small": Preset(
        "about an hour on a CPU, 64 pixels",
        SMALL,
        "dcgan",
        {
            "dcgan": DCGAN_R1,
            "r3gan": R3GAN_CPU,
            "fastgan": FASTGAN_CPU,
            "progan": PROGAN_CPU,
            "msggan": MSGGAN_CPU,
            "stylegan2": STYLEGAN2_CPU,
            "vae": VAE,
        },
    ),
    "few": Preset(
        "50 to 1,000 images on a CPU, 64 pixels, about half an hour",
        SMALL
        | {
            "training.total_images": 40_000,
            "training.grid_every_images": 5_000,
            "training.save_every_images": 5_000,
            "training.log_every_images": 800,
            "training.validate_every_images": 10_000,
        },
        "fastgan",
        {
            "fastgan": FASTGAN_CPU,
            "dcgan": DCGAN_R1,
            "r3gan": R3GAN_CPU,
            "progan": PROGAN_CPU,
            "msggan": MSGGAN_CPU,
            "stylegan2": STYLEGAN2_CPU,
        },
    ),
    "gpu": Preset(
        "hours on one GPU, 128 pixels",
        GPU | {"data.height_px": 128, "data.width_px": 128},
        "r3gan",
        {
            "r3gan": R3GAN
            | {
                "model.width": 0.5,
                "loss.gamma": 10.0,
                "training.decay_images": 4_000_000,
                "training.ema_halflife_images": 100_000,
            },
            "dcgan": DCGAN_R1,
            "fastgan": FASTGAN,
            "progan": PROGAN,
            "msggan": MSGGAN,
            "stylegan2": STYLEGAN2
            | {
                "training.batch_images": 32,
                "loss.gamma": 0.1,
                "training.ema_halflife_images": 10_000,
            },
            "vae": VAE,
        },
    ),
    "few-gpu": Preset(
        "50 to 1,000 images on one GPU, 256 pixels",
        GPU
        | {
            "data.height_px": 256,
            "data.width_px": 256,
            "training.total_images": 400_000,
            "training.grid_every_images": 20_000,
            "training.save_every_images": 20_000,
            "training.validate_every_images": 20_000,
            "evaluation.images": 2_000,
        },
        "fastgan",
        {
            "fastgan": FASTGAN,
            "r3gan": R3GAN,
            "dcgan": DCGAN_R1,
            "progan": PROGAN,
            "msggan": MSGGAN,
            "stylegan2": STYLEGAN2,
        },
    ),
    "cifar10": _published(32, batch=512, gamma=0.05, augment=0.55, ema=5_000_000),
    "ffhq64": _published(64, batch=256, gamma=2.0, augment=0.3, ema=500_000),
    "ffhq256": _published(256, batch=256, gamma=150.0, augment=0.3, ema=500_000),
}


@dataclass(frozen=True)
class CpuSize:
    """DCGAN's images and channels for a training of at least so many minutes."""

    from_minutes: float
    side_px: int
    g_channels: int
    d_channels: int


# Chosen so that two cores without bf16 see at least 90,000 images (LOG.md).
CPU_SIZES = (CpuSize(0, 32, 48, 32), CpuSize(20, 64, 32, 32), CpuSize(60, 64, 64, 64))
ASKED_FOR = "asked for"
FEW_IMAGES = 1_000  # up to here FastGAN; its paper shows 60 to 1,000
NEEDED_IMAGES = {"fastgan": 50} | dict.fromkeys(
    ("dcgan", "mlp", "r3gan", "progan", "msggan", "stylegan2", "vae"), FEW_IMAGES
)


def preset_row(name: str, model: str | None = None) -> Row:
    """The settings that preset `name` changes, with the recipe of `model`; raises GanpipeError for an unknown name."""
    if name not in PRESETS:
        raise GanpipeError(f"Unknown preset {name}: {nearest(name, PRESETS)}")
    preset = PRESETS[name]
    chosen = model or preset.model
    return {"model.name": chosen} | preset.scale | preset.recipes.get(chosen, {})


@dataclass(frozen=True)
class Choice:
    """A preset and, in a sentence, why it was chosen; `sizes`: of images and network, if the time decides on them."""

    preset: str
    why: str
    sizes: Row = field(default_factory=dict)


def choose_preset(images: int | None, on_gpu: bool, asked: Mapping[str, Any]) -> Choice:
    """The preset for this number of images (None: not known yet) on this device.

    It is the device's usual one if the settings in `asked` name a model, or a size that fastgan cannot make.
    """
    minutes = asked.get("training.minutes", 0.0)
    device, usual, few = ("a GPU", "gpu", "few-gpu") if on_gpu else ("a CPU", "demo", "few")
    fits = all(asked.get(key, 64) >= 32 for key in ("data.height_px", "data.width_px"))
    if images is not None and images <= FEW_IMAGES and "model.name" not in asked and fits:
        return Choice(
            few, f"{images:,} images on {device}: enough for fastgan, too few for {PRESETS[usual].model}"
        )
    counted = f"{images:,} images on {device}" if images is not None else device
    if minutes and not on_gpu and "model.name" not in asked:
        return _choose_by_time(minutes, counted)
    return Choice(usual, f"{counted}: {PRESETS[usual].why}")


def _choose_by_time(minutes: float, counted: str) -> Choice:
    """The largest images and network of DCGAN that so many minutes on two CPU cores can train."""
    found = max((row for row in CPU_SIZES if row.from_minutes <= minutes), key=lambda row: row.from_minutes)
    sizes = {
        "data.height_px": found.side_px,
        "data.width_px": found.side_px,
        "model.g_channels": found.g_channels,
        "model.d_channels": found.d_channels,
    }
    widths = f"{found.g_channels} channels in G, {found.d_channels} in D"
    why = f"{minutes:g} minutes for {counted}: {found.side_px} pixels, {widths}"
    return Choice("demo", why, sizes)
