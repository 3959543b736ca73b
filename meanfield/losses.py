"""The losses ℓ of R(f) = (1/n) Σ ℓ(y_i, f_i): value, derivative and convex conjugate, as functions of outputs alone.

Outputs `f` and dual points `a` are (n, C) float64. Targets `t` are as the loss encodes them: logistic (n,) float64 in
{-1, +1}, squared (n, C) float64, cross_entropy (n,) int64 in 0..C-1. The arithmetic is exact_math's, as a run's state
is made of it: the same bits on every machine.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .engine import exact_math
from .errors import InputError

# p = n·a of a point computed as p/n comes back a few units in the last place off; that much is still in the domain.
ROUNDING = 1e-14


@dataclass(frozen=True)
class Loss(ABC):
    """One loss. All reductions over the n examples are means, so `residual` carries the 1/n."""

    name: str

    @abstractmethod
    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets `t` for raw labels `y`, and the sorted classes they number (None for regression).

        `classes` are those of the training set; a label outside them raises InputError, as does any label that the
        loss cannot use. `where` names the array in messages.
        """

    @abstractmethod
    def outputs(self, t: np.ndarray) -> int:
        """C, the number of network outputs that the training targets ask for."""

    @abstractmethod
    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        """R(f)."""

    @abstractmethod
    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """∂R/∂f, (n, C) float64, the 1/n included."""

    @abstractmethod
    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """R*(a) = sup_f <a, f> - R(f); inf outside its domain (a few roundings of 1 are let in)."""

    @abstractmethod
    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        """The largest s >= 0 with s·a in the domain of R*; may be inf, and is 0 if no positive s will do."""

    @abstractmethod
    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The largest eigenvalue of the Hessian of ℓ(y_i, ·) at f_i, (n,) float64, without the 1/n.

        Exact for logistic and squared; for cross_entropy a bound from above (exact for two classes).
        """

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray | None:
        """Unnormalized margins (n,): y f, or f_y - max_{c≠y} f_c; None for regression."""
        return None

    def error(self, f: np.ndarray, t: np.ndarray) -> float:
        """Fraction misclassified, where f = 0, a tie for the top and NaN are errors; for regression mean ‖f - y‖²."""
        margins = self.margins(f, t)
        assert margins is not None
        return float(np.count_nonzero(~(margins > 0)) / len(margins))


class Logistic(Loss):
    """ℓ(y, f) = log(1 + e^{-yf}), y = ±1, C = 1."""

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Two distinct labels of any kind: the smaller is -1, the larger +1. One label alone must be -1, 0, 1 or bool.

        A lone label appears when n is tiny; only in {-1, 0, 1} is its sign clear without the other one.
        """
        labels = _labels(y, where)
        found = np.unique(labels)
        if classes is None:
            if len(found) == 1 and found.dtype.kind != "U" and found[0] in (-1, 0, 1):
                found = np.array([0, 1] if found[0] == 0 else [-1, 1])
            if len(found) != 2:
                raise InputError(f"{where}: loss 'logistic' needs two classes, {_found(found)}; {_other_loss(found)}")
            classes = found
        return 2.0 * _index(labels, classes, where) - 1.0, classes

    def outputs(self, t: np.ndarray) -> int:
        return 1

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        z = -t * f[:, 0]
        return exact_math.mean(np.maximum(z, 0.0) + exact_math.log1p(exact_math.exp(-np.abs(z))))

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (-t * _expit(-t * f[:, 0]) / len(t))[:, None]

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """mean(p log p + (1-p) log(1-p)), p_i = -n a_i y_i in [0, 1]."""
        p = -len(t) * a[:, 0] * t
        if not np.all((p >= -ROUNDING) & (p <= 1 + ROUNDING)):
            return np.inf
        p = np.clip(p, 0.0, 1.0)
        return exact_math.mean(_xlogx(p) + _xlogx(1.0 - p, complement=p))

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        p = -len(t) * a[:, 0] * t
        return _scale_to_one(p.max()) if np.all(p >= 0) else 0.0

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        e = exact_math.exp(-np.abs(f[:, 0]))
        return e / ((1.0 + e) * (1.0 + e))

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return t * f[:, 0]


