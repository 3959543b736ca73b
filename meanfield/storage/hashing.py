"""SHA-256 of arrays: of their dtype, their shape and their bytes."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np


def hasher(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """The state of a digest of an array of this dtype and shape, before any of its bytes."""
    return hashlib.sha256(f"{dtype.str} {shape}\n".encode())


def digest(dtype: np.dtype, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> str:
    """Hexadecimal SHA-256 of an array that comes as C-contiguous blocks, one after the other."""
    state = hasher(dtype, shape)
    for block in blocks:
        state.update(bytes_of(block))
    return str(state.hexdigest())


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
