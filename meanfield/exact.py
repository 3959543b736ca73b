"""References at infinite width: the global minimum, the largest margin and its law, the Gibbs measure."""

from .optimality.conditional_gradient import Optimum, optimum
from .optimality.duality import dual_bound
from .optimality.gibbs import Gibbs, gibbs
from .optimality.margin_law import MarginLaw, margin_law
from .optimality.max_margin import MaxMargin, max_margin

__all__ = [
    "Gibbs",
    "MarginLaw",
    "MaxMargin",
    "Optimum",
    "dual_bound",
    "gibbs",
    "margin_law",
    "max_margin",
    "optimum",
]
