"""Run: a simulation under way or kept in a file: configuration, problem, ensemble and trace in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.load import Dataset, checked_dataset, load_dataset, read_arrays
from ..diagnostics.basic import BASIC
from ..dynamics.base import DYNAMICS, Dynamics
from ..ensemble import Ensemble
from ..errors import InputError, RunFileError
from ..problem import Problem
from ..runtime.communicator import ALONE, Alone
from ..storage import run_file
from ..storage.hdf5 import RowReader, Stream
from . import measures as named
from .config import Config, Data, Particles, parse_config, to_toml
from .snapshots import Snapshot, Snapshots, from_content, nbytes, spaced
from .trace import (
    Measure,
    Occasional,
    Trace,
    affordable_gap_every,
    affordable_test_every,
    occasional_gap,
    occasional_test_error,
)

_ROWS = 1 << 16  # particles converted at a time when an ensemble goes to or comes from a file
_SNAPSHOT_BYTES = 1 << 32  # a run's snapshots are held in memory, and written with every checkpoint


@dataclass
class Run:
    """What a run file holds. `config` is explicit: whatever a default decided is written out in it."""

    config: Config
    dataset: Dataset
    problem: Problem
    ensemble: Ensemble
    recorder: Trace
    kept: Snapshots
    attributes: dict[str, Any] = field(default_factory=dict)
    recovered: str | None = None

    @property
    def trace(self) -> dict[str, np.ndarray]:
        """Name -> (k,) array."""
        return self.recorder.columns

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those taken so far, in the order of their steps."""
        return list(self.kept.taken)

    @property
    def dynamics(self) -> Dynamics:
        return DYNAMICS[self.config.dynamics.method].of(self.config.dynamics)

    def save(self, path: str | Path, *, keep_previous: bool = True) -> None:
        """Replace the run file whole. StorageError (on rank 0): it cannot be written; nothing old is lost then.

        keep_previous=False is for the first file of a run: what stood there before belongs to another one.
        """
        ensemble, dataset = self.ensemble, self.dataset
        arrays = {"X": dataset.X, "y": dataset.y, "X_test": dataset.X_test, "y_test": dataset.y_test}

        def stream(first: int, last: int) -> Stream:
            return Stream((ensemble.m, last - first), ensemble.dtype, _components(ensemble, first, last))

        content = run_file.RunContent(
            config=to_toml(self.config),
            data={name: values for name, values in arrays.items() if values is not None},
            data_sha256=dataset.sha256,
            w=stream(ensemble.d, ensemble.d + ensemble.outputs),
            u=stream(0, ensemble.d),
            step=ensemble.step,
            time=ensemble.time,
            seed=ensemble.seed,
            memory=ensemble.memory,
            trace=self.trace,
            timing=self.recorder.timing,
            snapshots=self.kept.content(),
            attributes=self.attributes,
        )
        with ensemble.gathered() as leads:
            if leads:
                run_file.save(path, content, keep_previous=keep_previous)


def load(path: str | Path, *, fall_back: bool = False, ranks: Alone = ALONE) -> Run:
    """The run kept at `path`, verified: `.config .problem .ensemble .trace .snapshots`.

    With `fall_back` the generation before takes the place of a damaged file, and `recovered` says so. RunFileError: a
    file that is missing, damaged, not a run, of a newer format, or whose parts do not belong together.
    """
    opened: list[run_file.RunContent] = []

    def read() -> tuple[tuple[int, int, int, Any], run_file.RunContent]:
        opened.append(run_file.load(path, lazy=True, fall_back=fall_back))
        w, u = opened[0].w, opened[0].u
        nothing = np.empty((0, 0))
        return (w.shape[0], u.shape[1], w.shape[1], u.dtype), replace(opened[0], w=nothing, u=nothing)

    sizes, content = ranks.once(read)
    config = parse_config(content.config, f"{path}: config")
    _check_ranks(config, ranks)
    data = content.data
    dataset = Dataset(data["X"], data["y"], data.get("X_test"), data.get("y_test"), config.data.source)
    if dataset.sha256 != content.data_sha256:
        raise RunFileError(f"{path}: the data are not those the run was started with (SHA-256 differs)")
    ensemble = Ensemble.empty(
        *sizes, ranks=ranks, seed=content.seed, step=content.step, time=content.time, memory=content.memory
    )
    try:
        problem = problem_of(config, dataset)
        problem.check(ensemble)
        _check_agreement(config, dataset, ensemble)
        _check_trace(config, problem, ensemble, content.trace)
        _distribute(ensemble, opened[0] if opened else None)
        kept = keeping(config, from_content(content.snapshots, ensemble))
        if kept.unasked:
            raise ValueError(f"its snapshots of steps {kept.unasked} are not asked for")
    except ValueError as error:
        raise RunFileError(f"{path}: {error}: not one run's parts") from None
    trace = recorder(config, kept, None, content.trace, content.timing)
    return Run(config, dataset, problem, ensemble, trace, kept, content.attributes, content.recovered)


