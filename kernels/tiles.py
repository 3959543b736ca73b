"""Matrices of kernels that are functions of an angle and two lengths, tile by tile: what all such kernels share.

A matrix product gives cosines; what turns a tile of them into kernel values is the kernel's own.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime.compiling import compiled
from ..runtime.threads import on_threads

TILE = 256  # rows and columns of a tile: 512 KiB, which product, map and both writes find in the second-level cache
PAD = 8  # so that the elements of a tile's column do not all fall into the same cache sets when it is written across


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


def check_scales(kernel: Any) -> None:
    """ValueError unless the fields w_std, u_std, train and kind of a kernel are what they may be."""
    for name in ("w_std", "u_std"):
        value = getattr(kernel, name)
        if not isinstance(value, int | float | np.number) or not 0 <= float(value) <= 1e100:
            raise ValueError(f"{name} = {value!r}: expected a number from 0 to 1e100")
    if kernel.train not in ("all", "first", "last"):
        raise ValueError(f'train = {kernel.train!r}: expected "all", "first" or "last"')
    if kernel.kind not in ("ntk", "nngp"):
        raise ValueError(f'kind = {kernel.kind!r}: expected "ntk" or "nngp"')


class Tile(NamedTuple):
    """The rows of a tile: points (r, d) scaled by powers of two, unit rows (r, d), norms (r,) of what was given.

    The unit rows are float32 where cosines are asked for in that precision.
    """

    points: np.ndarray
    unit: np.ndarray
    norms: np.ndarray


class Rows:
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

    def in_precision(self, products: str) -> Rows:
        """The same with unit rows in that precision."""
        if products not in ("float32", "float64"):
            raise ValueError(f'products = {products!r}: expected "float32" or "float64"')
        other = copy.copy(self)
        other.unit = self.unit.astype(products, copy=False)
        return other

    def tile(self, i: int) -> Tile:
        part = slice(i * TILE, i * TILE + TILE)
        return Tile(self.X[part], self.unit[part], self.norms[part])


Fill = Callable[[np.ndarray, int, int], None]  # cosines of tile (i, j), a buffer's corner, to kernel values, in place


class AngularKernel:
    """A kernel of angle and lengths: its matrix, and products with it. A kernel says how a tile is filled."""

    def diagonal(self, X: np.ndarray) -> np.ndarray:
        """K(x, x) of every point."""
        raise NotImplementedError

    def _scale(self) -> float:
        """About K(x, x)/‖x‖², for the check that nothing overflows."""
        raise NotImplementedError

    def _filler(self, rows: Rows, columns: Rows, threads: int | None) -> Fill:
        raise NotImplementedError

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
        rows = Rows(as_points(X, "X"), self._scale())
        columns = rows if Z is None else Rows(as_points(Z, "Z", rows.X.shape[1]), self._scale())
        fill = self._filler(rows, columns, threads)
        target = _allocate((rows.X.shape[0], columns.X.shape[0]), dtype, out, memory_budget)
        store = _store_array if isinstance(target, np.ndarray) else _store_dataset(threading.Lock())

        def panel(i: int) -> None:
            last = i + 1 if Z is None else columns.tiles
            for j, tile in self._tiles(fill, rows, i, columns, range(last)):
                store(tile, target, i * TILE, j * TILE, Z is None)

        on_threads(panel, range(rows.tiles - 1, -1, -1), threads)
        if dtype == "float32" and isinstance(target, np.ndarray) and np.isinf(target.max(initial=0)):
            raise ValueError("kernel values exceed the range of float32: rescale X or use float64")
        return target

    def dot(
        self, Z: np.ndarray, X: np.ndarray, coef: np.ndarray, *, products: str = "float64", threads: int | None = None
    ) -> np.ndarray:
        """K(Z, X) @ coef, streamed: no matrix larger than a tile is held.

        Parameters
        ----------
        Z : array (k, d)
            Where f = Σ_i coef_i K(x_i, ·) is wanted.
        X : array (n, d)
            Training points.
        coef : ndarray (n,) or (n, C)
            Of a fitted predictor.
        products : "float32" or "float64"
            What the scalar products of points are computed in. With float32, in half the time, an entry of K errs by
            some 1e-7 of ‖z‖ ‖x‖, which the sum over training points can make more of.
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
        columns = Rows(as_points(X, "X"), self._scale()).in_precision(products)
        rows = Rows(as_points(Z, "Z", columns.X.shape[1]), self._scale()).in_precision(products)
        if coef.shape[0] != columns.X.shape[0]:
            raise ValueError(f"coef has {coef.shape[0]} rows: expected one for each of the {columns.X.shape[0]} points")
        fill, out = self._filler(rows, columns, threads), np.zeros((rows.X.shape[0], *coef.shape[1:]))

        def panel(i: int) -> None:
            for j, tile in self._tiles(fill, rows, i, columns, range(columns.tiles)):
                out[i * TILE : i * TILE + TILE] += tile @ coef[j * TILE : j * TILE + TILE]

        on_threads(panel, range(rows.tiles), threads)
        return out

    def _tiles(self, fill: Fill, rows: Rows, i: int, columns: Rows, which: range) -> Iterator[tuple[int, np.ndarray]]:
        x, buffer = rows.tile(i), np.empty((TILE, TILE + PAD))
        cosines = buffer if x.unit.dtype == np.float64 else np.empty(buffer.shape, x.unit.dtype)
        for j in which:
            z = columns.tile(j)
            tile = buffer[: len(x.points), : len(z.points)]
            corner = cosines[: len(x.points), : len(z.points)]
            np.matmul(x.unit, z.unit.T, out=corner)
            if cosines is not buffer:
                tile[...] = corner
            fill(buffer, i, j)  # and not the corner, whose rows the compiler does not know to be without gaps
            yield j, tile


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
