"""Pure measures of an ensemble's predictions."""

from __future__ import annotations

import math

import numpy as np

from .dynamics import Field
from .ensemble import Ensemble
from .problem import Problem
from .sweep import Moments


def normalized_margin(problem: Problem, moments: Moments) -> float:
    """γ(ρ) = min_i (y_i f_i, or f_{y_i} − max_{c≠y_i} f_c) / ∫‖θ‖² dρ; NaN where there are no classes."""
    margins = problem.loss.margins(moments.f, problem.targets)
    return math.nan if margins is None or moments.second == 0 else float(margins.min()) / moments.second


def error_on_test_set(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> float:
    """Fraction misclassified, or mean squared error, on the test set; NaN if there is none."""
    if problem.X_test is None:
        return math.nan
    f = ensemble.predict(problem.X_test, threads=threads)
    return problem.loss.error(f[:, None] if f.ndim == 1 else f, problem.test_targets)


def drift_norm(field: Field, ensemble: Ensemble, moments: Moments) -> float:
    """(∫‖∇L'‖² dρ)^½ at the λ of the ensemble's step: zero where plain gradient flow stands still."""
    square, _ = field.sweep.observe(
        ensemble.theta, ensemble.m, field.residual(moments), field.problem.reg(ensemble.step)
    )
    return math.sqrt(square)


def basic(field: Field, ensemble: Ensemble, moments: Moments) -> dict[str, float]:
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