class Squared(Loss):
    """ℓ(y, f) = ½ ‖f - y‖²."""

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Finite numbers (n,) or (n, C), as (n, C) float64."""
        y = np.asarray(y)
        if y.ndim not in (1, 2) or y.size == 0:
            raise InputError(f"{where} has shape {y.shape}: must be (n,) or (n, C), and not empty")
        if y.dtype.kind not in "biuf":
            raise InputError(
                f"{where}: loss 'squared' needs numbers, {_found(np.unique(y))}; "
                'for classes set loss = "logistic" (two) or "cross_entropy"'
            )
        targets = np.ascontiguousarray(y.reshape(len(y), -1), dtype=np.float64)
        _refuse_non_finite(targets, where)
        return targets, None

    def outputs(self, t: np.ndarray) -> int:
        return int(t.shape[1])

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        return 0.5 * self.error(f, t)

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (f - t) / len(t)

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """Σ (n a_i²/2 + a_i y_i)."""
        return exact_math.total(0.5 * len(t) * a * a + a * t)

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        return np.inf

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.ones(len(f))

    def error(self, f: np.ndarray, t: np.ndarray) -> float:
        return exact_math.total((f - t) * (f - t)) / len(f)


class CrossEntropy(Loss):
    """ℓ(y, f) = log Σ_c e^{f_c} - f_y."""

    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Two or more classes, integers or strings, numbered 0..C-1 in sorted order."""
        labels = _labels(y, where)
        if labels.dtype.kind == "f":
            raise InputError(
                f"{where}: loss 'cross_entropy' needs integers or strings, {_found(np.unique(labels))}; "
                'for regression set loss = "squared"'
            )
        if classes is None:
            classes = np.unique(labels)
            if len(classes) < 2:
                raise InputError(f"{where}: loss 'cross_entropy' needs at least two classes, {_found(classes)}")
        return _index(labels, classes, where), classes

    def outputs(self, t: np.ndarray) -> int:
        return int(t.max()) + 1

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        gaps = f - _picked(f, t)
        rows, top = np.arange(len(t)), gaps.argmax(axis=1)
        others = exact_math.exp(gaps - gaps[rows, top][:, None])
        others[rows, top] = 0.0  # log1p of the rest keeps losses far below one rounding of 1
        return exact_math.mean(gaps[rows, top] + exact_math.log1p(exact_math.row_sums(others)))

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(softmax(f) - e_y)/n; the entry of y is minus the sum of the others, exact however small they are."""
        p = _softmax(f)
        return _balanced(p, t) / len(t)

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """mean Σ_c p_ic log p_ic, p_i = n a_i + e_{y_i} in the simplex."""
        na = len(t) * a
        if not _sums_to_zero(na):
            return np.inf
        p = na.copy()
        p[np.arange(len(t)), t] += 1.0
        if not np.all(p >= -ROUNDING):
            return np.inf
        off = -na[np.arange(len(t)), t]
        plogp = _xlogx(np.maximum(p, 0.0))
        plogp[np.arange(len(t)), t] = _xlogx(np.maximum(1.0 - off, 0.0), complement=np.minimum(off, 1.0))
        return exact_math.total(plogp) / len(t)

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        na = len(t) * a
        off = -na[np.arange(len(t)), t]
        na[np.arange(len(t)), t] = 0.0
        in_cone = _sums_to_zero(a) and np.all(na >= 0)
        return _scale_to_one(off.max()) if in_cone else 0.0

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """2 p(1-p) at the likeliest class: Gershgorin's bound for diag(p) - ppᵀ, at most ½."""
        p = _softmax(f)
        top = p.argmax(axis=1)
        return 2.0 * p.max(axis=1) * -_balanced(p, top)[np.arange(len(p)), top]

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        others = f.copy()
        others[np.arange(len(t)), t] = -np.inf
        return _picked(f, t)[:, 0] - others.max(axis=1)


