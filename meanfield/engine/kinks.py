"""The particles' part of an implicit step: the kinks that each neuron comes to rest on, and its move under a residual.

With the residual r and the step's length held, a neuron's pull is Σ_i s_i relu(u·x_i), s_i = w·r_i. Where s_i > 0 its
kink u·x_i = 0 is a valley: a step with the pattern 1[u·x_i > 0] held leaps over it and back, for ever. The proximal
step takes for each example of a valley the share 0 ≤ α_i ≤ 1 of the subgradient that its minimum asks for,

    v = u − c Σ_i s_i α_i x_i,   α_i = 1 where v·x_i > 0,   0 where v·x_i < 0,   v·x_i = 0 in between,

c ≈ η: a least-squares problem in a box, by coordinate descent from the pattern at the start. Where s_i ≤ 0 the kink is
a ridge, nobody rests on it, and the pattern is held. A particle for which a sweep changed nothing in a tile of ROWS
examples does not look at that tile again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload, register_jitable

from ..runtime.compiling import compiled
from . import exact_math
from .engine import Engine
from .exact_math import expm1_one
from .loops import BLOCK, _add_exactly, _next_block
from .microkernels import ROWS, VECTORS, dots, lanes, place, settle_shares, shared_slope, start_shares
from .moves import clear_tail
from .particles import Particles

TERMS = 24  # of the exponential's series; a particle turns by LONGEST at most
LONGEST = 8.0


class Valleys(NamedTuple):
    """What decides the shares: X (tiles, d, ROWS), gram (tiles, ROWS, ROWS), pull c r (tiles, C, ROWS), sweeps."""

    X: np.ndarray
    gram: np.ndarray
    pull: np.ndarray
    sweeps: int


class Shares(NamedTuple):
    """alpha (groups, rows, GROUP); no group: they are not kept. known: they are there already. word: of L bits."""

    alpha: np.ndarray
    known: bool
    word: np.ndarray


class Turn(NamedTuple):
    """The residual that turns, r⁺ (tiles, C, ROWS), and for how long."""

    residual: np.ndarray
    eta: float


class Work(NamedTuple):
    """What a thread computes in: v (d, GROUP), S (rows, GROUP), awake (tiles, VECTORS), G (C, d, GROUP), two arrays
    (d + C, GROUP), and float64 (GROUP,) for ‖G‖² and ‖θ‖²."""

    v: np.ndarray
    S: np.ndarray
    awake: np.ndarray
    G: np.ndarray
    term: np.ndarray
    next: np.ndarray
    square: np.ndarray
    mass: np.ndarray


def lanes_of(theta: np.ndarray) -> int:
    """Particles side by side, a constant to the compiler."""
    return 256 // theta.dtype.itemsize


@overload(lanes_of)
def _lanes_of(theta):  # type: ignore[no-untyped-def]
    count = 2048 // theta.dtype.bitwidth
    return lambda theta: count


@register_jitable
def _work(theta: Any, valleys: Any, word: Any) -> Any:
    (tiles, d, rows), C = valleys.X.shape, valleys.pull.shape[1]
    D, group, dtype = theta.shape[1], theta.shape[2], theta.dtype
    return Work(
        np.empty((d, group), dtype),
        np.empty((tiles * rows, group), dtype),
        np.empty((tiles, VECTORS), word.dtype),
        np.empty((C, d, group), dtype),
        np.empty((D, group), dtype),
        np.empty((D, group), dtype),
        np.empty(group),
        np.empty(group),
    )


@register_jitable
def _settle_group(theta: Any, g: Any, valleys: Any, alpha: Any, a0: Any, work: Any) -> None:
    """alpha (…, rows, GROUP) at offset a0 for the particles of group g; S becomes c w·r_i."""
    X, pull, v, S = valleys.X, valleys.pull, work.v, work.S
    (tiles, d, rows), C = X.shape, pull.shape[1]
    group, D = lanes_of(theta), theta.shape[1]
    v[:] = theta[g, :d]
    u, w = place(theta, g * D * group), place(theta, (g * D + d) * group)
    for t in range(tiles):
        at = t * rows * group
        dots(place(pull, t * C * rows), w, C, place(S, at))
        start_shares(place(X, t * d * rows), u, d, place(S, at), place(alpha, a0 + at), place(v, 0))
    work.awake[:] = ~work.awake.dtype.type(0)
    busy, some = np.ones(tiles, np.bool_), True
    for _ in range(valleys.sweeps):
        if not some:
            break
        some = False
        for t in range(tiles):
            if busy[t]:
                x, gram, s = place(X, t * d * rows), place(valleys.gram, t * rows * rows), place(S, t * rows * group)
                shares, awake = place(alpha, a0 + t * rows * group), place(work.awake, t * VECTORS)
                busy[t] = settle_shares(x, gram, s, shares, awake, d, place(v, 0)) != 0
                some = some or busy[t]


@register_jitable
def _slopes(X: Any, R: Any, alpha: Any, a0: Any, G: Any) -> None:
    """G[c] (d, GROUP) ← −Σ_i r_ic α_i x_i."""
    tiles, d, rows = X.shape
    group, C = G.shape[2], R.shape[1]
    G[:] = 0
    for c in range(C):
        for t in range(tiles):
            x, r = place(X, t * d * rows), place(R, (t * C + c) * rows)
            shared_slope(x, r, place(alpha, a0 + t * rows * group), d, place(G, c * d * group))


@register_jitable
def _speeds(theta: Any, g: Any, work: Any) -> None:
    """square ← ‖G_j‖², mass ← ‖θ_j‖²."""
    G, square, mass = work.G, work.square, work.mass
    square[:] = 0
    mass[:] = 0
    for c in range(G.shape[0]):
        for k in range(G.shape[1]):
            for lane in range(lanes_of(theta)):
                square[lane] += np.float64(G[c, k, lane]) * np.float64(G[c, k, lane])
    for k in range(theta.shape[1]):
        for lane in range(lanes_of(theta)):
            mass[lane] += np.float64(theta[g, k, lane]) * np.float64(theta[g, k, lane])


@register_jitable
def _turn_one(theta: Any, g: Any, work: Any, eta: Any, out: Any) -> None:
    """The hyperbolic rotation of (u_∥, w) by ‖g‖η, for C = 1; G holds −g."""
    G, square = work.G, work.square
    group, d = lanes_of(theta), G.shape[1]
    inner, along = np.zeros(group), np.empty(group)
    for k in range(d):
        for lane in range(group):
            inner[lane] -= np.float64(G[0, k, lane]) * np.float64(theta[g, k, lane])
    for lane in range(group):
        size = np.sqrt(square[lane])
        e = expm1_one(min(size * eta, LONGEST))
        sinh, cosh1 = 0.5 * (e + e / (1.0 + e)), 0.5 * e * (e / (1.0 + e))
        per = sinh / size if size > 0 else 0.0
        w = np.float64(theta[g, d, lane])
        along[lane] = w * per - (inner[lane] / size) * (cosh1 / size) if size > 0 else 0.0
        out[g, d, lane] = w + (w * cosh1 - inner[lane] * per)
    for k in range(d):
        for lane in range(group):
            out[g, k, lane] = theta[g, k, lane] + np.float64(G[0, k, lane]) * along[lane]


@register_jitable
def _turn_many(theta: Any, g: Any, work: Any, eta: Any, out: Any) -> None:
    """exp of the linear flow u' = −G w, w' = −Gᵀ u by its series; G holds its negative."""
    G, term, next = work.G, work.term, work.next
    group, (C, d, _) = lanes_of(theta), G.shape
    length = np.empty(group, theta.dtype)
    for lane in range(group):
        size = np.sqrt(work.square[lane])
        length[lane] = LONGEST / size if size * eta > LONGEST else eta
    term[:] = theta[g]
    out[g] = theta[g]
    for j in range(1, TERMS + 1):
        next[:] = 0
        for c in range(C):
            for k in range(d):
                for lane in range(group):
                    next[k, lane] += G[c, k, lane] * term[d + c, lane]
                    next[d + c, lane] += G[c, k, lane] * term[k, lane]
        for k in range(theta.shape[1]):
            for lane in range(group):
                term[k, lane] = next[k, lane] * (length[lane] / theta.dtype.type(j))
                out[g, k, lane] += term[k, lane]


@compiled
def _settle(theta, valleys, shares):  # type: ignore[no-untyped-def]
    """The shares of all groups."""
    work = _work(theta, valleys, shares.word)
    size = work.S.size
    for g in range(theta.shape[0]):
        _settle_group(theta, g, valleys, shares.alpha, g * size, work)


@compiled
def _turn(part, valleys, turn, shares, out, ticket, limbs):  # type: ignore[no-untyped-def]
    """out ← every particle after the turn; limbs: Σ ‖G‖²‖θ‖² and Σ ‖θ‖²."""
    theta, kept = part.theta, shares.alpha.shape[0] > 0
    work = _work(theta, valleys, shares.word)
    size = work.S.size
    alpha = shares.alpha if kept else np.empty((1, *work.S.shape), theta.dtype)
    block = _next_block(part, ticket)
    while block.start < block.stop:
        for g in range(block.start, block.stop):
            a0 = g * size if kept else 0
            if not shares.known:
                _settle_group(theta, g, valleys, alpha, a0, work)
            _slopes(valleys.X, turn.residual, alpha, a0, work.G)
            _speeds(theta, g, work)
            for lane in range(theta.shape[2]):
                _add_exactly(work.square[lane] * work.mass[lane], 0, limbs)
                _add_exactly(work.mass[lane], 1, limbs)
            if work.G.shape[0] == 1:
                _turn_one(theta, g, work, turn.eta, out.theta)
            else:
                _turn_many(theta, g, work, turn.eta, out.theta)
            clear_tail(out, g)
        block = _next_block(part, ticket)


@compiled
def _rectify(theta, X, alpha, H):  # type: ignore[no-untyped-def]
    """H (groups, rows, GROUP) ← alpha u·x: the activations, in shares."""
    tiles, d, rows = X.shape
    D, group = theta.shape[1], theta.shape[2]
    for g in range(theta.shape[0]):
        for t in range(tiles):
            at = (g * tiles + t) * rows * group
            dots(place(X, t * d * rows), place(theta, g * D * group), d, place(H, at))
    for g in range(theta.shape[0]):
        for i in range(tiles * rows):
            for lane in range(group):
                H[g, i, lane] *= alpha[g, i, lane]


@compiled
def measure(theta, d, mass, balanced):  # type: ignore[no-untyped-def]
    """mass (groups · GROUP,) ← ‖θ_j‖², balanced ← 2‖u_j‖‖w_j‖: what it is once ‖u‖ = ‖w‖ at the same Φ."""
    for g in range(theta.shape[0]):
        for lane in range(theta.shape[2]):
            u, w = 0.0, 0.0
            for k in range(theta.shape[1]):
                square = np.float64(theta[g, k, lane]) * np.float64(theta[g, k, lane])
                if k < d:
                    u += square
                else:
                    w += square
            mass[g * theta.shape[2] + lane] = u + w
            balanced[g * theta.shape[2] + lane] = 2.0 * np.sqrt(u) * np.sqrt(w)


@compiled
def enough(mass, part):  # type: ignore[no-untyped-def]
    """How many of the masses, the first in turn, make up this part of all."""
    total = 0.0
    for j in range(len(mass)):
        total += mass[j]
    carried = 0.0
    for j in range(len(mass)):
        carried += mass[j]
        if carried >= part * total:
            return j + 1
    return len(mass)


class Kinks:
    """The passes of an implicit step bound to an engine's inputs."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.X = engine, engine.inputs.by_row
        tiles = self.X.astype(np.float64)
        pairs = [[exact_math.row_sums(tiles[:, :, a] * tiles[:, :, b]) for b in range(ROWS)] for a in range(ROWS)]
        self.gram = np.stack([np.stack(row, 1) for row in pairs], 1).astype(engine.dtype)
        self._word = np.empty(0, f"u{lanes(engine.dtype) // 8}")

    @property
    def rows(self) -> int:
        """Examples, padding included."""
        return self.engine.inputs.rows

    def _tiled(self, r: np.ndarray) -> np.ndarray:
        """r (n, C) as (tiles, C, ROWS)."""
        padded = np.zeros((self.rows, r.shape[1]), self.engine.dtype)
        padded[: len(r)] = r
        if padded.dtype == np.float32:
            padded[np.abs(padded) < 1e-35] = 0  # subnormal numbers add nothing but are slow
        return np.ascontiguousarray(padded.reshape(-1, ROWS, r.shape[1]).swapaxes(1, 2))

    def settled(self, theta: np.ndarray, pull: np.ndarray, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, alpha u·x), both (groups, rows, GROUP), of theta (groups, d + C, GROUP) under c r (n, C)."""
        alpha = np.empty((len(theta), self.rows, theta.shape[2]), theta.dtype)
        _settle(theta, Valleys(self.X, self.gram, self._tiled(pull), sweeps), Shares(alpha, False, self._word))
        H = np.empty_like(alpha)
        _rectify(theta, self.X, alpha, H)
        return alpha, H

    def turned(
        self, particles: Particles, pull: np.ndarray, sweeps: int, after: np.ndarray, eta: float, alpha: np.ndarray,
        *, known: bool,
    ) -> tuple[Particles, float]:  # fmt: skip
        """The particles after time η under the residual `after` (n, C), resting on kinks as `pull`, c r, has it.

        Also the rms of ‖G_j‖ over mass. alpha keeps the shares for the next call with `known`; with no group it does
        not.
        """
        part, out = particles.packed(), Particles(np.empty_like(particles.theta), particles.span)
        valleys = Valleys(self.X, self.gram, self._tiled(pull), sweeps)
        turn, shares = Turn(self._tiled(after), float(eta)), Shares(alpha, known and len(alpha) > 0, self._word)
        arguments = part, valleys, turn, shares, out.packed()
        blocks = -(-part.m // BLOCK)
        limbs = particles.span.ranks.sum(self.engine.workers.run(_turn, blocks, arguments, 2))
        speed, mass = self.engine.value(limbs)
        return out, math.sqrt(speed / mass) if mass > 0 else 0.0


__all__ = ["Kinks", "enough", "measure"]
