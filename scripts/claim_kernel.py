#!/usr/bin/env python3
"""The kernel cannot focus: it needs n ~ d² points of the paper's data, where the network needs n ~ d.

    python scripts/claim_kernel.py threshold   test error of the best-regularized NTK against n/d²; where it is 10 %
    python scripts/claim_kernel.py large       the same and d = 80 (ridge), into the same figure
    python scripts/claim_kernel.py focus       signal and noise of kernel and network over n and d
    python scripts/claim_kernel.py align       the network's particles turn into the informative plane
    python scripts/claim_kernel.py margin      the margin a kernel SVM reaches, and the bounds that cap it

Data are the paper's distribution: the label is a function of (x₁, x₂), the other d − 2 coordinates are noise. Signal is
E y f(x), noise the variance of f over the noise coordinates at fixed (x₁, x₂): exact sums for the kernel, 4 × 4096
samples for the network. Kernel: two-layer ReLU NTK, ridge over 50 values of reg, the choice either by leave-one-out or
by the test points themselves ("oracle": the kernel at its luckiest), and logistic regression and the ν-SVM by oracle.
--fast: some 15 minutes on two idle cores, half of them for `large`; --full has more seeds, more of d = 80, n up to
3 d²: hours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, simulate
from meanfield.kernels import (
    SVM,
    ReluKernel,
    RidgePath,
    best,
    margin_cap,
    margin_cap_limit,
    margins,
    paper_data,
    split_exact,
    split_predictor,
)
from meanfield.kernels.solve import score

N_TEST, TARGET = 4000, 0.1
STEPS = (0, 20, 40, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560, 3200, 4000)
NETWORK = {"reg": 5e-3, "m": 4096, "steps": STEPS[-1]}
Curves = dict[tuple[str, str], tuple[list[dict[str, Any]], str]]  # (method, choice) -> rows, and the column of errors


def ridge_cell(d: int, n: int, seed: int) -> dict[str, Any]:
    """Ridge on n points: test errors by both choices, the signal and noise of leave-one-out's and of reg → 0."""
    (X, y), (Z, z), kernel = paper_data(n, d, seed), paper_data(N_TEST, d, 10_000 + seed), ReluKernel()
    path = RidgePath(loss="error").fit(kernel.gram(X), y)
    chosen, chosen_reg = path.coef, path.reg
    coefs = np.stack([path.select(reg).coef for reg in path.regs], axis=1)
    errors = (margins_of(kernel.dot(Z, X, coefs), z) <= 0).mean(axis=0)
    by_loo, least_norm = split_exact(kernel, X, chosen), split_exact(kernel, X, coefs[:, -1])
    return {
        "loo_error": float(errors[list(path.regs).index(chosen_reg)]),
        "oracle_error": float(errors.min()),
        "loo_reg": float(chosen_reg),
        "signal": by_loo.signal,
        "noise": by_loo.noise,
        "signal_0": least_norm.signal,
        "noise_0": least_norm.noise,
    }


def oracle_cell(method: str, d: int, n: int, seed: int) -> dict[str, Any]:
    """Least test error of logistic regression or the ν-SVM (ν = 0: hard margin) over its path."""
    (X, y), (Z, z), kernel = paper_data(n, d, seed), paper_data(N_TEST, d, 10_000 + seed), ReluKernel()
    scale = kernel.diagonal(X[:1])[0]
    settings = scale * np.logspace(-1, -7, 4) if method == "logistic" else np.array([0, 0.3, 0.5, 0.7])
    found = best(method, kernel.gram(X), y, settings, by="test", K_test=kernel.gram(Z, X), y_test=z)
    return {"oracle_error": found.score, "setting": found.setting}


