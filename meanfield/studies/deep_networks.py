"""Feedforward ReLU networks of any depth K, at finite width: the margin theorem beyond two layers.

f(Θ; x) = W_K relu(W_{K−1} … relu(W_1 x)), without biases, so f(cΘ; x) = c^K f(Θ; x). Minimizers of the weakly
regularized loss R(f) + λ‖Θ‖² have, as λ → 0, the largest normalized margin γ(Θ) = min_i margin_i(f) / ‖Θ‖^K of all
networks of these widths (Wei et al., arXiv 1810.05369, theorem 4.1). `lower_reg` follows a minimizer as λ falls,
`ascend` climbs to large margins without a loss. Both are local searches: what they find is attained, and a lower bound
on the best.

With K = 2 this is the engine's network in other units: f = Σ_j w_j relu(u_j·x) and ‖Θ‖² = Σ ‖w_j‖² + ‖u_j‖². As an
ensemble of m = width particles (√m w_j, √m u_j) it has f_ρ = (1/m) Σ √m w_j relu(√m u_j·x) = f and ∫‖θ‖² dρ = ‖Θ‖², so
objective and normalized margin are the same numbers, and γ(Θ) ≤ γ* of `exact.max_margin`, with equality for the best of
a width that the optimum fits into. Float64, the whole batch, one thread; relu'(0) = 0, as in the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ..errors import InputError
from ..problem import Objective, Problem
from ..runtime.threads import single_threaded_blas

# of the soft minimum, relative to the mean gap: from one that sees all examples to one off by log(n)/b, far below 1e-3
SHARPNESS = tuple(10.0 ** (0.5 * k) for k in range(2, 11))


@dataclass(frozen=True, eq=False)
class Network:
    """weights: W_k (width_k, width_{k−1}) float64, the first with width_0 = d, the last with C rows."""

    weights: tuple[np.ndarray, ...]

    @classmethod
    def random(cls, widths: Sequence[int], seed: int = 0, scale: float = 1.0) -> Network:
        """Independent N(0, 2 scale²/width_{k−1}) entries for `widths` (d, …, C): activations neither grow nor fade.

        InputError: fewer than two weight matrices, a width below 1, a scale that is not positive.
        """
        if len(widths) < 3 or min(widths) < 1:
            raise InputError(f"widths = {tuple(widths)}: must be (d, at least one hidden width, C), each at least 1")
        if not 0 < scale < np.inf:
            raise InputError(f"scale = {scale!r}: must be positive")
        rng = np.random.default_rng(seed)
        shapes = zip(widths[1:], widths[:-1], strict=True)
        return cls(tuple(rng.standard_normal(shape) * scale * np.sqrt(2 / shape[1]) for shape in shapes))

    @property
    def depth(self) -> int:
        """K, the number of weight matrices."""
        return len(self.weights)

    @property
    def squared_norm(self) -> float:
        """‖Θ‖² = Σ_k ‖W_k‖²."""
        return float(sum(np.sum(W * W) for W in self.weights))

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """f (n, C) at X (n, d)."""
        return self.layers(X)[-1]

    def layers(self, X: np.ndarray) -> list[np.ndarray]:
        """What each layer puts out, from the inputs (n, d) to f (n, C)."""
        outputs = [X]
        for W in self.weights[:-1]:
            outputs.append(np.maximum(outputs[-1] @ W.T, 0.0))
        return [*outputs, outputs[-1] @ self.weights[-1].T]

    def gradient(self, layers: list[np.ndarray], a: np.ndarray) -> np.ndarray:
        """∂⟨a, f⟩/∂Θ as one vector, for a (n, C); `layers` as `layers` gave them."""
        parts = []
        for k in range(self.depth - 1, -1, -1):
            parts.append((a.T @ layers[k]).ravel())
            if k:
                a = (a @ self.weights[k]) * (layers[k] > 0)
        return np.concatenate(parts[::-1])

    def vector(self) -> np.ndarray:
        """Θ as one vector, W_1 first, row by row."""
        return np.concatenate([W.ravel() for W in self.weights])

    def at(self, theta: np.ndarray) -> Network:
        """The network of the same widths with Θ = theta, a vector as `vector` gives it."""
        ends = np.cumsum([W.size for W in self.weights])[:-1]
        return Network(tuple(v.reshape(W.shape) for v, W in zip(np.split(theta, ends), self.weights, strict=True)))


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a descent at λ = reg ended: at a local minimum, or on a kink that stopped it."""

    reg: float
    network: Network
    objective: Objective
    margin: float


def objective(problem: Problem, network: Network, reg: float) -> Objective:
    """R(f) + λ‖Θ‖² with its two parts; the problem's own λ is not looked at."""
    risk, penalty = problem.loss.value(network.outputs(problem.X), problem.targets), reg * network.squared_norm
    return Objective(risk + penalty, risk, penalty)


