"""Run: a simulation under way or kept in a file: its objects, its configuration and its trace in one place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Recorded
from ..datasets.dataset import Dataset
from ..diagnostics.basic import BASIC
from ..dynamics import Dynamics, Field
from ..ensemble import Ensemble
from ..errors import DivergenceError, InputError, RunFileError
from ..layers import Layers
from ..losses import Loss
from ..neuron import Neuron
from ..problem import Problem
from ..runtime.communicator import ALONE, Alone
from ..shown import Shown
from ..storage import run_file
from ..storage.hdf5 import Stream
from ..storage.parts import Parts
from .arguments import whole
from .config import Config
from .measures import Taker, Wanted, columns, sort_measures
from .qualified_names import dynamics_of, loss_of, neuron_of, temperature_of
from .snapshots import Snapshot, Snapshots, from_content
from .toml import parse_config, to_toml
from .trace import Columns, Occasional, Trace, occasional_gap, occasional_test_error
from .values import short_name

Rows = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
TOLD = ("objective", "margin", "train_error", "test_error", "relative_gap")  # of a run's last row
_LARGE = ("w", "u", "velocity_w", "velocity_u")
_ROWS = 1 << 16  # particles converted at a time when an ensemble goes to or comes from a file


@dataclass(repr=False)
class Run(Shown):
    """A simulation, where it stands: the objects that run, and what they have recorded.

    Attributes
    ----------
    config : Config
        What is asked for, with whatever a default decided written out.
    dataset : Dataset
        The data, as the run file keeps them.
    problem, ensemble, dynamics : Problem, Ensemble, Dynamics
        The objects that run.
    recorder : Trace
        What is measured, and the rows so far.
    kept : Snapshots
        When particles are kept, and those kept so far.
    attributes : dict
        What the run file says of its origin.
    recovered : str or None
        What was wrong with the newest generation of the file, if an older one took its place.
    parts : Parts
        The files beside its file that hold what is large of it and will not change.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> problem = Problem(np.eye(2), [1, -1])
    >>> run = simulate(problem, Ensemble.sphere(64, 2), steps=4, record_every=2).run
    >>> run.ensemble.step, run.trace["step"].tolist(), run.config.dynamics.method
    (4, [0, 2, 4], 'implicit')
    """

    config: Config
    dataset: Dataset
    problem: Problem
    ensemble: Ensemble
    dynamics: Dynamics
    recorder: Trace
    kept: Snapshots
    attributes: dict[str, Any] = field(default_factory=dict)
    recovered: str | None = None
    parts: Parts = field(default_factory=Parts)

    def _facts(self) -> dict[str, Any]:
        problem, ensemble, row = self.problem, self.ensemble, self.recorder.last
        return {
            "step": f"{ensemble.step} of {self.config.run.steps}",
            **{name: getattr(problem, name) for name in ("n", "d", "outputs")},
            **{"m": ensemble.m, "dynamics": short_name(self.config.dynamics.method)},
            **{name: getattr(problem, name) for name in ("loss", "reg", "temperature")},
            **{"recorded": row.get("step"), **{name: row.get(name) for name in TOLD}},
        }

    @property
    def trace(self) -> Columns:
        """Name -> (k,) array; int64 for `step`, else float64, NaN where not measured."""
        return self.recorder.columns

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those taken so far, in the order of their steps."""
        return list(self.kept.taken)

    def measure(self) -> dict[str, float]:
        """All measures of the present state, as a row of the trace has them, whether or not its step has one."""
        return self.recorder.row_of(Field(self.problem, self.ensemble.dtype), self.ensemble)

    def plot(self, name: str = "convergence", **options: Any) -> Any:
        """A figure of the run: `meanfield.plots.figure(run, name, **options)`."""
        import meanfield  # drawing stands above simulation, behind the package's own door

        return meanfield.plots.figure(self, name, **options)

    def end_at(self, until: int | None = None, more: int | None = None) -> None:
        """Set the step at which the run is to end. InputError: both given, or an end that lies behind."""
        step = self.ensemble.step
        if until is not None and more is not None:
            raise InputError("until and more: give one of them")
        if until is None and more is None:
            return
        target = whole("until", until) if more is None else step + whole("more", more)
        if target < step:
            raise InputError(f"until = {target}: the run is at step {step} already")
        self.config = self.config.model_copy(update={"run": self.config.run.model_copy(update={"steps": target})})

    def also_measure(self, measures: Wanted) -> None:
        """Take measures of the user's own from here on. InputError: names, which belong to the configuration."""
        if measures.names:
            raise InputError(
                f"measures: {measures.names[0]!r}: names are chosen when a run begins; "
                "give functions or Measure objects"
            )
        self.recorder.occasional += own_measures(self.config, self.kept, measures)
        self.recorder.measures.update(measures.functions)

    def save(self, path: str | Path, *, keep_previous: bool = True) -> None:
        """Replace the run file whole; where that fails, on rank 0, nothing old is lost.

        keep_previous=False is for the first file of a run: what stood there before belongs to another one.
        StorageError: it cannot be written. DivergenceError, InputError: `load` would refuse it, for particles that are
        not finite, or since somebody has changed what belongs to the run.
        """
        ensemble, dataset = self.ensemble, self.dataset
        d, D = ensemble.d, ensemble.d + ensemble.outputs
        with _one_runs_parts("the run, as a measure or a callback left it"):
            _check_parts(self.config, dataset, self.problem, ensemble, self.recorder.views)
        arrays = {"X": dataset.X, "y": dataset.y, "X_test": dataset.X_test, "y_test": dataset.y_test}

        def stream(first: int, last: int, layers: Layers = ensemble) -> Stream:
            return Stream((layers.m, last - first), layers.dtype, _components(layers, first, last))

        velocity = ensemble.velocity
        content = run_file.RunContent(
            config=to_toml(self.config),
            data={name: values for name, values in arrays.items() if values is not None},
            data_sha256=dataset.sha256,
            w=stream(d, D),
            u=stream(0, d),
            velocity_w=None if velocity is None else stream(d, D, velocity),
            velocity_u=None if velocity is None else stream(0, d, velocity),
            step=ensemble.step,
            time=ensemble.time,
            seed=ensemble.seed,
            memory=ensemble.memory,
            trace=self.recorder.views,
            timing=self.recorder.timing,
            snapshots=self.kept.content(),
            attributes=self.attributes,
            parts=self.parts,
        )
        with ensemble.gathered() as leads:
            if leads:
                run_file.save(path, content, keep_previous=keep_previous)


