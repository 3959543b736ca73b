"""What a run's function rests on: the margins of its examples, its particles' balance, the potential they sit in."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..engine.engine import Moments
from ..simulation.result import AnyRun
from .particles import scatter
from .plane import Plane, informative_plane, present
from .slices import WORK, network_of
from .style import BLUE, GREY, RED, axes_or_current, empty, legend_above, note


def moments_of(run: AnyRun) -> Moments:
    """Predictions on the training set and ∫‖θ‖² dρ.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.

    Returns
    -------
    Moments
        Predictions f (n, C), float64, and the second moment `second`, a float; NaN where they are out of range.

    Examples
    --------
    >>> moments = plots.moments_of(result)
    >>> moments.f.shape, moments.second > 0
    ((4, 1), True)
    """
    problem, ensemble = run.problem, run.ensemble
    return problem.engine(problem.X, ensemble.dtype).predict(ensemble.particles, keep=False)


def plot_potential(run: AnyRun, ax: Axes | None = None, *, plane: Plane | None = None) -> Axes:
    """‖G_r(u)‖/2λ over the circle of directions in the plane, and on it the particles, by their angle in the plane.

    Each particle stands at the value of its own direction, in or out of the plane. At a minimum at τ = 0 the values
    are at most 1, and all mass sits where they are 1 (r: the residual, G_r(u) = Σ_i r_i relu(u·x_i)).

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    plane : Plane, optional
        Directions to draw along; by default `informative_plane(run)`.

    Examples
    --------
    >>> ax = plots.plot_potential(result)  # result: of `simulate`, or a run of `load`
    """
    ax, plane, problem = axes_or_current(ax), plane or informative_plane(run), run.problem
    if plane is None:
        return empty(ax, "one dimension has no circle")
    if not (problem.neuron.is_relu and problem.is_plain):
        return empty(ax, "for relu neurons and λ‖θ‖², λ > 0")
    r = problem.loss.residual(moments_of(run).f, problem.targets) / (2 * problem.reg(run.ensemble.step))

    def value(u: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.maximum(u @ problem.X.T, 0.0) @ r, axis=1)

    angle = np.linspace(-np.pi, np.pi, 721)
    circle = value(np.column_stack([np.cos(angle), np.sin(angle)]) @ plane.e)
    ax.plot(angle, circle, color="black", lw=0.9, label="in the plane")
    cloud = present(run, 1500)
    unit = cloud.u / np.maximum(np.linalg.norm(cloud.u, axis=1, keepdims=True), 1e-300)
    at, there, mass = np.arctan2(*(cloud.u @ plane.e.T).T[::-1]), value(unit), cloud.mass
    size = 24.0 * mass / (mass.max() or 1.0)
    scatter(ax, run, cloud, at, there, np.where(size > 0.05, 3 + size, 0.0))  # what is lighter has died out
    ax.axhline(1.0, color=GREY, ls="--", lw=0.8)
    ax.set(xlabel="angle in the plane (rad)", ylabel=r"$\|G_r(u)\|/2\lambda$", xlim=(-3.35, 3.35), ylim=(0, None))
    ax.set_xticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi], [r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$"])
    if len(ax.get_legend_handles_labels()[1]) <= 3:
        legend_above(ax, 3, handlelength=1.4)
    return ax


def plot_balance(run: AnyRun, ax: Axes | None = None) -> Axes:
    """‖w‖ against ‖u‖ of the particles; stationary ones are balanced, ‖w‖ = ‖u‖, on the diagonal (τ = 0).

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_balance(result)  # result: of `simulate`, or a run of `load`
    """
    ax, cloud = axes_or_current(ax), present(run)
    norms = np.linalg.norm(cloud.u, axis=1), np.linalg.norm(cloud.w, axis=1)
    scatter(ax, run, cloud, *norms, np.full(len(cloud.u), 3.0))
    largest = 1.05 * max(float(one.max()) for one in norms) or 1.0
    ax.plot([0, largest], [0, largest], color=GREY, lw=0.6)
    ax.set(xlabel=r"$\|u\|$", ylabel=r"$\|w\|$", xlim=(0, largest), ylim=(0, largest))
    ax.set_aspect("equal", "box")
    return ax


def plot_margins(run: AnyRun, ax: Axes | None = None) -> Axes:
    """Normalized margins of training and test examples, γ(ρ) the least over the training set; or the errors f − y.

    Margins are left as they are where the neuron is not positively homogeneous.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_margins(result)  # result: of `simulate`, or a run of `load`
    """
    ax, problem = axes_or_current(ax), run.problem
    moments = moments_of(run)
    groups = [("training", moments.f, problem.targets)]
    if problem.X_test is not None:
        X = problem.X_test[: max(64, int(WORK / (run.ensemble.m * problem.d)))]
        f = network_of(run)(X)
        name = "test" if len(X) == len(problem.X_test) else f"first {len(X)} test"
        groups.append((name, f, problem.test_targets[: len(X)]))
    scale, label, least = moments.second, "normalized margin of an example", r"$\gamma(\rho)$"
    if not problem.neuron.is_homogeneous:
        scale, label, least = 1.0, "margin of an example", "least"
    shown = []
    for name, f, t in groups:
        margins = problem.loss.margins(f, t)
        if margins is None:
            values, label = (f - np.asarray(t).reshape(f.shape)).ravel(), r"error $f(x) - y$"
        else:
            values = margins / scale if scale > 0 else np.zeros(len(f))
        shown.append((name, values))
    both = np.concatenate([values for _, values in shown])
    if not np.ptp(both) > 0:
        return note(ax, "all equal to " + f"{both[0]:.3g}")
    bins = np.linspace(both.min(), both.max(), 31).tolist()
    for (name, values), filled in zip(shown, (True, False), strict=False):
        weights = np.full(len(values), 1 / len(values))
        style: Any = (
            {"histtype": "stepfilled", "color": BLUE, "alpha": 0.5}
            if filled
            else {"histtype": "step", "color": RED, "lw": 1.0, "ls": "--"}
        )
        ax.hist(values, bins=bins, weights=weights, label=name, **style)
    if "margin" in label:
        ax.axvline(shown[0][1].min(), color="black", lw=0.9, ls=":", label=least)
    ax.axvline(0, color=GREY, lw=0.6)
    ax.set(xlabel=label, ylabel="fraction of examples")
    legend_above(ax, 3)
    return ax
