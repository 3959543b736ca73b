"""Arithmetic with the same bits on every machine: what a run's state and trace are made of.

Only IEEE operations (+ − × ÷ √, fma, conversion, comparison) in an order that is written down here, compiled without
leave to reorder: no libm, no BLAS, no reduction of NumPy's, each of which depends on version and processor. What NumPy
does to single elements with those operations is exact too, and is used as it is.

Every function takes a float or a float64 array of any shape, and returns the like. Errors are the largest that was met
against mpmath at 60 digits, on the points of tests/engine/test_exact_math.py, in units in the last place of the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled

# log 2 in two parts, the first with 32 bits, so that its product with an exponent is exact
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_PI_HIGH, _PI_LOW = math.pi, float.fromhex("0x1.1a62633145c07p-53")
_WHOLE = 1.5 * 2.0**52  # added to a number below 2⁵¹, its last bits are the nearest integer
_WHOLE_BITS = int(np.float64(_WHOLE).view(np.int64))
_BLOCK = 1 << 20  # numbers of a matrix that are squared at a time
_ROOT_HALF = int(np.float64(math.sqrt(0.5)).view(np.int64))
# ---------------------------------------------------------------------------------------------------------------------
# functions of a number


@intrinsic
def _as_integer(typingctx, x):  # type: ignore[no-untyped-def]
    """The 64 bits of a float64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def _as_float(typingctx, k):  # type: ignore[no-untyped-def]
    """The float64 with these 64 bits."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@register_jitable
def _power_of_two(k: Any) -> Any:
    """2ᵏ for −1023 < k < 1024."""
    return _as_float((k + 1023) << 52)


def _polynomial(coefficients: Iterable[float]) -> Any:
    """The polynomial with these coefficients, the highest power first, as a compiled function: a chain of fma."""
    numbers = tuple(coefficients)

    @intrinsic
    def value(typingctx, x):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            constants = [ir.Constant(ir.DoubleType(), number) for number in numbers]
            return functools.reduce(lambda sum, next: builder.fma(sum, args[0], next), constants)

        return types.float64(types.float64), generate

    return value


_exp_rest = _polynomial(1 / math.factorial(k) for k in range(14, 2, -1))  # (eʳ − 1 − r − r²/2)/r³
_artanh_rest = _polynomial(2 / (2 * k + 1) for k in range(11, 0, -1))  # of s²: ((2 artanh s)/s − 2)/s²
_sin_rest = _polynomial((-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1))  # of t²: ((sin t)/t − 1)/t²
_cos_rest = _polynomial((-1) ** k / math.factorial(2 * k) for k in range(8, 1, -1))  # of t²: (cos t − 1 + t²/2)/t⁴


@register_jitable
def _two_sum(a: Any, b: Any) -> Any:
    """(s, e): s the rounded sum and s + e = a + b (Knuth)."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


@register_jitable
def _reduced(x: Any) -> Any:
    """(k, r, h, e): x = k log 2 + r + low, |r| ≤ log(2)/2, and r + h + e = eʳ⁺ˡᵒʷ − 1 with h = r²/2 rounded."""
    shifted = fma(x, _LOG2_E, _WHOLE)
    k = shifted - _WHOLE
    high, low = x - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    h = 0.5 * r * r
    rest = ((high - r) - low) + fma(0.5 * r, r, -h)
    return _as_integer(shifted) - _WHOLE_BITS, r, h, fma(r * r * r, _exp_rest(r), rest)


@register_jitable
def exp_one(x: Any) -> Any:
    z = 710.0 if x > 710.0 else (-746.0 if x < -746.0 else x)
    k, r, h, e = _reduced(z)
    s, lost = _two_sum(r, h)
    y, last = _two_sum(1.0, s)
    y += last + (lost + e)
    half = k >> 1
    return (y * _power_of_two(half)) * _power_of_two(k - half)


@register_jitable
def expm1_one(x: Any) -> Any:
    z = 40.0 if x > 40.0 else (-40.0 if x < -40.0 else x)
    k, r, h, e = _reduced(z)
    s, lost = _two_sum(r, h)
    scale = _power_of_two(k)
    whole, less = _two_sum(scale, -1.0)
    value, last = _two_sum(whole, scale * s)
    value += last + (less + scale * (lost + e))
    if x > 40.0:
        value = exp_one(x)
    return x if abs(x) < 2.0**-54 else value


@register_jitable
def _split_log(e: Any, f: Any, correction: Any) -> Any:
    """e log 2 + log(1 + f) + correction for √½ − 1 ≤ f < √2 − 1."""
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    high = f - half
    low = (f - high) - half - fma(0.5 * f, f, -half) + s * (half + z * _artanh_rest(z))
    total, lost = _two_sum(e * _LN2_HIGH, high)
    return total + (lost + (low + (e * _LN2_LOW + correction)))


@register_jitable
def _exponent(x: Any) -> Any:
    """(e, m): x = 2ᵉ m with √½ ≤ m < √2, for normal x > 0."""
    bits = _as_integer(x)
    e = (bits - _ROOT_HALF) >> 52
    return e, _as_float(bits - (e << 52))


