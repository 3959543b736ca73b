"""Measures by name: what `record.measures` may switch on in a trace, their columns, and a model of their cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import diagnostics
from ..diagnostics import neurons
from ..dynamics.base import Field
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .snapshots import Snapshot, Snapshots

_SHARE = 0.05  # of a run's time that all its named measures together may take
_PARTICLE = 42e-12  # seconds of a step, a particle, example and dimension: see trace.affordable_gap_every


class Scene(NamedTuple):
    """What a measure may look at; start is the initial ensemble, as far as it was kept."""

    field: Field
    ensemble: Ensemble
    moments: Moments
    start: Snapshot | None
    now: Ensemble | None
    dims: int

    @property
    def threads(self) -> int:
        return self.field.sweep.workers.threads


class Sizes(NamedTuple):
    """On which the cost depends: D = d + C, p = particles in a snapshot."""

    m: int
    n: int
    d: int
    D: int
    n_test: int
    p: int


@dataclass(frozen=True)
class Measure:
    """`seconds` models what it takes once, on two cores; `from_start`: it needs the initial ensemble kept."""

    columns: tuple[str, ...]
    take: Callable[[Scene], tuple[float, ...]]
    seconds: Callable[[Sizes], float]
    from_start: bool = False


def _free_energy(scene: Scene) -> tuple[float, ...]:
    found = diagnostics.entropy(scene.ensemble)
    value = diagnostics.free_energy(scene.field.problem, scene.ensemble, scene.moments, found)
    return value, found.value


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
    if scene.start is None or scene.now is None:
        return math.nan, math.nan
    found = diagnostics.kernel_movement(scene.start.ensemble, scene.now, scene.field.problem.X)
    return found.relative, found.rotation


def _sorting(size: Sizes, particles: int) -> float:
    return 1.8e-8 * particles * max(100, 4 * min(size.D, 25))


# Seconds measured with two threads, between d + C = 3 and 65.
MEASURES = {
    "free_energy": Measure(("free_energy", "entropy"), _free_energy, lambda s: 1e-9 * min(s.m, 4096) ** 2 * s.D),
    "margins": Measure(("margin_q10", "margin_q50", "margin_q90"), _margins, lambda s: 1e-4 + 1e-7 * s.n),
    "calibration": Measure(("calibration_error",), _calibration, lambda s: 0.5 * _PARTICLE * s.m * s.n_test * s.d),
    "stationarity": Measure(("stationarity",), _stationarity, lambda s: s.m * (_PARTICLE * s.n * s.d + 5e-9 * s.D)),
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


def need_start(names: Sequence[str]) -> bool:
    """Whether any of them compares with the initial ensemble, so that the run must keep it as a snapshot."""
    return any(MEASURES[name].from_start for name in names)


def columns(names: Sequence[str]) -> tuple[str, ...]:
    """Of the trace."""
    return tuple(column for name in names for column in MEASURES[name].columns)


def taking(names: Sequence[str], kept: Snapshots, dims: int) -> Callable[[Field, Ensemble, Moments], tuple[float, ...]]:
    """The function that takes these measures, those of the start against the first snapshot of `kept`.

    dims: coordinates, from the first, with which `alignment` is measured.
    """

    def take(field: Field, ensemble: Ensemble, moments: Moments) -> tuple[float, ...]:
        start = kept.taken[0] if kept.taken and need_start(names) else None
        now = kept.of(ensemble) if start is not None else None
        scene = Scene(field, ensemble, moments, start, now, dims)
        with single_threaded_blas():  # its sums must not depend on threads
            return tuple(value for name in names for value in MEASURES[name].take(scene))

    return take


def affordable_every(
    names: Sequence[str], problem: Problem, m: int, *, kept: int, steps: int, record_every: int
) -> int:
    """The smallest multiple of `record_every` at which all these measures cost at most 5 % of the run, by their models.

    But ten times in `steps`, as far as there are rows, whatever they cost. kept: particles in a snapshot.
    """
    n_test = 0 if problem.X_test is None else len(problem.X_test)
    size = Sizes(m, problem.n, problem.d, problem.d + problem.outputs, n_test, min(kept, m))
    seconds = sum(MEASURES[name].seconds(size) for name in names)
    step = _PARTICLE * m * problem.n * problem.d
    rows = min(math.ceil(seconds / (_SHARE * step * record_every)), steps // (10 * record_every))
    return record_every * max(1, rows)
