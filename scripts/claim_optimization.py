#!/usr/bin/env python3
"""Noisy gradient descent reaches the global minimum: where plain flow fails, and in how many steps.

    python scripts/claim_optimization.py cells         objective above the minimum, n × λ × draws (d = 20)
    python scripts/claim_optimization.py start         from a start where plain gradient flow is stuck
    python scripts/claim_optimization.py steps         steps to come within ε of the minimum, over ε and d

Data are the paper's distribution. `cells` and `start` are judged against a proven lower bound on the minimum over all
infinite-width networks, `certify`'s at effort 1; `steps` against that of `exact.optimum`: the dual value of its best
residual, an estimate, and at most 10⁻⁵ (relative) below a value that its network attains. Fast (default): about twenty
minutes on two cores; --full: some hours.
"""

from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, GradientFlow, Langevin, PerturbedFlow, Problem, Schedule, simulate
from meanfield.diagnostics import error_on_test_set
from meanfield.exact import optimum
from meanfield.optimality.conditional_gradient import Optimum
from meanfield.studies.comparison import paper_problem

REG = 5e-3
EPSILONS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
STEPS_KEPT = 100  # in the part `start` the objective is kept at every so many steps
FLOWS = {
    "flow": lambda steps: (GradientFlow(), 0.0),
    "langevin": lambda steps: (Langevin(), Schedule("geometric", 1e-3, 1e-8, round(0.7 * steps))),
    "perturbed": lambda steps: (PerturbedFlow(rebirth_rate=1e-4), 0.0),
}
LABELS = {
    "flow": "gradient flow",
    "langevin": r"noisy gradient descent, $\tau$ lowered",
    "perturbed": r"perturbed flow, $\sigma = 10^{-4}$",
}


def minimum(problem: Problem) -> tuple[Optimum, dict[str, float]]:
    """The network found by `exact.optimum`, which ends by its tolerance and not by time, and what is kept of it."""
    found = optimum(problem, tolerance=1e-5, effort=1e4, threads=1)
    return found, {"minimum": found.value, "lower_bound": found.lower_bound}


def minimum_cell(d: int, n: int, seed: int, reg: float) -> dict[str, Any]:
    problem = paper_problem(n, d, seed, reg=reg)
    found, known = minimum(problem)
    assert problem.X_test is not None
    return {**known, "minimum_error": problem.loss.error(found.predict(problem.X_test), problem.test_targets)}


def proof_cell(d: int, n: int, seed: int, reg: float) -> dict[str, Any]:
    return claims.proven_minimum(paper_problem(n, d, seed, reg=reg), effort=1.0)


def run_cell(d: int, n: int, seed: int, reg: float, m: int, steps: int) -> dict[str, Any]:
    """Langevin at τ = 0, annealing and step size as they come."""
    problem = paper_problem(n, d, seed, reg=reg)
    start = Ensemble.sphere(m, d, seed=seed)
    result = simulate(problem, start, Langevin(), steps=steps, record_every=steps, test_every=steps)
    return {
        "objective": problem.objective(result.ensemble).value,
        "test_error": error_on_test_set(problem, result.ensemble),
    }


def start_cell(dynamics: str, d: int, n: int, seed: int, m: int, steps: int) -> dict[str, Any]:
    """From w = 1, ‖u‖ = ½: plain flow keeps w > 0, and so f ≥ 0. The objective at every `STEPS_KEPT` steps."""
    flow, temperature = FLOWS[dynamics](steps)
    problem = paper_problem(n, d, seed, reg=REG)
    problem.temperature = Schedule.of(temperature)
    u = Ensemble.sphere(m, d, seed=seed, dtype="float64").u
    start = Ensemble.from_arrays(
        np.ones(m), 0.5 * u / np.linalg.norm(u, axis=1, keepdims=True), seed=seed, dtype="float32"
    )
    trace = simulate(problem, start, flow, steps=steps, record_every=STEPS_KEPT, test_every=steps, anneal=False).trace
    kept = {f"L{k}": float(L) for k, L in zip(trace["step"].astype(int), trace["objective"], strict=True)}
    return {**minimum(problem)[1], **kept}


