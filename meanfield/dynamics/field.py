"""The field that particles move in: a problem bound to the compiled loops."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..engine import exact_algebra, exact_math, noise
from ..engine.engine import Moments, Workers
from ..ensemble import Ensemble
from ..problem import Problem
from .frame import Frame


class Field:
    """A problem bound to compiled loops: what a step reads besides the particles. Holds no state of the run.

    Parameters
    ----------
    problem : Problem
        Data (n, d), loss with C outputs, λ and τ.
    dtype : numpy.dtype
        float32 or float64, that of the particles.
    threads : int, optional
        How many threads compute; by default as many as this process may use cores. No bit depends on it.

    Attributes
    ----------
    problem : Problem
    dtype : numpy.dtype
    engine : meanfield.engine.engine.Engine
        The compiled passes on the problem's inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Langevin, Problem
    >>> from meanfield.dynamics import Field
    >>> problem = Problem(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, -1]), reg=0.01)
    >>> ensemble = Ensemble.sphere(64, 2, dtype="float64")
    >>> field, dynamics = Field(problem, ensemble.dtype), Langevin(step_size=0.1)
    >>> moments = field.predict(ensemble)
    >>> for _ in range(3):
    ...     moments = dynamics.step(field, ensemble, moments)
    >>> moments.f.shape, ensemble.step, round(ensemble.time, 9)
    ((2, 1), 3, 0.3)
    """

    def __init__(self, problem: Problem, dtype: np.dtype, threads: int | Workers | None = None) -> None:
        self.problem, self.dtype = problem, dtype
        self.engine = problem.engine(problem.inputs, dtype, threads)

    def minibatch(self, size: int, seed: int, step: int) -> Field:
        """The same problem on `size` examples drawn uniformly with replacement, by address: an unbiased residual."""
        rows = (noise.uniforms(seed, noise.Purpose.BATCH, step, size) * self.problem.n).astype(np.int64)
        return Field(self.problem.restricted(rows), self.dtype, self.engine.workers)

    def predict(self, ensemble: Ensemble) -> Moments:
        """The ensemble's predictions f (n, C), float64, and ∫‖θ‖² dρ; NaN where they are out of range."""
        return self.engine.predict(ensemble.particles)

    def current(self, ensemble: Ensemble, moments: Moments) -> Moments:
        """`moments`, if nobody has changed the particles since this field last saw them; else the moments they have.

        A callback of a run may edit the ensemble between two steps (`Ensemble.fill`).
        """
        return moments if self.engine.knows(ensemble.particles) else self.predict(ensemble)

    def residual(self, moments: Moments) -> np.ndarray:
        """r = ∂R/∂f (n, C), float64."""
        return self.problem.loss.residual(moments.f, self.problem.targets)

    @cached_property
    def plain(self) -> Frame:
        """The problem's own coordinates, for an implicit step."""
        return Frame(self.engine, self.problem.X, whiten=False)

    @cached_property
    def whitened(self) -> Frame:
        """Coordinates in which the inputs are of one scale."""
        return Frame(self.engine, self.problem.X, whiten=True)

    @cached_property
    def norms(self) -> tuple[np.ndarray, float]:
        """‖x_i‖ (n,), and the spectral norm of X."""
        return exact_math.row_norms(self.problem.inputs), exact_algebra.spectral_norm(self.problem.inputs)
