"""What a run will take, told before it runs."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from ..dynamics import Field
from ..ensemble import Ensemble
from .run import Run
from .snapshots import nbytes

_TRIED = 1 << 14  # particles with which a step is timed
_TOO_LONG = 1.0  # seconds of a step, by the model, from which none is timed
_WARM = 3  # steps before, in which all is compiled and filled
_STEPS = 5  # timed; the one in the middle counts, which no compilation or other program has held up


class Plan(NamedTuple):
    """Bytes that a run holds in memory at least, beside the process itself, and the rows of its trace.

    Explicit steps take little more than that; implicit ones also matrices of (n C)² numbers, and what chooses the
    particles to move.
    """

    particles: int
    activations: int
    data: int
    snapshots: int
    rows: int

    @classmethod
    def of(cls, run: Run) -> Plan:
        """That of a run, whose particles need not be drawn."""
        problem, ensemble, config = run.problem, run.ensemble, run.config
        bits = ensemble.m * problem.n // 8 if problem.outputs == 1 and problem.neuron.is_relu else 0
        arrays = (problem.inputs, problem.y, problem.test_inputs, problem.y_test)
        kept, steps = config.record.snapshot_particles, config.run.steps - ensemble.step
        return cls(
            ensemble.theta.nbytes,
            bits,
            sum(array.nbytes for array in arrays if array is not None),
            nbytes(range(config.record.snapshots), ensemble.m if kept == "all" else int(kept), ensemble),
            steps // config.run.record_every + 1,
        )

    @property
    def memory(self) -> int:
        """All that is held."""
        return self.particles + self.activations + self.data + self.snapshots

    @property
    def file(self) -> int:
        """About what the run file will have: all but the activations, and the rows of the trace."""
        return self.memory - self.activations + 8 * 20 * self.rows


def expected_seconds(run: Run, threads: int | None = None) -> float:
    """An estimate of what the steps to come will take here, records and checkpoints apart; the run is left as it is.

    A few steps of its dynamics are timed, on its data but with a part of the particles where there are many, and the
    model of a step's cost (`Dynamics.cost`) says how that grows with them. Where even one step would take long, the
    model alone decides.
    """
    problem, ensemble, dynamics = run.problem, run.ensemble, run.dynamics
    left = run.config.run.steps - ensemble.step

    def model(m: int) -> float:
        return dynamics.cost(m, problem.n, problem.d, problem.outputs)

    m = -(-ensemble.m // ensemble.span.ranks.size)
    few = min(m, _TRIED)
    if model(few) > _TOO_LONG:
        return left * model(m)
    tried = Ensemble.sphere(few, problem.d, problem.outputs, dtype=ensemble.dtype)
    field = Field(problem, ensemble.dtype, threads)
    clock = [0.0] * (_WARM + _STEPS)
    with np.errstate(all="ignore"):
        moments = field.predict(tried)
        for k in range(_WARM + _STEPS):
            began = time.perf_counter()
            moments = dynamics.step(field, tried, moments)
            clock[k] = time.perf_counter() - began
    return left * float(np.median(clock[_WARM:])) * model(m) / model(few)
