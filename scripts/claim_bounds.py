#!/usr/bin/env python3
"""Network margin against kernel margin, and what generalization bounds make of them.

    python scripts/claim_bounds.py margins         γ_ℓ1 and γ_ℓ2 on the paper's distribution over n and d
    python scripts/claim_bounds.py classification  a teacher of six units: test errors and bounds over n, λ = 10⁻⁸
    python scripts/claim_bounds.py regression      the same with the squared loss

γ_ℓ1 is the largest margin of a two-layer network with Σ|w_j|‖u_j‖ ≤ 1 (a linear program; twice the engine's γ*), γ_ℓ2
that of a function of norm 1 in the kernel's space (hard-margin SVM). Classes of that size have Rademacher complexity at
most 2C/√n and √(mean K(x, x)/n), C the root mean square of ‖x‖; so with probability 1 − δ, for all margins at once,

    test error ≤ 8C/(γ_ℓ1 √n) + s   and   4 √K/(γ_ℓ2 √n) + s,   s = √(log log₂(2r/γ)/n) + √(log(2/δ)/2n)

(r bounds |f|; Mohri, Rostamizadeh & Talwalkar 2018, theorem 5.9). Drawn is the shape, C/(γ_ℓ1 √n) and
√K/(γ_ℓ2 √n), which is the paper's bound up to its constants; the table has the n from which the bounds say anything.
--fast: minutes; --full (d to 80, 100 trials): hours.
"""

from collections.abc import Sequence
from typing import Any, Literal

import claims
import numpy as np

from meanfield import Ensemble, Langevin, PerturbedFlow, Problem, exact, simulate
from meanfield.datasets.generators import teacher_units
from meanfield.datasets.load import load_dataset
from meanfield.kernels import SVM, ReluKernel, RidgePath, margin_cap_limit
from meanfield.simulation.config import Data

SPHERE = ReluKernel(train="last")  # E relu(u·x) relu(u·x'), u ~ N(0, I); over d it is the mean over the unit sphere
Task = Literal["classification", "regression"]
TRIALS = {"classification": 11, "regression": 6}  # of the fast mode


def size(X: np.ndarray) -> float:
    """C, the root mean square of ‖x‖."""
    return float(np.sqrt(np.mean(np.sum(X * X, axis=1))))


def network_cell(d: int, n: int, seed: int) -> dict[str, Any]:
    """γ_ℓ1 and its upper bound (an estimate), and the test error of the network that attains γ_ℓ1."""
    data = load_dataset(Data(source="xor", n=n, d=d, n_test=4096, seed=seed))
    found = exact.max_margin(data.X, data.y, tolerance=5e-3, effort=1000.0, threads=1, prove=False)
    f = np.maximum(data.X_test @ found.u.T, 0) @ found.w[:, 0]
    return {"margin": 2 * found.margin, "upper": 2 * found.upper, "test_error": float(np.mean(f * data.y_test <= 0))}


def kernel_cell(d: int, n: int, seed: int) -> dict[str, Any]:
    """γ_ℓ2 of the NTK and of the features relu(u·x), u on the unit sphere; their SVM's test errors."""
    data = load_dataset(Data(source="xor", n=n, d=d, n_test=4096, seed=seed))
    assert data.X_test is not None
    out: dict[str, Any] = {}
    for name, kernel, scale in (("ntk", ReluKernel(), 1.0), ("sphere", SPHERE, 1 / d)):
        svm = SVM().fit(scale * kernel.gram(data.X), data.y.astype(float))
        f = kernel.dot(data.X_test, data.X, svm.coef)
        out |= {f"margin_{name}": svm.margin(), f"error_{name}": float(np.mean(f * data.y_test <= 0))}
    return out


