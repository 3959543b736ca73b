"""The kernels of an infinitely wide two-layer network of any neuron: f(x) = m^{-1/2} Σ_j w_j φ(u_j·x), m → ∞.

With w_j ~ N(0, w_std²) and u_j ~ N(0, u_std² I), (p, q) = (u·x, u·x'), and derivatives with respect to the weights

    NNGP   w_std² E φ(p) φ(q)                                  E f(x) f(x')
    NTK    E φ(p) φ(q) + w_std² x·x' E φ'(p) φ'(q)             the last layer's part, and the first's

Of neurons ψ(w) φ(u·x) the last layer's part is times E ψ'(w)², and E ψ(w)² stands in the place of w_std².

For relu that is `gram.ReluKernel` of depth 2. The two expectations have closed forms (`dual.py`) for relu, leaky_relu
and any other positively homogeneous neuron, relu2, erf, gelu, sine and quadratic; for tanh, softplus and neurons of the
user's own they are integrated (`hermite.py`, `nearly_parallel.py`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..runtime.compiling import compiled
from .dual import CLOSED, Dual, Pairs, homogeneous
from .hermite import REACH, Series, fill_pairs, series
from .neurons import NamedNeuron, find_neuron
from .pieces import cut
from .relu import angles
from .tiles import TILE, AngularKernel, Fill, Rows, as_points, check_scales

ACCURACY = 1e-12


@dataclass(frozen=True)
class NeuronKernel(AngularKernel):
    """One kernel of an infinitely wide two-layer network, in the convention at the top of this module; immutable.

    Errors are below 10⁻¹² of √(E φ(p)² E φ(q)²), and of the same with φ'; a ValueError says where that is not reached.

    Parameters
    ----------
    neuron : str or meanfield.Neuron
        A name that `Problem` takes, or an object of the user's own; whatever has a `name` and `evaluate(z)`, which
        gives φ(z) and φ'(z), will do.
    w_std, u_std : float
        ≥ 0, the standard deviations of the weights of the last layer and of the first.
    train : "all", "first" or "last"
        The layers that the NTK trains.
    kind : "ntk" or "nngp"
        Neural tangent kernel, or covariance of the network at initialization.

    Raises
    ------
    ValueError
        An unknown neuron, a scale that is negative or not finite, another word.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import NeuronKernel
    >>> NeuronKernel("quadratic").gram(np.eye(2))
    array([[7., 1.],
           [1., 7.]])
    """

    neuron: Any = "relu"
    w_std: float = 1.0
    u_std: float = 1.0
    train: str = "all"
    kind: str = "ntk"

    def __post_init__(self) -> None:
        find_neuron(self.neuron)
        check_scales(self)

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
        >>> from meanfield.kernels import NeuronKernel
        >>> NeuronKernel("relu").diagonal([[3.0, 4.0], [0.0, 1.0]])
        array([25.,  1.])
        """
        rows = Rows(as_points(X, "X"), self._scale())
        a, one = self.u_std * rows.norms, np.ones(len(rows.norms))
        dual = self._closed()
        if dual is None:
            _, table, places = self._table(a, None)
            both = table.value_tails[places, 0], table.slope_tails[places, 0]
        else:
            both = dual(Pairs(a, a, one, 0 * one))
        return self._combine(both, rows.norms**2)

    def _scale(self) -> float:
        return max(1.0, self.u_std**2) * max(1.0, self.w_std**2)

    @property
    def is_closed(self) -> bool:
        """Whether it is in closed form; else every input of another length costs milliseconds of integration.

        Examples
        --------
        >>> from meanfield.kernels import NeuronKernel
        >>> NeuronKernel("erf").is_closed, NeuronKernel("tanh").is_closed
        (True, False)
        """
        return self._closed() is not None

    def _closed(self) -> Dual | None:
        """The formula, if there is one."""
        neuron = find_neuron(self.neuron)
        if isinstance(neuron, NamedNeuron):
            return CLOSED.get(neuron.name)
        if getattr(neuron, "is_homogeneous", False):
            (right, left), _ = neuron.evaluate(np.array([1.0, -1.0]))
            return homogeneous(right, left)
        return None

    def _combine(self, both: tuple[np.ndarray, np.ndarray], products: np.ndarray) -> np.ndarray:
        """The kernel of (E φφ, E φ'φ') and x·x'."""
        (value, slope), (square, slope_square) = both, self._of_w
        if self.kind == "nngp":
            return square * value
        first, last = square * products * slope, slope_square * value
        return first if self.train == "first" else last if self.train == "last" else last + first

    @functools.cached_property
    def _of_w(self) -> tuple[float, float]:
        """(E ψ(w)², E ψ'(w)²): those of φ = ψ at the point 1, w in the place of u."""
        psi = getattr(self.neuron, "output", None)
        if psi is None:
            return self.w_std**2, 1.0
        alone = NeuronKernel(psi, 1.0, self.w_std, "first")
        square, slope_square = (float(one.diagonal([[1.0]])[0]) for one in (replace(alone, kind="nngp"), alone))  # type: ignore[arg-type]
        return square, slope_square

    def _filler(self, rows: Rows, columns: Rows, threads: int | None) -> Fill:
        dual = self._closed()
        evaluate = self._integrated(rows, columns, threads) if dual is None else self._formula(dual, rows, columns)

        def fill(buffer: np.ndarray, i: int, j: int) -> None:
            x, y = rows.tile(i), columns.tile(j)
            tile = buffer[: len(x.points), : len(y.points)]
            z = np.empty(tile.shape)
            _tile_angles(tile, z, x.points, y.points)
            products = x.norms[:, None] * y.norms * tile
            with np.errstate(over="ignore", invalid="ignore"):
                tile[...] = self._combine(evaluate(tile, z, i, j), products)
            if not np.isfinite(tile).all():
                raise ValueError("points so large that the kernel overflows: rescale them")

        return fill

    def _formula(self, dual: Dual, rows: Rows, columns: Rows) -> Any:
        def evaluate(c: np.ndarray, z: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
            a, b = self.u_std * rows.tile(i).norms[:, None], self.u_std * columns.tile(j).norms
            return dual(Pairs(a, b, c, z))

        return evaluate

    def _integrated(self, rows: Rows, columns: Rows, threads: int | None) -> Any:
        sizes = [self.u_std * rows.norms, self.u_std * columns.norms]
        pieces, table, places = self._table(np.concatenate(sizes), threads)
        of_rows, of_columns = places[: len(sizes[0])], places[len(sizes[0]) :]

        def evaluate(c: np.ndarray, z: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
            a, b = (part[k * TILE : k * TILE + TILE] for part, k in ((sizes[0], i), (sizes[1], j)))
            x, y = (
                Series(*(one[part[k * TILE : k * TILE + TILE]] for one in table))
                for part, k in ((of_rows, i), (of_columns, j))
            )
            value, slope, error = fill_pairs(c, z, x, y, (a, b), pieces)
            if not error <= ACCURACY:
                raise ValueError(
                    f"neuron {self.neuron!r}: the kernel is integrated to {error:.1e}, not to {ACCURACY:g}: "
                    "rescale the points, or give a smoother neuron"
                )
            return value, slope

        return evaluate

    def _table(self, sizes: np.ndarray, threads: int | None) -> Any:
        """(φ in pieces, the series of the distinct sizes, which one is whose)."""
        distinct, places = np.unique(sizes, return_inverse=True)
        positive = distinct[distinct > 0] if distinct[-1] > 0 else np.ones(1)
        pieces = cut(find_neuron(self.neuron), positive[0], 1.01 * REACH * positive[-1])
        return pieces, series(pieces, distinct, threads), places.reshape(-1)


@compiled
def _tile_angles(c: np.ndarray, z: np.ndarray, X: np.ndarray, Z: np.ndarray) -> None:
    for i in range(len(X)):
        angles(c[i], z[i], X[i], Z)


def neuron_ntk(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    neuron: Any = "relu",
    w_std: float = 1.0,
    u_std: float = 1.0,
    train: str = "all",
    **storage: Any,
) -> Any:
    """Neural tangent kernel of an infinitely wide two-layer network of any neuron.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    Z : array (k, d), optional
        By default X: the Gram matrix, symmetric to the bit.
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`.
    w_std, u_std : float
        Standard deviations of the weights of the last layer and of the first.
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
        As of `NeuronKernel`, of `ReluKernel.gram`, and where an integral does not reach 10⁻¹².

    Notes
    -----
    E φ(p) φ(q) + w_std² x·x' E φ'(p) φ'(q), (p, q) = (u·x, u·x'), u ~ N(0, u_std² I).

    Examples
    --------
    >>> from meanfield.kernels import neuron_ntk
    >>> X = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    >>> neuron_ntk(X, neuron="erf").round(4)
    array([[ 1.034,  0.   , -1.034],
           [ 0.   ,  1.034,  0.   ],
           [-1.034,  0.   ,  1.034]])
    >>> neuron_ntk(X, neuron="softplus").round(4)
    array([[1.2146, 0.6497, 0.2146],
           [0.6497, 1.2146, 0.6497],
           [0.2146, 0.6497, 1.2146]])
    """
    return NeuronKernel(neuron, w_std, u_std, train).gram(X, Z, **storage)


def neuron_nngp(
    X: np.ndarray,
    Z: np.ndarray | None = None,
    *,
    neuron: Any = "relu",
    w_std: float = 1.0,
    u_std: float = 1.0,
    **storage: Any,
) -> Any:
    """Covariance E f(x) f(z) at initialization of the network of `neuron_ntk`.

    Parameters
    ----------
    X : array (n, d)
        Points, finite.
    Z : array (k, d), optional
        By default X: the covariance matrix, symmetric to the bit.
    neuron : str or meanfield.Neuron
        As of `NeuronKernel`.
    w_std, u_std : float
        Standard deviations of the weights of the last layer and of the first.
    **storage
        `dtype`, `out`, `memory_budget` and `threads` of `ReluKernel.gram`.

    Returns
    -------
    ndarray (n, k), or h5py.Dataset (n, k)
        float64 unless `dtype` says otherwise.

    Raises
    ------
    ValueError
        As of `neuron_ntk`.

    Examples
    --------
    >>> from meanfield.kernels import neuron_nngp
    >>> neuron_nngp([[1.0, 0.0], [0.0, 1.0]], neuron="softplus").round(4)
    array([[0.9212, 0.6497],
           [0.6497, 0.9212]])
    """
    return replace(NeuronKernel(neuron, w_std, u_std), kind="nngp").gram(X, Z, **storage)
