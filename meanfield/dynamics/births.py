"""Births: the lightest particles are put where ‖G_r‖ peaks above 2λ, where mass lowers the objective.

From heavy particles, from beside them and from random directions a few rounds of ascent (engine/climbing.py), in every
other step first in the coordinates in which the inputs are of one scale: each way sees peaks that the other passes by.
Of those that end beside each other the highest is born: several would share one mass, and every later step would carry
them all.
A newborn neuron of unit mass, φ, would alone best have the mass (‖G‖/2 − λ)/(φᵀR''φ); of b newborns each gets half of
the b-th part of it, which lowers the objective.
"""

from __future__ import annotations

import math

import numpy as np

from ..engine import exact_math, noise
from ..engine.climbing import GROUP, Hill, climb_all, distinct_rows
from ..engine.engine import Moments
from ..engine.exact_algebra import product
from ..ensemble import Ensemble
from .coupling import curvature_root, times
from .field import Field
from .frame import Frame
from .masses import Census, features, put, take

ROUNDS, SWEEPS = 10, 4  # of an ascent
PART = 0.5  # of the best mass
APART = 1e-3  # least 1 − cos of the angle between newborns, in the coordinates in which the inputs are of one scale
_SEEN = 0.99  # the part of the mass among whose carriers ascents begin


def bear(
    field: Field, ensemble: Ensemble, moments: Moments, census: Census, pays: np.ndarray, count: int
) -> tuple[Moments, np.ndarray]:
    """Put up to `count` newborn particles in the place of the lightest; the moments after, and which they are.

    pays: particles near which mass pays, the most wanted first (masses.py): ascents begin there too.
    """
    r, reg = field.residual(moments), field.problem.reg(ensemble.step)
    frames = (field.whitened, field.plain) if ensemble.step % 2 else (field.plain,)
    U, height = _peaks(field, r, _starts(frames[0], ensemble, census, pays, count), frames)
    born = _distinct(field, U, np.flatnonzero(height > 2 * reg), height)
    light = census.lightest(len(born))
    if not len(light):
        return moments, light
    put(ensemble, light, math.sqrt(ensemble.m) * _newborn(field, moments, reg, U[born], height[born]))
    return field.predict(ensemble), light


def _newborn(field: Field, moments: Moments, reg: float, U: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Neurons (b, d + C), of which f is the sum, in the directions U (b, d) where ‖G_r‖ is `height`."""
    problem = field.problem
    G = product(np.maximum(product(U, problem.X.T), 0.0), field.residual(moments))
    unit = math.sqrt(0.5) * np.concatenate([U, -G / exact_math.row_norms(G)[:, None]], axis=1)
    Q = curvature_root(problem.loss, moments.f, problem.targets).swapaxes(1, 2)
    bent = np.stack([times(Q, phi) for phi in features(problem.X, unit)]).reshape(len(U), -1)
    curvature = exact_math.row_sums(bent * bent)
    best = (0.5 * height - reg) / np.where(curvature > 0, curvature, np.inf)
    return np.sqrt(PART / len(U) * np.minimum(best, moments.second))[:, None] * unit


def _peaks(field: Field, r: np.ndarray, starts: np.ndarray, frames: tuple[Frame, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Directions u (k, d) of unit norm after a few rounds of ascent from `starts` in each frame; ‖G_r(u)‖ (k,)."""
    r = np.ascontiguousarray(r)
    for frame in frames:
        length = exact_math.row_norms(starts)
        starts = np.ascontiguousarray(starts[length > 0] / length[length > 0, None])
        height, passes = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
        hill = Hill(frame.X, exact_math.row_sums(frame.X * frame.X), r)
        arguments = hill, starts, height, passes, (ROUNDS, SWEEPS)
        field.engine.workers.run(climb_all, -(-len(starts) // GROUP), arguments, 0)
        starts = frame.back(starts) if frame is not frames[-1] else starts
    return starts, height


def _distinct(field: Field, U: np.ndarray, some: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Of `some` of the directions U the highest, no two of which are beside each other."""
    some = some[np.argsort(-height[some], kind="stable")]
    V = field.whitened.to(U[some])
    kept = np.empty(len(some), np.int64)
    return some[kept[: distinct_rows(V / exact_math.row_norms(V)[:, None], 1 - APART, kept)]]


def _starts(frame: Frame, ensemble: Ensemble, census: Census, pays: np.ndarray, count: int) -> np.ndarray:
    """In a frame's coordinates: as many sums of three examples with random factors as there are particles.

    Of these, half are wanted ones, a quarter heavy ones, and a quarter directions beside heavy ones.
    """
    quarter, eighth = count // 4, count // 8
    place = ensemble.seed, noise.Purpose.BIRTH, ensemble.step
    picks = [noise.uniforms(*place, count, block=2 + j) for j in range(4)]
    heavy = census.carriers(_SEEN, least=1)
    heavy = heavy[(picks[3][:quarter] * len(heavy)).astype(np.int64)]

    def held(particles: np.ndarray) -> np.ndarray:
        return frame.to(np.ascontiguousarray(take(ensemble, np.unique(particles))[:, : ensemble.d]))

    factors = noise.normals(*place, count - 2 * quarter, 3, dtype="float64")
    size = np.maximum(exact_math.row_norms(frame.X), 1e-300)
    sums = np.zeros((len(factors), ensemble.d))
    for j, pick in enumerate(picks[:3]):
        i = (pick[: len(sums)] * len(size)).astype(np.int64)
        sums = sums + factors[:, j : j + 1] * frame.X[i] / size[i, None]
    near = _beside(held(heavy[:eighth]), place, count)
    return np.concatenate([near, held(np.concatenate([heavy[eighth:], pays[:quarter]])), sums])


def _beside(U: np.ndarray, place: tuple[int, int, int], first: int) -> np.ndarray:
    """The rows of U (k, d), each turned by a random part of its length, from 0.03 to 0.5 on a logarithmic scale.

    Where inputs are far from uniform, peaks hide there that climbs from elsewhere pass by, and from the rows themselves
    none leaves.
    """
    part = 0.03 * exact_math.exp(2.8 * noise.uniforms(*place, len(U), block=6))
    turns = noise.normals(*place, len(U), U.shape[1], first=first, dtype="float64")
    return U + (part * exact_math.row_norms(U))[:, None] * turns / math.sqrt(U.shape[1])
