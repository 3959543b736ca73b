"""SHA-256 of arrays: of their dtype, their shape and their bytes."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

_WORTH_A_THREAD = 1 << 20  # bytes: half a millisecond of hashing, several times what a thread takes to start


def hasher(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """The state of a digest of an array of this dtype and shape, before any of its bytes."""
    return hashlib.sha256(f"{dtype.str} {shape}\n".encode())


def digest(dtype: np.dtype, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> str:
    """Hexadecimal SHA-256 of an array that comes as C-contiguous blocks, one after the other."""
    state = hasher(dtype, shape)
    for block in blocks:
        state.update(bytes_of(block))
    return str(state.hexdigest())


@contextmanager
def absorbing(state: Any, block: np.ndarray) -> Iterator[None]:
    """Take a C-contiguous block into the digest while the body runs, which must not change it: hashing holds no GIL."""
    data = bytes_of(block)
    if len(data) < _WORTH_A_THREAD:
        state.update(data)
        yield
        return
    with ThreadPoolExecutor(1, "digest") as beside:
        try:
            done = beside.submit(state.update, data)
        except RuntimeError:  # no more threads are allowed
            state.update(data)
            done = None
        yield
    if done:
        done.result()


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
