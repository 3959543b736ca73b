"""The built-in activations φ with their derivatives, made of `elementary`: the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .elementary import (
    decay_one,
    erf_one,
    like,
    logistic_one,
    normal_share_one,
    sine_one,
    softplus_one,
    tanh_one,
    tanh_slope_one,
)

Function = Callable[[float], float]


def _relu(z: Any) -> Any:
    return z if z > 0 else like(z, 0.0)


def _relu_slope(z: Any) -> Any:
    return like(z, 1.0) if z > 0 else like(z, 0.0)


def _leaky_relu(z: Any) -> Any:
    return z if z > 0 else like(z, 0.01) * z


def _leaky_relu_slope(z: Any) -> Any:
    return like(z, 1.0) if z > 0 else like(z, 0.01)


def _erf_slope(z: Any) -> Any:
    return like(z, 2 / math.sqrt(math.pi)) * decay_one(z * z)


def _gelu(z: Any) -> Any:
    return z * normal_share_one(z)


def _gelu_slope(z: Any) -> Any:
    density = like(z, 1 / math.sqrt(2 * math.pi)) * decay_one(like(z, 0.5) * z * z)
    return normal_share_one(z) + z * density


def _relu2(z: Any) -> Any:
    return z * z if z > 0 else like(z, 0.0)


def _relu2_slope(z: Any) -> Any:
    return like(z, 2.0) * z if z > 0 else like(z, 0.0)


def _sine(z: Any) -> Any:
    return sine_one(z, 0.0)


def _cosine(z: Any) -> Any:
    return sine_one(z, 1.0)


def _quadratic(z: Any) -> Any:
    return z * z


def _quadratic_slope(z: Any) -> Any:
    return like(z, 2.0) * z


ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "relu": (_relu, _relu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "tanh": (tanh_one, tanh_slope_one),
    "erf": (erf_one, _erf_slope),
    "softplus": (softplus_one, logistic_one),
    "gelu": (_gelu, _gelu_slope),
    "relu2": (_relu2, _relu2_slope),
    "sine": (_sine, _cosine),
    "quadratic": (_quadratic, _quadratic_slope),
}
