#!/usr/bin/env python3
"""Deeper networks: the margin theorem holds for feedforward ReLU networks of any depth.

    python scripts/claim_deep.py margin    normalized margin as λ → 0 for K = 2, 3, 4, beside the largest margin found
    python scripts/claim_deep.py digits    the same for ten classes (cross-entropy, scikit-learn's digits)
    python scripts/claim_deep.py errors    test errors over n beside those of the NTK of the same depth

Data are the paper's distribution but for digits. Networks have finite width and no biases; λ in R(f) + λ‖Θ‖² is lowered
from 10⁻² by factors of 100, each minimum sought by L-BFGS from the one before. The largest margin is sought by direct
ascent from the first and last of these minima and from random starts: attained, hence a lower bound on the best. For
K = 2 the linear program gives the best itself, γ*. The kernel: hard-margin SVM on the NTK of depth K, and ridge chosen
by leave-one-out. --fast: minutes; --full (wider, more seeds and starts, λ to 10⁻³⁰): half a day.
"""

from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import Problem, exact
from meanfield.datasets.load import load_dataset
from meanfield.kernels import SVM, ReluKernel, RidgePath, class_targets
from meanfield.simulation.config import Data
from meanfield.studies.deep_networks import Network, Stage, ascend, lower_reg, normalized_margin

DEPTHS = (2, 3, 4)
N_TEST = 4096
Margins = dict[int, tuple[np.ndarray, np.ndarray]]  # depth -> (margins over λ, (seeds, λ); best, (seeds,))


def problem_of(source: str, n: int, d: int, seed: int) -> Problem:
    """The paper's data, or n of the digits, pixels scaled to [0, 1], with all the others as test set."""
    if source == "xor":
        data = load_dataset(Data(source="xor", n=n, d=d, n_test=N_TEST, seed=seed))
        return Problem(data.X, data.y, X_test=data.X_test, y_test=data.y_test)
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:n], order[n:]
    return Problem(X[train] / 16, y[train], loss="cross_entropy", X_test=X[test] / 16, y_test=y[test])


def network_of(problem: Problem, depth: int, width: int, seed: int) -> Network:
    return Network.random((problem.d, *[width] * (depth - 1), problem.outputs), seed)


def test_error(problem: Problem, network: Network) -> float:
    return problem.loss.error(network.outputs(problem.X_test), problem.test_targets)


def margin_cell(
    source: str, depth: int, width: int, n: int, d: int, last: int, climbs: int, seed: int
) -> dict[str, Any]:
    """Margins and test errors at λ = 10⁻², 10⁻⁴, …, 10^−last, and the best margin of 2 + climbs ascents."""
    problem = problem_of(source, n, d, seed)
    exponents = range(2, last + 1, 2)
    stages = lower_reg(problem, network_of(problem, depth, width, seed), [10.0**-e for e in exponents])
    starts = [stages[-1].network, stages[0].network]
    starts += [network_of(problem, depth, width, 1000 * (seed + 1) + k) for k in range(climbs)]
    climbed = [ascend(problem, start, iterations=1000) for start in starts]
    margins = [normalized_margin(problem, one) for one in climbed]
    highest = climbed[int(np.argmax(margins))]
    return {
        "best": max(margins),
        "best_cold": max(margins[2:]),
        "best_error": test_error(problem, highest),
        **{f"margin_{e}": stage.margin for e, stage in zip(exponents, stages, strict=True)},
        **{f"error_{e}": test_error(problem, stage.network) for e, stage in zip(exponents, stages, strict=True)},
    }


def program_cell(n: int, d: int, seed: int) -> dict[str, Any]:
    """γ* of two layers of infinite width, and a bound from above (an estimate, see exact.max_margin)."""
    problem = problem_of("xor", n, d, seed)
    found = exact.max_margin(problem.X, problem.y, tolerance=1e-3, effort=1000.0, threads=1, prove=False)
    return {"margin": found.margin, "upper": found.upper}


