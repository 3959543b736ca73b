"""The function that a run has learned, and the kernel's beside it, over a plane of inputs or along a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..errors import InputError
from ..simulation.result import AnyRun
from ..studies.comparison import RidgePath, class_targets, is_cheap, ntk_of
from .plane import Plane, informative_plane, input_plane, present
from .style import COLOURS, MARKERS, axes_or_current, empty, literal

WORK = 5e10  # multiplications of the network that a panel may take
_LARGEST_KERNEL = 4000  # examples up to which a panel fits the kernel
_WEIGHED = 1 << 16  # particles among which kinks are looked for
_KINKS = 4096  # of a curve

Function = Callable[[np.ndarray], np.ndarray]


class Slice(NamedTuple):
    """f (k, C) at the points of a square grid, or of a line: their coordinates by axis."""

    f: np.ndarray
    axes: tuple[np.ndarray, ...]


def plot_decision(
    run: AnyRun, ax: Axes | None = None, *, who: str = "network", plane: Plane | None = None, through: int = 0
) -> Axes:
    """f over the plane of inputs through one example, all its other features held; examples by their projection.

    With several classes: the largest output. Where inputs have one dimension, f is drawn as a curve, through its kinks.
    InputError: another `who`.

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
    ax = axes_or_current(ax)
    draw_functions(run, [ax], (who,), plane, through)
    return ax


def draw_functions(
    run: AnyRun,
    panels: Sequence[Axes],
    whose: Sequence[str] = ("network", "kernel"),
    plane: Plane | None = None,
    through: int = 0,
) -> None:
    """Fill a panel for each of `whose`, all on one scale of f."""
    plane = plane or informative_plane(run)
    e = None if plane is None else input_plane(run, plane)
    found: list[tuple[Axes, Slice]] = []
    for ax, who in zip(panels, whose, strict=True):
        if who not in ("network", "kernel"):
            raise InputError(f"who = {who!r}: must be network or kernel")
        ax.set_title("network" if who == "network" else ntk_of(run.problem.neuron)[1])
        if reason := _no_kernel(run) if who == "kernel" else "":
            empty(ax, reason)
        else:
            found.append((ax, _line(run, who) if e is None else _square(run, who, e, through)))
    limits = min((one.f.min() for _, one in found), default=0.0), max((one.f.max() for _, one in found), default=0.0)
    for ax, one in found:
        if e is None:
            _curve(run, ax, one, limits)
        else:
            _plane(run, ax, one, limits, e, named=plane is not None and plane.share is None)


def _no_kernel(run: AnyRun) -> str:
    """Why the kernel's function is not drawn."""
    if run.problem.n > _LARGEST_KERNEL:
        return f"the kernel is drawn\nup to n = {_LARGEST_KERNEL}"
    if run.problem.classes is not None and np.ptp(run.problem.targets) == 0:
        return "one class alone:\nno kernel is fitted"
    return ""


def _square(run: AnyRun, who: str, e: np.ndarray, through: int) -> Slice:
    """On a square of the plane e (2, d) through an example, around the examples' projections."""
    X = run.problem.X if run.problem.X_test is None else run.problem.X_test
    seen = run.problem.X @ e.T
    centre = seen.mean(axis=0)
    reach = 1.35 * float(np.abs(seen - centre).max()) or 1.0
    axes = tuple(np.linspace(c - reach, c + reach, _side(run, who)) for c in centre)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return Slice(_function(run, who)(moved_to(X[through % len(X)], e, grid)), axes)


def _line(run: AnyRun, who: str) -> Slice:
    """Along the leading direction of the inputs: at even steps, at the examples, and at kinks of neurons between."""
    centre, direction = _direction(run)
    s = (run.problem.X - centre) @ direction
    even = np.linspace(1.15 * s.min(), 1.15 * s.max(), 200)
    at = np.union1d(np.concatenate([even, s]), _kinks(run, centre, direction, even[[0, -1]]))
    return Slice(_function(run, who)(centre + at[:, None] * direction), (at + centre @ direction,))


def _direction(run: AnyRun) -> tuple[np.ndarray, np.ndarray]:
    """The middle of the inputs (d,), and the unit vector (d,) along which they vary most."""
    X = run.problem.X
    centre = X.mean(axis=0)
    direction = np.linalg.svd(X - centre, full_matrices=False)[2][0]
    return centre, direction if direction[np.abs(direction).argmax()] > 0 else -direction


