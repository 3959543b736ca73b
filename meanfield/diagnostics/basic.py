"""The measures of every trace, margins, calibration, stationarity: numbers of an ensemble and its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..dynamics.base import Field
from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem


def normalized_margin(problem: Problem, moments: Moments) -> float:
    """γ(ρ) = min_i (y_i f_i, or f_{y_i} − max_{c≠y_i} f_c) / ∫‖θ‖² dρ; NaN where there are no classes."""
    margins = problem.loss.margins(moments.f, problem.targets)
    return math.nan if margins is None or moments.second == 0 else float(margins.min()) / moments.second


def margin_quantiles(problem: Problem, moments: Moments, shares: Sequence[float] = (0.1, 0.5, 0.9)) -> np.ndarray:
    """Quantiles (k,) of the normalized margins over the examples: of margins_i / ∫‖θ‖² dρ, whose least is γ(ρ).

    A quantile is one of the n margins (the lower of two). NaN where there
    are no classes.
    """
    margins = problem.loss.margins(moments.f, problem.targets)
    if margins is None or moments.second == 0:
        return np.full(len(shares), math.nan)
    return np.quantile(margins, shares, method="lower") / moments.second


def calibration_error(problem: Problem, f: np.ndarray, targets: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error of the probabilities that the loss gives to the outputs f (n, C); NaN for regression.

    Σ_b (n_b/n) |share correct − mean confidence| over `bins` equal shares of the examples in the order of confidence,
    σ(|f|) for logistic, the largest softmax for cross-entropy (Guo et al. 2017; Nguyen and O'Connor 2015 for equal
    shares). The last bits aside, invariant under permutation of the examples. Noise floor, measured: perfectly
    calibrated probabilities uniform in [½, 1] have 0.093 at n = 160, 0.019 at 4096, 0.0038 at 10⁵ (15 bins).
    InputError: bins < 1.
    """
    if bins < 1:
        raise InputError(f"bins = {bins!r}: must be at least 1")
    margins = problem.loss.margins(f, targets)
    if margins is None:
        return math.nan
    if f.shape[1] == 1:
        confidence = 1 / (1 + np.exp(-np.abs(f[:, 0])))
    else:
        confidence = 1 / np.exp(f - f.max(axis=1, keepdims=True)).sum(axis=1)
    excess = ((margins > 0) - confidence)[np.lexsort((margins, confidence))]
    return float(sum(abs(part.sum()) for part in np.array_split(excess, bins))) / len(f)


def calibration_on_test_set(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> float:
    """`calibration_error` on the test set; NaN if there is none."""
    if problem.X_test is None or problem.classes is None:
        return math.nan
    f = ensemble.predict(problem.X_test, threads=threads)
    return calibration_error(problem, f[:, None] if f.ndim == 1 else f, problem.test_targets)


def stationarity(field: Field, ensemble: Ensemble, moments: Moments) -> float:
    """How far the first variation is from vanishing on the support: (∫ ‖θ‖² ν² dρ / ∫‖θ‖² dρ)^½, ν = L'[ρ](θ)/λ‖θ‖².

    L' is homogeneous of degree two, so ν depends on a particle's direction alone. At an optimum at τ = 0 it is 0 on
    the support; where the residual vanishes it is 1 everywhere; each particle counts by its part of ∫‖θ‖² dρ. Floor,
    measured: rounding leaves 1e-6 in float32. NaN where all particles are 0. λ is that of the ensemble's step.
    """
    reg = field.problem.reg(ensemble.step)
    theta = ensemble.theta
    _, potential = field.sweep.observe(theta, ensemble.m, field.residual(moments), reg, potentials=True)
    square = np.einsum("gkj,gkj->gj", theta, theta, dtype=np.float64).ravel()[: ensemble.m]
    live = square > 0
    total = float(square.sum())
    return math.sqrt(float(np.sum((potential[live] / reg) ** 2 / square[live])) / total) if total > 0 else math.nan


def error_on_test_set(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> float:
    """Fraction misclassified, or mean squared error, on the test set; NaN if there is none."""
    if problem.X_test is None:
        return math.nan
    f = ensemble.predict(problem.X_test, threads=threads)
    return problem.loss.error(f[:, None] if f.ndim == 1 else f, problem.test_targets)


def drift_norm(field: Field, ensemble: Ensemble, moments: Moments) -> float:
    """(∫‖∇L'‖² dρ)^½ at the λ of the ensemble's step: zero where plain gradient flow stands still."""
    square, _ = field.sweep.observe(
        ensemble.theta, ensemble.span, field.residual(moments), field.problem.reg(ensemble.step)
    )
    return math.sqrt(square)


BASIC = frozenset(
    {
        "step",
        "time",
        "reg",
        "temperature",
        "objective",
        "risk",
        "penalty",
        "margin",
        "train_error",
        "step_size",
        "drift",
    }
)


def basic_measures(field: Field, ensemble: Ensemble, moments: Moments) -> dict[str, float]:
    """The measures of every trace but the test error; `objective` is at the λ in force."""
    problem, k = field.problem, ensemble.step
    reg = problem.reg(k)
    value, risk, penalty = problem.evaluate(moments.f, moments.second, reg)
    return {
        "step": k,
        "time": ensemble.time,
        "reg": reg,
        "temperature": problem.temperature(k),
        "objective": value,
        "risk": risk,
        "penalty": penalty,
        "margin": normalized_margin(problem, moments),
        "train_error": problem.loss.error(moments.f, problem.targets),
        "step_size": ensemble.memory.get("step_size", math.nan),
        "drift": drift_norm(field, ensemble, moments),
    }


def all_finite(moments: Moments) -> bool:
    return bool(np.isfinite(moments.second)) and bool(np.isfinite(moments.f).all())
