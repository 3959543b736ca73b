"""Processes that share an ensemble: one, or the ranks of an MPI job, behind one small interface.

Each rank holds a slice of the particles, cut where blocks are. What the ranks tell each other in a step is the sum of
their fixed-point numbers, which no order can change; the rest (configuration, data, the run file) goes through rank 0.
mpi4py is imported only where a job of several ranks is under way.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np  # later, since every command begins here

Value = TypeVar("Value")
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # set by Open MPI, MPICH and Intel MPI


class Alone:
    """The only process there is: every question has its own answer."""

    rank, size = 0, 1

    def __reduce__(self) -> Any:
        return "ALONE"  # a copy, or what is pickled, is the same object

    @property
    def leads(self) -> bool:
        """Whether this is the rank that reads, writes and speaks."""
        return self.rank == 0

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over ranks of an int64 array."""
        return numbers

    def largest(self, number: int) -> int:
        return number

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        return value

    def once(self, function: Callable[[], Value]) -> Value:
        """What `function` returns or raises on rank 0, the only one to call it, on every rank."""
        return function()

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, in their order, on every rank."""
        return [value]

    def send(self, array: np.ndarray, to: int) -> None:
        raise NotImplementedError("there is nobody to send to")

    def receive(self, shape: tuple[int, ...], dtype: Any, source: int) -> np.ndarray:
        raise NotImplementedError("there is nobody to receive from")

    def abort(self, status: int) -> None:
        """End the other ranks too: after a failure that they do not know of."""


ALONE = Alone()


class Ranks(Alone):
    """The ranks of an MPI job."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        os.environ.setdefault("MEANFIELD_NUM_THREADS", str(self._fair_threads()))

    def __reduce__(self) -> Any:
        return world, ()  # the ranks of wherever it arrives

    def _fair_threads(self) -> int:
        """The cores this rank may use, each divided by the ranks on this machine that may use it too."""
        from .threads import usable_cores

        cores = set(usable_cores())
        here = [theirs for host, theirs in self._world.allgather((platform.node(), cores)) if host == platform.node()]
        return max(1, round(sum(1 / sum(core in theirs for theirs in here) for core in cores)))

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        total = numbers.copy(order="C")
        self._world.Allreduce(self._mpi.IN_PLACE, total, self._mpi.SUM)
        return total

    def largest(self, number: int) -> int:
        return self._world.allreduce(number, self._mpi.MAX)

    def broadcast(self, value: Value) -> Value:
        return self._world.bcast(value)

    def once(self, function: Callable[[], Value]) -> Value:
        value, failure = None, None
        if self.leads:
            try:
                value = function()
            except Exception as error:
                failure = error
        value, failure = self._world.bcast((value, failure))
        if failure is not None:
            failure.shared = True  # every rank knows of it
            raise failure
        return value  # type: ignore[return-value]

    def gather(self, value: Value) -> list[Value]:
        return self._world.allgather(value)

    def send(self, array: np.ndarray, to: int) -> None:
        self._world.Send(array.copy(order="C"), to)

    def receive(self, shape: tuple[int, ...], dtype: Any, source: int) -> np.ndarray:
        import numpy as np

        array = np.empty(shape, dtype)
        self._world.Recv(array, source)
        return array

    def abort(self, status: int) -> None:
        self._world.Abort(status)


def ranks_wanted() -> int:
    """How many ranks the job has that this process was started in, by the variables that MPI launchers set; else 1."""
    return max([1, *(int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit())])


def is_shared(error: BaseException) -> bool:
    """Whether every rank has this error: it came out of `once`."""
    return getattr(error, "shared", False)


@cache
def world() -> Alone:
    """All ranks of the job under way, or this process alone. InputError: a job of several ranks without mpi4py."""
    if ranks_wanted() == 1:
        return ALONE
    try:
        return Ranks()
    except ImportError as error:
        raise InputError(
            f"started as one of {ranks_wanted()} MPI ranks, but mpi4py cannot be used ({error}); "
            "install mpi4py, or start without mpirun"
        ) from None


@dataclass(frozen=True)
class Span:
    """The particles of one rank: `count` of the `total`, from particle `first` (a multiple of the block) on."""

    first: int
    count: int
    total: int
    ranks: Alone = ALONE

    @classmethod
    def of(cls, total: int, block: int, ranks: Alone = ALONE) -> Span:
        """This rank's share of the blocks, as even as whole blocks can be."""
        first, last = (cls.cut(total, block, ranks, rank) for rank in (ranks.rank, ranks.rank + 1))
        return cls(first, last - first, total, ranks)

    @staticmethod
    def cut(total: int, block: int, ranks: Alone, rank: int) -> int:
        """The first particle of a rank."""
        return min(total, -(-total // block) * rank // ranks.size * block)


@contextmanager
def requests(ranks: Alone, answer: Callable[[int, int], np.ndarray]) -> Iterator[bool]:
    """Rank 0 asks, the others answer: yields True on rank 0, where `ask` may be used inside, False on the others.

    There it returns only when rank 0 has left the block; until then each request (first, last) is answered.
    """
    import numpy as np

    if ranks.size == 1:
        yield True
    elif ranks.leads:
        try:
            yield True
        finally:
            for rank in range(1, ranks.size):
                ranks.send(np.array([-1, -1]), rank)
    else:
        while (asked := ranks.receive((2,), np.int64, 0))[0] >= 0:
            ranks.send(answer(int(asked[0]), int(asked[1])), 0)
        yield False


def ask(ranks: Alone, rank: int, first: int, last: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """On rank 0, within `requests`: the answer of another rank."""
    import numpy as np

    ranks.send(np.array([first, last]), rank)
    return ranks.receive(shape, dtype, rank)
