"""Many-start ascent of ‖G_a(u)‖ on the unit sphere: where a residual pulls hardest. It only ever finds lower estimates,
but in two dimensions, where all peaks are known (`circle`).

The ascent from one start is `engine/climbing.py`'s.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..engine import noise
from ..engine.climbing import GROUP, Hill, climb_all, distinct_rows
from ..engine.exact_algebra import cholesky, cholesky_solve, product
from ..engine.exact_math import plain, row_norms, row_sums
from ..runtime.threads import Workers
from .budget import Budget
from .circle import highest_on_circle
from .mirror import Mirror

_LEAST, _BATCH = 16, 512  # starts between two looks at the budget, fewer where one takes long
_ROWS = 4096  # examples at most that fitted starts are fitted to
_FEW = {"rounds": 3, "sweeps": 4}  # of an ascent that another follows: with more, all end at the same few peaks
_ON_CIRCLE = 200  # peaks at most, the highest
_FITTED = 1 << 41  # counters from here on are those of fitted starts


class Peaks(NamedTuple):
    """Directions u (s, d) of unit norm and ‖G_a(u)‖ (s,) there, the highest first."""

    u: np.ndarray
    value: np.ndarray


def pull(X: np.ndarray, a: np.ndarray, U: np.ndarray) -> np.ndarray:
    """‖G_a(u)‖ (s,) for the rows u of U (s, d)."""
    return row_norms(product(np.maximum(product(U, X.T), 0.0), a))


def climb(
    X: np.ndarray,
    a: np.ndarray,
    starts: np.ndarray,
    *,
    threads: int = 1,
    budget: Budget | None = None,
    rounds: int = 60,
    sweeps: int = 8,
) -> Peaks:
    """Ascend ‖G_a‖, X (n, d), a (n, C), float64, from the rows of `starts` (s, d), which need not have unit norm.

    Once the budget is over, the starts that remain are only evaluated; a few are climbed from in any case. In two
    dimensions the highest peaks of all are returned, whatever the starts.
    """
    budget = budget or Budget()
    if X.shape[1] == 2 and len(known := highest_on_circle(X, a, _ON_CIRCLE)):
        starts, rounds = known, 0
        budget.spend(1e3 * len(X) * (1 + a.shape[1]))
    hill, length = Hill(plain(X), row_sums(X * X), plain(a)), row_norms(starts)
    U = np.ascontiguousarray(starts[length > 0] / length[length > 0, None])
    values, passes, workers = np.zeros(len(U)), np.zeros(len(U), np.int64), Workers(threads)
    batch = max(_LEAST, min(_BATCH, 20_000_000 // X.size))
    first = 0
    budget.spend(1e6)
    while first < len(U):
        late = first > 0 and budget.over()
        part = slice(first, len(U) if late else min(first + batch, len(U)))
        care = 0 if late else rounds, sweeps
        groups = -(-len(U[part]) // GROUP)
        workers.run(climb_all, groups, (hill, U[part], values[part], passes[part], care), 0)
        budget.spend(0.5 * len(X) * (X.shape[1] + 6) * int(passes[part].sum()))
        first = part.stop
    order = np.argsort(-values, kind="stable")
    return Peaks(U[order], values[order])


def random_starts(X: np.ndarray, count: int, *, seed: int = 0, draw: int = 0) -> np.ndarray:
    """Directions (count, d) to climb from: half uniform, half sums of a few examples with random signs.

    A function of these arguments alone; another `draw` of the same seed is independent.
    """
    (n, d), half = X.shape, count // 2

    def normals(stream: int, rows: int, columns: int) -> np.ndarray:
        return noise.normals(seed, noise.Purpose.SEARCH, 4 * draw + stream, rows, columns, dtype="float64")

    words = noise.raw(seed, noise.Purpose.SEARCH, 4 * draw + 3, half).astype(np.int64)
    chosen, terms = (words[:3] * n) >> 32, 1 + ((words[3] * 3) >> 32)
    unit = X / np.maximum(row_norms(X), 1e-300)[:, None]
    mixed = np.zeros((half, d))
    for t, signs in enumerate(normals(1, half, 3).T):
        mixed = mixed + np.where(t < terms, signs, 0.0)[:, None] * unit[chosen[t]]
    mixed = mixed + (1e-3 / np.sqrt(d)) * row_norms(mixed)[:, None] * normals(2, half, d)
    return np.concatenate([normals(0, count - half, d), mixed])


class FittedStarts:
    """Directions to climb from that no linear map of the inputs X (n, d) can bias: fits of random numbers.

    u = (XᵀX)⁺ Xᵀ g makes u·x_i the best approximation to g_i: half with a normal g, half with a g of one to three
    examples.
    Where the inputs have a large mean or features of unlike scales, a uniform u puts all examples on one side, or
    tells them apart by the largest feature alone; these cut the data in the middle whatever X is. In a subspace that
    only examples beyond the first thousands reach, evenly spread, there are none.

    `climbed` ascends from them a little way in v, u = B v with Bᵀ XᵀX B = 1, in which the inputs X B are of one scale:
    that passes by low peaks in which plain ascent ends.
    """

    def __init__(self, X: np.ndarray, budget: Budget | None = None) -> None:
        self._budget, self._X = budget or Budget(), X
        rows = X[:: -(-len(X) // _ROWS)]
        scale = row_norms(np.ascontiguousarray(rows.T))
        self._scale = np.where(scale > 0, scale, 1.0)
        self._rows = rows / self._scale
        moments = product(self._rows.T, self._rows)
        moments[np.diag_indices(len(moments))] += 1e-12 * len(moments)  # the trace is at most d
        self._factor = cholesky(moments)
        self._budget.spend(0.2 * rows.size * rows.shape[1] + 0.2 * rows.shape[1] ** 3 + 1e5)

    def draw(self, count: int, *, seed: int = 0, draw: int = 0) -> np.ndarray:
        """So many (count, d): a function of X and these arguments alone; none where XᵀX cannot be factorized."""
        if self._factor is None:
            return np.zeros((0, len(self._scale)))
        k, half, stream = len(self._rows), count // 2, _FITTED + 4 * draw
        words = noise.raw(seed, noise.Purpose.SEARCH, stream, half).astype(np.int64)
        chosen, terms = (words[:3] * k) >> 32, 1 + ((words[3] * 3) >> 32)
        signs = noise.normals(seed, noise.Purpose.SEARCH, stream + 1, half, 3, dtype="float64")
        dense = noise.normals(seed, noise.Purpose.SEARCH, stream + 2, count - half, k, dtype="float64")
        mixed = np.zeros((half, len(self._scale)))
        for t in range(3):
            mixed += np.where(t < terms, signs[:, t], 0.0)[:, None] * self._rows[chosen[t]]
        self._budget.spend(count * (5.0 * k + 0.1 * self._rows.size + 2 * len(self._scale) ** 2 + 1e4))
        fits = [cholesky_solve(self._factor, b) for b in np.concatenate([product(dense, self._rows), mixed])]
        return np.array(fits).reshape(count, len(self._scale)) / self._scale

    def climbed(self, starts: np.ndarray, a: np.ndarray, mirror: Mirror, threads: int) -> np.ndarray:
        """Directions (count, d) after a few rounds of ascent in v, of the pull of a (n, C) on a mirror's neurons."""
        if self._factor is None:
            return starts
        V = product(starts * self._scale, self._factor)
        found = climb(mirror.examples(self._inputs), mirror.point(a), V, threads=threads, budget=self._budget, **_FEW)
        return product(found.u, self._root.T) / self._scale

    @cached_property
    def _root(self) -> np.ndarray:
        """B (d, d) of the scaled inputs: L⁻ᵀ of their moments L Lᵀ."""
        L, d = self._factor, len(self._scale)
        assert L is not None
        self._budget.spend(2.0 * d**3)
        return np.array([cholesky_solve(L, column) for column in np.ascontiguousarray(L.T)]).T

    @cached_property
    def _inputs(self) -> np.ndarray:
        """X B (n, d)."""
        self._budget.spend(0.1 * self._X.size * len(self._scale))
        return product(self._X / self._scale, self._root)


def merged(one: Peaks, other: Peaks) -> Peaks:
    """All peaks of two searches, the highest first."""
    values = np.concatenate([one.value, other.value])
    order = np.argsort(-values, kind="stable")
    return Peaks(np.concatenate([one.u, other.u])[order], values[order])


def distinct(peaks: Peaks, limit: int, tolerance: float = 1e-7) -> Peaks:
    """The highest peaks, at most `limit`, no two of which have 1 − u·u' below `tolerance`."""
    kept = np.empty(limit, np.int64)
    kept = kept[: distinct_rows(np.ascontiguousarray(peaks.u), 1 - tolerance, kept)]
    return Peaks(peaks.u[kept], peaks.value[kept])
