"""Threads that share out the blocks of a compiled loop.

Plain threads and no threading layer of numba's: nothing to abort on concurrent use, or to break after a fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np


def usable_cores() -> list[int]:
    """The numbers of the cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def default_threads() -> int:
    """Cores this process may use, less what OMP_NUM_THREADS or NUMBA_NUM_THREADS allow; 1 in a worker process.

    joblib sets those variables in its workers, the first MEANFIELD_NUM_THREADS is set in each rank of an MPI job; a
    child of multiprocessing gets one thread, so that a pool of processes never takes more threads than there are cores.
    """
    cores = len(usable_cores())
    for name in ("MEANFIELD_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value) if name == "MEANFIELD_NUM_THREADS" else min(cores, int(value))
    multiprocessing = sys.modules.get("multiprocessing")
    return 1 if multiprocessing is not None and multiprocessing.parent_process() is not None else cores


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One thread a call for NumPy's and SciPy's BLAS, in the whole process: for many small products."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


class Workers:
    """Runs one compiled function on several threads at once; blocks are shared out by a ticket counter.

    Safe to use from several threads of the caller at once, each with its own instance.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self._owner = threads, -1
        self._pool: ThreadPoolExecutor | None = None

    def run(self, function: Any, blocks: int, arguments: tuple, limbs_rows: int) -> np.ndarray:
        """Call function(*arguments, ticket, limbs) on every thread; returns the sum of the limbs."""
        workers = max(1, min(self.threads, blocks))
        ticket = np.zeros(1, np.int64)
        limbs = np.zeros((workers, limbs_rows + 1, 3), np.int64)
        waiting = [self._executor().submit(function, *(*arguments, ticket, one)) for one in limbs[1:]]
        try:
            function(*arguments, ticket, limbs[0])
        finally:
            for one in waiting:
                one.result()
        return limbs.sum(axis=0)

    def _executor(self) -> ThreadPoolExecutor:
        """The helping threads, started on first use, and again after a fork."""
        if self._pool is None or self._owner != os.getpid():
            self._pool, self._owner = ThreadPoolExecutor(self.threads - 1, "meanfield"), os.getpid()
        return self._pool
