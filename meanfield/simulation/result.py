"""Result: what a simulation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..dynamics import Dynamics
from ..ensemble import Ensemble
from ..problem import Problem
from .config import Config
from .run import Run
from .snapshots import Snapshot


@dataclass
class Result:
    """A run where it stopped, and why.

    Attributes
    ----------
    run : Run
        With its `config`, `problem`, `ensemble`, `dynamics`, `trace` and `snapshots`, which the result has as well.
    stopped : str
        "done", "callback", a signal's name, "max_time", "objective_change" or "relative_gap".
    saved : bool
        False if a run file was wanted and could not be written at the end.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> result = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=5, record_every=2)
    >>> result.stopped, result.trace["step"].tolist(), result.final["step"]
    ('done', [0, 2, 4], 5)
    """

    run: Run
    stopped: str
    saved: bool = True

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
    def trace(self) -> dict[str, np.ndarray]:
        """Name -> (k,) array; int64 for `step`, else float64, NaN where not measured."""
        return self.run.trace

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those taken, in the order of their steps."""
        return self.run.snapshots

    @cached_property
    def final(self) -> dict[str, float]:
        """All measures of the last state, as a row of the trace has them, whatever `record_every` is.

        Taken when first asked for. Measures of the user's own are NaN in a result that was pickled before.
        """
        return self.run.measure()

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
        return self.run.plot(name, **options)


AnyRun = Run | Result  # what can be drawn
