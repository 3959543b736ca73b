"""The laws of motion, one a page, and the step size they share.

May import: what is minimized (problem, ensemble, losses, schedules) and the engine.
"""

from .base import Dynamics, exponential_move
from .birth_death import BirthDeath
from .field import Field
from .implicit import Implicit
from .kinetic import KineticLangevin
from .langevin import GradientFlow, Langevin
from .perturbed_flow import PerturbedFlow

# By name, for configurations; whoever has the class needs no name.
_LAWS = (Langevin, GradientFlow, PerturbedFlow, BirthDeath, KineticLangevin, Implicit)
DYNAMICS: dict[str, type[Dynamics]] = {law.name: law for law in _LAWS}

__all__ = [
    "DYNAMICS",
    "BirthDeath",
    "Dynamics",
    "Field",
    "GradientFlow",
    "Implicit",
    "KineticLangevin",
    "Langevin",
    "PerturbedFlow",
    "exponential_move",
]
