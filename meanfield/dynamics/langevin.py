"""Noisy gradient descent and gradient flow.

    dθ = −∇L'[ρ](θ) dt + √(2τ) dW,      L'[ρ](θ) = ⟨r, Φ(θ; ·)⟩ + λ‖θ‖²

It descends the free energy F_τ[ρ] = L[ρ] + τ ∫ ρ log ρ (Wei, Lee, Liu, Ma, arXiv 1810.05369, section 3; Mei, Montanari,
Nguyen 2018, arXiv 1804.06561). At τ = 0 it is the gradient flow of L.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.engine import Move
from .base import Dynamics, exponential_move


@dataclass(frozen=True, repr=False)
class Langevin(Dynamics):
    """Noisy gradient descent, dθ = −∇L'[ρ](θ) dt + √(2τ) dW: descends F_τ (arXiv 1810.05369, section 3).

    τ is the problem's temperature at the step; λ its reg.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" follows the curvature (`meanfield.dynamics.step_size`).
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Langevin, Problem, simulate
    >>> problem = Problem(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, -1]), reg=0.01, temperature=1e-3)
    >>> result = simulate(problem, Ensemble.sphere(64, 2), Langevin(step_size=0.5), steps=20)
    >>> objective = result.trace["objective"]
    >>> bool(objective[-1] < objective[0])
    True
    """

    name = "langevin"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, temperature)


@dataclass(frozen=True, repr=False)
class GradientFlow(Dynamics):
    """Gradient descent without noise, dθ = −∇L'[ρ](θ) dt, whatever the problem's temperature.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" follows the curvature (`meanfield.dynamics.step_size`).
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1.

    Examples
    --------
    Where the residual is zero, θ(t) = e^{−2λt} θ(0), whatever the step:

    >>> import numpy as np
    >>> from meanfield import Ensemble, GradientFlow, Problem, simulate
    >>> problem = Problem(np.zeros((1, 3)), np.zeros(1), loss="squared", reg=0.1)
    >>> start = Ensemble.gaussian(64, 3, dtype="float64")
    >>> end = simulate(problem, start, GradientFlow(step_size=5.0), steps=1).ensemble
    >>> bool(np.allclose(end.u, np.exp(-2 * 0.1 * 5.0) * start.u))
    True
    """

    name = "gradient_flow"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, 0.0)
