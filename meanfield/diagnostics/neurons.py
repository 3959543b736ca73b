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
    """The number of neurons by direction, (Σ_j a_j)² / Σ_jk a_j a_k Z_jk: the participation ratio of masses a_j.

    Z_jk = 1 where u_j and u_k, and also w_j and w_k, are within `angle` (radians) of each other, else 0: the diversity
    of order 2 of Leinster and Cobbold (2012). K equal groups, each narrower than the angle and farther apart than
    it, count K, however many particles they hold. Over min(m, `particles`), evenly spread over the ensemble: that caps
    it: without groups, 4096 uniform on the sphere count 21 in d = 2 (2·2π/0.6), 950 in d = 5, 2900 in d = 10 and 2800
    in d = 20. NaN where all masses are 0. InputError: an angle outside (0, π/2].
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
    """Σ_j a_j ‖P u_j‖²/‖u_j‖² / Σ_j a_j: the share of the mass inside a subspace of inputs, over all particles.

    subspace: (k, d), rows that span it. 1 if all of it is inside; k/d for directions that are uniform, up to
    √(2k(d − k)/(d + 2))/(d√m) (one standard deviation, equal masses). NaN where all masses are 0. InputError: another
    d, rows that are not independent.
    """
    basis = _orthonormal(subspace, ensemble.d)
    inside = total = 0.0
    for w, u in ensemble.blocks():
        mass, _, u = _directions(w.astype(np.float64), u.astype(np.float64))
        inside += float(mass @ np.sum((u @ basis.T) ** 2, axis=1))
        total += float(mass.sum())
    return inside / total if total > 0 else math.nan


def leading_directions(ensemble: Ensemble, count: int = 2) -> np.ndarray:
    """The orthonormal directions (count, d) that hold most of the mass: the first eigenvectors of Σ a_j û_j û_jᵀ.

    Their signs make the largest component of each positive. InputError: count outside 1 … d.
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
    """Mass by direction in a plane. edges (bins + 1,): angles from −π to π; plane (2, d), orthonormal.

    mass (bins,): Σ a_j ‖P u_j‖²/‖u_j‖² over the particles of a bin, as a share of Σ a_j; sums to `alignment`.
    net (bins, C): the same with w_j in the place of ‖w_j‖: what is left when neurons of one direction cancel.
    """

    edges: np.ndarray
    mass: np.ndarray
    net: np.ndarray = field(repr=False)
    plane: np.ndarray = field(repr=False)


def mass_by_direction(ensemble: Ensemble, plane: Any = None, *, bins: int = 72) -> DirectionHistogram:
    """Histogram of the particles' input directions in a plane (2, d), by default the two leading ones.

    InputError: a plane that is none, bins < 1, particles without mass.
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
    """K(x, x') = ∫ Σ_c ∇_θ Φ_c(θ; x)·∇_θ Φ_c(θ; x') dρ(θ), (n, n) float64, the trace over outputs of the empirical NTK.

    ∫ C relu(u·x) relu(u·x') + ‖w‖² 1[u·x > 0] 1[u·x' > 0] x·x' dρ, over all particles. InputError: another d.
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
    """How far the tangent kernel K is from K₀: `relative` = ‖K − K₀‖_F/‖K₀‖_F, and `rotation` = 1 − cos(K, K₀).

    Near 0 training is lazy, the network a kernel machine; `rotation` does not see a change of scale alone.
    """

    relative: float
    rotation: float


def kernel_movement(start: Ensemble, now: Ensemble, X: Any, *, points: int = POINTS) -> KernelMovement:
    """Between the tangent kernels of two ensembles on at most `points` rows of X (n, d), evenly spread.

    Exactly 0 for the same particles. As an estimate for the infinite network it is off by what the kernel of m
    particles is: two ensembles of 4096 drawn from the paper's initial law are 0.051 apart, `rotation` 0.0013, falling
    like 1/√m and 1/m (its data, d 20, n 160); a movement of the same particles is known better than that. NaN where
    K₀ = 0.
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
