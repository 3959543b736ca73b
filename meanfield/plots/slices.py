"""The function that a run has learned, and the kernel's beside it, over a plane of inputs or along a line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..errors import InputError
from ..simulation.result import AnyRun
from ..studies.comparison import RidgePath, class_targets, is_cheap, ntk_of
from .plane import Plane, informative_plane, input_plane
from .style import COLOURS, MARKERS, axes_or_current, empty

WORK = 5e10  # multiplications of the network that a panel may take
_LARGEST_KERNEL = 4000  # examples up to which a panel fits the kernel

Function = Callable[[np.ndarray], np.ndarray]


def plot_decision(
    run: AnyRun, ax: Axes | None = None, *, who: str = "network", plane: Plane | None = None, through: int = 0
) -> Axes:
    """f over the plane of inputs through one example, all its other features held; examples by their projection.

    With several classes: the largest output. Where inputs have one dimension, f is drawn as a curve. InputError:
    another `who`.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    ax : matplotlib Axes, optional
        Where to draw; by default the current axes.
    who : str
        "network" or "kernel" (the NTK of the same neuron, ridge, regularized by leave-one-out).
    plane : Plane, optional
        Directions to draw along; by default `informative_plane(run)`.
    through : int
        A row of the test set, or of the training set where there is none.

    Examples
    --------
    >>> ax = plots.plot_decision(result)  # result: of `simulate`, or a run of `load`
    """
    ax, plane = axes_or_current(ax), plane or informative_plane(run)
    if who not in ("network", "kernel"):
        raise InputError(f"who = {who!r}: must be network or kernel")
    title = "network" if who == "network" else ntk_of(run.problem.neuron)[1]
    e = None if plane is None else input_plane(run, plane)
    ax.set_title(title)
    if who == "kernel" and run.problem.n > _LARGEST_KERNEL:
        return empty(ax, f"the kernel is drawn\nup to n = {_LARGEST_KERNEL}")
    if who == "kernel" and run.problem.classes is not None and np.ptp(run.problem.targets) == 0:
        return empty(ax, "one class alone:\nno kernel is fitted")
    function = network_of(run) if who == "network" else _kernel(run)
    if e is None:
        return _curve(run, ax, function)
    X = run.problem.X if run.problem.X_test is None else run.problem.X_test
    base = X[through % len(X)]
    seen = run.problem.X @ e.T
    reach = 1.35 * float(np.abs(seen - seen.mean(axis=0)).max()) or 1.0
    centre = seen.mean(axis=0)
    side = _side(run, who)
    axis = np.linspace(-reach, reach, side)
    grid = np.stack(np.meshgrid(axis + centre[0], axis + centre[1]), axis=-1).reshape(-1, 2)
    f = function(moved_to(base, e, grid))
    shape, extent = (side, side), (centre[0] - reach, centre[0] + reach, centre[1] - reach, centre[1] + reach)
    _filled(run, ax, f, shape, extent)
    _examples(run, ax, seen)
    if run.problem.classes is not None and len(run.problem.classes) > 2:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, labelspacing=0.2, borderaxespad=0.2)
    names = ("x_1", "x_2") if plane is not None and plane.share is None else (r"e_1\cdot x", r"e_2\cdot x")
    ax.set(xlabel=f"${names[0]}$", ylabel=f"${names[1]}$", xlim=extent[:2], ylim=extent[2:])
    ax.set_aspect("equal", "box")
    ax.grid(False)
    return ax


def moved_to(base: np.ndarray, e: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Inputs (k, d) with coordinates `at` (k, 2) in the plane e (2, d), and all else as in `base` (d,)."""
    return base + (at - base @ e.T) @ e


def slice_caption(run: AnyRun) -> str:
    """What `plot_decision` shows by default."""
    plane = informative_plane(run)
    if plane is None or input_plane(run, plane) is None:
        return "examples: dots"
    which = "training" if run.problem.X_test is None else "test"
    rest = f"other features as in the first {which} example; " if run.problem.d > 2 else ""
    return f"$f$ over the plane: {rest}training examples by their projection"


