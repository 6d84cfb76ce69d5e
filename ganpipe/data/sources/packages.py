"""Named datasets: the drawn flowers, scikit-learn's digits, torchvision's datasets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganpipe.data.sources.items import ArrayItem, FileItem, Item
from ganpipe.errors import GanpipeError, explain_storage_error
from ganpipe.samples.flowers import FLOWERS_VERSION, IMAGES, SEED, flower_png, mode_of


def read_flowers() -> Iterator[Item]:
    """Yields the flowers; each is drawn when it is read, so that known ones are not drawn again."""
    order = sorted(range(IMAGES), key=lambda k: (mode_of(k).label, k))
    for k in order:
        label = mode_of(k).label
        stamp = f"sample:flowers:{FLOWERS_VERSION}:{SEED}:{k}"
        yield FileItem(f"{label}/{k:05d}.png", partial(flower_png, k, SEED), label, None, stamp)


def read_digits() -> ArrayItem:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return ArrayItem("digits", pixels, [str(v) for v in digits.target], None)


def read_torchvision(name: str, scratch: Path) -> Iterator[Item]:
    from torchvision import datasets

    cls = getattr(datasets, name, None)
    if cls is None or not isinstance(cls, type):
        raise GanpipeError(
            f"torchvision has no dataset {name}; FashionMNIST, CIFAR10 and Flowers102 are three of them."
        )
    for train in (True, False):
        dataset = _download(cls, name, scratch, train)
        yield from _torchvision_items(dataset, "train" if train else "test", holdout=not train)


def _download(cls: Any, name: str, scratch: Path, train: bool) -> Any:
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        try:
            return cls(scratch, train=train, download=True)
        except TypeError:
            return cls(scratch, split="train" if train else "test", download=True)
    except Exception as error:  # torchvision's downloaders raise many types; this makes one sentence of each
        if why := explain_storage_error(error):
            raise GanpipeError(why) from None
        reason = " ".join(str(error).split())[:200]
        raise GanpipeError(
            f"torchvision:{name} could not be downloaded ({type(error).__name__}: {reason}); without a network, "
            "give a folder, or sample:flowers."
        ) from None


def _torchvision_items(dataset: Any, split: str, holdout: bool) -> Iterator[Item]:
    pixels, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    if pixels is not None and targets is not None:
        array = np.asarray(pixels)
        array = array[..., None] if array.ndim == 3 else array
        yield ArrayItem(split, array, [str(int(t)) for t in targets], holdout)
        return
    for k in range(len(dataset)):
        image, target = dataset[k][:2]
        yield FileItem(f"{split}/{k:06d}.png", partial(_png_bytes, image), str(target), holdout)


def _png_bytes(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
