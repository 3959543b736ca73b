"""Trace: what is measured along a run, and when. Rows exist at step 0 and at multiples of `record_every` only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import diagnostics
from ..arrays import number
from ..dynamics import Field
from ..dynamics.base import PARTICLE
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import InputError
from ..optimality import certificate
from ..shown import Shown

EnsembleFunction = Callable[[Ensemble], float]


@dataclass(frozen=True)
class Occasional:
    """Measures taken at multiples of `every` steps, NaN in the rows between.

    own: of the user's own, and so not part of a trace that is pickled.
    """

    every: int
    names: tuple[str, ...]
    take: Callable[[Field, Ensemble, Moments], tuple[float, ...]]
    own: bool = False


class Columns(Shown, dict[str, np.ndarray]):
    """The trace as it is read: name -> (k,) array. It shows itself by the first and the last row.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.simulation.trace import Columns
    >>> Columns(step=np.array([0, 20]), risk=np.array([0.7, 0.5]))
    Columns(step=0 → 20, risk=0.7 → 0.5)
    """

    def _facts(self) -> dict[str, str]:
        return {name: f"{column[0]:.6g} → {column[-1]:.6g}" for name, column in self.items() if len(column)}


class _Column:
    """Numbers, one after the other: a sequence that grows at its end, and of which a view costs nothing."""

    def __init__(self, name: str, values: Sequence[float] | np.ndarray) -> None:
        self._room = np.array(values, np.int64 if name == "step" else np.float64)
        self._count = len(self._room)

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> np.ndarray:
        """Those there are, and stay as they are: (k,), not a copy."""
        return self._room[: self._count]

    def append(self, value: float) -> None:
        if self._count == len(self._room):
            self._room = np.resize(self._room, max(64, 2 * self._count))
        self._room[self._count] = value
        self._count += 1


class Trace(Shown):
    """Growing columns, one a measure, all of one length; `timing` holds wall-clock columns of the same rows.

    Parameters
    ----------
    record_every : int
        Steps between rows.
    occasional : sequence of Occasional
        What is taken beside the basic measures.
    measures : mapping of str to callable, optional
        Functions of the ensemble, taken in every row.
    columns, timing : mapping of str to (k,) array, optional
        Rows to go on from.

    A pickled trace, as one in a run file, has its numbers and not what the user gave to take some of them.

    Examples
    --------
    >>> from meanfield.simulation.trace import Trace
    >>> trace = Trace(20, columns={"step": [0, 20], "risk": [0.7, 0.5]})
    >>> trace.last
    {'step': 20, 'risk': 0.5}
    >>> trace
    Trace(rows=2, record_every=20, step=20, risk=0.5)
    """

    def __init__(
        self,
        record_every: int,
        occasional: Sequence[Occasional] = (),
        measures: Mapping[str, EnsembleFunction] | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        timing: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.record_every, self.occasional, self.measures = record_every, list(occasional), dict(measures or {})
        self._columns = {name: _Column(name, values) for name, values in (columns or {}).items()}
        self._timing = {name: _Column(f"timing/{name}", values) for name, values in (timing or {}).items()}

    def __getstate__(self) -> dict[str, Any]:
        kept = [some for some in self.occasional if not some.own]
        return {**self.__dict__, "occasional": kept, "measures": {}}

    def _facts(self) -> dict[str, Any]:
        return {"rows": self._rows, "record_every": self.record_every, **self.last}

    @property
    def _rows(self) -> int:
        return len(self._columns.get("step", ()))

    @property
    def columns(self) -> Columns:
        """Name -> (k,) array; int64 for `step`, else float64, NaN where not measured."""
        return Columns({name: values.copy() for name, values in self.views.items()})

    @property
    def views(self) -> dict[str, np.ndarray]:
        """`columns` as they are kept, not copied, and so for reading only."""
        return {name: column.values for name, column in self._columns.items()}

    @property
    def timing(self) -> dict[str, np.ndarray]:
        """Wall-clock columns, likewise."""
        return {name: column.values for name, column in self._timing.items()}

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run up to its last row."""
        return float(self._timing["seconds"].values[-1]) if self._timing.get("seconds") else 0.0

    @property
    def last(self) -> dict[str, float]:
        return {name: values[-1].item() for name, values in self.views.items() if len(values)}

    def last_values(self, name: str, count: int) -> list[float]:
        return self.views[name][-count:].tolist() if name in self._columns else []

    def record(self, field: Field, ensemble: Ensemble, moments: Moments, seconds: float) -> None:
        """Add the row of this step, if it has one and it is not there yet. InputError: two measures of one name."""
        k = ensemble.step
        if k % self.record_every or (self._rows and self._columns["step"].values[-1] >= k):
            return
        due = [some for some in self.occasional if k % some.every == 0]
        row = self._measured(field, ensemble, moments, due)
        height = self._rows
        for name in {**self._columns, **row}:
            if name not in self._columns:
                self._columns[name] = _Column(name, np.full(height, math.nan))
            self._columns[name].append(row.get(name, math.nan))
        self._timing.setdefault("seconds", _Column("seconds", [])).append(seconds)

    def row_of(self, field: Field, ensemble: Ensemble) -> dict[str, float]:
        """All measures of a state, as a row of the trace has them, whether or not its step has one; none is added."""
        row = self._measured(field, ensemble, field.predict(ensemble), self.occasional)
        return {name: row.get(name, math.nan) for name in {**self._columns, **row}}

    def ended_by(self, row: Mapping[str, float]) -> Columns:
        """The columns with a row below them, of a step that has none; it is not added."""
        nothing, views = np.full(self._rows, math.nan), self.views
        names = {**views, **row}
        return as_columns({name: np.append(views.get(name, nothing), row.get(name, math.nan)) for name in names})

    def _measured(
        self, field: Field, ensemble: Ensemble, moments: Moments, due: Sequence[Occasional]
    ) -> dict[str, float]:
        """Name -> number, NaN for an occasional measure that is not due."""
        if len(moments.f) != field.problem.n:  # a minibatch saw only some of the examples
            moments = field.predict(ensemble)
        row = diagnostics.basic_measures(field, ensemble, moments)
        for some in self.occasional:
            values = some.take(field, ensemble, moments) if some in due else (math.nan,) * len(some.names)
            _add(row, dict(zip(some.names, values, strict=True)))
        for name, function in self.measures.items():
            _add(row, {name: math.nan})
            row[name] = number(function(ensemble), f"measure {name}")
        return row


