"""Inputs in a file in the narrowest of uint8, float32 and float64 that keeps each bit of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))
_INPUTS = ("X", "X_test")
_VALUES = 1 << 20  # looked at together


def narrowed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a data set by their names, its inputs narrowed."""
    return {name: _narrow(values) if name in _INPUTS else values for name, values in data.items()}


def _narrow(values: np.ndarray) -> np.ndarray:
    return next(values.astype(dtype, copy=False) for dtype in DTYPES if _keeps(values, dtype))


def _keeps(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether values are the same bits as float64 when they were of this dtype in between."""
    if values.dtype == dtype:
        return True
    flat = values.reshape(-1)
    blocks = (flat[start : start + _VALUES].astype(np.float64) for start in range(0, len(flat), _VALUES))
    with np.errstate(invalid="ignore", over="ignore"):
        return all(np.array_equal(one.astype(dtype).astype(np.float64).view("i8"), one.view("i8")) for one in blocks)
