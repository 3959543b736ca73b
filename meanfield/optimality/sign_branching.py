"""Upper bounds on max ‖G_a(u)‖ over the unit sphere by branching on the signs of u·x_i: in any dimension, at any time.

The whole sphere is relaxed first (`doubly_nonnegative`), each sign of G apart for C = 1. The cell of highest bound is
cut in two along the row whose sign its relaxation leaves most in doubt, weighed by what it weighs in G, until no bound
exceeds the level asked for. The highest bound of all is a proven one whenever the search ends, and the matrices M of
the cells left at the end are its proof: with them it can be checked without searching.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..runtime.threads import single_threaded_blas
from .budget import Budget
from .doubly_nonnegative import Cell, Relaxed, relax, step_work
from .rows import Rows, effective_rows, nothing_left
from .sphere_bound import Leaf, SphereBound

Watch = Callable[[float, int], None]

_BATCH = 8  # cells cut in one go, whatever the number of threads: the answer shall not depend on it
_STEPS, _LEAST = 500, 100  # of a relaxation
_BYTES = 4e9  # of matrices that are kept
_EPS = float(np.finfo(float).eps)


def bound_by_signs(
    X: np.ndarray,
    a: np.ndarray,
    *,
    start: np.ndarray | None = None,
    level: float = 0.0,
    tolerance: float = 1e-6,
    budget: Budget | None = None,
    threads: int = 1,
    keep: bool = False,
    watch: Watch | None = None,
) -> SphereBound | None:
    """Bounds on max ‖G_a(u)‖ over unit u for X (n, d), a (n, C); None where the budget is too small to begin.

    `start` (d,) is a direction known to pull hard. Cells are cut until no bound exceeds max(level, (1 + tolerance) ×
    the highest ‖G_a‖ seen), or the budget is over. `watch` gets the bound and how many cells are open, now and then.
    """
    rows, budget = effective_rows(X, a), budget or Budget()
    if not len(rows.X):
        return nothing_left(rows, np.shape(X)[1])
    if budget.part(1.0).work < _LEAST * _roots_work(rows):
        return None
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        search = _Search(rows, rows.within(start), level, tolerance, budget, keep)
        search.run(pool, watch)
    return search.result()


def roots(rows: Rows) -> list[Cell]:
    """The whole sphere: for C = 1 once for either sign of G."""
    signs = np.zeros(len(rows.X), np.int8)
    return [Cell.of(rows, side, signs) for side in ((1, -1) if rows.up.shape[1] == 1 else (0,))]


def _roots_work(rows: Rows) -> float:
    """Of one step of them all."""
    (n, k), C = rows.X.shape, rows.up.shape[1]
    return (1 + (C == 1)) * step_work(2 * n + 1, n + k)


def _work(cell: Cell) -> float:
    """Of one step."""
    return step_work(*cell.W.shape)


class _Search:
    def __init__(self, rows: Rows, u: np.ndarray, level: float, tolerance: float, budget: Budget, keep: bool) -> None:
        self.rows, self.floor, self.tolerance, self.budget, self.keep = rows, level, tolerance, budget, keep
        self.weight = np.linalg.norm(rows.up, axis=1) + np.linalg.norm(rows.down, axis=1)
        self.open: list[Relaxed] = []
        self.leaves: list[Leaf] = []
        self.upper, self.cells, self.u, self.lower = 0.0, 0, u, rows.pull(u)

    @property
    def level(self) -> float:
        return max(self.floor, self.lower * (1 + self.tolerance))

    def run(self, pool: ThreadPoolExecutor, watch: Watch | None) -> None:
        self._relax([(cell, None) for cell in roots(self.rows)], pool)
        while self.open and not self.budget.over() and self._fits():
            if watch is not None:
                watch(self.highest + self.rows.error, len(self.open))
            self.open.sort(key=lambda one: -one.bound)
            k = max(1, int(min(self._left / (2 * _LEAST * _work(self.open[0].cell)), _BATCH)))
            chosen, self.open = self.open[:k], self.open[k:]
            self._relax([half for one in chosen for half in self._halves(one)], pool)

    @property
    def _left(self) -> float:
        """Of the work."""
        return self.budget.share * self.budget.work - self.budget.spent

    @property
    def highest(self) -> float:
        """The highest bound of all cells."""
        return min(self.rows.size, max([self.upper, *(one.bound for one in self.open)]))

    def _fits(self) -> bool:
        """Whether there is memory for another batch of the largest cells, two matrices and a proof each."""
        held = sum(24 * one.Z.size for one in self.open) + sum(8 * leaf.M.size for leaf in self.leaves)
        return held + 2 * _BATCH * 24 * max(one.Z.size for one in self.open) <= _BYTES

    def _halves(self, one: Relaxed) -> list[tuple[Cell, Relaxed]]:
        row = int(np.argmax(one.open_rows(self.weight)))
        parts = []
        for sign in (1, -1):
            signs = one.cell.signs.copy()
            signs[row] = sign
            parts.append((Cell.of(self.rows, one.cell.side, signs), one))
        return parts

    def _relax(self, cells: list[tuple[Cell, Relaxed | None]], pool: ThreadPoolExecutor) -> None:
        """Relax cells and sort them into open ones and leaves; steps are shared out from what is left of the work."""
        left = self._left / sum(_work(cell) for cell, _ in cells)
        steps, level, late = int(min(_STEPS, max(_LEAST, left))), self.level, self.budget.late

        def relaxed(item: tuple[Cell, Relaxed | None]) -> Relaxed:
            return relax(item[0], level, item[1], steps=steps, late=late)

        for one in pool.map(relaxed, cells):
            self.cells += 1
            self.budget.spend(_work(one.cell) * one.steps)
            for u in (one.u, -one.u):
                if (pulled := self.rows.pull(u)) > self.lower:
                    self.lower, self.u = pulled, u
            if one.bound <= level or not one.cell.pairs:
                self._close(one)
            else:
                self.open.append(one)

    def _close(self, one: Relaxed) -> None:
        self.upper = max(self.upper, one.bound)
        if self.keep:
            self.leaves.append(Leaf(one.cell.side, one.cell.signs, one.M))

    def result(self) -> SphereBound:
        highest = self.highest
        for one in self.open:
            self._close(one)
        return SphereBound(
            upper=(highest + self.rows.error) * (1 + 2 * _EPS),
            lower=self.lower,
            u=self.rows.basis.T @ self.u,
            allowance=self.rows.error,
            closed=highest <= self.lower * (1 + self.tolerance),
            cells=self.cells,
            dimension=self.rows.X.shape[1],
            leaves=self.leaves,
        )


__all__ = ["Watch", "bound_by_signs", "roots"]
