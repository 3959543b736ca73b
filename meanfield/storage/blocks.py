"""An array on its way into a file: its blocks are hashed, written and flushed while the next ones are made."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from .hashing import bytes_of

_WORTH_THREADS = 1 << 22  # bytes: some milliseconds of hashing, many times what it takes to start threads
_AHEAD = 4  # blocks made, but not yet both hashed and written
_FLUSHED_BYTES = 1 << 26  # as many at a time: the disk is at work from the beginning, and a flush is worth its while
_flush = getattr(os, "fdatasync", os.fsync)


def pour(blocks: Iterable[np.ndarray], nbytes: int, descriptor: int, offset: int, state: Any) -> None:
    """Write C-contiguous blocks one after the other from `offset` on, and take them into the digest `state`.

    nbytes: about how much it will be; a small array is not worth threads. Nobody may change a block that was handed
    over. What `blocks` raises is passed on, and so is the OSError of a write or a flush, both after all work has ended.
    Flushing here saves time later, and is no promise: whoever needs the data on the disk flushes the whole file.
    """
    with ExitStack() as stack:
        threads = nbytes >= _WORTH_THREADS
        hashing, writing, flushing = (stack.enter_context(_Lane(threads)) for _ in range(3))
        waiting: deque[tuple[Future, Future]] = deque()
        flushes: list[Future] = []
        unflushed = 0
        for block in blocks:
            waiting.append((hashing.do(state.update, bytes_of(block)), writing.do(_write, block, descriptor, offset)))
            offset, unflushed = offset + block.nbytes, unflushed + block.nbytes
            while len(waiting) > (_AHEAD if threads else 0):
                _wait(waiting.popleft())
            if threads and unflushed >= _FLUSHED_BYTES:
                flushes.append(flushing.do(_flush, descriptor))
                unflushed = 0
        for pair in waiting:
            _wait(pair)
        _wait(flushes)


class _Lane:
    """Does what it is given in turn, in a thread of its own if it is to, and if one more thread is allowed."""

    def __init__(self, threaded: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "pouring") if threaded else None

    def __enter__(self) -> "_Lane":
        try:
            if self._pool:
                self._pool.submit(int)
        except RuntimeError:  # no: what is submitted later must not wait in its queue
            self._pool = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def do(self, action: Callable[..., Any], *arguments: Any) -> Future:
        if self._pool:
            return self._pool.submit(action, *arguments)
        done: Future = Future()
        done.set_result(action(*arguments))
        return done


def _wait(futures: Iterable[Future]) -> None:
    for future in futures:
        future.result()


def _write(array: np.ndarray, descriptor: int, offset: int) -> None:
    rest = bytes_of(array)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count
