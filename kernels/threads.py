"""Who computes: our threads, or those of the BLAS, never both at once."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One thread a call for NumPy's and SciPy's BLAS; the limit is the whole process's, so one holder at a time."""
    with _lock, _controller("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas"):
        yield


def on_threads(task: Callable[[int], None], items: range, threads: int | None) -> None:
    """Run task(item) for every item on `threads` threads of our own (None: one for each usable processor)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = usable if threads is None else threads
    if count < 1:
        raise ValueError(f"threads = {threads}: expected at least 1")
    with single_threaded_blas():
        if count == 1 or len(items) == 1:
            for item in items:
                task(item)
            return
        with ThreadPoolExecutor(min(count, len(items))) as pool:
            for _ in pool.map(task, items):
                pass


@functools.cache
def _controller(scipy_loaded: bool) -> Any:
    """Finding the libraries takes milliseconds; what was found is kept until SciPy brings another."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
