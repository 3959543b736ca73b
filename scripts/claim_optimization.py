#!/usr/bin/env python3
"""Noisy gradient descent reaches the global minimum: where plain flow fails, and in how many steps.

    python scripts/claim_optimization.py cells         objective against the best known one, n × λ × seeds (d = 20)
    python scripts/claim_optimization.py start         from a start where plain gradient flow is stuck
    python scripts/claim_optimization.py steps         steps to come within ε of the minimum, over ε and d

Data are the paper's distribution. Figures and tables go to data/results/. The reference minimum of a problem is the
lowest objective met by `exact.optimum` and by a run four times as long: attained, so an upper bound on the true one.
`--fast` (default) takes minutes, `--full` an hour. Each prints the versions it ran with.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from meanfield import Ensemble, GradientFlow, Langevin, PerturbedFlow, Problem, Schedule, exact, simulate
from meanfield.config import Data
from meanfield.datasets import load_dataset
from meanfield.runfile import describe_versions

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"


def paper(n, d, seed, reg, **more):
    data = load_dataset(Data(source="xor", n=n, d=d, n_test=4096, seed=seed))
    return Problem(data.X, data.y, X_test=data.X_test, y_test=data.y_test, reg=reg, **more)


def reference(problem, seconds=20.0):
    """(lowest objective known, lower bound that is an estimate)."""
    found = exact.optimum(problem, seconds=seconds)
    long_run = simulate(problem, Ensemble.sphere(4096, problem.d, seed=1), steps=16000, record_every=16000)
    return min(found.value, problem.objective(long_run.ensemble).value), found.lower_bound


def cells(full):
    """Default dynamics, automatic step size, m 4096: relative distance to the reference, test error, seconds."""
    rows = []
    for seed in range(3 if full else 1):
        for n in (40, 80, 160):
            for reg in (5e-3, 5e-4, 5e-5):
                problem = paper(n, 20, seed, reg)
                best, _ = reference(problem, 60.0 if full else 20.0)
                for steps in (4000, 12000):
                    began = time.perf_counter()
                    result = simulate(problem, Ensemble.sphere(4096, 20, seed=seed), steps=steps, record_every=200)
                    seconds = time.perf_counter() - began
                    value = problem.objective(result.ensemble).value
                    f = result.ensemble.predict(problem.X_test)
                    error = problem.loss.error(f[:, None], problem.test_targets)
                    above = max(0.0, value / best - 1)
                    rows.append((seed, n, reg, steps, value, min(best, value), above, error, seconds))
                    print(f"seed {seed} n {n:3d} λ {reg:.0e} steps {steps:5d}  L {value:.6f}  best {best:.6f}  "
                          f"above {above:.4f}  test error {error:.4f}  {seconds:.1f} s", flush=True)  # fmt: skip
    write("optimization_cells", "seed n reg steps objective best above test_error seconds", rows)


def start(full):
    """Every output weight positive and larger than its input weight: plain flow can never make a negative output."""
    n, d, m, reg, steps = 160, 20, 4096, 5e-3, 12000 if full else 6000
    best, _ = reference(paper(n, d, 0, reg))
    u = Ensemble.sphere(m, d, seed=3, dtype="float64").u
    ensemble = Ensemble.from_arrays(np.ones(m), 0.5 * u / np.linalg.norm(u, axis=1, keepdims=True), dtype="float32")
    cooling = Schedule("geometric", 1e-3, 1e-8, round(0.7 * steps))
    tries = {
        "plain gradient flow": (GradientFlow(), 0.0),
        r"noisy gradient descent, $\tau$ lowered": (Langevin(), cooling),
        r"perturbed flow, $\sigma = 10^{-4}$": (PerturbedFlow(rebirth_rate=1e-4), 0.0),
    }
    traces = {}
    for name, (dynamics, temperature) in tries.items():
        problem = paper(n, d, 0, reg, temperature=temperature)
        traces[name] = simulate(problem, ensemble, dynamics, steps=steps, record_every=20, anneal=False).trace
        final = traces[name]["objective"][-1]
        print(f"{name:42s} L {final:.5f}, {final / best:.3f} × the minimum")
    figure_start(traces, best)
    write("optimization_start", "dynamics objective over_minimum",
          [(name, t["objective"][-1], t["objective"][-1] / best) for name, t in traces.items()])  # fmt: skip


def steps(full):
    """First step within ε of the minimum at fixed λ, n = 6 d: median over seeds, and exponents in 1/ε and d."""
    epsilons = np.logspace(-1, -3 if not full else -4, 7)
    rows = []
    for d in (5, 10, 20, 40, 80) if full else (5, 10, 20, 40):
        for seed in range(5 if full else 3):
            problem = paper(6 * d, d, seed, 5e-3)
            best, _ = reference(problem, 5.0)
            for name, dynamics in (("flow", GradientFlow()), ("perturbed", PerturbedFlow(rebirth_rate=1e-5))):
                trace = simulate(problem, Ensemble.sphere(4096, d, seed=seed), dynamics, steps=40000 if full else 8000,
                                 record_every=5, anneal=False).trace  # fmt: skip
                for epsilon in epsilons:
                    reached = np.flatnonzero(trace["objective"] <= (1 + epsilon) * best)
                    rows.append((name, d, seed, epsilon, trace["step"][reached[0]] if len(reached) else np.nan))
        print(f"d {d} done", flush=True)
    write("optimization_steps", "dynamics d seed epsilon steps", rows)
    figure_steps(rows, epsilons)


def figure_start(traces, best):
    figure, (ax,) = page(1)
    for (name, trace), style in zip(traces.items(), (":", "-", "--"), strict=True):
        ax.plot(trace["step"], trace["objective"], style, label=name)
    ax.axhline(best, color="k", lw=0.8)
    ax.text(ax.get_xlim()[1], best, "global minimum", ha="right", va="bottom", fontsize=7)
    ax.set(xlabel="step $k$", ylabel="objective $L$", yscale="log")
    ax.legend(fontsize=7)
    save(figure, "optimization_start")


def figure_steps(rows, epsilons):
    figure, axes = page(2)
    for name, marker in (("flow", "o-"), ("perturbed", "s--")):
        table = {(d, e): np.median([r[4] for r in rows if r[0] == name and r[1] == d and r[3] == e])
                 for d in {r[1] for r in rows} for e in epsilons}  # fmt: skip
        dims = sorted({d for d, _ in table})
        over_epsilon = np.array([table[dims[-2], e] for e in epsilons])
        over_d = np.array([table[d, epsilons[3]] for d in dims])
        for ax, x, y in ((axes[0], 1 / epsilons, over_epsilon), (axes[1], np.array(dims), over_d)):
            good = np.isfinite(y) & (y > 0)
            slope = np.polyfit(np.log(x[good]), np.log(y[good]), 1)[0] if good.sum() > 1 else np.nan
            ax.loglog(x[good], y[good], marker, ms=3, label=f"{name}, slope {slope:.2f}")
            variable = "1/ε" if ax is axes[0] else "d"
            print(f"{name}: exponent in {variable} {slope:.2f}, reached {good.sum()} of {len(y)}")
    axes[0].set(xlabel=r"$1/\varepsilon$", ylabel=r"steps to $L \leq (1+\varepsilon) L^*$", title=f"$d = {dims[-2]}$")
    axes[1].set(xlabel="dimension $d$", title=rf"$\varepsilon = {epsilons[3]:.2g}$")
    axes[1].set_xticks(dims, [str(d) for d in dims])
    axes[1].minorticks_off()
    for ax in axes:
        ax.legend(fontsize=7)
    save(figure, "optimization_steps")


def page(columns):
    import matplotlib

    from meanfield.plots import BLUE, GREEN, RED, STYLE

    matplotlib.rcParams.update(STYLE, **{"axes.prop_cycle": matplotlib.cycler(color=[RED, BLUE, GREEN])})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * columns, 2.6), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save(figure, name):
    for kind in ("png", "pdf"):
        figure.savefig(RESULTS / f"{name}.{kind}")
    print(RESULTS / f"{name}.pdf")


def write(name, head, rows):
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head.split(), *rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=["cells", "start", "steps"])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true")
    mode.add_argument("--fast", action="store_true", help="the default")
    arguments = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in describe_versions().items()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    {"cells": cells, "start": start, "steps": steps}[arguments.claim](arguments.full)
