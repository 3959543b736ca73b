"""The three kinds of targets, each with its labels, margins and error; a loss of a kind adds ℓ and its derivatives."""

from __future__ import annotations

import numpy as np

from ..engine import exact_math, noise
from ..errors import InputError
from .base import Loss
from .labels import described, numbered, read_labels, refuse_non_finite, suited_loss


class TwoClassLoss(Loss):
    """Two classes and one output: targets t (n,) float64 in {−1, +1}, margins y f.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import Logistic, TwoClassLoss
    >>> isinstance(Logistic(), TwoClassLoss)
    True
    >>> Logistic().margins(np.array([[0.5], [-2.0]]), np.array([1.0, 1.0]))
    array([ 0.5, -2. ])
    """

    is_classification = True

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Two distinct labels of any kind: the smaller is -1, the larger +1. One label alone must be -1, 0, 1 or bool.

        A lone label appears when n is tiny; only in {-1, 0, 1} is its sign clear without the other one.
        """
        labels = read_labels(y, where)
        if classes is None:
            classes = np.unique(labels)
            if len(classes) == 1 and classes.dtype.kind != "U" and classes[0] in (-1, 0, 1):
                classes = np.array([0, 1] if classes[0] == 0 else [-1, 1])
            if len(classes) != 2:
                raise InputError(
                    f"{where}: loss {self.name!r} needs two classes, {described(classes)}; {suited_loss(classes)}"
                )
        return 2.0 * numbered(labels, classes, where) - 1.0, classes

    def outputs(self, t: np.ndarray) -> int:
        """One, whatever the targets."""
        return 1

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """y f, (n,)."""
        return t * f[:, 0]

    def mislabelled(self, t: np.ndarray, outputs: int, level: float, seed: int, step: int) -> np.ndarray:
        """Each label turned with probability `level`."""
        return np.where(_hit(level, seed, step, len(t)), -t, t)

    def margin_rows(self, t: np.ndarray, outputs: int) -> np.ndarray:
        """y as (n, 1, 1)."""
        return t[:, None, None]


class MulticlassLoss(Loss):
    """Two or more classes with an output each: targets t (n,) int64 in 0..C−1, margins f_y − max_{c≠y} f_c.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import CrossEntropy
    >>> CrossEntropy().margins(np.array([[1.0, 0.0, 3.0]]), np.array([0]))
    array([-2.])
    """

    is_classification = True

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Two or more classes, integers or strings, numbered 0..C-1 in sorted order."""
        labels = read_labels(y, where)
        if labels.dtype.kind == "f":
            raise InputError(
                f"{where}: loss {self.name!r} needs integers or strings, {described(np.unique(labels))}; "
                'for regression set loss = "squared"'
            )
        if classes is None:
            classes = np.unique(labels)
            if len(classes) < 2:
                raise InputError(f"{where}: loss {self.name!r} needs at least two classes, {described(classes)}")
        return numbered(labels, classes, where), classes

    def outputs(self, t: np.ndarray) -> int:
        """The number of classes."""
        return int(t.max()) + 1

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """f_y − max_{c≠y} f_c, (n,)."""
        others = f.copy()
        others[np.arange(len(t)), t] = -np.inf
        return f[np.arange(len(t)), t] - others.max(axis=1)

    def mislabelled(self, t: np.ndarray, outputs: int, level: float, seed: int, step: int) -> np.ndarray:
        """Each label with probability `level` one of the others, uniformly."""
        others = noise.uniforms(seed, noise.Purpose.LABELS, step, len(t), block=1) * (outputs - 1)
        return np.where(_hit(level, seed, step, len(t)), (t + 1 + others.astype(t.dtype)) % outputs, t)

    def margin_rows(self, t: np.ndarray, outputs: int) -> np.ndarray:
        """e_y − e_c for the C − 1 other classes c, in their order."""
        eye = np.eye(outputs)
        return np.stack([eye[k] - np.delete(eye, k, axis=0) for k in range(outputs)])[t]


class RegressionLoss(Loss):
    """Numbers: targets t (n, C) float64; no margins, and `error` is the mean squared error.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import RegressionLoss, Squared
    >>> isinstance(Squared(), RegressionLoss)
    True
    >>> Squared().encode(np.array([1, 2]))[0]
    array([[1.],
           [2.]])
    """

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Finite numbers (n,) or (n, C), as (n, C) float64."""
        y = np.asarray(y)
        if y.ndim not in (1, 2) or y.size == 0:
            raise InputError(f"{where} has shape {y.shape}: must be (n,) or (n, C), and not empty")
        if y.dtype.kind not in "biuf":
            raise InputError(
                f"{where}: loss {self.name!r} needs numbers, {described(np.unique(y))}; "
                'for classes set loss = "logistic" (two) or "cross_entropy"'
            )
        targets = np.ascontiguousarray(y.reshape(len(y), -1), dtype=np.float64)
        refuse_non_finite(targets, where)
        return targets, None

    def outputs(self, t: np.ndarray) -> int:
        """The columns of the targets."""
        return int(t.shape[1])

    def mislabelled(self, t: np.ndarray, outputs: int, level: float, seed: int, step: int) -> np.ndarray:
        """Targets plus `level` times standard normals."""
        xi = noise.normals(seed, noise.Purpose.LABELS, step, len(t), outputs, dtype="float64")
        return t + level * xi.reshape(t.shape)

    def error(self, f: np.ndarray, t: np.ndarray) -> float:
        """The mean of ‖f − y‖²."""
        return exact_math.total((f - t) * (f - t)) / len(f)


def _hit(level: float, seed: int, step: int, count: int) -> np.ndarray:
    """Which labels a step's noise hits, each with probability `level`. InputError: that is none."""
    if level > 1:
        raise InputError(f"label_noise = {level!r}: a probability for losses of classes, at most 1")
    return noise.uniforms(seed, noise.Purpose.LABELS, step, count) < level
