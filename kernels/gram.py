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

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime.compiling import compiled
from ..runtime.threads import on_threads
from .relu import CHUNK, angles, layers

TILE = 256  # rows and columns of a tile: 512 KiB, which product, map and both writes find in the second-level cache
PAD = 8  # so that the elements of a tile's column do not all fall into the same cache sets when it is written across


class Recursion(NamedTuple):
    """The kernel divided by ‖x‖ ‖x'‖, as `relu.layers` makes it: t = first·c, then t ← alpha[l] κ₁ + beta κ₀ t.

    alpha (depth − 1,), float64.
    """

    first: float
    alpha: np.ndarray
    beta: float


@dataclass(frozen=True)
class ReluKernel:
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
        A depth that is no whole number of at least 2, a scale that is negative or not finite, another word.

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
        for name in ("w_std", "u_std"):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or not 0 <= float(value) < np.inf:
                raise ValueError(f"{name} = {value!r}: expected a finite number of at least 0")
        if self.train not in ("all", "first", "last"):
            raise ValueError(f'train = {self.train!r}: expected "all", "first" or "last"')
        if self.kind not in ("ntk", "nngp"):
            raise ValueError(f'kind = {self.kind!r}: expected "ntk" or "nngp"')

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
        return _Rows(as_points(X, "X"), t).norms ** 2 * t

    def gram(
        self,
        X: np.ndarray,
        Z: np.ndarray | None = None,
        *,
        dtype: str = "float64",
        out: Any = None,
        memory_budget: int | None = None,
        threads: int | None = None,
    ) -> Any:
        """K(x_i, z_j) of all pairs; without Z the Gram matrix of X, symmetric to the bit.

        Parameters
        ----------
        X : array (n, d)
            Points, finite.
        Z : array (k, d), optional
            By default X.
        dtype : "float32" or "float64"
            Of the matrix; it is computed in float64.
        out : path, optional
            A matrix larger than `memory_budget` (without one, any matrix) is written there: to HDF5 if the path ends
            in .h5 or .hdf5, else to a memory-mapped .npy.
        memory_budget : int, optional
            Largest size in bytes of a matrix held in memory.
        threads : int, optional
            By default the cores that this process may use.

        Returns
        -------
        ndarray (n, k), or h5py.Dataset (n, k)
            Of `dtype`; with HDF5 the dataset "K" of the file, open.

        Raises
        ------
        ValueError
            Points that are no such tables, values beyond the range of `dtype`, a matrix over the budget without a
            path, a path that ends otherwise, threads below 1.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import ReluKernel
        >>> ReluKernel().gram(np.eye(2), [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], dtype="float32").round(4)
        array([[2.    , 0.    , 0.    ],
               [0.3183, 0.1592, 0.    ]], dtype=float32)
        """
        first, alpha, _ = self.recursion()
        rows = _Rows(as_points(X, "X"), first + alpha.sum())
        columns = rows if Z is None else _Rows(as_points(Z, "Z", rows.X.shape[1]), first + alpha.sum())
        target = _allocate((rows.X.shape[0], columns.X.shape[0]), dtype, out, memory_budget)
        store = _store_array if isinstance(target, np.ndarray) else _store_dataset(threading.Lock())

        def panel(i: int) -> None:
            last = i + 1 if Z is None else columns.tiles
            for j, tile in self._tiles(rows, i, columns, range(last)):
                store(tile, target, i * TILE, j * TILE, Z is None)

        on_threads(panel, range(rows.tiles - 1, -1, -1), threads)
        if dtype == "float32" and isinstance(target, np.ndarray) and np.isinf(target.max(initial=0)):
            raise ValueError("kernel values exceed the range of float32: rescale X or use float64")
        return target

    def dot(self, Z: np.ndarray, X: np.ndarray, coef: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """K(Z, X) @ coef, streamed: no matrix larger than a tile is held.

        Parameters
        ----------
        Z : array (k, d)
            Where f = Σ_i coef_i K(x_i, ·) is wanted.
        X : array (n, d)
            Training points.
        coef : ndarray (n,) or (n, C)
            Of a fitted predictor.
        threads : int, optional
            By default the cores that this process may use.

        Returns
        -------
        ndarray (k,) or (k, C), float64

        Raises
        ------
        ValueError
            Points that are no such tables, a coef of another length, a kernel that overflows, threads below 1.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import ReluKernel
        >>> ReluKernel().dot([[1.0, 1.0]], np.eye(2), np.array([1.0, -1.0]))
        array([0.])
        """
        first, alpha, _ = self.recursion()
        columns = _Rows(as_points(X, "X"), first + alpha.sum())
        rows = _Rows(as_points(Z, "Z", columns.X.shape[1]), first + alpha.sum())
        if coef.shape[0] != columns.X.shape[0]:
            raise ValueError(f"coef has {coef.shape[0]} rows: expected one for each of the {columns.X.shape[0]} points")
        out = np.zeros((rows.X.shape[0], *coef.shape[1:]))

        def panel(i: int) -> None:
            for j, tile in self._tiles(rows, i, columns, range(columns.tiles)):
                out[i * TILE : i * TILE + TILE] += tile @ coef[j * TILE : j * TILE + TILE]

        on_threads(panel, range(rows.tiles), threads)
        return out

    def _tiles(self, rows: _Rows, i: int, columns: _Rows, which: range) -> Iterator[tuple[int, np.ndarray]]:
        recursion, x = self.recursion(), rows.tile(i)
        buffer, work = np.empty((TILE, TILE + PAD)), np.empty((2, CHUNK))
        for j in which:
            z = columns.tile(j)
            tile = buffer[: len(x.points), : len(z.points)]
            np.matmul(x.unit, z.unit.T, out=tile)
            _map_tile(buffer, x, z, recursion, work)
            yield j, tile


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


def as_points(X: Any, name: str, features: int | None = None) -> np.ndarray:
    """X as a finite float64 array (n, d), n ≥ 1, d ≥ 1; ValueError names what is wrong."""
    try:
        points = np.ascontiguousarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a table of numbers") from None
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"{name} has shape {np.shape(X)}: expected (points, features), at least one of each")
    if features is not None and points.shape[1] != features:
        raise ValueError(f"{name} has {points.shape[1]} features: expected {features}, as in training")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} contains NaN or infinity: expected finite numbers")
    return points


