"""Measures of a trace beside the basic ones: their columns, and a model of their cost.

By name, as `record.measures` switches them on, or objects of the user's own given to `simulate(measures=…)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import diagnostics
from ..arrays import number
from ..diagnostics import neurons
from ..dynamics import Field
from ..dynamics.base import PARTICLE
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .arguments import check_columns
from .snapshots import Snapshot, Snapshots
from .trace import EnsembleFunction

_SHARE = 0.05  # of a run's time that all its named measures together may take


class Scene(NamedTuple):
    """What a measure may look at, and must not change.

    field: the problem, as `field.problem`, bound to the compiled loops; moments: of the ensemble, its predictions
    `moments.f (n, C)` and ∫‖θ‖² dρ as `moments.second`; start: the particles kept of the initial ensemble, and now: the
    same ones at this step, None unless a measure asks `from_start`; dims: `record.alignment_dims`.
    """

    field: Field
    ensemble: Ensemble
    moments: Moments
    start: Snapshot | None
    now: Ensemble | None
    dims: int

    @property
    def threads(self) -> int:
        """That a measure may use."""
        return self.field.engine.workers.threads


class Sizes(NamedTuple):
    """On which the cost of a measure depends: m particles, n examples, d, D = d + C, and p particles in a snapshot."""

    m: int
    n: int
    d: int
    D: int
    n_test: int
    p: int


@dataclass(frozen=True)
class Measure:
    """One or several numbers about a state, each a column of the trace.

    Parameters
    ----------
    columns : tuple of str
        Names of its columns.
    take : callable
        From a `Scene` to as many numbers.
    seconds : callable, optional
        From `Sizes` to the seconds that taking it once costs, on two cores: it is then taken as often as
        `record.measures_every` says, which "auto" decides by the cost. Without, it is taken in every row.
    from_start : bool
        Whether it compares with the initial ensemble, which the run then keeps.

    Examples
    --------
    >>> from meanfield.simulation.measures import Measure
    >>> largest = Measure(("largest_w",), lambda scene: (float(abs(scene.ensemble.w).max()),))
    >>> largest.columns
    ('largest_w',)
    """

    columns: tuple[str, ...]
    take: Callable[[Scene], tuple[float, ...]]
    seconds: Callable[[Sizes], float] | None = None
    from_start: bool = False

    def cost(self, sizes: Sizes) -> float:
        """Seconds, by its model; 0 if it has none."""
        return self.seconds(sizes) if self.seconds is not None else 0.0


WantedMeasures = Mapping[str, EnsembleFunction] | Sequence["str | Measure"]


class Wanted(NamedTuple):
    """The argument `measures` of a run, sorted: names of ours, objects of the user's own, functions of the ensemble."""

    names: list[str]
    objects: list[Measure]
    functions: dict[str, EnsembleFunction]

    @property
    def every_row(self) -> list[Measure]:
        """Objects without a model of their cost."""
        return [measure for measure in self.objects if measure.seconds is None]

    @property
    def occasional(self) -> list[Measure]:
        """Objects with one."""
        return [measure for measure in self.objects if measure.seconds is not None]


def sort_measures(measures: WantedMeasures | None) -> Wanted:
    """What a user gives as `measures`. InputError: neither functions by name nor names and `Measure` objects."""
    if measures is None:
        return Wanted([], [], {})
    if isinstance(measures, Mapping):
        check_columns(list(measures))
        for name, function in measures.items():
            if not callable(function):
                raise InputError(f"measures: {name!r}: must be a function of the ensemble")
        return Wanted([], [], dict(measures))
    if isinstance(measures, str) or not isinstance(measures, Sequence):
        raise InputError(f"measures = {measures!r}: must be a table of functions, or a list of names and of measures")
    for entry in measures:
        if not isinstance(entry, str | Measure):
            raise InputError(f"measures: {entry!r}: must be a name, or a Measure with its columns")
        if isinstance(entry, Measure):
            check_columns(entry.columns)
    ours = [entry for entry in measures if isinstance(entry, str)]
    return Wanted(ours, [entry for entry in measures if isinstance(entry, Measure)], {})


def _free_energy(scene: Scene) -> tuple[float, ...]:
    entropy = diagnostics.entropy(scene.ensemble)
    value = diagnostics.free_energy(scene.field.problem, scene.ensemble, scene.moments, entropy)
    return value, entropy.value


def _margins(scene: Scene) -> tuple[float, ...]:
    return tuple(map(float, diagnostics.margin_quantiles(scene.field.problem, scene.moments)))


def _calibration(scene: Scene) -> tuple[float, ...]:
    return (diagnostics.calibration_on_test_set(scene.field.problem, scene.ensemble, scene.threads),)


def _stationarity(scene: Scene) -> tuple[float, ...]:
    return (diagnostics.stationarity(scene.field, scene.ensemble, scene.moments),)


def _noise_floor(scene: Scene) -> tuple[float, ...]:
    return (diagnostics.noise_floor(scene.ensemble, threads=scene.threads).value if scene.ensemble.m > 1 else math.nan,)