def _filled(run: AnyRun, ax: Axes, f: np.ndarray, shape: tuple[int, int], extent: tuple[float, ...]) -> None:
    """f (k, C) on a square grid: filled levels with their scale, or the regions of the largest output."""
    axes = np.linspace(extent[0], extent[1], shape[1]), np.linspace(extent[2], extent[3], shape[0])
    if run.problem.classes is not None and f.shape[1] > 1:
        largest = f.argmax(axis=1).reshape(shape)
        colours = [COLOURS[c % len(COLOURS)] for c in range(f.shape[1])]
        ax.contourf(*axes, largest, levels=np.arange(f.shape[1] + 1) - 0.5, colors=colours, alpha=0.3)
        return
    f = f[:, 0].reshape(shape)
    # cividis: its lightness grows with f, in grey and to every eye
    filled = ax.contourf(*axes, f, levels=13, cmap="cividis", alpha=0.85)
    bar = ax.figure.colorbar(filled, cax=ax.inset_axes((1.04, 0.0, 0.06, 1.0)), label="$f(x)$")
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    if run.problem.classes is not None and f.min() < 0 < f.max():
        ax.contour(*axes, f, levels=[0.0], colors="black", linewidths=1.2)


def _examples(run: AnyRun, ax: Axes, seen: np.ndarray) -> None:
    """Training examples at their projection; their classes by marker."""
    rows = np.arange(min(len(seen), 300)) * len(seen) // min(len(seen), 300)
    classes = run.problem.classes
    if classes is None:
        ax.scatter(seen[rows, 0], seen[rows, 1], s=5, facecolors="white", edgecolors="black", linewidths=0.4)
        return
    index = np.searchsorted(classes, run.problem.y)
    for c in range(len(classes)):
        mine = rows[index[rows] == c]
        face, edge = ("white", "black") if c % 2 else ("black", "white")
        if len(classes) > 2:
            face, edge = COLOURS[c % len(COLOURS)], "black"
        ax.scatter(
            seen[mine, 0],
            seen[mine, 1],
            s=9,
            marker=MARKERS[c % len(MARKERS)],
            facecolors=face,
            zorder=3,
            edgecolors=edge,
            linewidths=0.4,
            label=str(classes[c]),
        )


def _curve(run: AnyRun, ax: Axes, function: Function) -> Axes:
    """f along the leading direction of the inputs, the examples on it."""
    X = run.problem.X
    centre = X.mean(axis=0)
    direction = np.linalg.svd(X - centre, full_matrices=False)[2][0]
    direction = direction if direction[np.abs(direction).argmax()] > 0 else -direction
    s = (X - centre) @ direction
    axis = np.linspace(1.15 * s.min(), 1.15 * s.max(), 200)
    f = function(centre + axis[:, None] * direction)
    at, offset = axis + centre @ direction, centre @ direction
    for c in range(f.shape[1]):
        ax.plot(at, f[:, c], color=COLOURS[c % len(COLOURS)])
    targets = np.asarray(run.problem.targets, float)
    if targets.ndim == 1 or targets.shape[1] == 1:
        ax.plot(s + offset, targets.reshape(-1), ls="None", marker="o", ms=2.5, color="black", mfc="white", mew=0.5)
    ax.set(xlabel="$x$", ylabel="$f(x)$")
    return ax


def _side(run: AnyRun, who: str) -> int:
    """How many points a side of the plane has, by what a point costs."""
    if who == "network":
        return int(np.clip(np.sqrt(WORK / (run.ensemble.m * run.problem.d)), 25, 121))
    return 81 if is_cheap(ntk_of(run.problem.neuron)[0]) else 25


def network_of(run: AnyRun) -> Function:
    outputs = run.ensemble.outputs
    return lambda X: run.problem.predict(run.ensemble, X).reshape(len(X), outputs)


def _kernel(run: AnyRun) -> Function:
    """The kernel as `meanfield ntk` fits it, (k, C)."""
    problem, (kernel, _) = run.problem, ntk_of(run.problem.neuron)
    classes = problem.classes is not None
    targets = class_targets(problem.targets)[1] if classes else problem.targets
    path = RidgePath(loss="error" if classes else "squared").fit(kernel.gram(problem.X), targets)
    return lambda Z: np.asarray(kernel.dot(Z, problem.X, path.coef)).reshape(len(Z), -1)
