"""Spectrum of images: sees a regular pattern of a few grey levels, blur and noise, which deep features hardly see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import median_filter
from torch import Tensor

from ganpipe.imaging.tensors import composite_on_white

BLOCK = 256  # images transformed at once
NEIGHBORHOOD = (1, 5, 5)
STANDARD_ERRORS = 5  # a peak is counted above so many
DECIBELS = 10 / np.log(10)

Spectrum = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spectra:
    """Over N images: mean and variance of the log power by channel and frequency, `[C, H, W]`; `fine: [N]`, the log of
    the mean power of the finest details of each.

    The power is in squared grey levels. One is added before the logarithm: less than one grey level is invisible.
    """

    log_mean: Spectrum
    log_variance: Spectrum
    fine: Spectrum


@dataclass(frozen=True)
class Sharpness:
    """In decibels, negative if blurred, positive if noisy, with its standard error."""

    db: float
    error: float


def spectra(pixels: Tensor) -> Spectra:
    """The spectra of uint8 images `[N, H, W, C]`."""
    mean = square = torch.zeros(())
    fine = []
    for part in pixels.split(BLOCK):
        waves = torch.fft.fft2(composite_on_white(part).permute(0, 3, 1, 2).float(), norm="forward")
        power = waves.abs().double() ** 2
        logs = (1 + power).log()
        mean, square = mean + logs.sum(0) / len(pixels), square + (logs**2).sum(0) / len(pixels)
        fine.append((1 + power[:, :, _is_fine(*power.shape[2:])].sum(2).mean(1)).log())
    return Spectra(mean.numpy(), (square - mean**2).clamp(min=0).numpy(), torch.cat(fine).numpy())


def _is_fine(height: int, width: int) -> Tensor:
    """Frequencies above half of the highest one, `[H, W]`."""
    y, x = torch.fft.fftfreq(height).abs()[:, None], torch.fft.fftfreq(width).abs()
    return torch.maximum(y, x) > 0.25


def peak_db(fake: Spectra, real: Spectra) -> float:
    """The least height, in decibels, of the narrowest peak or gap that the fakes' spectrum has over the reals'.

    A frequency is compared with the median of its neighbors, so that blur and noise do not count; five standard errors are
    taken off. 0 if there is none.
    """
    ratio = fake.log_mean - real.log_mean
    error = np.sqrt(fake.log_variance / len(fake.fine) + real.log_variance / len(real.fine))
    peak = np.abs(ratio - median_filter(ratio, NEIGHBORHOOD, mode="wrap")) - STANDARD_ERRORS * error
    peak[:, 0, :] = peak[:, :, 0] = 0  # the mean, and edges at the border
    return float(max(0.0, peak.max()) * DECIBELS)


def sharpness(fake: Spectra, real: Spectra) -> Sharpness:
    """Power of the fakes' finest details over the reals', image by image, so that a few odd ones do not count."""
    error = np.sqrt(fake.fine.var() / len(fake.fine) + real.fine.var() / len(real.fine))
    return Sharpness(float(fake.fine.mean() - real.fine.mean()) * DECIBELS, float(error * DECIBELS))
