"""The room on disk that a training will need, estimated before it starts."""

from __future__ import annotations

import torch
from torch import nn

from ganpipe.compute.checkpoints import KEEP
from ganpipe.files import require_room
from ganpipe.imaging.image import ImageShape
from ganpipe.models.registry import build_generator, build_partner
from ganpipe.settings.schema import Settings
from ganpipe.stores.dataset_shards import version_shards
from ganpipe.stores.dataset_versions import DatasetVersion
from ganpipe.stores.workspace import Workspace
from ganpipe.training.posthoc_ema import KEPT_SIGMA_REL
from ganpipe.training.setup import GRID_IMAGES

BYTES_PER_WEIGHT = 4
COPIES = 3  # of a weight in a checkpoint: itself and Adam's two moments
BESIDE_BYTES = 32 * 2**20  # reports, stylized images, databases


def check_room(workspace: Workspace, version: DatasetVersion, settings: Settings) -> None:
    """Raises GanpipeError, before any work, if the disk has no room for a training and what comes after it."""
    has_shards = version_shards(workspace, version.name, version.version, settings.data).exists()
    shards = 0 if has_shards else version.images * _image_bytes(settings)
    grids = settings.training.total_images // max(1, settings.training.grid_every_images)
    needed = shards + grids * GRID_IMAGES * _image_bytes(settings) + checkpoints_bytes(settings)
    require_room(workspace.state, needed + BESIDE_BYTES)


def checkpoints_bytes(settings: Settings) -> int:
    """The size of all checkpoints of a training: the last ones, the best one, one that is being written, and snapshots."""
    with torch.device("meta"):  # shapes without memory
        G = _count(build_generator(settings.model, _shape(settings)))
        plain = settings.with_values({"model.spectral_norm": False}).model  # its start needs numbers
        partner = _count(build_partner(plain, _shape(settings)))
    snapshots = settings.training.ema_snapshots
    averages = len(KEPT_SIGMA_REL) * G if snapshots else 0
    ema = G
    saved = (KEEP + 2) * (COPIES * (G + partner) + ema + averages)
    return BYTES_PER_WEIGHT * (saved + (snapshots + 1) * averages)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _shape(settings: Settings) -> ImageShape:
    return ImageShape(settings.data.channels or 3, settings.data.height_px, settings.data.width_px)


def _image_bytes(settings: Settings) -> int:
    """Of a decoded uint8 image."""
    shape = _shape(settings)
    return shape.channels * settings.data.height_px * settings.data.width_px
