#!/usr/bin/env python3
"""Two-parity by mean-field Langevin dynamics with bounded neurons (Suzuki, Wu, Oko, Nitanda 2023).

    python scripts/claim_two_parity.py                 both figures of docs/claims/two_parity.md
    python scripts/claim_two_parity.py samples         test accuracy over n and d, noise annealed
    python scripts/claim_two_parity.py particles       risk and accuracy over the number of particles and the noise

x uniform on {±1}^d/√d with a constant appended, y = d x₁x₂, f(x) = (R/m) Σ_j tanh(w_j) tanh(u_j·x) with R = 15 and m =
2000, logistic loss, penalty τ ‖θ‖²/10 at the temperature τ: without data the law of θ is N(0, 5 I) at every τ, and so
it begins. Fast mode takes some minutes on one core.
"""

from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, Schedule, simulate
from meanfield.kernels import SVM, relu_ntk

M, BOUND, DECAY, N_TEST = 2000, 15.0, 0.1, 4000
STEP, STEPS = 1.0, 800
WARM, COLD = 0.1, 1e-3  # the temperature that the noise is annealed from, and to
DIMENSIONS, RATIOS = (10, 20, 40), (2, 4, 8, 16, 32)  # and n/d
TEMPERATURES, WIDTHS = (0.1, 0.03, 0.01, 0.003, 0.001), (50, 200, 800, 2000)
AT = {"d": 20, "n": 320}  # of the second part


def sample(n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """X (n, d + 1), the last feature constant, and y (n,)."""
    signs = rng.choice([-1.0, 1.0], (n, d))
    return np.column_stack([signs / np.sqrt(d), np.ones(n)]), signs[:, 0] * signs[:, 1]


def cell(d: int, n: int, m: int, seed: int, warm: float, cold: float) -> dict[str, Any]:
    """Accuracy on fresh examples, of the network and of the relu NTK's support vector machine; the risk, see `risk`.

    τ falls geometrically from `warm` to `cold`. `risk` is that of the training set, its mean over the last half.
    """
    rng = np.random.default_rng(seed)
    X, y = sample(n, d, rng)
    Z, z = sample(N_TEST, d, rng)
    theta = (2 * DECAY) ** -0.5 * rng.standard_normal((m, d + 2))
    tau, reg = (Schedule("geometric", c * warm, c * cold, STEPS) for c in (1.0, DECAY))
    neuron = {"activation": "tanh", "output": "tanh"}
    problem = Problem(X, y, reg=reg, temperature=tau, neuron=neuron, output_scale=BOUND)
    settings: dict[str, Any] = {"record_every": 10, "threads": 1, "final_gap": False}
    start = Ensemble.from_arrays(theta[:, 0], theta[:, 1:], seed=seed, dtype="float32")
    result = simulate(problem, start, Langevin(STEP), steps=STEPS, **settings)
    machine = SVM().fit(relu_ntk(X), y)
    return {
        "accuracy": accuracy(problem.predict(result.ensemble, Z, threads=1), z),
        "kernel_accuracy": accuracy(relu_ntk(Z, X) @ machine.coef, z),
        "risk": float(np.mean(result.trace["risk"][STEPS // 20 :])),
    }


def accuracy(f: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(f * y > 0))


def mean(rows: Iterable[dict], column: str, **where: Any) -> float:
    return float(np.mean([row[column] for row in rows if all(row[key] == value for key, value in where.items())]))


def samples(options: claims.Options) -> None:
    draws, dimensions = (5, (*DIMENSIONS, 80)) if options.full else (3, DIMENSIONS)
    name = "two_parity_samples" + "_full" * options.full
    rows = options.study(name, cell).run(
        {"d": d, "n": k * d, "m": M, "seed": seed, "warm": WARM, "cold": COLD}
        for d in dimensions
        for k in RATIOS
        for seed in range(draws)
    )
    claims.table(
        ["d", "n", "accuracy", "kernel's"],
        (
            [d, k * d, *(mean(rows, c, d=d, n=k * d) for c in ("accuracy", "kernel_accuracy"))]
            for d in dimensions
            for k in RATIOS
        ),
    )
    figure, axes = claims.page(2)
    for i, d in enumerate(dimensions):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 4}
        for column, line in (("accuracy", "-"), ("kernel_accuracy", "--")):
            values = [mean(rows, column, d=d, n=k * d) for k in RATIOS]
            label = f"d = {d}" if line == "-" else None
            axes[0].plot([k * d for k in RATIOS], values, ls=line, label=label, **style)
            axes[1].plot(RATIOS, values, ls=line, **style)
    axes[0].set(xscale="log", xlabel="examples n", ylabel="test accuracy")
    axes[1].set(xlabel="n/d", ylabel="test accuracy")
    claims.at_values(axes[1], RATIOS)
    finish(figure, axes, name, options)


def particles(options: claims.Options) -> None:
    draws = 5 if options.full else 2
    name = "two_parity_particles" + "_full" * options.full
    rows = options.study(name, cell).run(
        {**AT, "m": m, "seed": seed, "warm": tau, "cold": tau}
        for tau in TEMPERATURES
        for m in WIDTHS
        for seed in range(draws)
    )
    columns = ("accuracy", "risk")
    head = ["τ", *(f"{column}, m = {m}" for column in columns for m in WIDTHS)]
    table = ([tau, *(mean(rows, c, warm=tau, m=m) for c in columns for m in WIDTHS)] for tau in TEMPERATURES)
    claims.table(head, table)
    figure, axes = claims.page(2)
    for i, tau in enumerate(TEMPERATURES):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 4, "label": rf"$\tau$ = {tau:g}"}
        for ax, column in zip(axes, columns, strict=True):
            ax.plot(WIDTHS, [mean(rows, column, warm=tau, m=m) for m in WIDTHS], **style)
    axes[0].set(xlabel="particles m", ylabel="test accuracy")
    axes[1].set(yscale="log", xlabel="particles m", ylabel="risk")
    for ax in axes:
        claims.at_values(ax, WIDTHS)
    finish(figure, axes, name, options)


def finish(figure: Any, axes: np.ndarray, name: str, options: claims.Options) -> None:
    for ax, title in zip(axes, "ab", strict=True):
        ax.set_title(f"({title})", loc="left")
    axes[0].legend()
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"samples": samples, "particles": particles})