class _Tile(NamedTuple):
    """The rows of a tile: points (r, d) scaled by powers of two, unit rows (r, d), norms (r,) of what was given."""

    points: np.ndarray
    unit: np.ndarray
    norms: np.ndarray


class _Rows:
    """Points ready for tiling: rows scaled by powers of two (exactly) to size one, unit rows, norms."""

    def __init__(self, X: np.ndarray, scale: float) -> None:
        exponent = np.frexp(np.abs(X).max(axis=1))[1]
        self.X = np.ldexp(X, -exponent[:, None])
        norm = np.sqrt(np.einsum("ij,ij->i", self.X, self.X))
        self.unit = self.X / np.where(norm == 0, 1.0, norm)[:, None]
        self.norms = np.ldexp(norm, exponent)
        with np.errstate(over="ignore"):
            if not np.isfinite(self.norms.max() ** 2 * max(scale, 1.0)):
                raise ValueError("points so large that the kernel overflows: rescale them")
        self.tiles = -(-len(X) // TILE)

    def tile(self, i: int) -> _Tile:
        part = slice(i * TILE, i * TILE + TILE)
        return _Tile(self.X[part], self.unit[part], self.norms[part])


@compiled
def _map_tile(buffer: np.ndarray, rows: _Tile, columns: _Tile, recursion: Recursion, work: np.ndarray) -> None:
    """Turn the cosines in buffer[:r, :k] into kernel values, r and k the points of rows and columns."""
    first, alpha, beta = recursion
    X, Z = rows.points, columns.points
    for i in range(len(X)):
        for j in range(0, len(Z), CHUNK):
            c = buffer[i, j : min(j + CHUNK, len(Z))]
            z, t = work[0, : c.size], work[1, : c.size]
            angles(c, z, X[i], Z[j : j + CHUNK])
            layers(c, z, t, first, alpha, beta, rows.norms[i], columns.norms[j : j + CHUNK])


@compiled
def _store_array(tile: np.ndarray, out: np.ndarray, i0: int, j0: int, symmetric: bool) -> None:
    """Write a tile at (i0, j0), and if symmetric its mirror image; on the diagonal the lower half is the original."""
    rows, columns = tile.shape
    if symmetric and i0 == j0:
        for i in range(rows):
            for j in range(i + 1):
                out[i0 + i, j0 + j] = tile[i, j]
                out[j0 + j, i0 + i] = tile[i, j]
        return
    for i in range(rows):
        for j in range(columns):
            out[i0 + i, j0 + j] = tile[i, j]
    if symmetric:
        for j in range(columns):
            for i in range(rows):
                out[j0 + j, i0 + i] = tile[i, j]


def _store_dataset(lock: Any) -> Callable[..., None]:
    def store(tile: np.ndarray, out: Any, i0: int, j0: int, symmetric: bool) -> None:
        rows, columns = slice(i0, i0 + tile.shape[0]), slice(j0, j0 + tile.shape[1])
        if symmetric and i0 == j0:
            tile = np.tril(tile) + np.tril(tile, -1).T
        with lock:
            out[rows, columns] = tile
            if symmetric and i0 != j0:
                out[columns, rows] = tile.T

    return store


def _allocate(shape: tuple[int, int], dtype: str, out: Any, memory_budget: int | None) -> Any:
    if dtype not in ("float32", "float64"):
        raise ValueError(f'dtype = {dtype!r}: expected "float32" or "float64"')
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    fits = memory_budget is not None and size <= memory_budget
    if out is None and memory_budget is not None and not fits:
        raise ValueError(
            f"a kernel matrix of {size:,} bytes exceeds the memory budget of {memory_budget:,}: "
            "give out=, a path ending in .npy or .h5, to keep it on disk"
        )
    if out is None or fits:
        return np.empty(shape, dtype)
    if Path(out).suffix in (".h5", ".hdf5"):
        import h5py

        return h5py.File(out, "w").create_dataset("K", shape, dtype, chunks=tuple(min(TILE, s) for s in shape))
    if Path(out).suffix != ".npy":
        raise ValueError(f"out = {str(out)!r}: expected a path ending in .npy, .h5 or .hdf5")
    return np.lib.format.open_memmap(out, "w+", dtype, shape)
