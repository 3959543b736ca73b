"""The laws that every loss obeys, checked by numbers: what a new loss is put through before it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import number, numbers
from ..errors import InputError
from .base import Loss

_EXAMPLES = 12
_SIZES = (0.3, 1.0, 4.0)  # of outputs at which laws are looked at
_STEP = 1e-5  # of central differences
_CLOSE = 1e-6  # relative: what central differences can tell


def check_loss(loss: Loss, targets: Any = None, outputs: int = 1, seed: int = 0) -> None:
    """Check all laws of a loss, by numbers at random outputs.

    The value is a mean over the examples and at least 0; the residual is its derivative, the Hessian that of the
    residual, and the curvature no less than the Hessian's largest eigenvalue; Fenchel and Young's inequality, R(f) +
    R*(a) ≥ ⟨a, f⟩, is an equality at the residual; R* is finite up to `largest_scale` and not beyond; the conjugate's
    gradient and Hessian are its derivatives; `conjugate_magnitude` is enough; margins are positive where the loss
    falls, and are those of `margin_rows`; errors, probabilities, tails, shapes and types are as promised; NaN is
    never hidden; arguments are left as they are. What a loss does not offer is not looked at.

    Parameters
    ----------
    loss : Loss
        The loss.
    targets : array, optional
        Targets of some examples, as the loss encodes them; by default a dozen are made up.
    outputs : int
        How many outputs the made-up targets ask for (at least two where each class has its own).
    seed : int
        Of the random numbers.

    Raises
    ------
    InputError
        In one line, the loss and the first law that fails.

    Examples
    --------
    >>> from meanfield.losses import Logistic, check_loss
    >>> check_loss(Logistic())
    >>> class Doubled(Logistic):
    ...     name = "doubled"
    ...
    ...     def value(self, f, t):
    ...         return 2 * super().value(f, t)
    >>> check_loss(Doubled())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    meanfield.errors.InputError: loss 'doubled': the residual must be the derivative of the value (...)
    """
    laws = _Laws(loss, targets, outputs, np.random.default_rng(seed))
    for law in (
        laws.shapes,
        laws.arguments,
        laws.mean,
        laws.residual,
        laws.hessian,
        laws.duality,
        laws.domain,
        laws.magnitude,
        laws.conjugate_gradient,
        laws.conjugate_hessian,
        laws.margins,
        laws.errors,
        laws.tail,
        laws.probabilities,
        laws.extremes,
        laws.not_a_number,
    ):
        law()


def refuse_unusable_loss(loss: Loss, t: np.ndarray, outputs: int) -> None:
    """Try once what a run asks of a loss, where f = 0; `check_loss` looks closer.

    Parameters
    ----------
    loss : Loss
        Of the user's own.
    t : array
        Targets, as it encodes them.
    outputs : int
        C.

    Raises
    ------
    InputError
        A value that is no number, a residual or curvature that is no array (n, C) or (n,) of numbers, and what is not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import Logistic
    >>> from meanfield.losses.check import refuse_unusable_loss
    >>> class Silent(Logistic):
    ...     name = "silent"
    ...
    ...     def value(self, f, t):
    ...         pass
    >>> refuse_unusable_loss(Silent(), np.ones(3), 1)
    Traceback (most recent call last):
        ...
    meanfield.errors.InputError: loss 'silent': its value at f = 0 is None: must be a number
    """
    f = np.zeros((len(t), outputs))
    given = {name: getattr(loss, name)(f, t) for name in ("value", "residual", "curvature")}
    number(given["value"], f"loss {loss.name!r}: its value at f = 0")
    for name, shape in (("residual", f.shape), ("curvature", f.shape[:1])):
        if not isinstance(given[name], np.ndarray) or given[name].shape != shape:
            raise InputError(f"loss {loss.name!r}: its {name} must be an array of shape {shape}")
    for name, values in given.items():
        if not np.isfinite(numbers(values, f"loss {loss.name!r}: its {name} at f = 0")).all():
            raise InputError(f"loss {loss.name!r}: its {name} at f = 0 is not finite")


class _Laws:
    """Targets and outputs of one loss, and a method for each group of laws."""

    def __init__(self, loss: Loss, targets: Any, outputs: int, rng: np.random.Generator) -> None:
        if not isinstance(loss, Loss) or not isinstance(getattr(loss, "name", None), str):
            raise InputError(f"{loss!r}: must be an object of a subclass of Loss with a `name`, a string")
        self.loss, self.rng = loss, rng
        self.classes: np.ndarray | None = None  # the own class of each example, where it is known
        self.t = self._made_up(outputs) if targets is None else np.asarray(targets)
        self.n, self.C = len(self.t), loss.outputs(self.t)
        self.zero = np.zeros((self.n, self.C))
        self.f = [size * rng.standard_normal((self.n, self.C)) for size in _SIZES]

    def _made_up(self, outputs: int) -> np.ndarray:
        if self.loss.is_classification:
            y: Any = np.arange(_EXAMPLES) % max(2, outputs)
        else:
            y = self.rng.standard_normal((_EXAMPLES, outputs))
        t, classes = self.loss.encode(y)
        self._must("encode gives a target for each example", len(t) == len(y))
        self._must("encode gives classes if they are targets, else None", (classes is None) == (y.ndim == 2))
        self.classes = y if self.loss.is_classification else None
        again = self.loss.encode(y[:3], classes=classes)[0]
        self._must("encode maps a test set as it did the training set", np.array_equal(again, t[:3]))
        return t

    def _must(self, law: str, holds: Any) -> None:
        if not holds:
            raise InputError(f"loss {self.loss.name!r}: {law}")

    def _equal(self, law: str, left: Any, right: Any, tolerance: float = 1e-9) -> None:
        """InputError unless the two agree relative to the larger of them and 1."""
        left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
        self._must(f"{law} (shape {left.shape} is not {right.shape})", left.shape == right.shape)
        excess = np.abs(left - right) - tolerance * np.maximum(1.0, np.maximum(np.abs(left), np.abs(right)))
        if not (excess <= 0).all():
            worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
            raise InputError(f"loss {self.loss.name!r}: {law} ({left[worst]:.6g} is not {right[worst]:.6g})")

    def _array(self, method: str, value: Any, shape: tuple[int, ...]) -> None:
        right = isinstance(value, np.ndarray) and value.shape == shape and value.dtype == np.float64
        self._must(f"{method} must return float64 of shape {shape}", right)

    def _residuals(self) -> list[np.ndarray]:
        return [self.loss.residual(f, self.t) for f in (self.zero, *self.f)]

    def _inside(self) -> list[np.ndarray]:
        """Dual points in the interior of the domain, which is convex: halfway from 0 to means of residuals."""
        draws = [self.loss.residual(self.rng.standard_normal(self.zero.shape), self.t) for _ in range(16)]
        return [0.5 * np.mean(draws[:8], axis=0), 0.5 * np.mean(draws[8:], axis=0)]

    def _slope(self, function: Callable[[np.ndarray], Any], x: np.ndarray, direction: np.ndarray) -> Any:
        """The central difference of a function along a direction."""
        return (function(x + _STEP * direction) - function(x - _STEP * direction)) / (2 * _STEP)

    def shapes(self) -> None:
        """Numbers are floats, arrays float64, of the shapes promised."""
        loss, t, f = self.loss, self.t, self.f[1]
        n, C, r = self.n, self.C, loss.residual(f, t)
        self._array("residual", r, (n, C))
        self._array("curvature", loss.curvature(f, t), (n,))
        if C == 1 or loss.offers("hessian"):
            self._array("hessian", loss.hessian(f, t), (n, C, C))
        scalars = {"value": loss.value(f, t), "error": loss.error(f, t)}
        if loss.offers("conjugate"):
            scalars |= {"conjugate": loss.conjugate(r, t), "largest_scale": loss.largest_scale(r, t)}
        for method, value in scalars.items():
            self._must(f"{method} must return a float", isinstance(value, float))
        margins = loss.margins(f, t)
        self._must("margins must be there for classes, and only there", (margins is not None) == loss.is_classification)
        if margins is not None:
            self._array("margins", margins, (n,))

    def arguments(self) -> None:
        """No method writes into what it is given."""
        loss, f, t = self.loss, self.f[0].copy(), self.t.copy()
        a = loss.residual(f, t)
        on_dual = ("conjugate", "largest_scale", "conjugate_gradient", "conjugate_hessian", "conjugate_magnitude")
        calls = [(name, f) for name in ("value", "residual", "curvature", "margins", "error")]
        calls += [(name, a) for name in on_dual if loss.offers("conjugate") and loss.offers(name)]
        for name, x in calls:
            before = x.copy()
            getattr(loss, name)(x, t)
            same = np.array_equal(x, before) and np.array_equal(t, self.t)
            self._must(f"{name} must leave its arguments as they are", same)

    def mean(self) -> None:
        """R is the mean of the examples' own losses, none of them negative."""
        loss, t = self.loss, self.t
        for f in (self.zero, *self.f):
            own = [loss.value(f[i : i + 1], t[i : i + 1]) for i in range(self.n)]
            self._must("the value must not be negative", min(own) >= 0)
            self._equal("the value must be the mean over the examples", loss.value(f, t), np.mean(own))

    def residual(self) -> None:
        """∂R/∂f by central differences."""
        for f in self.f:
            direction = self.rng.standard_normal(f.shape)
            slope = self._slope(lambda x: self.loss.value(x, self.t), f, direction)
            along = np.sum(self.loss.residual(f, self.t) * direction)
            self._equal("the residual must be the derivative of the value", along, slope, _CLOSE)

    def hessian(self) -> None:
        """∂²ℓ/∂f² by central differences of the residual, and the curvature's bound."""
        loss, t = self.loss, self.t
        for f in self.f:
            columns = [self._slope(lambda x: self.n * loss.residual(x, t), f, e) for e in self._units()]
            numeric = np.stack(columns, axis=2)
            if self.C == 1 or loss.offers("hessian"):
                law = "the Hessian (of one output: the curvature) must be the derivative of the residual"
                self._equal(law, loss.hessian(f, t), numeric, 1e2 * _CLOSE)
            largest = np.linalg.eigvalsh(0.5 * (numeric + numeric.swapaxes(1, 2)))[:, -1]
            low = loss.curvature(f, t) - largest
            self._must("the curvature must bound the Hessian's largest eigenvalue", low.min() >= -1e2 * _CLOSE)
            self._must("the curvature of one output must be exact", self.C > 1 or low.max() <= 1e2 * _CLOSE)

    def _units(self) -> list[np.ndarray]:
        return [np.tile(e, (self.n, 1)) for e in np.eye(self.C)]

    def duality(self) -> None:
        """Fenchel and Young's inequality, with equality at the residual; what residuals span."""
        loss, t = self.loss, self.t
        basis = loss.dual_basis(self.C)
        self._equal("the rows of dual_basis must be orthonormal", basis @ basis.T, np.eye(len(basis)))
        for r in self._residuals():
            self._equal("residuals must lie in the span of dual_basis", r @ basis.T @ basis, r)
        if not loss.offers("conjugate"):
            return
        for f in (self.zero, *self.f, 30 * self.f[0]):
            r = loss.residual(f, t)
            left, right = loss.value(f, t) + loss.conjugate(r, t), float(np.sum(r * f))
            self._equal("Fenchel and Young's inequality must be an equality at the residual", left, right)
            for a in (*self._residuals(), *self._inside()):
                excess = loss.value(f, t) + loss.conjugate(a, t) - float(np.sum(a * f))
                scale = max(1.0, abs(float(np.sum(a * f))))
                self._must("R(f) + R*(a) must be at least ⟨a, f⟩", excess >= -1e-9 * scale)

    def domain(self) -> None:
        """R* is finite up to the largest scale, and infinite beyond it."""
        loss, t = self.loss, self.t
        if not loss.offers("conjugate"):
            return
        for a in self._residuals():
            s = loss.largest_scale(a, t)
            self._must("largest_scale must be at least 1 at a residual", s >= 1)
            inside, beyond = (1e6, None) if s == np.inf else (s * (1 - 1e-9), s * (1 + 1e-6))
            self._must("the conjugate must be finite within largest_scale", np.isfinite(loss.conjugate(inside * a, t)))
            if beyond is not None:
                self._must("the conjugate must be inf beyond largest_scale", loss.conjugate(beyond * a, t) == np.inf)

    def magnitude(self) -> None:
        """The terms of R* are no smaller than R* itself, example by example."""
        loss, t = self.loss, self.t
        if not loss.offers("conjugate_magnitude"):
            return
        for a in (*self._residuals(), *self._inside()):
            for i in range(self.n):
                own, one = self.n * a[i : i + 1], t[i : i + 1]
                low = loss.conjugate_magnitude(own, one) >= abs(loss.conjugate(own, one)) * (1 - 1e-9)
                self._must("conjugate_magnitude must be at least the conjugate's size", low)

    def conjugate_gradient(self) -> None:
        """∂R*/∂a by central differences along directions within the domain."""
        loss, t = self.loss, self.t
        if not loss.offers("conjugate_gradient"):
            return
        for a in self._inside():
            gradient = loss.conjugate_gradient(a, t)
            self._array("conjugate_gradient", gradient, a.shape)
            for r in self._residuals():
                slope = self._slope(lambda x: loss.conjugate(x, t), a, r - a)
                along = np.sum(gradient * (r - a))
                self._equal("conjugate_gradient must be the conjugate's derivative", along, slope, 1e2 * _CLOSE)

    def conjugate_hessian(self) -> None:
        """∂²R*/∂a² by central differences of the gradient, between directions in the span of dual_basis."""
        loss, t, basis = self.loss, self.t, self.loss.dual_basis(self.C)
        if not (loss.offers("conjugate_hessian") and loss.offers("conjugate_gradient")):
            return
        for a in self._inside():
            hessian = loss.conjugate_hessian(a, t)
            self._array("conjugate_hessian", hessian, (self.n, self.C, self.C))
            for r in self._residuals():
                slope = self._slope(lambda x: loss.conjugate_gradient(x, t), a, r - a) @ basis.T
                along = np.einsum("nij,nj->ni", hessian, r - a) @ basis.T
                law = "conjugate_hessian must be the derivative of conjugate_gradient"
                self._equal(law, along, slope, 1e2 * _CLOSE)

    def margins(self) -> None:
        """Positive against the residual of f = 0, linear along rays, and the least of the rows' products."""
        loss, t = self.loss, self.t
        if not loss.is_classification:
            return
        better = loss.margins(-loss.residual(self.zero, t), t)
        self._must("margins must be positive where outputs move against the residual", np.all(np.asarray(better) > 0))
        for f in self.f:
            margins = np.asarray(loss.margins(f, t))
            self._equal("margins must scale with the outputs", loss.margins(3.0 * f, t), 3.0 * margins)
            if loss.offers("margin_rows"):
                rows = loss.margin_rows(t, self.C)
                self._must("margin_rows must be (n, r, C)", rows.ndim == 3 and rows.shape[::2] == (self.n, self.C))
                least = np.einsum("nrc,nc->nr", rows, f).min(axis=1)
                self._equal("margins must be the least of margin_rows times the outputs", margins, least)

    def errors(self) -> None:
        """The fraction of margins that are not positive, or the mean square."""
        loss, t = self.loss, self.t
        for f in (self.zero, *self.f):
            if loss.is_classification:
                expected = float(np.mean(~(np.asarray(loss.margins(f, t)) > 0)))
                self._equal(
                    "the error must be the fraction of margins that are not positive", loss.error(f, t), expected
                )
            elif t.shape == f.shape:
                expected = float(np.mean(np.sum((f - t) ** 2, axis=1)))
                self._equal("the error of regression must be the mean of ‖f − y‖²", loss.error(f, t), expected)

    def tail(self) -> None:
        """ℓ falls like e^{−margin}, if it says so."""
        loss, t = self.loss, self.t
        if not loss.exponential_tail:
            return
        rows = loss.margin_rows(t, self.C)
        f = np.einsum("nrc->nc", rows)  # every own output is raised
        f = f / np.asarray(loss.margins(f, t))[:, None]
        far, near = loss.value(30.0 * f, t), loss.value(20.0 * f, t)
        self._must("the tail must not vanish, as exponential_tail says", min(far, near) > 0)
        self._equal("the tail must be exponential, as exponential_tail says", np.log(far / near), -10.0, 1e-3)

    def probabilities(self) -> None:
        """They sum to 1, and the loss is −log of the own class's: the largest where the margin is positive."""
        loss, t = self.loss, self.t
        if not loss.offers("probabilities"):
            return
        for f in self.f:
            p = loss.probabilities(f)
            self._must("probabilities must not be negative", p.min() >= 0)
            self._equal("probabilities must sum to 1", p.sum(axis=1), np.ones(self.n))
            own = np.array([loss.value(f[i : i + 1], t[i : i + 1]) for i in range(self.n)])
            nearest = np.abs(p - np.exp(-own)[:, None]).argmin(axis=1)
            picked = p[np.arange(self.n), nearest if self.classes is None else self.classes]
            self._equal("the loss must be −log of the own class's probability", np.exp(-own), picked)
            right = np.asarray(loss.margins(f, t)) > 0
            self._must("probabilities must agree with the margins", np.array_equal(picked == p.max(axis=1), right))

    def extremes(self) -> None:
        """Nothing overflows at outputs of size 10⁴."""
        loss, t = self.loss, self.t
        for f in (1e4 * np.sign(self.f[0]), -1e4 * np.sign(self.f[0])):
            numbers = [loss.value(f, t), *loss.residual(f, t).ravel(), *loss.curvature(f, t)]
            self._must("nothing may overflow at outputs of size 1e4", np.isfinite(numbers).all())

    def not_a_number(self) -> None:
        """An output that is NaN makes the value, its residual and the conjugate not finite, and is an error."""
        loss, t, f = self.loss, self.t, self.f[0].copy()
        f[0] = np.nan
        with np.errstate(invalid="ignore"):
            self._must("the value must not be finite where an output is NaN", not np.isfinite(loss.value(f, t)))
            row = loss.residual(f, t)[0]
            self._must("the residual must not be finite where an output is NaN", not np.isfinite(row).any())
            if loss.is_classification:
                self._must("NaN must count as an error", loss.error(f[:1], t[:1]) == 1.0)
            if loss.offers("conjugate"):
                value = loss.conjugate(np.full_like(f, np.nan), t)
                self._must("the conjugate must not be finite at NaN", not np.isfinite(value))
