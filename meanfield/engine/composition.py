"""Functions of a number put together from those of `elementary`, with their derivatives by the rules of calculus.

What is put together is compiled with what it is made of, inlined, and has the same bits on every machine as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba.extending import register_jitable

from .elementary import (
    decay_one,
    erf_one,
    like,
    logistic_one,
    sine_one,
    softplus_one,
    tanh_one,
    tanh_slope_one,
)

Function = Callable[[Any], Any]
Pair = tuple[Function, Function]  # a function of z and its derivative

inline = register_jitable(forceinline=True)


@inline
def _relu(z: Any) -> Any:
    return z if z > 0 else like(z, 0.0)


@inline
def _relu_slope(z: Any) -> Any:
    return like(z, 1.0) if z > 0 else like(z, 0.0)


@inline
def _abs(z: Any) -> Any:
    return abs(z)


@inline
def _abs_slope(z: Any) -> Any:
    return like(z, 1.0) if z > 0 else like(z, -1.0)


@inline
def _erf_slope(z: Any) -> Any:
    return like(z, 2 / math.sqrt(math.pi)) * decay_one(z * z)


@inline
def _logistic_slope(z: Any) -> Any:
    return logistic_one(z) * logistic_one(-z)


@inline
def _gauss(z: Any) -> Any:
    return decay_one(z * z)


@inline
def _gauss_slope(z: Any) -> Any:
    return like(z, -2.0) * z * decay_one(z * z)


@inline
def _sine(z: Any) -> Any:
    return like(z, sine_one(z, 0.0))


@inline
def _cosine(z: Any) -> Any:
    return like(z, sine_one(z, 1.0))


@inline
def _minus_sine(z: Any) -> Any:
    return -like(z, sine_one(z, 0.0))


FUNCTIONS: dict[str, Pair] = {
    "relu": (_relu, _relu_slope),
    "abs": (_abs, _abs_slope),
    "tanh": (tanh_one, tanh_slope_one),
    "erf": (erf_one, _erf_slope),
    "logistic": (logistic_one, _logistic_slope),
    "softplus": (softplus_one, logistic_one),
    "gauss": (_gauss, _gauss_slope),
    "sin": (_sine, _cosine),
    "cos": (_cosine, _minus_sine),
}


def compose(tree: tuple[Any, ...]) -> Pair:
    """The function of a formula's tree (`formula.read_formula`), and its derivative."""
    kind, *parts = tree
    if kind == "z":
        return inline(lambda z: z), inline(lambda z: like(z, 1.0))
    if kind == "number":
        return _constant(parts[0]), _constant(0.0)
    if kind == "power":
        return _power(compose(parts[0]), parts[1])
    if kind in FUNCTIONS:
        return _chain(FUNCTIONS[kind], compose(parts[0]))
    return _RULES[kind](compose(parts[0]), compose(parts[1]))


def _constant(value: float) -> Function:
    return inline(lambda z: like(z, value))


def _chain(outer: Pair, inner: Pair) -> Pair:
    (f, df), (g, dg) = outer, inner
    return inline(lambda z: f(g(z))), inline(lambda z: df(g(z)) * dg(z))


def _add(one: Pair, other: Pair) -> Pair:
    (f, df), (g, dg) = one, other
    return inline(lambda z: f(z) + g(z)), inline(lambda z: df(z) + dg(z))


def _subtract(one: Pair, other: Pair) -> Pair:
    (f, df), (g, dg) = one, other
    return inline(lambda z: f(z) - g(z)), inline(lambda z: df(z) - dg(z))


def _multiply(one: Pair, other: Pair) -> Pair:
    (f, df), (g, dg) = one, other
    return inline(lambda z: f(z) * g(z)), inline(lambda z: df(z) * g(z) + f(z) * dg(z))


def _divide(one: Pair, other: Pair) -> Pair:
    (f, df), (g, dg) = one, other
    return inline(lambda z: f(z) / g(z)), inline(lambda z: (df(z) - f(z) / g(z) * dg(z)) / g(z))


def _power(base: Pair, exponent: int) -> Pair:
    whole = base
    for _ in range(exponent - 1):
        whole = _multiply(whole, base)
    return whole


_RULES = {"add": _add, "subtract": _subtract, "multiply": _multiply, "divide": _divide}
