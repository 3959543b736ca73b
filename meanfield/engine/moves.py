"""How the particles of a group move: the step of each layer, the penalties beyond ℓ2, and rebirth.

A group is GROUP particles side by side, theta[g] (d + C, GROUP), as `loops` holds them; each particle moves by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from . import noise
from .penalties import shrink_group


class Move(NamedTuple):
    """One step for each particle: θ ← θ − (shrink·θ + drift·∇⟨r, Φ⟩) + noise·ξ, and death with probability `death`."""

    shrink: float
    drift: float
    noise: float = 0.0
    death: float = 0.0

    def exact(self, dtype: Any) -> Moves:
        """That of both layers, with coefficients in the dtype of the particles."""
        own = Move(*(dtype.type(coefficient) for coefficient in self))
        return Moves(own, own)


class Moves(NamedTuple):
    """One step of each layer, u and w, which die together (by the death of `inputs`), then that of further penalties.

    quartic and path, of u and of w, are times λη: the coefficients of ‖θ‖⁴ and ‖u‖‖w‖ (`penalties.shrink_group`). The
    noise of a particle is stretched, as one, to the law of stability `tail` (`noise.stretch`); 2 is Gaussian.
    """

    inputs: Move
    outputs: Move
    quartic: tuple[float, float] = (0.0, 0.0)
    path: tuple[float, float] = (0.0, 0.0)
    tail: float = 2.0

    def exact(self, dtype: Any) -> Moves:
        """With coefficients in the dtype of the particles."""
        return Moves(self.inputs.exact(dtype).inputs, self.outputs.exact(dtype).outputs, *self[2:])


@register_jitable
def project(theta: Any, g: Any, radius: Any) -> None:
    """Scale every particle of the group to the given norm; Gaussian ones are then uniform on the sphere."""
    D, group = theta.shape[1], theta.shape[2]
    squares = np.zeros(group, theta.dtype)
    for k in range(D):
        for lane in range(group):
            squares[lane] += theta[g, k, lane] * theta[g, k, lane]
    for lane in range(group):
        squares[lane] = radius / np.sqrt(squares[lane])
    for k in range(D):
        for lane in range(group):
            theta[g, k, lane] *= squares[lane]


@register_jitable
def _stretched(first: Any, tail: Any, address: Any, work: Any) -> Any:
    """By what the normals of each of the group's particles are multiplied (GROUP,)."""
    stretch = np.ones(work.normals.shape[1])
    if tail < 2:
        noise.words(address.seed, noise.Purpose.TAIL.value, address.step, first, 0, work.words)
        noise.stretch(work.words, tail, stretch)
    return stretch


@register_jitable
def move_group(part: Any, g: Any, slope: Any, moves: Any, address: Any, work: Any) -> None:
    """θ ← θ − (shrink θ + drift G) + noise ξ for one group, by layer, then the steps of ‖θ‖⁴ and the path norm."""
    theta, G, z = part.theta, slope.G, work.normals
    D, group, each = theta.shape[1], theta.shape[2], noise.per_block(z)
    first, purpose = part.first + g * group, noise.Purpose.LANGEVIN.value
    noisy = max(moves.inputs.noise, moves.outputs.noise) > 0  # a loop without a branch is twice as fast
    stretch = _stretched(first, moves.tail if noisy else 2.0, address, work)
    for block in range(-(-D // each)):
        if noisy:
            noise.words(address.seed, purpose, address.step, first, block, work.words)
            noise.from_words(work.words, z)
        for j in range(min(each, D - block * each)):
            k = block * each + j
            if noisy and moves.tail < 2:
                for lane in range(group):
                    z[j, lane] = stretch[lane] * z[j, lane]
            row, own = (k, moves.inputs) if k < slope.d else (k + slope.gap, moves.outputs)
            if noisy:
                for lane in range(group):
                    down = own.shrink * theta[g, k, lane] + own.drift * G[row, lane]
                    theta[g, k, lane] = theta[g, k, lane] - down + own.noise * z[j, lane]
            else:
                for lane in range(group):
                    theta[g, k, lane] -= own.shrink * theta[g, k, lane] + own.drift * G[row, lane]
    if max(moves.quartic[0], moves.quartic[1], moves.path[0], moves.path[1]) > 0:
        shrink_group(theta, g, slope.d, moves.quartic, moves.path)


@register_jitable
def _draw_deaths(first: Any, death: Any, address: Any, words: Any, dies: Any) -> int:
    """dies (GROUP,) ← who of the group dies, each with probability `death`; how many."""
    noise.words(address.seed, noise.Purpose.DEATH.value, address.step, first, 0, words)
    threshold, deaths = np.uint64(death * 2.0**53), 0
    for lane in range(len(dies)):
        drawn = (np.uint64(words[0, lane]) << np.uint64(21)) | (np.uint64(words[1, lane]) >> np.uint64(11))
        dies[lane] = drawn < threshold
        deaths += dies[lane]
    return deaths


@register_jitable
def rebear_group(part: Any, g: Any, death: Any, address: Any, work: Any) -> None:
    """Each particle of the group dies with probability `death` and is reborn uniform on the unit sphere of R^(d+C)."""
    theta, points, z = part.theta, work.points, work.normals
    D, group, each = theta.shape[1], theta.shape[2], noise.per_block(z)
    first, dies = part.first + g * group, np.zeros(group, np.bool_)
    if _draw_deaths(first, death, address, work.words, dies) == 0:
        return
    for block in range(-(-D // each)):
        noise.words(address.seed, noise.Purpose.REBIRTH.value, address.step, first, block, work.words)
        noise.from_words(work.words, z)
        for j in range(min(each, D - block * each)):
            for lane in range(group):
                points[0, block * each + j, lane] = z[j, lane]
    project(points, 0, theta.dtype.type(1))
    for k in range(D):
        for lane in range(group):
            if dies[lane]:
                theta[g, k, lane] = points[0, k, lane]


@register_jitable
def clear_tail(part: Any, g: Any) -> None:
    """Zero what lies in the group beyond the last particle."""
    theta = part.theta
    for lane in range(max(0, part.m - g * theta.shape[2]), theta.shape[2]):
        for k in range(theta.shape[1]):
            theta[g, k, lane] = 0