def steps_cell(dynamics: str, d: int, n: int, seed: int, m: int, steps: int, smallest: float) -> dict[str, Any]:
    """First step with L ≤ (1 + ε) times the lower bound, for every ε ≥ `smallest`, at fixed λ; −1: not reached."""
    problem = paper_problem(n, d, seed, reg=REG)
    _, known = minimum(problem)
    enough = (1 + smallest) * known["lower_bound"]
    flow = GradientFlow() if dynamics == "flow" else PerturbedFlow(rebirth_rate=1e-5)
    trace = simulate(
        problem,
        Ensemble.sphere(m, d, seed=seed),
        flow,
        steps=steps,
        record_every=5,
        test_every=steps,
        anneal=False,
        callback=lambda ensemble, row: row["objective"] <= enough,
    ).trace
    reached = {}
    for epsilon in EPSILONS:
        k = np.flatnonzero(trace["objective"] <= (1 + epsilon) * known["lower_bound"])
        reached[f"steps_{epsilon:g}"] = int(trace["step"][k[0]]) if len(k) and epsilon >= smallest else -1
    return {**known, **reached}


def cells(options: claims.Options) -> None:
    grid = [
        {"d": 20, "n": n, "seed": seed, "reg": reg}
        for n in (40, 80, 160)
        for reg in (5e-3, 5e-4, 5e-5)
        for seed in range(5 if options.full else 3)
    ]
    minima = options.study("optimization_minima", minimum_cell).run(grid)
    proofs = options.study("optimization_proofs", proof_cell).run(grid)
    lengths = (4000, 12000)
    runs = options.study("optimization_cells", run_cell).run(
        {**one, "m": 4096, "steps": steps} for one in grid for steps in lengths
    )
    known = {(row["n"], row["seed"], row["reg"]): row for row in proofs}
    lines = []
    for n, reg in dict.fromkeys((row["n"], row["reg"]) for row in runs):
        best = [row for row in minima if (row["n"], row["reg"]) == (n, reg)]
        own = [1 - row["proven_bound"] / row["attained"] for row in proofs if (row["n"], row["reg"]) == (n, reg)]
        line = [n, f"{reg:.0e}", f"{100 * max(own):.3f}"]
        for steps in lengths:
            rows = [row for row in runs if (row["n"], row["reg"], row["steps"]) == (n, reg, steps)]
            estimated, gaps = (
                [1 - known[n, row["seed"], reg][bound] / row["objective"] for row in rows]
                for bound in ("estimated_bound", "proven_bound")
            )
            line += [pm(estimated, 100, 3), pm(gaps, 100, 3), f"{100 * max(gaps):.3f}"]
            line.append(pm([row["test_error"] for row in rows], 100, 2))
        lines.append([*line, pm([row["minimum_error"] for row in best], 100, 2)])
    head = [
        f"{what}, {steps}" for steps in lengths for what in ("estimated gap %", "proven gap %", "max %", "test error %")
    ]
    claims.table(["n", "λ", "max % of minimum", *head, "of minimum"], lines)


def pm(values: Iterable[float], scale: float, digits: int) -> str:
    mean, error = claims.mean_and_error(values)
    return f"{scale * mean:.{digits}f} ± {scale * error:.{digits}f}"


def start(options: claims.Options) -> None:
    steps = 12000 if options.full else 6000
    rows = options.study("optimization_start_full" if options.full else "optimization_start", start_cell).run(
        {"dynamics": name, "d": 20, "n": 160, "seed": seed, "m": 4096, "steps": steps}
        for name in FLOWS
        for seed in range(10 if options.full else 3)
    )
    proofs = options.study("optimization_proofs", proof_cell).run(
        {name: row[name] for name in ("d", "n", "seed")} | {"reg": REG} for row in rows
    )
    proven = {row["seed"]: row["proven_bound"] for row in proofs}
    at = np.arange(0, steps + 1, STEPS_KEPT)
    ratio = {}
    for name in FLOWS:
        own = [row for row in rows if row["dynamics"] == name]
        ratio[name] = np.array([[row[f"L{k}"] / proven[row["seed"]] for k in at] for row in own])
    claims.table(["dynamics", "last L / proven bound"], [[name, pm(r[:, -1], 1, 5)] for name, r in ratio.items()])
    figure, (ax,) = claims.page(1)
    for (name, r), style, colour in zip(ratio.items(), (":", "-", "--"), claims.COLOURS, strict=False):
        ax.plot(at, r.mean(axis=0), style, color=colour, label=LABELS[name])
        ax.fill_between(at, r.min(axis=0), r.max(axis=0), color=colour, alpha=0.25, lw=0)
    ax.axhline(1, color="0.5", lw=0.7)
    ax.annotate("global minimum", (at[-1], 1), (0, 4), textcoords="offset points", ha="right", fontsize=7)
    ax.set(
        xlabel="step $k$",
        ylabel=r"objective $L\,/\,\min L$",
        yscale="log",
        yticks=[1, 1.5, 2, 3, 4, 5],
        yticklabels=["1", "1.5", "2", "3", "4", "5"],
    )
    ax.minorticks_off()
    ax.legend()
    claims.save(figure, "optimization_start", options)


