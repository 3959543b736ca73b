"""Result: what a simulation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..dynamics import Dynamics
from ..ensemble import Ensemble
from ..problem import Problem
from ..shown import Shown
from .config import Config
from .final_gap import FinalGap
from .final_gap import final_gap as measured_gap
from .run import TOLD, Run
from .snapshots import Snapshot
from .trace import Columns


@dataclass(repr=False)
class Result(Shown):
    """A run where it stopped, and why.

    Attributes
    ----------
    run : Run
        With its `config`, `problem`, `ensemble`, `dynamics`, `trace` and `snapshots`, which the result has as well.
    stopped : str
        "done", "callback", a signal's name, "max_time", "objective_change" or "relative_gap".
    saved : bool
        False if a run file was wanted and could not be written at the end.
    wants_gap : bool
        Whether `final` and `final_gap` say how far from the minimum the last state is.
    threads : int or None
        That it was given, to measure by.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> result = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=5, record_every=2)
    >>> result.stopped, result.trace["step"].tolist(), result.final["step"]
    ('done', [0, 2, 4, 5], 5)
    """

    run: Run
    stopped: str
    saved: bool = True
    wants_gap: bool = True
    threads: int | None = None

    def _facts(self) -> dict[str, Any]:
        """Those of the run; of the last state instead of the last row, where that was measured already."""
        measured = vars(self).get("final", {})
        told = {name: measured[name] for name in TOLD if name in measured}
        where = {"recorded": None} if measured else {}
        return {"stopped": self.stopped, **self.run._facts(), **where, **told}

    @property
    def config(self) -> Config:
        """What was asked for, with every default decided."""
        return self.run.config

    @property
    def problem(self) -> Problem:
        """With λ as it was lowered."""
        return self.run.problem

    @property
    def ensemble(self) -> Ensemble:
        """The particles where the run stopped."""
        return self.run.ensemble

    @property
    def dynamics(self) -> Dynamics:
        """The very object that was given."""
        return self.run.dynamics

    @property
    def trace(self) -> Columns:
        """Name -> (k,) array; int64 for `step`, else float64, NaN where not measured. Its last row is the last state.

        Where `record_every` gives that state no row, it is measured when the trace is first asked for, by all ranks; in
        `run.trace`, and so in the file, it has none. Of the user's own measures it has what `final` has.
        """
        recorder = self.run.recorder
        return recorder.columns if recorder.last.get("step") == self.ensemble.step else recorder.ended_by(self._last)

    @cached_property
    def _last(self) -> dict[str, float]:
        return self.run.measure()

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those taken, in the order of their steps."""
        return self.run.snapshots

    @cached_property
    def final(self) -> dict[str, float]:
        """All measures of the last state, as a row of the trace has them, whatever `record_every` is.

        With them `lower_bound` and `relative_gap` of `final_gap`, unless the run was told to leave them out. Taken when
        first asked for. Measures of the user's own are NaN in a result that was pickled before.
        """
        row = dict(self._last)
        if self.wants_gap:
            gap = self.final_gap
            row |= {"lower_bound": gap.lower_bound, "relative_gap": gap.relative_gap}
        return row

    @cached_property
    def final_gap(self) -> FinalGap:
        """How far from the minimum the last state is: an estimate, proven in few dimensions; `missing` says why not.

        By at most a tenth of the work of the run's steps, when first asked for. At τ > 0 it is that of the free energy.
        """
        if not self.wants_gap:
            return FinalGap(missing="it was not wanted")
        return measured_gap(self.run, self.stopped, self.threads)

    def plot(self, name: str = "convergence", **options: Any) -> Any:
        """A figure of the run: `meanfield.plots.figure(result, name, **options)`.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield import Ensemble, Problem, simulate
        >>> result = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=4, record_every=2)
        >>> len(result.plot("convergence").axes)
        4
        """
        import meanfield  # drawing stands above simulation, behind the package's own door

        return meanfield.plots.figure(self, name, **options)


AnyRun = Run | Result  # what can be drawn
