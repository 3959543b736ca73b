"""Layers: u and w of many particles, as the loops hold them, shared out to ranks, and handed out by number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .engine.engine import BLOCK, Particles
from .runtime.communicator import Span, ask, requests


class Layers:
    """Both layers of m particles, u (m, d) and w (m, C); of a rank, those that are its own.

    All ranks must call what concerns all particles, and `rows` and what builds on it need `gathered`.

    Parameters
    ----------
    theta : ndarray (groups, d + C, GROUP), float32 or float64
        As the compiled loops hold them, zero beyond the last one. Taken over, not copied.
    span : Span or int
        How many particles there are, or which of how many are this process's.
    outputs : int
        C.

    Attributes
    ----------
    particles : meanfield.engine.engine.Particles
        What engines take; theta and span are its.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.layers import Layers
    >>> layers = Layers(np.zeros((1, 3, 64), "float32"), 10, outputs=1)
    >>> layers.w.shape, layers.u.shape
    ((10, 1), (10, 2))
    """

    def __init__(self, theta: np.ndarray, span: Span | int, outputs: int) -> None:
        self.particles, self.outputs = Particles(theta, span), outputs
        self.asked_from = 0  # by which number ranks are asked for the first group

    def fill(self, first: int, w: np.ndarray, u: np.ndarray) -> None:
        """Set the particles from `first` on, as far as they are this rank's: the way to change an ensemble.

        A run that is under way goes on from what a callback has set.

        Parameters
        ----------
        first : int
            Number of the first particle to set, a multiple of 64.
        w : array (count, C)
            Output weights.
        u : array (count, d)
            Input weights; count must be a multiple of 64 too, except at the end.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> ensemble = Ensemble.sphere(64, 3)
        >>> ensemble.fill(0, 2 * ensemble.w, 2 * ensemble.u)
        """
        group, count = self.theta.shape[2], len(u)
        rows = np.zeros((-(-count // group) * group, self.d + self.outputs), self.dtype)
        rows[:count, : self.d], rows[:count, self.d :] = u, w
        groups = rows.reshape(-1, group, rows.shape[1]).swapaxes(1, 2)
        g0 = (first - self.span.first) // group  # negative where another rank's particles come first
        with self.particles.writing() as theta:
            part = theta[max(0, g0) : max(0, g0 + len(groups))]
            part[:] = groups[max(0, -g0) : max(0, -g0) + len(part)]

    @property
    def theta(self) -> np.ndarray:
        """The particles (groups, d + C, GROUP) as the compiled loops hold them: u first, then w; read-only.

        A view: it shows what later steps do to the particles. They are set by `fill`.
        """
        return self.particles.theta

    @property
    def span(self) -> Span:
        """Which of the particles are this process's: all, but for the ranks of an MPI job."""
        return self.particles.span

    @property
    def m(self) -> int:
        """Number of particles."""
        return self.span.total

    @property
    def d(self) -> int:
        """Number of inputs."""
        return self.theta.shape[1] - self.outputs

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.theta.dtype

    @property
    def u(self) -> np.ndarray:
        """Input weights (m, d): a read-only copy. To set particles use `fill`, or make others by `from_arrays`."""
        return _read_only(self.rows(0, self.m)[1])

    @property
    def w(self) -> np.ndarray:
        """Output weights (m, C): a read-only copy. To set particles use `fill`, or make others by `from_arrays`."""
        return _read_only(self.rows(0, self.m)[0])

    @contextmanager
    def gathered(self) -> Iterator[bool]:
        """Particles of all ranks within reach: True on rank 0, where the others then answer what `rows` asks for.

        False on the others, once that is over. For a single process always True.
        """
        with requests(self.span.ranks, self._own) as leads:
            yield leads

    def _own(self, g0: int, g1: int) -> np.ndarray:
        """Groups g0 … g1 − 1 of the whole, which are this rank's, and which it is asked for by these numbers."""
        mine = self.asked_from + self.span.first // self.theta.shape[2]
        return self.theta[g0 - mine : g1 - mine]

    def groups(self, g0: int, g1: int) -> np.ndarray:
        """Groups g0 … g1 − 1 of the whole ensemble, (g1 − g0, d + C, GROUP); those of other ranks on rank 0 only."""
        span, ranks, group, parts = self.span, self.span.ranks, self.theta.shape[2], []
        for rank in range(ranks.size):
            start, stop = (-(-Span.cut(span.total, BLOCK, ranks, number) // group) for number in (rank, rank + 1))
            low, high = max(g0, start), min(g1, stop)
            asked = low + self.asked_from, high + self.asked_from
            if low < high and rank == ranks.rank:
                parts.append(self._own(*asked))
            elif low < high:
                parts.append(ask(ranks, rank, *asked, (high - low, *self.theta.shape[1:]), self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def rows(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Some of the particles, copied.

        Parameters
        ----------
        first, last : int
            Of the particles first … last − 1.

        Returns
        -------
        (ndarray (last − first, C), ndarray (last − first, d))
            w and u, C-contiguous, of the ensemble's dtype.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> w, u = Ensemble.sphere(64, 3).rows(10, 12)
        >>> w.shape, u.shape
        ((2, 1), (2, 3))
        """
        group = self.theta.shape[2]
        g0, g1 = first // group, -(-last // group)
        groups = self.groups(g0, g1)
        both = groups.swapaxes(1, 2).reshape(-1, groups.shape[1])[first - g0 * group : last - g0 * group]
        return np.array(both[:, self.d :], order="C"), np.array(both[:, : self.d], order="C")

    def blocks(self, size: int = 1 << 18) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(w, u) of `size` particles after the other: for what must not hold the ensemble twice.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> [len(u) for w, u in Ensemble.sphere(100, 3).blocks(64)]
        [64, 36]
        """
        for first in range(0, self.m, size):
            yield self.rows(first, min(first + size, self.m))

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of about `count` particles (all if there are no more), evenly spread: w (k, C) and u (k, d), float64.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> w, u = Ensemble.sphere(640, 3).sample(128)
        >>> u.shape, u.dtype
        ((128, 3), dtype('float64'))
        """
        group = self.theta.shape[2]
        groups = -(-self.m // group)
        wanted = min(groups, max(1, count // group))
        chosen = np.arange(wanted) * groups // wanted
        sampled: tuple[np.ndarray, np.ndarray] | None = None
        with self.gathered() as leads:
            if leads:
                parts = [self.rows(g * group, min((g + 1) * group, self.m)) for g in chosen]
                w, u = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
                sampled = w, u
        return self.span.ranks.broadcast(sampled)  # type: ignore[return-value]

    def head(self, count: int) -> Particles:
        """The first `count` particles, a multiple of 64 (or all there are), copied, on every rank."""
        count = min(count, self.m)
        with self.gathered() as leads:
            theta = self.groups(0, -(-count // self.theta.shape[2])) if leads else self.theta[:0]
        return Particles(np.array(self.span.ranks.broadcast(theta)), count)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
