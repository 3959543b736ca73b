"""Ensemble: the particles that stand for a measure over neurons, and all that their next step needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .arrays import is_number, numbers, refuse_unusable
from .engine.engine import Engine, draw, group_size, share
from .errors import InputError
from .layers import Layers
from .neuron import Neuron, get_neuron
from .runtime.communicator import ALONE, Alone, Span
from .shown import Shown


class Ensemble(Shown, Layers):
    """m particles θ_j = (u_j, w_j): the measure ρ = (1/m) Σ δ_θj and the network f = (1/m) Σ_j w_j φ(u_j·x).

    Made by `sphere`, `gaussian`, `signs`, `from_arrays` or `empty`. What is not here is not needed to go on with a run,
    but for the problem, which says what φ is.

    Where the ranks of an MPI job share the particles, each has its own in theta, as `span` tells; all ranks must then
    call what concerns all particles, and `rows` and what builds on it need `gathered`.

    Parameters
    ----------
    theta : ndarray (groups, d + C, GROUP), float32 or float64
        The particles as the compiled loops hold them, zero beyond the last one. Taken over, not copied.
    span : Span or int
        How many particles there are, or which of how many are this process's.
    outputs : int
        C.
    seed : int
        From 0 to 2^64 − 1. With noise by address, seed and step are the whole random state.
    step : int
        Steps made so far.
    time : float
        Σ η of these steps, in units of the flow's time.
    memory : dict of str to float, optional
        What an automatic step size remembers.
    velocity : Layers, optional
        Velocities of the particles, .w (m, C) and .u (m, d), under a dynamics that has them.

    Attributes
    ----------
    w, u : ndarray (m, C) and (m, d)
        Output and input weights: read-only copies.
    m, d, outputs : int
        Number of particles, of inputs, of outputs.
    dtype : numpy.dtype
        float32 or float64.
    particles : meanfield.engine.engine.Particles
        What engines take; theta and span are its.

    Examples
    --------
    >>> from meanfield import Ensemble
    >>> ensemble = Ensemble.sphere(64, 3, seed=1)
    >>> ensemble
    Ensemble(m=64, d=3, outputs=1, dtype=float32, step=0)
    >>> ensemble.w.shape, ensemble.u.shape
    ((64, 1), (64, 3))
    """

    SHOWN = ("m", "d", "outputs", "dtype", "step")

    def __init__(
        self,
        theta: np.ndarray,
        span: Span | int,
        outputs: int,
        *,
        seed: int = 0,
        step: int = 0,
        time: float = 0.0,
        memory: dict[str, float] | None = None,
        velocity: Layers | None = None,
    ) -> None:
        super().__init__(theta, span, outputs)
        self.seed, self.step, self.time, self.memory = seed, step, time, dict(memory or {})
        self.velocity = velocity

    @property
    def velocity(self) -> Layers | None:
        """Velocities of the particles, .w (m, C) and .u (m, d); None where they have none."""
        return self._velocity

    @velocity.setter
    def velocity(self, velocity: Layers | None) -> None:
        self._velocity = velocity
        if velocity is not None:  # ranks are asked for velocities by the numbers that follow those of particles
            velocity.asked_from = self._groups

    @property
    def _groups(self) -> int:
        return -(-self.m // self.theta.shape[2])

    def _own(self, g0: int, g1: int) -> np.ndarray:
        if self._velocity is not None and g0 >= self._groups:
            return self._velocity._own(g0, g1)
        return super()._own(g0, g1)

    @classmethod
    def sphere(
        cls,
        m: int,
        d: int,
        outputs: int = 1,
        *,
        scale: float = 1.0,
        symmetric: bool = False,
        seed: int = 0,
        dtype: Any = "float32",
        ranks: Alone = ALONE,
    ) -> Ensemble:
        """Uniform on the unit sphere of R^{d+C}, times `scale`: the paper's initial law (arXiv 1810.05369, section 3).

        Parameters
        ----------
        m, d, outputs : int
            Numbers of particles, inputs and outputs C, each at least 1.
        scale : float
            Radius of the sphere, from 1e-15 to 1e15.
        symmetric : bool
            Whether every second particle is the one before with −w, so that f = 0 (but for rounding); m is even then.
        seed : int
            From 0 to 2^64 − 1. A particle's place depends on it and on the particle's number only.
        dtype : "float32" or "float64"
            Of the particles, and of the arithmetic of their steps.
        ranks : Alone
            The processes that share the particles.

        Returns
        -------
        Ensemble
            At step 0 and time 0.

        Raises
        ------
        InputError
            Sizes, scale, seed or dtype out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Ensemble
        >>> ensemble = Ensemble.sphere(64, 3, scale=2.0, dtype="float64")
        >>> bool(np.allclose(np.sum(ensemble.u**2, axis=1) + ensemble.w[:, 0] ** 2, 4.0))
        True
        """
        return cls._drawn("sphere", (m, d, outputs), scale, symmetric, seed, dtype, ranks)

    @classmethod
    def gaussian(
        cls,
        m: int,
        d: int,
        outputs: int = 1,
        *,
        scale: float = 1.0,
        symmetric: bool = False,
        seed: int = 0,
        dtype: Any = "float32",
        ranks: Alone = ALONE,
    ) -> Ensemble:
        """Each component N(0, scale²), independent.

        Parameters
        ----------
        m, d, outputs : int
            Numbers of particles, inputs and outputs C, each at least 1.
        scale : float
            Standard deviation of a component, from 1e-15 to 1e15.
        symmetric : bool
            Whether every second particle is the one before with −w, so that f = 0 (but for rounding); m is even then.
        seed : int
            From 0 to 2^64 − 1. A particle's place depends on it and on the particle's number only.
        dtype : "float32" or "float64"
            Of the particles, and of the arithmetic of their steps.
        ranks : Alone
            The processes that share the particles.

        Returns
        -------
        Ensemble
            At step 0 and time 0.

        Raises
        ------
        InputError
            Sizes, scale, seed or dtype out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Ensemble
        >>> few, many = Ensemble.gaussian(64, 3), Ensemble.gaussian(128, 3)
        >>> bool(np.array_equal(few.u, many.u[:64]))
        True
        """
        return cls._drawn("gaussian", (m, d, outputs), scale, symmetric, seed, dtype, ranks)

    @classmethod
    def signs(
        cls,
        m: int,
        d: int,
        outputs: int = 1,
        *,
        scale: float = 1.0,
        symmetric: bool = False,
        seed: int = 0,
        dtype: Any = "float32",
        ranks: Alone = ALONE,
    ) -> Ensemble:
        """Output weights ±1, each a fair sign, and input weights N(0, scale² I).

        Under a dynamics with `rates=(1, 0)` the signs are held, and the network is (1/m) Σ_j ±φ(u_j·x).

        Parameters
        ----------
        m, d, outputs : int
            Numbers of particles, inputs and outputs C, each at least 1.
        scale : float
            Standard deviation of a component of u, from 1e-15 to 1e15.
        symmetric : bool
            Whether every second particle is the one before with −w, so that f = 0 (but for rounding); m is even then.
        seed : int
            From 0 to 2^64 − 1. A particle's place depends on it and on the particle's number only.
        dtype : "float32" or "float64"
            Of the particles, and of the arithmetic of their steps.
        ranks : Alone
            The processes that share the particles.

        Returns
        -------
        Ensemble
            At step 0 and time 0.

        Raises
        ------
        InputError
            Sizes, scale, seed or dtype out of range.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> sorted(set(Ensemble.signs(64, 3).w[:, 0].tolist()))
        [-1.0, 1.0]
        """
        drawn = cls._drawn("gaussian", (m, d, outputs), scale, symmetric, seed, dtype, ranks)
        with drawn.particles.writing() as theta:
            theta[:, d:] = np.sign(theta[:, d:])
        return drawn

    @classmethod
    def _drawn(
        cls, law: str, sizes: tuple[int, int, int], scale: float, symmetric: bool, seed: int, dtype: Any, ranks: Alone
    ) -> Ensemble:
        _check(*sizes, seed, dtype)
        (m, d, outputs), seed = map(int, sizes), int(seed)  # NumPy's scalars are no numbers of a configuration
        if not (is_number(scale) and 1e-15 <= scale <= 1e15):  # its square is computed in the dtype of the particles
            raise InputError(f"scale = {scale!r}: must be from 1e-15 to 1e15")
        if symmetric and m % 2:
            raise InputError(f"m = {m}: must be even, since particles of a symmetric start are pairs")
        span = share(m, ranks)
        theta = draw(span, d, outputs, law, scale, seed, dtype)
        if symmetric:
            theta[:, :, 1::2] = theta[:, :, ::2]
            theta[:, d:, 1::2] = 0 - theta[:, d:, ::2]
        return cls(theta, span, outputs, seed=seed)

    @classmethod
    def from_arrays(cls, w: Any, u: Any, *, seed: int = 0, dtype: Any = None, **state: Any) -> Ensemble:
        """Particles that one has already.

        Parameters
        ----------
        w : array (m,) or (m, C)
            Output weights, copied.
        u : array (m, d)
            Input weights, copied.
        seed : int
            Of the noise of later steps.
        dtype : "float32" or "float64", optional
            By default that of u if it is one of them, else float64.
        **state
            `step`, `time` and `memory`.

        Returns
        -------
        Ensemble

        Raises
        ------
        InputError
            Shapes that do not fit, numbers that are not finite in the dtype.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Ensemble
        >>> ensemble = Ensemble.from_arrays(w=np.array([1.0, -2.0]), u=np.eye(2))
        >>> ensemble.predict([[3.0, 0.0], [0.0, 3.0]])
        array([ 1.5, -3. ])
        """
        u, w = np.asarray(u), np.asarray(w)
        if w.ndim == 1:
            w = w[:, None]
        if u.ndim != 2 or w.ndim != 2 or len(u) != len(w):
            raise InputError(f"particles w {w.shape} and u {u.shape}: must have shapes (m, C) and (m, d)")
        kind = dtype if dtype is not None else u.dtype if u.dtype in (np.float32, np.float64) else np.float64
        _check(len(u), u.shape[1], w.shape[1], seed, kind)
        with np.errstate(over="ignore"):
            w, u = w.astype(kind, copy=False), u.astype(kind, copy=False)
        ensemble = cls.empty(len(u), u.shape[1], w.shape[1], kind, seed=seed, **state)
        ensemble.fill(0, w, u)
        for name, array in (("w", w), ("u", u)):
            if not np.isfinite(array).all():
                row, column = np.argwhere(~np.isfinite(array))[0]
                value = f"{name}[{row}, {column}] = {array[row, column]}"
                raise InputError(f"particles {value}: must be finite in {array.dtype}")
        return ensemble

    @classmethod
    def empty(cls, m: int, d: int, outputs: int, dtype: Any, *, ranks: Alone = ALONE, **state: Any) -> Ensemble:
        """All particles zero, to be set by `fill`.

        Parameters
        ----------
        m, d, outputs : int
            Numbers of particles, inputs and outputs C.
        dtype : "float32" or "float64"
            Of the particles.
        ranks : Alone
            The processes that share the particles.
        **state
            `seed`, `step`, `time` and `memory`.

        Returns
        -------
        Ensemble

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> bool(Ensemble.empty(64, 3, 1, "float32").u.any())
        False
        """
        group, span = group_size(dtype), share(m, ranks)
        return cls(np.zeros((-(-span.count // group), d + outputs, group), dtype), span, outputs, **state)

    def copy(self) -> Ensemble:
        """The same ensemble, sharing nothing.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Ensemble
        >>> first = Ensemble.sphere(64, 3)
        >>> second = first.copy()
        >>> second.fill(0, np.ones((64, 1)), np.ones((64, 3)))
        >>> bool((first.u == 1).any())
        False
        """
        state: dict[str, Any] = {"seed": self.seed, "step": self.step, "time": self.time, "memory": self.memory}
        if self.velocity is not None:
            state["velocity"] = Layers(np.array(self.velocity.theta), self.span, self.outputs)
        return Ensemble(np.array(self.theta), self.span, self.outputs, **state)

    def predict(
        self, X: Any, *, neuron: str | Neuron | Mapping[str, Any] = "relu", threads: int | None = None
    ) -> np.ndarray:
        """The network f(x) = (1/m) Σ_j w_j φ(u_j·x) at many inputs.

        Parameters
        ----------
        X : array (n, d)
            Inputs.
        neuron : str, Neuron or mapping
            Which φ: `problem.neuron`, where that is not the relu.
        threads : int, optional
            How many compute; by default as many as this process may use cores. No bit depends on it.

        Returns
        -------
        ndarray (n,) for one output, else (n, C); float64
            NaN where the particles are out of range.

        Raises
        ------
        InputError
            X of another shape, not of numbers, not finite or beyond 1e15; a neuron that is none.

        Examples
        --------
        >>> from meanfield import Ensemble
        >>> Ensemble.from_arrays(w=[2.0], u=[[1.0, 0.0]]).predict([[3.0, 0.0], [-3.0, 0.0]])
        array([6., 0.])
        """
        X, passes = numbers(X, "X", narrow=True), get_neuron(neuron).passes
        if X.ndim != 2 or X.shape[1] != self.d:
            raise InputError(f"X {X.shape}: must have shape (n, {self.d})")
        refuse_unusable(X, "X")
        f = np.empty((len(X), self.outputs))
        for start in range(0, len(X), 4096):  # bounds the memory of sums over rows
            rows = X[start : start + 4096]
            engine = Engine(rows, self.outputs, self.dtype, threads, passes)
            f[start : start + len(rows)] = engine.predict(self.particles, keep=False).f
        return f[:, 0] if self.outputs == 1 else f


def _check(m: int, d: int, outputs: int, seed: int, dtype: Any) -> None:
    for name, value in (("m", m), ("d", d), ("outputs", outputs)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value < 2**48:
            raise InputError(f"{name} = {value!r}: must be a whole number, at least 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"seed = {seed!r}: must be a whole number from 0 to 2^64 − 1")
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise InputError(f"dtype = {dtype!r}: must be float32 or float64")
