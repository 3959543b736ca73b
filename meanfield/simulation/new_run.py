"""A new run, from a configuration or from objects: every default decided, every size filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..datasets.array_files import read_arrays
from ..datasets.dataset import checked_dataset
from ..datasets.load import load_dataset
from ..dynamics import Dynamics
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.communicator import ALONE, Alone
from .config import Config, Particles, check_config, default_annealing
from .measures import Wanted, affordable_every, need_start, sort_measures
from .qualified_names import dynamics_of, dynamics_table, loss_table, neuron_table
from .run import Run, check_ranks, distribute, load, problem_of, snapshots_of, trace_of
from .snapshots import nbytes, spaced
from .trace import affordable_gap_every, affordable_test_every

_SNAPSHOT_BYTES = 1 << 32  # a run's snapshots are held in memory


def new_run_from_config(config: Config, *, ranks: Alone = ALONE, draw: bool = True) -> Run:
    """A new run as a configuration asks for it, its particles shared by `ranks`; without `draw` they are all zero.

    InputError: data or particles that cannot be used.
    """
    check_ranks(config, ranks)
    dataset = ranks.once(lambda: load_dataset(config.data))
    problem = problem_of(config, dataset)
    wanted = config.ensemble
    parent: dict[str, str] = {}
    if not wanted.external:
        make = getattr(Ensemble, wanted.init)
        law: dict[str, Any] = {
            "scale": wanted.scale,
            "symmetric": wanted.symmetric,
            "seed": wanted.seed,
            "dtype": wanted.dtype,
        }
        ensemble = make(wanted.m if draw else 2, problem.d, problem.outputs, **law, ranks=ranks)
        if not draw:
            ensemble = _undrawn(ensemble, wanted.m)
    else:
        ensemble, parent = _particles_from(wanted, ranks)
    problem.check(ensemble)
    config = ranks.once(lambda: decide_defaults(config, problem, ensemble, dynamics_of(config.dynamics)))
    problem = problem.with_schedules(reg=config.objective.reg)
    kept = snapshots_of(config)
    trace = trace_of(config, kept, None)
    return Run(config, dataset, problem, ensemble, dynamics_of(config.dynamics), trace, kept, parent)


def new_run_from_objects(
    problem: Problem,
    ensemble: Ensemble,
    dynamics: Dynamics,
    *,
    run: Mapping[str, Any],
    record: Mapping[str, Any],
    measures: Wanted | None = None,
    anneal: bool = False,
) -> Run:
    """A new run of these very objects; its configuration, with the sections `run` and `record`, is written from them.

    With `anneal`, a λ that is constant is lowered to its value as a run from a configuration does by default: over the
    steps that are to come, by a copy of the problem that shares all else. InputError: settings, or an ensemble that
    does not fit the problem.
    """
    problem.check(ensemble)
    dataset = checked_dataset(problem.inputs, problem.y, problem.test_inputs, problem.y_test, where="arrays")
    tables = {
        "data": {"source": "arrays"},
        "objective": {
            **loss_table(problem.loss),
            "reg": problem.reg,
            "temperature": problem.temperature,
            "output_scale": problem.output_scale,
        },
        "penalty": asdict(problem.penalty),
        "neuron": neuron_table(problem.neuron),
        "ensemble": {"init": "given", "seed": ensemble.seed, "dtype": ensemble.dtype.name},
        "dynamics": dynamics_table(dynamics),
        "run": run,
        "record": record,
    }
    config = check_config(tables, "simulate")
    if anneal and problem.reg.shape == "constant":
        steps = config.run.steps - ensemble.step
        problem = problem.with_schedules(reg=default_annealing(problem.reg.end, steps, problem.critical_reg()))
        annealed = config.objective.model_copy(update={"reg": problem.reg})
        config = config.model_copy(update={"objective": annealed})
    config = decide_defaults(config, problem, ensemble, dynamics, measures)
    kept = snapshots_of(config)
    return Run(config, dataset, problem, ensemble, dynamics, trace_of(config, kept, measures), kept)


def _undrawn(few: Ensemble, m: int) -> Ensemble:
    """m particles like these few, all one zero: no memory is taken for them."""
    _, rows, group = few.theta.shape
    theta = np.broadcast_to(np.zeros((), few.dtype), (-(-m // group), rows, group))
    return Ensemble(theta, m, few.outputs, seed=few.seed)


def decide_defaults(
    config: Config, problem: Problem, ensemble: Ensemble, dynamics: Dynamics, measures: Wanted | None = None
) -> Config:
    """The configuration with every default decided and every size filled in."""
    n_test = problem.n_test
    config = config.resolved(problem.critical_reg).with_sizes(n=problem.n, d=problem.d, n_test=n_test, m=ensemble.m)
    record, every, steps = config.record, config.run.record_every, config.run.steps - ensemble.step
    own, step = (
        (measures or sort_measures(None)).objects,
        dynamics.cost(ensemble.m, problem.n, problem.d, problem.outputs),
    )
    decided: dict[str, Any] = {}
    if record.test_every == "auto":
        decided["test_every"] = affordable_test_every(step, ensemble.m, n_test, problem.d, every)
    if record.gap_every == "auto":
        decided["gap_every"] = affordable_gap_every(step, problem.n, problem.d, problem.outputs, every, steps)
    if record.measures_every == "auto":
        particles = ensemble.m if record.snapshot_particles == "all" else int(record.snapshot_particles)
        decided["measures_every"] = affordable_every(
            [*record.measures, *own],
            problem,
            ensemble.m,
            step=step,
            kept=particles,
            steps=steps,
            record_every=every,
        )
    decided.update(_snapshots_decided(config, ensemble, need_start([*record.measures, *own])))
    return config.model_copy(update={"record": record.model_copy(update=decided)})


def _snapshots_decided(config: Config, ensemble: Ensemble, from_start: bool) -> dict[str, Any]:
    """The steps of the snapshots, from the ensemble's to the run's last. InputError: more than are held in memory."""
    record, steps = config.record, config.record.snapshot_steps
    if isinstance(steps, str):
        steps = spaced(ensemble.step, config.run.steps, record.snapshots, record.snapshot_spacing)
    if from_start:
        steps = sorted({ensemble.step, *steps})
    particles = ensemble.m if record.snapshot_particles == "all" else int(record.snapshot_particles)
    size = nbytes(steps, particles, ensemble)
    if size > _SNAPSHOT_BYTES:
        raise InputError(
            f"record.snapshots = {len(steps)}: {size / 2**30:.3g} GiB with snapshot_particles = "
            f"{record.snapshot_particles!r}; must be at most {_SNAPSHOT_BYTES >> 30} GiB: keep fewer, or of fewer"
        )
    return {"snapshot_steps": steps, "snapshots": len(steps)}


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
    distribute(ensemble, read[0].rows if read else None)
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
