"""Pure functions of the step: how λ, τ and the step size change during a run.

A schedule carries its own length, so going on longer never rescales it. Values are computed by `exact_math`, so that
a step has the same value in every process and on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from numbers import Integral, Real
from types import ModuleType
from typing import Any

from .arrays import number
from .errors import InputError, did_you_mean

SHAPES = ("constant", "linear", "geometric", "cosine", "c_over_log_t")


@cache
def _exact_math() -> ModuleType:
    """Loaded when the first value is computed: reading a configuration needs no compiler."""
    from .engine import exact_math

    return exact_math


@dataclass(frozen=True)
class Schedule:
    """A value for every step k ≥ 0, going from `start` at k = 0 to `end`, which it keeps from k = `steps` on.

    With s = k/steps:

    - constant: end (start must equal end)
    - linear: start + (end − start) s
    - geometric: start (end/start)^s; both must be positive
    - cosine: end + (start − end) (1 + cos πs)/2
    - c_over_log_t: max(end, start / log(e + k)), the annealing τ_t = c/log t of mean-field Langevin dynamics (Chizat
      2022, arXiv 2202.01009), c = start. Here `steps` has no influence: the floor `end` alone ends it.

    Parameters
    ----------
    shape : str
        One of these names.
    start, end : float
        Finite, in the unit of what is scheduled.
    steps : int
        At least 0. A schedule carries its own length: going on longer never rescales it.

    Raises
    ------
    InputError
        Values that are not finite, negative `steps`, an unknown shape, ends that the shape does not allow.

    Examples
    --------
    >>> from meanfield import Schedule
    >>> halved = Schedule("geometric", start=0.4, end=0.1, steps=2)
    >>> [round(halved(k), 9) for k in range(4)]
    [0.4, 0.2, 0.1, 0.1]
    """

    shape: str
    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            hint = did_you_mean(self.shape, SHAPES)
            raise InputError(f"shape = {self.shape!r}: must be one of {', '.join(SHAPES)}{hint}")
        for name in ("start", "end"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if not isinstance(self.steps, Integral) or isinstance(self.steps, bool) or not 0 <= self.steps < 2**63:
            raise InputError(f"steps = {self.steps!r}: must be an integer, at least 0")
        object.__setattr__(self, "steps", int(self.steps))
        if self.shape == "constant" and self.start != self.end:
            raise InputError(f"start = {self.start!r}, end = {self.end!r}: a constant schedule needs them equal")
        if self.shape == "geometric" and min(self.start, self.end) <= 0:
            raise InputError(
                f"start = {self.start!r}, end = {self.end!r}: a geometric schedule needs both positive "
                '(use shape = "linear" to reach zero)'
            )

    def __str__(self) -> str:
        if self.shape == "constant":
            return f"{self.end:g}"
        return f"{self.shape} {self.start:g} → {self.end:g} in {self.steps} steps"

    @classmethod
    def of(cls, value: float | Mapping[str, Any] | Schedule) -> Schedule:
        """The schedule that a number, a table or a Schedule stands for.

        Parameters
        ----------
        value : float, mapping or Schedule
            A number (constant), a table with `end` or `start`, or a Schedule as it is. In a table, `shape` defaults to
            geometric where start and end are positive and else to linear; a missing start or end equals the other (the
            floor `end` of c_over_log_t is 0); `steps` is required unless the shape is constant or c_over_log_t.

        Returns
        -------
        Schedule

        Raises
        ------
        InputError
            Neither of them, an unknown key, no start and no end, no steps.

        Examples
        --------
        >>> from meanfield import Schedule
        >>> Schedule.of({"start": 0.2, "end": 0.1, "steps": 100}).shape
        'geometric'
        """
        if isinstance(value, Schedule):
            return value
        if _is_number(value):
            return cls("constant", value, value, 0)  # type: ignore[arg-type]
        if not isinstance(value, Mapping):
            raise InputError(f"{value!r}: must be a number or a table {{shape, start, end, steps}}")
        return cls._of_table(value)

    @classmethod
    def _of_table(cls, table: Mapping[str, Any]) -> Schedule:
        for key in table:
            if key not in ("shape", "start", "end", "steps"):
                known = ("shape", "start", "end", "steps")
                hint = did_you_mean(key, known, f"a schedule has {', '.join(known)}")
                raise InputError(f"{key}: unknown key{hint}")
        if "start" not in table and "end" not in table:
            raise InputError("a schedule needs start and end")
        start = table.get("start", table.get("end"))
        end = table.get("end", 0.0 if table.get("shape") == "c_over_log_t" else start)
        positive = _is_number(start) and _is_number(end) and start > 0 and end > 0  # type: ignore[operator]
        changing = "geometric" if positive else "linear"
        shape = table.get("shape", "constant" if start == end else changing)
        if "steps" not in table and shape not in ("constant", "c_over_log_t"):
            raise InputError(f"a {shape} schedule needs steps: the step at which it reaches its end")
        return cls(shape, start, end, table.get("steps", 0))  # type: ignore[arg-type]

    @cached_property
    def _log_ratio(self) -> float:
        """log(end/start) of a geometric schedule."""
        return _exact_math().log(self.end) - _exact_math().log(self.start)

    def __call__(self, k: int) -> float:
        """The value at step k ≥ 0; exactly `end` from step `steps` on (c_over_log_t: once the floor is reached)."""
        if self.shape == "c_over_log_t":
            return max(self.end, self.start / _exact_math().log(math.e + k))
        if k >= self.steps:
            return self.end
        s = k / self.steps
        if self.shape == "linear":
            return self.start + (self.end - self.start) * s
        if self.shape == "geometric":
            return self.start * _exact_math().exp(s * self._log_ratio)
        if self.shape == "cosine":
            value = self.end + (self.start - self.end) * 0.5 * (1.0 + _exact_math().cospi(s))
            return min(max(value, min(self.start, self.end)), max(self.start, self.end))  # rounding leaves the interval
        return self.end

    def as_table(self) -> dict[str, str | float | int]:
        """The four fields, `Schedule.of` of which is this schedule again.

        Examples
        --------
        >>> from meanfield import Schedule
        >>> Schedule.of(0.5).as_table()
        {'shape': 'constant', 'start': 0.5, 'end': 0.5, 'steps': 0}
        """
        return asdict(self)


@dataclass(frozen=True)
class OwnSchedule(Schedule):
    """A function of the step of the user's own, which a run file names and cannot make.

    Parameters
    ----------
    shape : str
        Its name, `module.QualName`.
    start, end, steps
        0, 0 and the largest number: what the function will be is not known, nor when it is at rest.
    function : callable
        From a step k ≥ 0 to a number, at least 0; the same at every call. None: it was not given.

    Raises
    ------
    InputError
        When called: a value that is none.

    Examples
    --------
    >>> from meanfield.schedules import OwnSchedule
    >>> OwnSchedule.of_function(lambda k: 0.1 / (1 + k))(4)
    0.02
    """

    start: float = 0.0
    end: float = 0.0
    steps: int = 2**63 - 1
    function: Callable[[int], float] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        pass

    def __str__(self) -> str:
        return self.shape

    @classmethod
    def of_function(cls, function: Callable[[int], float]) -> OwnSchedule:
        """The schedule of a function, named after it."""
        named = function if hasattr(function, "__qualname__") else type(function)
        return cls(f"{named.__module__}.{named.__qualname__}", function=function)

    def __call__(self, k: int) -> float:
        """The function's value at step k."""
        if self.function is None:
            raise InputError(f"{self.shape}: a function of a Python program, which was not given")
        value = number(self.function(k), f"{self.shape} at step {k}")
        if not 0 <= value < math.inf:
            raise InputError(f"{self.shape} is {value!r} at step {k}: must be a finite number, at least 0")
        return value

    def as_table(self) -> dict[str, str | float | int]:
        """Its name alone."""
        return {"shape": self.shape}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # NumPy's are among them


def _finite(name: str, value: Any) -> float:
    with suppress(OverflowError):  # of whole numbers that no float holds
        if _is_number(value) and math.isfinite(float(value)):
            return float(value)
    raise InputError(f"{name} = {value!r}: must be a finite number")