def teacher_cell(task: Task, n: int, seed: int, reg: float, m: int, steps: int, dynamics: str) -> dict[str, Any]:
    """Network at λ = reg and kernel on a teacher's data, d = 20: test errors, complexities of both, and the fit.

    For classes complexity is C/γ and √K/γ; for regression C Σ|w_j|‖u_j‖ and √K ‖f‖. `excess`: objective/λ over what
    the teacher's own weights have, whose risk is 0 (regression); 1 − γ/γ* (classes, of the linear program, n ≤ 80).
    """
    classes = task == "classification"
    data = load_dataset(Data(source="teacher", task=task, n=n, d=20, n_test=4000, seed=seed))
    assert data.X_test is not None
    problem = Problem(data.X, data.y, loss="logistic" if classes else "squared", reg=reg)
    flow = {"langevin": Langevin, "perturbed_flow": PerturbedFlow}[dynamics]()
    result = simulate(problem, Ensemble.sphere(m, 20, seed=seed), flow, steps=steps, record_every=steps, threads=1)
    objective, C = problem.objective(result.ensemble), size(data.X)
    f = result.ensemble.predict(data.X_test)
    kernel, y = ReluKernel(), data.y.astype(float)
    K = kernel.gram(data.X)
    root = float(np.sqrt(np.trace(K) / n))
    if classes:
        margin, fit = 2 * float(result.trace["margin"][-1]), SVM().fit(K, y)
        g = kernel.dot(data.X_test, data.X, fit.coef)
        star = np.nan
        if n <= 80:
            star = 2 * exact.max_margin(data.X, data.y, tolerance=5e-3, effort=1000.0, threads=1, prove=False).margin
        return {
            "error": float(np.mean(f * data.y_test <= 0)),
            "kernel_error": float(np.mean(g * data.y_test <= 0)),
            "complexity": C / margin if margin > 0 else np.inf,
            "kernel_complexity": root / fit.margin(),
            "risk": objective.risk,
            "excess": 1 - margin / star,
        }
    ridge = RidgePath(loss="squared").fit(K, y)
    g = kernel.dot(data.X_test, data.X, ridge.coef)
    return {
        "error": float(np.mean((f - data.y_test) ** 2)),
        "kernel_error": float(np.mean((g - data.y_test) ** 2)),
        "complexity": C * objective.penalty / reg / 2,
        "kernel_complexity": root * ridge.norm,
        "risk": objective.risk,
        "excess": objective.value / reg / teacher_size(seed) - 1,
    }


def teacher_size(seed: int, d: int = 20, hidden: int = 6) -> float:
    """2 Σ|w_j|‖u_j‖ of the teacher of that seed: the least ∫‖θ‖² with which its own neurons represent it."""
    u, w = teacher_units(seed, d, hidden)
    return 2 * float(np.abs(w) @ np.linalg.norm(u, axis=1))


def ticks(ax: Any, values: Sequence[int]) -> None:
    """Plain numbers at these places of a logarithmic axis, and nothing between."""
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()


def margins(options: claims.Options) -> None:
    dims = (10, 20, 40, 80) if options.full else (8, 16, 32)
    seeds = range(10 if options.full else 3)
    ratios = (2, 3, 4, 6, 8, 12, 16) if options.full else (2, 4, 6, 8)
    networks = options.study("bounds_network", network_cell).run(
        {"d": d, "n": k * d, "seed": s} for d in dims for k in ratios for s in seeds
    )
    larger = (*ratios, 24, 40, 64, *((96,) if options.full else ()))
    kernels = options.study("bounds_kernel", kernel_cell).run(
        {"d": d, "n": k * d, "seed": s} for d in dims for k in larger for s in seeds
    )
    worst = max(row["upper"] / row["margin"] - 1 for row in networks)
    print(
        f"γ_ℓ1: estimated gap of the linear program at most {worst:.1e}; least found "
        f"{min(row['margin'] for row in networks):.5f}, four neurons have 0.25"
    )
    figure, axes = claims.page(3)
    for i, d in enumerate(dims):
        _margins_of(axes, i, d, [r for r in networks if r["d"] == d], [r for r in kernels if r["d"] == d])
    axes[0].axhline(0.25, color="k", ls=":", lw=1)
    axes[0].set(xlabel="$n/d$", ylabel=r"margin $\gamma_{\ell_1}$, $\gamma_{\ell_2}$", ylim=(0, 0.62))
    axes[1].set(xlabel="$n/d$", ylabel=r"bound, up to a constant: $C/(\gamma\sqrt{n})$", ylim=(0, None))
    axes[2].set(xlabel="$n/d$", ylabel="test error", ylim=(-0.01, 0.55))
    for ax, letter in zip(axes, "abc", strict=True):
        ax.set_title(f"({letter})", loc="left")
        ax.set_xscale("log")
        ticks(ax, (2, 4, 8, 16, 32, 64))
    axes[0].legend()
    claims.save(figure, "bounds_margins", options)
    _nonvacuous(dims)


