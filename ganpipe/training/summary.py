"""The summary of a finished training, without its tensors: what records, commands and other processes keep of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainSummary:
    """`weights_sha256`: over all networks and optimizers, in a fixed order; `notes`: sentences for the report."""

    nimg: int
    images_per_second: float  # of training alone
    device: str
    precision: str
    weights_sha256: str
    notes: tuple[str, ...] = ()
