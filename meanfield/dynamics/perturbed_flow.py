"""The paper's own dynamics: gradient flow, with rebirth everywhere at a small rate.

    ∂ρ/∂t = −σρ + σU − ∇·(ρ v[ρ]),      v = −∇L'[ρ],     U uniform on the unit sphere of R^{d+C}

(Wei, Lee, Liu, Ma, arXiv 1810.05369, section 3.) Over a step η a particle dies with probability 1 − e^{−ση}.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import exact_math
from ..engine.engine import Move
from ..errors import InputError
from .base import Dynamics, check_rate, exponential_move


@dataclass(frozen=True, repr=False)
class PerturbedFlow(Dynamics):
    """∂ρ/∂t = −σρ + σU − ∇·(ρ v), v = −∇L'[ρ]: the paper's own dynamics (arXiv 1810.05369, section 3).

    At rate σ a particle dies and is reborn uniformly on the unit sphere of R^{d+C}: in a step, after its move, with
    probability 1 − e^{−ση}. σ = 0 is the gradient flow, bit for bit.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" follows the curvature (`meanfield.dynamics.step_size`).
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.
    rebirth_rate : float
        σ ≥ 0, events of a particle in a unit of the flow's time.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1, a negative rate.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, GradientFlow, PerturbedFlow, Problem, simulate
    >>> problem = Problem(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, -1]), reg=0.01)
    >>> start = Ensemble.sphere(64, 2)
    >>> still = PerturbedFlow(step_size=0.5, rebirth_rate=0.0)
    >>> ends = [simulate(problem, start, law, steps=3).ensemble for law in (still, GradientFlow(step_size=0.5))]
    >>> bool(np.array_equal(ends[0].u, ends[1].u))
    True
    """

    rebirth_rate: float = 1e-4

    name = "perturbed_flow"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("rebirth_rate", self.rebirth_rate)
        if self.rebirth_rate > 0 and 0 in self.rates:
            raise InputError(f"rates = {self.rates}: rebirth moves both layers; freeze one under another dynamics")

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        sigma = self.rebirth_rate
        return exponential_move(eta, reg, 0.0, -exact_math.expm1(-sigma * eta))
