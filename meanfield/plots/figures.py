"""Whole figures of one run, at the width of a page, and the files they go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import InputError
from ..simulation.result import AnyRun
from ..simulation.values import short_name
from .functions import plot_balance, plot_margins, plot_potential
from .particles import caption, draw_states, particles, plot_particles
from .plane import clouds, informative_plane, present
from .slices import plot_decision, slice_caption
from .style import GREY, SMALL, STYLE, axes_or_current, fit, letter, save
from .traces import (
    plot_drift,
    plot_errors,
    plot_free_energy,
    plot_gap,
    plot_margin,
    plot_objective,
    plot_schedules,
    plot_steps,
    recorded,
)

WIDTH = 6.5  # inches, the text of a page


def convergence(run: AnyRun, *, optimum: float | None = None) -> Figure:
    """The four panels of a run at the width of a page, 6.5 inches; (a) to (d) for a caption to refer to.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    optimum : float, optional
        γ*, drawn as a line where the margin is.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> len(plots.convergence(result, optimum=0.5).axes)
    4
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots(2, 2)
        plot_objective(run, axes[0, 0])
        plot_margin(run, axes[0, 1], optimum=optimum)
        plot_errors(run, axes[1, 0])
        plot_steps(run, axes[1, 1])
        letter(list(axes.flat))
        figure.align_ylabels()
    return figure


def dashboard(run: AnyRun, *, optimum: float | None = None) -> Figure:
    """All of a run on a page: trace, particles over the snapshots, network beside kernel, potential, margins.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    optimum : float, optional
        γ*, drawn as a line where the margin is.

    Returns
    -------
    matplotlib Figure
        6.5 by 8.9 inches.

    Examples
    --------
    >>> print(plots.dashboard(result).get_size_inches())
    [6.5 8.9]
    """
    with matplotlib.rc_context(SMALL):
        figure = Figure(figsize=(WIDTH, 8.9), layout="constrained")
        parts = figure.subfigures(3, 1, height_ratios=(4.7, 2.0, 2.2))
        top, middle, bottom = np.asarray(parts, dtype=object)
        lettered = _traces(run, top, optimum)
        functions = ("network", "kernel")
        if len(clouds(run, 1)) > 1:
            draw_states(run, middle)
            last = bottom.subplots(1, 3)
            plot_potential(run, last[2])
        else:
            row = middle.subplots(1, 3)
            plot_particles(run, row[0])
            plot_balance(run, row[1])
            plot_potential(run, row[2])
            middle.supxlabel(caption([present(run)], informative_plane(run)), fontsize="small", color=GREY)
            last = bottom.subplots(1, 2)
        for ax, who in zip(last, functions, strict=False):
            plot_decision(run, ax, who=who)
        letter(lettered)
        bottom.supxlabel(slice_caption(run), fontsize="small", color=GREY)
    return figure


def _traces(run: AnyRun, figure: Figure, optimum: float | None) -> list[Axes]:
    """The measures against the step, the margins of the examples, and what the run is; the panels but the last."""
    axes = figure.subplots(3, 3)
    plot_objective(run, axes[0, 0], brief=True)
    plot_gap(run, axes[0, 1])
    plot_margin(run, axes[0, 2], optimum=optimum)
    plot_errors(run, axes[1, 0])
    plot_schedules(run, axes[1, 1])
    plot_drift(run, axes[1, 2])
    plot_free_energy(run, axes[2, 0])
    plot_margins(run, axes[2, 1])
    plot_facts(run, axes[2, 2])
    figure.align_ylabels()
    return list(axes.flat[:8])


def plot_facts(run: AnyRun, ax: Axes | None = None) -> Axes:
    """What the run is and where it ended, as lines of text.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> ax = plots.plot_facts(result)  # result: of `simulate`, or a run of `load`
    """
    ax, problem, config = axes_or_current(ax), run.problem, run.config
    tested, test = recorded(run, "test_error")
    lines = [
        Path(config.data.source).name,
        f"$n = {problem.n}$, $d = {problem.d}$, $m = {run.ensemble.m}$",
        f"{short_name(config.objective.loss).replace('_', '-')} loss, "
        f"{short_name(config.dynamics.method).replace('_', ' ')}",
        rf"$\lambda = {problem.reg(run.ensemble.step):.3g}$, $\tau = {problem.temperature(run.ensemble.step):.3g}$",
        f"step {run.ensemble.step} of {config.run.steps}",
        f"objective {run.trace['objective'][-1]:.5g}" if len(run.trace.get("objective", ())) else "",
        f"test error {test[-1]:.4g}" + (f" (step {tested[-1]})" if tested[-1] < run.ensemble.step else "")
        if len(test)
        else "",
    ]
    ax.axis("off")
    for row, line in enumerate(filter(None, lines)):
        ours = line.startswith("$")  # a file's name is no formula
        ax.text(0.0, 1.0 - 0.16 * row, line, va="top", transform=ax.transAxes, parse_math=ours)
    return ax


