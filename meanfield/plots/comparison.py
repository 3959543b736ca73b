"""Network against kernel over n, d and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from .style import BLUE, GREEN, ORANGE, RED, STYLE, axes_or_current, save


def plot_comparison(table: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Test errors at one d against n: network and kernels, as `comparison.summary` has them, with standard errors.

    Parameters
    ----------
    table : sequence of mapping
        Lines of `studies.comparison.summary`.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from meanfield.studies.comparison import summary
    >>> error = {40: 0.4, 80: 0.1}  # of the network, by the number of examples
    >>> rows = [
    ...     {
    ...         "d": 5,
    ...         "n": n,
    ...         "network_error": error[n],
    ...         "kernel_error": 0.4,
    ...         "kernel_best_error": 0.3,
    ...         "learned_error": 0.2,
    ...     }
    ...     for n in error
    ... ]
    >>> ax = plots.plot_comparison(summary(rows), Figure().subplots())
    >>> ax.get_title()
    '$d = 5$'
    """
    ax = axes_or_current(ax)
    kinds = (
        ("network_error", "network", BLUE, "-", "o"),
        ("kernel_error", "NTK, leave-one-out", RED, "--", "s"),
        ("kernel_best_error", "NTK, best on test set", GREEN, ":", "^"),
        ("learned_error", "NTK, metric learned", ORANGE, "-.", "D"),
    )
    lines = sorted(table, key=lambda line: line["n"])
    n = [line["n"] for line in lines]
    for name, label, colour, style, marker in kinds:
        error = np.nan_to_num([line[f"{name}_se"] for line in lines])  # of a single seed there is none
        ax.errorbar(
            n, [line[name] for line in lines], error, color=colour, ls=style, marker=marker, ms=3, lw=1.0, label=label
        )
    ax.set(xscale="log", xlabel="examples $n$", ylim=(-0.02, 0.62), title=f"$d = {lines[0]['d']}$")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.minorticks_off()
    return ax


def write_comparison(table: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw `plot_comparison` for every d, side by side, into a file.

    Parameters
    ----------
    table : sequence of mapping
        Lines of `studies.comparison.summary`.
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
    >>> errors = {"network_error": 0.1, "kernel_error": 0.4, "kernel_best_error": 0.3, "learned_error": 0.2}
    >>> rows = [{"d": d, "n": 40, **errors} for d in (5, 10)]
    >>> with TemporaryDirectory() as folder:
    ...     plots.write_comparison(summary(rows), Path(folder) / "comparison.svg").name
    'comparison.svg'
    """
    path = Path(path)
    dims = sorted({line["d"] for line in table})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 + 2.5 * len(dims), 2.9), layout="constrained")
        axes = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
        for d, ax in zip(dims, axes, strict=True):
            plot_comparison([line for line in table if line["d"] == d], ax)
        axes[0].set_ylabel("test error")
        axes[-1].legend(loc="upper right", fontsize=7)
    return save(figure, path, "network against kernel")
