"""Trace: what is measured along a run, and when. Rows exist at step 0 and at multiples of `record_every` only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from . import diagnostics
from .dynamics import Field
from .ensemble import Ensemble
from .errors import InputError
from .sweep import Moments

Measure = Callable[[Ensemble], float]


class Trace:
    """Growing columns, one a measure, all of one length; `timing` holds wall-clock columns of the same rows."""

    def __init__(
        self,
        record_every: int,
        test_every: int,
        measures: Mapping[str, Measure] | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        timing: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.record_every, self.test_every, self.measures = record_every, test_every, dict(measures or {})
        self._columns = {name: list(values) for name, values in (columns or {}).items()}
        self._timing = {name: list(values) for name, values in (timing or {}).items()}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Name -> (k,) array; int64 for `step`, else float64, NaN where not measured."""
        kinds = {"step": np.int64}
        return {name: np.array(values, kinds.get(name, np.float64)) for name, values in self._columns.items()}

    @property
    def timing(self) -> dict[str, np.ndarray]:
        return {name: np.array(values, np.float64) for name, values in self._timing.items()}

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run up to its last row."""
        return self._timing["seconds"][-1] if self._timing.get("seconds") else 0.0

    @property
    def last(self) -> dict[str, float]:
        return {name: values[-1] for name, values in self._columns.items() if values}

    def last_values(self, name: str, count: int) -> list[float]:
        return self._columns.get(name, [])[-count:]

    def record(self, field: Field, ensemble: Ensemble, moments: Moments, seconds: float) -> None:
        """Add the row of this step, if it has one and it is not there yet."""
        k = ensemble.step
        if k % self.record_every or (self._columns.get("step") and self._columns["step"][-1] >= k):
            return
        if len(moments.f) != field.problem.n:  # a minibatch saw only some of the examples
            moments = field.predict(ensemble)
        row = diagnostics.basic(field, ensemble, moments)
        tested = k % self.test_every == 0
        threads = field.sweep.workers.threads
        row["test_error"] = diagnostics.error_on_test_set(field.problem, ensemble, threads) if tested else math.nan
        for name, measure in self.measures.items():
            if name in row:
                raise InputError(f"measures: {name!r} is a measure of every trace already; choose another name")
            row[name] = float(measure(ensemble))
        height = len(self._columns.get("step", ()))
        for name in {**self._columns, **row}:
            self._columns.setdefault(name, [math.nan] * height).append(row.get(name, math.nan))
        self._timing.setdefault("seconds", []).append(seconds)


def affordable_test_every(n: int, n_test: int, record_every: int) -> int:
    """The smallest multiple of `record_every` at which predicting the test set costs at most 5 % of the run.

    A step passes twice over n examples, a test once over n_test.
    """
    return record_every * max(1, math.ceil(n_test / (0.05 * 2 * n * record_every)))
