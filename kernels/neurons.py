"""Activations φ and their derivatives as the kernels take them: by name, or any object that evaluates its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Both = tuple[np.ndarray, np.ndarray]


class NamedNeuron(NamedTuple):
    """A neuron that has a name: `evaluate(z)` gives φ(z) and φ'(z), as a `meanfield.Neuron` does."""

    name: str
    evaluate: Callable[[np.ndarray], Both]


def _relu(z: np.ndarray) -> Both:
    return np.maximum(z, 0.0), (z > 0) * 1.0


def _leaky_relu(z: np.ndarray) -> Both:
    return np.where(z > 0, z, 0.01 * z), np.where(z > 0, 1.0, 0.01)


def _tanh(z: np.ndarray) -> Both:
    return np.tanh(z), np.cosh(np.clip(z, -350, 350)) ** -2.0


def _erf(z: np.ndarray) -> Both:
    from scipy.special import erf

    return erf(z), 2 / math.sqrt(math.pi) * np.exp(-(z**2))


def _softplus(z: np.ndarray) -> Both:
    from scipy.special import expit

    return np.logaddexp(0.0, z), expit(z)


def _gelu(z: np.ndarray) -> Both:
    from scipy.special import ndtr

    return z * ndtr(z), ndtr(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _relu2(z: np.ndarray) -> Both:
    open_ = np.maximum(z, 0.0)
    return open_**2, 2 * open_


def _sine(z: np.ndarray) -> Both:
    return np.sin(z), np.cos(z)


def _quadratic(z: np.ndarray) -> Both:
    return z**2, 2 * z


NEURONS = {
    name: NamedNeuron(name, both)
    for name, both in {
        "relu": _relu,
        "leaky_relu": _leaky_relu,
        "tanh": _tanh,
        "erf": _erf,
        "softplus": _softplus,
        "gelu": _gelu,
        "relu2": _relu2,
        "sine": _sine,
        "quadratic": _quadratic,
    }.items()
}


def find_neuron(neuron: Any) -> Any:
    """The neuron of that name, or the object itself if it has a name and evaluates φ and φ'; ValueError otherwise."""
    name = neuron.name if getattr(neuron, "is_built_in", False) else neuron
    if isinstance(name, str) and name in NEURONS:
        return NEURONS[name]
    if hasattr(neuron, "evaluate") and hasattr(neuron, "name"):
        return neuron
    raise ValueError(f"neuron = {neuron!r}: expected one of {', '.join(NEURONS)}, or an object of meanfield.Neuron")


def linear_in_w(neuron: Any) -> Any:
    """`find_neuron`, for networks of finite width; ValueError where the neuron is ψ(w) φ(u·x)."""
    if getattr(neuron, "output", None):
        raise ValueError(f"neuron = {neuron!r}: networks of finite width are linear in w; NeuronKernel knows outputs")
    return find_neuron(neuron)
