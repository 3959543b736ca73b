"""Worker processes for independent pieces of work. One that dies takes along only what it was doing, and leaves no
orphan: workers end when their parent does, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import InputError
from .communicator import ranks_wanted, world
from .threads import single_threaded_blas, usable_cores

# Read when the libraries are loaded, so they must be set before a worker starts.
_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_starting = threading.Lock()


@contextmanager
def other_ranks() -> Iterator[Executor | None]:
    """Under MPI, on rank 0: an executor of the other ranks, one thread of the BLAS each. Without MPI: None.

    The other ranks do here what rank 0 submits, and end (SystemExit) when it leaves the block. InputError: no mpi4py.
    """
    if ranks_wanted() == 1:
        yield None
        return
    world()
    from mpi4py.futures import MPICommExecutor

    with single_threaded_blas(), MPICommExecutor() as executor:
        if executor is not None:
            yield executor  # type: ignore[misc]
    if executor is None:
        sys.exit(0)


class WorkerError(RuntimeError):
    """A piece of work failed in its process, or its process died. `details` is the traceback there, or empty."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def shares(processes: int | None, threads: int, cores: int | None = None) -> tuple[int, int]:
    """(processes, threads each), their product at most the cores; None: as many processes as fit.

    InputError: numbers below 1.
    """
    for name, value in (("processes", processes), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value!r}: must be at least 1")
    cores = cores or len(usable_cores())
    threads = min(threads, cores)
    fitting = cores // threads
    return (fitting if processes is None else min(processes, fitting)), threads


class Pool(Executor):
    """An executor of `processes` worker processes. `threads` is what the engine takes in each; the BLAS takes one.

    Workers are started anew (spawned), when there is work for them, and ignore the signals by which runs are ended: one
    to the whole process group must not make a simulation in a worker end early and be taken for a finished one. What a
    worker raises, and its death, come back as WorkerError.
    """

    def __init__(self, processes: int, threads: int = 1) -> None:
        self._threads = threads
        self._handlers = ThreadPoolExecutor(processes, "pool")  # one waits for each worker
        self._own = threading.local()
        self._workers: list[_Worker] = []
        self._lock, self._closed = threading.Lock(), False

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future:
        return self._handlers.submit(self._call, function, args, keywords)

    def _call(self, function: Callable[..., Any], args: tuple, keywords: dict) -> Any:
        worker = getattr(self._own, "worker", None)
        if worker is None or not worker.process.is_alive():
            with self._lock:
                if self._closed:
                    raise WorkerError("the pool is closed")
                worker = self._own.worker = _Worker(self._threads)
                self._workers.append(worker)
        return worker.call(function, args, keywords)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """cancel_futures: also end what is under way."""
        if not cancel_futures:
            self._handlers.shutdown(wait=wait)
            if not wait:
                return
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.process.kill()
        self._handlers.shutdown(wait=wait, cancel_futures=cancel_futures)


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_serve, args=(far,), daemon=True)
        wanted = {**dict.fromkeys(_BLAS, "1"), "MEANFIELD_NUM_THREADS": str(threads)}
        with _starting:
            before = {name: os.environ.get(name) for name in wanted}
            os.environ.update(wanted)
            try:
                self.process.start()
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value
        far.close()

    def call(self, function: Callable[..., Any], args: tuple, keywords: dict) -> Any:
        try:
            self.pipe.send((function, args, keywords))
            done, result = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(5.0)
            code = self.process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
            raise WorkerError(f"the worker process {how}") from None
        if not done:
            raise WorkerError(*result)
        return result


def _serve(pipe: Connection) -> None:
    """A worker's life: do what comes through the pipe, until it closes or the parent is gone."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv_bytes()
        except (EOFError, ConnectionError):
            return
        try:
            function, args, keywords = pickle.loads(task)
            answer = True, function(*args, **keywords)
        except BaseException as error:  # whatever it is, SystemExit included, the parent hears of it
            answer = _failure(error)
        try:
            pipe.send(answer)
        except ConnectionError:
            return
        except Exception as error:  # what was returned cannot be sent
            pipe.send(_failure(error))


def _failure(error: BaseException) -> tuple[bool, Any]:
    text = " ".join(str(error).split())
    if isinstance(error, InputError):  # says it all
        return False, (text,)
    return False, (f"{type(error).__name__}: {text}" if text else type(error).__name__, traceback.format_exc())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
