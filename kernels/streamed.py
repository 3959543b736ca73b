"""A Gram matrix that is never there: products with it, tile by tile, and single columns of it.

Each tile serves twice, K_ij for row i and its mirror image for row j. What the tiles give is added up in an order that
depends on n alone: the tiles are cut into some thirty bands, each pair of bands is summed by itself, by whichever
thread or rank it falls to, and the sums are then added one after the other. So a product has the same bits for any
number of threads and of ranks (on processors of one kind, with one BLAS).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..runtime.communicator import ALONE, Alone
from ..runtime.threads import on_threads
from .gram import ReluKernel
from .tiles import TILE, AngularKernel, Rows, as_points

BANDS = 32  # at most: 528 pairs to share out, and 33 times the length of a vector to hold
WIDE = 64  # vectors from which on that is too much to hold: tiles then serve once, by bands of rows


class Shared:
    """Sums over pieces of work that are dealt out in turn to the ranks of a job: the first asks, the others serve.

    Parameters
    ----------
    ranks : Alone
        The ranks.

    Examples
    --------
    >>> from meanfield.kernels.streamed import Shared
    >>> from meanfield.runtime.communicator import ALONE
    >>> Shared(ALONE).ranks.leads
    True
    """

    def __init__(self, ranks: Alone) -> None:
        self.ranks = ranks

    def serve(self) -> None:
        """Take a share of every product that the first rank asks for, until it calls `dismiss`: on the other ranks.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import StreamedGram
        >>> gram = StreamedGram(np.eye(2))
        >>> if gram.ranks.leads:
        ...     product = gram.dot(np.ones(2))
        ...     gram.dismiss()
        ... else:
        ...     gram.serve()
        """
        while (asked := self.ranks.broadcast(None)) is not None:
            self.ranks.send(self._sums(*asked), 0)

    def dismiss(self) -> None:
        """End the `serve` of the other ranks.

        Examples
        --------
        >>> from meanfield.kernels import StreamedGram
        >>> StreamedGram([[1.0]]).dismiss()
        """
        self.ranks.broadcast(None)

    def _sums(self, *asked: Any) -> np.ndarray:
        """Of this rank's pieces, one after the other along the first axis."""
        raise NotImplementedError

    def _dealt(self, pieces: int, rank: int) -> range:
        return range(rank, pieces, self.ranks.size)

    def _gathered(self, pieces: int, *asked: Any) -> Iterator[np.ndarray]:
        """The sums of all pieces, in their order, on the first rank."""
        self.ranks.broadcast(asked)
        sums = [self._sums(*asked)]
        for rank in range(1, self.ranks.size):
            shape = (len(self._dealt(pieces, rank)), *sums[0].shape[1:])
            sums.append(self.ranks.receive(shape, np.float64, rank))
        return (sums[k % self.ranks.size][k // self.ranks.size] for k in range(pieces))


class StreamedGram(Shared):
    """The Gram matrix K (n, n) of points, known by products with it: it takes the memory of the points, not of n².

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    kernel : ReluKernel or NeuronKernel, optional
        By default the relu's of depth 2.
    threads : int, optional
        By default the cores that this process may use.
    ranks : Alone
        The ranks of an MPI job that share the work (`meanfield.runtime.communicator.world()`), each with the same
        points; by default this process alone.

    Attributes
    ----------
    n : int
        How many points.

    Raises
    ------
    ValueError
        X that is no such table, or so large that the kernel overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedGram
    >>> StreamedGram(np.eye(2)).dot(np.array([1.0, -1.0])).round(4)
    array([ 0.8408, -0.8408])
    """

    def __init__(
        self,
        X: np.ndarray,
        kernel: AngularKernel | None = None,
        *,
        threads: int | None = None,
        ranks: Alone = ALONE,
    ) -> None:
        super().__init__(ranks)
        self.X, self.kernel, self.threads = as_points(X, "X"), kernel or ReluKernel(), threads
        self._rows = {"float64": Rows(self.X, self.kernel._scale())}
        rows = self._rows["float64"]
        self._fill = self.kernel._filler(rows, rows, threads)
        self.n, self._band = len(self.X), -(-rows.tiles // BANDS)
        bands = [range(first, min(first + self._band, rows.tiles)) for first in range(0, rows.tiles, self._band)]
        self._pairs = [(bands[a], bands[b]) for a in range(len(bands)) for b in range(a + 1)]
        self._whole = [(band, range(rows.tiles)) for band in bands]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is made anew, and shared with no rank."""
        return partial(StreamedGram, threads=self.threads), (self.X, self.kernel)

    def diagonal(self) -> np.ndarray:
        """K(x, x) of every point.

        Returns
        -------
        ndarray (n,), float64

        Examples
        --------
        >>> from meanfield.kernels import StreamedGram
        >>> StreamedGram([[3.0, 4.0], [0.0, 1.0]]).diagonal()
        array([25.,  1.])
        """
        return self.kernel.diagonal(self.X)

    def columns(self, which: np.ndarray) -> np.ndarray:
        """Some columns of K.

        Parameters
        ----------
        which : array (k,) of int
            Their numbers.

        Returns
        -------
        ndarray (n, k), float64

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import StreamedGram
        >>> StreamedGram(np.eye(3)).columns(np.array([1])).round(4)
        array([[0.1592],
               [1.    ],
               [0.1592]])
        """
        rows, some = self._rows["float64"], Rows(self.X[which], self.kernel._scale())
        fill, out = self.kernel._filler(rows, some, self.threads), np.empty((self.n, len(some.X)))

        def panel(i: int) -> None:
            for j, tile in self.kernel._tiles(fill, rows, i, some, range(some.tiles)):
                out[i * TILE : i * TILE + TILE, j * TILE : j * TILE + TILE] = tile

        on_threads(panel, range(rows.tiles), self.threads)
        return out

    def dot(self, V: np.ndarray, *, products: str = "float64") -> np.ndarray:
        """K V.

        Of several ranks the first calls it while the others `serve`.

        Parameters
        ----------
        V : array (n,) or (n, C)
            Vectors.
        products : "float32" or "float64"
            As of `ReluKernel.dot`.

        Returns
        -------
        ndarray (n,) or (n, C), float64

        Raises
        ------
        ValueError
            V of another length, products of another precision.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import StreamedGram
        >>> StreamedGram(np.eye(2)).dot(np.ones((2, 1)), products="float32").round(4)
        array([[1.1592],
               [1.1592]])
        """
        if np.ndim(V) not in (1, 2) or len(V) != self.n:
            raise ValueError(f"V has shape {np.shape(V)}: expected ({self.n},) or ({self.n}, C)")
        columns = np.ascontiguousarray(V, dtype=np.float64).reshape(self.n, -1)
        out = np.zeros((self.n, columns.shape[1]))
        pairs = self._whole if columns.shape[1] > WIDE else self._pairs
        for pair, sums in zip(pairs, self._gathered(len(pairs), columns, products), strict=True):
            for band, part in zip(pair, sums, strict=False):
                rows = out[band[0] * TILE : (band[-1] + 1) * TILE]
                rows += part[: len(rows)]
        return out.reshape(np.shape(V))

    def digest(self) -> str:
        """A digest of points and kernel, to tell a matrix by.

        Examples
        --------
        >>> from meanfield.kernels import StreamedGram
        >>> StreamedGram([[1.0]]).digest() == StreamedGram([[2.0]]).digest()
        False
        """
        return digest_of(self.kernel, self.X)

    def _sums(self, V: np.ndarray, products: str) -> np.ndarray:
        """(pairs of bands of this rank, 2 or 1, rows of a band, C): what a pair gives to the rows of its two bands."""
        if products not in self._rows:
            self._rows[products] = self._rows["float64"].in_precision(products)
        rows, wide = self._rows[products], V.shape[1] > WIDE
        pairs = self._whole if wide else self._pairs
        mine = self._dealt(len(pairs), self.ranks.rank)
        sums = np.zeros((len(mine), 1 if wide else 2, self._band * TILE, V.shape[1]))

        def pair(k: int) -> None:
            a, b = pairs[mine[k]]
            here, there = sums[k, 0], sums[k, -1]
            for i in a:
                mirrored, which = V[i * TILE : i * TILE + TILE], b if wide else range(b[0], min(b[-1], i) + 1)
                for j, tile in self.kernel._tiles(self._fill, rows, i, rows, which):
                    at, other = (i - a[0]) * TILE, (j - b[0]) * TILE
                    here[at : at + tile.shape[0]] += tile @ V[j * TILE : j * TILE + TILE]
                    if i != j and not wide:
                        there[other : other + tile.shape[1]] += tile.T @ mirrored

        on_threads(pair, range(len(mine)), self.threads)
        return sums


class Scaled:
    """diag(scale) K diag(scale) of a Gram matrix K that is never there.

    Parameters
    ----------
    gram : StreamedGram
        K.
    scale : ndarray (n,)
        Of rows and columns.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedGram
    >>> from meanfield.kernels.streamed import Scaled
    >>> Scaled(StreamedGram(np.eye(2)), np.array([1.0, 2.0])).dot(np.eye(2)).round(4)
    array([[1.    , 0.3183],
           [0.3183, 4.    ]])
    """

    def __init__(self, gram: StreamedGram, scale: np.ndarray) -> None:
        self.gram, self.scale = gram, scale
        self.n, self.dismiss = gram.n, gram.dismiss

    def diagonal(self) -> np.ndarray:
        return self.scale**2 * self.gram.diagonal()

    def columns(self, which: np.ndarray) -> np.ndarray:
        return self.scale[:, None] * self.gram.columns(which) * self.scale[which]

    def dot(self, V: np.ndarray, *, products: str = "float64") -> np.ndarray:
        return (self.scale * self.gram.dot((self.scale * V.T).T, products=products).T).T

    def digest(self) -> str:
        return hashlib.sha256(self.gram.digest().encode() + self.scale.tobytes()).hexdigest()


def digest_of(kernel: AngularKernel, X: np.ndarray) -> str:
    """A digest of a kernel and of points."""
    fields = {name: getattr(value, "name", value) for name, value in vars(kernel).items()}
    return hashlib.sha256(f"{fields} {X.shape}".encode() + X.tobytes()).hexdigest()