def network_cell(d: int, n: int, seed: int, reg: float, m: int, steps: int) -> dict[str, Any]:
    """Annealed Langevin on n points: test error, signal and noise, and the particles' alignment at STEPS."""
    (X, y), (Z, z) = paper_data(n, d, seed), paper_data(N_TEST, d, 10_000 + seed)
    aligned = {}
    result = simulate(
        Problem(X, y, reg=reg),
        Ensemble.sphere(m, d, seed=seed),
        Langevin(),
        steps=steps,
        record_every=20,
        callback=lambda ensemble, row: aligned.update({int(row["step"]): alignment(ensemble)}),
    )
    predict = result.ensemble.predict
    split = split_predictor(predict, d, seed=20_000 + seed)
    return {
        "test_error": score(predict(Z), z, "error"),
        "margin": result.trace["margin"][-1],
        "signal": split.signal,
        "noise": split.noise,
        "noise_se": split.noise_se,
        **{f"aligned_{step}": aligned[step] for step in STEPS if step <= steps},
    }


def margin_cell(d: int, n: int, seed: int) -> dict[str, Any]:
    """Margin of the hard-margin SVM and its caps, all over √K(x, x), which is the same at every point of D.

    cap weighs the points so that each of the four (x₁, x₂) that occurs has the same share; cap_limit is that of n → ∞.
    """
    X, y = paper_data(n, d, seed)
    _, kind, count = np.unique(X[:, :2], axis=0, return_inverse=True, return_counts=True)
    kernel = ReluKernel()
    K, radius = kernel.gram(X), float(np.sqrt(kernel.diagonal(X[:1])[0]))
    svm = SVM().fit(K, y)
    cap, limit = margin_cap(K, y, 1 / count[kind]), margin_cap_limit(kernel, d)
    return {
        "margin": svm.margin() / radius,
        "dual_bound": svm.margin_bound / radius,
        "cap": cap / radius,
        "cap_limit": limit / radius,
    }


