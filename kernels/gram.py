"""Gram matrices of the ReLU kernels, tile by tile: a matrix product gives cosines, the compiled map makes them kernels.

The network, of depth L ≥ 2 (L layers of weights) and width m → ∞, without biases:

    h¹ = U x,   hˡ = m^{-1/2} Wˡ relu(hˡ⁻¹) for 1 < l < L,   f(x) = m^{-1/2} w · relu(hᴸ⁻¹)

with U_ij ~ N(0, u_std²) and every later weight ~ N(0, w_std²); no √2, no 1/√d. With s = w_std, c the cosine of the
angle between x and x', κ₀ and κ₁ as in `relu.py`, c₁ = c and c_{l+1} = κ₁(c_l),

    feature product  Aˡ = ½ (½ s²)^{l−1} u_std² ‖x‖ ‖x'‖ κ₁(c_l)                E relu(hˡ) relu(hˡ')
    NNGP             s² Aᴸ⁻¹                                                    E f(x) f(x')
    NTK              T¹ = x·x',   T^{l+1} = Aˡ + ½ s² κ₀(c_l) Tˡ,   K = Tᴸ      Σ over weights ∂f(x) ∂f(x')

derivatives being with respect to the weights themselves (not to standard normal variables that w_std multiplies). In
depth 2, K = ½ u_std² ‖x‖‖x'‖ κ₁(c) + ½ w_std² x·x' κ₀(c): the first term trains the last layer, the second the first.
(Jacot, Gabriel & Hongler 2018; Arora et al. 2019, eq. 5–9, with their c_σ = 2 taken out.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..runtime.compiling import compiled
from .relu import CHUNK, angles, layers
from .tiles import AngularKernel, Fill, Rows, Tile, as_points, check_scales

RANGE = 900  # of the exponent of 2 of a factor, which leaves room for the points and scales


class Recursion(NamedTuple):
    """The kernel divided by ‖x‖ ‖x'‖, as `relu.layers` makes it: t = first·c, then t ← alpha[l] κ₁ + beta κ₀ t.

    alpha (depth − 1,), float64.
    """

    first: float
    alpha: np.ndarray
    beta: float


@dataclass(frozen=True)
class ReluKernel(AngularKernel):
    """One kernel of an infinitely wide ReLU network, in the convention at the top of this module; immutable.

    Parameters
    ----------
    depth : int
        L ≥ 2, the number of layers of weights; 2 is one hidden layer.
    w_std : float
        s ≥ 0, the standard deviation of the weights after the first layer.
    u_std : float
        ≥ 0, the standard deviation of the weights of the first layer.
    train : "all", "first" or "last"
        The layers that the NTK trains: all (K above), the first (the part of T¹ alone) or the last (Aᴸ⁻¹ alone).
    kind : "ntk" or "nngp"
        Neural tangent kernel, or covariance of the network at initialization.

    Raises
    ------
    ValueError
        A depth that is no whole number of at least 2, a scale that is negative or not finite, a depth and w_std of
        which the kernel leaves float64's range, another word.

    Notes
    -----
    Jacot, Gabriel & Hongler 2018; Arora et al. 2019, eq. 5–9, with their c_σ = 2 taken out.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import ReluKernel
    >>> kernel = ReluKernel(depth=3, train="last")
    >>> kernel.gram(np.eye(2)).round(4)
    array([[0.25  , 0.1234],
           [0.1234, 0.25  ]])
    """

    depth: int = 2
    w_std: float = 1.0
    u_std: float = 1.0
    train: str = "all"
    kind: str = "ntk"

    def __post_init__(self) -> None:
        if not isinstance(self.depth, int | np.integer) or isinstance(self.depth, bool) or self.depth < 2:
            raise ValueError(f"depth = {self.depth!r}: expected a whole number of at least 2")
        check_scales(self)
        beta = 2 * math.log2(self.w_std) - 1 if self.w_std > 0 else 0.0  # its logarithm
        if beta * (self.depth - 1) > RANGE or beta * (self.depth - 2) < -RANGE:
            raise ValueError(
                f"depth = {self.depth}, w_std = {self.w_std!r}: the kernel goes like (w_std²/2)^depth, which is "
                f"{'above' if beta > 0 else 'below'} the range of float64; w_std = √2 keeps its size"
            )

    def recursion(self) -> Recursion:
        """The coefficients for `relu.layers`: the kernel divided by ‖x‖ ‖x'‖.

        Returns
        -------
        Recursion
            (first, alpha, beta), alpha (depth − 1,) float64.

        Examples
        --------
        >>> from meanfield.kernels import ReluKernel
        >>> ReluKernel(w_std=2.0).recursion()
        Recursion(first=1.0, alpha=array([0.5]), beta=2.0)
        """
        beta = 0.5 * self.w_std**2
        alpha = 0.5 * self.u_std**2 * beta ** np.arange(self.depth - 1, dtype=float)
        if self.kind == "nngp" or self.train == "last":
            alpha[:-1] = 0
            return Recursion(0.0, alpha * (self.w_std**2 if self.kind == "nngp" else 1.0), beta)
        return Recursion(1.0, alpha if self.train == "all" else 0 * alpha, beta)

    def diagonal(self, X: np.ndarray) -> np.ndarray:
        """K(x, x) of every point, without the matrix.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.

        Returns
        -------
        ndarray (n,), float64

        Raises
        ------
        ValueError
            X that is no such table, or so large that the kernel overflows.

        Examples
        --------
        >>> from meanfield.kernels import ReluKernel
        >>> ReluKernel().diagonal([[3.0, 4.0], [0.0, 1.0]])
        array([25.,  1.])
        """
        first, alpha, beta = self.recursion()
        t = first
        for a in alpha:
            t = a + beta * t
        return Rows(as_points(X, "X"), t).norms ** 2 * t

    def _scale(self) -> float:
        first, alpha, _ = self.recursion()
        return first + float(alpha.sum())

    def _filler(self, rows: Rows, columns: Rows, threads: int | None) -> Fill:
        recursion = self.recursion()

        def fill(buffer: np.ndarray, i: int, j: int) -> None:
            _map_tile(buffer, rows.tile(i), columns.tile(j), recursion, np.empty((2, CHUNK)))

        return fill


def relu_ntk(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    depth: int = 2,
    w_std: float = 1.0,
    u_std: float = 1.0,
    train: str = "all",
    **storage: Any,
) -> Any:
    """Neural tangent kernel of an infinitely wide ReLU network, in the convention at the top of this module.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    Z : array (k, d), optional
        By default X: the Gram matrix, symmetric to the bit.
    depth : int
        Layers of weights, at least 2.
    w_std, u_std : float
        Standard deviations of the weights after the first layer, and in it.
    train : "all", "first" or "last"
        Which layers are trained.
    **storage
        `dtype`, `out`, `memory_budget` and `threads` of `ReluKernel.gram`.

    Returns
    -------
    ndarray (n, k), or h5py.Dataset (n, k)
        float64 unless `dtype` says otherwise.

    Raises
    ------
    ValueError
        As of `ReluKernel` and `ReluKernel.gram`.

    Notes
    -----
    Jacot, Gabriel & Hongler 2018; Arora et al. 2019, eq. 5–9, with their c_σ = 2 taken out. In depth 2,
    K = ½ u_std² ‖x‖‖x'‖ κ₁(c) + ½ w_std² x·x' κ₀(c), c the cosine of the angle between x and x', and

        κ₀(c) = (π − θ)/π,   κ₁(c) = (sin θ + (π − θ) cos θ)/π,   c = cos θ    (Cho & Saul 2009).

    Examples
    --------
    >>> from meanfield.kernels import relu_ntk
    >>> relu_ntk([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).round(4)
    array([[1.    , 0.1592, 0.    ],
           [0.1592, 1.    , 0.1592],
           [0.    , 0.1592, 1.    ]])
    """
    return ReluKernel(depth, w_std, u_std, train).gram(X, Z, **storage)


def relu_nngp(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    depth: int = 2,
    w_std: float = 1.0,
    u_std: float = 1.0,
    **storage: Any,
) -> Any:
    """Covariance E f(x) f(z) at initialization of the network of `relu_ntk`.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    Z : array (k, d), optional
        By default X: the covariance matrix, symmetric to the bit.
    depth : int
        Layers of weights, at least 2.
    w_std, u_std : float
        Standard deviations of the weights after the first layer, and in it.
    **storage
        `dtype`, `out`, `memory_budget` and `threads` of `ReluKernel.gram`.

    Returns
    -------
    ndarray (n, k), or h5py.Dataset (n, k)
        float64 unless `dtype` says otherwise.

    Raises
    ------
    ValueError
        As of `ReluKernel` and `ReluKernel.gram`.

    Examples
    --------
    >>> from meanfield.kernels import relu_nngp
    >>> relu_nngp([[1.0, 0.0], [0.0, 1.0]]).round(4)
    array([[0.5   , 0.1592],
           [0.1592, 0.5   ]])
    """
    return replace(ReluKernel(depth, w_std, u_std), kind="nngp").gram(X, Z, **storage)


@compiled
def _map_tile(buffer: np.ndarray, rows: Tile, columns: Tile, recursion: Recursion, work: np.ndarray) -> None:
    """Turn the cosines in buffer[:r, :k] into kernel values, r and k the points of rows and columns."""
    first, alpha, beta = recursion
    X, Z = rows.points, columns.points
    for i in range(len(X)):
        for j in range(0, len(Z), CHUNK):
            c = buffer[i, j : min(j + CHUNK, len(Z))]
            z, t = work[0, : c.size], work[1, : c.size]
            angles(c, z, X[i], Z[j : j + CHUNK])
            layers(c, z, t, first, alpha, beta, rows.norms[i], columns.norms[j : j + CHUNK])
