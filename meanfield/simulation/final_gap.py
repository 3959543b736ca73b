"""How far from the minimum a run ended, and whether it went the wrong way: what every run says of itself.

No part of the state or of the trace: it is computed after the last step, by at most a tenth of the work of the steps.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from .. import diagnostics
from ..diagnostics.entropy import SAMPLE
from ..dynamics import Field
from ..engine.engine import Moments
from ..errors import InputError, RunWarning
from ..optimality.quick_certificate import quick_bound
from ..optimality.quick_free_energy import free_energy_bound
from ..runtime.communicator import is_shared
from .run import Run
from .stop import Stop
from .values import is_qualified

SHARE = 0.1  # of the work of all steps up to the last
LEAST, MOST = 1e8, 5e9  # nanoseconds of one core: whatever the steps were
LARGE = 0.01  # a relative gap that a run warns of
EARLY = (*Stop.SIGNALS, "max_time")  # whoever stops a run is not kept waiting
_RISEN = 1e-3  # of L: more than the jitter of steps over kinks
_UNRESOLVED = 1e8  # α∫‖θ‖² dρ times steps in float32 (tests/test_output_scale.py measures it)


@dataclass(frozen=True, kw_only=True)
class FinalGap:
    """The distance of a run's last state from the minimum, at the λ and τ of its step.

    Attributes
    ----------
    kind : str
        "objective" at τ = 0, "free energy" at τ > 0, "" where there is none.
    lower_bound : float
        Of min L, or of min F_τ; NaN where there is none.
    relative_gap : float
        (L − lower_bound)/L, or (F_τ − lower_bound)/L: F_τ itself has no zero to be relative to.
    rigorous : bool
        Whether the bound is proven, rounding included; else both are estimates.
    missing : str
        Why there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> result = simulate(Problem(np.eye(2), [1, -1], reg=0.01), Ensemble.sphere(64, 2, seed=0), steps=200)
    >>> result.final_gap.kind, result.final_gap.rigorous, 0 <= result.final_gap.relative_gap < 0.01
    ('objective', True, True)
    """

    kind: str = ""
    lower_bound: float = math.nan
    relative_gap: float = math.nan
    rigorous: bool = False
    missing: str = ""

    @property
    def words(self) -> str:
        """What `relative_gap` is called."""
        name = "free-energy gap / L" if self.kind == "free energy" else "relative gap"
        return f"{name} ({'proven' if self.rigorous else 'estimate'})"


def final_gap(run: Run, stopped: str, threads: int | None = None) -> FinalGap:
    """The gap of a run where it stopped, on every rank; without one, `missing` says why.

    What a loss of the user's own raises is a reason too: the run is done and kept. An error of ours is one, and raised.
    """
    if stopped in EARLY:
        return FinalGap(missing="the run was stopped before its end")
    try:
        found = run.ensemble.span.ranks.broadcast(_measured(run, threads))
    except InputError as error:
        return FinalGap(missing=str(error))
    except Exception as error:
        if not _of_their_loss(run, error):
            raise
        return FinalGap(missing=f"{type(error).__name__}: {error}")
    if not (math.isfinite(found.lower_bound) and math.isfinite(found.relative_gap)):
        return FinalGap(missing=found.missing or "the bound is not a finite number")
    return found


def _of_their_loss(run: Run, error: Exception) -> bool:
    """Whether a loss of the user's own may have raised this, and every rank has it: others would wait for this one."""
    alone = run.ensemble.span.ranks.size == 1
    return is_qualified(run.config.objective.loss) and (alone or is_shared(error))


def _measured(run: Run, threads: int | None) -> FinalGap:
    problem, ensemble, k = run.problem, run.ensemble, run.ensemble.step
    moments = Field(problem, ensemble.dtype, threads).predict(ensemble)
    if problem.temperature(k) > 0 and (run.dynamics.noise != (1, 1) or run.dynamics.tail_index != 2):
        return FinalGap(missing="with noise by layer or of heavy tails no free energy is descended")
    if problem.temperature(k) > 0:
        return _free_energy(run, moments, threads)
    primal, lower, rigorous = quick_bound(problem, ensemble, moments, work_of(run), threads)
    relative = 1 - lower / primal if primal > 0 else 0.0
    return FinalGap(kind="objective", lower_bound=lower, relative_gap=relative, rigorous=rigorous)


