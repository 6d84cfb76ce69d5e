"""Every setting once: its default, its limits, and why it exists.

Values come in this order, the later winning: the default beside the field, the preset's row, `params.yaml`,
`--set`. An unknown key fails and names the nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ganpipe.errors import GanpipeError
from ganpipe.presets import PRESETS, Row


def opt(default: Any, help: str, *, choices: tuple[Any, ...] = (), low: float | None = None,
        high: float | None = None) -> Any:  # fmt: skip
    """A setting: its default, what it means (with its unit), and what is allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


@dataclass(frozen=True)
class DataSettings:
    """How raw images become training images."""

    height_px: int = opt(64, "height of the training images, pixels", low=4, high=1024)
    width_px: int = opt(64, "width of the training images, pixels", low=4, high=1024)
    channels: int = opt(
        0, "1 grey, 3 colour, 4 colour and alpha, 0: 1 or 3, found from the images", choices=(0, 1, 3, 4)
    )
    fit: str = opt("crop", "crop fills the frame, pad shows all, squash stretches, cover-many: several crops of a wide picture",
                   choices=("crop", "pad", "squash", "cover-many"))  # fmt: skip
    background: str = opt("white", "colour that shows through transparency, by name or #rrggbb")
    padding: str = opt("black", "colour around a picture that pad shows whole")
    linear_light: bool = opt(
        False, "resample light instead of sRGB's numbers: fine bright detail keeps its brightness"
    )
    min_edge_px: int = opt(4, "data add refuses images whose shorter side is smaller", low=1, high=1024)
    near_duplicates: str = opt("keep", "what data add does with pictures that nearly repeat another: keep them, on the "
                               "other's side of the split, or drop them", choices=("keep", "drop"))  # fmt: skip
    holdout_fraction: float = opt(
        0.1, "share never trained on, where the source has no test split", low=0.0, high=0.9
    )


@dataclass(frozen=True)
class ModelSettings:
    """The two players."""

    name: str = opt("dcgan", "architecture: r3 is the modern baseline, fastgan for 50 to 1,000 images, fc the lesson's first",
                    choices=("dcgan", "fc", "r3", "fastgan"))  # fmt: skip
    z_dim: int = opt(100, "length of a latent vector", low=1, high=4096)
    conditional: str = opt(
        "auto", "labels are given to both players; auto: r3, where the data set has labels",
        choices=("auto", "yes", "no"),
    )  # fmt: skip
    spectral_norm: bool = opt(False, "divide every weight of D by its largest singular value (Miyato 2018)")
    width: float = opt(
        1.0, "r3: multiplier of the published 768 channels; fastgan: of 64", low=0.01, high=8.0
    )
    blocks: int = opt(2, "r3: residual blocks at each size", low=1, high=16)
    taper_from_px: int = opt(32, "r3: from this size on each doubling halves the channels", low=4, high=512)
    redraw_loss: str = opt("mse", "fastgan: how D's redrawn images are compared, by pixels or by VGG19's features",
                           choices=("mse", "vgg"))  # fmt: skip
    g_channels: int = opt(64, "dcgan: generator channels at the largest map (ngf)", low=4, high=512)
    d_channels: int = opt(64, "dcgan: discriminator channels at the largest map (ndf)", low=4, high=512)
    d_norm: str = opt(
        "batch",
        "dcgan: normalisation in D; without it whole backgrounds were lost (LOG.md)",
        choices=("batch", "none"),
    )
    d_minibatch_std: bool = opt(
        False, "dcgan: D also sees how much the images of a batch differ (against mode loss)"
    )
    fc_width: int = opt(256, "fc: width of the narrowest hidden layer", low=4, high=8192)


