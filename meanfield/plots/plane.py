"""Two directions to look at a run in, and the particles as they are seen there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..simulation.result import AnyRun
from ..simulation.snapshots import gathered

SHOWN = 4096  # particles of a scatter
_WEIGHED = 1 << 16  # particles that decide on a plane


class Plane(NamedTuple):
    """Two directions of input weights, to draw particles along.

    Attributes
    ----------
    e : (2, d) array
        The directions, orthonormal, one a row.
    names : tuple of str
        What the axes are called, in mathematical notation without dollars.
    share : float or None
        Share of the mass's second moment that the directions hold, in [0, 1]; None where they are coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> plane = plots.Plane(np.eye(2)[::-1], ("u_2", "u_1"), None)
    >>> plots.plot_particles(result, plane=plane).get_xlabel()
    '$u_2$'
    """

    e: np.ndarray
    names: tuple[str, str]
    share: float | None


@dataclass(frozen=True)
class Cloud:
    """Some of a run's particles at a step.

    Attributes
    ----------
    step : int
        When they were there.
    w : (k, C) float64 array
        Output weights.
    u : (k, d) float64 array
        Input weights.
    total : int
        How many particles the run has, of which these are k.

    Examples
    --------
    >>> import numpy as np
    >>> cloud = plots.Cloud(step=0, w=np.array([[2.0]]), u=np.array([[3.0, 4.0]]), total=64)
    >>> cloud.mass
    array([10.])
    """

    step: int
    w: np.ndarray
    u: np.ndarray
    total: int

    @property
    def mass(self) -> np.ndarray:
        """‖w‖‖u‖ (k,): what a particle can contribute to the output."""
        return np.linalg.norm(self.w, axis=1) * np.linalg.norm(self.u, axis=1)


def present(run: AnyRun, count: int = SHOWN) -> Cloud:
    """About `count` particles of the run's ensemble, evenly spread by address."""
    w, u = run.ensemble.sample(count)
    return Cloud(run.ensemble.step, w, u, run.ensemble.m)


def clouds(run: AnyRun, count: int = SHOWN) -> list[Cloud]:
    """The run's snapshots, thinned evenly by address, and the same particles as they are at its present step.

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.
    count : int
        How many particles of each state, at most; about as many where there are no snapshots.

    Returns
    -------
    list of Cloud
        In the order of their steps; without snapshots only the present state.

    Examples
    --------
    >>> [(cloud.step, cloud.u.shape) for cloud in plots.clouds(result, 16)]
    [(0, (16, 2)), (10, (16, 2))]
    """
    taken = [one for one in run.snapshots if one.step <= run.ensemble.step]
    if not taken:
        return [present(run, count)]
    kept = len(taken[0].index)
    rows = np.arange(min(kept, count)) * kept // min(kept, count)
    states = [(one.step, one.w[rows], one.u[rows]) for one in taken]
    if taken[-1].step < run.ensemble.step:
        states.append((run.ensemble.step, *gathered(run.ensemble, taken[0].index[rows])))
    return [Cloud(k, w.astype(np.float64), u.astype(np.float64), run.ensemble.m) for k, w, u in states]


def spread(states: list[Cloud], count: int) -> list[Cloud]:
    """At most `count` of them, first and last included, at steps that grow geometrically: most happens at the start."""
    if len(states) <= count:
        return states
    passed = np.log([one.step - states[0].step for one in states[1:]])
    nearest = [int(np.abs(passed - at).argmin()) for at in np.linspace(passed[0], passed[-1], count - 1)]
    return [states[0], *(states[1 + k] for k in dict.fromkeys(nearest))]


def informative_plane(run: AnyRun) -> Plane | None:
    """The coordinates that decide the label, where they are known; else the leading directions of the mass.

    The latter are the eigenvectors of Σ_j ‖w_j‖‖u_j‖ û_j û_jᵀ (û = u/‖u‖, not centred: directions have an origin).

    Parameters
    ----------
    run : Run or Result
        What `load` or `simulate` gave.

    Returns
    -------
    Plane or None
        None in one dimension.

    Examples
    --------
    >>> plots.informative_plane(result).names
    ('u_1', 'u_2')
    """
    d = run.problem.d
    if d < 2:
        return None
    if d == 2 or run.config.data.source == "xor":
        return Plane(np.eye(2, d), ("u_1", "u_2"), None)
    seen = present(run, _WEIGHED)
    unit = seen.u / np.maximum(np.linalg.norm(seen.u, axis=1), 1e-300)[:, None]
    moment = (unit * seen.mass[:, None]).T @ unit
    values, vectors = np.linalg.eigh(moment)
    e = vectors[:, [-1, -2]].T
    e *= np.where(e[np.arange(2), np.abs(e).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]  # a sign that does not flip
    total = float(values.sum())
    return Plane(e, (r"e_1\cdot u", r"e_2\cdot u"), float(values[-2:].sum()) / total if total > 0 else None)


def input_plane(run: AnyRun, plane: Plane) -> np.ndarray | None:
    """The plane as directions of inputs, orthonormal (2, d), without features that never change; None if none is left.

    A constant feature, such as a bias, belongs to every input: to move along it would leave the data.
    """
    varies = np.ptp(run.problem.X, axis=0) > 0
    q, r = np.linalg.qr((plane.e * varies).T)
    if np.abs(np.diag(r)).min() < 1e-6:
        return None
    return (q * np.sign(np.diag(r))).T
