"""Figures of a run. The only importer of matplotlib.

Each is a function `plot_x(run, ax=None) -> Axes`, for notebooks and for the files that `write` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .run import Run

# Okabe and Ito's colours, told apart by the colour-blind and, with the line styles, in print
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
STYLE: Any = {
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


def plot_objective(run: Run, ax: Axes | None = None) -> Axes:
    """Objective L = R + λ∫‖θ‖²dρ at the λ in force, its two parts, and λ itself, against the step."""
    ax, t = _axes(ax), run.trace
    ax.plot(t["step"], t["objective"], color=BLUE, label=r"objective $L$")
    ax.plot(t["step"], t["risk"], color=ORANGE, ls="--", label=r"risk $R(f_\rho)$")
    ax.plot(t["step"], t["penalty"], color=GREEN, ls="-.", label=r"penalty $\lambda\int\|\theta\|^2\,d\rho$")
    if len(t["reg"]) and np.ptp(t["reg"]) > 0:
        ax.plot(t["step"], t["reg"], color=GREY, ls=":", label=r"$\lambda$")
    _log(ax, t["objective"], t["risk"], t["penalty"])
    return _finished(ax, "objective and its parts")


def plot_margin(run: Run, ax: Axes | None = None) -> Axes:
    """Normalized margin γ(ρ) against the step, from 0 up once it has become positive."""
    ax, t = _axes(ax), run.trace
    ax.plot(t["step"], t["margin"], color=BLUE)
    shown = t["margin"][np.isfinite(t["margin"])]
    if not len(shown):
        ax.text(0.5, 0.5, "no classes, no margin", color=GREY, ha="center", va="center", transform=ax.transAxes)
    elif shown[-1] > 0:
        ax.set_ylim(0.0, 1.08 * float(shown.max()))
    return _finished(ax, r"normalized margin $\gamma(\rho)$")


def plot_errors(run: Run, ax: Axes | None = None) -> Axes:
    """Training and test error against the step: fractions misclassified, or mean squared errors."""
    ax, t = _axes(ax), run.trace
    ax.plot(t["step"], t["train_error"], color=BLUE, label="training")
    tested = np.isfinite(t["test_error"])
    if tested.any():
        ax.plot(t["step"][tested], t["test_error"][tested], color=RED, ls="--", marker="o", ms=2.5, label="test")
    classes = run.problem.classes is not None
    if not classes:
        _log(ax, t["train_error"], t["test_error"])
    return _finished(ax, "fraction misclassified" if classes else "mean squared error")


def plot_steps(run: Run, ax: Axes | None = None) -> Axes:
    """Step size η and drift norm against the step."""
    ax, t = _axes(ax), run.trace
    ax.plot(t["step"], t["step_size"], color=BLUE, label=r"step size $\eta$")
    ax.plot(t["step"], t["drift"], color=ORANGE, ls="--", label=r"drift $(\int\|\nabla L'\|^2\,d\rho)^{1/2}$")
    _log(ax, t["step_size"], t["drift"])
    return _finished(ax, "step size, drift")


def convergence(run: Run) -> Figure:
    """The four panels of a run at the width of a page, 6.5 inches; (a) to (d) for a caption to refer to."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4.6), layout="constrained")
        axes = figure.subplots(2, 2)
        plots = (plot_objective, plot_margin, plot_errors, plot_steps)
        for letter, plot, ax in zip("abcd", plots, axes.flat, strict=True):
            plot(run, ax).set_title(f"({letter})", loc="left", x=-0.17)
        figure.align_ylabels()
    return figure


def write(run: Run, folder: str | Path, stem: str, kind: str = "png") -> list[Path]:
    """Write the figures of a run into `folder`; their paths. OSError: the folder cannot be written."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-convergence.{kind}"
    config = run.config
    what = (
        f"{config.data.source}, n = {run.problem.n}, d = {run.problem.d}, m = {run.ensemble.m}, "
        f"{config.objective.loss} loss, {config.dynamics.method}"
    )
    # no dates or versions: equal runs give equal files
    silent = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": stem}):
        convergence(run).savefig(path, metadata={"Title": what, **silent})
    return [path]


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def _log(ax: Axes, *columns: np.ndarray) -> None:
    """A logarithmic axis, if there is anything positive that spans it."""
    values = np.concatenate(columns)
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive):
        ax.set_yscale("log")


def _finished(ax: Axes, label: str) -> Axes:
    """Name the axes, and put the legend above them, where no curve is."""
    ax.set(xlabel="step", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=8, borderaxespad=0.2,
                  handlelength=2.4, columnspacing=1.2)  # fmt: skip
    return ax
