"""Threads: how many there may be, those that share out a compiled loop or a range, and the BLAS's, never both at once.

Plain threads and no threading layer of numba's: nothing to abort on concurrent use, or to break after a fork.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError


def usable_cores() -> list[int]:
    """The numbers of the cores this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def default_threads() -> int:
    """Cores this process may use, less what OMP_NUM_THREADS or NUMBA_NUM_THREADS allow; 1 in a worker process.

    joblib sets those variables in its workers, the first MEANFIELD_NUM_THREADS is set in each rank of an MPI job; a
    child of multiprocessing gets one thread, so that a pool of processes never takes more threads than there are cores.
    InputError: a MEANFIELD_NUM_THREADS that is no number of threads; of the others, which are not ours, such are passed
    over.
    """
    cores, own = len(usable_cores()), os.environ.get("MEANFIELD_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise InputError(f"MEANFIELD_NUM_THREADS = {own!r}: must be a whole number, at least 1")
        return int(own)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return min(cores, int(value))
    multiprocessing = sys.modules.get("multiprocessing")
    return 1 if multiprocessing is not None and multiprocessing.parent_process() is not None else cores


class _Holder(NamedTuple):
    """Who holds the limit: a thread, and the libraries that it alone limited, with their numbers of threads before."""

    thread: int
    own: list[tuple[Any, int]]


class _BlasLimit:
    """Holds every BLAS of the process at one thread a call while there is a holder.

    The limit is the process's, so holders are counted: the first to come sets it, and the last to leave puts back what
    was there. A library that has been loaded since then is limited when the next holder comes. OpenBLAS over OpenMP
    has a limit for each calling thread: there each holder sets and puts back its own.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # and not a Lock: a signal's handler may come here while its thread has it
        self._holders: list[_Holder] = []
        self._before: dict[str, tuple[Any, int]] = {}  # library and its number of threads, by path
        self._libraries: list[Any] = []
        self._modules = 0

    def enter(self) -> _Holder:
        """A new holder, for `leave`."""
        with self.lock:
            holder = _Holder(threading.get_ident(), [])
            for library in self._loaded():
                threads = library.num_threads
                if threads in (None, 1):  # None: a library that does not tell
                    continue
                if library.internal_api == "openblas" and library.threading_layer == "openmp":
                    holder.own.append((library, threads))
                else:
                    self._before.setdefault(library.filepath, (library, threads))
                _set_threads(library, 1)
            self._holders.append(holder)
            return holder

    def leave(self, holder: _Holder) -> None:
        with self.lock:
            self._holders = [other for other in self._holders if other is not holder]
            for library, threads in holder.own:
                _set_threads(library, threads)
            if not self._holders:
                for library, threads in self._before.values():
                    _set_threads(library, threads)
                self._before.clear()

    def forked(self) -> None:
        """In the child of a fork only the thread that forked lives on, and holds what it held.

        What other threads had limited is put back when the child's next holder leaves: no BLAS is called in a fork.
        """
        self._holders = [holder for holder in self._holders if holder.thread == threading.get_ident()]
        self.lock.release()

    def _loaded(self) -> list[Any]:
        """The BLAS libraries. Finding them takes milliseconds: done again only where modules were imported since."""
        from threadpoolctl import ThreadpoolController

        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        return self._libraries


def _set_threads(library: Any, threads: int) -> None:
    """From whichever thread: threadpoolctl would do nothing, silently, in any but the one that set a number before."""
    release = getattr(library, "clear_controlling_thread", lambda force: None)
    release(force=True)
    library.set_num_threads(threads)
    release(force=True)


_blas = _BlasLimit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_blas.lock.acquire, after_in_parent=_blas.lock.release, after_in_child=_blas.forked)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One thread a call for NumPy's and SciPy's BLAS, in the whole process: for many small products, or for bits.

    May be nested, and held by several threads at once: what was before is back when the last of them has left.
    """
    holder = _blas.enter()
    try:
        yield
    finally:
        _blas.leave(holder)


def on_threads(task: Callable[[int], None], items: range, threads: int | None = None) -> None:
    """Run task(item) for every item on `threads` threads of our own (None: `default_threads`), the BLAS on one.

    InputError: threads below 1. What a task raises is raised here, when all that had begun have ended.
    """
    count = default_threads() if threads is None else threads
    if count < 1:
        raise InputError(f"threads = {threads}: expected at least 1")

    def limited(item: int) -> None:
        with single_threaded_blas():  # on this thread as well, where the library's limit is a thread's
            task(item)

    with single_threaded_blas():
        if count == 1 or len(items) <= 1:
            for item in items:
                task(item)
            return
        with ThreadPoolExecutor(min(count, len(items))) as pool:
            for _ in pool.map(limited, items):
                pass


class Workers:
    """Runs one compiled function on several threads at once; blocks are shared out by a ticket counter.

    Safe to use from several threads of the caller at once, each with its own instance. A copy, or what is pickled, has
    the same number of threads and starts its own.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self._owner = threads, -1
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type[Workers], tuple[int]]:
        return type(self), (self.threads,)

    def run(self, function: Any, blocks: int, arguments: tuple, limbs_rows: int) -> np.ndarray:
        """Call function(*arguments, ticket, limbs) on every thread; returns the sum of the limbs."""
        workers = max(1, min(self.threads, blocks))
        ticket = np.zeros(1, np.int64)
        limbs = np.zeros((workers, limbs_rows + 1, 3), np.int64)
        helping = [self._executor().submit(function, *(*arguments, ticket, own)) for own in limbs[1:]]
        try:
            function(*arguments, ticket, limbs[0])
        finally:
            for helper in helping:
                helper.result()
        return limbs.sum(axis=0)

    def _executor(self) -> ThreadPoolExecutor:
        """The helping threads, started on first use, and again after a fork."""
        if self._pool is None or self._owner != os.getpid():
            self._pool, self._owner = ThreadPoolExecutor(self.threads - 1, "meanfield"), os.getpid()
        return self._pool