def _kinks(run: AnyRun, centre: np.ndarray, direction: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Where neurons have u·x = 0 on the line, of those that bend f most, as many as the work allows."""
    cloud = present(run, _WEIGHED)
    slope = cloud.u @ direction
    with np.errstate(divide="ignore", invalid="ignore"):
        at = -(cloud.u @ centre) / slope
    bend = np.where((at > between[0]) & (at < between[1]), np.linalg.norm(cloud.w, axis=1) * np.abs(slope), 0.0)
    most = int(min(_KINKS, WORK / (run.ensemble.m * run.problem.d)))
    heaviest = np.argsort(-bend, kind="stable")[:most]
    return at[heaviest[bend[heaviest] > 0]]


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
    scale = "\ncolours on one scale, white lines at each one's own levels" if run.problem.outputs == 1 else ""
    return f"$f$ over the plane: {rest}training examples by their projection{scale}"


def _plane(run: AnyRun, ax: Axes, seen: Slice, limits: tuple[float, float], e: np.ndarray, *, named: bool) -> None:
    """The regions of the largest output or the levels of f, and the examples; `named`: along coordinates."""
    _filled(run, ax, seen, limits)
    _examples(run, ax, run.problem.X @ e.T)
    if run.problem.classes is not None and len(run.problem.classes) > 2:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, labelspacing=0.2, borderaxespad=0.2)
    names = ("x_1", "x_2") if named else (r"e_1\cdot x", r"e_2\cdot x")
    across, up = seen.axes
    ax.set(xlabel=f"${names[0]}$", ylabel=f"${names[1]}$", xlim=across[[0, -1]], ylim=up[[0, -1]])
    ax.set_aspect("equal", "box")
    ax.grid(False)


def _filled(run: AnyRun, ax: Axes, seen: Slice, limits: tuple[float, float]) -> None:
    """f on a square grid: filled levels between the limits with their scale, or the regions of the largest output."""
    shape = (len(seen.axes[1]), len(seen.axes[0]))
    if run.problem.classes is not None and seen.f.shape[1] > 1:
        largest, levels = seen.f.argmax(axis=1).reshape(shape), np.arange(seen.f.shape[1] + 1) - 0.5
        colours = [COLOURS[c % len(COLOURS)] for c in range(seen.f.shape[1])]
        ax.contourf(*seen.axes, largest, levels=levels, colors=colours, alpha=0.3)
        return
    f = seen.f[:, 0].reshape(shape)
    # cividis: its lightness grows with f, in grey and to every eye
    filled = ax.contourf(*seen.axes, f, levels=_levels(*limits), cmap="cividis", alpha=0.85)
    ax.contour(*seen.axes, f, levels=_levels(f.min(), f.max()), colors="white", linewidths=0.3, linestyles="solid")
    bar = ax.figure.colorbar(filled, cax=ax.inset_axes((1.04, 0.0, 0.06, 1.0)), label="$f(x)$")
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    if run.problem.classes is not None and f.min() < 0 < f.max():
        ax.contour(*seen.axes, f, levels=[0.0], colors="black", linewidths=1.2)


def _levels(low: float, high: float) -> np.ndarray:
    """About thirteen round values, the first and last just beyond."""
    values = np.asarray(MaxNLocator(14).tick_values(low, high))
    return values[max(0, int((values <= low).sum()) - 1) : len(values) - max(0, int((values > high).sum()) - 1)]


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
            label=literal(classes[c]),
        )


def _curve(run: AnyRun, ax: Axes, seen: Slice, limits: tuple[float, float]) -> None:
    """f along the leading direction of the inputs, the examples on it."""
    for c in range(seen.f.shape[1]):
        ax.plot(*seen.axes, seen.f[:, c], color=COLOURS[c % len(COLOURS)])
    targets = np.asarray(run.problem.targets, float)
    if targets.ndim == 1 or targets.shape[1] == 1:
        at, targets = run.problem.X @ _direction(run)[1], targets.reshape(-1)
        ax.plot(at, targets, ls="None", marker="o", ms=2.5, color="black", mfc="white", mew=0.5)
        limits = min(limits[0], targets.min()), max(limits[1], targets.max())
    room = 0.05 * (limits[1] - limits[0]) or 1.0
    ax.set(xlabel="$x$", ylabel="$f(x)$", ylim=(limits[0] - room, limits[1] + room))


def _function(run: AnyRun, who: str) -> Function:
    return network_of(run) if who == "network" else _kernel(run)


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
