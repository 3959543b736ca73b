"""The trace of a run against the step, a panel a measure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..simulation.result import AnyRun
from .style import BLUE, GREEN, GREY, ORANGE, RED, against_step, axes_or_current, empty, log_if_positive


def plot_objective(run: AnyRun, ax: Axes | None = None, *, brief: bool = False) -> Axes:
    """Objective L = R + λ∫‖θ‖²dρ at the λ in force, its two parts, the lower bound where recorded, and λ itself.

    brief: symbols for names, and λ left to `plot_schedules`, for a narrow panel.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    brief : bool
        Symbols for names, and λ left to `plot_schedules`, for a narrow panel.

    Examples
    --------
    >>> ax = plots.plot_objective(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    ax.plot(t["step"], t["objective"], color=BLUE, label="$L$" if brief else "objective $L$")
    ax.plot(t["step"], t["risk"], color=ORANGE, ls="--", label=r"$R(f_\rho)$" if brief else r"risk $R(f_\rho)$")
    ax.plot(
        t["step"],
        t["penalty"],
        color=GREEN,
        ls="-.",
        label=("" if brief else "penalty ") + r"$\lambda\int\|\theta\|^2\,d\rho$",
    )
    shown = [t["objective"], t["risk"], t["penalty"]]
    if not brief and len(t["reg"]) and np.ptp(t["reg"]) > 0:
        shown.append(t["reg"])
        ax.plot(t["step"], t["reg"], color=GREY, ls=":", label=r"$\lambda$")
    step, bound = recorded(run, "lower_bound")
    if (bound > 0).any():  # a bound of 0 says nothing, and has no place on a logarithmic axis
        ax.plot(
            step[bound > 0],
            bound[bound > 0],
            color=RED,
            ls="None",
            marker="^",
            ms=2.5,
            label="bound (estimate)" if brief else "lower bound (estimate)",
        )
    log_if_positive(ax, *shown)
    return against_step(ax, "objective and its parts")


def plot_gap(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Relative gap (L − lower bound)/L where it was recorded; an estimate, as is the bound.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_gap(result)  # result: of `simulate`, or a run of `load`
    """
    ax = axes_or_current(ax)
    step, gap = recorded(run, "relative_gap")
    if not len(gap):
        return empty(ax, "not recorded:\nrecord.gap = true", "relative gap")
    ax.plot(step, gap, color=RED, marker="^", ms=2.5)
    log_if_positive(ax, gap)
    _whole_run(run, ax)
    return against_step(ax, "relative gap (estimate)")


def plot_margin(run: AnyRun, ax: Axes | None = None, *, optimum: float | None = None) -> Axes:
    """Normalized margin γ(ρ) against the step, from 0 up once it has become positive; γ* as a line, if given.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    optimum : float, optional
        γ*, drawn as a line.

    Examples
    --------
    >>> ax = plots.plot_margin(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    shown = t["margin"][np.isfinite(t["margin"])]
    if not len(shown):
        reason = "no classes, no margin" if run.problem.classes is None else "of homogeneous neurons alone"
        return empty(ax, reason, r"normalized margin $\gamma(\rho)$")
    ax.plot(t["step"], t["margin"], color=BLUE, label=r"$\gamma(\rho)$" if optimum is not None else None)
    if optimum is not None:
        ax.axhline(optimum, color=GREY, ls="--", label=rf"$\gamma^* = {optimum:.4g}$")
    if shown[-1] > 0:
        ax.set_ylim(0.0, 1.08 * max(float(shown.max()), optimum or 0.0))
    return against_step(ax, r"normalized margin $\gamma(\rho)$")


def plot_errors(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Training and test error against the step: fractions misclassified, or mean squared errors.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_errors(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    ax.plot(t["step"], t["train_error"], color=BLUE, label="training")
    step, error = recorded(run, "test_error")
    if len(error):
        ax.plot(step, error, color=RED, ls="--", marker="o", ms=2.5, label="test")
    classes = run.problem.classes is not None
    if not classes:
        log_if_positive(ax, t["train_error"], t["test_error"])
    return against_step(ax, "fraction misclassified" if classes else "mean squared error")


def plot_steps(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Step size η and drift norm against the step.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_steps(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    ax.plot(t["step"], t["step_size"], color=BLUE, label=r"step size $\eta$")
    ax.plot(t["step"], t["drift"], color=ORANGE, ls="--", label=r"drift $(\int\|\nabla L'\|^2\,d\rho)^{1/2}$")
    log_if_positive(ax, t["step_size"], t["drift"])
    return against_step(ax, "step size, drift")


def plot_schedules(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Step size η, regularization λ and, where there is noise, temperature τ, as they were in force at each step.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_schedules(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    ax.plot(t["step"], t["step_size"], color=BLUE, label=r"$\eta$")
    ax.plot(t["step"], t["reg"], color=GREEN, ls="--", label=r"$\lambda$")
    hot = t["temperature"]
    if (hot > 0).any():
        ax.plot(t["step"], np.where(hot > 0, hot, np.nan), color=RED, ls="-.", label=r"$\tau$")
    log_if_positive(ax, t["step_size"], t["reg"], hot)
    against_step(ax, r"step size $\eta$, $\lambda$, $\tau$")
    if not (hot > 0).any():
        ax.set_ylabel(r"step size $\eta$, $\lambda$  ($\tau = 0$)")
    return ax


def plot_drift(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Root mean square of ∇L' over the particles: zero where plain gradient flow stands still.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_drift(result)  # result: of `simulate`, or a run of `load`
    """
    ax, t = axes_or_current(ax), run.trace
    ax.plot(t["step"], t["drift"], color=BLUE)
    log_if_positive(ax, t["drift"])
    return against_step(ax, r"drift $(\int\|\nabla L'\|^2\,d\rho)^{1/2}$")


def plot_free_energy(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Free energy F_τ = L + τ∫ρ log ρ where it was recorded, with its entropy term an estimate.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_free_energy(result)  # result: of `simulate`, or a run of `load`
    """
    ax = axes_or_current(ax)
    step, energy = recorded(run, "free_energy")
    if not len(energy):
        hot = (run.trace["temperature"] > 0).any()
        hint = 'not recorded:\nrecord.measures = ["free_energy"]' if hot else r"$\tau = 0$: equal to $L$"
        return empty(ax, hint, r"free energy $F_\tau$")
    ax.plot(step, energy, color=BLUE, marker="o", ms=2, label="estimate")
    _whole_run(run, ax)
    return against_step(ax, r"free energy $F_\tau$")


def _whole_run(run: AnyRun, ax: Axes) -> None:
    """The steps of the whole trace, for a measure that was taken in few of its rows."""
    first, last = run.trace["step"][[0, -1]]
    ax.set_xlim(first - 0.04 * (last - first) - 0.5, last + 0.04 * (last - first) + 0.5)


def recorded(run: AnyRun, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows in which a measure was taken; empty where it never was.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    name : str
        A column of the trace.

    Returns
    -------
    step : (k,) int64 array
        Of the rows in which the measure is finite.
    value : (k,) float64 array
        The measure there.

    Examples
    --------
    >>> step, gap = plots.recorded(result, "relative_gap")
    >>> step.tolist(), gap.shape
    ([0, 10], (2,))
    """
    values = run.trace.get(name, np.empty(0))
    taken = np.isfinite(values)
    return run.trace["step"][: len(values)][taken], values[taken]