def load(
    path: str | Path,
    *,
    dynamics: Dynamics | None = None,
    loss: Loss | None = None,
    neuron: Neuron | None = None,
    temperature: Callable[[int], float] | None = None,
    fall_back: bool = False,
    ranks: Alone = ALONE,
) -> Run:
    """The run kept in a file, verified.

    Parameters
    ----------
    path : str or Path
        The run file.
    dynamics : Dynamics, optional
        The run's own, where it is of the user's making: needed to go on, and not to look.
    loss : Loss, optional
        The same for its loss, which is always needed.
    neuron : Neuron, optional
        The same for its neuron, always needed too.
    temperature : callable, optional
        The same for a function that τ is of the step.
    fall_back : bool
        Whether the generation before takes the place of a damaged file; `recovered` says so.
    ranks : Alone
        Processes that share the particles.

    Returns
    -------
    Run
        With `.config .problem .ensemble .dynamics .trace .snapshots`.

    Raises
    ------
    RunFileError
        A file that is missing, damaged, not a run, of a newer format, or whose parts do not belong together; a
        dynamics, loss, neuron or temperature that is not the one of the file.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, load, simulate
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> _ = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=4, out=path)
    >>> load(path).ensemble.step
    4
    """

    given = {"dynamics": dynamics, "loss": loss, "neuron": neuron, "temperature": temperature}

    def read(generation: str | Path) -> Run:
        return _loaded(generation, given, ranks)

    if not fall_back:
        return read(path)
    run, damage = run_file.newest(path, read)
    if damage is not None:
        run.recovered = f"{damage}, step {run.ensemble.step}"
    return run


