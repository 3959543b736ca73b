"""Pure functions of the step: how λ, τ and the step size change during a run.

A schedule carries its own length, so going on longer never rescales it. Values are computed by `exact_math`, so that
a step has the same value in every process and on every machine.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .engine import exact_math
from .errors import InputError

SHAPES = ("constant", "linear", "geometric", "cosine", "c_over_log_t")


@dataclass(frozen=True)
class Schedule:
    """A value for every step k >= 0, going from `start` at k = 0 to `end`, which it keeps from k = `steps` on.

    With s = k/steps:
      constant      end (start must equal end)
      linear        start + (end - start) s
      geometric     start (end/start)^s; both must be positive
      cosine        end + (start - end) (1 + cos πs)/2
      c_over_log_t  max(end, start / log(e + k)): the annealing τ_t = c/log t of mean-field Langevin dynamics (Chizat
                    2022, arXiv 2202.01009), c = start. Here `steps` has no influence: the floor `end` alone ends it.
    Raises InputError for values that are not finite, negative `steps`, an unknown shape.
    """

    shape: str
    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            near = difflib.get_close_matches(str(self.shape), SHAPES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"shape = {self.shape!r}: must be one of {', '.join(SHAPES)}{hint}")
        for name in ("start", "end"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or not 0 <= self.steps < 2**63:
            raise InputError(f"steps = {self.steps!r}: must be an integer, at least 0")
        if self.shape == "constant" and self.start != self.end:
            raise InputError(f"start = {self.start!r}, end = {self.end!r}: a constant schedule needs them equal")
        if self.shape == "geometric" and min(self.start, self.end) <= 0:
            raise InputError(
                f"start = {self.start!r}, end = {self.end!r}: a geometric schedule needs both positive "
                '(use shape = "linear" to reach zero)'
            )

    @classmethod
    def of(cls, value: float | Mapping[str, Any] | Schedule) -> Schedule:
        """A number (constant), a table with `end` or `start`, or a Schedule as it is.

        In a table, `shape` defaults to geometric where start and end are positive and else to linear; a missing
        start or end equals the other (the floor `end` of c_over_log_t is 0); `steps` is required unless the shape is
        constant or c_over_log_t.
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
                near = difflib.get_close_matches(str(key), ("shape", "start", "end", "steps"), n=1)
                hint = f"did you mean {near[0]}?" if near else "a schedule has shape, start, end, steps"
                raise InputError(f"{key}: unknown key; {hint}")
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

    def __call__(self, k: int) -> float:
        """The value at step k >= 0; exactly `end` from step `steps` on (c_over_log_t: once the floor is reached)."""
        if self.shape == "c_over_log_t":
            return max(self.end, self.start / exact_math.log(math.e + k))
        if k >= self.steps:
            return self.end
        s = k / self.steps
        if self.shape == "linear":
            return self.start + (self.end - self.start) * s
        if self.shape == "geometric":
            return self.start * exact_math.exp(s * (exact_math.log(self.end) - exact_math.log(self.start)))
        if self.shape == "cosine":
            value = self.end + (self.start - self.end) * 0.5 * (1.0 + exact_math.cospi(s))
            return min(max(value, min(self.start, self.end)), max(self.start, self.end))  # rounding leaves the interval
        return self.end

    def as_table(self) -> dict[str, str | float | int]:
        """The four fields, `Schedule.of` of which is this schedule again."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(name: str, value: Any) -> float:
    if _is_number(value) and abs(value) <= sys.float_info.max:
        return float(value)
    raise InputError(f"{name} = {value!r}: must be a finite number")