def kernel_cell(source: str, depth: int, n: int, d: int, seed: int) -> dict[str, Any]:
    """SVM margin over the root of the mean K(x, x), and test errors of SVM and ridge; one against the rest."""
    problem, kernel = problem_of(source, n, d, seed), ReluKernel(depth)
    K, K_test = kernel.gram(problem.X), kernel.gram(problem.X_test, problem.X)
    targets = class_targets(problem.targets)[1]
    svm, ridge = SVM().fit(K, targets), RidgePath(loss="error").fit(K, targets)

    def error(f: np.ndarray) -> float:
        return problem.loss.error(f.reshape(len(f), -1), problem.test_targets)

    return {
        "margin": svm.margin() / float(np.sqrt(np.trace(K) / n)),
        "svm_error": error(svm.predict(K_test)),
        "ridge_error": error(ridge.predict(K_test)),
    }


def error_cell(depth: int, width: int, n: int, d: int, exponent: int, starts: int, seed: int) -> dict[str, Any]:
    """The network of least objective of some starts at λ = 10^−exponent: test error, margin, objective over λ."""
    problem = problem_of("xor", n, d, seed)
    best: Stage | None = None
    for k in range(starts):
        network = network_of(problem, depth, width, 1000 * seed + k)
        stage = lower_reg(problem, network, [10.0**-e for e in range(2, exponent + 1, 2)])[-1]
        best = min(best or stage, stage, key=lambda one: one.objective.value)
    assert best is not None
    scaled = best.objective.value / best.reg
    return {"test_error": test_error(problem, best.network), "margin": best.margin, "scaled": scaled}


def optimum_cell(n: int, d: int, exponent: int, seed: int) -> dict[str, Any]:
    """The global minimum over all two-layer networks at the same λ."""
    problem, reg = problem_of("xor", n, d, seed), 10.0**-exponent
    found = exact.optimum(problem, reg=reg, tolerance=1e-3, effort=1000.0, threads=1)
    error = problem.loss.error(found.predict(problem.X_test), problem.test_targets)
    return {"test_error": error, "scaled": found.value / reg, "relative_gap": found.relative_gap}


def in_bound(depth: int, margin: float, radius: float) -> float:
    """γ K^((K−1)/2) / C, C = ‖x‖: what the paper's bound on the test error divides 1/√n by, comparable over depths."""
    return margin * depth ** ((depth - 1) / 2) / radius


def floor(depth: int) -> float:
    """Margin of |x₁| − |x₂| made of four neurons, then two, all layers of equal norm: there for every n and d."""
    return depth ** (-depth / 2) / (4 * 2 ** ((depth - 2) / 2))


def margin(options: claims.Options) -> None:
    n, d, seeds, last = (120, 20, range(10), 30) if options.full else (60, 10, range(3), 12)
    shape = {
        "source": "xor",
        "width": 200 if options.full else 32,
        "n": n,
        "d": d,
        "last": last,
        "climbs": 8 if options.full else 2,
    }
    rows = options.study("deep_margin", margin_cell).run(
        {**shape, "depth": K, "seed": s} for s in seeds for K in DEPTHS
    )
    program = options.study("deep_program", program_cell).run({"n": n, "d": d, "seed": s} for s in seeds)
    kernel = options.study("deep_kernel", kernel_cell).run(
        {"source": "xor", "depth": K, "n": n, "d": d, "seed": s} for s in seeds for K in DEPTHS
    )
    lines = _table(rows, last, kernel, np.sqrt(d - 1), {K: floor(K) for K in DEPTHS})
    stars = {row["seed"]: row["margin"] for row in program}
    mean, error = claims.mean_and_error(stars.values())
    worst = max(row["upper"] / row["margin"] - 1 for row in program)
    two = [row["best"] / stars[row["seed"]] for row in rows if row["depth"] == 2]
    print(
        f"γ* of the linear program {mean:.5f} ± {error:.5f} (its own gap at most {worst:.1e}); "
        f"two layers by ascent reach {min(two):.4f} to {max(two):.4f} of it"
    )
    _figure("deep_margin", options, rows, last, lines, mean)


