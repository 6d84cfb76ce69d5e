"""Every setting once: its default, its bounds or choices, and its meaning.

Later values win: the default beside the field, the preset's row, `params.yaml`, `--set`. An unknown key fails and
names the nearest valid one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from ganpipe.errors import GanpipeError, nearest
from ganpipe.settings.start_from import SCRATCH
from ganpipe.settings.tables import table_keys
from ganpipe.settings.validation import OTHER, Section, seconds_in, sentence, shown

HIGHEST_SEED = 2**31 - 1
MOST_MINUTES = 60 * 24 * 365.0
SHORTEST_INTERVAL_STEPS = 50  # of intervals that follow the length of the training
# A validation costs less than 5% of the time that so many images of 32 pixels take on two cores without bf16 (LOG.md).
SHORTEST_VALIDATION_INTERVAL_IMAGES = 30_000
FEWEST_VALIDATION_IMAGES = 32

if TYPE_CHECKING:
    ModelName = str
    LossName = str
    ExtractorName = str
else:  # the tables own their names
    ModelName = Literal[table_keys("models/registry.py", "MODELS")]
    LossName = Literal[table_keys("training/losses.py", "LOSSES")]
    ExtractorName = Literal[table_keys("evaluation/extractors.py", "EXTRACTORS")]
AugmentKind = Literal["translation", "geometry", "color", "cutout"]


class DataSettings(Section):
    """How raw images become training images."""

    height_px: int = Field(default=64, ge=4, le=1024, description="height of training images, in pixels")
    width_px: int = Field(default=64, ge=4, le=1024, description="width of training images, in pixels")
    channels: Literal[0, 1, 3, 4] = Field(
        default=0, description="image channels: 1 grayscale, 3 RGB, 4 RGBA, 0 detects 1 or 3 from the images"
    )
    fit: Literal["crop", "pad", "squash", "cover-many"] = Field(
        default="crop",
        description="how images fit the frame: crop fills it, pad keeps the whole image, squash ignores the aspect "
        "ratio, cover-many takes several crops of a wide image",
    )
    background: str = Field(default="white", description="color behind transparent pixels, a name or #rrggbb")
    padding: str = Field(
        default="black", description="color of the borders that fit=pad adds, a name or #rrggbb"
    )
    linear_light: bool = Field(
        default=False,
        description="resize in linear light instead of sRGB, so that fine detail keeps its brightness",
    )
    min_edge_px: int = Field(
        default=4, ge=1, le=1024, description="minimum shorter edge of images in `data add`, in pixels"
    )
    max_megapixels: int = Field(
        default=200,
        ge=1,
        le=1000,
        description="largest image that `data add` reads, in megapixels; larger ones are refused",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        default="keep", description="near-duplicates in `data add`: keep them in one split, or drop them"
    )
    holdout_fraction: float = Field(
        default=0.1,
        ge=0.0,
        le=0.9,
        description="share of images held out of training if the source has no test split",
    )


class ModelSettings(Section):
    """The architecture of the generator G and the discriminator D."""

    name: ModelName = Field(
        default="dcgan",
        description="architecture: r3gan as the modern baseline, stylegan2 for style mixing and projection, fastgan for "
        "50 to 1,000 images, progan that grows, msggan with gradients at every scale, dcgan and mlp as simple baselines, vae "
        "as the model without a discriminator",
    )
    z_dim: int = Field(default=100, ge=1, le=4096, description="dimensions of a latent vector")
    conditional: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="class-conditional G and D; auto: r3gan and stylegan2 are conditional if the dataset has labels",
    )
    spectral_norm: bool = Field(
        default=False,
        description="spectral normalization of all weights of D, or of the VAE's encoder (Miyato et al. 2018)",
    )
    width: float = Field(
        default=1.0,
        ge=0.01,
        le=8.0,
        description="channel multiplier: r3gan of the published 768; progan, msggan and stylegan2 of 512; fastgan of 64",
    )
    blocks: int = Field(default=2, ge=1, le=16, description="r3gan: residual blocks per resolution")
    taper_from_px: int = Field(
        default=32,
        ge=4,
        le=512,
        description="r3gan, progan, msggan, stylegan2: above this resolution, in pixels, each doubling halves the channels",
    )
    scales: int = Field(
        default=0,
        ge=0,
        le=16,
        description="msggan: scales that D is shown, counted from the largest; 0: all",
    )
    mapping_layers: int = Field(
        default=8, ge=1, le=16, description="stylegan2: fully connected layers of the mapping network"
    )
    style_mixing: float = Field(
        default=0.9,
        ge=0.0,
        le=1.0,
        description="stylegan2: share of the images in training whose layers take their styles from two latents",
    )
    recon_loss: Literal["mse", "vgg"] = Field(
        default="mse",
        description="fastgan: reconstruction loss of D, on pixels (mse) or VGG19 features (vgg)",
    )
    g_channels: int = Field(
        default=64, ge=4, le=512, description="dcgan, vae: channels of G at its largest feature map (ngf)"
    )
    d_channels: int = Field(
        default=64, ge=4, le=512, description="dcgan: channels of D at its largest feature map (ndf)"
    )
    d_norm: Literal["batch", "none"] = Field(
        default="batch",
        description="dcgan: normalization in D; use none only with d_minibatch_std, else modes drop (LOG.md)",
    )
    d_minibatch_std: bool = Field(
        default=False, description="dcgan: minibatch stddev layer in D, against mode collapse"
    )
    mlp_width: int = Field(default=256, ge=4, le=8192, description="mlp: units of the narrowest hidden layer")


class LossSettings(Section):
    """The adversarial loss and the gradient penalty; the VAE has its own loss."""

    name: LossName = Field(
        default="logistic", description="adversarial loss; rpgan is the relativistic pairing loss of R3GAN"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0.0, le=0.5, description="bce: real labels are 1 minus this value"
    )
    penalty: Literal["auto", "none", "r1", "r2", "both", "interpolated"] = Field(
        default="auto",
        description="gradient penalty: R1 on real images, R2 on fake images, both, or interpolated (WGAN-GP); auto: "
        "as published with the loss",
    )
    gamma: float = Field(
        default=1.0, ge=0.0, description="weight γ of R1 and R2, γ/2·E‖∇D‖²; 0 disables them"
    )
    gamma_end: float = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description="γ at the end of the cosine schedule, as a fraction of its start",
    )
    gp_weight: float = Field(
        default=10.0, ge=0.0, description="weight λ of the interpolated penalty, λ·E(‖∇D‖−1)² (WGAN-GP)"
    )
    penalty_every: int = Field(
        default=1,
        ge=1,
        description="steps between gradient penalties (lazy regularization); scales their weight",
    )
    penalty_method: Literal["exact", "finite-difference"] = Field(
        default="exact",
        description="R1 and R2 by double backward (exact) or by a finite difference, faster but noisier",
    )
    drift: float = Field(
        default=0.0,
        ge=0.0,
        description="weight ε of the drift penalty ε·E D(real)², which keeps the logits of wgan-gp near 0 (ProGAN)",
    )
    path_length_weight: float = Field(
        default=0.0,
        ge=0.0,
        description="stylegan2: weight of path-length regularization of G; the paper's is 2; 0: none",
    )
    path_length_every: int = Field(
        default=4,
        ge=1,
        description="steps between path-length regularizations (lazy); scales their weight",
    )
    beta: float = Field(
        default=1.0,
        ge=0.0,
        description="vae: weight β of the KL divergence (Higgins et al. 2017); 0: an autoencoder, without noise",
    )


class AugmentSettings(Section):
    """Augmentation of what D sees (ADA, DiffAugment)."""

    mode: Literal["none", "fixed", "scheduled", "adaptive"] = Field(
        default="none",
        description="probability schedule: fixed, scheduled (cosine rise from 0), or adaptive (ADA)",
    )
    kinds: str = Field(
        default="geometry+color+cutout",
        description=f"augmentations, joined by +: {', '.join(get_args(AugmentKind))}",
    )
    probability: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="probability of each augmentation (fixed), or its end (scheduled)",
    )
    target: float = Field(
        default=0.6, ge=0.0, le=1.0, description="adaptive: target of the overfitting signal"
    )
    signal: Literal["relativistic", "held_out"] = Field(
        default="relativistic",
        description="adaptive: overfitting signal, mean sign(D(real) − D(fake)) or r_v of ADA on held-out images",
    )
    adapt_images: int = Field(
        default=500_000, ge=1, description="adaptive: images for the probability to rise from 0 to 1"
    )


class TrainingSettings(Section):
    """Length, optimizer, schedules, checkpoints and hardware of a training run."""

    total_images: int = Field(
        default=1_000_000, ge=1, description="training length, in real images shown to D"
    )
    minutes: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_MINUTES,
        description="training length, in minutes: the step is measured before the first one, and total_images follows; "
        "0: total_images as given",
    )
    start_from: str = Field(
        default=SCRATCH,
        description="initial weights: scratch for fresh ones, champion for those of the dataset's champion, or a run, a "
        "safetensors file or the folder of a generator (warm start); paths are relative to the workspace",
    )
    freeze_d_layers: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="with start_from: layers of D, counted from the image, that do not learn (FreezeD)",
    )
    batch_images: int = Field(default=64, ge=2, le=65536, description="images per step")
    microbatch_images: int = Field(
        default=0,
        ge=0,
        le=65536,
        description="images per forward pass, with gradient accumulation up to batch_images; 0: as many as fit",
    )
    g_lr: float = Field(
        default=2e-4, ge=0.0, le=1.0, description="learning rate of G (Adam); vae: of both networks"
    )
    d_lr: float = Field(default=2e-4, ge=0.0, le=1.0, description="learning rate of D (Adam)")
    lr_end: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="learning rates at the end of the cosine schedule, as a fraction of their start",
    )
    beta1: float = Field(default=0.5, ge=0.0, le=0.999, description="Adam's β1")
    beta2: float = Field(default=0.99, ge=0.0, le=0.99999, description="Adam's β2")
    beta2_end: float = Field(
        default=0.0, ge=0.0, le=0.99999, description="β2 at the end of the cosine schedule; 0: constant"
    )
    decay_images: int = Field(
        default=0, ge=0, description="length of all cosine schedules, in images; 0: total_images"
    )
    skip_d_below_loss: float = Field(
        default=0.0, ge=0.0, description="skip the update of D if its adversarial loss is lower; 0: never"
    )
    instance_noise: float = Field(
        default=0.0,
        ge=0.0,
        description="initial stddev of Gaussian noise on all inputs of D, for images in [-1, 1]",
    )
    instance_noise_images: int = Field(
        default=100_000, ge=1, description="images until the instance noise has decayed to 0"
    )
    growth_share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="progan: share of total_images after which the networks have grown to full size; 0: they do not grow",
    )
    separate_g_batch: bool = Field(
        default=False,
        description="draw a separate batch for the step of G instead of reusing D's (as in R3GAN)",
    )
    ema_halflife_images: int = Field(
        default=10_000, ge=0, description="EMA half-life of G, in images; evaluation and samples use the EMA"
    )
    ema_schedule: Literal["linear", "cosine"] = Field(
        default="linear",
        description="EMA half-life warm-up: linear (at most 5% of the images seen) or cosine from 0",
    )
    ema_snapshots: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="snapshots of two power-function averages of G, from which one of any length is rebuilt after training "
        "(post-hoc EMA); 0: none",
    )
    horizontal_flip: bool = Field(
        default=False, description="random horizontal flips: useful for faces, wrong for text"
    )
    log_every_images: int = Field(
        default=3_200, ge=0, description="images between logged losses; 0: a hundredth of total_images"
    )
    grid_every_images: int = Field(
        default=50_000,
        ge=0,
        description="images between sample grids of fixed latents; 0: a twelfth of total_images",
    )
    save_every_images: int = Field(
        default=25_000, ge=0, description="images between checkpoints; 0: a twentieth of total_images"
    )
    validate_every_images: int = Field(
        default=0,
        ge=0,
        description="images between validations, which keep the best checkpoint; 0: a fifth of total_images",
    )
    validation_images: int = Field(
        default=256,
        ge=0,
        description="generated and held-out images per validation (energy distance), at least 32; 0: no validation",
    )
    seed: int = Field(
        default=0, ge=0, le=HIGHEST_SEED, description="random seed of weights, data order, flips and latents"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="device; auto uses a GPU if there is one"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="precision of matrix products; auto: bf16 if the hardware supports it"
    )
    deterministic: bool = Field(
        default=False,
        description="on a GPU, use only bitwise reproducible operations (slower); a CPU always does",
    )
    processes: int = Field(
        default=1, ge=1, le=1024, description="processes that share every batch, one per GPU (--gpus N)"
    )
    compile: Literal["auto", "yes", "no", "cuda-graphs"] = Field(
        default="auto",
        description="compile the step with torch.compile; auto: for long training on a GPU; cuda-graphs: as CUDA graphs",
    )

    def log_interval(self) -> int:
        """Images between logged losses."""
        return self.log_every_images or self._share_of_training(100)

    def grid_interval(self) -> int:
        """Images between sample grids."""
        return self.grid_every_images or self._share_of_training(12)

    def save_interval(self) -> int:
        """Images between checkpoints."""
        return self.save_every_images or self._share_of_training(20)

    def snapshot_interval(self) -> int:
        """Images between snapshots of the power-function averages."""
        return max(self.batch_images, self.total_images // self.ema_snapshots)

    def validation_interval(self) -> int:
        """Images between validations."""
        return self.validate_every_images or max(
            SHORTEST_VALIDATION_INTERVAL_IMAGES, self._share_of_training(5)
        )

    @field_validator("validation_images")
    @classmethod
    def _none_or_enough(cls, images: int) -> int:
        if 0 < images < FEWEST_VALIDATION_IMAGES:
            raise PydanticCustomError(
                OTHER, "it must be 0 or at least {fewest}", {"fewest": FEWEST_VALIDATION_IMAGES}
            )
        return images

    def _share_of_training(self, parts: int) -> int:
        return max(SHORTEST_INTERVAL_STEPS * self.batch_images, self.total_images // parts)


class EvaluationSettings(Section):
    """How a trained model is evaluated."""

    images: int = Field(default=2_000, ge=16, description="generated images for the metrics")
    extractor: ExtractorName = Field(
        default="vgg19", description="network whose features the metrics compare"
    )
    extractor_file: str = Field(
        default="", description="file with the extractor's weights, if they do not come with a package"
    )
    size_px: int = Field(
        default=64, ge=32, le=256, description="longer image edge for the extractor vgg19, in pixels"
    )
    neighbors: int = Field(
        default=5, ge=1, le=50, description="k nearest neighbors of precision, recall and coverage"
    )
    grid_images: int = Field(default=64, ge=1, le=400, description="images in the sample grid")
    seed: int = Field(default=1, ge=0, le=HIGHEST_SEED, description="random seed of the evaluated latents")
    promote: Literal["auto", "ask", "never"] = Field(
        default="auto",
        description="a new model becomes champion if the gate finds it better; ask: only by `ganpipe promote`; "
        "never: it is not compared with the champion",
    )


class StyleSettings(Section):
    """Style transfer: contents, styles, losses, optimization and output files."""

    preset: Literal["draft", "standard", "best", "screen", "print"] = Field(
        default="standard",
        description="sets size and steps; default of `ganpipe stylize`: screen",
    )
    contents: str = Field(
        default="sample:photos", description="content images of `ganpipe run`: sample:photos, or as --content"
    )
    styles: str = Field(
        default="sample:styles", description="style images of `ganpipe run`: sample:styles, or as --style"
    )
    max_megapixels: int = Field(
        default=200,
        ge=1,
        le=1000,
        description="largest content or style that is read, in megapixels; larger ones are refused",
    )
    long_edge_px: int = Field(
        default=0, ge=0, le=16384, description="longer edge of the result, in pixels; 0: as the preset"
    )
    scales: int = Field(
        default=0,
        ge=0,
        le=16,
        description="resolutions from coarse to fine, a factor √2 apart; 0: from about 128 px",
    )
    steps: int = Field(
        default=0, ge=0, le=100_000, description="optimizer steps at the first scale; 0: as the preset"
    )
    last_steps: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="optimizer steps at the last scale, which cost most; 0: as many as at the first, or as the preset",
    )
    stop_below: float = Field(
        default=-1.0,
        ge=-1.0,
        le=1.0,
        description="early stopping per scale if the loss falls by less than this fraction in 10 steps; 0: never, "
        "-1: as the preset",
    )
    init: Literal["content", "noise"] = Field(
        default="content", description="initial image of the optimization"
    )
    optimizer: Literal["adam", "lbfgs"] = Field(
        default="adam", description="optimizer of the pixels; lbfgs takes one image at a time"
    )
    statistics: Literal["covariance", "wasserstein", "gram"] = Field(
        default="covariance",
        description="style statistics: mean and covariance, their Wasserstein distance, or Gram matrices",
    )
    content_layers: str = Field(
        default="relu4_2", description="VGG19 layers of the content loss, joined by +"
    )
    style_layers: str = Field(
        default="relu1_1+relu2_1+relu3_1+relu4_1",
        description="VGG19 layers of the style loss, joined by +; deeper layers weigh less",
    )
    content_weight: float = Field(
        default=0.02,
        ge=0.0,
        description="weight of the content loss; at 0.3 plain areas keep the content's colors and textures (LOG.md)",
    )
    style_weight: float = Field(default=1.0, ge=0.0, description="weight of the style loss")
    variation_weight: float = Field(default=1.0, ge=0.0, description="weight of the total variation loss")
    strength: float = Field(
        default=0.5, ge=0.0, le=1.0, description="0: content only, 0.5: the weights as set, 1: style only"
    )
    style_scale: float = Field(
        default=1.0,
        ge=0.05,
        le=8.0,
        description="longer edge of the style image as a fraction of the result's; below 1: smaller strokes",
    )
    style_scales: str = Field(
        default="1",
        description="scales of the style whose statistics are averaged, relative to style_scale, joined by +, such as 1+0.5",
    )
    style_rotations: str = Field(
        default="0",
        description="rotations of the style whose statistics are averaged, in degrees, joined by +, such as 0+90",
    )
    blend: str = Field(
        default="", description="mix all styles in each result with these weights, such as 0.7+0.3"
    )
    color_mode: Literal["style", "luminance", "match"] = Field(
        default="style",
        description="color preservation: style takes the style's colors, luminance stylizes only the luminance, match "
        "fits the style's colors to the content's",
    )
    lr: float = Field(default=0.03, ge=0.0, le=1.0, description="learning rate of Adam, for pixels in [0, 1]")
    seed: int = Field(default=0, ge=0, le=HIGHEST_SEED, description="random seed of the noise")
    weights: str = Field(
        default="",
        description="file with VGG19 weights; empty: torchvision's cache, else the bundled weights",
    )
    format: Literal["png", "jpeg", "tiff", "webp"] = Field(
        default="png", description="file format of the results"
    )
    bit_depth: Literal[8, 16] = Field(default=8, description="bits per channel; 16 needs png or tiff")
    batch_items: int = Field(
        default=0, ge=0, le=1024, description="images optimized at once; 0: as many as fit in memory"
    )
    tile_px: int = Field(
        default=0,
        ge=0,
        le=16384,
        description="tile edge for images too large for memory, in pixels; 0: automatic",
    )
    feedforward: Literal["auto", "never", "always"] = Field(
        default="auto",
        description="train a feed-forward network per style on the contents (perceptual loss); auto: if it saves time",
    )
    feedforward_images: int = Field(
        default=0, ge=0, description="training images of a feed-forward network; 0: as the preset"
    )
    refine_steps: int = Field(
        default=0, ge=0, le=100_000, description="optimizer steps after the feed-forward result"
    )
    video_steps: int = Field(
        default=30,
        ge=1,
        le=100_000,
        description="videos: optimizer steps of each frame after the first of a scene",
    )
    temporal_weight: float = Field(
        default=20.0,
        ge=0.0,
        description="videos: weight of the temporal loss, which keeps a frame like the one before it; 0: none",
    )
    reference_items: int = Field(
        default=0, ge=0, description="results compared with a long float32 optimization (optimality gap)"
    )
    shard_items: int = Field(default=24, ge=1, le=10_000, description="images per Prefect task")


class GcSettings(Section):
    """The history that `ganpipe gc` keeps beside models, reports, pictures and everything unfinished."""

    keep_runs: int = Field(
        default=5, ge=0, description="the last runs, whose checkpoints and dataset versions stay"
    )
    keep_champions: int = Field(
        default=3, ge=0, description="earlier champions of each model, whose checkpoints and versions stay"
    )
    keep_days: int = Field(
        default=30,
        ge=1,
        le=3650,
        description="days after which `ganpipe up` lets Prefect forget flow runs, their logs and artifacts",
    )


class WatchSettings(Section):
    """The folder that `ganpipe up` watches, and when a changed dataset is trained on again."""

    folder: str = Field(
        default="", description="watched folder (--watch DIR); empty: none. Its images go into the dataset"
    )
    mode: Literal["add", "mirror"] = Field(
        default="add",
        description="mirror: images that are removed from the folder leave the dataset, too",
    )
    quiet_s: float = Field(
        default=10.0,
        ge=0.5,
        le=3600.0,
        description="a file is whole, and the folder imported, when nothing has changed for so many seconds",
    )
    retrain: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="train on a changed dataset, by the three settings below; auto: if a folder is watched",
    )
    min_new_images: int = Field(
        default=1, ge=1, le=10_000_000, description="a run starts if at least so many images are new"
    )
    min_changed_percent: float = Field(
        default=5.0,
        ge=0.0,
        le=100.0,
        description="or if at least this share of the images is new or removed, in percent; 0: does not count",
    )
    at_most_every: str = Field(
        default="1h",
        description="time between the starts of two such runs, and after which a folder that is never quiet is imported, "
        "such as 10m, 6h or 1d",
    )

    @field_validator("at_most_every")
    @classmethod
    def _is_interval(cls, text: str) -> str:
        if seconds_in(text) is None:
            raise PydanticCustomError(OTHER, "it must be a number and m, h or d, such as 10m or 6h")
        return text

    def at_most_every_s(self) -> int:
        """`at_most_every` in seconds."""
        return seconds_in(self.at_most_every) or 0


Work = Literal["retrain", "stylize", "evaluate-champion", "verify-data", "gc"]


class ScheduleSettings(Section):
    """One entry of the list `schedules` of `params.yaml`, or of `ganpipe up --schedule`. Each needs a name, and `cron` or
    `interval`. `settings` may hold settings of its own, such as `{training.seed: 3}`."""

    name: str = Field(default="", description="name of the schedule and of its deployment in Prefect")
    cron: str = Field(default="", description="when it runs, as five cron fields such as 0 2 * * *")
    interval: str = Field(
        default="", description="instead of cron: time between two runs, such as 30m, 6h or 1d"
    )
    timezone: str = Field(
        default="", description="IANA name such as Europe/Berlin; empty: the local time zone"
    )
    work: Work = Field(default="retrain", description="what it runs")
    dataset: str = Field(default="", description="dataset; empty: the one of params.yaml")
    minutes: float = Field(
        default=0.0,
        ge=0.0,
        le=MOST_MINUTES,
        description="retrain: training length, in minutes; 0: as the other settings say",
    )


Event = Literal["failed", "crashed", "verdict", "promoted", "refused", "overdue", "disk", "server"]


class NotifySettings(Section):
    """Notifications. `urls` may also be a list, and the variable `GANPIPE_NOTIFY_URLS` adds more. They hold secrets: they
    enter no run, and ganpipe prints them nowhere. `ganpipe notify --test` sends a test message."""

    urls: str = Field(
        default="",
        repr=False,
        description="addresses of Apprise, separated by spaces, such as discord://ID/TOKEN, mailto://… or json://HOST/PATH",
    )
    events: str = Field(
        default="+".join(get_args(Event)),
        description="what is told, joined by +: failed and crashed runs, a verdict that is not healthy, promoted and refused "
        "models, no success for long (overdue), a disk that is nearly full, a server of `ganpipe up` that has died",
    )
    overdue_days: float = Field(
        default=3.0, ge=0.0, description="days without success of a schedule until word is sent; 0: never"
    )
    disk_free_gib: float = Field(
        default=5.0, ge=0.0, description="free GiB below which a disk is nearly full; 0: never"
    )

    @field_validator("events")
    @classmethod
    def _check_events(cls, value: str) -> str:
        known = get_args(Event)
        if wrong := [word for word in value.split("+") if value and word not in known]:
            raise PydanticCustomError(OTHER, "{hint}", {"hint": nearest(wrong[0], known).rstrip(".?")})
        return value


class Settings(BaseModel):
    """All settings, one section per stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    style: StyleSettings = StyleSettings()
    gc: GcSettings = GcSettings()
    watch: WatchSettings = WatchSettings()

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections of plain values."""
        return self.model_dump()

    def flat(self) -> dict[str, Any]:
        """`{"data.height_px": 64, …}`."""
        return {f"{s}.{k}": v for s, section in self.as_dict().items() for k, v in section.items()}

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """A copy with `{"section.key": value}` set, each validated.

        Raises:
            GanpipeError: an unknown key, or a value that is not allowed; one sentence for each.
        """
        if unknown := [unknown_setting(key) for key in values if key not in FIELDS]:
            raise GanpipeError(" ".join(unknown))
        tree = self.as_dict()
        for key, value in values.items():
            section, name = key.split(".")
            tree[section][name] = value
        return from_dict(tree)


SECTIONS: dict[str, type[Section]] = {
    name: type(field.default) for name, field in Settings.model_fields.items()
}
FIELDS: dict[str, FieldInfo] = {
    f"{section}.{name}": field
    for section, cls in SECTIONS.items()
    for name, field in cls.model_fields.items()
}


def from_dict(tree: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings from `Settings.as_dict()`, as a run records them; what is missing has its default.

    Raises:
        GanpipeError: an unknown key, or a value that is not allowed; one sentence for each.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as invalid:
        raise GanpipeError(" ".join(map(_sentence_of, invalid.errors()))) from None


def validated(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"section.key": value}` with each value as the type of its setting.

    Raises:
        GanpipeError: an unknown key, or a value that is not allowed; one sentence for each.
    """
    flat = Settings().with_values(values).flat()
    return {key: flat[key] for key in values}


def unknown_setting(key: str) -> str:
    """A sentence about a key that does not exist, with the nearest one that does."""
    same_name = [k for k in FIELDS if k.split(".")[1] == key.split(".")[-1]]
    if same_name and "." not in key:
        return f"Unknown setting {key}: did you mean {same_name[0]}?"
    return f"Unknown setting {key}: {nearest(key, same_name or FIELDS)}"


def _sentence_of(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if key in FIELDS:
        return sentence(key, FIELDS[key], error)
    if key in SECTIONS:
        return f"{key} is {shown(error['input'])}; it must hold settings."
    return unknown_setting(key) if "." in key else f"Unknown section {key}: {nearest(key, SECTIONS)}"