def as_columns(rows: Mapping[str, Sequence[float] | np.ndarray]) -> Columns:
    """Name -> (k,) array; int64 for `step`, else float64."""
    return Columns(
        {name: np.array(values, np.int64 if name == "step" else np.float64) for name, values in rows.items()}
    )


def _add(row: dict[str, float], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if name in row:
            raise InputError(f"measures: {name!r} is a measure of this trace already; choose another name")
        row[name] = value


def occasional_test_error(every: int) -> Occasional:
    """test_error, at multiples of `every` steps."""
    return Occasional(every, ("test_error",), _test_error)


def _test_error(field: Field, ensemble: Ensemble, moments: Moments) -> tuple[float, ...]:
    return (diagnostics.error_on_test_set(field.problem, ensemble, field.engine.workers.threads),)


def occasional_gap(every: int) -> Occasional:
    """lower_bound, an estimate of a lower bound on min L, and relative_gap = 1 − lower_bound/L; NaN while τ > 0."""
    return Occasional(every, ("lower_bound", "relative_gap"), _gap)


def _gap(field: Field, ensemble: Ensemble, moments: Moments) -> tuple[float, ...]:
    problem, k = field.problem, ensemble.step
    if problem.temperature(k) > 0:
        return math.nan, math.nan
    primal = problem.evaluate(moments.f, moments.penalty, problem.reg(k)).value
    lower = certificate.estimated_bound(problem, ensemble, moments, problem.reg(k), field.engine.workers.threads)
    return lower, 1 - lower / primal if primal > 0 else 0.0


def affordable_test_every(step: float, m: int, n_test: int, d: int, record_every: int) -> int:
    """The smallest multiple of `record_every` at which predicting the test set costs at most 5 % of the run.

    step: seconds that one takes (`Dynamics.cost`), where passing once over an example is half of an explicit step.
    """
    rows = 0.5 * PARTICLE * m * n_test * d / (0.05 * step * record_every)
    return record_every * max(1, math.ceil(rows * (1 - 1e-9)))


def affordable_gap_every(step: float, n: int, d: int, outputs: int, record_every: int, steps: int) -> int:
    """The multiple of `record_every` at which the gap costs about 6 % of the run, by a model of its cost.

    Measured on one core: 20 ms, times C² for refits of several outputs, and 12 µs an example, dimension and output. A
    run of few `steps` of few particles has two nevertheless, the last when it ends.
    """
    gap = 0.02 * outputs**2 + 12e-6 * n * d * outputs
    rows = max(1, round(gap / (0.06 * step * record_every)))
    return record_every * min(rows, max(1, steps // record_every))
