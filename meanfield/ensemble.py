"""Ensemble: the particles that stand for a measure over neurons, and all that their next step needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .engine import engine
from .errors import InputError
from .runtime.communicator import ALONE, Alone, Span, ask, requests


class Ensemble:
    """m particles θ_j = (u_j, w_j): the measure ρ = (1/m) Σ δ_θj and the network f = (1/m) Σ_j w_j relu(u_j·x).

    Attributes: `theta` (groups, d + C, GROUP), the particles as the compiled loops hold them; `m`, `d`, `outputs` (C);
    `seed`, `step` (integers: with noise by address they are the whole random state); `time`; `memory`, the numbers an
    automatic step size remembers. What is not here is not needed to go on.

    Where the ranks of an MPI job share the particles, each has its own in theta, as `span` tells; all ranks must then
    call what concerns all particles, and `rows` and what builds on it need `gathered`.
    """

    def __init__(
        self,
        theta: np.ndarray,
        span: Span | int,
        outputs: int,
        *,
        seed: int = 0,
        step: int = 0,
        time: float = 0.0,
        memory: dict[str, float] | None = None,
    ) -> None:
        self.theta, self.span, self.outputs = theta, span if isinstance(span, Span) else engine.share(span), outputs
        self.seed, self.step, self.time, self.memory = seed, step, time, dict(memory or {})

    @classmethod
    def sphere(
        cls,
        m: int,
        d: int,
        outputs: int = 1,
        *,
        scale: float = 1.0,
        seed: int = 0,
        dtype: Any = "float32",
        ranks: Alone = ALONE,
    ) -> Ensemble:
        """Uniform on the unit sphere of R^{d+C}, times `scale`: the paper's initial law. InputError: sizes, dtype."""
        return cls._drawn(m, d, outputs, "sphere", scale, seed, dtype, ranks)

    @classmethod
    def gaussian(
        cls,
        m: int,
        d: int,
        outputs: int = 1,
        *,
        scale: float = 1.0,
        seed: int = 0,
        dtype: Any = "float32",
        ranks: Alone = ALONE,
    ) -> Ensemble:
        """Each component N(0, scale²). InputError: sizes, dtype."""
        return cls._drawn(m, d, outputs, "gaussian", scale, seed, dtype, ranks)

    @classmethod
    def _drawn(
        cls, m: int, d: int, outputs: int, law: str, scale: float, seed: int, dtype: Any, ranks: Alone
    ) -> Ensemble:
        _check(m, d, outputs, seed, dtype)
        if not 1e-15 <= scale <= 1e15:  # its square is computed in the dtype of the particles
            raise InputError(f"scale = {scale!r}: must be from 1e-15 to 1e15")
        span = engine.share(m, ranks)
        return cls(engine.draw(span, d, outputs, law, scale, seed, dtype), span, outputs, seed=seed)

    @classmethod
    def from_arrays(cls, w: Any, u: Any, *, seed: int = 0, dtype: Any = None, **state: Any) -> Ensemble:
        """Particles w (m,) or (m, C) and u (m, d), copied. InputError: shapes that do not fit, numbers not finite.

        dtype: that of u if it is float32 or float64, unless given.
        """
        u, w = np.asarray(u), np.asarray(w)
        if w.ndim == 1:
            w = w[:, None]
        if u.ndim != 2 or w.ndim != 2 or len(u) != len(w):
            raise InputError(f"particles w {w.shape} and u {u.shape}: must have shapes (m, C) and (m, d)")
        kind = dtype if dtype is not None else u.dtype if u.dtype in (np.float32, np.float64) else np.float64
        _check(len(u), u.shape[1], w.shape[1], seed, kind)
        with np.errstate(over="ignore"):
            w, u = w.astype(kind, copy=False), u.astype(kind, copy=False)
        ensemble = cls.empty(len(u), u.shape[1], w.shape[1], kind, seed=seed, **state)
        ensemble.fill(0, w, u)
        for name, array in (("w", w), ("u", u)):
            if not np.isfinite(array).all():
                row, column = np.argwhere(~np.isfinite(array))[0]
                value = f"{name}[{row}, {column}] = {array[row, column]}"
                raise InputError(f"particles {value}: must be finite in {array.dtype}")
        return ensemble

    @classmethod
    def empty(cls, m: int, d: int, outputs: int, dtype: Any, *, ranks: Alone = ALONE, **state: Any) -> Ensemble:
        """All particles zero, to be filled by `fill`."""
        group, span = engine.group_size(dtype), engine.share(m, ranks)
        return cls(np.zeros((-(-span.count // group), d + outputs, group), dtype), span, outputs, **state)

    def fill(self, first: int, w: np.ndarray, u: np.ndarray) -> None:
        """Set the particles from `first` on, as far as they are this rank's.

        `first` must be a multiple of 64, and the count too, except at the end.
        """
        group, count = self.theta.shape[2], len(u)
        rows = np.zeros((-(-count // group) * group, self.d + self.outputs), self.dtype)
        rows[:count, : self.d], rows[:count, self.d :] = u, w
        groups = rows.reshape(-1, group, rows.shape[1]).swapaxes(1, 2)
        g0 = (first - self.span.first) // group  # negative where another rank's particles come first
        theta = self.theta[max(0, g0) : max(0, g0 + len(groups))]
        theta[:] = groups[max(0, -g0) : max(0, -g0) + len(theta)]

    @property
    def m(self) -> int:
        return self.span.total

    @property
    def d(self) -> int:
        return self.theta.shape[1] - self.outputs

    @property
    def dtype(self) -> np.dtype:
        return self.theta.dtype

    @property
    def u(self) -> np.ndarray:
        """Input weights (m, d), a copy."""
        return self.rows(0, self.m)[1]

    @property
    def w(self) -> np.ndarray:
        """Output weights (m, C), a copy."""
        return self.rows(0, self.m)[0]

    @contextmanager
    def gathered(self) -> Iterator[bool]:
        """Particles of all ranks within reach: True on rank 0, where the others then answer what `rows` asks for.

        False on the others, once that is over. For a single process always True.
        """

        def answer(g0: int, g1: int) -> np.ndarray:
            mine = self.span.first // self.theta.shape[2]
            return self.theta[g0 - mine : g1 - mine]

        with requests(self.span.ranks, answer) as leads:
            yield leads

    def groups(self, g0: int, g1: int) -> np.ndarray:
        """Groups g0 … g1 − 1 of the whole ensemble, (g1 − g0, d + C, GROUP); those of other ranks on rank 0 only."""
        span, ranks, group, parts = self.span, self.span.ranks, self.theta.shape[2], []
        for rank in range(ranks.size):
            start, stop = (-(-Span.cut(span.total, engine.BLOCK, ranks, one) // group) for one in (rank, rank + 1))
            low, high = max(g0, start), min(g1, stop)
            if low < high and rank == ranks.rank:
                parts.append(self.theta[low - span.first // group : high - span.first // group])
            elif low < high:
                parts.append(ask(ranks, rank, low, high, (high - low, *self.theta.shape[1:]), self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def rows(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """(w, u) of the particles first … last − 1, copied, C-contiguous."""
        group = self.theta.shape[2]
        g0, g1 = first // group, -(-last // group)
        groups = self.groups(g0, g1)
        both = groups.swapaxes(1, 2).reshape(-1, groups.shape[1])[first - g0 * group : last - g0 * group]
        return np.ascontiguousarray(both[:, self.d :]), np.ascontiguousarray(both[:, : self.d])

    def blocks(self, size: int = 1 << 18) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(w, u) of `size` particles after the other: for what must not hold the ensemble twice."""
        for first in range(0, self.m, size):
            yield self.rows(first, min(first + size, self.m))

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(w, u), float64, of about `count` particles (all if there are no more), evenly spread over the ensemble."""
        group = self.theta.shape[2]
        groups = -(-self.m // group)
        wanted = min(groups, max(1, count // group))
        chosen = np.arange(wanted) * groups // wanted
        found: tuple[np.ndarray, np.ndarray] | None = None
        with self.gathered() as leads:
            if leads:
                parts = [self.rows(g * group, min((g + 1) * group, self.m)) for g in chosen]
                w, u = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
                found = w, u
        return self.span.ranks.broadcast(found)  # type: ignore[return-value]

    def head(self, count: int) -> tuple[np.ndarray, int]:
        """theta (groups, d + C, GROUP) of the first `count` particles, on every rank, and how many they are."""
        count = min(count, self.m)
        with self.gathered() as leads:
            theta = self.groups(0, -(-count // self.theta.shape[2])) if leads else self.theta[:0]
        return self.span.ranks.broadcast(theta), count

    def copy(self) -> Ensemble:
        return Ensemble(
            self.theta.copy(),
            self.span,
            self.outputs,
            seed=self.seed,
            step=self.step,
            time=self.time,
            memory=self.memory,
        )

    def predict(self, X: Any, *, threads: int | None = None) -> np.ndarray:
        """The network at X (n, d): (n,) for one output, else (n, C), float64. InputError: another d."""
        X = np.asarray(X, dtype=np.float64)
        if X.ndim != 2 or X.shape[1] != self.d:
            raise InputError(f"X {X.shape}: must have shape (n, {self.d})")
        f = np.empty((len(X), self.outputs))
        for start in range(0, len(X), 4096):  # bounds the memory of sums over rows
            rows = X[start : start + 4096]
            f[start : start + 4096] = (
                engine.Sweep(rows, self.outputs, self.dtype, threads).predict(self.theta, self.span, keep=False).f
            )
        return f[:, 0] if self.outputs == 1 else f

    def __repr__(self) -> str:
        return f"Ensemble(m={self.m}, d={self.d}, outputs={self.outputs}, dtype={self.dtype}, step={self.step})"


def _check(m: int, d: int, outputs: int, seed: int, dtype: Any) -> None:
    for name, value in (("m", m), ("d", d), ("outputs", outputs)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value < 2**48:
            raise InputError(f"{name} = {value!r}: must be a whole number, at least 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"seed = {seed!r}: must be a whole number from 0 to 2^64 − 1")
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise InputError(f"dtype = {dtype!r}: must be float32 or float64")
