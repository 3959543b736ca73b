"""A kernel that learns its metric, from the average gradient outer product (AGOP) of the function it has fitted.

The recursive feature machine of Radhakrishnan, Beaglehole, Pandit & Belkin (arXiv 2212.13881, algorithm 1):

    k_M(x, z) = k(M^{1/2} x, M^{1/2} z),   f = Σ_i coef_i k_M(x_i, ·),   M ← (1/n) Σ_i ∇f(x_i) ∇f(x_i)ᵀ

beginning with M = I, a number of times; several outputs add up their outer products. The gradients are not centred. M
has a scale, which its gradients do not set: here it is always the one at which the training points have, under M, a
mean squared distance of 1 over all pairs (Laplace, Gaussian), or a mean squared length of 1 (ReLU NTK). So a bandwidth
means the same at every step, K(x, x) is 1 (for the NTK on average), and rescaling X or y changes no decision.

With y = M^{1/2} x the gradient of k(y, y') by y is P y + Q y' with two numbers P and Q, which `slopes` gives for all
pairs. Where k has a kink, at y = y' (Laplace) or y parallel to y' (ReLU NTK), the part that jumps counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from .gram import ReluKernel
from .solve import Ridge
from .tiles import as_points
from .weights import check_weights

BLOCK = 1024  # points at which a function or its gradients are computed at once
Slopes = tuple[np.ndarray, np.ndarray]  # P and Q, each (k, n)


class Solver(Protocol):
    """What fits coefficients to a Gram matrix: `Ridge`, `Interpolation`, `Logistic`, or one's own."""

    coef: np.ndarray

    @property
    def fit(self) -> Callable[..., Any]:
        """Of (K, y), and `weights` (n,) where the machine is given them: leaves (n,) or (n, C) in `coef`."""


class _Radial(NamedTuple):
    """exp(−(r/L)^p / p), r the distance and L the bandwidth: Laplace for p = 1, Gaussian for p = 2."""

    power: int
    bandwidth: float

    def square(self, X: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """S (d, d) for which tr(M S) is the mean squared distance under M."""
        centred = X - shares @ X
        return np.asarray(2 * (centred.T * shares) @ centred)

    def values(self, Y: np.ndarray, Z: np.ndarray) -> np.ndarray:
        return self._values(_distances(Y, Z))

    def slopes(self, Y: np.ndarray, Z: np.ndarray) -> Slopes:
        r = _distances(Y, Z)
        inverse = np.divide(1, r, out=np.zeros_like(r), where=r > 0) if self.power == 1 else 1.0
        towards = self._values(r) * inverse / self.bandwidth**self.power
        return -towards, towards

    def _values(self, r: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-((r / self.bandwidth) ** self.power) / self.power))


