"""Random numbers by address: a pure function of (seed, purpose, step, particle, component), and of nothing else.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): a keyed
bijection of 128-bit counters. The key is the seed (64 bits); the counter is laid out as

    word 0   particle, low 32 bits
    word 1   particle, next 16 bits | step, high 16 bits
    word 2   step, low 32 bits
    word 3   purpose (8 bits)       | block of components (24 bits)

One counter gives four 32-bit words: four float32 normals (components 4q … 4q + 3 of block q) or two float64 ones.
Normals are Box and Muller's, with polynomial log, sin and cos so that the loops vectorize; loops run over a group of
neighbouring particles.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numba.extending import overload, register_jitable

from ..runtime.compiling import compiled
from .exact_math import cospi_one, exp_one, log_one


class Purpose(enum.IntEnum):
    """Every stream of noise has a name; a number is never reused for another purpose."""

    INITIAL = 1  # initial law of the particles
    LANGEVIN = 2  # Gaussian noise of the Langevin step
    DEATH = 3  # who dies in the perturbed flow
    REBIRTH = 4  # where it is reborn
    EXCHANGE = 5  # birth–death
    BATCH = 6  # which examples a minibatch holds
    SUBSET = 7  # which particles a snapshot keeps
    SEARCH = 8  # where the search for a peak of ‖G‖ begins
    DATA = 9  # inputs and units of a generated data set
    BIRTH = 10  # where a newborn particle climbs from
    KINETIC = 11  # Gaussian noise of the velocities
    LABELS = 12  # noise on the targets of a step
    TAIL = 13  # how far a particle's normals are stretched to heavy tails


_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@register_jitable
def _round(c0: Any, c1: Any, c2: Any, c3: Any, seed: Any, r: int) -> Any:
    """One round of Philox4x32 on words held in uint64 (a 32 × 32 → 64-bit product is then one instruction)."""
    k0 = (seed + np.uint64(r * _W0)) & _LOW
    k1 = ((seed >> _32) + np.uint64(r * _W1)) & _LOW
    a, b = _M0 * (c0 & _LOW), _M1 * (c2 & _LOW)
    return (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW


@register_jitable
def words(seed: Any, purpose: Any, step: Any, first: Any, block: Any, out: Any) -> None:
    """Fill out (4, count) uint32 with the words of the particles first, first + 1, …"""
    step_low, step_high = np.uint64(step) & _LOW, (np.uint64(step) >> _32) << np.uint64(16)
    what = (np.uint64(purpose) << np.uint64(24)) | np.uint64(block)
    for i in range(out.shape[1]):
        particle = np.uint64(first) + np.uint64(i)
        # written out, since the compiler vectorizes over particles only what has no inner loop
        c0, c1, c2, c3 = _round(particle & _LOW, (particle >> _32) | step_high, step_low, what, seed, 0)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 1)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 2)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 3)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 4)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 5)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 6)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 7)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 8)
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, seed, 9)
        out[0, i], out[1, i], out[2, i], out[3, i] = c0, c1, c2, c3


_TWO_LOG2 = np.float32(1.3862944)


@register_jitable
def _box_muller32(a: Any, b: Any) -> Any:
    """Two float32 normals of two uint32 words; |z| ≤ 6.7. The polynomials are Chebyshev fits, good to 1e-7."""
    # radius² = −2 log u with u = (a + 1) 2⁻³² = 2^(e − 32) (1 + f), 1 + f in [2/3, 4/3)
    x = np.float32(a) + np.float32(1)
    bits = np.float32(x).view(np.int32)
    e = np.int32((bits - np.int32(0x3F2AAAAB)) >> np.int32(23))
    f = np.int32(bits - np.int32(e << np.int32(23))).view(np.float32) - np.float32(1)
    s = f / (np.float32(2) + f)  # log(1 + f) = 2 artanh s
    z = s * s
    p = np.float32(0.28532654) + z * np.float32(0.23748887)
    p = np.float32(0.66666666) + z * (np.float32(0.40000313) + z * p)
    log = np.float32(2) * s + s * z * p
    square = np.float32(-2) * log - _TWO_LOG2 * np.float32(e - np.int32(32))
    radius = np.sqrt(max(square, np.float32(0)))
    # angle = π b / 2³¹, b as a signed word: quadrant q, rest t in [−π/4, π/4)
    turn = np.int32(b)
    q = np.int32(np.int32(turn + np.int32(1 << 29)) >> np.int32(30))
    t = np.float32(np.int32(turn - np.int32(q << np.int32(30)))) * np.float32(np.pi / 2**31)
    t2 = t * t
    sin = t + t * t2 * (np.float32(-0.16666665) + t2 * (np.float32(0.00833275) + t2 * np.float32(-0.00019588)))
    cos = np.float32(0.0416666506) + t2 * (np.float32(-0.0013887589) + t2 * np.float32(2.44637834e-05))
    cos = np.float32(1) + t2 * (np.float32(-0.5) + t2 * cos)
    return _turned(radius, sin, cos, q)


@register_jitable
def _turned(radius: Any, sin: Any, cos: Any, q: Any) -> Any:
    """(radius cos, radius sin) of an angle q quarter turns further."""
    swap, back, down = q & 1, (q + 1) & 2, q & 2
    c = sin if swap else cos
    s = cos if swap else sin
    return radius * (-c if back else c), radius * (-s if down else s)


@register_jitable
def _box_muller64(a0: Any, a1: Any, b0: Any, b1: Any) -> Any:
    """Two float64 normals of four uint32 words; |z| ≤ 8.6."""
    # log by artanh to s²³ on f in [2/3, 4/3): |s| ≤ 1/5, truncation below 1e-17
    u = (np.float64(a0) * 2097152.0 + np.float64(a1 >> np.uint32(11)) + 1.0) * 2.0**-53
    bits = np.float64(u).view(np.int64)
    e = (bits - np.int64(0x3FE5555555555555)) >> np.int64(52)
    f = np.int64(bits - (e << np.int64(52))).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = 2.0 / 23
    for odd in (21, 19, 17, 15, 13, 11, 9, 7, 5, 3):
        p = p * z + 2.0 / odd
    log = 2.0 * s + s * z * p + np.float64(e) * 0.6931471805599453
    radius = np.sqrt(max(-2.0 * log, 0.0))
    # the angle's first word decides the quadrant, both the place in it
    turn = np.int32(b0)
    q = np.int32(np.int32(turn + np.int32(1 << 29)) >> np.int32(30))
    rest = np.float64(np.int32(turn - np.int32(q << np.int32(30)))) + np.float64(b1) * 2.0**-32
    t = rest * (np.pi / 2**31)
    t2 = t * t
    sin, cos = 1.0, 1.0  # Taylor to t¹⁷ and t¹⁶: |t| ≤ π/4, truncation below 1e-17
    for k in (16, 14, 12, 10, 8, 6, 4, 2):
        sin = 1.0 - t2 * sin / (k * (k + 1))
        cos = 1.0 - t2 * cos / (k * (k - 1))
    sin *= t
    return _turned(radius, sin, cos, q)


def per_block(out: np.ndarray) -> int:
    """How many normals of the dtype of `out` one counter gives."""
    return 16 // out.dtype.itemsize


@overload(per_block)
def _per_block(out):  # type: ignore[no-untyped-def]
    count = 128 // out.dtype.bitwidth
    return lambda out: count


def from_words(w: np.ndarray, out: np.ndarray) -> None:
    """Normals out (4 or 2, count), float32 or float64, of words w (4, count) uint32."""
    raise NotImplementedError("only compiled")


@overload(from_words)
def _from_words(w, out):  # type: ignore[no-untyped-def]
    def single(w, out):  # type: ignore[no-untyped-def]
        for i in range(w.shape[1]):
            out[0, i], out[1, i] = _box_muller32(w[0, i], w[1, i])
        for i in range(w.shape[1]):
            out[2, i], out[3, i] = _box_muller32(w[2, i], w[3, i])

    def double(w, out):  # type: ignore[no-untyped-def]
        for i in range(w.shape[1]):
            out[0, i], out[1, i] = _box_muller64(w[0, i], w[1, i], w[2, i], w[3, i])

    return single if out.dtype.bitwidth == 32 else double


@register_jitable
def _log_sinpi(x: Any) -> Any:
    return log_one(cospi_one(x - 0.5))


@register_jitable
def stretch(w: Any, tail: Any, out: Any) -> None:
    """out (count,) ← √A of words w (4, count), A positive and (α/2)-stable: E e^{−sA} = e^{−s^{α/2}}, α = `tail` < 2.

    √(2A) times normals that share it are α-stable alike in all directions, E e^{it·x} = e^{−‖t‖^α}. Chambers, Mallows,
    Stuck 1976, for a totally skewed law: with a = α/2, U uniform on (0, π) and E exponential,

        A = sin(aU) / sin(U)^{1/a} · (sin((1 − a)U) / E)^{(1 − a)/a}
    """
    a = 0.5 * tail
    for i in range(w.shape[1]):
        first = (np.uint64(w[0, i]) << np.uint64(21)) | (np.uint64(w[1, i]) >> np.uint64(11))
        second = (np.uint64(w[2, i]) << np.uint64(21)) | (np.uint64(w[3, i]) >> np.uint64(11))
        turn, log = (np.float64(first) + 0.5) * 2.0**-53, -log_one((np.float64(second) + 0.5) * 2.0**-53)
        rest = _log_sinpi((1 - a) * turn) - log_one(log)
        out[i] = exp_one(0.5 * (_log_sinpi(a * turn) + ((1 - a) * rest - _log_sinpi(turn)) / a))


_COUNT = 64


@compiled
def _fill_normals(seed, purpose, step, first, out):  # type: ignore[no-untyped-def]
    w, z = np.empty((4, _COUNT), np.uint32), np.empty((4, _COUNT), out.dtype)
    each = per_block(out)
    for start in range(0, out.shape[0], _COUNT):
        count = min(_COUNT, out.shape[0] - start)
        for block in range(-(-out.shape[1] // each)):
            words(seed, purpose, step, first + start, block, w)
            from_words(w, z)
            for j in range(min(each, out.shape[1] - block * each)):
                for i in range(count):
                    out[start + i, block * each + j] = z[j, i]


@compiled
def _fill_words(seed, purpose, step, first, block, out):  # type: ignore[no-untyped-def]
    words(seed, purpose, step, first, block, out)


def normals(
    seed: int, purpose: int, step: int, count: int, components: int, *, first: int = 0, dtype: Any = "float32"
) -> np.ndarray:
    """Standard normals (count, components) of the particles first … first + count − 1, as the engine draws them."""
    out = np.empty((count, components), dtype)
    _fill_normals(np.uint64(seed), np.uint64(purpose), np.uint64(step), np.uint64(first), out)
    return out


def uniforms(seed: int, purpose: int, step: int, count: int, *, first: int = 0, block: int = 0) -> np.ndarray:
    """Uniform float64 numbers (count,) in [0, 1), multiples of 2⁻⁵³, one for each particle."""
    w = raw(seed, purpose, step, count, first=first, block=block).astype(np.uint64)
    return ((w[0] << np.uint64(21)) | (w[1] >> np.uint64(11))).astype(np.float64) * 2.0**-53


def raw(seed: int, purpose: int, step: int, count: int, *, first: int = 0, block: int = 0) -> np.ndarray:
    """The generator's words (4, count) uint32 at these addresses."""
    out = np.empty((4, count), np.uint32)
    _fill_words(np.uint64(seed), np.uint64(purpose), np.uint64(step), np.uint64(first), np.uint64(block), out)
    return out
