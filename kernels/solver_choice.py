"""Whether a kernel ridge is solved with its matrix or without."""

from __future__ import annotations

from typing import Any

from ..runtime.compiling import announce
from .memory import available_memory
from .rounds import ConjugateGradients


def without_matrix(solver: Any, method: str, reg: Any, n: int, centres: int | None = None) -> ConjugateGradients | None:
    """How to solve for n points without the matrix, or None where it is to be made.

    Parameters
    ----------
    solver : "auto", "dense", "iterative" or ConjugateGradients
        "auto": with the matrix where that fits into the memory that is available; where not, a line on stderr says so.
    method : str
        "ridge", or a method that needs the matrix.
    reg : float or "auto"
        Of the ridge: 0 needs a copy of the matrix, and a path two.
    n : int
        Points.
    centres : int, optional
        Of them, where f is to be a sum over centres: that is done without the matrix.

    Returns
    -------
    ConjugateGradients or None

    Raises
    ------
    ValueError
        Another solver; a method or a reg that cannot do without the matrix, where it must.

    Examples
    --------
    >>> from meanfield.kernels.solver_choice import without_matrix
    >>> without_matrix("auto", "ridge", 0.1, 1000), without_matrix("iterative", "ridge", 0.1, 1000).tolerance
    (None, 1e-08)
    """
    chosen = solver if isinstance(solver, ConjugateGradients) else ConjugateGradients()
    if solver is not chosen and solver not in ("auto", "dense", "iterative"):
        raise ValueError(f'solver = {solver!r}: expected "auto", "dense", "iterative" or a ConjugateGradients')
    if solver == "dense" and centres is not None:
        raise ValueError(f'solver = "dense": with centres = {centres} expected "auto", "iterative" or the like')
    if solver == "dense" or (solver == "auto" and method != "ridge" and centres is None):
        return None
    if method != "ridge":
        raise ValueError(f'method = {method!r}: needs the matrix; with an iterative solver or centres expected "ridge"')
    needed, free = 8 * n**2 * {"auto": 3, 0: 2}.get(reg, 1), available_memory()
    if solver == "auto" and centres is None:
        if needed <= free:
            return None
        announce(
            f"without a matrix of {n} points",
            f"{n} points: with the kernel matrix {needed / 2**30:.3g} GiB are needed and {free / 2**30:.3g} "
            'available; solving without it (solver="iterative")',
        )
    if reg == "auto" and centres is not None:
        raise ValueError('reg = "auto": with centres give a number, for instance one chosen on fewer points')
    return chosen