def _effective_neurons(scene: Scene) -> tuple[float, ...]:
    return (diagnostics.effective_neurons(scene.ensemble),)


def _alignment(scene: Scene) -> tuple[float, ...]:
    d = scene.ensemble.d
    return (diagnostics.alignment(scene.ensemble, np.eye(d)[: min(scene.dims, d)]),)


def _transport(scene: Scene) -> tuple[float, ...]:
    if scene.start is None or scene.now is None:
        return (math.nan,)
    return (diagnostics.sliced_distance(scene.start.ensemble, scene.now, threads=scene.threads).value,)


def _kernel_movement(scene: Scene) -> tuple[float, ...]:
    scene.field.problem.neuron.require_relu("kernel_movement")
    if scene.start is None or scene.now is None:
        return math.nan, math.nan
    movement = diagnostics.kernel_movement(scene.start.ensemble, scene.now, scene.field.problem.X)
    return movement.relative, movement.rotation


def _sorting(size: Sizes, particles: int) -> float:
    return 1.8e-8 * particles * max(100, 4 * min(size.D, 25))


# Seconds measured with two threads, between d + C = 3 and 65.
MEASURES = {
    "free_energy": Measure(("free_energy", "entropy"), _free_energy, lambda s: 1e-9 * min(s.m, 4096) ** 2 * s.D),
    "margins": Measure(("margin_q10", "margin_q50", "margin_q90"), _margins, lambda s: 1e-4 + 1e-7 * s.n),
    "calibration": Measure(("calibration_error",), _calibration, lambda s: 0.5 * PARTICLE * s.m * s.n_test * s.d),
    "stationarity": Measure(("stationarity",), _stationarity, lambda s: s.m * (PARTICLE * s.n * s.d + 5e-9 * s.D)),
    "noise_floor": Measure(("noise_floor",), _noise_floor, lambda s: _sorting(s, s.m)),
    "effective_neurons": Measure(("effective_neurons",), _effective_neurons, lambda s: 1.6e-8 * min(s.m, 4096) ** 2),
    "alignment": Measure(("alignment",), _alignment, lambda s: 3e-8 * s.m * s.d),
    "transport": Measure(("transport",), _transport, lambda s: _sorting(s, 2 * s.p), from_start=True),
    "kernel_movement": Measure(
        ("kernel_movement", "kernel_rotation"),
        _kernel_movement,
        lambda s: s.p * (1e-5 + 2.4e-10 * min(s.n, neurons.POINTS) ** 2),
        from_start=True,
    ),
}


def chosen(measures: Sequence[str | Measure]) -> list[Measure]:
    """Names and objects as objects."""
    return [MEASURES[entry] if isinstance(entry, str) else entry for entry in measures]


def need_start(measures: Sequence[str | Measure]) -> bool:
    """Whether any of them compares with the initial ensemble, so that the run must keep it as a snapshot."""
    return any(measure.from_start for measure in chosen(measures))


def columns(measures: Sequence[str | Measure]) -> tuple[str, ...]:
    """Of the trace."""
    return tuple(column for measure in chosen(measures) for column in measure.columns)


@dataclass(frozen=True)
class Taker:
    """Takes these measures, those of the start against the first snapshot of `snapshots`.

    dims: coordinates, from the first, with which `alignment` is measured.
    """

    measures: tuple[str | Measure, ...]
    snapshots: Snapshots
    dims: int

    def __call__(self, field: Field, ensemble: Ensemble, moments: Moments) -> tuple[float, ...]:
        """Their numbers, in the order of their columns. InputError: not as many numbers as columns."""
        taken = self.snapshots.taken
        start = taken[0] if taken and need_start(self.measures) else None
        now = self.snapshots.of(ensemble) if start is not None else None
        scene = Scene(field, ensemble, moments, start, now, self.dims)
        with single_threaded_blas():  # its sums must not depend on threads
            return tuple(value for measure in chosen(self.measures) for value in _checked(measure, measure.take(scene)))


def _checked(measure: Measure, values: Sequence[float]) -> tuple[float, ...]:
    names = measure.columns
    if not isinstance(values, tuple | list) or len(values) != len(names):
        raise InputError(f"measure {', '.join(names)}: gave {values!r}, must be a tuple of as many numbers as columns")
    return tuple(number(value, f"measure {name}") for name, value in zip(names, values, strict=True))


def affordable_every(
    measures: Sequence[str | Measure],
    problem: Problem,
    m: int,
    *,
    step: float,
    kept: int,
    steps: int,
    record_every: int,
) -> int:
    """The smallest multiple of `record_every` at which all these measures cost at most 5 % of the run, by their models.

    But ten times in `steps`, as far as there are rows, whatever they cost. step: seconds that one takes; kept:
    particles in a snapshot.
    """
    n_test = problem.n_test
    size = Sizes(m, problem.n, problem.d, problem.d + problem.outputs, n_test, min(kept, m))
    seconds = sum(measure.cost(size) for measure in chosen(measures))
    rows = min(math.ceil(seconds / (_SHARE * step * record_every)), steps // (10 * record_every))
    return record_every * max(1, rows)
