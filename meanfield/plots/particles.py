"""Particles in a plane: one state, several side by side, or one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..errors import InputError
from ..simulation.result import AnyRun
from .plane import SHOWN, Cloud, Plane, clouds, informative_plane, present, spread
from .style import BLUE, COLOURS, GREY, MARKERS, QUIET, RED, STYLE, axes_or_current, literal

SNAPSHOT_HINT = "no snapshots (record.snapshots = 0)"


def plot_particles(
    run: AnyRun,
    ax: Axes | None = None,
    *,
    cloud: Cloud | None = None,
    plane: Plane | None = None,
    reach: float | None = None,
    heaviest: float | None = None,
) -> Axes:
    """Input weights in the informative plane; colour and marker: sign of w, or its largest output; area: ‖w‖‖u‖.

    In one dimension w is drawn against u.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    cloud : Cloud, optional
        Particles to draw; by default the present ones.
    plane : Plane, optional
        Directions to draw along; by default `informative_plane(run)`.
    reach : float, optional
        Half the width of the axes; by default what shows the particles, all but a thousandth that is far outside.
    heaviest : float, optional
        The mass ‖w‖‖u‖ that has the largest marker; by default the largest of the particles.

    Examples
    --------
    >>> ax = plots.plot_particles(result)  # result: of `simulate`, or a run of `load`
    """
    ax = axes_or_current(ax)
    cloud, plane = cloud or present(run), plane or informative_plane(run)
    if plane is None:
        at, names = np.column_stack([cloud.u[:, 0], cloud.w[:, 0]]), ("u", "w")
    else:
        at, names = cloud.u @ plane.e.T, plane.names
    mass = cloud.mass
    heaviest = heaviest or float(mass.max(initial=0.0)) or 1.0
    size = 0.3 + 24.0 * min(1.0, (800 / len(mass)) ** 0.5) * np.minimum(mass / heaviest, 1.0)
    scatter(ax, run, cloud, at[:, 0], at[:, 1], size)
    reach = reach or reach_of([cloud], plane)
    ax.set(xlim=(-reach, reach), xlabel=f"${names[0]}$", ylabel=f"${names[1]}$")
    if plane is not None:
        ax.set(ylim=(-reach, reach))
        ax.set_aspect("equal", "box")
    ax.axhline(0, color=GREY, lw=0.4, zorder=0)
    ax.axvline(0, color=GREY, lw=0.4, zorder=0)
    ax.set_title(f"step {cloud.step}")
    return ax


def scatter(ax: Axes, run: AnyRun, cloud: Cloud, x: np.ndarray, y: np.ndarray, size: np.ndarray) -> None:
    """Draw the particles of a cloud at x, y (k,) with marker areas `size` (k,), a colour and marker to each kind."""
    for rows, label, colour, marker in _kinds(run, cloud.w):
        face: Any = {"facecolors": "none", "edgecolors": colour} if marker == "^" else {"color": colour}
        ax.scatter(
            x[rows],
            y[rows],
            s=size[rows],
            marker=marker,
            alpha=0.6,
            linewidths=0.5,
            label=label,
            zorder=3,
            rasterized=True,
            **face,
        )


def _kinds(run: AnyRun, w: np.ndarray) -> list[tuple[np.ndarray, str, str, str]]:
    """(rows (k,), label, colour, marker) of the particles that push to the same side."""
    if w.shape[1] == 1:
        return [(w[:, 0] > 0, "$w > 0$", BLUE, "o"), (w[:, 0] < 0, "$w < 0$", RED, "^")]
    largest = w.argmax(axis=1) if run.problem.classes is not None else np.abs(w).argmax(axis=1)
    names = run.problem.classes if run.problem.classes is not None else np.arange(w.shape[1])
    return [
        (largest == c, literal(names[c]), COLOURS[c % len(COLOURS)], MARKERS[c % len(MARKERS)])
        for c in range(w.shape[1])
    ]


def reach_of(states: list[Cloud], plane: Plane | None) -> float:
    """Half the width that shows all particles, unless a thousandth of them are far outside of the others."""
    seen = [np.abs(one.u if plane is None else one.u @ plane.e.T).max(axis=1) for one in states]
    return 1.08 * max(min(float(one.max()), 2 * float(np.quantile(one, 0.999))) for one in seen) or 1.0


def draw_states(run: AnyRun, figure: Figure | SubFigure, columns: int = 4) -> list[Axes]:
    """Small multiples of the particles over the snapshots, each on its own scale; fills `figure`."""
    states, plane = spread(clouds(run), columns), informative_plane(run)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax, cloud in zip(axes, states, strict=False):
        plot_particles(run, ax, cloud=cloud, plane=plane)
        if ax is not axes[0]:
            ax.set_ylabel("")
    for ax in axes[len(states) :]:
        ax.remove()
    handles, labels = axes[len(states) - 1].get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper right",
        ncols=min(len(labels), 10),
        borderaxespad=0.1,
        handletextpad=0.1,
        columnspacing=0.8,
    )
    for handle in legend.legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([14.0])
    figure.supxlabel(caption(states, plane), **QUIET)
    return list(axes[: len(states)])


def caption(states: list[Cloud], plane: Plane | None) -> str:
    """What is to be known of the scatter: how many of how many, in which plane, what the area says."""
    last = states[-1]
    shown = (
        f"{len(last.u)} of {last.total} particles, evenly spread by address"
        if len(last.u) < last.total
        else f"all {last.total} particles"
    )
    share = "" if plane is None or plane.share is None else f"; leading directions, {100 * plane.share:.0f} % of mass"
    hint = f"; {SNAPSHOT_HINT}" if len(states) == 1 else ""
    return rf"{shown}; area $\propto \|w\|\|u\|${share}{hint}"


def particles(run: AnyRun, width: float = 6.5) -> Figure:
    """Small multiples of the particles over the snapshots (at most four states); only the present ones without any.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    width : float
        Of the figure, in inches, where there are several states.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> [ax.get_title() for ax in plots.particles(result).axes]
    ['step 0', 'step 10']
    """
    with matplotlib.rc_context(STYLE):
        count = min(4, len(clouds(run, 1)))
        figure = Figure(
            figsize=(width if count > 1 else 4.0, {1: 4.2, 2: 3.7, 3: 2.9}.get(count, 2.35)), layout="constrained"
        )
        draw_states(run, figure, count)
    return figure


def animate(run: AnyRun, path: str | Path, *, dpi: int = 110, frames_per_second: float = 4.0) -> Path:
    """Write the particles over the snapshots as an animated GIF.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    path : str or Path
        The file.
    dpi : int
        Resolution, in pixels an inch; a frame is 4.0 by 4.2 inches.
    frames_per_second : float
        A frame is a snapshot.

    Returns
    -------
    Path
        That file.

    Raises
    ------
    InputError
        A run with no snapshots to go through.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     plots.animate(result, Path(folder) / "particles.gif", dpi=30).name
    'particles.gif'
    """
    states, plane = clouds(run, SHOWN), informative_plane(run)
    if len(states) < 2:
        raise InputError(f"animate: {SNAPSHOT_HINT} in this run")
    reach, heaviest = reach_of(states, plane), max(float(one.mass.max()) for one in states)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 4.2), layout="constrained")
        writer = PillowWriter(fps=frames_per_second)  # type: ignore[arg-type]
        with writer.saving(figure, str(path), dpi):
            for cloud in states:
                figure.clear()
                ax = plot_particles(run, figure.subplots(), cloud=cloud, plane=plane, reach=reach, heaviest=heaviest)
                ax.legend(loc="upper right", handletextpad=0.1, borderaxespad=0.1)
                writer.grab_frame()
    return Path(path)
