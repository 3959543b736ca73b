"""How figures look: colours, one style for print, axes and notes. What a panel has nothing to show for, it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ..errors import InputError, printable
from ..storage.atomic import replace_whole

# Okabe and Ito's colours, told apart by the colour-blind and, with the line styles, in print
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
COLOURS = (BLUE, RED, GREEN, ORANGE, "#56B4E9", "#CC79A7", "#000000", "#999933", "#882255", "#AAAAAA")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
STYLE: Any = {
    "text.usetex": False,  # no figure of ours needs LaTeX, whatever the user's own do
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
SMALL: Any = {
    **STYLE,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.0,
}
QUIET: Any = {"color": GREY, "fontsize": 7}  # captions and notes
COLUMN, PAGE = 3.25, 6.75  # inches: the column of a journal, and two of them
_NARROWEST = 2.0  # inches of a panel whose labels do not crowd
_HIGHEST = 0.8  # of the width, the height of a panel that has a column to itself: square ones need room for a scale
_TITLE = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def axes_or_current(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def log_if_positive(ax: Axes, *columns: np.ndarray) -> None:
    """A logarithmic axis, if there is anything positive that spans it; its ticks carry numbers within a decade too."""
    values = np.concatenate(columns)
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return
    low, high = float(positive.min()), float(positive.max())
    inside = [
        v
        for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for v in (10.0**k, 2 * 10.0**k, 5 * 10.0**k)
        if low <= v <= high
    ]
    if len(inside) < 2:  # flat: a linear axis says more
        return
    ax.set_yscale("log")
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=15))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.yaxis.set_major_locator(LogLocator(numticks=6))
        ax.yaxis.set_minor_formatter(NullFormatter())


def against_step(ax: Axes, label: str) -> Axes:
    """Name the axes, and put the legend above them, where no curve is."""
    ax.set(xlabel="step", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if ax.get_legend_handles_labels()[0]:
        legend_above(ax)
    return ax


def legend_above(ax: Axes, columns: int = 2, **options: Any) -> None:
    usual: Any = {"borderaxespad": 0.2, "handlelength": 2.2, "columnspacing": 1.0, "handletextpad": 0.5}
    place: Any = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": columns, "labelspacing": 0.25}
    ax.legend(**{**usual, **place, **options})


def note(ax: Axes, text: str) -> Axes:
    """A quiet line in the middle of a panel that has nothing to show."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, **QUIET)
    return ax


def empty(ax: Axes, text: str, label: str = "") -> Axes:
    """A panel without axes' numbers, that only says what it would take to fill it."""
    ax.set(xticks=[], yticks=[], ylabel=label)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return note(ax, text)


def letter(axes: Sequence[Axes], left: float = 34.0) -> None:
    """(a), (b), … for a caption to refer to, `left` points to the left of each panel and above it."""
    for k, ax in enumerate(axes):
        ax.annotate(
            f"({chr(ord('a') + k)})",
            (0, 1),
            xycoords="axes fraction",
            xytext=(-left, 5),
            textcoords="offset points",
            ha="left",
            va="bottom",
        )


def arrange(figure: Figure | SubFigure, panels: Sequence[Axes], most: int) -> int:
    """Move panels into rows of at most `most`, each row filled to its end; the number of rows."""
    rows = -(-len(panels) // most)
    grid = figure.add_gridspec(rows, math.lcm(*range(1, most + 1)))
    for k, row in enumerate(np.array_split(np.arange(len(panels)), rows)):
        wide = grid.ncols // len(row)
        for j, i in enumerate(row):
            panels[i].set_subplotspec(grid[k, j * wide : (j + 1) * wide])
    return rows


def fit(figure: Figure, width: float) -> Figure:
    """Give a figure another width, in place; the size of its letters stays, so that it is to be printed as it is.

    Panels that would be narrower than 2 inches go below each other; captions break after
    semicolons.

    Parameters
    ----------
    figure : matplotlib Figure
        With its panels on one grid.
    width : float
        In inches, such as 3.25 for the column of a journal.

    Returns
    -------
    matplotlib Figure
        The same.

    Raises
    ------
    InputError
        A figure of parts with grids of their own, which has the width of a page.

    Examples
    --------
    >>> figure = plots.fit(plots.convergence(result), 3.25)
    >>> [round(float(size), 2) for size in figure.get_size_inches()]
    [3.25, 9.2]
    """
    if figure.subfigs:
        raise InputError(f"width = {width:g}: this figure has that of a page, {figure.get_figwidth():g} inches")
    grid: Any = [(ax, spec) for ax in figure.axes if (spec := ax.get_subplotspec()) is not None]
    rows, columns = (max(spec.get_gridspec().get_geometry()[k] for _, spec in grid) for k in (0, 1))
    height = figure.get_figheight()
    if columns > 1 and width < columns * _NARROWEST:
        places = sorted({(spec.rowspan.start, spec.colspan.start) for _, spec in grid})
        one = figure.add_gridspec(len(places), 1)
        for ax, spec in grid:
            ax.set_subplotspec(one[places.index((spec.rowspan.start, spec.colspan.start))])
        height = len(places) * min(height / rows, _HIGHEST * width)
    for text in figure.texts:  # captions
        text.set_text(text.get_text().replace("; ", ";\n"))
    figure.set_size_inches(width, height)
    return figure


def literal(text: Any) -> str:
    """A name that may hold anything as it stands in a figure: no mathematics, no signs that turn or hide others.

    Parameters
    ----------
    text : object
        What a user or a file calls something.

    Returns
    -------
    str
        Also where the name begins with an underscore, by which matplotlib would leave it out of a legend.

    Examples
    --------
    >>> from meanfield.plots.style import literal
    >>> literal("US$ and C$"), literal("_old")
    ('US\\\\$ and C\\\\$', ' _old')
    """
    shown = printable(str(text)).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def save_image(figure: Figure, file: BinaryIO) -> None:
    """Write a figure as SVG for a page that has no fonts of ours: text as outlines, and no date.

    Parameters
    ----------
    figure : matplotlib Figure
        What to write.
    file : binary file
        Open for writing, such as a `BytesIO`.

    Examples
    --------
    >>> from io import BytesIO
    >>> file = BytesIO()
    >>> plots.save_image(plots.figure(result, "facts"), file)
    >>> file.getvalue().rstrip().endswith(b"</svg>")
    True
    """
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "svg.hashsalt": "meanfield"}):
        figure.savefig(file, format="svg", dpi=200, metadata=_TITLE["svg"])


def save(figure: Figure, path: str | Path, title: str, style: Any = STYLE) -> Path:
    """Write a figure, whole or not at all, without dates or versions, so that equal runs give equal files.

    Parameters
    ----------
    figure : matplotlib Figure
        What to write.
    path : str or Path
        The file; its suffix, .png, .pdf or .svg, is its format.
    title : str
        Goes into the file's metadata.
    style : mapping
        Settings of matplotlib under which it is written; by default `STYLE`.

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
    >>> with TemporaryDirectory() as folder:
    ...     first = plots.save(plots.figure(result, "facts"), Path(folder) / "facts.svg", "a run").read_bytes()
    ...     again = plots.save(plots.figure(result, "facts"), Path(folder) / "facts.svg", "a run").read_bytes()
    >>> first == again
    True
    """
    path = Path(path)
    kind = path.suffix[1:]

    def write(temporary: Path) -> None:
        figure.savefig(temporary, format=kind, metadata={"Title": printable(title), **_TITLE[kind]})

    with matplotlib.rc_context({**style, "svg.hashsalt": printable(path.stem)}):
        replace_whole(path, write)
    return path
