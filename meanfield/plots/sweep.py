"""A measure over the grid of a sweep: a curve over one key, a phase diagram over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, STYLE, axes_or_current, literal, save

_WIDE = 30.0  # the ratio of values from which an axis is logarithmic


def plot_sweep(table: Sequence[Mapping[str, Any]], axes: Sequence[str], measure: str, ax: Axes | None = None) -> Axes:
    """A measure against one key, with standard errors, or as colours over two, the first to the right.

    Parameters
    ----------
    table : sequence of mapping
        Lines of `studies.comparison.summary`: keys, means and standard errors.
    axes : sequence of str
        One or two keys.
    measure : str
        The column.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from meanfield.studies.comparison import summary
    >>> rows = [{"objective.reg": reg, "data.n": n, "test_error": reg * n} for reg in (1e-3, 1e-2) for n in (40, 80)]
    >>> ax = plots.plot_sweep(summary(rows, ["objective.reg"]), ["objective.reg"], "test_error", Figure().subplots())
    >>> ax.get_xscale(), ax.get_ylabel()
    ('linear', 'test error')
    >>> both = ["objective.reg", "data.n"]
    >>> ax = plots.plot_sweep(summary(rows, both), both, "test_error", Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('objective.reg', 'data.n')
    """
    ax = axes_or_current(ax)
    return (_curve if len(axes) == 1 else _phases)(table, list(axes), measure, ax)


def _curve(table: Sequence[Mapping[str, Any]], axes: list[str], measure: str, ax: Axes) -> Axes:
    """Numbers lie at themselves, words side by side."""
    words = any(isinstance(line[axes[0]], str | bool) for line in table)
    lines = table if words else sorted(table, key=lambda line: line[axes[0]])
    values = [line[axes[0]] for line in lines]
    error = np.nan_to_num([line[f"{measure}_se"] for line in lines])  # of a single seed there is none
    places = range(len(values)) if words else values
    ax.errorbar(places, [line[measure] for line in lines], error, color=BLUE, marker="o", ms=3, lw=1.0)
    if words:
        ax.set_xticks(places, [literal(value) for value in values])
    elif values[0] > 0 and values[-1] >= _WIDE * values[0]:
        ax.set_xscale("log")
    ax.set(xlabel=axes[0], ylabel=_words(measure))
    return ax


def _phases(table: Sequence[Mapping[str, Any]], axes: list[str], measure: str, ax: Axes) -> Axes:
    """One field a line of the table, however its values are spaced."""
    across, up = (list(dict.fromkeys(line[key] for line in table)) for key in axes)
    heights = np.full((len(up), len(across)), np.nan)
    for line in table:
        heights[up.index(line[axes[1]]), across.index(line[axes[0]])] = line[measure]
    image = ax.pcolormesh(heights, cmap="viridis", rasterized=True)
    for axis, values in ((ax.xaxis, across), (ax.yaxis, up)):
        shown = range(0, len(values), 1 + len(values) // 12)
        axis.set_ticks([k + 0.5 for k in shown], [_short(values[k]) for k in shown])
    ax.figure.colorbar(image, ax=ax, label=_words(measure))
    ax.set(xlabel=axes[0], ylabel=axes[1])
    ax.grid(False)
    return ax


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else literal(value)


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def write_sweep(
    table: Sequence[Mapping[str, Any]], axes: Sequence[str], measures: Sequence[str], path: str | Path
) -> Path:
    """Draw `plot_sweep` of every measure, side by side, into a file.

    Parameters
    ----------
    table : sequence of mapping
        Lines of `studies.comparison.summary`.
    axes : sequence of str
        One or two keys.
    measures : sequence of str
        Columns.
    path : str or Path
        The file; its suffix, .png, .pdf or .svg, is its format.

    Returns
    -------
    Path
        That file.

    Raises
    ------
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from meanfield.studies.comparison import summary
    >>> lines = summary([{"data.n": n, "test_error": 1 / n} for n in (40, 80)], ["data.n"])
    >>> with TemporaryDirectory() as folder:
    ...     plots.write_sweep(lines, ["data.n"], ["test_error"], Path(folder) / "sweep.svg").name
    'sweep.svg'
    """
    path = Path(path)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.4 + 3.2 * len(measures), 2.9), layout="constrained")
        for measure, ax in zip(measures, figure.subplots(1, len(measures), squeeze=False)[0], strict=True):
            plot_sweep(table, axes, measure, ax)
    return save(figure, path, f"sweep over {' and '.join(axes)}")