def digits(options: claims.Options) -> None:
    n, seeds, last = (200, range(5), 30) if options.full else (100, range(2), 8)
    shape = {
        "source": "digits",
        "width": 200 if options.full else 32,
        "n": n,
        "d": 64,
        "last": last,
        "climbs": 4 if options.full else 1,
    }
    rows = options.study("deep_digits", margin_cell).run(
        {**shape, "depth": K, "seed": s} for s in seeds for K in DEPTHS
    )
    kernel = options.study("deep_kernel", kernel_cell).run(
        {"source": "digits", "depth": K, "n": n, "d": 64, "seed": s} for s in seeds for K in DEPTHS
    )
    radius = float(np.sqrt(np.mean(np.sum(problem_of("digits", n, 64, 0).X ** 2, axis=1))))
    _figure("deep_digits", options, rows, last, _table(rows, last, kernel, radius, {}), None)


def _table(
    rows: list[dict[str, Any]], last: int, kernel: list[dict[str, Any]], radius: float, floors: dict[int, float]
) -> Margins:
    """Prints a line a depth; depth -> (margins over λ, (seeds, λ); best, (seeds,))."""
    lines: Margins = {}
    shown = []
    for K in DEPTHS:
        mine = [row for row in rows if row["depth"] == K]
        other = [row for row in kernel if row["depth"] == K and row["source"] == mine[0]["source"]]
        margins = np.array([[row[f"margin_{e}"] for e in range(2, last + 1, 2)] for row in mine])
        best = np.array([row["best"] for row in mine])
        lines[K] = (margins, best)
        rest = [
            claims.mean_and_error(row[name] for row in table)
            for table, name in ((mine, f"error_{last}"), (other, "svm_error"), (other, "ridge_error"))
        ]
        spread = max(1 - row["best_cold"] / row["best"] for row in mine)
        shown.append(
            (
                K,
                _pm(best, 5),
                _pm(margins[:, 0] / best),
                _pm(margins[:, -1] / best),
                f"{in_bound(K, best.mean(), radius):.4f}",
                f"{spread:.3f}",
                f"{floors.get(K, np.nan):.5f}",
                *(f"{m:.3f} ± {e:.3f}" for m, e in rest),
                _pm([row["margin"] for row in other]),
            )
        )
    claims.table(
        (
            "K",
            "best margin",
            "at 1e-2, of it",
            f"at 1e-{last}",
            "best in bound",
            "cold short by",
            "four neurons",
            "test error",
            "NTK SVM",
            "NTK ridge",
            "NTK margin",
        ),
        shown,
    )
    return lines