def normalized_margin(problem: Problem, network: Network) -> float:
    """γ(Θ) = min_i margin_i / ‖Θ‖^K; margins y f, or f_y − max_{c≠y} f_c. InputError: regression, or Θ = 0."""
    margins = problem.loss.margins(network.outputs(problem.X), problem.targets)
    if margins is None:
        raise InputError(f"loss {problem.loss.name!r} is for regression: a margin needs a loss of classes")
    if not network.squared_norm > 0:
        raise InputError("all weights are zero: the margin of a network needs at least one that is not")
    return float(margins.min() / network.squared_norm ** (network.depth / 2))


def descend(problem: Problem, network: Network, reg: float, *, iterations: int = 2000) -> Network:
    """L-BFGS on L/λ (its scale stays of order one however small λ is) from `network`, to a local minimum or a kink.

    InputError: widths that do not suit the problem, λ ≤ 0.
    """
    _check(problem, network)
    if not 0 < reg < np.inf:
        raise InputError(f"reg = {reg!r}: must be positive")
    return network.at(_lbfgs(lambda theta: _value(problem, network.at(theta), theta, reg), network, iterations))


def lower_reg(problem: Problem, network: Network, regs: Iterable[float], *, iterations: int = 2000) -> list[Stage]:
    """Descend at each λ of `regs` in turn, each from where the one before ended.

    At Θ = 0 the gradient vanishes for every λ, and for K ≥ 3 it is a local minimum: begin with a λ small enough that
    the start does not fall into it (the stage's margin is then not positive).
    """
    stages = []
    for reg in regs:
        network = descend(problem, network, reg, iterations=iterations)
        margin = normalized_margin(problem, network) if network.squared_norm > 0 else 0.0
        stages.append(Stage(reg, network, objective(problem, network, reg), margin))
    return stages


def ascend(problem: Problem, network: Network, *, iterations: int = 2000) -> Network:
    """Maximize γ(Θ) itself from `network`, through soft minima of growing sharpness; the best met, with ‖Θ‖ = 1.

    A local search: run it from several starts. InputError: as `descend`; a loss without margins.
    """
    _check(problem, network)
    problem.loss.require("ascend", "margin_rows")
    normalized_margin(problem, network)
    best, X, rows = _unit(network), problem.X, problem.loss.margin_rows(problem.targets, problem.outputs)
    network = best
    for sharpness in SHARPNESS:
        beta = sharpness / max(float(np.abs(_gaps(rows, network.outputs(X))).mean()), 1e-300)
        start = network
        theta = _lbfgs(lambda theta, b=beta, s=start: _soft_margin(X, rows, s.at(theta), theta, b), start, iterations)
        network = _unit(network.at(theta))
        best = max(best, network, key=lambda candidate: normalized_margin(problem, candidate))
    return best


def _value(problem: Problem, network: Network, theta: np.ndarray, reg: float) -> tuple[float, np.ndarray]:
    """L/λ and its gradient."""
    layers = network.layers(problem.X)
    risk, residual = problem.loss.value(layers[-1], problem.targets), problem.loss.residual(layers[-1], problem.targets)
    return risk / reg + theta @ theta, network.gradient(layers, residual / reg) + 2 * theta


def _soft_margin(
    X: np.ndarray, rows: np.ndarray, network: Network, theta: np.ndarray, beta: float
) -> tuple[float, np.ndarray]:
    """(1/β) log Σ exp(−β gap/‖Θ‖^K) over all gaps T_ir · f_i, T = rows (n, r, C); and its gradient.

    It bounds −γ(Θ) from above.
    """
    layers, size = network.layers(X), float(theta @ theta)
    norm = size ** (network.depth / 2)
    gaps = _gaps(rows, layers[-1]) / norm
    lowest = gaps.min()
    weights = np.exp(-beta * (gaps - lowest))
    total = weights.sum()
    a = np.einsum("nr,nrc->nc", weights / total, rows)  # ⟨a, f⟩ is the mean gap
    mean = float(np.sum(a * layers[-1])) / norm
    slope = network.gradient(layers, a) / norm - network.depth * mean / size * theta
    return float(np.log(total) / beta - lowest), -slope


def _gaps(rows: np.ndarray, f: np.ndarray) -> np.ndarray:
    """T_ir · f_i (n, r): all that must be positive."""
    return np.einsum("nrc,nc->nr", rows, f)


def _unit(network: Network) -> Network:
    return network.at(network.vector() / np.sqrt(network.squared_norm))


def _lbfgs(function: Any, network: Network, iterations: int) -> np.ndarray:
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-10}
    with single_threaded_blas():
        return np.asarray(minimize(function, network.vector(), jac=True, method="L-BFGS-B", options=options).x)


def _check(problem: Problem, network: Network) -> None:
    ends = (network.weights[0].shape[1], network.weights[-1].shape[0])
    if ends != (problem.d, problem.outputs):
        raise InputError(
            f"network from {ends[0]} inputs to {ends[1]} outputs: the problem needs {problem.d} and {problem.outputs}"
        )
