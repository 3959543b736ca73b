"""Whole figures of one run, at the width of a page, and the files they go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..errors import InputError
from ..simulation.result import AnyRun
from ..simulation.values import short_name
from .functions import plot_balance, plot_margins, plot_potential
from .particles import caption, draw_states, particles, plot_particles
from .plane import clouds, informative_plane, present
from .slices import draw_functions, slice_caption
from .style import QUIET, SMALL, STYLE, arrange, axes_or_current, fit, letter, literal, save
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
_LONGEST = 60  # characters of a data file's name


def convergence(run: AnyRun, *, optimum: float | None = None) -> Figure:
    """Objective, margin, errors and steps of a run at the width of a page, 6.5 inches; (a), (b), … for a caption.

    A regression has no margin, and three panels.

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
        plots = (plot_objective, partial(plot_margin, optimum=optimum), plot_errors, plot_steps)
        shown = _filled(figure, [partial(plot, run) for plot in plots])
        arrange(figure, shown, 2)
        letter(shown)
        figure.align_ylabels()
    return figure


def dashboard(run: AnyRun, *, optimum: float | None = None) -> Figure:
    """All of a run on a page: trace, balance, potential, margins; particles over the snapshots; network beside kernel.

    Only panels that have something to show.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    optimum : float, optional
        γ*, drawn as a line where the margin is.

    Returns
    -------
    matplotlib Figure
        6.5 inches wide, as high as its panels need.

    Examples
    --------
    >>> [ax.get_title() for ax in plots.dashboard(result).subfigs[1].axes]
    ['step 0', 'step 10']
    """
    with matplotlib.rc_context(SMALL):
        figure = Figure(figsize=(WIDTH, 1.0), layout="constrained")
        figure.suptitle(_header(run), fontsize=8)
        count = min(4, len(clouds(run, 1)))
        grid = figure.add_gridspec(3 if count > 1 else 2, 1)
        measures, *others = (figure.add_subfigure(grid[k]) for k in range(grid.nrows))
        plots = [*_measures(optimum), *([] if count > 1 else [plot_particles])]
        shown = _filled(measures, [partial(plot, run) for plot in plots])
        rows = arrange(measures, shown, 3)
        letter(shown)
        measures.align_ylabels([ax for ax in shown if ax.get_aspect() == "auto"])
        heights = [1.5 * rows, 2.2]
        if count > 1:
            draw_states(run, others[0], count)
            heights.insert(1, 2.4)
        draw_functions(run, others[-1].subplots(1, 2))
        notes = (
            [slice_caption(run)] if count > 1 else [caption([present(run)], informative_plane(run)), slice_caption(run)]
        )
        others[-1].supxlabel("\n".join(notes), **QUIET)
        grid.set_height_ratios(heights)
        figure.set_size_inches(WIDTH, sum(heights) + 0.3)
    return figure


def _measures(optimum: float | None) -> tuple[Callable[..., Axes], ...]:
    """What a dashboard shows above particles and functions, where a run has it."""
    return (
        partial(plot_objective, brief=True),
        plot_gap,
        partial(plot_margin, optimum=optimum),
        plot_errors,
        plot_schedules,
        plot_drift,
        plot_free_energy,
        plot_margins,
        plot_balance,
        plot_potential,
    )


def _filled(figure: Figure | SubFigure, plots: Sequence[Callable[..., Axes]]) -> list[Axes]:
    """The panels that have something to show, drawn, wherever they stand as yet."""
    panels = [plot(figure.add_subplot()) for plot in plots]
    for ax in panels:
        if not ax.has_data():
            ax.remove()
    return [ax for ax in panels if ax.has_data()]


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
    ax = axes_or_current(ax)
    ax.axis("off")
    for row, line in enumerate(_facts(run)):
        ax.text(0.0, 1.0 - 0.16 * row, line, va="top", transform=ax.transAxes)
    return ax


def _facts(run: AnyRun) -> list[str]:
    """What a run is, and where it ended; with mathematics between dollars."""
    problem, config, k = run.problem, run.config, run.ensemble.step
    tested, test = recorded(run, "test_error")
    name = Path(config.data.source).name
    loss, method = short_name(config.objective.loss), short_name(config.dynamics.method)
    lines = [
        literal(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"),
        f"$n = {problem.n}$, $d = {problem.d}$, $m = {run.ensemble.m}$",
        literal(f"{loss.replace('_', '-')} loss, {method.replace('_', ' ')}"),
        rf"$\lambda = {problem.reg(k):.3g}$, $\tau = {problem.temperature(k):.3g}$",
        f"step {k} of {config.run.steps}",
    ]
    if len(run.trace.get("objective", ())):
        lines.append(f"objective {run.trace['objective'][-1]:.5g}")
    if len(test):
        lines.append(f"test error {test[-1]:.4g}" + (f" (step {tested[-1]})" if tested[-1] < k else ""))
    return lines


def _header(run: AnyRun) -> str:
    """The same above a page."""
    facts = _facts(run)
    return "\n".join((", ".join(facts[:4]), ", ".join(facts[4:])))


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
        draw_functions(run, figure.subplots(1, 2))
        figure.supxlabel(slice_caption(run), **QUIET)
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


def apart(run: AnyRun, size: tuple[float, float]) -> list[Figure]:
    """Network and kernel on one scale, each a figure of its own."""
    with matplotlib.rc_context(STYLE):
        figures = [Figure(figsize=size, layout="constrained") for _ in range(2)]
        draw_functions(run, [one.subplots() for one in figures])
    return figures


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
