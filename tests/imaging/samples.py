"""Samples of 8 and 16 bits, as tensors and as files that ffmpeg writes and reads."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

ORIGIN = {"kind": "stylized", "name": "flowers × π", "settings": {"steps": 2}}


def noise(channels: int, height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    """uint16 samples `[H, W, C]` that are different for every seed."""
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def planes(samples: np.ndarray) -> Tensor:
    """Samples `[H, W, C]` of 8 or 16 bits → `[C, H, W]` in [0, 1]."""
    top = np.iinfo(samples.dtype).max
    return torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1) / top


def integers(image: Tensor, bit_depth: int) -> np.ndarray:
    """`[C, H, W]` in [0, 1] → `[H, W, C]` to the nearest."""
    return (image.double() * (2**bit_depth - 1)).round().permute(1, 2, 0).numpy().astype(int)


def saved(data: bytes, folder: Path, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def by_ffmpeg(data: bytes, codec: str) -> np.ndarray:
    """The samples that another decoder than ours sees."""
    context = av.CodecContext.create(codec, "r")
    frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    return frames[0].to_ndarray()


def from_ffmpeg(samples: np.ndarray, codec: str, layout: str, **options: str) -> bytes:
    """A file that another encoder than ours wrote."""
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = samples.shape[:2]
    context.pix_fmt, context.time_base, context.options = layout, Fraction(1), options
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), format=layout)
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode()))
