"""The compiled loops over blocks of particles: predict, advance, observe. Arrays in, arrays out; nothing else is hot.

Particles are held as theta (groups, d + C, GROUP): GROUP = 64 float32 or 32 float64 particles lie side by side in
memory, component by component (u first, then w); what does not fill the last group is zero. Threads take blocks of
BLOCK particles in any order. A block is read once a step: its gradient from the activation bits that the last pass
left, its move, and the predictions of the moved particles with their new bits, all while it stays in cache. No array
of (particles × examples) numbers exists, only their bits (n/8 bytes a particle).

Sums over particles do not depend on threads, since each block is summed alone in a fixed order, and the blocks' sums
are added in fixed point, where no order matters: a float64 is split into three integers, multiples of 2⁸, 2⁻³² and
2⁻⁷².
Whatever does not fit (NaN, or a block's sum beyond 2⁵⁷) makes every prediction NaN, which the caller must look for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..runtime.communicator import ALONE, Alone, Span
from ..runtime.compiling import compiled
from ..runtime.threads import Workers, default_threads
from . import noise
from .microkernels import (
    MAX_FEATURES,
    ROWS,
    VECTORS,
    dense_product,
    forward,
    gated,
    lane_sum,
    lanes,
    masked_product,
    readout,
    rectified,
    take_ticket,
)

BLOCK = 1024  # particles; also where an ensemble may be cut between processes
_MASKED_ROWS = 256  # rows summed in one go: part of the order of summation, hence of the bits
_DENSE_ROWS = 64
_NOTHING = np.empty(0)
_LIMBS = np.array([2.0**8, 2.0**-32, 2.0**-72])


def group_size(dtype: Any) -> int:
    """Particles that lie side by side: 64 in float32, 32 in float64."""
    return VECTORS * lanes(np.dtype(dtype))


class Move(NamedTuple):
    """One step for each particle: θ ← θ − (shrink·θ + drift·∇⟨r, Φ⟩) + noise·ξ, and death with probability `death`."""

    shrink: float
    drift: float
    noise: float = 0.0
    death: float = 0.0


_STAY = Move(0.0, 0.0)


class Moments(NamedTuple):
    """What all particles together amount to: predictions f (n, C) float64 and ∫‖θ‖² dρ. NaN if out of range."""

    f: np.ndarray
    second: float


# ---------------------------------------------------------------------------------------------------------------------
# compiled


@register_jitable
def _add_exactly(value: Any, i: Any, limbs: Any) -> None:
    """limbs[i] += value in fixed point; limbs[-1, 0] counts values that did not fit."""
    if not abs(value) < 2.0**57:
        limbs[-1, 0] += 1
        return
    high = np.rint(value * 2.0**-8)
    value -= high * 2.0**8
    middle = np.rint(value * 2.0**32)
    value -= middle * 2.0**-32
    limbs[i, 0] += np.int64(high)
    limbs[i, 1] += np.int64(middle)
    limbs[i, 2] += np.int64(np.rint(value * 2.0**72))


@register_jitable
def _forward_block(theta: Any, g0: Any, g1: Any, X: Any, C: Any, bits: Any, keep: Any, sums: Any, Z: Any) -> None:
    """Sums over the particles of groups g0 … g1 − 1 for each row, output and lane; their bits if C = 1."""
    tiles, d, rows = X.shape
    L, D, group = sums.shape[2], theta.shape[1], theta.shape[2]
    chunk = max(1, 1024 // d)  # tiles of X that stay in the first-level cache
    sums[:] = 0
    for first in range(0, tiles, chunk):
        for g in range(g0, g1):
            for t in range(first, min(first + chunk, tiles)):
                if C == 1:
                    out = ((g * tiles if keep else 0) + t) * rows * VECTORS
                    forward(X, t * d * rows, theta, g * D * group, d, bits, out, sums, t * rows * L)
                else:
                    rectified(X, t * d * rows, theta, g * D * group, d, Z, 0)
                    readout(Z, 0, theta, (g * D + d) * group, C, sums, t * rows * C * L)


@register_jitable
def _reduce_block(theta: Any, g0: Any, g1: Any, n: Any, C: Any, sums: Any, limbs: Any) -> None:
    L = sums.shape[2]
    for i in range(n * C):
        _add_exactly(lane_sum(sums, i * L), i, limbs)
    squares = np.zeros(theta.shape[2])
    for g in range(g0, g1):
        for k in range(theta.shape[1]):
            for lane in range(theta.shape[2]):
                squares[lane] += np.float64(theta[g, k, lane]) * np.float64(theta[g, k, lane])
    for lane in range(theta.shape[2]):
        _add_exactly(squares[lane], n * C, limbs)


@register_jitable
def _gradient_one(theta: Any, g0: Any, g1: Any, XR: Any, bits: Any, r: Any, G: Any) -> None:
    """G (groups, U + 1, GROUP) ← ∇⟨r, Φ⟩ of the groups g0 … g1 − 1 for C = 1; U = d, padded to whole tiles."""
    tiles, rows, K = XR.shape
    group, d, U = theta.shape[2], theta.shape[1] - 1, tiles * K
    G[:] = 0
    for start in range(0, rows, _MASKED_ROWS):
        count = min(_MASKED_ROWS, rows - start)
        for j in range(tiles):
            for g in range(g0, g1):
                for v in range(VECTORS):
                    place = ((g - g0) * (U + 1) + j * K) * group + v * (group // VECTORS)
                    on = (g * rows + start) * VECTORS + v
                    masked_product(K, XR, (j * rows + start) * K, bits, on, r, start, count, G, place)
    for g in range(g0, g1):
        for k in range(d):
            for lane in range(group):
                slope = G[g - g0, k, lane]
                G[g - g0, U, lane] += theta[g, k, lane] * slope
                G[g - g0, k, lane] = theta[g, d, lane] * slope


@register_jitable
def _gradient_many(theta: Any, g0: Any, g1: Any, X: Any, Xc: Any, R: Any, Rc: Any, Z: Any, S: Any, G: Any) -> None:
    """G (groups, U + W, GROUP) ← ∇⟨r, Φ⟩ for C > 1, activations computed again; U, W = d, C padded to whole tiles."""
    _, d, rows = X.shape
    C, D, group, n = R.shape[1], theta.shape[1], theta.shape[2], X.shape[0] * X.shape[2]
    (ju, _, K), (jw, _, Kc) = Xc.shape, Rc.shape
    total, L = ju * K + jw * Kc, theta.shape[2] // VECTORS
    G[:] = 0
    for g in range(g0, g1):
        base = (g - g0) * total
        for start in range(0, n, _DENSE_ROWS):
            count = min(_DENSE_ROWS, n - start)
            for t in range(start // rows, (start + count) // rows):
                z = (t * rows - start) * group
                rectified(X, t * d * rows, theta, g * D * group, d, Z, z)
                gated(R, t * C * rows, theta, (g * D + d) * group, C, Z, z, S)
            for v in range(VECTORS):
                for j in range(ju):
                    place = (base + j * K) * group + v * L
                    dense_product(K, Xc, (j * n + start) * K, S, v * L, count, G, place)
                for j in range(jw):
                    place = (base + ju * K + j * Kc) * group + v * L
                    dense_product(Kc, Rc, (j * n + start) * Kc, Z, v * L, count, G, place)


@register_jitable
def _project(theta: Any, g: Any, radius: Any) -> None:
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
def _move_group(
    theta: Any, g: Any, before: Any, G: Any, gap: Any, d: Any, move: Any, seed: Any, step: Any, w: Any, z: Any
) -> None:
    """θ ← θ − (shrink θ + drift G) + noise ξ for one group, the difference first: near equilibrium its parts cancel.

    G holds u's gradient from row 0 on, w's from row d + gap on; `before` particles of the ensemble precede theta.
    """
    D, group = theta.shape[1], theta.shape[2]
    each, first = noise.per_block(z), before + g * theta.shape[2]
    for block in range(-(-D // each)):
        if move[2] > 0:
            noise.words(seed, noise.Purpose.LANGEVIN.value, step, first, block, w)
            noise.from_words(w, z)
        for j in range(min(each, D - block * each)):
            k = block * each + j
            row = k if k < d else k + gap
            if move[2] > 0:
                for lane in range(group):
                    down = move[0] * theta[g, k, lane] + move[1] * G[row, lane]
                    theta[g, k, lane] = theta[g, k, lane] - down + move[2] * z[j, lane]
            else:
                for lane in range(group):
                    theta[g, k, lane] -= move[0] * theta[g, k, lane] + move[1] * G[row, lane]


@register_jitable
def _rebear_group(
    theta: Any, g: Any, before: Any, death: Any, seed: Any, step: Any, w: Any, z: Any, point: Any
) -> None:
    """Each particle of the group dies with probability `death` and is reborn uniform on the unit sphere of R^(d+C)."""
    D, group, each = theta.shape[1], theta.shape[2], noise.per_block(z)
    first = before + g * group
    noise.words(seed, noise.Purpose.DEATH.value, step, first, 0, w)
    threshold, deaths = np.uint64(death * 2.0**53), 0
    dies = np.zeros(group, np.bool_)
    for lane in range(group):
        ticket = (np.uint64(w[0, lane]) << np.uint64(21)) | (np.uint64(w[1, lane]) >> np.uint64(11))
        dies[lane] = ticket < threshold
        deaths += dies[lane]
    if deaths == 0:
        return
    for block in range(-(-D // each)):
        noise.words(seed, noise.Purpose.REBIRTH.value, step, first, block, w)
        noise.from_words(w, z)
        for j in range(min(each, D - block * each)):
            for lane in range(group):
                point[0, block * each + j, lane] = z[j, lane]
    _project(point, 0, theta.dtype.type(1))
    for k in range(D):
        for lane in range(group):
            if dies[lane]:
                theta[g, k, lane] = point[0, k, lane]


@register_jitable
def _clear_tail(theta: Any, g: Any, m: Any) -> None:
    for lane in range(max(0, m - g * theta.shape[2]), theta.shape[2]):
        for k in range(theta.shape[1]):
            theta[g, k, lane] = 0


@register_jitable
def _next_block(ticket: Any, theta: Any, m: Any) -> Any:
    """(g0, g1): the groups of the next block that nobody has taken; g0 ≥ g1 when all are done."""
    per_block = BLOCK // theta.shape[2]
    g0 = take_ticket(ticket) * per_block
    return g0, min(g0 + per_block, -(-m // theta.shape[2]))


@register_jitable
def _observe_group(theta: Any, g: Any, G: Any, gap: Any, d: Any, reg: Any, limbs: Any, potential: Any) -> None:
    """limbs[0] += Σ ‖∇L'‖² over the group, potential ← L' of each particle if there is room; G as in `_move_group`."""
    group = theta.shape[2]
    squares, value = np.zeros(group), np.zeros(group)
    for k in range(theta.shape[1]):
        for lane in range(group):
            t, slope = np.float64(theta[g, k, lane]), np.float64(G[k if k < d else k + gap, lane])
            squares[lane] += (slope + 2 * reg * t) ** 2
            value[lane] += (slope * t if k >= d else 0.0) + reg * t * t
    for lane in range(group):
        _add_exactly(squares[lane], 0, limbs)
        if g * group + lane < potential.shape[0]:
            potential[g * group + lane] = value[lane]


PREDICT, OBSERVE, ADVANCE = 0, 1, 2


@compiled
def _pass(  # type: ignore[no-untyped-def]
    theta, before, m, X, n, C, bits, keep, Xc, r, R, Rc, what, move, seed, step, reg, potential, ticket, limbs
):
    """One pass over the blocks that this thread gets hold of: gradient, observe or move, forward."""
    group, d, dtype = theta.shape[2], X.shape[1], theta.dtype
    sums = np.empty((X.shape[0] * X.shape[2], C, group // VECTORS), dtype)
    Z, S = np.empty((_DENSE_ROWS, group), dtype), np.empty((_DENSE_ROWS, group), dtype)
    U = Xc.shape[0] * Xc.shape[2]
    G = np.empty((BLOCK // group, U + (1 if C == 1 else Rc.shape[0] * Rc.shape[2]), group), dtype)
    w, z = np.empty((4, group), np.uint32), np.empty((4, group), dtype)
    point = np.empty((1, theta.shape[1], group), dtype)
    g0, g1 = _next_block(ticket, theta, m)
    while g0 < g1:
        if what != PREDICT:
            if C == 1:
                _gradient_one(theta, g0, g1, Xc, bits, r, G)
            else:
                _gradient_many(theta, g0, g1, X, Xc, R, Rc, Z, S, G)
        for g in range(g0, g1):
            if what == OBSERVE:
                _observe_group(theta, g, G[g - g0], U - d, d, reg, limbs, potential)
            elif what == ADVANCE:
                _move_group(theta, g, before, G[g - g0], U - d, d, move, seed, step, w, z)
                if move[3] > 0:
                    _rebear_group(theta, g, before, np.float64(move[3]), seed, step, w, z, point)
                _clear_tail(theta, g, m)
        if what != OBSERVE:
            _forward_block(theta, g0, g1, X, C, bits, keep, sums, Z)
            _reduce_block(theta, g0, g1, n, C, sums, limbs)
        g0, g1 = _next_block(ticket, theta, m)


@compiled
def _draw(theta, before, m, normalize, scale, seed, ticket, limbs):  # type: ignore[no-untyped-def]
    D, group = theta.shape[1], theta.shape[2]
    w, z = np.empty((4, group), np.uint32), np.empty((4, group), theta.dtype)
    each, purpose = noise.per_block(z), noise.Purpose.INITIAL.value
    g0, g1 = _next_block(ticket, theta, m)
    while g0 < g1:
        for g in range(g0, g1):
            for block in range(-(-D // each)):
                noise.words(seed, purpose, 0, before + g * group, block, w)
                noise.from_words(w, z)
                for j in range(min(each, D - block * each)):
                    for lane in range(group):
                        theta[g, block * each + j, lane] = scale * z[j, lane]
            if normalize:
                _project(theta, g, scale)
            _clear_tail(theta, g, m)
        g0, g1 = _next_block(ticket, theta, m)


# ---------------------------------------------------------------------------------------------------------------------
# the door before it


def _tiles_of_columns(A: np.ndarray, dtype: Any) -> np.ndarray:
    """A (rows, k) as (tiles, rows, width): columns in tiles of equal even width ≤ MAX_FEATURES, padded with zeros."""
    rows, k = A.shape
    tiles = -(-k // MAX_FEATURES)
    width = 2 * -(-k // (2 * tiles))
    padded = np.zeros((rows, tiles * width), dtype)
    padded[:, :k] = A
    return np.ascontiguousarray(padded.reshape(rows, tiles, width).swapaxes(0, 1))


def _tiles_of_rows(A: np.ndarray, dtype: Any) -> np.ndarray:
    """A (rows, k), rows a multiple of ROWS, as (tiles, k, ROWS)."""
    return np.ascontiguousarray(A.reshape(-1, ROWS, A.shape[1]).swapaxes(1, 2), dtype)


@dataclass(frozen=True)
class _Packed:
    """Inputs as the loops read them; rows padded with zeros to a multiple of ROWS."""

    n: int
    by_row: np.ndarray
    by_column: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, dtype: Any) -> _Packed:
        n, d = X.shape
        padded = np.zeros((-(-n // ROWS) * ROWS, d), dtype)
        padded[:n] = X
        return cls(n, _tiles_of_rows(padded, dtype), _tiles_of_columns(padded, dtype))

    @property
    def rows(self) -> int:
        return self.by_row.shape[0] * ROWS


class Sweep:
    """The loops bound to inputs X (n, d), a number of outputs C, a dtype and a number of threads.

    Holds the activation bits of the particles last predicted or advanced (n/8 bytes each), which the next `advance` or
    `observe` of the same array reads; whoever changes particles in between must call `predict` again.
    """

    def __init__(self, X: np.ndarray, outputs: int, dtype: Any, threads: int | Workers | None = None) -> None:
        self.C, self.dtype = outputs, np.dtype(dtype)
        self._data = _Packed.of(X, self.dtype)
        self.workers = threads if isinstance(threads, Workers) else Workers(threads or default_threads())
        self._bits = np.zeros((0, 0), f"u{lanes(self.dtype) // 8}")
        self._known: np.ndarray | None = None

    def predict(self, theta: np.ndarray, span: Span | int, *, keep: bool = True) -> Moments:
        """Predictions of the particles in theta (groups, d + C, GROUP); keep=False spares the memory of the bits.

        span: how many there are, or whose share of how many they are; then all ranks must call, here and below, and
        all get the moments of the whole.
        """
        rows = self._data.rows * VECTORS if self.C == 1 else 1
        groups = theta.shape[0] if keep and self.C == 1 else 1
        if self._bits.shape != (groups, rows):
            self._bits = np.empty((groups, rows), self._bits.dtype)
        self._known = theta if keep else None
        return self._moments(self._run(PREDICT, theta, span, None, keep=keep), span)

    def advance(
        self, theta: np.ndarray, span: Span | int, residual: np.ndarray, move: Move, seed: int, step: int
    ) -> Moments:
        """Move every particle by `move` under the residual (n, C), in place; predictions of the moved ones."""
        return self._moments(self._run(ADVANCE, theta, span, residual, move=move, seed=seed, step=step), span)

    def observe(
        self, theta: np.ndarray, span: Span | int, residual: np.ndarray, reg: float, *, potentials: bool = False
    ) -> tuple[float, np.ndarray]:
        """∫‖∇L'‖² dρ, and the potentials L'(θ_j), float64, of the particles in theta if asked for (else empty)."""
        potential = np.empty(as_span(span).count if potentials else 0)
        limbs = self._run(OBSERVE, theta, span, residual, reg=reg, potential=potential)
        return float(self._value(limbs)[0]) / as_span(span).total, potential

    def _run(
        self,
        what: int,
        theta: np.ndarray,
        span: Span | int,
        residual: np.ndarray | None,
        *,
        keep: bool = True,
        move: Move = _STAY,
        seed: int = 0,
        step: int = 0,
        reg: float = 0.0,
        potential: np.ndarray = _NOTHING,
    ) -> np.ndarray:
        if what != PREDICT and self._known is not theta:
            self.predict(theta, span)
        data, span = self._data, as_span(span)
        arguments = (
            theta,
            span.first,
            span.count,
            data.by_row,
            data.n,
            self.C,
            self._bits,
            keep,
            *self._residual_side(residual),
            what,
            np.array(move, self.dtype),
            np.uint64(seed),
            np.uint64(step),
            float(reg),
            potential,
        )
        limbs = self.workers.run(_pass, -(-span.count // BLOCK), arguments, data.n * self.C + 1)
        return span.ranks.sum(limbs)

    def _residual_side(self, residual: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """The residual (n, C) as the loops read it: (columns of X, r, R, Rc), unused ones empty."""
        data, dtype = self._data, self.dtype
        nothing = np.zeros((1, 1, 2), dtype)
        if residual is None:
            return data.by_column, nothing[0, 0], nothing, nothing
        r = np.zeros((data.rows, self.C), dtype)
        r[: data.n] = residual
        if dtype == np.float32:
            r[np.abs(r) < 1e-35] = 0  # subnormal numbers add nothing but are slow
        if self.C > 1:
            return data.by_column, nothing[0, 0], _tiles_of_rows(r, dtype), _tiles_of_columns(r, dtype)
        columns = data.by_column.copy()
        columns[:, :, 0::2] *= r[None]
        return columns, r[:, 0].copy(), nothing, nothing

    def _moments(self, limbs: np.ndarray, span: Span | int) -> Moments:
        value = self._value(limbs) / as_span(span).total
        return Moments(value[:-1].reshape(self._data.n, self.C), float(value[-1]))

    @staticmethod
    def _value(limbs: np.ndarray) -> np.ndarray:
        """Fixed point to float64; all NaN if anything did not fit."""
        value = (limbs[:-1, 0] * _LIMBS[0] + limbs[:-1, 1] * _LIMBS[1]) + limbs[:-1, 2] * _LIMBS[2]
        return np.full_like(value, np.nan) if limbs[-1, 0] else value


def draw(span: Span | int, d: int, outputs: int, law: str, scale: float, seed: int, dtype: Any) -> np.ndarray:
    """Particles theta (groups, d + outputs, GROUP) of an initial law: "sphere" (unit sphere × scale) or "gaussian"."""
    span, group = as_span(span), group_size(dtype)
    theta = np.zeros((-(-span.count // group), d + outputs, group), dtype)
    arguments = (theta, span.first, span.count, law == "sphere", theta.dtype.type(scale), np.uint64(seed))
    Workers(default_threads()).run(_draw, -(-span.count // BLOCK), arguments, 1)
    return theta


def share(total: int, ranks: Alone = ALONE) -> Span:
    """The particles of this rank."""
    return Span.of(total, BLOCK, ranks)


def as_span(span: Span | int) -> Span:
    return span if isinstance(span, Span) else share(span)
