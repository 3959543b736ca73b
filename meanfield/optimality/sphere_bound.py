"""A bound on max ‖G_a(u)‖ over the unit sphere: what a search found, and what proves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Leaf(NamedTuple):
    """A cell of the sphere, and the M (N, N) that proves a bound of ‖G‖ over it (`doubly_nonnegative`).

    `side`, ±1, is the sign of G for C = 1, else 0; `signs`, int8 (n,), are those known of the effective rows.
    """

    side: int
    signs: np.ndarray
    M: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SphereBound:
    """Bounds on max ‖G_a(u)‖ over unit u.

    Attributes
    ----------
    upper : float
        At least the maximum, rounding included.
    lower, u : float and array (d,)
        The highest ‖G_a‖ seen, and where, up to rounding.
    allowance : float
        What `upper` holds for rounding and for rows taken for multiples of one another.
    closed : bool
        Whether nothing is left open above what was asked for.
    cells : int
        Examined.
    dimension : int
        The rank of the rows that matter.
    leaves : list of Leaf
        The proof of a bound by signs, where it was to be kept.
    """

    upper: float
    lower: float
    u: np.ndarray = field(repr=False)
    allowance: float
    closed: bool
    cells: int
    dimension: int
    leaves: list[Leaf] = field(default_factory=list, repr=False)


__all__ = ["Leaf", "SphereBound"]
