"""Network against kernel on the same data. The only importer of the kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .kernels import ReluKernel, RidgePath, class_targets, margins
from .problem import Problem


@dataclass(frozen=True)
class Baseline:
    """The ReLU NTK on a problem's data: errors as the network's are counted, `margin` = min margin / RKHS norm of f."""

    train_error: float
    test_error: float
    margin: float
    method: str
    n: int
    reg: float


def kernel_baseline(problem: Problem, *, w_std: float = 1.0, u_std: float = 1.0) -> Baseline:
    """Kernel ridge regression with the two-layer ReLU NTK, its regularization chosen by leave-one-out over a path.

    Classes are regressed on ±1 (several classes: 1 and −1/(C − 1)). NaN: a test error without a test set, a margin
    without classes. InputError: data that a kernel cannot be fitted to, such as a single class.
    """
    try:
        return _fitted(problem, ReluKernel(2, w_std, u_std))
    except ValueError as error:  # the kernels know no InputError
        raise InputError(f"kernel: {error}") from error


def _fitted(problem: Problem, kernel: ReluKernel) -> Baseline:
    classes = problem.classes is not None
    targets = class_targets(problem.targets)[1] if classes else problem.targets
    K = kernel.gram(problem.X)
    path = RidgePath(loss="error" if classes else "squared").fit(K, targets)

    def error(f: np.ndarray, t: np.ndarray) -> float:
        f = f.reshape(len(f), -1)
        if f.shape[1] < problem.outputs:  # two classes: one column, where cross-entropy has two
            f = np.hstack([-f, f])
        return problem.loss.error(f, t)

    fitted = path.predict(K)
    test_error = math.nan
    if problem.X_test is not None:
        test_error = error(kernel.dot(problem.X_test, problem.X, path.coef), problem.test_targets)
    margin = math.nan
    if classes:
        norm = math.sqrt(max(float(np.sum(path.coef * (K @ path.coef))), 0.0))
        margin = float(margins(fitted, targets).min()) / norm if norm > 0 else 0.0
    return Baseline(
        error(fitted, problem.targets), test_error, margin,
        "ridge, regularization by leave-one-out", problem.n, float(path.reg),
    )  # fmt: skip
