"""Network against kernel on the same data. The only importer of the kernels."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import diagnostics
from ..datasets.load import load_dataset
from ..dynamics import Langevin
from ..ensemble import Ensemble
from ..errors import InputError
from ..kernels import (
    NeuronKernel,
    RandomFeatures,
    RecursiveFeatureMachine,
    ReluKernel,
    RidgePath,
    best,
    class_targets,
    margins,
)
from ..neuron import Neuron
from ..optimality.certificate import predictions
from ..optimality.conditional_gradient import Search
from ..optimality.sphere_ascent import Peaks, distinct
from ..problem import Problem
from ..runtime.threads import default_threads, single_threaded_blas
from ..simulation.config import check_config
from ..simulation.loop import simulate


@dataclass(frozen=True)
class Baseline:
    """The NTK on a problem's data: errors as the network's are counted, `margin` = min margin / RKHS norm of f.

    kernel: what it is called, "ReLU NTK" or, for another neuron, "tanh NTK". seconds: with the test set.
    """

    train_error: float
    test_error: float
    margin: float
    method: str
    n: int
    reg: float
    kernel: str
    seconds: float


def ntk_of(neuron: Neuron, w_std: float = 1.0, u_std: float = 1.0) -> tuple[ReluKernel | NeuronKernel, str]:
    """The NTK of an infinitely wide two-layer network of that neuron, and what it is called."""
    if neuron.is_relu:
        return ReluKernel(2, w_std, u_std), "ReLU NTK"
    return NeuronKernel(neuron, w_std, u_std), f"{neuron.label} NTK"


def is_cheap(kernel: ReluKernel | NeuronKernel) -> bool:
    """Whether the kernel is in closed form, so that many inputs cost little."""
    return isinstance(kernel, ReluKernel) or kernel.is_closed


def kernel_baseline(problem: Problem, *, w_std: float = 1.0, u_std: float = 1.0) -> Baseline:
    """Kernel ridge regression with the NTK of the problem's neuron, its regularization by leave-one-out over a path.

    Classes are regressed on ±1 (several classes: 1 and −1/(C − 1)). NaN: a test error without a test set, a margin
    without classes. InputError: data that a kernel cannot be fitted to, such as a single class.
    """
    try:
        return _fitted(problem, *ntk_of(problem.neuron, w_std, u_std))
    except ValueError as error:  # the kernels know no InputError
        raise InputError(f"kernel: {error}") from error


def _fitted(problem: Problem, kernel: ReluKernel | NeuronKernel, name: str) -> Baseline:
    began, classes = time.perf_counter(), problem.classes is not None
    targets = class_targets(problem.targets)[1] if classes else problem.targets
    K = kernel.gram(problem.X)
    path = RidgePath(loss="error" if classes else "squared").fit(K, targets)

    def error(f: np.ndarray, t: np.ndarray) -> float:
        f = f.reshape(len(f), -1)
        if f.shape[1] < problem.outputs:  # two classes: one column, where cross-entropy has two
            f = np.hstack([-f, f])
        return problem.loss.error(f, t)

    fitted = path.predict(K)
    test_error = math.nan
    if problem.X_test is not None:
        test_error = error(kernel.dot(problem.X_test, problem.X, path.coef), problem.test_targets)
    margin = math.nan
    if classes:
        norm = math.sqrt(max(float(np.sum(path.coef * (K @ path.coef))), 0.0))
        margin = float(margins(fitted, targets).min()) / norm if norm > 0 else 0.0
    return Baseline(
        error(fitted, problem.targets),
        test_error,
        margin,
        "ridge, regularization by leave-one-out",
        problem.n,
        float(path.reg),
        name,
        time.perf_counter() - began,
    )


@dataclass(frozen=True)
class Optimality:
    """How far an ensemble is from the global minimum, by an estimate that is a pure function of the ensemble.

    relative_gap = (L − bound) / L, the bound being that of `exact.optimum` for the best dual point met: an estimate of
    a lower bound. refit_gap: the same for the network refitted from the ensemble's directions, whose outputs on the
    test set are f_test (k, C); where it is smaller, it says what better optimization would change.
    """

    objective: float
    relative_gap: float
    refit_gap: float
    f_test: np.ndarray | None


def optimality(problem: Problem, ensemble: Ensemble, *, rounds: int = 8, threads: int | None = None) -> Optimality:
    """`exact.Search` from the ensemble's own directions, by a number of rounds where `certify` takes seconds."""
    problem.neuron.require_relu("comparison.optimality")
    with single_threaded_blas():
        f, second = predictions(problem, ensemble, threads)
        primal = problem.evaluate(f, second, problem.reg.end).value
        search = Search(problem, problem.reg.end, threads=threads)
        search.residual = problem.loss.residual(f, problem.targets)
        own = _heaviest(ensemble)
        peaks = search.peaks(200, own, fitted=False)
        search.bound(peaks)
        search.u, search.c = own, np.zeros((len(own), problem.outputs))
        for _ in range(rounds):
            search.round(peaks, 100)
            peaks = search.peaks(200, fitted=False)  # the paper's data need no more
            search.bound(peaks)
            if search.gap < 1e-4 * search.value:
                break
        found = search.result()
    best_value = min(found.value, primal)
    f_test = None if problem.X_test is None else found.predict(problem.X_test)
    return Optimality(primal, 1 - search.lower / primal, 1 - search.lower / best_value, f_test)


