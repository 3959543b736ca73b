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
from typing import Any

import numpy as np

from ..runtime.compiling import compiled
from .relu import CHUNK, angles, layers
from .threads import on_threads

TILE = 256  # rows and columns of a tile: 512 KiB, which product, map and both writes find in the second-level cache
PAD = 8  # so that the elements of a tile's column do not all fall into the same cache sets when it is written across


@dataclass(frozen=True)
class ReluKernel:
    """One kernel: depth ≥ 2, scales w_std and u_std ≥ 0, kind "ntk" or "nngp", and for the NTK the layers trained.

    train: "all" (K above), "first" (the part of T¹ alone) or "last" (Aᴸ⁻¹ alone).
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

    def recursion(self) -> tuple[float, np.ndarray, float]:
        """(first, alpha (depth−1,), beta) for `relu.layers`: the kernel divided by ‖x‖ ‖x'‖."""
        beta = 0.5 * self.w_std**2
        alpha = 0.5 * self.u_std**2 * beta ** np.arange(self.depth - 1, dtype=float)
        if self.kind == "nngp" or self.train == "last":
            alpha[:-1] = 0
            return 0.0, alpha * (self.w_std**2 if self.kind == "nngp" else 1.0), beta
        return 1.0, alpha if self.train == "all" else 0 * alpha, beta

    def diagonal(self, X: np.ndarray) -> np.ndarray:
        """K(x, x) of every row of X (n, d): (n,) float64."""
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
        """K(x_i, z_j) as an (n, k) array of `dtype`; without Z the (n, n) Gram matrix of X, symmetric to the bit.

        out: a path; a matrix larger than memory_budget bytes (without one, any matrix) is then written there, to HDF5
        (dataset "K", returned open) if it ends in .h5 or .hdf5, else to a memory-mapped .npy. Raises ValueError for
        bad input, for values beyond the range of `dtype`, and for a matrix over the budget without a path.
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
        """K(Z, X) @ coef for coef (n,) or (n, C), as (k,) or (k, C) float64; no matrix larger than a tile is held."""
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
        first, alpha, beta = self.recursion()
        x, x_unit, x_norm = rows.tile(i)
        buffer, work = np.empty((TILE, TILE + PAD)), np.empty((2, CHUNK))
        for j in which:
            z, z_unit, z_norm = columns.tile(j)
            np.matmul(x_unit, z_unit.T, out=buffer[: len(x), : len(z)])
            _map_tile(buffer, x, z, x_norm, z_norm, first, alpha, beta, work)
            yield j, buffer[: len(x), : len(z)]


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
    """Neural tangent kernel of an infinitely wide ReLU network, (n, k) float64; convention at the top of this module.

    X (n, d); Z (k, d), or None for the Gram matrix of X. train: "all", "first" or "last" layer. Further options
    (dtype, out, memory_budget, threads) and errors are those of `ReluKernel.gram`.
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
    """Covariance E f(x) f(z) of the same network at initialization, (n, k) float64; arguments as for `relu_ntk`."""
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

    def tile(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = slice(i * TILE, i * TILE + TILE)
        return self.X[part], self.unit[part], self.norms[part]


@compiled
def _map_tile(
    buffer: np.ndarray,
    X: np.ndarray,
    Z: np.ndarray,
    x_norm: np.ndarray,
    z_norm: np.ndarray,
    first: float,
    alpha: np.ndarray,
    beta: float,
    work: np.ndarray,
) -> None:
    """Turn the cosines in buffer[:r, :k] into kernel values, r and k the rows of X and Z."""
    for i in range(len(X)):
        for j in range(0, len(Z), CHUNK):
            c = buffer[i, j : min(j + CHUNK, len(Z))]
            z, t = work[0, : c.size], work[1, : c.size]
            angles(c, z, X[i], Z[j : j + CHUNK])
            layers(c, z, t, first, alpha, beta, x_norm[i], z_norm[j : j + CHUNK])


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
