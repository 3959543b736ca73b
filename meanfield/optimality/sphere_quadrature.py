"""Nodes and weights for means over the unit sphere of functions of relu(s·x_i): smooth but for kinks at s·x_i = 0."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MOST = 600_000  # nodes: what memory and a second a Newton step allow

_GRADED = 10.0 ** -np.arange(2, 8)  # distances from a kink, in radians


class Nodes(NamedTuple):
    """Unit vectors s (N, d) and weights (N,) that sum to 1."""

    s: np.ndarray
    weight: np.ndarray


def sphere_nodes(X: np.ndarray, count: int, seed: int) -> tuple[Nodes, Nodes]:
    """A rule for inputs X (n, d) and a coarser, independent one to tell its error by.

    d = 1: the two points. d = 2: Gauss–Legendre on every arc between kinks. d = 3: the same along meridians, at
    Gauss–Legendre longitudes between those where kinks cross. d > 3: a scrambled Sobol sequence of `count` points.
    """
    d = X.shape[1]
    if d == 1:
        two = Nodes(np.array([[1.0], [-1.0]]), np.array([0.5, 0.5]))
        return two, two
    if d == 2:
        return _circle(X, 24), _circle(X, 16)
    if d == 3:
        return _sphere(X, 1.0), _sphere(X, 0.7)
    return _quasi_random(d, count, seed), _quasi_random(d, count, seed + 1)


def _gauss(breaks: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on the intervals between sorted breaks, those shorter than 1e-13 left out."""
    x, w = np.polynomial.legendre.leggauss(order)
    length = np.diff(breaks)
    start, length = breaks[:-1][length > 1e-13], length[length > 1e-13]
    return (start[:, None] + 0.5 * length[:, None] * (x + 1)).ravel(), (0.5 * length[:, None] * w).ravel()


def _circle(X: np.ndarray, order: int) -> Nodes:
    X = X[np.linalg.norm(X, axis=1) > 0]
    kinks = np.arctan2(X[:, 1], X[:, 0]) + 0.5 * np.pi
    kinks = np.unique(np.mod(np.concatenate([kinks, kinks + np.pi]), 2 * np.pi))
    steps = _GRADED if len(kinks) <= 400 else _GRADED[:1]  # peaks of the density sit on kinks, and may be sharp
    near = (kinks[:, None] + np.concatenate([-steps, [0.0], steps])).ravel()
    breaks = np.unique(np.mod(np.concatenate([near, np.arange(64) * np.pi / 32]), 2 * np.pi))
    angle, weight = _gauss(np.append(breaks, breaks[0] + 2 * np.pi), order)
    return Nodes(np.stack([np.cos(angle), np.sin(angle)], axis=1), weight / weight.sum())


def _sphere(X: np.ndarray, fineness: float) -> Nodes:
    """Longitude × height; the orders are what `_MOST` nodes leave, so many examples mean less accuracy."""
    X = X[np.linalg.norm(X, axis=1) > 0]
    X = np.unique(X / np.linalg.norm(X, axis=1)[:, None] * np.where(X[:, :1] < 0, -1.0, 1.0), axis=0)
    i, j = np.triu_indices(len(X), 1)
    crossings = np.cross(X[i], X[j])
    crossings = crossings[np.linalg.norm(crossings, axis=1) > 1e-12]
    every = np.concatenate(
        [
            np.arctan2(crossings[:, 1], crossings[:, 0]),
            np.arctan2(X[:, 1], X[:, 0]) + 0.5 * np.pi,
            np.arange(8) * 0.25 * np.pi,
        ]
    )
    breaks = np.unique(np.round(np.mod(np.concatenate([every, every + np.pi]), 2 * np.pi), 13))
    per = int(np.clip(np.sqrt(_MOST / (len(breaks) * (len(X) + 2))), 2, 32) * fineness) + 1
    longitude, outer = _gauss(np.append(breaks, breaks[0] + 2 * np.pi), per)
    points, weights = [], []
    for one, share in zip(longitude, outer, strict=True):
        across = X[:, 0] * np.cos(one) + X[:, 1] * np.sin(one)
        kinks = np.mod(np.arctan2(-X[:, 2], across), np.pi)  # across · sin θ + x₃ cos θ = 0
        theta, inner = _gauss(np.unique(np.concatenate([[0.0, 0.5 * np.pi, np.pi], kinks])), per)
        sine = np.sin(theta)
        points.append(np.stack([sine * np.cos(one), sine * np.sin(one), np.cos(theta)], axis=1))
        weights.append(share * inner * sine)
    weight = np.concatenate(weights)
    return Nodes(np.concatenate(points), weight / weight.sum())


def _quasi_random(d: int, count: int, seed: int) -> Nodes:
    from scipy.stats import norm, qmc  # a third of what a process's start takes, for those few that need it

    uniform = qmc.Sobol(d, scramble=True, rng=np.random.default_rng(seed)).random(count)
    gaussian = norm.ppf(np.clip(uniform, 1e-12, 1 - 1e-12))
    return Nodes(gaussian / np.linalg.norm(gaussian, axis=1)[:, None], np.full(count, 1 / count))