def _check_agreement(config: Config, dataset: Dataset, ensemble: Ensemble) -> None:
    """ValueError for parts that no run has written together, though each is whole: to go on would mix two runs."""
    found = {
        "data.n": (config.data.n, len(dataset.X)),
        "data.d": (config.data.d, dataset.X.shape[1]),
        "data.n_test": (config.data.n_test, 0 if dataset.X_test is None else len(dataset.X_test)),
        "ensemble.m": (config.ensemble.m, ensemble.m),
        "ensemble.dtype": (config.ensemble.dtype, ensemble.dtype.name),
        "ensemble.seed": (config.ensemble.seed, ensemble.seed),
    }
    for name, (said, held) in found.items():
        if said != held:
            raise ValueError(f"says {name} = {said}, but holds {held}")
    if not 0 < ensemble.memory.get("curvature_ratio", 1.0) <= 1:
        raise ValueError(f"its curvature ratio is {ensemble.memory['curvature_ratio']}")
    for name in ("test_every", "gap_every", "measures_every", "snapshot_steps"):
        if getattr(config.record, name) == "auto":
            raise ValueError(f"record.{name} = 'auto' was not decided")


def _check_trace(config: Config, problem: Problem, ensemble: Ensemble, trace: Mapping[str, np.ndarray]) -> None:
    """ValueError for a trace that is not this configuration's up to this step."""
    if not trace:
        return
    missing = BASIC - trace.keys()
    if missing:
        raise ValueError(f"its trace has no {', '.join(sorted(missing))}")
    steps, every = trace["step"], config.run.record_every
    if not len(steps):
        raise ValueError("its trace has no rows")
    first, last = int(steps[0]), int(steps[-1])
    rows = first + every * np.arange(len(steps))
    if first % every or not np.array_equal(steps, rows) or not last <= ensemble.step < last + every:
        raise ValueError(f"its trace of every {every} steps ends at step {last}, its particles at step {ensemble.step}")
    for name, schedule in (("reg", problem.reg), ("temperature", problem.temperature)):
        for k in (0, -1):
            said, recorded = schedule(int(steps[k])), trace[name][k]
            if said != recorded:
                raise ValueError(f"says {name} = {said} at step {steps[k]}, but recorded {recorded}")


def _check_ranks(config: Config, ranks: Alone) -> None:
    """InputError: what a configuration asks for and several ranks cannot do."""
    if ranks.size > 1 and config.record.measures:
        raise InputError(
            f"record.measures = {config.record.measures}: need a single process, not {ranks.size} "
            "ranks; measure snapshots, or the run's file, afterwards"
        )


def problem_of(config: Config, dataset: Dataset) -> Problem:
    """The problem that a configuration poses on these data."""
    objective = config.objective
    return Problem(
        dataset.X,
        dataset.y,
        loss=objective.loss,
        reg=objective.reg,
        temperature=objective.temperature,
        X_test=dataset.X_test,
        y_test=dataset.y_test,
    )


def prepare(config: Config, measures: Mapping[str, Measure] | None = None, *, ranks: Alone = ALONE) -> Run:
    """A new run as a configuration asks for it, its particles shared by `ranks`.

    InputError: data or particles that cannot be used.
    """
    _check_ranks(config, ranks)
    dataset = ranks.once(lambda: load_dataset(config.data))
    problem = problem_of(config, dataset)
    wanted = config.ensemble
    parent: dict[str, str] = {}
    if wanted.init in ("sphere", "gaussian"):
        make = Ensemble.sphere if wanted.init == "sphere" else Ensemble.gaussian
        ensemble = make(
            wanted.m, problem.d, problem.outputs, scale=wanted.scale, seed=wanted.seed, dtype=wanted.dtype, ranks=ranks
        )
    else:
        ensemble, parent = _particles_from(wanted, ranks)
    problem.check(ensemble)
    config = ranks.once(lambda: explicit(config, problem, ensemble))
    kept = keeping(config)
    return Run(config, dataset, problem_of(config, dataset), ensemble, recorder(config, kept, measures), kept, parent)


def given(problem: Problem, ensemble: Ensemble, config: Config, measures: Mapping[str, Measure] | None = None) -> Run:
    """A new run of a problem and an ensemble made in Python; `config` says the rest."""
    problem.check(ensemble)
    dataset = checked_dataset(problem.X, problem.y, problem.X_test, problem.y_test, where="arrays")
    config = config.model_copy(
        update={
            "data": Data(source="arrays"),
            "ensemble": Particles(init="given", seed=ensemble.seed, dtype=ensemble.dtype.name),  # type: ignore[arg-type]
        }
    )
    config = explicit(config, problem, ensemble)
    kept = keeping(config)
    return Run(config, dataset, problem_of(config, dataset), ensemble, recorder(config, kept, measures), kept)


