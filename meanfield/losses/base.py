"""What a loss is: value, derivatives and convex conjugate of R(f) = (1/n) Σ ℓ(y_i, f_i), as functions of outputs alone.

Outputs `f` and dual points `a` are (n, C) float64; targets `t` are as the loss encodes them. The arithmetic of the
losses here is exact_math's, as a run's state is made of it: the same bits on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ..errors import InputError

# p = n·a of a point computed as p/n comes back a few units in the last place off; that much is still in the domain.
ROUNDING = 1e-14


class Loss(ABC):
    """One loss ℓ(y, f), convex in f and never negative; R is its mean over the n examples.

    A subclass has a `name` and the abstract methods; nothing is registered. `TwoClassLoss`, `MulticlassLoss` and
    `RegressionLoss` bring the labels, margins and errors of their kind. The other methods are asked for by some
    references only, which say in one line what they miss: `conjugate` by `certify` and `exact.optimum`, `hessian` by
    these if C > 1, `conjugate_gradient` and `conjugate_hessian` by `exact.gibbs`, `margin_rows` by `exact.max_margin`.
    `meanfield.losses.check_loss` tests all laws of a loss in one call.

    Attributes
    ----------
    name : str
        What messages and run files call it.
    is_classification : bool
        Whether targets are classes, so that there are margins and `error` is a fraction.
    exponential_tail : bool
        Whether ℓ ~ e^{−margin} at large margins: what `exact.margin_law` rests on.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import LOSSES
    >>> loss = LOSSES["logistic"]
    >>> t, classes = loss.encode(np.array(["no", "yes"]))
    >>> f = np.array([[0.0], [0.0]])
    >>> round(loss.value(f, t), 4), loss.residual(f, t).tolist()
    (0.6931, [[0.25], [-0.25]])
    """

    name: ClassVar[str]
    is_classification: ClassVar[bool] = False
    exponential_tail: ClassVar[bool] = False

    @abstractmethod
    def encode(
        self, y: np.ndarray, where: str = "y", classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets for raw labels.

        Parameters
        ----------
        y : array (n,) or (n, C)
            Labels as a user has them.
        where : str
            What messages call the array.
        classes : array (K,), optional
            The classes of the training set, for a test set.

        Returns
        -------
        t : array
            Targets, one for each example along the first axis.
        classes : array (K,) or None
            The sorted classes that the targets number; None for regression.

        Raises
        ------
        InputError
            Labels that the loss cannot use, or a label outside `classes`.
        """

    @abstractmethod
    def outputs(self, t: np.ndarray) -> int:
        """C, the number of network outputs that the training targets ask for."""

    @abstractmethod
    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        """R(f), the mean of ℓ, at least 0.

        Parameters
        ----------
        f : array (n, C), float64
            Outputs.
        t : array
            Targets.

        Returns
        -------
        float
            Not finite if an output is NaN.
        """

    @abstractmethod
    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """∂R/∂f, (n, C) float64, the 1/n included; not finite where an output is NaN."""

    @abstractmethod
    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The largest eigenvalue of ∂²ℓ/∂f² of each example, or a bound from above; exact for C = 1.

        Returns
        -------
        array (n,), float64
            Without the 1/n. The automatic step size rests on it.
        """

    def hessian(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """∂²ℓ/∂f² of each example, without the 1/n; for C = 1 that is `curvature`.

        Returns
        -------
        array (n, C, C), float64

        Raises
        ------
        InputError
            C > 1 and a loss that does not define it.
        """
        if f.shape[1] > 1:
            raise self._lacks("hessian")
        return self.curvature(f, t)[:, None, None]

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """R*(a) = sup_f ⟨a, f⟩ − R(f).

        Parameters
        ----------
        a : array (n, C), float64
            A dual point, such as a residual.
        t : array
            Targets.

        Returns
        -------
        float
            inf outside the domain (a few roundings of 1 are let in); not finite at NaN.

        Raises
        ------
        InputError
            A loss that does not define it.
        """
        raise self._lacks("conjugate")

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        """The largest s ≥ 0 with s·a in the domain of R*; may be inf, and is 0 if no positive s will do.

        Found by bisection where a loss does not define it: 1e18 and more count as inf, 1e-12 and less as 0.
        """
        inside, outside = 1.0, 1.0
        while np.isfinite(self.conjugate(outside * a, t)):
            inside, outside = outside, 2.0 * outside
            if outside > 1e18:
                return float(np.inf)
        while not np.isfinite(self.conjugate(inside * a, t)):
            inside, outside = 0.5 * inside, inside
            if inside < 1e-12:
                return 0.0
        for _ in range(60):
            middle = 0.5 * (inside + outside)
            inside, outside = (middle, outside) if np.isfinite(self.conjugate(middle * a, t)) else (inside, middle)
        return inside

    def conjugate_magnitude(self, a: np.ndarray, t: np.ndarray) -> float:
        """The sum of the absolute values of all terms that `conjugate` adds up at a, or a bound on it.

        A proof needs it: rounding moves R* by less than a small multiple of it. Without it `certify` gives estimates.
        InputError: a loss that does not define it.
        """
        raise self._lacks("conjugate_magnitude")

    def conjugate_gradient(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """∂R*/∂a, (n, C) float64, up to what is orthogonal to `dual_basis`; not finite outside the domain.

        The outputs f whose residual is a. InputError: a loss that does not define it.
        """
        raise self._lacks("conjugate_gradient")

    def conjugate_hessian(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """∂²R*/∂a_i², (n, C, C) float64, example by example, between directions in the span of `dual_basis`.

        InputError: a loss that does not define it.
        """
        raise self._lacks("conjugate_hessian")

    def dual_basis(self, outputs: int) -> np.ndarray:
        """Orthonormal rows (C', C) that span what a row of a dual point may be: all, unless rows must sum to zero."""
        return np.eye(outputs)

    def margins(self, f: np.ndarray, t: np.ndarray) -> np.ndarray | None:
        """Unnormalized margins (n,): y f, or f_y − max_{c≠y} f_c; None for regression."""
        return None

    def margin_rows(self, t: np.ndarray, outputs: int) -> np.ndarray:
        """T (n, r, C), one r a competing class, with margin_i = min_r T_ir · f_i.

        InputError: a loss without margins.
        """
        raise self._lacks("margin_rows")

    def probabilities(self, f: np.ndarray) -> np.ndarray:
        """Those of the classes (n, K), in sorted order, for a loss that is −log of them.

        InputError: a loss that is no likelihood.
        """
        raise self._lacks("probabilities")

    def error(self, f: np.ndarray, t: np.ndarray) -> float:
        """Fraction misclassified, where f = 0, a tie for the top and NaN are errors; for regression mean ‖f − y‖²."""
        margins = self.margins(f, t)
        if margins is None:
            raise self._lacks("error")
        return float(np.count_nonzero(~(margins > 0)) / len(margins))

    def mislabelled(self, t: np.ndarray, outputs: int, level: float, seed: int, step: int) -> np.ndarray:
        """Targets with the label noise of a step; those of the three kinds have one."""
        raise self._lacks("mislabelled")

    def offers(self, method: str) -> bool:
        """Whether the loss defines that method itself.

        Examples
        --------
        >>> from meanfield.losses import LOSSES
        >>> LOSSES["logistic"].offers("probabilities"), LOSSES["squared"].offers("probabilities")
        (True, False)
        """
        return getattr(type(self), method) is not getattr(Loss, method)

    def require(self, reference: str, *methods: str) -> None:
        """Check that the loss defines all that a reference needs.

        Raises
        ------
        InputError
            In one line with the names of the loss, the reference and what is missing.
        """
        missing = [method for method in methods if not self.offers(method)]
        if missing:
            raise InputError(f"{reference} needs a loss with {' and '.join(missing)}, which loss {self.name!r} lacks")

    def _lacks(self, method: str) -> InputError:
        return InputError(f"loss {self.name!r} does not define {method}")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__qualname__}({settings})"