def _pm(values: Iterable[float], digits: int = 3) -> str:
    mean, error = claims.mean_and_error(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _figure(
    name: str,
    options: claims.Options,
    rows: list[dict[str, Any]],
    last: int,
    lines: Margins,
    star: float | None,
) -> None:
    """(a) margins in the units of the bound; (b) their deficit. Bands: all seeds; markers: means."""
    figure, (left, right) = claims.page(2)
    x = 1 / (np.arange(2, last + 1, 2) * np.log(10))
    for i, (K, (margins, best)) in enumerate(lines.items()):
        colour, scale = claims.COLOURS[i], K ** ((K - 1) / 2)
        look = {"color": colour, "marker": claims.MARKERS[i], "ms": 3.5, "label": f"$K = {K}$"}
        left.plot(x, scale * margins.mean(axis=0), **look)
        left.fill_between(x, scale * margins.min(axis=0), scale * margins.max(axis=0), color=colour, alpha=0.25, lw=0)
        left.axhline(scale * best.mean(), color=colour, ls="--", lw=0.9)
        deficit = 1 - margins / best[:, None]
        right.plot(x, deficit.mean(axis=0), **look)
        right.fill_between(x, deficit.min(axis=0), deficit.max(axis=0), color=colour, alpha=0.25, lw=0)
    if star is not None:
        left.axhline(np.sqrt(2) * star, color="k", ls=":", lw=1.2)
        left.text(
            0.98 * x.max(),
            np.sqrt(2) * star * 1.01,
            r"$\gamma^\ast$ of the linear program",
            fontsize=7.5,
            ha="right",
            va="bottom",
        )
    left.set(
        xlabel=r"$1/\ln(1/\lambda)$",
        ylabel=r"normalized margin $\gamma\,K^{(K-1)/2}$",
        xlim=(0, None),
        ylim=(0, 1.12 * left.get_ylim()[1]),
    )
    right.set(
        xlabel=r"$1/\ln(1/\lambda)$", ylabel=r"deficit $1 - \gamma/\gamma_{\rm best}$", xlim=(0, None), ylim=(0, None)
    )
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(f"({letter})", loc="left")
        ax.legend(loc="upper left" if ax is right else "center left" if star is None else "lower left")
    claims.save(figure, name, options)


def errors(options: claims.Options) -> None:
    d, seeds = (20, range(10)) if options.full else (10, range(3))
    fractions = (2, 3, 4, 5, 6, 8, 12, 16) if options.full else (2, 3, 4, 6, 8)
    shape = {"d": d, "width": 200 if options.full else 32, "exponent": 6, "starts": 4 if options.full else 2}
    sizes = [k * d for k in fractions]
    rows = options.study("deep_errors", error_cell).run(
        {**shape, "depth": K, "n": n, "seed": s} for n in sizes for K in DEPTHS for s in seeds
    )
    optima = options.study("deep_optimum", optimum_cell).run(
        {"n": n, "d": d, "exponent": 6, "seed": s} for n in sizes for s in seeds
    )
    larger = [*sizes, *(k * d for k in ((24, 32, 48) if options.full else (12, 16, 24, 32)))]
    kernel = options.study("deep_kernel", kernel_cell).run(
        {"source": "xor", "depth": K, "n": n, "d": d, "seed": s} for n in larger for K in DEPTHS for s in seeds
    )
    minima = {(row["n"], row["seed"]): row["scaled"] for row in optima}
    above = [row["scaled"] / minima[row["n"], row["seed"]] - 1 for row in rows if row["depth"] == 2]
    print(
        f"two layers: objective above the infinite-width minimum by {min(above):.4f} to {max(above):.4f}; "
        f"that minimum's estimated gap at most {max(row['relative_gap'] for row in optima):.1e}"
    )
    figure, (ax,) = claims.page(1)
    shown = []
    for i, K in enumerate(DEPTHS):
        look = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 3.5, "lw": 1.1, "capsize": 1.5}
        for table, column, style, ns in ((rows, "test_error", "-", sizes), (kernel, "svm_error", "--", larger)):
            picked = {n: [r[column] for r in table if (r["n"], r["depth"]) == (n, K)] for n in ns}
            mean, bar = np.array([claims.mean_and_error(values) for values in picked.values()]).T
            label = f"$K = {K}$, network" if column == "test_error" else f"$K = {K}$, NTK"
            ax.errorbar(np.array(ns) / d, mean, bar, ls=style, label=label, mfc=None if style == "-" else "w", **look)
            shown.append(
                (
                    label.replace("$", ""),
                    *(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, bar, strict=True)),
                    *[""] * (len(larger) - len(ns)),
                )
            )
    exact_error = [claims.mean_and_error(r["test_error"] for r in optima if r["n"] == n) for n in sizes]
    ax.plot(np.array(sizes) / d, [m for m, _ in exact_error], "k:", lw=1.4, label=r"$K = 2$, global minimum")
    shown.append(
        ("K = 2, global minimum", *(f"{m:.3f} ± {e:.3f}" for m, e in exact_error), *[""] * (len(larger) - len(sizes)))
    )
    claims.table(("test error at n/d =", *(str(n // d) for n in larger)), shown)
    ax.set(xlabel="$n/d$", ylabel="test error", xscale="log", ylim=(-0.01, 0.55))
    ax.set_xticks((2, 4, 8, 16, 32), ("2", "4", "8", "16", "32"))
    ax.minorticks_off()
    ax.legend(fontsize=6.5, labelspacing=0.25, loc="upper right", borderaxespad=0.0)
    claims.save(figure, "deep_errors", options)


if __name__ == "__main__":
    claims.main(__doc__, {"margin": margin, "digits": digits, "errors": errors})