@dataclass(frozen=True)
class LossSettings:
    """What the two play for."""

    name: str = opt("logistic", "bce: the lesson's 0/1 labels; rpgan: relativistic pairs, r3's loss",
                    choices=("bce", "logistic", "hinge", "lsgan", "wgan-gp", "rpgan"))  # fmt: skip
    label_smoothing: float = opt(0.0, "bce: real images are labelled 1 minus this", low=0.0, high=0.5)
    penalty: str = opt(
        "auto", "gradient penalty: on real (r1), fake (r2) or both; auto: what the loss was published with",
        choices=("auto", "none", "r1", "r2", "both", "interpolated"),
    )  # fmt: skip
    gamma: float = opt(1.0, "weight γ of r1 and r2, γ/2·E‖∇D‖² (0: none)", low=0.0)
    gamma_end: float = opt(1.0, "γ at the end of the cosine, as a share of the first", low=0.0, high=100.0)
    gp_weight: float = opt(10.0, "weight λ of the interpolated penalty, λ·E(‖∇D‖−1)² (wgan-gp)", low=0.0)
    penalty_every: int = opt(
        1, "apply the penalty every so many steps, times that weight (StyleGAN2's lazy penalty)", low=1
    )
    penalty_by: str = opt(
        "exact", "exact: double backward; fast: a finite difference (r1, r2 only)", choices=("exact", "fast")
    )


@dataclass(frozen=True)
class AugmentSettings:
    """What D sees instead of the images themselves, so that few images last longer."""

    mode: str = opt(
        "none",
        "fixed: always with the probability; scheduled: rising to it along the cosine; adaptive: as needed",
        choices=("none", "fixed", "scheduled", "adaptive"),
    )
    kinds: str = opt(
        "geometry+colour+cutout", "which changes, joined by +: translation, geometry, colour, cutout"
    )
    probability: float = opt(0.3, "of each change (fixed), or where it ends (scheduled)", low=0.0, high=1.0)
    target: float = opt(0.6, "adaptive: the signal that is aimed at (ADA: 0.6)", low=0.0, high=1.0)
    signal: str = opt(
        "relativistic",
        "adaptive: mean sign(D(real) − D(fake)), or D's place of held-out between real and fake images (r_v)",
        choices=("relativistic", "held_out"),
    )
    adapt_images: int = opt(500_000, "adaptive: images for the probability to go from 0 to 1", low=1)