def margins_of(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(k, r) margins of r predictors at once."""
    return np.stack([margins(f, y) for f in scores.T], axis=1)


def alignment(ensemble: Ensemble) -> float:
    """Σ |w| ‖u‖ ‖P s‖² / Σ |w| ‖u‖, s = u/‖u‖, P onto (x₁, x₂): 2/d for uniform particles, 1 for focused ones."""
    w, u = np.abs(ensemble.w[:, 0].astype(float)), ensemble.u.astype(float)
    norm = np.linalg.norm(u, axis=1)
    inside = np.divide((u[:, :2] ** 2).sum(axis=1), norm, out=np.zeros_like(norm), where=norm > 0)
    return float(w @ inside / (w @ norm))


def ridge_cells(ratios: Callable[[int], list[float]], seeds: dict[int, int]) -> list[dict[str, Any]]:
    return [{"d": d, "n": round(r * d**2), "seed": s} for d in seeds for r in ratios(d) for s in range(seeds[d])]


def threshold(options: claims.Options, dims: tuple[int, ...] = (10, 20, 40)) -> None:
    seeds = {10: 48, 20: 16, 40: 8, 80: 4} if options.full else {10: 24, 20: 8, 40: 3, 80: 2}
    grid = [0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4]
    cells = ridge_cells(lambda d: grid if d < 80 or options.full else [1.0, 1.1], {d: seeds[d] for d in dims})
    others = [
        {"method": m, **c}
        for m, top in (("logistic", 40 if options.full else 20), ("svm", 40))
        for c in cells
        if c["d"] <= top and (options.full or (c["seed"] < 8 and c["n"] / c["d"] ** 2 > 0.85))
    ]
    oracle = options.study("kernel_oracle", oracle_cell).run(others)
    rows = options.study("kernel_ridge", ridge_cell).run(cells)
    curves = {
        ("ridge", "leave-one-out"): (rows, "loo_error"),
        ("ridge", "oracle"): (rows, "oracle_error"),
        **{(m, "oracle"): ([r for r in oracle if r["method"] == m], "oracle_error") for m in ("logistic", "svm")},
    }
    found = {
        (*name, d): crossing(part, column, d)
        for name, (part, column) in curves.items()
        for d in dims
        if any(r["d"] == d for r in part)
    }
    claims.table(
        ["method", "choice", "d", "seeds", "n/d² at 10 %", "±"],
        [
            (*name, len({r["seed"] for r in curves[name[:2]][0] if r["d"] == name[2]}), *value)
            for name, value in found.items()
        ],
    )
    threshold_figure(rows, curves, found, options)


def large(options: claims.Options) -> None:
    threshold(options, (10, 20, 40, 80))


def crossing(rows: list[dict[str, Any]], column: str, d: int) -> tuple[float, float]:
    """n/d² at which the mean error over the seeds falls through TARGET, and its jackknife standard error."""
    rows = [row for row in rows if row["d"] == d]
    seeds = sorted({row["seed"] for row in rows})

    def where(kept: set[int]) -> float:
        ns = sorted({row["n"] for row in rows})
        errors = [np.mean([r[column] for r in rows if r["n"] == n and r["seed"] in kept]) for n in ns]
        return np.interp(-TARGET, -np.array(errors), np.array(ns) / d**2, left=np.nan, right=np.nan)

    without = np.array([where(set(seeds) - {seed}) for seed in seeds]) if len(seeds) > 1 else np.array([np.nan])
    k = len(seeds)
    return float(where(set(seeds))), float(np.sqrt((k - 1) * without.var())) if k > 1 else float("nan")


def threshold_figure(
    rows: list[dict[str, Any]],
    curves: Curves,
    found: dict[tuple[str, str, int], tuple[float, float]],
    options: claims.Options,
) -> None:
    figure, (left, right) = claims.page(2)
    for i, d in enumerate(sorted({row["d"] for row in rows})):
        for column, line in (("loo_error", "-"), ("oracle_error", "--")):
            x, mean, error = averaged([r for r in rows if r["d"] == d], column)
            left.errorbar(
                x,
                mean,
                error,
                color=claims.COLOURS[i],
                marker=claims.MARKERS[i],
                ls=line,
                ms=3,
                capsize=2,
                label=f"$d = {d}$" if line == "-" else None,
            )
    left.axhline(TARGET, color="k", lw=0.6, ls=":")
    left.set(xlabel="$n/d^2$", ylabel="test error of ridge", ylim=(0, None))
    left.legend(title="leave-one-out (oracle dashed)", title_fontsize=7.5)
    for i, name in enumerate(curves):
        points = [(d, *value) for (*who, d), value in found.items() if tuple(who) == name]
        d, at, error = (np.array(column) for column in zip(*points, strict=True))
        right.errorbar(
            d * 1.03 ** (i - 1.5),
            at,
            error,
            color=claims.COLOURS[i],
            marker=claims.MARKERS[i],
            ls="none",
            ms=4,
            capsize=2,
            label=", ".join(name).replace("svm", "SVM"),
        )
    right.set(xlabel="dimension $d$", ylabel=r"$n/d^2$ at 10 % test error", xscale="log", ylim=(0, 1.5))
    ticks(right, sorted({row["d"] for row in rows}))
    right.legend(loc="lower right")
    claims.save(figure, "kernel_threshold", options)


def averaged(rows: list[dict[str, Any]], column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n/d², mean and standard error of a column over the seeds, for one d."""
    ns = sorted({row["n"] for row in rows})
    values = [claims.mean_and_error(row[column] for row in rows if row["n"] == n) for n in ns]
    return np.array(ns) / rows[0]["d"] ** 2, *np.array(values).T


def ticks(axis: Any, values: Sequence[int]) -> None:
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()


def focus(options: claims.Options) -> None:
    ratios = [0.1, 0.2, 0.4, 0.8, 1.4] + ([2.0, 3.0] if options.full else [])
    seeds = {10: 24, 20: 8, 40: 3, **({80: 2} if options.full else {})}
    rows = options.study("kernel_ridge", ridge_cell).run(
        ridge_cells(lambda d: [r for r in ratios if d < 80 or r <= 1.4], seeds)
    )
    nets = options.study("kernel_network", network_cell).run(network_cells(options))
    table, figure, axes = [], *claims.page(2)
    for i, d in enumerate(sorted({row["d"] for row in rows})):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 3.5, "capsize": 2}
        for which, signal, noise in (("reg → 0", "signal_0", "noise_0"), ("leave-one-out", "signal", "noise")):
            mine = ratio_over(rows, d, signal, noise)
            table += [(f"kernel, {which}", d, n, n / d**2, *value) for n, *value in mine]
            if which != "reg → 0":
                n, value, error = bars(mine)
                axes[0].errorbar(n / d**2, value, error, ls="-", **style, label=f"kernel, $d = {d}$")
                axes[1].errorbar(n / d, value, error, ls="-", **style)
        net = ratio_over(nets, d, "signal", "noise")
        table += [("network", d, n, n / d**2, *value) for n, *value in net]
        n, value, error = bars(net)
        for ax, x in ((axes[0], n / d**2), (axes[1], n / d)):
            ax.errorbar(
                x, value, error, ls="--", mfc="white", **style, label=f"network, $d = {d}$" if ax is axes[1] else None
            )
    claims.table(["predictor", "d", "n", "n/d²", "signal/√noise", "×/÷"], table)
    for ax, variable in zip(axes, ("$n/d^2$", "$n/d$"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel=variable, ylabel=r"signal$\,/\sqrt{\mathrm{noise}}$")
        ax.legend(loc="upper left")
    claims.save(figure, "kernel_focus", options)


def network_cells(options: claims.Options) -> list[dict[str, Any]]:
    seeds = {10: 16, 20: 8, 40: 8, 80: 4} if options.full else {10: 8, 20: 5, 40: 3}
    return [
        {"d": d, "n": k * d, "seed": s, **NETWORK} for d in seeds for k in (1, 2, 4, 6, 8, 12) for s in range(seeds[d])
    ]


def ratio_over(rows: list[dict[str, Any]], d: int, signal: str, noise: str) -> list[tuple[int, float, float]]:
    """(n, ratio, factor): mean signal over the root of the mean noise, over the seeds, uncertain by × or ÷ factor.

    log factor is the jackknife's standard error of the ratio's logarithm.
    """
    rows, out = [row for row in rows if row["d"] == d], []
    for n in sorted({row["n"] for row in rows}):
        s, v = np.array([(row[signal], row[noise]) for row in rows if row["n"] == n]).T
        k = len(s)
        without = (s.sum() - s) / np.sqrt((k - 1) * (v.sum() - v)) if k > 1 else np.full(1, np.nan)
        with np.errstate(invalid="ignore"):  # a mean signal below zero has no logarithm, and no bar
            factor = np.exp(np.sqrt((k - 1) * np.log(without).var()))
        out.append((n, float(s.mean() / np.sqrt(v.mean())), float(factor)))
    return out


def bars(mine: list[tuple[int, float, float]]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """n, ratio and the ends of its error bars, as `errorbar` takes them."""
    n, ratio, factor = np.array(mine).T
    return n, ratio, [ratio - ratio / factor, ratio * factor - ratio]


def align(options: claims.Options) -> None:
    nets = options.study("kernel_network", network_cell).run(network_cells(options))
    rows = [row for row in nets if row["n"] == 6 * row["d"]]
    figure, (ax,) = claims.page(1)
    final = []
    for i, d in enumerate(sorted({row["d"] for row in rows})):
        values = [claims.mean_and_error(r[f"aligned_{step}"] for r in rows if r["d"] == d) for step in STEPS]
        mean, error = np.array(values).T
        ax.plot(STEPS, mean, color=claims.COLOURS[i], ls=claims.LINES[i % 4], label=f"$d = {d}$")
        ax.fill_between(STEPS, mean - error, mean + error, color=claims.COLOURS[i], alpha=0.2, lw=0)
        ax.axhline(2 / d, color=claims.COLOURS[i], lw=0.8, ls=":", label="kernel: $2/d$" if i == 0 else None)
        errors = claims.mean_and_error(r["test_error"] for r in rows if r["d"] == d)
        final.append((d, 6 * d, 2 / d, mean[0], mean[-1], error[-1], *errors))
    claims.table(["d", "n", "2/d", "alignment at start", "at end", "±", "test error", "±"], final)
    ax.set(xlabel="step $k$", ylabel=r"alignment with $(x_1, x_2)$", ylim=(0, 1.02))
    ax.set_xscale("symlog", linthresh=20)
    ax.set_xlim(0, STEPS[-1])
    ticks(ax, [0, 20, 100, 1000, 4000])
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.22))
    claims.save(figure, "kernel_align", options)


