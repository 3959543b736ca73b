"""The loop: predict → residual → advance, and on the way record and checkpoint. Everything else is around it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnostics.basic import all_finite
from ..dynamics.base import Dynamics, Field, Langevin
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import DivergenceError, InputError
from ..problem import Problem
from ..runtime.communicator import Alone
from ..schedules import Schedule
from ..storage.atomic import StorageError
from ..storage.lock import RunLock, check_still_held, locked
from ..storage.versions import BITS
from . import run as runs
from .config import check_config, default_annealing, parse_duration
from .output import check_output
from .progress import Silent
from .snapshots import Snapshot
from .trace import Measure

Callback = Callable[[Ensemble, dict[str, float]], Any]


@dataclass
class Result:
    """`ensemble` and `trace` (name -> (k,) array) where the run stopped, and why: "done", "callback", a signal's name,
    "max_time", "objective_change" or "relative_gap". `saved` is False if a run file was wanted and could not be written
    at the end. `snapshots` are those taken, in the order of their steps."""

    ensemble: Ensemble
    trace: dict[str, np.ndarray]
    stopped: str
    saved: bool = True
    snapshots: list[Snapshot] = field(default_factory=list)


def simulate(
    problem: Problem,
    ensemble: Ensemble,
    dynamics: Dynamics | None = None,
    *,
    steps: int = 4000,
    record_every: int = 20,
    test_every: int | str = "auto",
    gap: bool = False,
    gap_every: int | str = "auto",
    stop_when: Mapping[str, float] | None = None,
    record: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | str = 500,
    measures: Mapping[str, Measure] | Sequence[str] | None = None,
    callback: Callback | None = None,
    anneal: bool | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Silent | None = None,
) -> Result:
    """Move a copy of `ensemble` by `steps` steps of `dynamics` (Langevin with an automatic step size).

    With `gap` the trace has an estimate of a lower bound on min L and the relative gap (certificate.estimated_bound);
    `stop_when` ends the run early: {"relative_gap": 1e-3} or {"objective_change": 1e-6}. `record`: further keys of the
    configuration's section of that name, such as {"snapshots": 10}.
    With `out` the run is kept in a run file, the same as the command's. `measures` are recorded beside the others:
    name -> function of the ensemble, or some of the names in `config.MEASURES`. `callback(ensemble, row)` sees every
    recorded row and stops the run by returning True. Where the problem's λ is a single number, `anneal` lowers λ to it
    from above as the command does by default; None means: if the step size is automatic. A signal (Ctrl-C) ends the
    run after the step, checkpointed.
    InputError: arguments, or an `out` that cannot be written; DivergenceError: numbers out of range.
    """
    dynamics = dynamics or Langevin()
    reg = problem.reg
    if reg.shape == "constant" and (dynamics.step_size == "auto" if anneal is None else anneal):
        reg = default_annealing(reg.end, steps, problem.critical_reg())
    functions, names = (measures, {}) if isinstance(measures, Mapping) else (None, {"measures": list(measures or ())})
    target = ensemble.step + (int(steps) if isinstance(steps, np.integer) else steps)
    config = check_config(
        {
            "objective": {"loss": problem.loss.name, "reg": reg, "temperature": problem.temperature},
            "dynamics": dynamics.section(),
            "run": {
                "steps": target,
                "record_every": record_every,
                "checkpoint_every": checkpoint_every,
                "stop_when": stop_when or {},
            },
            "record": {"test_every": test_every, "gap": gap, "gap_every": gap_every, **names, **(record or {})},
        },
        "simulate",
    )
    run = runs.given(problem, ensemble.copy(), config, functions)
    if out is not None:
        check_output(out, force)
    return follow(run, out, callback=callback, max_time=max_time, threads=threads, progress=progress)


def resume(
    path: str | Path,
    *,
    until: int | None = None,
    more: int | None = None,
    measures: Mapping[str, Measure] | None = None,
    callback: Callback | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Silent | None = None,
) -> Result:
    """Go on with the run in a file exactly where it stopped, to its own end, to step `until`, or by `more` steps.

    Measures given by functions must be given again; their columns are NaN where they are not.
    InputError: both until and more, or an until that lies behind; RunFileError: a file that cannot be resumed.
    """
    with RunLock(path, force):
        run = runs.load(path, fall_back=True)
        extend(run, until, more)
        run.recorder.measures.update(measures or {})
        return follow(run, path, lock=False, callback=callback, max_time=max_time, threads=threads, progress=progress)


def extend(run: runs.Run, until: int | None, more: int | None) -> None:
    """Set the step at which a run is to end. InputError: both given, or an end that lies behind."""
    step = run.ensemble.step
    if until is not None and more is not None:
        raise InputError("until and more: give one of them")
    target = step + more if more is not None else until
    if target is None:
        return
    if target < step:
        raise InputError(f"until = {target}: the run is at step {step} already")
    run.config = run.config.model_copy(update={"run": run.config.run.model_copy(update={"steps": target})})


def follow(
    run: runs.Run,
    out: str | Path | None,
    *,
    lock: bool = True,
    callback: Callback | None = None,
    max_time: float | None = None,
    threads: int | None = None,
    progress: Silent | None = None,
) -> Result:
    """Take a run from where it is to its end, with its file, its signals and its progress around the loop."""
    progress, ensemble = progress or Silent(), run.ensemble
    keeper: _Keeper = _Keeper(run, out) if out is not None else _NoKeeper()
    if out is not None and lock:
        with locked(out, ensemble.span.ranks):
            return follow(
                run, out, lock=False, callback=callback, max_time=max_time, threads=threads, progress=progress
            )
    _leave_old_bits(run)
    with _Stop(max_time, ensemble.span.ranks) as stop:
        progress.start(ensemble.step, run.config.run.steps)
        try:
            stopped = _loop(run, Field(run.problem, ensemble.dtype, threads), keeper, stop, callback, progress)
        finally:
            progress.close()
        saved = keeper.finish()
    return Result(ensemble, run.trace, stopped, saved, run.snapshots)


def _leave_old_bits(run: runs.Run) -> None:
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


def _loop(
    run: runs.Run, field: Field, keeper: _Keeper, stop: _Stop, callback: Callback | None, progress: Silent
) -> str:
    """Step until the end or a reason to stop; the ensemble, the trace and the file are never out of step."""
    ensemble, recorder, dynamics = run.ensemble, run.recorder, run.dynamics
    began = time.monotonic() - recorder.seconds
    moments = field.predict(ensemble)
    while True:
        require_finite(moments, ensemble.step)
        run.kept.take(ensemble, run.problem.reg(ensemble.step))
        recorder.record(field, ensemble, moments, time.monotonic() - began)
        row = recorder.last
        if callback is not None and row.get("step") == ensemble.step and callback(ensemble, row):
            return "callback"
        keeper.checkpoint(ensemble.step)
        progress.update(ensemble.step, {name: row[name] for name in ("objective", "train_error") if name in row})
        if ensemble.step >= run.config.run.steps:
            return "done"
        if reason := stop.reason() or _settled(run):
            return reason
        moments = dynamics.step(field, ensemble, moments)


def require_finite(moments: Moments, step: int) -> None:
    """DivergenceError, unless the predictions and ∫‖θ‖² are finite numbers."""
    if not all_finite(moments):
        raise DivergenceError(
            f"step {step}: predictions or ∫‖θ‖² dρ left the range of finite numbers; the last checkpoint is intact. "
            'Try dynamics.step_size = "auto" or a smaller step, or rescale the features'
        )


def _settled(run: runs.Run) -> str | None:
    """The rule of `run.stop_when` that holds at this row, with λ and τ at rest: "relative_gap" if the recorded gap is
    within its bound, "objective_change" if the objective changed by no more than its bound, relatively, over ten rows.
    """
    rules, k, recorder = run.config.run.stop_when, run.ensemble.step, run.recorder
    schedules = (run.problem.reg, run.problem.temperature)
    if k % recorder.record_every or any(k < s.steps for s in schedules if s.shape != "c_over_log_t"):
        return None
    if rules.relative_gap is not None and recorder.last["relative_gap"] <= rules.relative_gap:
        return "relative_gap"
    objective = recorder.last_values("objective", 10)
    if rules.objective_change is None or len(objective) < 10:
        return None
    return "objective_change" if np.ptp(objective) <= rules.objective_change * abs(objective[-1]) else None


class _Keeper:
    """Writes checkpoints: every so many steps or seconds, and at the end. A failed write is told and tried again."""

    def __init__(self, run: runs.Run, out: str | Path) -> None:
        every = run.config.run.checkpoint_every
        self._run, self._out, self._ranks = run, out, run.ensemble.span.ranks
        self._steps = every if isinstance(every, int) else None
        self._seconds = parse_duration(every) if isinstance(every, str) else None
        self._fresh = not run.trace  # then whatever stands at `out` belongs to another run
        kept = self._ranks.broadcast(Path(out).exists()) and not self._fresh and not run.recovered
        self._written = self._tried = run.ensemble.step if kept else -1
        self._at = time.monotonic()

    def checkpoint(self, step: int) -> None:
        by_time = self._seconds is not None and self._ranks.broadcast(time.monotonic() - self._at >= self._seconds)
        if step != self._tried and (self._tried < 0 or by_time or (self._steps and step % self._steps == 0)):
            self._save(step, "checkpoint failed, the run goes on and tries again later")

    def _save(self, step: int, failure: str) -> None:
        self._tried, self._at = step, time.monotonic()
        failed = False
        try:
            if self._ranks.leads:
                check_still_held(self._out)
            self._run.save(self._out, keep_previous=not self._fresh)
        except StorageError as error:
            announce_failure(f"step {step}: {failure}: {error}")
            failed = True
        if not self._ranks.broadcast(failed):
            self._written, self._fresh = step, False

    def finish(self) -> bool:
        """Save the last state, if it is not saved yet; whether the file holds it now."""
        if self._run.ensemble.step != self._written:
            self._save(self._run.ensemble.step, "the last state is not saved")
        return self._run.ensemble.step == self._written


class _NoKeeper(_Keeper):
    """No file: nothing to write, nothing to fail."""

    def __init__(self) -> None:
        pass

    def checkpoint(self, step: int) -> None:
        pass

    def finish(self) -> bool:
        return True


def announce_failure(message: str) -> None:
    """Tell the user of a fault, or of what else is to be known, that does not end the run."""
    import sys

    print(f"meanfield: {message}", file=sys.stderr, flush=True)


class _Stop:
    """Reasons from outside to end a run after the present step: a signal, or the time allowed.

    The first signal asks; its handler is then put back, so that a second one ends the process at once.
    """

    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self, max_time: float | None, ranks: Alone) -> None:
        self._ranks = ranks
        self._until = time.monotonic() + max_time if max_time is not None else float("inf")
        self._reason: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for name in self.SIGNALS:
                if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                    number = getattr(signal, name)
                    self._before[number] = signal.getsignal(number)  # first: the signal may come at once
                    signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self._reason, again = signal.Signals(number).name, self._before[number]
        if number == signal.SIGINT and again == signal.SIG_DFL:
            again = signal.default_int_handler  # so that a file half written is removed
        signal.signal(number, again)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """The same on every rank, whichever of them has one."""
        mine = self._reason or ("max_time" if time.monotonic() >= self._until else "")
        reasons = ("", "max_time", *self.SIGNALS)
        return reasons[self._ranks.largest(reasons.index(mine))] or None


__all__ = ["Result", "Schedule", "extend", "follow", "resume", "simulate"]