@dataclass(frozen=True)
class TrainingSettings:
    """How long, how fast, and what is kept."""

    total_images: int = opt(1_000_000, "real images shown to D, counted with repetition", low=1)
    batch_images: int = opt(64, "images a step", low=2, high=65536)
    micro_images: int = opt(
        0, "images computed at once, gradients summed to the batch (0: as many as fit)", low=0, high=65536
    )
    g_lr: float = opt(2e-4, "learning rate of G (Adam)", low=0.0, high=1.0)
    d_lr: float = opt(2e-4, "learning rate of D (Adam)", low=0.0, high=1.0)
    lr_end: float = opt(
        1.0, "both rates at the end of the cosine, as a share of the first", low=0.0, high=1.0
    )
    beta1: float = opt(0.5, "Adam's β1 (0.5 as in DCGAN)", low=0.0, high=0.999)
    beta2: float = opt(0.99, "Adam's β2", low=0.0, high=0.99999)
    beta2_end: float = opt(0.0, "β2 at the end of the cosine (0: as at the start)", low=0.0, high=0.99999)
    decay_images: int = opt(0, "length of all cosine schedules, images (0: the whole training)", low=0)
    skip_d_below_loss: float = opt(
        0.0, "D's weights are left alone in a step whose adversarial loss is lower (0: never)", low=0.0
    )
    instance_noise: float = opt(
        0.0, "standard deviation of noise on all that D sees, falling to 0 (images are in [-1, 1])", low=0.0
    )
    instance_noise_images: int = opt(100_000, "images until the instance noise is 0", low=1)
    fresh_g_batch: bool = opt(
        False,
        "G's phase draws latents of its own instead of those that D has just seen (as published for r3)",
    )
    ema_halflife_images: int = opt(
        10_000, "half-life of G's moving average, images (the average is judged)", low=0
    )
    ema_schedule: str = opt(
        "linear", "how the half-life is reached: 5% of the images seen, or along the cosine from 0",
        choices=("linear", "cosine"),
    )  # fmt: skip
    mirror: bool = opt(
        False, "show half of the images mirrored: right for faces, wrong for letters and shoes"
    )
    log_every_images: int = opt(3_200, "record losses so often", low=1)
    grid_every_images: int = opt(50_000, "draw a grid of the same latents so often", low=1)
    save_every_images: int = opt(25_000, "write a checkpoint so often", low=1)
    judge_every_images: int = opt(
        0,
        "score the average on judge_images so often and keep the best checkpoint (0: only at the end)",
        low=0,
    )
    judge_images: int = opt(256, "generated and held-out images of such a score (KD-VGG19)", low=32)
    seed: int = opt(
        0, "fixes the weights, the data order, the mirroring and the latents", low=0, high=2**31 - 1
    )
    device: str = opt("auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = opt(
        "auto", "auto is bf16 where the hardware multiplies in it", choices=("auto", "bf16", "fp32")
    )
    deterministic: bool = opt(
        False, "on a GPU: only operations that give the same bits each time (slower); on a CPU they all do"
    )
    processes: int = opt(1, "processes, one a GPU, that share every batch (--gpus N)", low=1, high=1024)
    compile: str = opt(
        "auto", "torch.compile of the step; auto: on a GPU, for long trainings", choices=("auto", "yes", "no")
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is judged."""

    images: int = opt(2_000, "generated images that are judged", low=16)
    size_px: int = opt(64, "longer edge at which the features are computed, pixels", low=32, high=256)
    neighbours: int = opt(5, "k of precision, recall and coverage", low=1, high=50)
    grid_images: int = opt(64, "images on the sample grid", low=1, high=400)
    seed: int = opt(1, "fixes the latents that are judged", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class StyleSettings:
    """How contents are painted in styles."""

    preset: str = opt("standard", "how much work a picture gets", choices=("draft", "standard", "best"))
    contents: str = opt(
        "sample:photos", "pictures that `ganpipe run` stylises: sample:photos, or as --content takes them"
    )
    styles: str = opt("sample:styles", "styles for them: sample:styles, or as --style takes them")
    long_edge_px: int = opt(
        0, "longer edge of the result, pixels (0: as the style preset says)", low=0, high=16384
    )
    scales: int = opt(0, "sizes from coarse to fine, √2 apart (0: as the preset says)", low=0, high=16)
    steps: int = opt(0, "optimiser steps at each scale (0: as the style preset says)", low=0, high=100_000)
    settle: float = opt(-1.0, "a picture whose loss falls by less than this share in 10 steps is finished at its scale "
                        "(-1: as the preset says; 0: never)", low=-1.0, high=1.0)  # fmt: skip
    init: str = opt("content", "what the optimisation starts from", choices=("content", "noise"))
    optimiser: str = opt(
        "adam", "gradient descent, or L-BFGS (one picture at a time)", choices=("adam", "lbfgs")
    )
    statistics: str = opt("preset", "style as mean and covariance, their Wasserstein distance, or the lesson's Gram "
                          "matrices", choices=("preset", "covariance", "wasserstein", "gram"))  # fmt: skip
    content_layers: str = opt("relu4_2", "layers of the content loss, joined by +")
    style_layers: str = opt("relu1_1+relu2_1+relu3_1+relu4_1+relu5_1", "layers of the style loss, joined by +, shallow "
                            "first: each counts less than the one before")  # fmt: skip
    content_weight: float = opt(
        0.3, "weight of the content loss; at 1 plain skies keep the photo's colours (LOG.md)", low=0.0
    )
    style_weight: float = opt(1.0, "weight of the style loss", low=0.0)
    variation_weight: float = opt(1.0, "weight of the variation loss", low=0.0)
    strength: float = opt(
        0.5, "0: the content as it is, 0.5: the weights above, 1: style alone", low=0.0, high=1.0
    )
    style_scale: float = opt(1.0, "longer edge of the style as a share of the result's: under 1 for smaller strokes",
                             low=0.05, high=8.0)  # fmt: skip
    blend: str = opt("", "paint each content in all styles together, by these shares, such as 0.7+0.3")
    colours: str = opt("style", "whose colours: the style's; the content's, with luminance alone painted; or the style "
                       "matched to the content's mean and covariance", choices=("style", "luminance", "match"))  # fmt: skip
    lr: float = opt(0.03, "Adam's step, in a picture of range [0, 1]", low=0.0, high=1.0)
    seed: int = opt(0, "fixes the noise", low=0, high=2**31 - 1)
    weights: str = opt("", "a file with VGG19's weights (else torchvision's cache, else the embedded ones)")
    format: str = opt("png", "file format of the results", choices=("png", "jpeg", "tiff", "webp"))
    bit_depth: int = opt(8, "bits a channel; 16 for png and tiff", choices=(8, 16))
    batch_items: int = opt(0, "pictures optimised together (0: found from the memory)", low=0, high=1024)
    tile_px: int = opt(
        0, "edge of the tiles of pictures that do not fit (0: found from the memory)", low=0, high=16384
    )
    student: str = opt("auto", "a feed-forward network for each style, trained on the contents: where that saves time, "
                       "never, or always", choices=("auto", "never", "always"))  # fmt: skip
    student_images: int = opt(0, "pictures that a student sees in training (0: as the preset says)", low=0)
    refine_steps: int = opt(0, "optimiser steps after a student's result", low=0, high=100_000)
    judge_items: int = opt(
        0, "pictures that are painted again in long float32 runs, for the optimality gap", low=0
    )
    shard_items: int = opt(24, "pictures of one Prefect task", low=1, high=10_000)


@dataclass(frozen=True)
class Settings:
    """All settings, one section a stage."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    style: StyleSettings = StyleSettings()

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values."""
        return asdict(self)

    def flat(self) -> dict[str, Any]:
        """`{"data.height_px": 64, …}`."""
        return {f"{s}.{k}": v for s, section in self.as_dict().items() for k, v in section.items()}

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """A copy with `{"section.key": value}` set, each checked.

        Raises:
            GanpipeError: an unknown key, or a value that is not allowed.
        """
        changed = self
        for key, value in values.items():
            section, name = split_key(key)
            part = getattr(changed, section)
            changed = replace(changed, **{section: replace(part, **{name: checked(key, value)})})
        return changed


# What a field of each section may be, by `section.key`; help and errors are made from it.
SECTIONS: dict[str, Any] = {f.name: type(f.default) for f in fields(Settings)}
FIELDS = {f"{section}.{f.name}": f for section, cls in SECTIONS.items() for f in fields(cls)}
TYPES = {f"{section}.{k}": t for section, cls in SECTIONS.items() for k, t in get_type_hints(cls).items()}
TOP_LEVEL = ("dataset", "preset")


@dataclass(frozen=True)
class Params:
    """A workspace's `params.yaml`: which data set, which preset, and changed settings."""

    dataset: str = "flowers"
    preset: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def nearest(word: str, valid: Iterable[str]) -> str:
    """Half a sentence that names the valid word most like `word`, or all of them."""
    words = list(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if not close and "." in word:  # the right name in the wrong section, or with none
        close = [w for w in words if w.split(".")[-1] == word.split(".")[-1]][:1]
    return f"did you mean {close[0]}?" if close else f"valid are {', '.join(words)}."


def split_key(key: str) -> tuple[str, str]:
    """`"training.seed"` → `("training", "seed")`; raises GanpipeError for a key that does not exist."""
    if key not in FIELDS:
        same_name = [k for k in FIELDS if k.split(".")[1] == key]
        hint = f"did you mean {same_name[0]}?" if same_name else nearest(key, FIELDS)
        raise GanpipeError(f"Unknown setting {key}: {hint}")
    section, name = key.split(".")
    return section, name


def _whole(value: Any) -> int:
    number = float(value) if isinstance(value, str | float) else value
    if isinstance(value, bool) or int(number) != number:
        raise ValueError(value)
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):  # YAML reads a bare yes or no so
        return "yes" if value else "no"
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _yes_or_no(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]


CONVERSIONS: dict[type, Callable[[Any], Any]] = {int: _whole, float: _number, str: _word, bool: _yes_or_no}


def checked(key: str, value: Any) -> Any:
    """`value` as the type of setting `key`.

    Raises:
        GanpipeError: it is of another type, outside the limits, or none of the choices.
    """
    kind, meta = TYPES[key], FIELDS[key].metadata
    try:
        good = CONVERSIONS[kind](value)
    except (ValueError, KeyError, TypeError, OverflowError):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        raise GanpipeError(f"{key} is {value!r}; it must be {names[kind]}.") from None
    if meta["choices"] and good not in meta["choices"]:
        raise GanpipeError(f"{key} is {good!r}; it must be one of {', '.join(map(str, meta['choices']))}.")
    low, high = meta["low"], meta["high"]
    if kind is float and good != good:
        raise GanpipeError(f"{key} is not a number.")
    if (low is not None and good < low) or (high is not None and good > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise GanpipeError(f"{key} is {good}; it must be {bounds}.")
    return good


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["training.seed=3"]` → `{"training.seed": 3}`, checked."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise GanpipeError(f"--set takes KEY=VALUE, and {text!r} has no '='.")
        split_key(key.strip())
        values[key.strip()] = checked(key.strip(), _scalar(value))
    return values


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def read_params(path: Path) -> Params:
    """The workspace's `params.yaml`; the defaults where there is none.

    Raises:
        GanpipeError: not YAML, an unknown key, or a value that is not allowed.
    """
    if not path.exists():
        return Params()
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GanpipeError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(tree, dict):
        raise GanpipeError(f"{path} must hold sections such as 'training:', and holds {type(tree).__name__}.")
    values: dict[str, Any] = {}
    for section, content in tree.items():
        if section in TOP_LEVEL or content is None:
            continue
        if section not in SECTIONS:
            raise GanpipeError(
                f"Unknown section {section} in {path}: {nearest(str(section), [*SECTIONS, *TOP_LEVEL])}"
            )
        if not isinstance(content, dict):
            raise GanpipeError(f"{section} in {path} must hold settings, and holds {content!r}.")
        values |= {f"{section}.{key}": value for key, value in content.items()}
    try:
        for key, value in values.items():
            split_key(key)
            values[key] = checked(key, value)
        preset = tree.get("preset")
        if preset is not None:
            preset_row(str(preset))
    except GanpipeError as error:
        raise GanpipeError(f"In {path}: {error}") from None
    return Params(str(tree.get("dataset") or Params.dataset), preset, values)


def preset_row(name: str, model: str | None = None) -> Row:
    """What preset `name` changes, with the recipe of `model`; raises GanpipeError for a name that does not exist."""
    if name not in PRESETS:
        raise GanpipeError(f"Unknown preset {name}: {nearest(name, PRESETS)}")
    preset = PRESETS[name]
    chosen = model or preset.model
    return {"model.name": chosen} | preset.scale | preset.recipes.get(chosen, {})


def resolve(params: Params, preset: str, assignments: Iterable[str] = ()) -> Settings:
    """Defaults, then the preset's row for the model that is asked for, then `params.yaml`, then `--set`."""
    asked = dict(params.values) | parse_assignments(assignments)
    return Settings().with_values(preset_row(preset, asked.get("model.name")) | asked)


def from_dict(tree: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings from `Settings.as_dict()`: what a run recorded."""
    return Settings().with_values({f"{s}.{k}": v for s, part in tree.items() for k, v in part.items()})


def params_template() -> str:
    """A `params.yaml` that lists every setting, commented out, with its default and meaning."""
    lines = [
        "# Settings of this workspace. A line without its '# ' in front counts; the others show the defaults.",
        "# Order, the later wins: these defaults, the preset, this file, --set section.key=value.",
        "",
        f"dataset: {Params.dataset}",
        f"# preset: demo   # {', '.join(PRESETS)}; left out: chosen by the number of images and the device",
    ]
    for section, cls in SECTIONS.items():
        lines += ["", f"{section}:"]
        for f in fields(cls):
            allowed = f": {', '.join(map(str, f.metadata['choices']))}" if f.metadata["choices"] else ""
            value = str(f.default).lower() if isinstance(f.default, bool) else f.default
            value = '""' if value == "" else value
            lines.append(f"  # {f.name}: {value}   # {f.metadata['help']}{allowed}")
    return "\n".join(lines) + "\n"
