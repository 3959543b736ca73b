"""What the neurons of an ensemble have become: how many, in which directions, how far from their start.

A particle's mass is ‖w_j‖‖u_j‖: what it adds to the network depends on it and on the directions of w_j and u_j alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ensemble import Ensemble
from ..errors import InputError

_TINY = 1e-300
POINTS = 512  # examples at most on which tangent kernels are compared


def effective_neurons(ensemble: Ensemble, *, angle: float = 0.3, particles: int = 4096) -> float:
    """The number of neurons by direction: the participation ratio of the masses a_j = ‖w_j‖‖u_j‖.

    Parameters
    ----------
    ensemble : Ensemble
        m particles.
    angle : float
        Radians, more than 0 and at most π/2: nearer directions are alike.
    particles : int
        min(m, `particles`) are used, evenly spread over the ensemble.

    Returns
    -------
    float
        From 1 to the number of particles used, which caps it; NaN where all masses are 0.

    Raises
    ------
    InputError
        An angle outside (0, π/2].

    Notes
    -----
    (Σ_j a_j)² / Σ_jk a_j a_k Z_jk, where Z_jk = 1 if u_j and u_k, and also w_j and w_k, are within `angle` of each
    other, else 0: the diversity of order 2 of Leinster and Cobbold (2012). K equal groups, each narrower than the angle
    and farther apart than it, count K, however many particles they hold. Without groups, 4096 uniform on the sphere
    count 21 in d = 2 (2·2π/0.6), 950 in d = 5, 2900 in d = 10 and 2800 in d = 20.

    Examples
    --------
    32 copies of each of three neurons.

    >>> import numpy as np
    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.from_arrays(w=np.ones(96), u=np.repeat(np.eye(3), 32, axis=0))
    >>> round(diagnostics.effective_neurons(ensemble), 6)
    3.0
    """
    if not 0 < angle <= math.pi / 2:
        raise InputError(f"angle = {angle!r}: must be more than 0 and at most π/2")
    w, u = ensemble.sample(particles)
    mass, w, u = _directions(w, u)
    if not mass.sum() > 0:
        return math.nan
    least, pairs = math.cos(angle), 0.0
    for start in range(0, len(mass), 512):
        rows = slice(start, start + 512)
        near = (u[rows] @ u.T >= least) & (w[rows] @ w.T >= least)
        np.fill_diagonal(near[:, start:], True)
        pairs += float(mass[rows] @ (near @ mass))
    return float(mass.sum()) ** 2 / pairs


def alignment(ensemble: Ensemble, subspace: Any) -> float:
    """The share of the mass a_j = ‖w_j‖‖u_j‖ inside a subspace of inputs, over all particles.

    Parameters
    ----------
    ensemble : Ensemble
        m particles.
    subspace : array (k, d)
        Rows that span it; they need not be orthogonal.

    Returns
    -------
    float
        From 0 to 1; NaN where all masses are 0.

    Raises
    ------
    InputError
        A subspace of another d, rows that are not finite or not independent.

    Notes
    -----
    Σ_j a_j ‖P u_j‖²/‖u_j‖² / Σ_j a_j, P the projection. 1 if all of it is inside; k/d for directions that are uniform,
    up to √(2k(d − k)/(d + 2))/(d√m) (one standard deviation, equal masses).

    Examples
    --------
    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.from_arrays(w=[3.0, -1.0], u=[[1.0, 0.0], [0.0, 1.0]])
    >>> diagnostics.alignment(ensemble, [[1.0, 0.0]])
    0.75
    """
    basis = _orthonormal(subspace, ensemble.d)
    inside = total = 0.0
    for w, u in ensemble.blocks():
        mass, _, u = _directions(w.astype(np.float64), u.astype(np.float64))
        inside += float(mass @ np.sum((u @ basis.T) ** 2, axis=1))
        total += float(mass.sum())
    return inside / total if total > 0 else math.nan


def leading_directions(ensemble: Ensemble, count: int = 2) -> np.ndarray:
    """The orthonormal input directions that hold most of the mass.

    Parameters
    ----------
    ensemble : Ensemble
        m particles.
    count : int
        How many directions, from 1 to d.

    Returns
    -------
    ndarray (count, d), float64
        Orthonormal rows, the one of most mass first. Their signs make the largest component of each positive.

    Raises
    ------
    InputError
        count outside 1 … d.

    Notes
    -----
    The first eigenvectors of Σ_j a_j û_j û_jᵀ, with masses a_j = ‖w_j‖‖u_j‖ and û_j = u_j/‖u_j‖.

    Examples
    --------
    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.from_arrays(w=[3.0, -1.0], u=[[1.0, 0.0], [0.0, 1.0]])
    >>> diagnostics.leading_directions(ensemble, 1).round(6)
    array([[1., 0.]])
    """
    if not 1 <= count <= ensemble.d:
        raise InputError(f"count = {count!r}: must be from 1 to d = {ensemble.d}")
    moment = np.zeros((ensemble.d, ensemble.d))
    for w, u in ensemble.blocks():
        mass, _, u = _directions(w.astype(np.float64), u.astype(np.float64))
        moment += (u * mass[:, None]).T @ u
    found = np.linalg.eigh(moment)[1][:, ::-1][:, :count].T
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(found * np.where(largest < 0, -1.0, 1.0))


@dataclass(frozen=True)
class DirectionHistogram:
    """Mass by input direction in a plane, as `mass_by_direction` returns it.

    Attributes
    ----------
    edges : ndarray (bins + 1,), float64
        Angles from −π to π, in radians.
    mass : ndarray (bins,), float64
        Σ a_j ‖P u_j‖²/‖u_j‖² over the particles of a bin, as a share of Σ a_j; a_j = ‖w_j‖‖u_j‖. Sums to `alignment`.
    net : ndarray (bins, C), float64
        The same with w_j in the place of ‖w_j‖: what is left when neurons of one direction cancel.
    plane : ndarray (2, d), float64
        Orthonormal rows, from the first of which angles are counted.

    Examples
    --------
    >>> from meanfield import Ensemble, diagnostics
    >>> histogram = diagnostics.mass_by_direction(Ensemble.sphere(128, 3), bins=8)
    >>> histogram.edges.shape, histogram.mass.shape, histogram.net.shape, histogram.plane.shape
    ((9,), (8,), (8, 1), (2, 3))
    """

    edges: np.ndarray
    mass: np.ndarray
    net: np.ndarray = field(repr=False)
    plane: np.ndarray = field(repr=False)


def mass_by_direction(ensemble: Ensemble, plane: Any = None, *, bins: int = 72) -> DirectionHistogram:
    """Histogram of the particles' input directions in a plane.

    Parameters
    ----------
    ensemble : Ensemble
        m particles.
    plane : array (2, d), optional
        Rows that span it; by default the two `leading_directions`.
    bins : int
        How many equal parts of the circle, at least 1.

    Returns
    -------
    DirectionHistogram

    Raises
    ------
    InputError
        A plane that is none, bins < 1, particles without mass.

    Examples
    --------
    Mass 1 at 45°, mass 3, of negative w, at 135°.

    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.from_arrays(w=[1.0, -3.0], u=[[1.0, 1.0], [-1.0, 1.0]])
    >>> histogram = diagnostics.mass_by_direction(ensemble, [[1.0, 0.0], [0.0, 1.0]], bins=4)
    >>> histogram.mass.round(6).tolist(), histogram.net[:, 0].round(6).tolist()
    ([0.0, 0.0, 0.25, 0.75], [0.0, 0.0, 0.25, -0.75])
    """
    if bins < 1:
        raise InputError(f"bins = {bins!r}: must be at least 1")
    basis = _orthonormal(leading_directions(ensemble) if plane is None else plane, ensemble.d)
    if len(basis) != 2:
        raise InputError(f"plane {basis.shape}: must have shape (2, {ensemble.d})")
    mass, net, total = np.zeros(bins), np.zeros((bins, ensemble.outputs)), 0.0
    for w, u in ensemble.blocks():
        a, w, u = _directions(w.astype(np.float64), u.astype(np.float64))
        x, y = basis @ u.T
        place = np.minimum(((np.arctan2(y, x) + math.pi) * (bins / (2 * math.pi))).astype(np.int64), bins - 1)
        share = a * (x * x + y * y)
        mass += np.bincount(place, share, bins)
        for c in range(ensemble.outputs):
            net[:, c] += np.bincount(place, share * w[:, c], bins)
        total += float(a.sum())
    if not total > 0:
        raise InputError("ensemble: its particles have no mass, ‖w‖‖u‖ = 0 for all")
    return DirectionHistogram(np.linspace(-math.pi, math.pi, bins + 1), mass / total, net / total, basis)


def tangent_kernel(ensemble: Ensemble, X: Any) -> np.ndarray:
    """The empirical tangent kernel (NTK) of an ensemble, its trace over outputs.

    Parameters
    ----------
    ensemble : Ensemble
        m particles, all of which are used.
    X : array (n, d)
        Inputs.

    Returns
    -------
    ndarray (n, n), float64
        On the scale of the measure: a mean over particles, ∫ … dρ = (1/m) Σ_j ….

    Raises
    ------
    InputError
        X of another d.

    Notes
    -----
    K(x, x') = ∫ Σ_c ∇_θ Φ_c(θ; x)·∇_θ Φ_c(θ; x') dρ(θ), which is
    ∫ C relu(u·x) relu(u·x') + ‖w‖² 1[u·x > 0] 1[u·x' > 0] x·x' dρ.

    Examples
    --------
    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.from_arrays(w=[1.0], u=[[2.0, 0.0]])
    >>> diagnostics.tangent_kernel(ensemble, [[1.0, 0.0], [0.0, 1.0]])
    array([[5., 0.],
           [0., 0.]])
    """
    X = np.asarray(X, np.float64)
    if X.ndim != 2 or X.shape[1] != ensemble.d:
        raise InputError(f"X {X.shape}: must have shape (n, {ensemble.d})")
    active, gates = np.zeros((len(X), len(X))), np.zeros((len(X), len(X)))
    for w, u in ensemble.blocks(1 << 12):
        z = u.astype(np.float64) @ X.T
        size = np.linalg.norm(w.astype(np.float64), axis=1, keepdims=True)
        gates += _gram(np.where(z > 0, size, 0.0))
        active += _gram(np.maximum(z, 0))
    return (ensemble.outputs * active + gates * (X @ X.T)) / ensemble.m


@dataclass(frozen=True)
class KernelMovement:
    """How far a tangent kernel K is from another, K₀.

    Attributes
    ----------
    relative : float
        ‖K − K₀‖_F/‖K₀‖_F. Near 0 training is lazy, the network a kernel machine.
    rotation : float
        1 − cos(K, K₀), which does not see a change of scale alone.

    Examples
    --------
    >>> from meanfield import Ensemble, diagnostics
    >>> ensemble = Ensemble.sphere(64, 2)
    >>> diagnostics.kernel_movement(ensemble, ensemble.copy(), [[1.0, 0.0], [0.0, 1.0]])
    KernelMovement(relative=0.0, rotation=0.0)
    """

    relative: float
    rotation: float


def kernel_movement(start: Ensemble, now: Ensemble, X: Any, *, points: int = POINTS) -> KernelMovement:
    """How far the tangent kernel of one ensemble is from that of another.

    Parameters
    ----------
    start, now : Ensemble
        Whose kernels are K₀ and K.
    X : array (n, d)
        Inputs.
    points : int
        At most so many rows of X are used, evenly spread.

    Returns
    -------
    KernelMovement
        Exactly 0 for the same particles; NaN where K₀ = 0, and `rotation` also where K = 0.

    Raises
    ------
    InputError
        X of another d.

    Notes
    -----
    As an estimate for the infinite network it is off by what the kernel of m particles is: two ensembles of 4096 drawn
    from the paper's initial law (arXiv 1810.05369, section 3) are 0.051 apart, `rotation` 0.0013, falling like 1/√m and
    1/m (its data, d 20, n 160); a movement of the same particles is known better than that.

    Examples
    --------
    Twice the particles have four times the kernel: a relative movement of 3, without rotation.

    >>> from meanfield import Ensemble, diagnostics
    >>> start = Ensemble.sphere(64, 2)
    >>> now = Ensemble.from_arrays(2 * start.w, 2 * start.u)
    >>> movement = diagnostics.kernel_movement(start, now, [[1.0, 0.0], [0.0, 1.0]])
    >>> round(movement.relative, 6), round(movement.rotation, 6)
    (3.0, 0.0)
    """
    X = spread_rows(np.asarray(X, np.float64), points)
    return compared(tangent_kernel(start, X), tangent_kernel(now, X))


def compared(K0: np.ndarray, K: np.ndarray) -> KernelMovement:
    """The same from the kernels (n, n)."""
    size, size0 = float(np.linalg.norm(K)), float(np.linalg.norm(K0))
    if not (size0 > 0 and size > 0):
        return KernelMovement(1.0 if size0 > 0 else math.nan, math.nan)
    half = float(np.linalg.norm(K / size - K0 / size0)) / 2  # 1 − cos = 2 sin²: no cancellation near 0
    return KernelMovement(float(np.linalg.norm(K - K0)) / size0, 2 * half**2)


def spread_rows(X: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows of X, evenly spread."""
    return X if len(X) <= count else X[np.arange(count) * len(X) // count]


def _gram(A: np.ndarray) -> np.ndarray:
    return A.T @ A


def _directions(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masses ‖w‖‖u‖ (p,), and w and u with rows of norm 1, or 0."""
    size_w, size_u = np.linalg.norm(w, axis=1), np.linalg.norm(u, axis=1)
    return size_w * size_u, w / np.maximum(size_w, _TINY)[:, None], u / np.maximum(size_u, _TINY)[:, None]


def _orthonormal(subspace: Any, d: int) -> np.ndarray:
    rows = np.atleast_2d(np.asarray(subspace, np.float64))
    if rows.ndim != 2 or rows.shape[1] != d or not 1 <= len(rows) <= d or not np.isfinite(rows).all():
        raise InputError(f"subspace {rows.shape}: must be (k, {d}), k of at most {d} finite rows")
    if np.linalg.matrix_rank(rows) < len(rows):
        raise InputError(f"subspace {rows.shape}: its rows must be independent")
    Q, R = np.linalg.qr(rows.T)
    return np.ascontiguousarray((Q * np.where(np.diag(R) < 0, -1.0, 1.0)).T)
