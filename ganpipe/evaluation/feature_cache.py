"""Extracts the features of images, and keeps them on disk by image: each is extracted once."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganpipe.compute.device import Compute
from ganpipe.errors import GanpipeError
from ganpipe.evaluation.extractors import ChosenExtractor, Extracted, Network, extract
from ganpipe.files import write_bytes
from ganpipe.progress import Report, ignore

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 30  # kept in a folder; the files that were used last
KEY_BYTES = 32
Row = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # deep and wide features of an image


class FeatureExtractor:
    """One extractor at one size. Features of images that were seen before are read from `folder`, if one is given.

    The network is loaded at the first image that is not known. A damaged file is extracted again; a folder that cannot be
    written keeps nothing.
    """

    def __init__(
        self, extractor: ChosenExtractor, size_px: int, compute: Compute, folder: Path | None = None
    ) -> None:
        self.extractor, self.size_px, self.compute, self.folder = extractor, size_px, compute, folder
        self._network: Network | None = None

    def __call__(
        self, pixels: Tensor, stage: str = "features", report: Report = ignore, folder: Path | None = None
    ) -> Extracted:
        """Features of uint8 images `[N, H, W, C]`; those of a dataset are kept in its own `folder`."""
        folder = folder or self.folder
        if folder is None or len(pixels) == 0:
            return self._extract(pixels, stage, report)
        files = FeatureFiles(folder, self._conditions(pixels))
        keys = [hashlib.sha256(image.contiguous().numpy().data).digest() for image in pixels]
        known = files.read(keys)
        missing = {key: k for k, key in enumerate(keys) if key not in known}
        if missing:
            found = self._extract(pixels[torch.tensor(list(missing.values()))], stage, report)
            known |= files.keep(list(missing), found)
        deep, wide = (np.stack([known[key][part] for key in keys]).astype(np.float64) for part in (0, 1))
        return Extracted(deep, wide)

    def _extract(self, pixels: Tensor, stage: str, report: Report) -> Extracted:
        if self._network is None:
            self._network = self.extractor.load(self.compute)
        return extract(self._network, pixels, self.size_px, self.compute, stage, report)

    def _conditions(self, pixels: Tensor) -> str:
        """Whatever changes a feature besides the pixels: network, size, and what the arithmetic is done with."""
        network = f"{self.extractor.name} {self.extractor.sha256} {self.extractor.row.layer}"
        shape = tuple(pixels.shape[1:])
        return f"{network} {self.size_px} {self.compute.device.type} {self.compute.precision} {shape}"


class FeatureFiles:
    """Features by image that were extracted under the same conditions; a file for each time that some were missing."""

    def __init__(self, folder: Path, conditions: str) -> None:
        self.folder = folder
        self.prefix = hashlib.sha256(conditions.encode()).hexdigest()[:16]

    def read(self, keys: Collection[bytes]) -> dict[bytes, Row]:
        """The rows of those images that are known."""
        missing, found = set(keys), dict[bytes, Row]()
        for path in _latest_first(self.folder, f"{self.prefix}-*.npz"):
            if not missing:
                break
            rows = _read(path, missing)
            found |= rows
            missing -= rows.keys()
        return found

    def keep(self, keys: Sequence[bytes], found: Extracted) -> dict[bytes, Row]:
        """Writes features as float32, which the networks compute in, and removes the files not used for longest."""
        deep, wide = found.deep.astype(np.float32), found.wide.astype(np.float32)
        buffer = io.BytesIO()
        names = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
        np.savez(buffer, keys=names, deep=deep, wide=wide)
        path = self.folder / f"{self.prefix}-{hashlib.sha256(names.tobytes()).hexdigest()[:16]}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, buffer.getvalue())
            _remove_oldest(self.folder)
        except (OSError, GanpipeError) as error:
            log.debug("Features are not kept: %s", error)
        return dict(zip(keys, zip(deep, wide, strict=True), strict=True))


def _latest_first(folder: Path, pattern: str) -> list[Path]:
    times = []
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process has just removed it
            times.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(times, reverse=True)]


def _read(path: Path, wanted: Collection[bytes]) -> dict[bytes, Row]:
    """The wanted rows of a file; zip files carry check sums, so that a damaged one is noticed."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as arrays:
            places = {row.tobytes(): k for k, row in enumerate(arrays["keys"])}
            if places.keys().isdisjoint(wanted):
                return {}
            deep, wide = arrays["deep"], arrays["wide"]
        rows = {key: (deep[k], wide[k]) for key, k in places.items() if key in wanted}
        os.utime(path)
        return rows
    return {}


def _remove_oldest(folder: Path) -> None:
    kept = 0
    for path in _latest_first(folder, "*.npz"):
        with suppress(OSError):
            kept += path.stat().st_size
            if kept > MOST_BYTES:
                path.unlink(missing_ok=True)