def steps(options: claims.Options) -> None:
    dims, seeds = ((5, 10, 20, 40, 80), range(10)) if options.full else ((5, 10, 20, 40), range(3))
    smallest, limit = (1e-4, 60000) if options.full else (1e-3, 8000)
    rows = options.study("optimization_steps", steps_cell).run(
        {"dynamics": name, "d": d, "n": 6 * d, "seed": seed, "m": 4096, "steps": limit, "smallest": smallest}
        for d in dims
        for name in ("flow", "perturbed")
        for seed in seeds
    )
    epsilons = [epsilon for epsilon in EPSILONS if epsilon >= smallest]

    def reached(name: str, d: int, epsilon: float) -> np.ndarray:
        k = [row[f"steps_{epsilon:g}"] for row in rows if (row["dynamics"], row["d"]) == (name, d)]
        return np.array([np.nan if one < 0 else one for one in k])

    figure, axes = claims.page(2)
    lines = []
    blue, red = claims.COLOURS[:2]
    for name, style, colour, aside in (("flow", "o-", blue, 0.98), ("perturbed", "s--", red, 1.02)):
        over_epsilon = np.array([reached(name, dims[-2], epsilon) for epsilon in epsilons])
        over_d = np.array([reached(name, d, 1e-2) for d in dims])
        for ax, x, k, what in (
            (axes[0], 1 / np.array(epsilons), over_epsilon, f"1/ε at d = {dims[-2]}"),
            (axes[1], np.array(dims, float), over_d, "d at ε = 0.01"),
        ):
            slope, low, high = power(x, k)
            middle = np.median(k, axis=1)
            whiskers = np.array([middle - k.min(axis=1), k.max(axis=1) - middle])
            ax.errorbar(
                aside * x,
                middle,
                whiskers,
                fmt=style,
                color=colour,
                ms=3,
                elinewidth=0.7,
                label=f"{LABELS[name].split(',')[0]}: {slope:.2f} [{low:.2f}, {high:.2f}]",
            )
            shown = ", ".join(f"{one:.0f}" for one in middle)
            lines.append([name, what, f"{slope:.2f}", f"{low:.2f} to {high:.2f}", shown])
    claims.table(["dynamics", "exponent in", "", "95 %", "median steps"], lines)
    axes[0].set(xlabel=r"$1/\varepsilon$", ylabel=r"steps to $L \leq (1+\varepsilon)\,\min L$")
    axes[0].set_title(f"(a) $d = {dims[-2]}$", loc="left")
    axes[1].set(xlabel="dimension $d$")
    axes[1].set_title(r"(b) $\varepsilon = 10^{-2}$", loc="left")
    for ax in axes:
        ax.set(xscale="log", yscale="log")
        ax.set_ylim(top=2.5 * ax.get_ylim()[1])
        ticks = [k for k in (100, 200, 500, 1000, 2000, 5000, 10000, 20000) if np.prod(np.array(ax.get_ylim()) - k) < 0]
        ax.set_yticks(ticks, [str(k) for k in ticks])
        ax.minorticks_off()
        ax.legend(title="exponent [95 %]", title_fontsize=7.5, loc="upper left")
    axes[1].set_xticks(dims, [str(d) for d in dims])
    claims.save(figure, "optimization_steps", options)


def power(x: np.ndarray, k: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Slope of log median k against log x, and its 95 % interval over draws of the seeds; k (points, seeds)."""
    rng = np.random.default_rng(0)

    def slope(pick: np.ndarray) -> float:
        middle = np.median(k[:, pick], axis=1)
        good = np.isfinite(middle) & (middle > 0)
        return np.polyfit(np.log(x[good]), np.log(middle[good]), 1)[0] if good.sum() > 2 else np.nan

    seeds = k.shape[1]
    drawn = [slope(rng.integers(seeds, size=(seeds,))) for _ in range(draws)]
    return (slope(np.arange(seeds)), *np.nanpercentile(drawn, [2.5, 97.5]))


if __name__ == "__main__":
    claims.main(__doc__, {"cells": cells, "start": start, "steps": steps})
