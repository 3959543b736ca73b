"""Several runs on the same axes, each by what sets its configuration apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..simulation.result import AnyRun
from ..simulation.toml import tables
from .style import COLOURS, STYLE, against_step, axes_or_current, empty, fit, letter, literal, log_if_positive
from .traces import recorded

_LINES = ("-", "--", "-.", ":")
_MEASURES = {
    "objective": r"objective $L$",
    "margin": r"normalized margin $\gamma(\rho)$",
    "test_error": "test error",
    "drift": r"drift $(\int\|\nabla L'\|^2\,d\rho)^{1/2}$",
    "relative_gap": "relative gap (estimate)",
}
# shown only if nothing else differs
_DERIVED = ("record.", "data.n_test", "dynamics.cooled_at", "run.checkpoint_every", "run.record_every")
_MOST = 3  # settings in a label


def differing(runs: Sequence[AnyRun], names: Sequence[str] = ()) -> list[str]:
    """One label a run: the settings in which the configurations differ, three at most; names where none do.

    Parameters
    ----------
    runs : sequence of Run or Result
        What to label.
    names : sequence of str
        One a run, for what the settings do not tell apart; by default "run 1", "run 2" and so on.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from meanfield import Ensemble, simulate
    >>> other = simulate(result.problem, Ensemble.sphere(128, 2), result.dynamics, steps=5)
    >>> plots.differing([result, other])
    ['m = 64, steps = 10', 'm = 128, steps = 5']
    >>> plots.differing([result, result], ["first.h5", "second.h5"])
    ['first.h5', 'second.h5']
    """
    flat = [_flat(tables(run.config)) for run in runs]
    keys = [
        key
        for key in dict.fromkeys(key for one in flat for key in one)
        if len({str(one.get(key, "–")) for one in flat}) > 1
    ]
    keys = [key for key in keys if not key.startswith(_DERIVED)] or keys
    short = [key.rpartition(".")[2] for key in keys]
    heads = [name if short.count(name) == 1 and name != "seed" else key for key, name in zip(keys, short, strict=True)]
    fallback = list(names) or [f"run {k + 1}" for k in range(len(runs))]
    if not keys:
        return fallback
    labels = [
        ", ".join(f"{head} = {one.get(key, '–')}" for key, head in list(zip(keys, heads, strict=True))[:_MOST])
        for one in flat
    ]
    return [
        label if labels.count(label) == 1 else f"{label} ({name})" for label, name in zip(labels, fallback, strict=True)
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys; a schedule counts as its end, since its start and length follow from other settings by default."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and "shape" in value:
            found[prefix + key] = f"{value['end']:.4g}"
        elif isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return found


def plot_overlay(
    runs: Sequence[AnyRun], ax: Axes | None = None, *, measure: str = "objective", labels: Sequence[str] = ()
) -> Axes:
    """One measure of the trace of several runs against the step, NaN rows left out.

    Parameters
    ----------
    runs : sequence of Run or Result
        What to draw.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    measure : str
        A column of the trace.
    labels : sequence of str
        One a run.

    Examples
    --------
    >>> ax = plots.plot_overlay([result, result], labels=["a", "b"])  # result: of `simulate`, or a run of `load`
    """
    ax = axes_or_current(ax)
    labels = labels or [literal(one) for one in differing(runs)]
    drawn = []
    for k, (run, label) in enumerate(zip(runs, labels, strict=True)):
        step, values = recorded(run, measure)
        drawn.append(values)
        ax.plot(step, values, label=label, color=COLOURS[k % len(COLOURS)], ls=_LINES[(k + k // len(COLOURS)) % 4])
    name = _MEASURES.get(measure, measure.replace("_", " "))
    if not any(len(values) for values in drawn):
        return empty(ax, "not recorded", name)
    if measure != "margin" and all(values.min(initial=np.inf) > 0 for values in drawn):
        log_if_positive(ax, *drawn)
    last = max(int(run.trace["step"][-1]) for run in runs)
    ax.set_xlim(-0.04 * last - 0.5, 1.04 * last + 0.5)
    if measure == "margin" and all(len(values) and values[-1] > 0 for values in drawn):
        ax.set_ylim(0.0, 1.08 * max(float(values.max()) for values in drawn))
    return against_step(ax, name)


def overlay(runs: Sequence[AnyRun], names: Sequence[str] = (), width: float = 6.5) -> Figure:
    """Objective, margin, test error, and gap or drift of several runs, with one legend below.

    Parameters
    ----------
    runs : sequence of Run or Result
        What to draw.
    names : sequence of str
        One a run, such as those of their files, for the legend where their settings do not tell them apart.
    width : float
        Of the figure, in inches.

    Returns
    -------
    matplotlib Figure

    Examples
    --------
    >>> figure = plots.overlay([result, result], ["first.h5", "second.h5"])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['first.h5', 'second.h5']
    """
    labels = [literal(one) for one in differing(runs, names)]
    gaps = any(len(recorded(run, "relative_gap")[0]) for run in runs)
    with matplotlib.rc_context(STYLE):
        longest = max(map(len, labels)) * 6.5 / width
        columns = 1 if longest > 60 else 2 if longest > 28 else 3
        rows = -(-len(labels) // columns)
        figure = Figure(figsize=(width, 4.4 + 0.17 * rows), layout="constrained")
        axes = figure.subplots(2, 2)
        shown = ("objective", "margin", "test_error", "relative_gap" if gaps else "drift")
        for ax, measure in zip(axes.flat, shown, strict=True):
            plot_overlay(runs, ax, measure=measure, labels=labels)
            if ax.get_legend():
                ax.get_legend().remove()
        letter(list(axes.flat))
        figure.align_ylabels()
        handles, _ = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3.0)
    return fit(figure, width)
