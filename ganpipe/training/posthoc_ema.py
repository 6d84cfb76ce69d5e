"""Post-hoc EMA: two power-function averages are kept while training, and one of any other length is rebuilt after it.

Karras et al. 2024 (arXiv 2312.02696), section 3 and appendix C. The average at time t gives the weights of time τ the share
(γ + 1)·τ^γ / t^(γ+1). Its length is named by σ_rel, the standard deviation of this profile as a share of t. Snapshots of the
two averages lie in the run folder:

checkpoints/averages/000000012800.safetensors   the parameters of both after so many images, each below its σ_rel
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ganpipe.errors import GanpipeError
from ganpipe.files import write_bytes
from ganpipe.training.ema import move_average

KEPT_SIGMA_REL = (0.05, 0.10)  # of the averages that are kept, as in the paper
# Of the averages that are judged after training. 16 snapshots rebuild 99.7% of the weights of each, and 98% of 0.25's.
TRIED_SIGMA_REL = (0.03, 0.05, 0.07, 0.10, 0.13, 0.16, 0.20)
HIGHEST_SIGMA_REL = 0.28  # 1/√12 is that of the plain mean over all steps
FOLDER = "averages"  # below the checkpoints

Vector = NDArray[np.floating[Any]]


@cache
def power_of(sigma_rel: float) -> float:
    """The exponent γ ≥ 0 of the profile τ^γ with this relative standard deviation.

    The profile is the density of Beta(γ + 1, 1), so σ_rel² = (γ + 1) / ((γ + 2)²·(γ + 3)): a cubic equation in γ.

    Raises:
        GanpipeError: no γ ≥ 0 has it.
    """
    if not 0 < sigma_rel <= HIGHEST_SIGMA_REL:
        raise GanpipeError(f"σ_rel is {sigma_rel:g}; it must be above 0 and at most {HIGHEST_SIGMA_REL}.")
    t = sigma_rel**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())


def update_power_averages(
    averages: Mapping[float, nn.Module], network: nn.Module, nimg: int, batch_images: int
) -> None:
    """Moves each average towards the network after the step that ends at `nimg`; the first step replaces it.

    The share (1 − batch/nimg)^(γ+1) of the old average is kept: so every step gets the integral of the profile over it.
    """
    for sigma_rel, average in averages.items():
        move_average(average, network, (1 - batch_images / nimg) ** (power_of(sigma_rel) + 1))


def save_snapshot(folder: Path, averages: Mapping[float, nn.Module], nimg: int) -> None:
    """Writes the averages' parameters after `nimg` images, whole or not at all."""
    tensors = {
        _name(sigma_rel, name): tensor.detach().cpu().contiguous()
        for sigma_rel, average in averages.items()
        for name, tensor in average.named_parameters()
    }
    write_bytes(folder / f"{nimg:012d}.safetensors", save(tensors))


def copy_snapshots(source: Path, target: Path) -> None:
    """Copies all snapshots to another folder."""
    for path in _snapshots(source):
        write_bytes(target / path.name, path.read_bytes())


def delete_snapshots(folder: Path, after_nimg: int = -1) -> None:
    """Deletes the snapshots that were taken after more than `after_nimg` images."""
    for path in _snapshots(folder):
        if _nimg(path) > after_nimg:
            path.unlink()


def _snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _nimg(path: Path) -> int:
    return int(path.stem)


def _name(sigma_rel: float, parameter: str) -> str:
    return f"{sigma_rel:g}/{parameter}"


def rebuild_average(folder: Path, like: nn.Module, sigma_rel: float) -> nn.Module:
    """The average of this length at the last snapshot: a copy of `like` with other parameters.

    Batch norm's running statistics are those of `like`: no average here has its own.

    Raises:
        GanpipeError: there are no snapshots, one cannot be read, or σ_rel is out of range.
    """
    paths = _snapshots(folder)
    if not paths:
        raise GanpipeError(
            f"{folder} has no snapshots; they are written if training.ema_snapshots is above 0."
        )
    kept = [(_nimg(path), sigma) for path in paths for sigma in KEPT_SIGMA_REL]
    weights = rebuild_weights(kept, _nimg(paths[-1]), sigma_rel).reshape(len(paths), -1)
    rebuilt = copy.deepcopy(like)
    parameters = dict(rebuilt.named_parameters())
    sums = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in parameters.items()}
    for path, shares in zip(paths, weights, strict=True):
        _add_snapshot(sums, path, dict(zip(KEPT_SIGMA_REL, shares, strict=True)))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(sums[name])
    return rebuilt


def _add_snapshot(sums: dict[str, Tensor], path: Path, shares: Mapping[float, float]) -> None:
    """Adds a snapshot's averages to the sums by parameter, each with its share."""
    try:
        tensors = load(path.read_bytes())
        for sigma_rel, share in shares.items():
            for name, total in sums.items():
                total.add_(tensors[_name(sigma_rel, name)], alpha=share)
    except (OSError, SafetensorError, KeyError, RuntimeError):
        raise GanpipeError(f"The snapshot {path} cannot be read, or is of another network.") from None


def rebuild_weights(kept: Sequence[tuple[int, float]], nimg: int, sigma_rel: float) -> Vector:
    """The weight of each kept average (nimg, σ_rel) in the one of length `sigma_rel` at `nimg`.

    Their profiles' weighted sum is nearest to the wanted profile in the least-squares sense (appendix C): the weights x
    solve A·x = b, where A holds the inner products of the kept profiles and b those with the wanted one.
    """
    times, powers = np.array([t for t, _ in kept], float), np.array([power_of(s) for _, s in kept])
    wanted = np.array([nimg], float), np.array([power_of(sigma_rel)])
    A = inner_products((times, powers), (times, powers))
    b = inner_products((times, powers), wanted)
    return np.asarray(np.linalg.solve(A, b)[:, 0], np.float64)


def inner_products(a: tuple[Vector, Vector], b: tuple[Vector, Vector]) -> Vector:
    """∫ p_a(τ)·p_b(τ) dτ for all pairs of profiles, `[len(a), len(b)]`; each side: end times and powers γ.

    In closed form, with the powers of t taken of quotients, which do not overflow.
    """
    (ta, ga), (tb, gb) = (column[:, None] for column in a), b
    first, last = np.minimum(ta, tb), np.maximum(ta, tb)
    return (ga + 1) * (gb + 1) / (ga + gb + 1) / last * (first / ta) ** ga * (first / tb) ** gb