def _loaded(path: str | Path, given: Mapping[str, Any], ranks: Alone) -> Run:
    """`load`, of one generation; given: what of the user's own is given again, by name."""
    opened: list[run_file.RunContent] = []

    def read() -> tuple[tuple[int, int, int, Any], run_file.RunContent]:
        opened.append(run_file.load(path, lazy=True))
        w, u = opened[0].w, opened[0].u
        large: Any = {name: np.empty((0, 0)) for name in _LARGE if getattr(opened[0], name) is not None}
        return (w.shape[0], u.shape[1], w.shape[1], u.dtype), replace(opened[0], **large)

    sizes, content = ranks.once(read)
    config = parse_config(content.config, f"{path}: config")
    check_ranks(config, ranks)
    law = dynamics_of(config.dynamics, given["dynamics"], str(path))
    own = (
        loss_of(config.objective, given["loss"], str(path)),
        neuron_of(config.neuron, given["neuron"], str(path)),
        temperature_of(config.objective, given["temperature"], str(path)),
    )
    ensemble = Ensemble.empty(
        *sizes, ranks=ranks, seed=content.seed, step=content.step, time=content.time, memory=content.memory
    )
    dataset = _data(content, config, path)
    with _one_runs_parts(path):
        problem = problem_of(config, dataset, *own)
        problem.check(ensemble)
        _check_parts(config, dataset, problem, ensemble, content.trace)
        _fill(ensemble, opened[0] if opened else None, moving=content.velocity_w is not None)
        kept = snapshots_of(config, from_content(content.snapshots, ensemble))
        if kept.unasked:
            raise ValueError(f"its snapshots of steps {kept.unasked} are not asked for")
    trace = trace_of(config, kept, None, content.trace, content.timing)
    return Run(config, dataset, problem, ensemble, law, trace, kept, content.attributes, parts=content.parts)


@contextmanager
def _one_runs_parts(what: str | Path) -> Iterator[None]:
    """RunFileError for a ValueError: parts that no run has together."""
    try:
        yield
    except ValueError as error:
        raise RunFileError(f"{what}: {error}: not one run's parts") from None


def _data(content: run_file.RunContent, config: Config, path: str | Path) -> Dataset:
    """The data of a run file. RunFileError: not those that the run was started with."""
    data = content.data
    dataset = Dataset(data["X"], data["y"], data.get("X_test"), data.get("y_test"), config.data.source)
    if dataset.sha256 != content.data_sha256:
        raise RunFileError(f"{path}: the data are not those the run was started with (SHA-256 differs)")
    return dataset


def _check_parts(
    config: Config, dataset: Dataset, problem: Problem, ensemble: Ensemble, trace: Mapping[str, np.ndarray]
) -> None:
    """ValueError for parts that are not one run's."""
    _check_agreement(config, dataset, ensemble)
    _check_trace(config, problem, ensemble, trace)


def _check_agreement(config: Config, dataset: Dataset, ensemble: Ensemble) -> None:
    """ValueError for parts that no run has written together, though each is whole: to go on would mix two runs."""
    parts = {
        "data.n": (config.data.n, len(dataset.X)),
        "data.d": (config.data.d, dataset.X.shape[1]),
        "data.n_test": (config.data.n_test, 0 if dataset.X_test is None else len(dataset.X_test)),
        "ensemble.m": (config.ensemble.m, ensemble.m),
        "ensemble.dtype": (config.ensemble.dtype, ensemble.dtype.name),
        "ensemble.seed": (config.ensemble.seed, ensemble.seed),
    }
    for name, (said, held) in parts.items():
        if said != held:
            raise ValueError(f"says {name} = {said}, but holds {held}")
    most = 1.0 if config.neuron.is_relu else sys.float_info.max
    if not 0 < ensemble.memory.get("curvature_ratio", 1.0) <= most:
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


def check_ranks(config: Config, ranks: Alone) -> None:
    """InputError: what a configuration asks for and several ranks cannot do."""
    if ranks.size > 1 and config.record.measures:
        raise InputError(
            f"record.measures = {config.record.measures}: need a single process, not {ranks.size} "
            "ranks; measure snapshots, or the run's file, afterwards"
        )


