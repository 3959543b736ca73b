"""Penalties λ∫p(θ) dρ: what it costs a network to have its neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

from .arrays import is_number
from .engine.engine import PLAIN, Coefficients
from .errors import InputError, did_you_mean


@dataclass(frozen=True)
class Penalty:
    """p(θ) = input‖u‖² + output‖w‖² + quartic‖θ‖⁴ + path‖u‖‖w‖, which a problem's λ multiplies; by default ‖θ‖².

    Parameters
    ----------
    input, output : float
        Weights of ‖u‖² and ‖w‖², the ℓ2 penalty of each layer.
    quartic : float
        Of ‖θ‖⁴ = (‖u‖² + ‖w‖²)², which holds particles under noise whatever their neuron.
    path : float
        Of ‖u‖‖w‖, the path norm.

    Raises
    ------
    InputError
        A weight that is negative or not finite.

    Examples
    --------
    >>> from meanfield import Ensemble, Penalty, Problem
    >>> problem = Problem([[1.0]], [0.0], loss="squared", reg=0.1, penalty=Penalty(input=0.0, output=0.0, path=2.0))
    >>> round(problem.objective(Ensemble.from_arrays([3.0], [[-2.0]])).penalty, 9)
    1.2
    """

    input: float = 1.0
    output: float = 1.0
    quartic: float = 0.0
    path: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (is_number(value) and value >= 0):
                raise InputError(f"penalty.{field.name} = {value!r}: must be a finite number, at least 0")
            object.__setattr__(self, field.name, float(value))

    @classmethod
    def of(cls, value: Penalty | Mapping[str, float]) -> Penalty:
        """The penalty itself, or that of a table of weights.

        Examples
        --------
        >>> from meanfield import Penalty
        >>> Penalty.of({"output": 4.0})
        Penalty(input=1.0, output=4.0, quartic=0.0, path=0.0)
        """
        if isinstance(value, cls):
            return value
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise InputError(f"penalty = {value!r}: must be a Penalty, or a table of {', '.join(names)}")
        for name in value:
            if name not in names:
                raise InputError(
                    f"penalty.{name}: unknown key{did_you_mean(name, names)}; known are {', '.join(names)}"
                )
        return cls(**value)

    @property
    def coefficients(self) -> Coefficients:
        """As the compiled passes take them."""
        return Coefficients(*astuple(self))

    @property
    def is_plain(self) -> bool:
        """Whether it is ‖θ‖²."""
        return self.coefficients == PLAIN

    @property
    def layers(self) -> tuple[float, float]:
        """The weights of ‖u‖² and ‖w‖²."""
        return self.input, self.output

    @property
    def factor(self) -> float | None:
        """c such that λp has the minimum of cλ‖θ‖² for 1-homogeneous φ; None with a quartic part.

        Scaling u by s and w by 1/s leaves such a neuron as it is; over s the least of p is (2√(input·output) + path)
        ‖u‖‖w‖, and that of ‖θ‖² is 2‖u‖‖w‖.

        Examples
        --------
        >>> from meanfield import Penalty
        >>> Penalty(input=1.0, output=4.0).factor, Penalty(0.0, 0.0, path=2.0).factor, Penalty(quartic=1.0).factor
        (2.0, 1.0, None)
        """
        return None if self.quartic > 0 else math.sqrt(self.input * self.output) + self.path / 2

    def curvature(self, second: float) -> float:
        """About the largest curvature that a particle of ‖θ‖² = `second` meets: on it rests the automatic step size.

        Examples
        --------
        >>> from meanfield import Penalty
        >>> Penalty(output=3.0).curvature(1.0), Penalty(quartic=1.0).curvature(2.0)
        (6.0, 26.0)
        """
        more = 12 * self.quartic * second + self.path if self.quartic > 0 or self.path > 0 else 0.0
        return 2 * max(self.layers) + more