def _heaviest(ensemble: Ensemble, count: int = 400) -> np.ndarray:
    """Distinct directions (k, d) of the particles with the largest ‖w‖‖u‖."""
    u, w = ensemble.u.astype(np.float64), ensemble.w.astype(np.float64)
    size = np.linalg.norm(u, axis=1)
    mass = size * np.linalg.norm(w.reshape(len(w), -1), axis=1)
    order = np.argsort(-mass, kind="stable")
    order = order[mass[order] > 1e-3 * mass.max()]
    return distinct(Peaks(u[order] / size[order, None], mass[order]), count, 1e-3).u


def paper_problem(n: int, d: int, seed: int, *, reg: float = 5e-3, n_test: int = 4096, source: str = "xor") -> Problem:
    """The paper's data D (arXiv 1810.05369, section 2), or another generated source, with the logistic loss.

    InputError: sizes.
    """
    section = {"source": source, "n": n, "d": d, "n_test": n_test, "seed": seed}
    data = load_dataset(check_config({"data": section}, "the paper's data").data)
    return Problem(data.X, data.y, reg=reg, X_test=data.X_test, y_test=data.y_test)


def network(problem: Problem, *, m: int, steps: int, seed: int) -> dict[str, float]:
    """Simulate by annealed Langevin from the uniform law on the sphere: errors and optimality.

    network_refit_error is the test error of `Optimality`'s refitted network.
    """
    result = simulate(
        problem,
        Ensemble.sphere(m, problem.d, problem.outputs, seed=seed),
        Langevin(),
        steps=steps,
        record_every=steps,
        test_every=steps,
    )
    found = optimality(problem, result.ensemble)
    return {
        "network_error": diagnostics.error_on_test_set(problem, result.ensemble),
        "network_train_error": float(result.trace["train_error"][-1]),
        "network_margin": float(result.trace["margin"][-1]),
        "objective": found.objective,
        "relative_gap": found.relative_gap,
        "network_refit_error": _test_error(problem, found.f_test),
        "refit_gap": found.refit_gap,
    }