def decision(run: AnyRun) -> Figure:
    """Network beside kernel over the same plane of inputs.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> [ax.get_title() for ax in plots.decision(result).axes]
    ['network', 'ReLU NTK']
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        for ax, who in zip(figure.subplots(1, 2), ("network", "kernel"), strict=True):
            plot_decision(run, ax, who=who)
        figure.supxlabel(slice_caption(run), fontsize="small", color=GREY)
    return figure


def single(plot: Callable[..., Axes], run: AnyRun, size: tuple[float, float] = (3.4, 2.6), **options: Any) -> Figure:
    """One panel as a figure of a column's width.

    Parameters
    ----------
    plot : callable
        Draws the panel, as `plot(run, ax, **options)`.
    run : Run or Result
        What `load` or `simulate` gave.
    size : tuple of float
        Width and height in inches.
    **options
        Of `plot`.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> figure = plots.single(plots.plot_decision, result, who="kernel")
    >>> figure.axes[0].get_title()
    'ReLU NTK'
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        plot(run, figure.subplots(), **options)
    return figure


FIGURES: dict[str, Callable[..., Figure]] = {
    "convergence": convergence,
    "dashboard": dashboard,
    "particles": particles,
    "decision": decision,
    "potential": partial(single, plot_potential),
    "margins": partial(single, plot_margins),
    "balance": partial(single, plot_balance, size=(3.0, 3.0)),
    "gap": partial(single, plot_gap),
    "schedules": partial(single, plot_schedules),
    "free-energy": partial(single, plot_free_energy),
}
PANELS: dict[str, Callable[..., Axes]] = {  # parts of those, as figures of their own where asked for
    "objective": plot_objective,
    "margin": plot_margin,
    "errors": plot_errors,
    "steps": plot_steps,
    "drift": plot_drift,
    "facts": plot_facts,
}


def figure(run: AnyRun, name: str = "convergence", **options: Any) -> Figure:
    """A figure of a run by its name.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    name : str
        One of `FIGURES`, or a panel, one of `PANELS`.
    **options
        Of the function that draws it.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    InputError
        An unknown name, or a run that has no rows of trace yet.

    Examples
    --------
    >>> len(plots.figure(result, "objective").axes)
    1
    """
    if not run.trace:
        raise InputError("the run has no rows of trace yet; go on with it first")
    if name in FIGURES:
        return FIGURES[name](run, **options)
    if name not in PANELS:
        raise InputError(f"figure {name!r}: there are {', '.join([*FIGURES, *PANELS])}")
    return single(PANELS[name], run, **options)


def write(
    run: AnyRun,
    folder: str | Path,
    stem: str,
    kind: str = "png",
    names: Sequence[str] = ("convergence",),
    *,
    optimum: float | None = None,
    width: float | None = None,
) -> list[Path]:
    """Write figures of a run as `folder/stem-name.kind`.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    folder : str or Path
        Made where there is none.
    stem : str
        What the names of the files begin with.
    kind : str
        Format of the files: "png", "pdf" or "svg".
    names : sequence of str
        Which figures, of `FIGURES`.
    optimum : float, optional
        γ*, drawn as a line where the margin is.
    width : float, optional
        In inches, by `fit`; by default each figure's own.

    Returns
    -------
    list of Path
        The files, one a name.

    Raises
    ------
    InputError
        An unknown name, or a width that a figure cannot have.
    OSError
        The folder cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     [path.name for path in plots.write(result, folder, "xor", "svg", ["gap", "schedules"])]
    ['xor-gap.svg', 'xor-schedules.svg']
    """
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise InputError(f"figure {unknown[0]!r}: there are {', '.join(FIGURES)}")
    folder, config = Path(folder), run.config
    folder.mkdir(parents=True, exist_ok=True)
    what = (
        f"{config.data.source}, n = {run.problem.n}, d = {run.problem.d}, m = {run.ensemble.m}, "
        f"{short_name(config.objective.loss)} loss, {short_name(config.dynamics.method)}"
    )
    paths = []
    for name in names:
        options = {"optimum": optimum} if name in ("convergence", "dashboard") else {}
        drawn = FIGURES[name](run, **options)
        paths.append(save(drawn if width is None else fit(drawn, width), folder / f"{stem}-{name}.{kind}", what))
    return paths
