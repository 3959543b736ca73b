"""The laws of motion, one a page, and the step size they share.

May import: what is minimized (problem, ensemble, losses, schedules) and the engine.
"""

from .base import (
    DYNAMICS,
    BirthDeath,
    Dynamics,
    Field,
    GradientFlow,
    Langevin,
    PerturbedFlow,
    exponential_move,
)

__all__ = [
    "DYNAMICS",
    "BirthDeath",
    "Dynamics",
    "Field",
    "GradientFlow",
    "Langevin",
    "PerturbedFlow",
    "exponential_move",
]
