"""How the particles of a group move with velocities: a kick by the gradient, then half a drift, noise, half a drift.

A drift is exact under λp's own ℓ2 part, which turns (θ, v) as a spring does; noise is the exact Ornstein–Uhlenbeck
process v ← e^{−γη} v + √(τ(1 − e^{−2γη})) ξ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from . import noise
from .penalties import Coefficients, slopes, squares


class Kick(NamedTuple):
    """Of one layer: v ← v − kick ∇; (θ, v) ← (cos θ + sin v, cos v − spring θ), twice; v ← keep v + noise ξ."""

    kick: float
    cos: float
    sin: float
    spring: float
    keep: float
    noise: float


class Kinetic(NamedTuple):
    """A kick of each layer; λ times the penalties beyond ℓ2, whose gradient is part of ∇; the velocities, as theta."""

    inputs: Kick
    outputs: Kick
    beyond: Coefficients
    velocity: np.ndarray

    def exact(self, dtype: Any) -> Kinetic:
        """With coefficients in the dtype of the particles."""
        inputs, outputs = (Kick(*(dtype.type(number) for number in one)) for one in self[:2])
        return Kinetic(inputs, outputs, *self[2:])


@register_jitable
def _springs(theta: Any, g: Any, d: Any, beyond: Any) -> Any:
    """by (2, GROUP): ∇ of the penalties beyond ℓ2 is by[0] u, by[1] w."""
    group = theta.shape[2]
    by, of_u, of_w = np.zeros((2, group), theta.dtype), np.empty(group), np.empty(group)
    if beyond.quartic > 0 or beyond.path > 0:
        squares(theta, g, d, of_u, of_w)
        for lane in range(group):
            by[0, lane], by[1, lane] = slopes(of_u[lane], of_w[lane], beyond)
    return by


@register_jitable
def kick_group(part: Any, g: Any, slope: Any, moves: Any, address: Any, work: Any) -> None:
    """One step of one group's particles and their velocities."""
    theta, V, G, z = part.theta, moves.velocity, slope.G, work.normals
    D, group, each = theta.shape[1], theta.shape[2], noise.per_block(z)
    first, by = part.first + g * group, _springs(theta, g, slope.d, moves.beyond)
    z[:] = 0
    for block in range(-(-D // each)):
        if max(moves.inputs.noise, moves.outputs.noise) > 0:
            noise.words(address.seed, noise.Purpose.KINETIC.value, address.step, first, block, work.words)
            noise.from_words(work.words, z)
        for j in range(min(each, D - block * each)):
            k = block * each + j
            row, own, layer = (k, moves.inputs, 0) if k < slope.d else (k + slope.gap, moves.outputs, 1)
            for lane in range(group):
                t = theta[g, k, lane]
                v = V[g, k, lane] - own.kick * (G[row, lane] + by[layer, lane] * t)
                t, v = own.cos * t + own.sin * v, own.cos * v - own.spring * t
                v = own.keep * v + own.noise * z[j, lane]
                theta[g, k, lane], V[g, k, lane] = own.cos * t + own.sin * v, own.cos * v - own.spring * t
