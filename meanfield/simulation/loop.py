"""The loop: predict → residual → advance, and on the way record and checkpoint. Everything else is around it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnostics.basic import all_finite
from ..dynamics import Dynamics, Field, Implicit, Langevin
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import DivergenceError, RunWarning
from ..losses import Loss
from ..neuron import Neuron
from ..problem import Problem
from ..schedules import OwnSchedule
from ..storage.lock import RunLock, locked
from ..storage.versions import BITS
from .arguments import check_run_arguments, ends, whole
from .checkpoint import Keeper, NoKeeper, announce_failure
from .config import DEFAULT_STEPS, EXPLICIT_STEPS
from .final_gap import EARLY, warn_if_risen, warn_if_unresolved
from .measures import WantedMeasures, sort_measures
from .new_run import new_run_from_objects
from .output import absolute, check_output
from .progress import Silent
from .qualified_names import check_known
from .result import Result
from .run import Run, load
from .stop import Stop, settled

Callback = Callable[[Ensemble, dict[str, float]], Any]


def simulate(
    problem: Problem,
    ensemble: Ensemble,
    dynamics: Dynamics | None = None,
    *,
    steps: int | None = None,
    record_every: int = 20,
    test_every: int | str = "auto",
    gap: bool = False,
    gap_every: int | str = "auto",
    stop_when: Mapping[str, float] | None = None,
    record: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | str = 500,
    measures: WantedMeasures | None = None,
    callback: Callback | None = None,
    anneal: bool | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Silent | None = None,
    final_gap: bool = True,
) -> Result:
    """Move a copy of an ensemble by steps of a dynamics.

    A signal (SIGTERM, say) ends the run after the step at hand, checkpointed; the result, less than was asked for, is
    returned with a RunWarning. After Ctrl-C it is raised.

    Parameters
    ----------
    problem : Problem
        What is minimized; its loss may be an object of the user's own.
    ensemble : Ensemble
        Particles to begin with; they stay as they are, a copy moves.
    dynamics : Dynamics, optional
        The law of motion, ours or the user's own; by default `Implicit`, or `Langevin` where there is a temperature,
        another neuron than the relu, λ = 0, another penalty than ‖θ‖² or an output scale.
    steps : int, optional
        How many; by default 240 of `Implicit`, 4000 of another.
    record_every : int
        Steps between rows of the trace.
    test_every, gap_every : int or "auto"
        Steps between test errors, and between bounds; "auto" keeps their cost small.
    gap : bool
        Whether the trace has an estimate of a lower bound on min L, and the relative gap
        (`meanfield.optimality.certificate.estimated_bound`).
    stop_when : mapping, optional
        Ends the run early: {"relative_gap": 1e-3} or {"objective_change": 1e-6}.
    record : mapping, optional
        Further keys of the configuration's section of that name, such as {"snapshots": 10}.
    out : str or Path, optional
        The run file to keep the run in, the same as the command's.
    checkpoint_every : int or str
        Steps between checkpoints, or a time such as "10min".
    measures : mapping or sequence, optional
        Recorded beside the others: functions of the ensemble by their column's name; or a list of names in
        `meanfield.simulation.config.MEASURES` and of objects `meanfield.simulation.measures.Measure`.
    callback : callable, optional
        Sees the ensemble and every recorded row, and stops the run by returning True; else it returns False or None.
    anneal : bool, optional
        Whether a λ that is a single number is lowered to its value from above, as the command does by default; None
        means: if the dynamics does so with its step size (`Dynamics.anneals`) and `Implicit` knows the problem.
    max_time : float, optional
        Seconds after which the run stops, saved.
    threads : int, optional
        By default the cores that this process may use.
    force : bool
        Whether a file at `out` is overwritten.
    progress : Silent, optional
        Shows that the run is under way (`meanfield.simulation.progress`).
    final_gap : bool
        Whether `result.final` has an estimated `lower_bound` of the minimum and the `relative_gap` of the last state
        (`Result.final_gap`), by a tenth of the run's work, when it is asked for.

    Returns
    -------
    Result
        `.ensemble .trace .final .final_gap .stopped .saved .snapshots .run`, and `.plot()`.

    Warns
    -----
    RunWarning
        Where the objective at the end is above that at the beginning: the steps are too large. Where float32 does not
        resolve the steps of a large output scale. Where a signal ended the run.

    Raises
    ------
    InputError
        Arguments, or an `out` that cannot be written.
    DivergenceError
        Numbers out of range.
    KeyboardInterrupt
        Ctrl-C, once the run is saved; what there is of the result is the exception's `result`.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> problem = Problem(np.eye(2), [1, -1], reg=0.01)
    >>> result = simulate(problem, Ensemble.sphere(64, 2, seed=0), steps=40, record_every=10)
    >>> result.trace["step"].tolist()
    [0, 10, 20, 30, 40]
    >>> bool(result.trace["objective"][-1] < result.trace["objective"][0])
    True
    """
    check_run_arguments(max_time, threads, callback, record, anneal=anneal, force=force, final_gap=final_gap)
    steps = _steps(problem, dynamics) if steps is None else whole("steps", steps)
    dynamics, wanted = dynamics or _default(problem, ensemble, steps), sort_measures(measures)
    run = new_run_from_objects(
        problem,
        ensemble.copy(),
        dynamics,
        run={
            "steps": ensemble.step + steps,
            "record_every": record_every,
            "checkpoint_every": checkpoint_every,
            "stop_when": stop_when or {},
        },
        record={
            "test_every": test_every,
            "gap": gap,
            "gap_every": gap_every,
            **({"measures": wanted.names} if wanted.names else {}),
            **(record or {}),
        },
        measures=wanted,
        anneal=_is_known(problem) and getattr(dynamics, "anneals", False) if anneal is None else anneal,
    )
    if out is not None:
        check_output(out, force)
    return _telling_signals(
        run_to_end(
            run,
            out,
            force=force,
            callback=callback,
            max_time=max_time,
            threads=threads,
            progress=progress,
            final_gap=final_gap,
        )
    )


def _implicit(problem: Problem) -> bool:
    """Whether a run that names no dynamics takes implicit steps."""
    tau = problem.temperature
    return _is_known(problem) and tau.start == tau.end == 0 and not isinstance(tau, OwnSchedule)


def _is_known(problem: Problem) -> bool:
    """Whether implicit steps and the annealing of λ know the problem."""
    return problem.neuron.is_relu and problem.is_plain


def _steps(problem: Problem, dynamics: Dynamics | None) -> int:
    """How many steps a run has by default."""
    implicit = _implicit(problem) if dynamics is None else isinstance(dynamics, Implicit)
    return DEFAULT_STEPS["implicit"] if implicit else EXPLICIT_STEPS


def _default(problem: Problem, ensemble: Ensemble, steps: int) -> Dynamics:
    """The dynamics of a run that names none."""
    return Implicit(cooled_at=ensemble.step + steps) if _implicit(problem) else Langevin()


def resume(
    path: str | Path,
    *,
    until: int | None = None,
    more: int | None = None,
    dynamics: Dynamics | None = None,
    loss: Loss | None = None,
    neuron: Neuron | None = None,
    temperature: Callable[[int], float] | None = None,
    measures: WantedMeasures | None = None,
    callback: Callback | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Silent | None = None,
    final_gap: bool = True,
) -> Result:
    """Go on with the run in a file exactly where it stopped.

    Parameters
    ----------
    path : str or Path
        The run file.
    until, more : int, optional
        To this step, or by so many; by default to the run's own end.
    dynamics, loss, neuron, temperature : Dynamics, Loss, Neuron, callable, optional
        The run's own, again, where they are of the user's making.
    measures : mapping or sequence, optional
        Functions, and objects `Measure`, again: columns of what is not given go on with NaN.
    callback, max_time, threads, progress, final_gap
        As those of `simulate`.
    force : bool
        Whether a lock that another host left is taken over.

    Returns
    -------
    Result
        As that of `simulate`.

    Raises
    ------
    InputError
        Both until and more, or an until that lies behind.
    RunFileError
        A file that cannot be resumed; a dynamics, loss or neuron that is missing, or not the one of the file.
    KeyboardInterrupt
        As by `simulate`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, resume, simulate
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> _ = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=4, out=path)
    >>> resume(path, more=3).ensemble.step
    7
    """
    check_run_arguments(max_time, threads, callback, force=force, final_gap=final_gap)
    with RunLock(path, force):
        given: dict[str, Any] = {"dynamics": dynamics, "loss": loss, "neuron": neuron, "temperature": temperature}
        run = load(path, **given, fall_back=True)
        run.end_at(until, more)
        run.also_measure(sort_measures(measures))
        result = run_to_end(
            run,
            path,
            lock=False,
            callback=callback,
            max_time=max_time,
            threads=threads,
            progress=progress,
            final_gap=final_gap,
        )
    return _telling_signals(result)


def _telling_signals(result: Result) -> Result:
    """The result, with a RunWarning if a signal ended the run; Ctrl-C is raised, the result its `result`."""
    if result.stopped not in Stop.SIGNALS:
        return result
    where = f"at step {result.ensemble.step} of {result.config.run.steps}"
    if result.stopped == "SIGINT":
        interrupt = KeyboardInterrupt(where)
        interrupt.result = result  # type: ignore[attr-defined]
        raise interrupt
    if result.ensemble.span.ranks.leads:
        message = f"{result.stopped} ended the run {where}: its result is not that of the end"
        warnings.warn(RunWarning(message), stacklevel=3)
    return result


def run_to_end(
    run: Run,
    out: str | Path | None,
    *,
    lock: bool = True,
    force: bool = False,
    callback: Callback | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    progress: Silent | None = None,
    final_gap: bool = True,
) -> Result:
    """Take a run from where it is to its end, with its file, its signals and its progress around the loop.

    `lock` and `force`: whether the file's lock is still to be taken, and then from whoever seems to hold it.
    RunFileError: a dynamics that is not known. RunWarning: the objective rose, or float32 is too coarse.
    """
    progress, ensemble = progress or Silent(), run.ensemble
    if ensemble.step < run.config.run.steps:
        check_known(run.dynamics, str(out))
    warn_if_unresolved(run)
    out = None if out is None else absolute(out)
    keeper: Keeper = Keeper(run, out) if out is not None else NoKeeper()
    with locked(out, ensemble.span.ranks, force) if out is not None and lock else nullcontext():
        _leave_old_bits(run)
        with Stop(max_time, ensemble.span.ranks) as stop:
            progress.start(ensemble.step, run.config.run.steps)
            try:
                stopped = _loop(run, Field(run.problem, ensemble.dtype, threads), keeper, stop, callback, progress)
            finally:
                progress.close()
            saved = keeper.finish()
    if stopped not in EARLY:
        warn_if_risen(run, threads)
    return Result(run, stopped, saved, final_gap, threads)


def _leave_old_bits(run: Run) -> None:
    """Tell, and note in the run, that what comes is computed under another version of the bits than what it holds."""
    was, step = run.attributes.get("bits", BITS), run.ensemble.step
    if was == BITS or step >= run.config.run.steps:
        return
    before = f"{run.attributes['bits_history']}, " if "bits_history" in run.attributes else ""
    run.attributes.update(bits=BITS, bits_history=f"{before}{was} until step {step}")
    if run.ensemble.span.ranks.leads:
        announce_failure(
            f"step {step}: made under version {was} of the bits, goes on under version {BITS}: from here on the digest "
            "of its state differs from that of a run under one version"
        )


def _loop(run: Run, field: Field, keeper: Keeper, stop: Stop, callback: Callback | None, progress: Silent) -> str:
    """Step until the end or a reason to stop; the ensemble, the trace and the file are never out of step."""
    ensemble, recorder, dynamics = run.ensemble, run.recorder, run.dynamics
    began = time.monotonic() - recorder.seconds
    moments = field.predict(ensemble)
    while True:
        _require_finite(moments, run, keeper)
        run.kept.take(ensemble, run.problem.reg(ensemble.step))
        recorder.record(field, ensemble, moments, time.monotonic() - began)
        row = recorder.last
        _require_objective(row, ensemble.step, keeper)
        if callback is not None and row.get("step") == ensemble.step and ends(callback(ensemble, row)):
            return "callback"
        keeper.checkpoint(ensemble.step)
        progress.update(ensemble.step, {name: row[name] for name in ("objective", "train_error") if name in row})
        if ensemble.step >= run.config.run.steps:
            return "done"
        if reason := stop.reason() or settled(run):
            return reason
        with np.errstate(over="ignore", invalid="ignore"):  # `_require_finite` tells, and better
            moments = dynamics.step(field, ensemble, moments)


def _require_finite(moments: Moments, run: Run, keeper: Keeper) -> None:
    """DivergenceError, unless the predictions and ∫‖θ‖² are finite numbers."""
    if all_finite(moments):
        return
    k, ways = run.ensemble.step, ["rescale the features"]
    if run.problem.temperature(k) > 0:
        ways.insert(0, "lower the temperature")
    if run.dynamics.step_size != "auto":
        ways.insert(0, 'try dynamics.step_size = "auto" or a smaller step')
    raise DivergenceError(
        f"step {k}: predictions or ∫‖θ‖² dρ left the range of finite numbers{keeper.intact}; {', or '.join(ways)}"
    )


def _require_objective(row: Mapping[str, float], k: int, keeper: Keeper) -> None:
    """DivergenceError, unless the objective of a row of this step is a finite number: of finite predictions, too."""
    value = row.get("objective", 0.0)
    if row.get("step") == k and not math.isfinite(value):
        raise DivergenceError(
            f"step {k}: the objective is {value} where predictions are finite{keeper.intact}; a loss must be a number "
            "at any outputs"
        )
