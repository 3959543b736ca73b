"""The compiled passes over blocks of particles: predict, advance, observe, draw. Arrays in, arrays out.

Particles are held as theta (groups, d + C, GROUP): GROUP = 64 float32 or 32 float64 particles lie side by side in
memory, component by component (u first, then w); what does not fill the last group is zero. Threads take blocks of
BLOCK particles in any order. A block is read once a step: its gradient from the activation bits that the last pass
left, its move, and the predictions of the moved particles with their new bits, all while it stays in cache. No array
of (particles × examples) numbers exists, only their bits (n/8 bytes a particle).

That is for φ = relu. Passes that are given a `Rule` in place of an `Activity` are for any other neuron ψ(w) φ(u·x):
they keep nothing from pass to pass and compute u·x again, as those for several outputs do.

Sums over particles do not depend on threads, since each block is summed alone in a fixed order, and the blocks' sums
are added in fixed point, where no order matters: a float64 is split into three integers, multiples of 2⁸, 2⁻³² and
2⁻⁷² (`limbs`).
Whatever does not fit (NaN, or a block's sum beyond 2⁵⁷) is counted in the last limb, for the caller to look at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload, register_jitable

from ..runtime.compiling import compiled
from . import noise
from .activation import any_rows, any_tile, chain, read_out
from .kinetic import Kinetic, kick_group
from .microkernels import (
    NARROW,
    VECTORS,
    dense_product,
    forward,
    gated,
    lane_sum,
    masked_product,
    narrow_product,
    place,
    readout,
    rectified,
    take_ticket,
)
from .moves import clear_tail, move_group, project, rebear_group
from .penalties import PLAIN, Coefficients, beyond, slopes, squares

BLOCK = 1024  # particles; also where an ensemble may be cut between processes
_MASKED_ROWS = 256  # rows summed in one go: part of the order of summation, hence of the bits
_DENSE_ROWS = 64


class Part(NamedTuple):
    """The particles of one process: theta (groups, d + C, GROUP), the number of the first, and how many they are."""

    theta: np.ndarray
    first: int
    m: int


class Block(NamedTuple):
    """The groups start … stop − 1 of theta."""

    theta: np.ndarray
    start: int
    stop: int


class Data(NamedTuple):
    """Inputs X (tiles, d, ROWS), n of whose rows are examples and the others zero, the number C of outputs, and p."""

    X: np.ndarray
    n: int
    outputs: int
    penalty: Coefficients = PLAIN


class Activity(NamedTuple):
    """Activation bits (groups, rows·VECTORS), a word of as many bits as lanes each, of all groups or of one at a time.

    For C = 1 only: for more outputs activations are computed again, and nothing is kept. The last two are as in `Rule`.
    """

    bits: np.ndarray
    all_groups: bool
    of_w: int = 0
    both_of_w: int = 0


class Residual(NamedTuple):
    """The residual r (n, C) and X, cut for products over the rows; what a pass does not need is empty.

    X (tiles, rows, K): columns of the inputs, for relu and C = 1 those of even number times r.
    r (rows,) for relu and C = 1; else by_row (tiles, C, ROWS) and by_column (tiles, rows, K').
    """

    X: np.ndarray
    r: np.ndarray
    by_row: np.ndarray
    by_column: np.ndarray


class Address(NamedTuple):
    """Where a step's noise is found, next to the particle and the component."""

    seed: np.uint64
    step: np.uint64


class Slope(NamedTuple):
    """∇⟨r, Φ⟩ of one group, G (rows, GROUP): by u from row 0 on, by w from row d + gap on."""

    G: np.ndarray
    d: int
    gap: int


class Work(NamedTuple):
    """What a thread computes in: Z and S (rows, GROUP), G (groups of a block, rows, GROUP) for the gradient; words and
    normals (4, GROUP) for the move; points (1, d + C, GROUP) for a group of new points, and before for ψ(w)."""

    Z: np.ndarray
    S: np.ndarray
    G: np.ndarray
    words: np.ndarray
    normals: np.ndarray
    points: np.ndarray


# ---------------------------------------------------------------------------------------------------------------------
# parts of a pass


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
def _next_block(part: Any, ticket: Any) -> Any:
    """The next block that nobody has taken; empty when all are done."""
    group = part.theta.shape[2]
    start = take_ticket(ticket) * (BLOCK // group)
    return Block(part.theta, start, min(start + BLOCK // group, -(-part.m // group)))


@register_jitable
def forward_buffers(part: Any, data: Any) -> Any:
    """(sums (rows, C, L), Z (ROWS + C, GROUP), the last for ψ(w)) for `forward_block`."""
    (tiles, _, rows), C = data.X.shape, data.outputs
    group, dtype = part.theta.shape[2], part.theta.dtype
    return np.empty((tiles * rows, C, group // VECTORS), dtype), np.empty((rows + C, group), dtype)


def _relu_tile(at, data, activity, sums, Z):  # type: ignore[no-untyped-def]
    theta, g, t = at
    (tiles, d, rows), C, D, group, L = data.X.shape, data.outputs, theta.shape[1], theta.shape[2], sums.shape[2]
    u, x = place(theta, g * D * group), place(data.X, t * d * rows)
    if C == 1:
        on = ((g * tiles if activity.all_groups else 0) + t) * rows * VECTORS
        forward(x, u, d, place(activity.bits, on), place(sums, t * rows * L))
    else:
        rectified(x, u, d, place(Z, 0))
        readout(place(Z, 0), place(theta, (g * D + d) * group), C, place(sums, t * rows * C * L))


def _forward_tile(at: Any, data: Any, activity: Any, sums: Any, Z: Any) -> None:
    """sums += w φ(u·x) of the group g for the tile t of rows, (theta, g, t) = at; their bits if relu and C = 1."""


@overload(_forward_tile)
def _(at, data, activity, sums, Z):  # type: ignore[no-untyped-def]
    return _relu_tile if activity.instance_class is Activity else any_tile


@register_jitable
def forward_block(block: Any, data: Any, activity: Any, sums: Any, Z: Any) -> None:
    """Sums over the particles of a block for each row, output and lane; their bits if relu and C = 1."""
    tiles, d, _ = data.X.shape
    chunk = max(1, 1024 // d)  # tiles of X that stay in the first-level cache
    sums[:] = 0
    for first in range(0, tiles, chunk):
        for g in range(block.start, block.stop):
            for t in range(first, min(first + chunk, tiles)):
                _forward_tile((block.theta, g, t), data, activity, sums, Z)


@register_jitable
def reduce_block(block: Any, data: Any, sums: Any, limbs: Any) -> None:
    """limbs += the block's sums for each row and output, and its Σ ‖θ‖²."""
    theta, count = block.theta, data.n * data.outputs
    L = sums.shape[2]
    for i in range(count):
        _add_exactly(lane_sum(place(sums, i * L)), i, limbs)
    squares = np.zeros(theta.shape[2])
    for g in range(block.start, block.stop):
        for k in range(theta.shape[1]):
            for lane in range(theta.shape[2]):
                squares[lane] += np.float64(theta[g, k, lane]) * np.float64(theta[g, k, lane])
    for lane in range(theta.shape[2]):
        _add_exactly(squares[lane], count, limbs)


@register_jitable
def add_penalty(block: Any, data: Any, limbs: Any) -> None:
    """limbs += Σ p(θ) over the block's particles; nothing where p = ‖θ‖², whose sum there is already."""
    penalty, d, i = data.penalty, data.X.shape[1], data.n * data.outputs + 1
    if penalty.inputs == 1 and penalty.outputs == 1 and penalty.quartic == 0 and penalty.path == 0:
        return
    theta = block.theta
    group, values = theta.shape[2], np.zeros(theta.shape[2])
    of_u, of_w = np.empty(group), np.empty(group)
    for g in range(block.start, block.stop):
        squares(theta, g, d, of_u, of_w)
        for lane in range(group):
            layers = penalty.inputs * of_u[lane] + penalty.outputs * of_w[lane]
            values[lane] += layers + beyond(of_u[lane], of_w[lane], penalty)
    for lane in range(group):
        _add_exactly(values[lane], i, limbs)


@register_jitable
def gradient_one(block: Any, residual: Any, bits: Any, G: Any) -> None:
    """G (groups, U + 1, GROUP) ← ∇⟨r, Φ⟩ of the block's groups for C = 1; U = d, padded to whole tiles."""
    theta, X, r = block.theta, residual.X, residual.r
    tiles, rows, K = X.shape
    group, d, U = theta.shape[2], theta.shape[1] - 1, tiles * K
    G[:] = 0
    for start in range(0, rows, _MASKED_ROWS):
        count = min(_MASKED_ROWS, rows - start)
        for j in range(tiles):
            x = place(X, (j * rows + start) * K)
            for g in range(block.start, block.stop):
                for v in range(VECTORS):
                    on = place(bits, (g * rows + start) * VECTORS + v)
                    out = ((g - block.start) * (U + 1) + j * K) * group + v * (group // VECTORS)
                    masked_product(K, x, on, place(r, start), count, place(G, out))
    for g in range(block.start, block.stop):
        i = g - block.start
        for k in range(d):
            for lane in range(group):
                slope = G[i, k, lane]
                G[i, U, lane] += theta[g, k, lane] * slope
                G[i, k, lane] = theta[g, d, lane] * slope


def _relu_rows(at, data, activity, residual, count, work):  # type: ignore[no-untyped-def]
    theta, g, start = at
    X, R, (_, d, rows) = data.X, residual.by_row, data.X.shape
    C, D, group = data.outputs, theta.shape[1], theta.shape[2]
    for t in range(start // rows, (start + count) // rows):
        z = place(work.Z, (t * rows - start) * group)
        s = place(work.S, (t * rows - start) * group)
        rectified(place(X, t * d * rows), place(theta, g * D * group), d, z)
        gated(place(R, t * C * rows), place(theta, (g * D + d) * group), C, z, s)


def _weigh_rows(at: Any, data: Any, activity: Any, residual: Any, count: Any, work: Any) -> None:
    """Z ← φ(u·x), S ← φ'(u·x) Σ_c r_c w_c of the group g for `count` rows from `start`, (theta, g, start) = at."""


@overload(_weigh_rows)
def _(at, data, activity, residual, count, work):  # type: ignore[no-untyped-def]
    return _relu_rows if activity.instance_class is Activity else any_rows


@register_jitable
def _multiply_rows(A: Any, start: Any, count: Any, values: Any, G: Any, first: Any) -> None:
    """G's rows from `first` (flat) on += Σ_i A_i values_i over the rows start … of A (tiles, rows, K)."""
    tiles, rows, K = A.shape
    group = values.shape[1]
    L = group // VECTORS
    for j in range(tiles):
        a, out = place(A, (j * rows + start) * K), (first + j * K) * group
        if K <= NARROW:
            narrow_product(K, a, place(values, 0), count, place(G, out))
        else:
            for v in range(VECTORS):
                dense_product(K, a, place(values, v * L), count, place(G, out + v * L))


@register_jitable
def gradient_many(block: Any, data: Any, activity: Any, residual: Any, work: Any) -> None:
    """G (groups, U + W, GROUP) ← ∇⟨r, Φ⟩, activations computed again; U, W = d, C padded to whole tiles."""
    (tiles, _, rows), (ju, _, K), (jw, _, Kc) = data.X.shape, residual.X.shape, residual.by_column.shape
    G, n, total = work.G, tiles * rows, ju * K + jw * Kc
    G[:] = 0
    for g in range(block.start, block.stop):
        first = (g - block.start) * total
        for start in range(0, n, _DENSE_ROWS):
            count = min(_DENSE_ROWS, n - start)
            _weigh_rows((block.theta, g, start), data, activity, residual, count, work)
            _multiply_rows(residual.X, start, count, work.S, G, first)
            _multiply_rows(residual.by_column, start, count, work.Z, G, first + ju * K)


def _relu_gradient(block, data, activity, residual, work):  # type: ignore[no-untyped-def]
    if data.outputs == 1:
        gradient_one(block, residual, activity.bits, work.G)
    else:
        gradient_many(block, data, activity, residual, work)


def _any_gradient(block, data, activity, residual, work):  # type: ignore[no-untyped-def]
    gradient_many(block, data, activity, residual, work)


def _gradient(block: Any, data: Any, activity: Any, residual: Any, work: Any) -> None:
    """work.G ← ∇⟨r, Φ⟩ of the block, by u and by ψ(w)."""


@overload(_gradient)
def _(block, data, activity, residual, work):  # type: ignore[no-untyped-def]
    return _relu_gradient if activity.instance_class is Activity else _any_gradient


@register_jitable
def _slope(block: Any, g: Any, data: Any, residual: Any, work: Any) -> Any:
    d = data.X.shape[1]
    return Slope(work.G[g - block.start], d, residual.X.shape[0] * residual.X.shape[2] - d)


@register_jitable
def _work(part: Any, data: Any, residual: Any) -> Any:
    theta = part.theta
    D, group, dtype = theta.shape[1], theta.shape[2], theta.dtype
    of_w = residual.by_column.shape[0] * residual.by_column.shape[2]
    return Work(
        np.empty((_DENSE_ROWS, group), dtype),
        np.empty((_DENSE_ROWS, group), dtype),
        np.empty((BLOCK // group, residual.X.shape[0] * residual.X.shape[2] + of_w, group), dtype),
        np.empty((4, group), np.uint32),
        np.empty((4, group), dtype),
        np.empty((1, D, group), dtype),
    )


def _plain_move(part, g, slope, moves, address, work):  # type: ignore[no-untyped-def]
    move_group(part, g, slope, moves, address, work)
    if moves.inputs.death > 0:
        rebear_group(part, g, np.float64(moves.inputs.death), address, work)


def _kinetic_move(part, g, slope, moves, address, work):  # type: ignore[no-untyped-def]
    kick_group(part, g, slope, moves, address, work)
    clear_tail(Part(moves.velocity, part.first, part.m), g)


def _move(part: Any, g: Any, slope: Any, moves: Any, address: Any, work: Any) -> None:
    """Move one group, by `Moves` or, with velocities, by `Kinetic`."""


@overload(_move)
def _(part, g, slope, moves, address, work):  # type: ignore[no-untyped-def]
    return _kinetic_move if moves.instance_class is Kinetic else _plain_move


@register_jitable
def _products(theta: Any, g: Any, slope: Any, activity: Any, work: Any) -> Any:
    """The parts ψ(w_c) ∂⟨r, Φ⟩/∂ψ(w_c) (C, GROUP), float64, of which ⟨r, Φ⟩ is the sum."""
    kept, d = work.points[0], slope.d
    kept[: theta.shape[1] - d] = theta[g, d:]
    read_out(theta, g, d, activity, kept, 0)
    products = np.empty((theta.shape[1] - d, theta.shape[2]))
    for c in range(products.shape[0]):
        for lane in range(products.shape[1]):
            products[c, lane] = np.float64(slope.G[d + c + slope.gap, lane]) * np.float64(kept[c, lane])
    return products


@register_jitable
def _observe_group(part: Any, g: Any, slope: Any, products: Any, penalty: Any, potential: Any, limbs: Any) -> None:
    """limbs[0] += Σ ‖∇L'‖² over the group, potential ← L' of each particle if there is room; `penalty` is λp."""
    theta, d = part.theta, slope.d
    group = min(theta.shape[2], part.m - g * theta.shape[2])
    square, value = np.zeros(group), np.zeros(group)
    of_u, of_w = np.empty(theta.shape[2]), np.empty(theta.shape[2])
    squares(theta, g, d, of_u, of_w)
    for lane in range(group):
        value[lane] = beyond(of_u[lane], of_w[lane], penalty)
        of_u[lane], of_w[lane] = slopes(of_u[lane], of_w[lane], penalty)
    for k in range(theta.shape[1]):
        layer, by = (penalty.inputs, of_u) if k < d else (penalty.outputs, of_w)
        for lane in range(group):
            t, s = np.float64(theta[g, k, lane]), np.float64(slope.G[k if k < d else k + slope.gap, lane])
            square[lane] += (s + by[lane] * t) ** 2
            value[lane] += (products[k - d, lane] if k >= d else 0.0) + layer * t * t
    for lane in range(group):
        _add_exactly(square[lane], 0, limbs)
        if g * theta.shape[2] + lane < potential.shape[0]:
            potential[g * theta.shape[2] + lane] = value[lane]


# ---------------------------------------------------------------------------------------------------------------------
# passes: each takes blocks by its ticket until none is left, and adds what it sums to its limbs


@compiled
def predict(part, data, activity, ticket, limbs):  # type: ignore[no-untyped-def]
    """Sums of the predictions, of ‖θ‖² and of p(θ), and the activation bits."""
    sums, Z = forward_buffers(part, data)
    block = _next_block(part, ticket)
    while block.start < block.stop:
        forward_block(block, data, activity, sums, Z)
        reduce_block(block, data, sums, limbs)
        add_penalty(block, data, limbs)
        block = _next_block(part, ticket)


@compiled
def advance(part, data, activity, residual, moves, address, ticket, limbs):  # type: ignore[no-untyped-def]
    """Move every particle under the residual, then as `predict` of the moved ones."""
    sums, Z = forward_buffers(part, data)
    work = _work(part, data, residual)
    block = _next_block(part, ticket)
    while block.start < block.stop:
        _gradient(block, data, activity, residual, work)
        for g in range(block.start, block.stop):
            slope = _slope(block, g, data, residual, work)
            chain(part.theta, g, slope, activity, work.points[0])
            _move(part, g, slope, moves, address, work)
            clear_tail(part, g)
        forward_block(block, data, activity, sums, Z)
        reduce_block(block, data, sums, limbs)
        add_penalty(block, data, limbs)
        block = _next_block(part, ticket)


@compiled
def observe(part, data, activity, residual, potential, ticket, limbs):  # type: ignore[no-untyped-def]
    """Σ ‖∇L'‖², and the potential of each particle for which there is room; `data.penalty` is λp."""
    work = _work(part, data, residual)
    block = _next_block(part, ticket)
    while block.start < block.stop:
        _gradient(block, data, activity, residual, work)
        for g in range(block.start, block.stop):
            slope = _slope(block, g, data, residual, work)
            products = _products(part.theta, g, slope, activity, work)
            chain(part.theta, g, slope, activity, work.points[0])
            _observe_group(part, g, slope, products, data.penalty, potential, limbs)
        block = _next_block(part, ticket)


@compiled
def draw(part, normalize, scale, seed, ticket, limbs):  # type: ignore[no-untyped-def]
    """Initial places: normals times `scale`, or, normalized, uniform on the sphere of that radius."""
    theta = part.theta
    D, group = theta.shape[1], theta.shape[2]
    words, z = np.empty((4, group), np.uint32), np.empty((4, group), theta.dtype)
    each, purpose = noise.per_block(z), noise.Purpose.INITIAL.value
    block = _next_block(part, ticket)
    while block.start < block.stop:
        for g in range(block.start, block.stop):
            for q in range(-(-D // each)):
                noise.words(seed, purpose, 0, part.first + g * group, q, words)
                noise.from_words(words, z)
                for j in range(min(each, D - q * each)):
                    for lane in range(group):
                        theta[g, q * each + j, lane] = scale * z[j, lane]
            if normalize:
                project(theta, g, scale)
            clear_tail(part, g)
        block = _next_block(part, ticket)
