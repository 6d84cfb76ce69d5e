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
    """Over N images, by channel and frequency `[C, H, W]`: mean of the log power, its variance, and the mean power.

    The power is in squared grey levels. One grey level is added before the logarithm: less is invisible.
    """

    log_mean: Spectrum
    log_variance: Spectrum
    power: Spectrum
    count: int


def spectra(pixels: Tensor) -> Spectra:
    """The spectra of uint8 images `[N, H, W, C]`."""
    sums = [torch.zeros(()), torch.zeros(()), torch.zeros(())]
    for part in pixels.split(BLOCK):
        waves = torch.fft.fft2(composite_on_white(part).permute(0, 3, 1, 2).float(), norm="forward")
        power = waves.abs().double() ** 2
        logs = (1 + power).log()
        sums = [total + values.sum(0) for total, values in zip(sums, (logs, logs**2, power), strict=True)]
    mean, square, power = (total.numpy() / len(pixels) for total in sums)
    return Spectra(mean, (square - mean**2).clip(0), power, len(pixels))


def peak_db(fake: Spectra, real: Spectra) -> float:
    """The least height, in decibels, of the narrowest peak or gap that the fakes' spectrum has over the reals'.

    A frequency is compared with the median of its neighbors, so that blur and noise do not count; five standard errors are
    taken off. 0 if there is none.
    """
    ratio = fake.log_mean - real.log_mean
    error = np.sqrt(fake.log_variance / fake.count + real.log_variance / real.count)
    peak = np.abs(ratio - median_filter(ratio, NEIGHBORHOOD, mode="wrap")) - STANDARD_ERRORS * error
    peak[:, 0, :] = peak[:, :, 0] = 0  # the mean, and edges at the border
    return float(max(0.0, peak.max()) * DECIBELS)


def sharpness_db(fake: Spectra, real: Spectra) -> float:
    """Power of the fakes' finest details over the reals', in decibels: negative if blurred, positive if noisy."""
    height, width = real.power.shape[1:]
    y, x = np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width))
    fine = np.maximum(y, x) > 0.25
    return float(DECIBELS * np.log((fake.power[:, fine].sum() + 1e-3) / (real.power[:, fine].sum() + 1e-3)))
