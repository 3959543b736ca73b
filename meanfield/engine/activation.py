"""An activation φ and its derivative as machine code, which the passes call on a tile of numbers at a time.

The passes are compiled once for all activations: they take addresses (`Rule`), and only a loop over numbers is
compiled for each φ.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from .microkernels import dots, place, readout

_I64 = ir.IntType(64)


Pair = tuple[Callable[[float], float], Callable[[float], float]]  # a function of a number and its derivative


class Rule(NamedTuple):
    """Addresses of two loops: z ← φ(z), and s ← s φ'(z) together with z ← φ(z); then those of ψ, 0 where ψ(w) = w."""

    value: np.int64
    both: np.int64
    of_w: np.int64
    both_of_w: np.int64


class Activation:
    """φ and φ', each a function of one number that numba compiles; the loops over them are made when first needed.

    Of a neuron ψ(w) φ(u·x) also the `output`, ψ and ψ'. What is pickled is the functions alone.
    """

    def __init__(
        self, value: Callable[[float], float], slope: Callable[[float], float], output: Pair | None = None
    ) -> None:
        self.value, self.slope = value, slope
        self.output = Activation(*output) if output else None
        self._loops: dict[np.dtype, tuple[Any, Any]] = {}

    @property
    def pair(self) -> Pair:
        """φ and φ'."""
        return self.value, self.slope

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loops": {}}

    def rule(self, dtype: Any) -> Rule:
        """The loops for numbers of this dtype, which live as long as this object. NumbaError: they do not compile."""
        dtype = np.dtype(dtype)
        if dtype not in self._loops:
            made = _loops(_compilable(self.value), _compilable(self.slope), numba.from_dtype(dtype))
            self._loops.setdefault(dtype, made)  # another thread's may be in use already
        value, both = self._loops[dtype]
        outer = self.output.rule(dtype)[:2] if self.output else (np.int64(0), np.int64(0))
        return Rule(np.int64(value.address), np.int64(both.address), *outer)

    def at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(φ(z), φ'(z)) of contiguous z, as the passes compute them."""
        value, slope = np.array(z), np.ones_like(z)
        self.rule(z.dtype)
        both = self._loops[z.dtype][1].ctypes
        both(*(ctypes.cast(one.ctypes.data, both.argtypes[0]) for one in (value, slope)), z.size)
        return value, slope


def _compilable(function: Any) -> Any:
    """A function as compiled code calls it: Python ones are compiled, those of numba's are as they are."""
    return (
        numba.njit(error_model="numpy", forceinline=True)(function) if type(function) is type(_compilable) else function
    )


def _loops(phi: Any, slope: Any, number: Any) -> tuple[Any, Any]:
    """The two loops of `Rule`, as C functions of (numbers, [factors,] how many)."""
    pointer = types.CPointer(number)  # type: ignore[attr-defined]

    def value(z, count):  # type: ignore[no-untyped-def]
        values = numba.carray(z, (count,))
        for i in range(count):
            values[i] = phi(values[i])

    def both(z, s, count):  # type: ignore[no-untyped-def]
        values, factors = numba.carray(z, (count,)), numba.carray(s, (count,))
        for i in range(count):
            one = values[i]
            factors[i] *= slope(one)
            values[i] = phi(one)

    make = {"error_model": "numpy"}
    return (
        numba.cfunc(types.void(pointer, types.int64), **make)(value),
        numba.cfunc(types.void(pointer, pointer, types.int64), **make)(both),
    )


def _call(builder: Any, address: Any, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


@intrinsic
def activate(typingctx, address, z, count):  # type: ignore[no-untyped-def]
    """z ← φ(z) for `count` numbers."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _call(builder, *args)
        return context.get_dummy_value()

    return types.void(types.int64, z, types.int64), generate


@intrinsic
def activate_both(typingctx, address, z, s, count):  # type: ignore[no-untyped-def]
    """s ← s φ'(z), z ← φ(z) for `count` numbers."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _call(builder, *args)
        return context.get_dummy_value()

    return types.void(types.int64, z, s, types.int64), generate


@register_jitable
def read_out(theta: Any, g: Any, d: Any, activity: Any, kept: Any, first: Any) -> Any:
    """Where the C numbers lie that the group's activations are multiplied by: w, or ψ(w), kept from row `first` on."""
    group, C = theta.shape[2], theta.shape[1] - d
    w = place(theta, (g * theta.shape[1] + d) * group)
    if activity.of_w != 0:
        for c in range(C):
            for lane in range(group):
                kept[first + c, lane] = theta[g, d + c, lane]
        w = place(kept, first * group)
        activate(activity.of_w, w, C * group)
    return w


@register_jitable
def chain(theta: Any, g: Any, slope: Any, activity: Any, kept: Any) -> None:
    """A group's slope by ψ(w) becomes that by w: times ψ'(w)."""
    if activity.both_of_w != 0:
        group, C, first = theta.shape[2], theta.shape[1] - slope.d, slope.d + slope.gap
        for c in range(C):
            for lane in range(group):
                kept[c, lane] = theta[g, slope.d + c, lane]
        activate_both(activity.both_of_w, place(kept, 0), place(slope.G, first * group), C * group)


def any_tile(at, data, activity, sums, Z):  # type: ignore[no-untyped-def]
    """sums += ψ(w) φ(u·x) of a group of particles for a tile of rows."""
    theta, g, t = at
    (_, d, rows), C, D, group, L = data.X.shape, data.outputs, theta.shape[1], theta.shape[2], sums.shape[2]
    dots(place(data.X, t * d * rows), place(theta, g * D * group), d, place(Z, 0))
    activate(activity.value, place(Z, 0), rows * group)
    if activity.of_w == 0:
        readout(place(Z, 0), place(theta, (g * D + d) * group), C, place(sums, t * rows * C * L))
    else:
        readout(place(Z, 0), read_out(theta, g, d, activity, Z, rows), C, place(sums, t * rows * C * L))


def any_rows(at, data, activity, residual, count, work):  # type: ignore[no-untyped-def]
    """Z ← φ(u·x), S ← φ'(u·x) Σ_c r_c ψ(w_c) of a group of particles for some rows."""
    theta, g, start = at
    X, R, (_, d, rows) = data.X, residual.by_row, data.X.shape
    C, D, group = data.outputs, theta.shape[1], theta.shape[2]
    w = read_out(theta, g, d, activity, work.points[0], 0)
    for t in range(start // rows, (start + count) // rows):
        z, s = place(work.Z, (t * rows - start) * group), place(work.S, (t * rows - start) * group)
        dots(place(X, t * d * rows), place(theta, g * D * group), d, z)
        dots(place(R, t * C * rows), w, C, s)
    activate_both(activity.both, place(work.Z, 0), place(work.S, 0), count * group)