def kernel_choices(problem: Problem, *, features: int = 0, seed: int = 0) -> dict[str, float | str]:
    """Test errors of the two-layer ReLU NTK on two classes, regularized in two ways.

    kernel_error: ridge, its regularization chosen by leave-one-out on the training set. kernel_best_error: the least
    error *on the test set* over the paths of ridge, logistic regression and SVM, a choice that no user can make and
    that favours the kernel; kernel_best_method says which. With `features`, features_best_error is the same, over the
    ridge path, for so many random ReLU features with a trained last layer. InputError: a single class, no test set.
    """
    if problem.X_test is None:
        raise InputError("a comparison needs a test set")
    y, y_test = (t.reshape(-1) for t in (problem.targets, problem.test_targets))
    kernel, threads = ReluKernel(2), default_threads()
    try:
        K, K_test = kernel.gram(problem.X, threads=threads), kernel.gram(problem.X_test, problem.X, threads=threads)
        chosen = best("ridge", K, y).predictor.predict(K_test)
        tried = [best(method, K, y, by="test", K_test=K_test, y_test=y_test) for method in ("ridge", "logistic", "svm")]
        winner = min(tried, key=lambda one: one.score)
        results: dict[str, float | str] = {
            "kernel_error": float(np.mean(chosen * y_test <= 0)),
            "kernel_best_error": winner.score,
            "kernel_best_method": winner.method,
        }
        if features:
            law = RandomFeatures(features, seed=seed)
            phi, phi_test = law.features(problem.X), law.features(problem.X_test)
            found = best("ridge", phi @ phi.T, y, by="test", K_test=phi_test @ phi.T, y_test=y_test)
            results["features_best_error"] = found.score
    except ValueError as error:
        raise InputError(f"kernel: {error}") from error
    return results


def learned_kernel(problem: Problem) -> dict[str, float]:
    """Test error on two classes of the ReLU NTK that learns its metric, as `RecursiveFeatureMachine` has it by default.

    InputError: no test set.
    """
    if problem.X_test is None:
        raise InputError("a comparison needs a test set")
    machine = RecursiveFeatureMachine().fit(problem.X, problem.targets.reshape(-1))
    return {"learned_error": float(np.mean(machine.predict(problem.X_test) * problem.test_targets.reshape(-1) <= 0))}


def cell(d: int, n: int, seed: int, reg: float, m: int, steps: int, n_test: int) -> dict[str, Any]:
    """One cell of `meanfield compare`: network and kernels on the same draw of the paper's data, and what each took.

    NAME_seconds: wall-clock, with the test set; those of the kernel are of all paths that `kernel_choices` tries.
    """
    problem = paper_problem(n, d, seed, reg=reg, n_test=n_test)
    sides: dict[str, Callable[[], dict[str, Any]]] = {
        "network": lambda: network(problem, m=m, steps=steps, seed=seed),
        "kernel": lambda: kernel_choices(problem),
        "learned": lambda: learned_kernel(problem),
    }
    results, seconds = {}, {}
    for name, side in sides.items():
        began = time.perf_counter()
        results.update(side())
        seconds[f"{name}_seconds"] = round(time.perf_counter() - began, 3)
    return {**results, **seconds}


def parse_size(text: str, d: int) -> int:
    """n of "160", "6d", "0.5d2" (also d^2, d²) at dimension d, rounded. InputError: anything else, or below 2."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)?(d(?:\^?2|²)?)?", text.strip())
    if match is None or not text.strip() or (match[2] is None and "." in text):
        raise InputError(f"n = {text!r}: must be a number such as 160, or a multiple such as 6d or 0.5d2")
    unit = 1 if match[2] is None else d if match[2] == "d" else d * d
    n = round(float(match[1] or 1) * unit)
    if n < 2:
        raise InputError(f"n = {text!r} is {n} at d = {d}: must be at least 2")
    return n


def summary(rows: Sequence[Mapping[str, Any]], by: Sequence[str] = ("d", "n")) -> list[dict[str, Any]]:
    """Mean over the rows that agree in `by` of every numeric column but seed, its standard error (name_se); `cells`.

    The standard error is s/√k with k − 1 degrees of freedom, NaN for k = 1.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    table = []
    for key, members in groups.items():
        line: dict[str, Any] = {**dict(zip(by, key, strict=True)), "cells": len(members)}
        for name in members[0]:
            values = [row[name] for row in members]
            if name not in (*by, "seed") and not any(isinstance(value, str) for value in values):
                line[name] = float(np.mean(values))
                line[f"{name}_se"] = float(np.std(values, ddof=1) / math.sqrt(len(values))) if values[1:] else math.nan
        table.append(line)
    return table


def _test_error(problem: Problem, f: np.ndarray | None) -> float:
    return math.nan if f is None else problem.loss.error(f, problem.test_targets)