def explicit(config: Config, problem: Problem, ensemble: Ensemble) -> Config:
    """The configuration with every default decided and every size filled in."""
    n_test = 0 if problem.X_test is None else len(problem.X_test)
    config = config.resolved(problem.critical_reg()).with_sizes(n=problem.n, d=problem.d, n_test=n_test, m=ensemble.m)
    record, every = config.record, config.run.record_every
    decided: dict[str, Any] = {}
    if record.test_every == "auto":
        decided["test_every"] = affordable_test_every(problem.n, n_test, every)
    if record.gap_every == "auto":
        decided["gap_every"] = affordable_gap_every(
            ensemble.m, problem.n, problem.d, every, config.run.steps - ensemble.step
        )
    if record.measures_every == "auto":
        particles = ensemble.m if record.snapshot_particles == "all" else int(record.snapshot_particles)
        decided["measures_every"] = named.affordable_every(
            record.measures,
            problem,
            ensemble.m,
            kept=particles,
            steps=config.run.steps - ensemble.step,
            record_every=every,
        )
    decided.update(_snapshots_decided(config, ensemble))
    return config.model_copy(update={"record": record.model_copy(update=decided)})


def _snapshots_decided(config: Config, ensemble: Ensemble) -> dict[str, Any]:
    """The steps of the snapshots, from the ensemble's to the run's last. InputError: more than are held in memory."""
    record, steps = config.record, config.record.snapshot_steps
    if isinstance(steps, str):
        steps = spaced(ensemble.step, config.run.steps, record.snapshots, record.snapshot_spacing)
    if named.need_start(record.measures):
        steps = sorted({ensemble.step, *steps})
    particles = ensemble.m if record.snapshot_particles == "all" else int(record.snapshot_particles)
    size = nbytes(steps, particles, ensemble)
    if size > _SNAPSHOT_BYTES:
        raise InputError(
            f"record.snapshots = {len(steps)}: {size / 2**30:.3g} GiB with snapshot_particles = "
            f"{record.snapshot_particles!r}; must be at most {_SNAPSHOT_BYTES >> 30} GiB: keep fewer, or of fewer"
        )
    return {"snapshot_steps": steps, "snapshots": len(steps)}


def keeping(config: Config, taken: Sequence[Snapshot] = ()) -> Snapshots:
    """The snapshots that an explicit configuration asks for, going on from those `taken`."""
    record = config.record
    steps = [] if isinstance(record.snapshot_steps, str) else record.snapshot_steps
    particles = None if record.snapshot_particles == "all" else int(record.snapshot_particles)
    return Snapshots(steps, particles, taken)


def recorder(
    config: Config, kept: Snapshots, measures: Mapping[str, Measure] | None = None, *columns: Mapping[str, np.ndarray]
) -> Trace:
    """The trace that an explicit configuration asks for, going on from `columns` (of the trace, of its timing)."""
    record = config.record
    occasional = [occasional_test_error(int(record.test_every))]
    if record.gap:
        occasional.append(occasional_gap(int(record.gap_every)))
    if record.measures:
        take = named.taking(record.measures, kept, record.alignment_dims)
        occasional.append(Occasional(int(record.measures_every), named.columns(record.measures), take))
    return Trace(config.run.record_every, occasional, measures, *columns)


def _components(ensemble: Ensemble, first: int, last: int) -> Iterator[np.ndarray]:
    """Components first … last − 1 of θ for `_ROWS` particles after the other: only these are laid out in rows."""
    group = ensemble.theta.shape[2]
    groups = -(-ensemble.m // group)
    for g0 in range(0, groups, _ROWS // group):
        part = ensemble.groups(g0, min(g0 + _ROWS // group, groups))[:, first:last]
        rows = np.ascontiguousarray(part.swapaxes(1, 2)).reshape(-1, last - first)
        yield rows[: ensemble.m - g0 * group]


def _distribute(ensemble: Ensemble, source: run_file.RunContent | Ensemble | None) -> None:
    """Fill an ensemble from what only rank 0 has, some particles after the other, each rank keeping its own."""
    for first in range(0, ensemble.m, _ROWS):
        rows, last = None, min(first + _ROWS, ensemble.m)
        if isinstance(source, Ensemble):
            rows = source.rows(first, last)
        elif source is not None:
            assert isinstance(source.w, RowReader)
            assert isinstance(source.u, RowReader)
            rows = source.w.rows(first, last), source.u.rows(first, last)
        w, u = ensemble.span.ranks.broadcast(rows)  # type: ignore[misc]
        if not (np.isfinite(w).all() and np.isfinite(u).all()):
            raise InputError(f"its particles {first} to {last - 1} are not all finite")
        ensemble.fill(first, w, u)


def _particles_from(section: Particles, ranks: Alone) -> tuple[Ensemble, dict[str, str]]:
    """Particles from a user's file, which rank 0 reads and hands out, and the parent's description if it is a run."""
    read: list[Ensemble] = []

    def sizes() -> tuple[tuple[int, int, int, Any], int, dict[str, str]]:
        ensemble, parent = _read_particles(section)
        read.append(ensemble)
        return (ensemble.m, ensemble.d, ensemble.outputs, ensemble.dtype), ensemble.seed, parent

    shape, seed, parent = ranks.once(sizes)
    if ranks.size == 1:
        return read[0], parent
    ensemble = Ensemble.empty(*shape, ranks=ranks, seed=seed)
    _distribute(ensemble, read[0] if read else None)
    return ensemble, parent


def _read_particles(section: Particles) -> tuple[Ensemble, dict[str, str]]:
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