def margin(options: claims.Options) -> None:
    seeds = range(8 if options.full else 3)
    over_n = [{"d": 20, "n": n, "seed": s} for n in (25, 50, 100, 200, 400, 800, 1600) for s in seeds]
    dims = (10, 14, 20, 28, 40, *((56,) if options.full else ()))
    over_d = [{"d": d, "n": 2 * d**2, "seed": s} for d in dims for s in seeds]
    study = options.study("kernel_margin", margin_cell)
    by_n, by_d = study.run(over_n), study.run(over_d)
    figure, axes = claims.page(2)
    for ax, rows, key in ((axes[0], by_n, "n"), (axes[1], by_d, "d")):
        x = np.array(sorted({row[key] for row in rows}))
        columns = {
            c: np.array([claims.mean_and_error(r[c] for r in rows if r[key] == v) for v in x]).T
            for c in ("margin", "cap", "cap_limit")
        }
        d = x if key == "d" else np.full(len(x), 20)
        network = 1 / (4 * np.sqrt(d - 1))
        for i, (c, label) in enumerate((("margin", "SVM, reached"), ("cap", "cap of the $n$ points"))):
            ax.errorbar(
                x,
                *columns[c],
                color=claims.COLOURS[i],
                marker=claims.MARKERS[i],
                ls=claims.LINES[i],
                ms=3,
                capsize=2,
                label=f"kernel: {label}",
            )
        ax.plot(x, columns["cap_limit"][0], color=claims.COLOURS[2], ls="-.", label=r"kernel: cap at $n \to \infty$")
        ax.plot(x, network, color="k", ls=":", label="network: at least")
        claims.table(
            [key, "SVM margin", "±", "cap", "±", "cap at n → ∞", "network"],
            [
                (int(v), *columns["margin"][:, j], *columns["cap"][:, j], columns["cap_limit"][0, j], network[j])
                for j, v in enumerate(x)
            ],
        )
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="$n$ ($d = 20$)" if key == "n" else "$d$ ($n = 2 d^2$)",
            ylabel="margin / largest output",
        )
        marks = [0.01, 0.02, 0.05, 0.1, 0.2]
        ax.set_yticks(marks, [str(mark) for mark in marks])
        ax.set_ylim(0.008, 0.25)
        ax.minorticks_off()
    ticks(axes[1], sorted({row["d"] for row in by_d}))
    axes[0].legend()
    slope = np.polyfit(np.log([r["d"] for r in by_d]), np.log([r["margin"] for r in by_d]), 1)[0]
    print(f"SVM margin at n = 2 d² falls like d^{slope:.2f}, the network's floor like d^-0.5")
    claims.save(figure, "kernel_margin", options)


if __name__ == "__main__":
    claims.main(__doc__, {"threshold": threshold, "large": large, "focus": focus, "align": align, "margin": margin})
