"""Run: a simulation under way or kept in a file: configuration, problem, ensemble and trace in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import runfile
from .config import Config, Data, Particles, parse_config, to_toml
from .datasets import Dataset, checked_dataset, load_dataset, read_arrays
from .dynamics import DYNAMICS, Dynamics
from .ensemble import Ensemble
from .errors import InputError, RunFileError
from .problem import Problem
from .storage import RowReader, Stream
from .trace import (
    Measure,
    Trace,
    affordable_gap_every,
    affordable_test_every,
    occasional_gap,
    occasional_test_error,
)

_ROWS = 1 << 18  # particles converted at a time when an ensemble goes to or comes from a file


@dataclass
class Run:
    """What a run file holds. `config` is explicit: whatever a default decided is written out in it."""

    config: Config
    dataset: Dataset
    problem: Problem
    ensemble: Ensemble
    recorder: Trace
    attributes: dict[str, Any] = field(default_factory=dict)
    recovered: str | None = None

    @property
    def trace(self) -> dict[str, np.ndarray]:
        """Name -> (k,) array."""
        return self.recorder.columns

    @property
    def dynamics(self) -> Dynamics:
        return DYNAMICS[self.config.dynamics.method].of(self.config.dynamics)

    def save(self, path: str | Path, *, keep_previous: bool = True) -> None:
        """Replace the run file whole. Raises StorageError if it cannot be written; nothing old is lost then.

        keep_previous=False is for the first file of a run: what stood there before belongs to another one.
        """
        ensemble, dataset = self.ensemble, self.dataset
        arrays = {"X": dataset.X, "y": dataset.y, "X_test": dataset.X_test, "y_test": dataset.y_test}

        def stream(first: int, last: int) -> Stream:
            return Stream((ensemble.m, last - first), ensemble.dtype, _components(ensemble, first, last))

        runfile.save(path, runfile.RunContent(
            config=to_toml(self.config),
            data={name: values for name, values in arrays.items() if values is not None},
            data_sha256=dataset.sha256,
            w=stream(ensemble.d, ensemble.d + ensemble.outputs), u=stream(0, ensemble.d),
            step=ensemble.step, time=ensemble.time, seed=ensemble.seed, memory=ensemble.memory,
            trace=self.trace, timing=self.recorder.timing, attributes=self.attributes,
        ), keep_previous=keep_previous)  # fmt: skip


def load(path: str | Path, *, fall_back: bool = False) -> Run:
    """The run kept at `path`, verified: `.config .problem .ensemble .trace`.

    With `fall_back` the generation before takes the place of a damaged file, and `recovered` says so. RunFileError: a
    file that is missing, damaged, not a run, of a newer format, or whose parts do not belong together.
    """
    content = runfile.load(path, lazy=True, fall_back=fall_back)
    config = parse_config(content.config, f"{path}: config")
    data = content.data
    dataset = Dataset(data["X"], data["y"], data.get("X_test"), data.get("y_test"), config.data.source)
    if dataset.sha256 != content.data_sha256:
        raise RunFileError(f"{path}: the data are not those the run was started with (SHA-256 differs)")
    problem = problem_of(config, dataset)
    ensemble = _read_ensemble(content)
    problem.check(ensemble)
    _check_agreement(path, config, dataset, ensemble, content.trace)
    trace = recorder(config, None, content.trace, content.timing)
    return Run(config, dataset, problem, ensemble, trace, content.attributes, content.recovered)


def _check_agreement(
    path: str | Path, config: Config, dataset: Dataset, ensemble: Ensemble, trace: Mapping[str, np.ndarray]
) -> None:
    """RunFileError for parts that no run has written together, though each is whole: to go on would mix two runs."""
    found = {
        "data.n": (config.data.n, len(dataset.X)),
        "data.d": (config.data.d, dataset.X.shape[1]),
        "ensemble.m": (config.ensemble.m, ensemble.m),
        "ensemble.dtype": (config.ensemble.dtype, ensemble.dtype.name),
        "ensemble.seed": (config.ensemble.seed, ensemble.seed),
    }
    for name, (said, held) in found.items():
        if said != held:
            raise RunFileError(f"{path}: says {name} = {said}, but holds {held}: these are not one run's parts")
    last = trace["step"][-1] if len(trace.get("step", ())) else 0
    if last > ensemble.step:
        raise RunFileError(
            f"{path}: its trace ends at step {last}, its particles at step {ensemble.step}: not one run's parts"
        )


def problem_of(config: Config, dataset: Dataset) -> Problem:
    """The problem that a configuration poses on these data."""
    objective = config.objective
    return Problem(
        dataset.X, dataset.y, loss=objective.loss, reg=objective.reg, temperature=objective.temperature,
        X_test=dataset.X_test, y_test=dataset.y_test,
    )  # fmt: skip


def prepare(config: Config, measures: Mapping[str, Measure] | None = None) -> Run:
    """A new run as a configuration asks for it. InputError: data or particles that cannot be used."""
    dataset = load_dataset(config.data)
    problem = problem_of(config, dataset)
    wanted = config.ensemble
    parent: dict[str, str] = {}
    if wanted.init in ("sphere", "gaussian"):
        make = Ensemble.sphere if wanted.init == "sphere" else Ensemble.gaussian
        ensemble = make(wanted.m, problem.d, problem.outputs, scale=wanted.scale, seed=wanted.seed, dtype=wanted.dtype)
    else:
        ensemble, parent = _particles_from(wanted)
    problem.check(ensemble)
    config = explicit(config, problem, ensemble)
    return Run(config, dataset, problem_of(config, dataset), ensemble, recorder(config, measures), parent)


def given(
    problem: Problem, ensemble: Ensemble, config: Config, measures: Mapping[str, Measure] | None = None
) -> Run:
    """A new run of a problem and an ensemble made in Python; `config` says the rest."""
    problem.check(ensemble)
    dataset = checked_dataset(problem.X, problem.y, problem.X_test, problem.y_test, where="arrays")
    config = config.model_copy(update={
        "data": Data(source="arrays"),
        "ensemble": Particles(init="given", seed=ensemble.seed, dtype=ensemble.dtype.name),  # type: ignore[arg-type]
    })  # fmt: skip
    config = explicit(config, problem, ensemble)
    return Run(config, dataset, problem_of(config, dataset), ensemble, recorder(config, measures))


def explicit(config: Config, problem: Problem, ensemble: Ensemble) -> Config:
    """The configuration with every default decided and every size filled in."""
    n_test = 0 if problem.X_test is None else len(problem.X_test)
    config = config.resolved(problem.critical_reg()).with_sizes(n=problem.n, d=problem.d, n_test=n_test, m=ensemble.m)
    record, every = config.record, config.run.record_every
    decided: dict[str, Any] = {}
    if record.test_every == "auto":
        decided["test_every"] = affordable_test_every(problem.n, n_test, every)
    if record.gap_every == "auto":
        decided["gap_every"] = affordable_gap_every(ensemble.m, problem.n, problem.d, every)
    return config.model_copy(update={"record": record.model_copy(update=decided)})


def recorder(
    config: Config, measures: Mapping[str, Measure] | None = None, *columns: Mapping[str, np.ndarray]
) -> Trace:
    """The trace that a configuration asks for, going on from `columns` (of the trace, of its timing), if given."""
    record = config.record
    occasional = [occasional_test_error(int(record.test_every))]
    if record.gap:
        occasional.append(occasional_gap(int(record.gap_every)))
    return Trace(config.run.record_every, occasional, measures, *columns)


def _components(ensemble: Ensemble, first: int, last: int) -> Iterator[np.ndarray]:
    """Components first … last − 1 of θ for `_ROWS` particles after the other: only these are laid out in rows."""
    groups, group = len(ensemble.theta), ensemble.theta.shape[2]
    for g0 in range(0, groups, _ROWS // group):
        part = ensemble.theta[g0 : g0 + _ROWS // group, first:last]
        rows = np.ascontiguousarray(part.swapaxes(1, 2)).reshape(-1, last - first)
        yield rows[: ensemble.m - g0 * group]


def _read_ensemble(content: runfile.RunContent) -> Ensemble:
    w, u = content.w, content.u
    assert isinstance(w, RowReader)
    assert isinstance(u, RowReader)
    ensemble = Ensemble.empty(
        u.shape[0], u.shape[1], w.shape[1], u.dtype,
        seed=content.seed, step=content.step, time=content.time, memory=content.memory,
    )  # fmt: skip
    for first in range(0, ensemble.m, _ROWS):
        last = min(first + _ROWS, ensemble.m)
        ensemble.fill(first, w.rows(first, last), u.rows(first, last))
    return ensemble


def _particles_from(section: Particles) -> tuple[Ensemble, dict[str, str]]:
    """Particles from a user's file with arrays w (m, C) or (m,) and u (m, d), or of a run, which is then the parent."""
    path = section.init
    parent: dict[str, str] = {}
    arrays = read_arrays(path, ("w", "u"))
    if path.endswith(".h5") and not arrays:
        run = load(path)
        arrays = {"w": run.ensemble.w, "u": run.ensemble.u}
        parent["parent"] = f"{path}, step {run.ensemble.step}, data {run.dataset.sha256}"
    missing = [name for name in ("w", "u") if name not in arrays]
    if missing:
        raise InputError(f"{path}: has no array {missing[0]!r}; particles are w (m, C) and u (m, d)")
    return Ensemble.from_arrays(arrays["w"], arrays["u"], seed=section.seed, dtype=section.dtype), parent