def problem_of(
    config: Config,
    dataset: Dataset,
    loss: Loss | str | None = None,
    neuron: Neuron | str | None = None,
    temperature: Any = None,
) -> Problem:
    """The problem that a configuration poses on these data; `loss`, `neuron`, `temperature` where they are not ours."""
    objective = config.objective
    return Problem(
        dataset.X,
        dataset.y.view(Recorded),
        loss=objective.loss if loss is None else loss,
        reg=objective.reg,
        temperature=objective.temperature if temperature is None else temperature,
        neuron=config.neuron.model_dump(include={"activation", "output"}) if neuron is None else neuron,
        penalty=config.penalty.model_dump(),
        output_scale=objective.output_scale,
        X_test=dataset.X_test,
        y_test=None if dataset.y_test is None else dataset.y_test.view(Recorded),
    )


def snapshots_of(config: Config, taken: Sequence[Snapshot] = ()) -> Snapshots:
    """The snapshots that a decided configuration asks for, going on from those `taken`."""
    record = config.record
    steps = [] if isinstance(record.snapshot_steps, str) else record.snapshot_steps
    particles = None if record.snapshot_particles == "all" else int(record.snapshot_particles)
    return Snapshots(steps, particles, taken)


def trace_of(config: Config, kept: Snapshots, measures: Wanted | None, *rows: Mapping[str, np.ndarray]) -> Trace:
    """The trace that a decided configuration asks for, going on from `rows` (of the trace, of its timing)."""
    record, wanted = config.record, measures or sort_measures(None)
    occasional = [occasional_test_error(int(record.test_every))]
    if record.gap:
        occasional.append(occasional_gap(int(record.gap_every)))
    if record.measures:
        take = Taker(tuple(record.measures), kept, record.alignment_dims)
        occasional.append(Occasional(int(record.measures_every), columns(record.measures), take))
    occasional += own_measures(config, kept, wanted)
    return Trace(config.run.record_every, occasional, wanted.functions, *rows)


def own_measures(config: Config, kept: Snapshots, measures: Wanted) -> list[Occasional]:
    """The user's own `Measure` objects: those with a cost as often as measures are taken, others in every row."""
    kinds = (
        (config.run.record_every, measures.every_row),
        (int(config.record.measures_every), measures.occasional),
    )
    return [
        Occasional(every, columns(some), Taker(tuple(some), kept, config.record.alignment_dims), own=True)
        for every, some in kinds
        if some
    ]


def _components(ensemble: Layers, first: int, last: int) -> Iterator[np.ndarray]:
    """Components first … last − 1 of θ for `_ROWS` particles after the other: only these are laid out in rows."""
    group = ensemble.theta.shape[2]
    groups = -(-ensemble.m // group)
    for g0 in range(0, groups, _ROWS // group):
        part = ensemble.groups(g0, min(g0 + _ROWS // group, groups))[:, first:last]
        rows = np.ascontiguousarray(part.swapaxes(1, 2)).reshape(-1, last - first)
        rows = rows[: ensemble.m - g0 * group]
        if not np.isfinite(rows).all():
            raise DivergenceError(
                f"particles from {g0 * group} on are not all finite, as a measure or a callback left them"
            )
        yield rows


def _fill(ensemble: Ensemble, content: run_file.RunContent | None, *, moving: bool) -> None:
    """Particles, and velocities if they are `moving`, from a file that rank 0 has opened."""

    def reader(*names: str) -> Rows | None:
        if content is None:
            return None
        w, u = (getattr(content, name) for name in names)
        return lambda first, last: (w.rows(first, last), u.rows(first, last))

    distribute(ensemble, reader("w", "u"))
    if moving:
        ensemble.velocity = Layers(np.zeros_like(ensemble.theta), ensemble.span, ensemble.outputs)
        distribute(ensemble.velocity, reader("velocity_w", "velocity_u"), "velocities")


def distribute(layers: Layers, rows: Rows | None, what: str = "particles") -> None:
    """Fill layers from what only rank 0 has, (w, u) of some particles after the other, each rank keeping its own."""
    for first in range(0, layers.m, _ROWS):
        last = min(first + _ROWS, layers.m)
        w, u = layers.span.ranks.broadcast(rows(first, last) if rows is not None else None)  # type: ignore[misc]
        if not (np.isfinite(w).all() and np.isfinite(u).all()):
            raise InputError(f"its {what} {first} to {last - 1} are not all finite")
        layers.fill(first, w, u)
