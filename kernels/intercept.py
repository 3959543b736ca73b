"""A constant that is not penalized, beside any least-squares solver."""

from __future__ import annotations

from typing import Any, Self

import numpy as np


class Intercept:
    """The minimum over f and b of Σ_i ½ (f(x_i) + b − y_i)² + ½ reg ‖f‖², by a solver that knows only f.

    The fit is linear in y. With f_y and f_1 fitted to y and to 1, the minimum at b is f_y − b f_1; its dual variables,
    for ridge proportional to the residuals, add up to 0. So one more column is solved for, and b follows. y is centred
    first, for rounding's sake: it changes nothing else.

    Parameters
    ----------
    solver : object with fit(K, y), coef and fitted
        `Ridge`, `Interpolation`, or what does the same without the matrix.

    Attributes
    ----------
    coef : ndarray (n,) or (n, C)
        Coefficients of f.
    intercept : float or ndarray (C,)
        b.
    """

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    def fit(self, K: Any, y: np.ndarray, **options: Any) -> Self:
        """Fit to y (n,) or (n, C); options, and what raises, are the solver's."""
        y = np.asarray(y, dtype=np.float64)
        mean = y.mean(axis=0)
        targets = np.column_stack([(y - mean).reshape(len(y), -1), np.ones(len(y))])
        self.solver.fit(K, targets, **options)
        coef = self.solver.coef
        dual = (coef if len(coef) == len(y) else targets - self.solver.fitted).sum(axis=0)  # of centres: residuals
        b = dual[:-1] / dual[-1]
        self.coef = (coef[:, :-1] - np.outer(coef[:, -1], b)).reshape(-1, *y.shape[1:])
        self.intercept = mean + b.reshape(y.shape[1:])
        return self