def _margins_of(
    axes: np.ndarray, i: int, d: int, networks: list[dict[str, Any]], kernels: list[dict[str, Any]]
) -> None:
    """Draws one d and prints its table: network with lines, kernel dashed with open markers."""
    colour, marker, C = claims.COLOURS[i], claims.MARKERS[i], np.sqrt(d - 1)
    lines = []
    for rows, margin, error, style, label in (
        (networks, "margin", "test_error", "-", f"network, $d = {d}$"),
        (kernels, "margin_ntk", "error_ntk", "--", f"NTK, $d = {d}$"),
    ):
        n = np.array(sorted({row["n"] for row in rows}))
        look = {
            "color": colour,
            "marker": marker,
            "ms": 3.5,
            "ls": style,
            "lw": 1.1,
            "capsize": 1.5,
            "mfc": colour if style == "-" else "w",
            "label": label,
        }
        values = {
            key: np.array([claims.mean_and_error(f(r) for r in rows if r["n"] == v) for v in n]).T
            for key, f in (
                ("margin", lambda r, m=margin: r[m]),
                ("error", lambda r, e=error: r[e]),
                ("bound", lambda r, m=margin: C / (r[m] * np.sqrt(r["n"]))),
            )
        }
        for ax, key in zip(axes, ("margin", "bound", "error"), strict=True):
            ax.errorbar(n / d, *values[key], **look)
        lines += [
            (label.replace("$", ""), int(v), *(f"{values[k][0, j]:.4f} ± {values[k][1, j]:.4f}" for k in values))
            for j, v in enumerate(n)
        ]
    x = np.geomspace(n.min(), n.max())
    beyond = x[x > max(row["n"] for row in networks)]  # γ_ℓ1 falls with n, and not below the ¼ it has reached
    axes[1].plot(beyond / d, 4 * C / np.sqrt(beyond), color=colour, lw=0.7)
    axes[1].plot(x / d, 1 / np.sqrt(1 + x * (margin_cap_limit(ReluKernel(), d) / C) ** 2), color=colour, ls=":", lw=0.9)
    sphere = [claims.mean_and_error(r["margin_sphere"] for r in kernels if r["n"] == v)[0] for v in (2 * d, 8 * d)]
    claims.table(("d, what", "n", "margin", "test error", "C/(γ√n)"), lines)
    print(f"lifted features relu(u·x), u on the sphere: γ_ℓ2 {sphere[0]:.4f} at n = 2 d, {sphere[1]:.4f} at 8 d")


def _nonvacuous(dims: Sequence[int]) -> None:
    """The n from which the bounds with their constants, s left out, fall below 1; for the kernel at the earliest."""
    lines = [(d, (8 * 4) ** 2 * (d - 1), 16 * (d - 1) / margin_cap_limit(ReluKernel(), d) ** 2) for d in dims]
    claims.table(("d", "network: n >", "kernel: n >"), lines)
    x, kernel = np.log([line[0] for line in lines]), np.log([line[2] for line in lines])
    print(f"exponents in d: network 1, kernel {np.polyfit(x, kernel, 1)[0]:.2f}")


def classification(options: claims.Options) -> None:
    _teacher(options, "classification", {"reg": 1e-8, "m": 1024, "steps": 4000, "dynamics": "langevin"})


