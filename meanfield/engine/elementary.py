"""Functions of a number that activations are made of, in its own precision: the same bits on every machine.

As in exact_math only IEEE operations, in an order that is written down. A loop over these functions vectorizes, for
which they are inlined wherever they are called, and choose without branching. Errors are the largest that was met
against mpmath, on the points of tests/engine/test_elementary.py, in units in the last place of the result in either
precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from ..runtime.arithmetic import fma
from .exact_math import _LN2_HIGH, _LN2_LOW, _LOG2_E

_MANTISSA = {32: 23, 64: 52}
_INTEGER = {32: ir.IntType(32), 64: ir.IntType(64)}
_ONE = {32: 0x3F800000, 64: 0x3FF0000000000000}


@intrinsic
def like(typingctx, x, value):  # type: ignore[no-untyped-def]
    """A number in the precision of x."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return context.cast(builder, args[1], signature.args[1], signature.args[0])

    return x(x, value), generate


@intrinsic
def _fused(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a·b + c rounded once, in the precision of a."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fma(*args)

    return a(a, a, a), generate


@intrinsic
def _signed(typingctx, size, z):  # type: ignore[no-untyped-def]
    """`size` with the sign of z."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(args[0].type, [args[0].type] * 2)
        return builder.call(builder.module.declare_intrinsic("llvm.copysign", [args[0].type], kind), args)

    return size(size, size), generate


@intrinsic
def _either(typingctx, condition, a, b):  # type: ignore[no-untyped-def]
    """a if the condition holds, else b, both computed: a branch would keep a loop from vectorizing."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.select(builder.trunc(args[0], ir.IntType(1)) if args[0].type.width > 1 else args[0], *args[1:])

    return a(types.boolean, a, a), generate


@intrinsic
def _power_of_two(typingctx, shifted):  # type: ignore[no-untyped-def]
    """2ᵏ, where `shifted` is the whole number k plus 1.5 times 2 to the number of digits of the precision."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        width = signature.args[0].bitwidth
        bits = builder.bitcast(args[0], _INTEGER[width])
        exponent = builder.shl(bits, _INTEGER[width](_MANTISSA[width]))
        return builder.bitcast(builder.add(exponent, _INTEGER[width](_ONE[width])), args[0].type)

    return shifted(shifted), generate


def _by_precision(double: Any, single: Any) -> Any:
    """A compiled function of x: the constant `double`, or `single` where x is float32."""

    @intrinsic
    def value(typingctx, x):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return ir.Constant(args[0].type, float(single if signature.args[0].bitwidth == 32 else double))

        return x(x), generate

    return value


def _polynomial(double: Sequence[float], single: Sequence[float] | None = None) -> Any:
    """The polynomial with these coefficients, the highest power first, as a compiled function: a chain of fma."""

    @intrinsic
    def value(typingctx, x):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            chosen = single if single and signature.args[0].bitwidth == 32 else double
            constants = [ir.Constant(args[0].type, float(np.float32(c) if single is chosen else c)) for c in chosen]
            return functools.reduce(lambda sum, next: builder.fma(sum, args[0], next), constants)

        return x(x), generate

    return value


_LN2 = _LN2_HIGH + _LN2_LOW
_ln2_high = _by_precision(_LN2, np.float32(_LN2))
_ln2_low = _by_precision((_LN2_HIGH - _LN2) + _LN2_LOW, (_LN2_HIGH - float(np.float32(_LN2))) + _LN2_LOW)
_whole = _by_precision(1.5 * 2.0**52, 1.5 * 2.0**23)
_most = _by_precision(700.0, 80.0)  # e to the minus of it is a normal number
_expm1_rest = _polynomial(  # (eʳ − 1 − r)/r²
    [1 / math.factorial(k) for k in range(14, 1, -1)], [1 / math.factorial(k) for k in range(8, 1, -1)]
)
_artanh_rest = _polynomial(  # of s²: ((artanh s)/s − 1)/s²
    [1 / (2 * k + 1) for k in range(17, 0, -1)], [1 / (2 * k + 1) for k in range(8, 0, -1)]
)


def _taylor_of_erf(terms: int) -> list[float]:
    """(erf x)/x in powers of x²."""
    return [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(terms, -1, -1)]


_erf_rest = _polynomial(_taylor_of_erf(20), _taylor_of_erf(11))
# erfc(x) e^{x²} at t = (x − 3)/(x + 3): interpolates at the sixteen Chebyshev points of 0.9 ≤ x ≤ 6.2
_erfc_rest = _polynomial(
    [
        float.fromhex("0x1.4d158a27b4eb3p-25"),
        float.fromhex("0x1.5e764403bd3dep-20"),
        float.fromhex("0x1.0c37ad4383e75p-19"),
        float.fromhex("-0x1.0d5961a588195p-17"),
        float.fromhex("-0x1.aefc752f3dc67p-17"),
        float.fromhex("0x1.0cb6e638bf41ep-14"),
        float.fromhex("0x1.7b9f4026740c8p-15"),
        float.fromhex("-0x1.39086c4fa1a3bp-11"),
        float.fromhex("0x1.73101e794282bp-11"),
        float.fromhex("0x1.17c8391f04b21p-8"),
        float.fromhex("-0x1.8fa58eb581241p-6"),
        float.fromhex("0x1.258b13b005f87p-4"),
        float.fromhex("-0x1.336ffbef08f9bp-3"),
        float.fromhex("0x1.f6ff204105ab0p-3"),
        float.fromhex("-0x1.4e102b9cf8510p-2"),
        float.fromhex("0x1.6e9827d229d2cp-3"),
    ]
)
_PI_2_HIGH, _PI_2_LOW = math.pi / 2, float.fromhex("0x1.1a62633145c07p-54")
_sin_rest = _polynomial([(-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1)])  # of y²: ((sin y)/y − 1)/y²
_cos_rest = _polynomial([(-1) ** k / math.factorial(2 * k) for k in range(8, 1, -1)])  # of y²: (cos y − 1 + y²/2)/y⁴


@register_jitable(forceinline=True)
def _powers(y: Any) -> Any:
    """(2ᵏ, eʳ − 1), y = k log 2 + r with |r| ≤ log(2)/2."""
    shifted = _fused(y, like(y, _LOG2_E), _whole(y))
    k = shifted - _whole(y)
    r = _fused(-k, _ln2_low(y), _fused(-k, _ln2_high(y), y))
    return _power_of_two(shifted), _fused(r * r, _expm1_rest(r), r)


@register_jitable(forceinline=True)
def decay_one(y: Any) -> Any:
    """e^{−y} for y ≥ 0, where y is held below 80 in float32 and 700 in float64."""
    power, rest = _powers(-_either(y > _most(y), _most(y), y))
    return _fused(power, rest, power)


@register_jitable(forceinline=True)
def _growth(z: Any) -> Any:
    """e^{2|z|} − 1, with |z| held below 22, where tanh is 1 to the last bit."""
    y = abs(z) * like(z, 2.0)
    power, rest = _powers(_either(y > like(z, 44.0), like(z, 44.0), y))
    return _fused(power, rest, power - like(z, 1.0))


@register_jitable(forceinline=True)
def tanh_one(z: Any) -> Any:
    """tanh z, odd to the last bit; 1.9 ulp."""
    t = _growth(z)
    return _signed(t * (like(z, 1.0) / (t + like(z, 2.0))), z)


@register_jitable(forceinline=True)
def tanh_slope_one(z: Any) -> Any:
    """1 − tanh² z = 4 (q − q²), q = 1/(e^{2|z|} + 1); 2.0 ulp where |z| < 22."""
    t = _growth(z)
    q = like(z, 1.0) / (t + like(z, 2.0))
    return like(z, 4.0) * _fused(-q, q, q)


@register_jitable(forceinline=True)
def logistic_one(z: Any) -> Any:
    """1/(1 + e⁻ᶻ); 2.4 ulp."""
    q = decay_one(abs(z))
    share = like(z, 1.0) / (like(z, 1.0) + q)
    return _either(z > like(z, 0.0), share, q * share)


@register_jitable(forceinline=True)
def softplus_one(z: Any) -> Any:
    """log(1 + eᶻ) = max(z, 0) + 2 artanh(q/(2 + q)), q = e^{−|z|}; 2.1 ulp."""
    q = decay_one(abs(z))
    s = q / (like(z, 2.0) + q)
    square = s * s
    above = _either(z > like(z, 0.0), z, like(z, 0.0))
    return above + like(z, 2.0) * _fused(s * square, _artanh_rest(square), s)


@register_jitable(forceinline=True)
def _erfc_outside(x: Any, decay: Any) -> Any:
    """erfc x for 0.9 ≤ x ≤ 6.2, with decay = e^{−x²}."""
    return decay * _erfc_rest((x - like(x, 3.0)) / (x + like(x, 3.0)))


@register_jitable(forceinline=True)
def _erf_parts(x: Any) -> Any:
    """(erf, erfc) of x ≥ 0; erfc is held at 6.2, where it is 2e-18."""
    one, end = like(x, 1.0), like(x, 6.2)
    near, far = _either(x > one, one, x), _either(x > end, end, _either(x < one, one, x))
    square = far * far
    decay = decay_one(square) * (one - _fused(far, far, -square))
    outside, inside = _erfc_outside(far, decay), near * _erf_rest(near * near)
    erf, erfc = _either(x > one, one - outside, inside), _either(x > one, outside, one - inside)
    return erf, erfc


@register_jitable(forceinline=True)
def erf_one(z: Any) -> Any:
    """erf z, odd to the last bit; 2.0 ulp."""
    erf, _ = _erf_parts(abs(z))
    return _signed(erf, z)


@register_jitable(forceinline=True)
def normal_share_one(z: Any) -> Any:
    """The standard normal distribution function; 2 ulp of 1."""
    _, erfc = _erf_parts(abs(z) * like(z, math.sqrt(0.5)))
    above = like(z, 0.5) * erfc
    return _either(z > like(z, 0.0), like(z, 1.0) - above, above)


@register_jitable(forceinline=True)
def sine_one(z: Any, quarters: Any) -> Any:
    """sin(z + quarters·π/2) for a whole number of quarters and |z| < 10⁵, in float64; 1.5 ulp."""
    x = np.float64(z)
    shifted = fma(x, 2 / math.pi, 1.5 * 2.0**52)
    k = shifted - 1.5 * 2.0**52
    y = fma(-k, _PI_2_LOW, fma(-k, _PI_2_HIGH, x))
    square = y * y
    sine = fma(y * square, _sin_rest(square), y)
    cosine = fma(square * square, _cos_rest(square), 1.0 - 0.5 * square)
    turn = k + quarters
    turn -= 4.0 * math.floor(0.25 * turn)
    value = sine if turn == 0.0 or turn == 2.0 else cosine
    return -value if turn >= 2.0 else value
