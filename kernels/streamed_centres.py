"""The kernel of many points against some of them, the centres, as what least squares on centres want of it.

Rows of the matrix are computed a tile of points at a time, used twice and dropped. What they give is added up in an
order that depends on n alone, as in `streamed.py`.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np

from ..runtime.communicator import ALONE, Alone
from ..runtime.threads import on_threads, single_threaded_blas
from .gram import ReluKernel
from .streamed import BANDS, Shared, digest_of
from .tiles import TILE, AngularKernel, Rows, as_points

DEPENDENT = 1e-9  # of the largest K(x, x): what others leave of a centre that adds nothing to them


class StreamedCentres(Shared):
    """K (n, M) of points against M of them that are drawn as centres, known by products with it.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    centres : int
        How many to draw, from 1 to n.
    kernel : ReluKernel or NeuronKernel, optional
        By default the relu's of depth 2.
    seed : int
        Of the draw, uniform among the points.
    threads : int, optional
        By default the cores that this process may use.
    ranks : Alone
        As of `StreamedGram`.

    Attributes
    ----------
    n : int
        How many points.
    centres : ndarray (M, d)
        Those that were drawn, less those that the kernel does not tell from combinations of others.
    factor : ndarray (M, M)
        Lower triangular, factor factorᵀ = K of the centres against each other; on the first rank.

    Raises
    ------
    ValueError
        X that is no such table, or so large that the kernel overflows; more centres than points, or none; a kernel
        that is zero at all of them.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedCentres
    >>> centres = StreamedCentres(np.eye(3), 3)
    >>> centres.dot(np.array([1.0, -1.0, 0.0])).round(4)
    array([ 0.8408, -0.8408,  0.    ])
    """

    def __init__(
        self,
        X: np.ndarray,
        centres: int,
        kernel: AngularKernel | None = None,
        *,
        seed: int = 0,
        threads: int | None = None,
        ranks: Alone = ALONE,
    ) -> None:
        super().__init__(ranks)
        self.X, self.kernel, self.threads = as_points(X, "X"), kernel or ReluKernel(), threads
        self.n = len(self.X)
        if not isinstance(centres, int | np.integer) or isinstance(centres, bool) or not 1 <= centres <= self.n:
            raise ValueError(f"centres = {centres!r}: expected a whole number from 1 to the {self.n} points")
        self._drawn: dict[str, Any] = {"centres": centres, "seed": seed}
        drawn = self.X[np.sort(np.random.default_rng(seed).choice(self.n, centres, replace=False))]
        self.factor = np.empty((0, 0))
        self.centres, scale = drawn[ranks.once(lambda: self._independent(drawn))], self.kernel._scale()
        self._rows, self._columns = Rows(self.X, scale), Rows(self.centres, scale)
        self._fill = self.kernel._filler(self._rows, self._columns, threads)
        band = -(-self._rows.tiles // BANDS)
        tiles = self._rows.tiles
        self._bands = [range(first, min(first + band, tiles)) for first in range(0, tiles, band)]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is made anew, and shared with no rank."""
        return partial(StreamedCentres, kernel=self.kernel, threads=self.threads, **self._drawn), (self.X,)

    def dot(self, V: np.ndarray) -> np.ndarray:
        """K V, on this rank alone.

        Parameters
        ----------
        V : array (M,) or (M, C)
            Vectors.

        Returns
        -------
        ndarray (n,) or (n, C), float64

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import StreamedCentres
        >>> StreamedCentres([[2.0, 0.0], [0.0, 1.0]], 2).dot(np.array([1.0, 0.0])).round(4)
        array([4.    , 0.3183])
        """
        return self.kernel.dot(self.X, self.centres, V, threads=self.threads)

    def normal(self, V: np.ndarray, U: np.ndarray | None = None, *, products: str = "float64") -> np.ndarray:
        """Kᵀ (K V + U): one sweep over the points.

        Of several ranks the first calls it while the others `serve`.

        Parameters
        ----------
        V : array (M, C)
            Vectors.
        U : array (n, C), optional
            By default 0.
        products : "float32" or "float64"
            As of `ReluKernel.dot`.

        Returns
        -------
        ndarray (M, C), float64

        Raises
        ------
        ValueError
            Products of another precision.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import StreamedCentres
        >>> StreamedCentres([[2.0]], 1).normal(np.array([[1.0]]), np.array([[-1.0]]))
        array([[12.]])
        """
        out = np.zeros(V.shape)
        for part in self._gathered(len(self._bands), V, U, products):
            out += part
        return out

    def digest(self) -> str:
        """A digest of points, centres and kernel.

        Examples
        --------
        >>> from meanfield.kernels import StreamedCentres
        >>> StreamedCentres([[1.0]], 1).digest() == StreamedCentres([[2.0]], 1).digest()
        False
        """
        return hashlib.sha256(digest_of(self.kernel, self.X).encode() + self.centres.tobytes()).hexdigest()

    def _independent(self, drawn: np.ndarray) -> np.ndarray:
        """Which of the centres are independent, by pivoting; their factor is kept."""
        from scipy.linalg.lapack import dpstrf

        K = self.kernel.gram(drawn, threads=self.threads)
        with single_threaded_blas():
            packed, order, rank, _ = dpstrf(K.T, tol=DEPENDENT * K.diagonal().max(), lower=1, overwrite_a=1)
        if rank == 0:
            raise ValueError("the kernel is zero at every centre: expected points that are not")
        self.factor = np.tril(packed[:rank, :rank])
        return np.asarray(order[:rank] - 1)

    def _sums(self, V: np.ndarray, U: np.ndarray | None, products: str) -> np.ndarray:
        """(bands of this rank, M, C): what each gives."""
        mine = self._dealt(len(self._bands), self.ranks.rank)
        rows, columns = self._rows.in_precision(products), self._columns.in_precision(products)
        sums = np.zeros((len(mine), *V.shape))

        def band(k: int) -> None:
            panel = np.empty((TILE, len(V)))
            for i in self._bands[mine[k]]:
                here = slice(i * TILE, i * TILE + TILE)
                for j, tile in self.kernel._tiles(self._fill, rows, i, columns, range(columns.tiles)):
                    panel[: len(tile), j * TILE : j * TILE + TILE] = tile
                part = panel[: len(tile)]
                values = part @ V if U is None else part @ V + U[here]
                sums[k] += part.T @ values

        on_threads(band, range(len(mine)), self.threads)
        return sums
