"""The sRGB curve (IEC 61966-2-1) for NumPy arrays and torch tensors. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", npt.NDArray[np.float32], npt.NDArray[np.float64], "Tensor")


def encode_srgb(light: Values) -> Values:
    """Converts linear light in [0, 1] to sRGB values in [0, 1], in the same dtype."""
    x: Any = light
    return _where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def decode_srgb(values: Values) -> Values:
    """Converts sRGB values in [0, 1] to linear light in [0, 1], in the same dtype."""
    x: Any = values
    return _where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return np.where(condition, yes, no) if isinstance(yes, np.ndarray) else yes.where(condition, no)