def _free_energy(run: Run, moments: Moments, threads: int | None) -> FinalGap:
    """F_τ of the particles by their estimated entropy, less the bound of a dual point."""
    problem, ensemble, work = run.problem, run.ensemble, work_of(run)
    lower = free_energy_bound(problem, ensemble, moments, 0.7 * work, threads)
    if lower is None:
        return FinalGap(missing="no dual point's integral over the sphere is resolved at this temperature")
    neighbours = math.sqrt(0.3 * work / (problem.d + problem.outputs))  # the search for them is quadratic
    entropy = diagnostics.entropy(ensemble, particles=int(min(SAMPLE, max(512, neighbours))))

    def values() -> tuple[float, float]:
        value = problem.evaluate(moments.f, moments.penalty, problem.reg(ensemble.step)).value
        return value, diagnostics.free_energy(problem, ensemble, moments, entropy)

    value, free = ensemble.span.ranks.once(values)
    return FinalGap(kind="free energy", lower_bound=lower, relative_gap=(free - lower) / value)


def work_of(run: Run) -> float:
    """What the gap may cost: a tenth of the steps up to the present one, by a model of a step, between two limits."""
    problem, ensemble = run.problem, run.ensemble
    step = 1e9 * run.dynamics.cost(ensemble.m, problem.n, problem.d, problem.outputs)
    return min(MOST, max(LEAST, SHARE * step * ensemble.step))


def warn_if_unresolved(run: Run) -> None:
    """RunWarning if float32 cannot hold what a large output scale leaves particles to move by.

    Each step rounds θ, and f = α ∫Φ dρ feels it α∫‖θ‖² dρ times: measured, times 10⁸ steps it is about 1 % of f.
    """
    ensemble, scale = run.ensemble, run.problem.output_scale
    if ensemble.dtype != np.float32 or scale == 1:
        return
    w, u = ensemble.sample(SAMPLE)
    steps = run.config.run.steps - ensemble.step
    if scale * steps * (np.sum(w * w) + np.sum(u * u)) / len(w) > _UNRESOLVED and ensemble.span.ranks.leads:
        message = (
            f"ensemble.dtype = 'float32': at output_scale = {scale:g} what {steps} steps round off adds up to more "
            "than a per cent of the outputs; take float64"
        )
        warnings.warn(RunWarning(message), stacklevel=4)


def warn_if_risen(run: Run, threads: int | None = None) -> None:
    """RunWarning if L is above what it was when the run began, at τ = 0 and both at the last λ."""
    problem, ensemble, trace = run.problem, run.ensemble, run.trace
    k = ensemble.step
    reg = problem.reg(k)
    if problem.temperature(k) > 0 or not trace or trace["step"][0] >= k or trace["reg"][0] == 0 < reg:
        return
    before = float(trace["risk"][0]) + (float(trace["penalty"][0]) * (reg / float(trace["reg"][0])) if reg > 0 else 0.0)
    if trace["step"][-1] == k:
        now = float(trace["risk"][-1] + trace["penalty"][-1])
    else:
        moments = Field(problem, ensemble.dtype, threads).predict(ensemble)
        now = problem.evaluate(moments.f, moments.penalty, reg).value
    if now > before * (1 + _RISEN) and ensemble.span.ranks.leads:
        way = (
            "give a small dynamics.step_size"
            if run.dynamics.step_size == "auto"
            else 'take a smaller dynamics.step_size, or "auto"'
        )
        message = (
            f"step {k}: the objective is {now:.4g}, and was {before:.4g} at step {trace['step'][0]} (at the same λ): "
            f"the steps are too large: {way}"
        )
        warnings.warn(RunWarning(message), stacklevel=4)