def regression(options: claims.Options) -> None:
    slow = {"reg": 1e-3, "m": 512, "steps": 16000}
    _teacher(
        options,
        "regression",
        {"reg": 1e-8, "m": 512, "steps": 4000, "dynamics": "langevin"},
        {**slow, "dynamics": "perturbed_flow"},
    )
    for dynamics in ("perturbed_flow", "langevin"):
        rows = options.study("bounds_regression", teacher_cell).run(
            {"task": "regression", "n": n, "seed": s, **slow, "dynamics": dynamics}
            for n in (160, 320, 640)
            for s in range(50 if options.full else 6)
        )
        above = [row["excess"] for row in rows if row["excess"] > 0]
        print(
            f"{dynamics}, λ = 0.001, n ≥ 160: {len(above)} of {len(rows)} above the teacher's own objective, "
            f"by at most {max(above, default=0.0):.3g} of it"
        )


def _teacher(options: claims.Options, task: str, *networks: dict[str, Any]) -> None:
    """The figure of one task: test errors, and complexity/√n, over n; several networks where several are asked for."""
    sizes = (20, 40, 80, 160, 320, 640, 1280) if options.full else (20, 40, 80, 160, 320, 640)
    trials = range(100 if options.full else TRIALS[task])
    study = options.study(f"bounds_{task}", teacher_cell)
    tables = [study.run({"task": task, "n": n, "seed": s, **one} for n in sizes for s in trials) for one in networks]
    figure, (left, right) = claims.page(2)
    lines = []
    for i, (rows, one) in enumerate([*zip(tables, networks, strict=True), (tables[0], None)]):
        prefix = "" if one else "kernel_"
        label = f"network, $\\lambda = 10^{{{np.log10(one['reg']):.0f}}}$" if one else "NTK"
        name = f"network, λ = {one['reg']:g}" if one else "NTK"
        look = {"marker": claims.MARKERS[i], "ls": claims.LINES[i], "ms": 3.5, "capsize": 1.5, "label": label}
        both = []
        for ax, value in (
            (left, lambda r, p=prefix: r[f"{p}error"]),
            (right, lambda r, p=prefix: r[f"{p}complexity"] / np.sqrt(r["n"])),
        ):
            parts = [np.array([value(r) for r in rows if r["n"] == n]) for n in sizes]
            mean, bar = np.array([claims.mean_and_error(part[np.isfinite(part)]) for part in parts]).T
            ax.errorbar(sizes, mean, bar, color=claims.COLOURS[i], **look)
            both.append([f"{m:.3g} ± {e:.1g}" for m, e in zip(mean, bar, strict=True)])
        fits = [[r for r in rows if r["n"] == n] for n in sizes]
        lines += [
            (
                name,
                n,
                both[0][j],
                both[1][j],
                *([f"{np.mean([r[c] for r in fits[j]]):.2g}" for c in ("risk", "excess")] if one else ["", ""]),
            )
            for j, n in enumerate(sizes)
        ]
    claims.table((task, "n", "test error", "complexity/√n", "risk R", "excess"), lines)
    missed = [(row["n"], row["seed"]) for rows in tables for row in rows if np.isinf(row["complexity"])]
    print(f"without a margin, and left out of the complexities: {len(missed)} networks, (n, seed) {missed}")
    classes = task == "classification"
    left.set(
        xlabel="$n$",
        ylabel="test error" if classes else "test mean squared error",
        xscale="log",
        yscale="linear" if classes else "log",
        **({"ylim": (0, 0.5)} if classes else {}),
    )
    right.set(
        xlabel="$n$",
        xscale="log",
        ylim=(0, 1.25 * right.get_ylim()[1]),
        ylabel=r"$C/(\gamma\sqrt{n})$" if classes else r"$C\,\|f\|/\sqrt{n}$",
    )
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(f"({letter})", loc="left")
        ticks(ax, sizes)
        ax.legend()
    claims.save(figure, f"bounds_{task}", options)


if __name__ == "__main__":
    claims.main(__doc__, {"margins": margins, "classification": classification, "regression": regression})
