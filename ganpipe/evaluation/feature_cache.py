"""Extracts the features of sets of images, and keeps them on disk: a dataset version's are extracted once."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import ChosenExtractor, Extracted, Network, extract
from ganpipe.files import write_bytes
from ganpipe.progress import Report, ignore

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 30  # kept; the sets that were used last


class FeatureExtractor:
    """One extractor at one size. Features of the same pixels are read from `folder`, if one is given.

    The network is loaded at the first set that is not known. A damaged file is extracted again; a folder that cannot be
    written keeps nothing.
    """

    def __init__(
        self, extractor: ChosenExtractor, size_px: int, compute: Compute, folder: Path | None = None
    ) -> None:
        self.extractor, self.size_px, self.compute, self.folder = extractor, size_px, compute, folder
        self._network: Network | None = None

    def __call__(self, pixels: Tensor, stage: str = "features", report: Report = ignore) -> Extracted:
        """Features of uint8 images `[N, H, W, C]`."""
        path = self.folder / f"{self._key(pixels)}.npz" if self.folder else None
        if path and (known := _read(path)):
            return known
        if self._network is None:
            self._network = self.extractor.load(self.compute)
        found = extract(self._network, pixels, self.size_px, self.compute, stage, report)
        if path:
            _keep(path, found)
        return found

    def _key(self, pixels: Tensor) -> str:
        """By whatever changes a feature: pixels, network, size, and what the arithmetic is done with."""
        network = f"{self.extractor.name} {self.extractor.sha256} {self.extractor.row.layer}"
        how = f"{self.size_px} {self.compute.device.type} {self.compute.precision} {tuple(pixels.shape)}"
        found = hashlib.sha256(f"{network} {how}".encode())
        found.update(pixels.contiguous().numpy().data)
        return found.hexdigest()


def _read(path: Path) -> Extracted | None:
    """Features that were kept; zip files carry check sums, so that a damaged one is noticed."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as arrays:
            found = Extracted(arrays["deep"].astype(np.float64), arrays["wide"].astype(np.float64))
        os.utime(path)
        return found
    return None


def _keep(path: Path, found: Extracted) -> None:
    """Writes features as float32, which the networks compute in, and removes the sets not used for longest."""
    buffer = io.BytesIO()
    np.savez(buffer, deep=found.deep.astype(np.float32), wide=found.wide.astype(np.float32))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
        _remove_oldest(path.parent)
    except (OSError, GanpipeError) as error:
        log.debug("Features are not kept: %s", error)


def _remove_oldest(folder: Path) -> None:
    files = sorted(((p.stat().st_mtime_ns, p.stat().st_size, p) for p in folder.glob("*.npz")), reverse=True)
    kept = 0
    for _, size, path in files:
        kept += size
        if kept > MOST_BYTES:
            path.unlink(missing_ok=True)
