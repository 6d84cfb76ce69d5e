"""Scheduled values (learning rates, β2, γ, EMA half-life, augmentation) as functions of nimg."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ganpipe.compute.schedules import cosine
from ganpipe.settings.schema import Settings


@dataclass(frozen=True)
class ScheduledValues:
    """Every scheduled value of one step."""

    g_lr: float
    d_lr: float
    beta2: float
    gamma: float
    ema_halflife_images: float
    instance_noise: float
    augment: float | None  # None: the adaptive controller decides

    def changed(self, g_lr: float, d_lr: float, gamma: float, adaptive_p: float) -> ScheduledValues:
        """Scaled by what rollbacks changed; `adaptive_p` fills in the augmentation probability of ADA."""
        augment = adaptive_p if self.augment is None else self.augment
        return replace(
            self, g_lr=self.g_lr * g_lr, d_lr=self.d_lr * d_lr, gamma=self.gamma * gamma, augment=augment
        )


def values_at(nimg: int, settings: Settings, warm: bool = False) -> ScheduledValues:
    """The schedules at `nimg`. `warm`: the average begins with a trained one, so that its half-life has no warm-up."""
    t, loss, augment = settings.training, settings.loss, settings.augment
    over = t.decay_images or t.total_images

    def along(start: float, end: float) -> float:
        return cosine(start, end, nimg, over)

    lr = along(1.0, t.lr_end)
    probability = {
        "none": 0.0,
        "fixed": augment.probability,
        "scheduled": along(0.0, augment.probability),
        "adaptive": None,
    }[augment.mode]
    return ScheduledValues(
        g_lr=t.g_lr * lr,
        d_lr=t.d_lr * lr,
        beta2=along(t.beta2, t.beta2_end or t.beta2),
        gamma=loss.gamma * along(1.0, loss.gamma_end),
        ema_halflife_images=_ema_halflife(nimg, along(0.0, t.ema_halflife_images), settings, warm),
        instance_noise=t.instance_noise * max(0.0, 1 - nimg / t.instance_noise_images),
        augment=probability,
    )


def _ema_halflife(nimg: int, along_cosine: float, settings: Settings, warm: bool) -> float:
    t = settings.training
    if warm:  # as in StyleGAN2-ADA, which has no warm-up when it resumes from a trained network
        return t.ema_halflife_images
    if t.ema_schedule == "cosine":
        return along_cosine
    return min(t.ema_halflife_images, 0.05 * nimg)  # so that the start is forgotten, as in StyleGAN2-ADA
