"""What a run will take, told before it runs."""

from __future__ import annotations

from typing import NamedTuple

from .run import Run
from .snapshots import nbytes


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
        arrays = (problem.X, problem.y, problem.X_test, problem.y_test)
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