class _NTK(NamedTuple):
    """½ ‖y‖‖y'‖ κ₁(c) + ½ y·y' κ₀(c), c the cosine of the angle: `ReluKernel` with both scales 1, which is depth 2."""

    def square(self, X: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """S (d, d) for which tr(M S) is the mean squared length under M."""
        return np.asarray((X.T * shares) @ X)

    def values(self, Y: np.ndarray, Z: np.ndarray) -> np.ndarray:
        return np.asarray(ReluKernel().gram(Y, Z))

    def slopes(self, Y: np.ndarray, Z: np.ndarray) -> Slopes:
        y, z = (np.linalg.norm(points, axis=1) for points in (Y, Z))
        lengths = np.outer(y, z)
        c = np.clip(np.divide(Y @ Z.T, lengths, out=np.zeros_like(lengths), where=lengths > 0), -1, 1)
        sine = np.sqrt((1 - c) * (1 + c))
        kink = np.divide(c, np.pi * sine, out=np.zeros_like(c), where=sine > 0)
        ratio = np.divide(z, y[:, None], out=np.zeros_like(c), where=lengths > 0)
        return 0.5 * ratio * (sine / np.pi - c * kink), 1 - np.arccos(c) / np.pi + 0.5 * kink


class RecursiveFeatureMachine:
    """Fit, take the average gradient outer product of f as the metric M, and fit again, a number of times.

    Parameters
    ----------
    kernel : "ntk", "laplace" or "gaussian"
        k(M^{1/2} x, M^{1/2} z) with the ReLU NTK of depth 2, exp(−r/L) or exp(−½ (r/L)²), r the distance.
    solver : object with fit(K, y) and coef, optional
        Called anew at each step; by default `Ridge(1e-3)`, where K(x, x) is about 1.
    bandwidth : float
        L > 0, in units of the root mean squared distance of the training points under M; the NTK has none.
    iterations : int
        How often M is learned, at least 0; at 0 it is a multiple of I.
    diagonal : bool
        Of the outer products only the diagonal is kept: each coordinate has a weight, and a rotation matters. Where
        few coordinates count, that takes fewer points (Zhu, Davis, Drusvyatskiy & Fazel, arXiv 2505.08277).

    Attributes
    ----------
    M : ndarray (d, d)
        The metric of the last fit, symmetric and positive semidefinite, scaled as the top of this module says.
    coef : ndarray (n,) or (n, C)
        Coefficients of the training points.

    Raises
    ------
    ValueError
        Another kernel, a bandwidth that is not positive and finite, iterations that are no whole number of at least 0.

    Notes
    -----
    Radhakrishnan, Beaglehole, Pandit & Belkin, arXiv 2212.13881, algorithm 1. A choice of reg by leave-one-out at each
    step is a poor one where little has been learned yet: it smooths away what M would be learned from.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import RecursiveFeatureMachine
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> machine = RecursiveFeatureMachine("gaussian").fit(X, X[:, 0] * X[:, 1])
    >>> bool(np.trace(machine.M[:2, :2]) > 0.999 * np.trace(machine.M))
    True
    """

    def __init__(
        self,
        kernel: str = "ntk",
        *,
        solver: Solver | None = None,
        bandwidth: float = 1.0,
        iterations: int = 5,
        diagonal: bool = False,
    ) -> None:
        if not isinstance(bandwidth, int | float | np.number) or not 0 < bandwidth < np.inf:
            raise ValueError(f"bandwidth = {bandwidth!r}: expected a positive finite number")
        if not isinstance(iterations, int | np.integer) or isinstance(iterations, bool) or iterations < 0:
            raise ValueError(f"iterations = {iterations!r}: expected a whole number of at least 0")
        radial = {"laplace": _Radial(1, bandwidth), "gaussian": _Radial(2, bandwidth)}
        kernels: dict[str, _Radial | _NTK] = {"ntk": _NTK(), **radial}
        if kernel not in kernels:
            raise ValueError(f"kernel = {kernel!r}: expected one of {', '.join(kernels)}")
        self.kernel = kernels[kernel]
        self.solver: Solver = Ridge(1e-3) if solver is None else solver
        self.iterations, self.diagonal = iterations, diagonal

    def fit(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Fit with M ∝ I; then learn M and fit with it, `iterations` times.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        y : array (n,) or (n, C)
            Targets, as the solver takes them.
        weights : array (n,), optional
            Of the examples, each > 0, in the means of the metric, and handed to the solver's `fit`; by default 1.

        Returns
        -------
        RecursiveFeatureMachine
            Itself.

        Raises
        ------
        ValueError
            X that is no such table; as of the solver's `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Interpolation, RecursiveFeatureMachine
        >>> machine = RecursiveFeatureMachine(solver=Interpolation(), iterations=1)
        >>> machine.fit(np.eye(2), [1.0, 0.0]).M.round(4)
        array([[ 1.9895, -0.1286],
               [-0.1286,  0.0105]])
        """
        X = as_points(X, "X")
        counts = check_weights(weights, len(X))
        shares, options = counts / counts.sum(), {} if weights is None else {"weights": counts}
        self._fit_under(np.eye(X.shape[1]), X, y, shares, options)
        for _ in range(self.iterations):
            gradients = self.gradients(X).reshape(len(X), -1, X.shape[1])
            if not gradients.any():  # f is constant: there is nothing to learn from
                break
            gradients = (np.sqrt(shares)[:, None, None] * gradients).reshape(-1, X.shape[1])
            products = gradients.T @ gradients
            self._fit_under(np.diag(np.diag(products)) if self.diagonal else products, X, y, shares, options)
        return self

    def predict(self, Z: np.ndarray) -> np.ndarray:
        """f at the points, some at a time: no (k, n) matrix is held.

        Parameters
        ----------
        Z : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k,) or (k, C), float64

        Raises
        ------
        ValueError
            Before `fit`; Z that is no such table, or of another d.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Interpolation, RecursiveFeatureMachine
        >>> machine = RecursiveFeatureMachine("laplace", solver=Interpolation(), iterations=2)
        >>> machine.fit(np.eye(3), [1.0, 0.0, -1.0]).predict([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).round(4) + 0
        array([1., 0.])
        """
        blocks = self._blocks(Z)
        return np.concatenate([self.kernel.values(Y, self._points) @ self.coef for Y in blocks])

    def gradients(self, Z: np.ndarray) -> np.ndarray:
        """∇f at the points, with respect to x itself; at a kink of the kernel, that kernel's part is 0.

        Parameters
        ----------
        Z : array (k, d)
            Points, finite.

        Returns
        -------
        ndarray (k, d) or (k, C, d), float64

        Raises
        ------
        ValueError
            Before `fit`; Z that is no such table, or of another d.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import RecursiveFeatureMachine
        >>> machine = RecursiveFeatureMachine(iterations=0).fit(np.eye(2), [1.0, -1.0])
        >>> machine.gradients([[1.0, 1.0]]).round(4)
        array([[ 1.08, -1.08]])
        """
        return np.concatenate([self._block_gradients(Y) for Y in self._blocks(Z)])

    def _fit_under(
        self, M: np.ndarray, X: np.ndarray, y: np.ndarray, shares: np.ndarray, options: dict[str, np.ndarray]
    ) -> None:
        size = float(np.sum(M * self.kernel.square(X, shares)))
        self.M = M / size if size > 0 else M
        squares, vectors = np.linalg.eigh(self.M)
        self._root = (vectors * np.sqrt(np.maximum(squares, 0))) @ vectors.T
        self._points = X @ self._root
        self.solver.fit(self.kernel.values(self._points, self._points), y, **options)
        self.coef = self.solver.coef

    def _block_gradients(self, Y: np.ndarray) -> np.ndarray:
        P, Q = self.kernel.slopes(Y, self._points)
        parts = [(P @ a)[:, None] * Y + (Q * a) @ self._points for a in self.coef.reshape(len(Q.T), -1).T]
        return np.asarray(np.stack(parts, axis=1).reshape(len(Y), *self.coef.shape[1:], -1) @ self._root)

    def _blocks(self, Z: np.ndarray) -> Iterator[np.ndarray]:
        """M^{1/2} z of the points, some at a time."""
        if not hasattr(self, "coef"):
            raise ValueError("RecursiveFeatureMachine: call fit before predict or gradients")
        Z = as_points(Z, "Z", len(self._root))
        return (Z[i : i + BLOCK] @ self._root for i in range(0, len(Z), BLOCK))


def _distances(Y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist  # differences, not products: equal points are at distance 0

    return np.asarray(cdist(Y, Z))