LOSSES: dict[str, Loss] = {
    loss.name: loss for loss in (Logistic("logistic"), Squared("squared"), CrossEntropy("cross_entropy"))
}


def get_loss(name: str) -> Loss:
    """The loss of that name; InputError names the valid ones."""
    if name not in LOSSES:
        near = difflib.get_close_matches(str(name), LOSSES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"loss {name!r} is unknown: must be one of {', '.join(LOSSES)}{hint}")
    return LOSSES[name]


def _expit(z: np.ndarray) -> np.ndarray:
    e = exact_math.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softmax(f: np.ndarray) -> np.ndarray:
    e = exact_math.exp(f - f.max(axis=1, keepdims=True))
    return e / exact_math.row_sums(e)[:, None]


def _balanced(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p - e_t for rows p that sum to 1, without cancellation at t."""
    out = p.copy()
    rows = np.arange(len(p))
    out[rows, t] = 0.0
    out[rows, t] = -exact_math.row_sums(out)
    return out


def _picked(f: np.ndarray, t: np.ndarray) -> np.ndarray:
    return f[np.arange(len(t)), t][:, None]


def _xlogx(x: np.ndarray, complement: np.ndarray | None = None) -> np.ndarray:
    """x log x with 0 log 0 = 0; given 1 - x as `complement`, accurate where x is next to 1."""
    log = exact_math.log(np.where(x > 0, x, 1.0))
    if complement is not None:
        log = np.where(x > 0.5, exact_math.log1p(-np.where(x > 0.5, complement, 0.0)), log)
    return x * log


def _sums_to_zero(a: np.ndarray) -> bool:
    """Whether each row sums to zero, to a relative 1e-12 of its largest entry."""
    return bool(np.all(np.abs(exact_math.row_sums(a)) <= 1e-12 * np.abs(a).max(axis=1)))


def _scale_to_one(largest: float) -> float:
    return float(1.0 / largest) if largest > 1.0 / np.finfo(float).max else np.inf


def _labels(y: np.ndarray, where: str) -> np.ndarray:
    """Labels (n,) as int64, float64 (only if some are not whole) or str."""
    y = np.asarray(y)
    if y.ndim != 1 or y.size == 0:
        raise InputError(f"{where} has shape {y.shape}: labels must be (n,), and not empty")
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind not in "biufU":
        raise InputError(f"{where} has dtype {y.dtype}: labels must be numbers or strings")
    if y.dtype.kind == "f":
        _refuse_non_finite(y, where)
        if not np.all((y == np.rint(y)) & (np.abs(y) < 2**53)):
            return y.astype(np.float64)
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def _index(labels: np.ndarray, classes: np.ndarray, where: str) -> np.ndarray:
    classes = np.asarray(classes)
    known = (
        np.isin(labels, classes)
        if (labels.dtype.kind == "U") == (classes.dtype.kind == "U")
        else np.zeros(len(labels), bool)
    )
    if not known.all():
        first = int(np.argmin(known))
        raise InputError(
            f"{where}[{first}] is {labels[first].item()!r}, a label that the training set lacks "
            f"(it has {_listed(classes)})"
        )
    return np.searchsorted(classes, labels).astype(np.int64)


def _refuse_non_finite(y: np.ndarray, where: str) -> None:
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        raise InputError(f"{where}[{int(bad[0][0])}] is {y[tuple(bad[0])]}: must be finite")


def _listed(found: np.ndarray) -> str:
    shown = ", ".join(repr(value) for value in found[:5].tolist())
    return shown + (", ..." if len(found) > 5 else "")


def _found(found: np.ndarray) -> str:
    return f"found {len(found)} distinct label{'s' * (len(found) != 1)}: {_listed(found)}"


def _other_loss(found: np.ndarray) -> str:
    if len(found) == 1:
        return "add examples of the other class"
    names = {"f": '"squared"', "U": '"cross_entropy"'}
    return "set loss = " + names.get(found.dtype.kind, '"cross_entropy" for classes, "squared" for regression')