@register_jitable
def log_one(x: Any) -> Any:
    small = x < 2.0**-1022
    e, m = _exponent(x * 2.0**54 if small else x)
    value = _split_log(np.float64(e - (54 if small else 0)), m - 1.0, 0.0)
    if x == 0.0:
        value = -np.inf
    if x < 0.0:
        value = np.nan
    return value if x < np.inf else x


@register_jitable
def log1p_one(x: Any) -> Any:
    u = 1.0 + x
    e, m = _exponent(u)
    lost = x - (u - 1.0) if x < 1.0 else 1.0 - (u - x)
    value = _split_log(np.float64(e), x if e == 0 else m - 1.0, 0.0 if e == 0 else lost / u)
    if x == -1.0:
        value = -np.inf
    if x < -1.0:
        value = np.nan
    return value if abs(x) >= 2.0**-54 and x < np.inf else x


@register_jitable
def cospi_one(x: Any) -> Any:
    shifted = 2.0 * x + _WHOLE
    quarter, y = _as_integer(shifted) & 3, x - 0.5 * (shifted - _WHOLE)
    t = y * _PI_HIGH
    low = fma(y, _PI_HIGH, -t) + y * _PI_LOW
    t2 = t * t
    down = 1.0 - 0.5 * t2
    sine = t + fma(t * t2, _sin_rest(t2), low * down)
    rest = fma(t2 * t2, _cos_rest(t2), -t * low)
    cosine = down + (((1.0 - down) - 0.5 * t2) + rest - 0.5 * fma(t, t, -t2))
    value = sine if quarter & 1 else cosine
    return -value if quarter == 1 or quarter == 2 else value


@compiled
def _exp(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = exp_one(x[i])


@compiled
def _expm1(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = expm1_one(x[i])


@compiled
def _log(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = log_one(x[i])


@compiled
def _log1p(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = log1p_one(x[i])


@compiled
def _cospi(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = cospi_one(x[i])


def plain(x: Any) -> np.ndarray:
    """As float64, contiguous and writable: one type for the compiler."""
    x = np.asarray(x, dtype=np.float64, order="C")
    return x if x.flags.writeable else x.copy()


def _each(loop: Any, x: Any) -> Any:
    values = plain(x)
    out = np.empty_like(values)
    loop(values.reshape(-1), out.reshape(-1))
    return out if isinstance(x, np.ndarray) else float(out)


def exp(x: Any) -> Any:
    """eˣ; 0.58 ulp, 0.76 where the result is subnormal."""
    return _each(_exp, x)


def expm1(x: Any) -> Any:
    """eˣ − 1; 0.78 ulp."""
    return _each(_expm1, x)


def log(x: Any) -> Any:
    """log x; 0.58 ulp. −inf at 0, NaN below."""
    return _each(_log, x)


def log1p(x: Any) -> Any:
    """log(1 + x); 0.61 ulp. −inf at −1, NaN below."""
    return _each(_log1p, x)


def cospi(x: Any) -> Any:
    """cos πx for |x| < 2⁵⁰; 0.75 ulp."""
    return _each(_cospi, x)


# ---------------------------------------------------------------------------------------------------------------------
# sums


@compiled
def _row_sums(A, out):  # type: ignore[no-untyped-def]
    """Eight sums side by side, each with what its roundings lost (Neumaier), then those eight in turn."""
    s, lost = np.empty(8), np.empty(8)
    rows, columns = A.shape
    for i in range(rows):
        s[:] = 0.0
        lost[:] = 0.0
        for first in range(0, columns - 7, 8):
            for k in range(8):
                s[k], e = _two_sum(s[k], A[i, first + k])
                lost[k] += e
        for j in range(columns - columns % 8, columns):
            s[j % 8], e = _two_sum(s[j % 8], A[i, j])
            lost[j % 8] += e
        value, left = s[0], lost[0]
        for k in range(1, 8):
            value, e = _two_sum(value, s[k])
            left += e + lost[k]
        out[i] = value + left if np.isfinite(left) else value


def row_sums(A: Any) -> np.ndarray:
    """Σ_j A_ij (n,) of A (n, k): within a few roundings of the exact sum, in a fixed order."""
    A = plain(A)
    out = np.empty(len(A))
    _row_sums(A, out)
    return out


def column_sums(A: Any) -> np.ndarray:
    """Σ_i A_ij (k,) of A (n, k), as `row_sums`."""
    return row_sums(np.asarray(A).T)


def total(x: Any) -> float:
    """The sum of all elements, as `row_sums`."""
    return float(row_sums(plain(x).reshape(1, -1))[0])


def mean(x: Any) -> float:
    """The mean of all elements."""
    return total(x) / np.size(x)


def row_norms(A: Any) -> np.ndarray:
    """‖A_i‖ (n,) of the rows of A (n, k); squares must not leave the range of float64."""
    A = np.asarray(A)
    out, rows = np.empty(len(A)), max(1, _BLOCK // max(A.shape[1], 1))
    for first in range(0, len(A), rows):
        block = plain(A[first : first + rows])
        out[first : first + rows] = np.sqrt(row_sums(block * block))
    return out


def norm(x: Any) -> float:
    """(Σ x²)^½ over all elements."""
    x = plain(x)
    return math.sqrt(total(x * x))
