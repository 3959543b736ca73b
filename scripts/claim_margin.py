#!/usr/bin/env python3
"""Weak regularization finds the maximum margin, and how large a margin a given width allows.

    python scripts/claim_margin.py paper        the paper's data: γ(ρ_λ) against 1/log(1/λ), down to λ = 1e-8
    python scripts/claim_margin.py line         points on a line: the same, and the functions themselves
    python scripts/claim_margin.py multiclass   four classes, cross-entropy
    python scripts/claim_margin.py width        the best margin against the width m = 1, 2, 4, …, 1024

γ* comes from a linear program with column generation, c of γ = γ*(1 − c/log(1/λ) + …) from its dual solution of least
KL (meanfield/optimality/margin_law.py), the proven bound on γ* from `exact.max_margin` to 1e-4. `optimum` columns
are exact.optimum's, the neurons of the global minimum found one by one; `gap` is (L − its lower bound)/L of the trained
ensemble, an estimate from above of how far that is from the minimum. Fast mode is meant for half an hour on two
idle cores (not measured: they were shared), full mode for hours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, Schedule, exact, simulate
from meanfield.datasets.load import load_dataset
from meanfield.optimality.margin_law import margin_law
from meanfield.optimality.max_margin import MaxMargin, max_margin, refitted
from meanfield.simulation.config import Data

PATIENCE = 1e4  # effort: searches stop by their tolerance, and long before this
GRID = np.linspace(-1, 1, 401)
BySeed = dict[int, list[dict[str, Any]]]  # the rows of a seed, by falling λ


def dataset(source: str, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, y, X_test, y_test; "corners" is the paper's distribution with its four corners as four classes."""
    data = load_dataset(Data(source="xor" if source == "corners" else source, n=n, d=d, n_test=4096, seed=seed))
    assert data.X_test is not None
    assert data.y_test is not None
    if source != "corners":
        return data.X, data.y, data.X_test, data.y_test
    return data.X, corner(data.X), data.X_test, corner(data.X_test)


def corner(X: np.ndarray) -> np.ndarray:
    return np.argmax(X[:, :2] @ np.array([[1, -1, 0, 0], [0, 0, 1, -1]]), axis=1)


def loss_of(source: str) -> str:
    return "cross_entropy" if source == "corners" else "logistic"


def limit(source: str, n: int, d: int, seed: int, tolerance: float) -> dict[str, Any]:
    """γ* from below and, by climbing, an estimate from above; the law of its approach. Nothing here is proven."""
    X, y, _, _ = dataset(source, n, d, seed)
    found = max_margin(X, y, loss=loss_of(source), tolerance=tolerance, effort=PATIENCE, threads=1, prove=False)
    law = margin_law(X, y, found, loss=loss_of(source), threads=1)
    results = {
        "margin": law.margin,
        "estimate": min(found.estimate, law.peak * law.margin),
        "neurons": len(found.u),
        "c": law.deficit,
        "c_precision": law.precision,
        "kl": law.divergence,
        "excess": law.excess,
        "peak": law.peak,
    }
    return {**results, "curve": curve(found)} if source == "line" else results


def proof(source: str, n: int, d: int, seed: int, tolerance: float) -> dict[str, Any]:
    """A proven bound on γ*, and the margin of a network."""
    X, y, _, _ = dataset(source, n, d, seed)
    found = max_margin(X, y, loss=loss_of(source), tolerance=tolerance)
    return {"margin": found.margin, "upper": found.upper, "estimate": found.estimate}


def trained(
    source: str, n: int, d: int, seed: int, reg: float, m: int, steps: int, noise: float = 0.0
) -> dict[str, Any]:
    """An ensemble annealed to λ = reg, beside the global minimum; τ falls from `noise`, if any, to 1e-11 of it."""
    X, y, X_test, y_test = dataset(source, n, d, seed)
    temperature = Schedule("geometric", noise, 1e-11 * noise, round(0.8 * steps)) if noise else 0.0
    problem = Problem(X, y, loss=loss_of(source), reg=reg, temperature=temperature, X_test=X_test, y_test=y_test)
    start = Ensemble.sphere(m, problem.d, problem.outputs, seed=seed, dtype="float64")
    run = simulate(problem, start, Langevin(), steps=steps, record_every=steps, threads=1)
    best = exact.optimum(problem, tolerance=1e-5, effort=PATIENCE, threads=1)
    value, _, penalty = problem.objective(run.ensemble, threads=1)
    norm = float(np.sum(best.w**2) + np.sum(best.u**2))
    results = {
        "margin": float(run.trace["margin"][-1]),
        "norm": penalty / reg,
        "gap": 1 - best.lower_bound / value,
        "test_error": float(run.trace["test_error"][-1]),
        "optimum_margin": float(problem.loss.margins(best.predict(X), problem.targets).min()) / norm,
        "optimum_norm": norm,
        "optimum_gap": best.relative_gap,
        "optimum_neurons": len(best.u),
    }
    return {**results, "curve": curve(run.ensemble, norm=penalty / reg)} if source == "line" else results


def curve(network: Ensemble | MaxMargin, norm: float = 1.0) -> str:
    """f/∫‖θ‖² on the grid, as text."""
    f = network.predict(np.column_stack([GRID, np.ones_like(GRID)])).reshape(-1) / norm
    return " ".join(f"{value:.6g}" for value in f)


def width(n: int, d: int, seed: int, m: int, start: int, reg: float, steps: int) -> dict[str, Any]:
    """m particles annealed to λ = reg; then the output weights that are best for their directions."""
    X, y, X_test, y_test = dataset("xor", n, d, seed)
    problem = Problem(X, y, reg=reg, X_test=X_test, y_test=y_test)
    particles = Ensemble.sphere(m, d, seed=start, dtype="float64")
    run = simulate(problem, particles, Langevin(), steps=steps, record_every=steps, threads=1)
    margin, w, u = refitted(X, y, run.ensemble.u)
    f = np.maximum(X_test @ u.T, 0.0) @ w
    return {
        "trained_margin": max(0.0, float(run.trace["margin"][-1])),
        "margin": margin,
        "trained_test_error": float(run.trace["test_error"][-1]),
        "test_error": problem.loss.error(f, problem.test_targets),
    }


def program(n: int, d: int, seed: int, tolerance: float) -> dict[str, Any]:
    """The network of the linear program: its width, margin and test error."""
    X, y, X_test, y_test = dataset("xor", n, d, seed)
    found = max_margin(X, y, tolerance=tolerance, effort=PATIENCE, threads=1, prove=False)
    error = float(np.mean(found.predict(X_test)[:, 0] * y_test <= 0))
    return {"m": len(found.u), "margin": found.margin, "test_error": error}


def extrapolated(x: np.ndarray, ratio: np.ndarray) -> tuple[float, float]:
    """γ/γ* at x = 0 and c, of γ/γ* = a − c x + b x², by least squares."""
    a, slope, _ = np.polynomial.polynomial.polyfit(x, ratio, 2)
    return a, -slope


def fitted(x: np.ndarray, ratio: np.ndarray) -> float:
    """c of γ/γ* = 1 − c x + b x², by least squares."""
    return -np.linalg.lstsq(np.stack([x, x**2], axis=1), ratio - 1, rcond=None)[0][0]


def left_out(fit: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, ratio: np.ndarray) -> tuple[float, float]:
    """What `fit` returns, and the most that it changes when one point is left out."""
    value = fit(x, ratio)
    return value, max(abs(fit(np.delete(x, k), np.delete(ratio, k)) - value) for k in range(len(x)))


def approach(
    options: claims.Options,
    name: str,
    source: str,
    n: int,
    d: int,
    seeds: Sequence[int],
    regs: Sequence[float],
    m: int,
    tolerance: float,
    steps: int | None = None,
    **more: Any,
) -> tuple[list[dict[str, Any]], BySeed]:
    """Both studies of a part, the tables, and (limits, {seed: rows by falling λ}).

    steps: 4000 down to λ = 1e-5 and 8000 below, unless given. more: columns of the configurations of `trained`.
    """
    limits = options.study(f"margin_{name}_limit", limit).run(
        {"source": source, "n": n, "d": d, "seed": s, "tolerance": tolerance} for s in seeds
    )
    rows = options.study(f"margin_{name}", trained).run(
        {
            "source": source,
            "n": n,
            "d": d,
            "seed": s,
            "reg": reg,
            "m": m,
            "steps": steps or (4000 if reg >= 1e-5 else 8000),
            **more,
        }
        for s in seeds
        for reg in regs
    )
    by_seed = {s: [row for row in rows if row["seed"] == s] for s in seeds}
    tabulate(limits, by_seed)
    tabulate_proofs(options, name, limits)
    return limits, by_seed


def tabulate(limits: list[dict[str, Any]], rows: BySeed) -> None:
    """Means over the draws for each λ; then the constants of each draw."""
    head = ["λ", "γ/γ*", "±", "optimum", "law", "1 − c/log(1/λ)", "γ*∫‖θ‖² − min y f", "c", "largest gap", "test error"]
    lines = []
    for own in zip(*rows.values(), strict=True):
        pairs = list(zip(own, limits, strict=True))
        columns = [
            [r["optimum_margin"] / one["margin"] for r, one in pairs],
            [predicted(r["reg"], one) for r, one in pairs],
            [1 - one["c"] / np.log(1 / r["reg"]) for r, one in pairs],
            [local(r, one) for r, one in pairs],
            [one["c"] for one in limits],
        ]
        ratio = claims.mean_and_error(r["margin"] / one["margin"] for r, one in pairs)
        lines.append(
            [
                f"{own[0]['reg']:.0e}",
                *ratio,
                *map(np.mean, columns),
                max(r["gap"] for r in own),
                np.mean([r["test_error"] for r in own]),
            ]
        )
    claims.table(head, lines)
    head = [
        "seed",
        "γ* (LP)",
        "estimate/γ* − 1",
        "γ(λ→0)/γ*",
        "±",
        "c (dual)",
        "±",
        "c in 1/log(1/λ)",
        "±",
        "c in 1/log(γ*/λ)",
        "±",
    ]
    claims.table(head, [constants(one, own) for one, own in zip(limits, rows.values(), strict=True)])


def tabulate_proofs(options: claims.Options, name: str, limits: list[dict[str, Any]]) -> None:
    """The proven bound on each draw's γ*, over the margin of the best network that is known."""
    draws = [{column: one[column] for column in ("source", "n", "d", "seed")} for one in limits]
    proofs = options.study(f"margin_{name}_proof", proof).run({**one, "tolerance": 1e-4} for one in draws)
    lines = []
    for one, two in zip(limits, proofs, strict=True):
        known = max(one["margin"], two["margin"])
        lines.append([one["seed"], f"{known:.7f}", f"{two['upper']:.7f}", two["upper"] / known - 1])
    claims.table(["seed", "attained", "proven upper", "upper/attained − 1"], lines)


def local(row: dict[str, Any], one: dict[str, Any]) -> float:
    """γ* ∫‖θ‖² − min y f, which tends to c."""
    return row["norm"] * (one["margin"] - row["margin"])


def constants(one: dict[str, Any], rows: list[dict[str, Any]]) -> list[float]:
    """γ* and c of one draw from the dual, and as the runs have them; ± is what leaving one λ out changes at most."""
    reg, star = np.array([r["reg"] for r in rows]), one["margin"]
    x, scaled, ratio = 1 / np.log(1 / reg), 1 / np.log(star / reg), np.array([r["margin"] for r in rows]) / star
    return [
        one["seed"],
        star,
        one["estimate"] / star - 1,
        *left_out(lambda x, r: extrapolated(x, r)[0], x, ratio),
        one["c"],
        one["c_precision"],
        *left_out(fitted, x, ratio),
        *left_out(fitted, scaled, ratio),
    ]


def predicted(reg: Any, one: dict[str, Any]) -> Any:
    """γ(ρ_λ)/γ* by the dual solution of least KL."""
    size = np.log(one["margin"] / reg)
    return (size - one["excess"]) / (size - one["kl"])


def draw_approach(ax: Any, limits: list[dict[str, Any]], rows: BySeed) -> None:
    """γ/γ* of every seed against 1/log(1/λ), with the law from the dual solution and the extrapolation."""
    regs = [row["reg"] for row in next(iter(rows.values()))]
    x = 1 / np.log(1 / np.array(regs))
    fine = np.linspace(2e-3, x[0], 200)
    for k, (one, own) in enumerate(zip(limits, rows.values(), strict=True)):
        style = {"color": claims.COLOURS[k], "marker": claims.MARKERS[k], "ms": 4, "ls": "none", "mfc": "none"}
        ax.plot(x, [row["margin"] / one["margin"] for row in own], **style, label=f"draw {one['seed'] + 1}")
        ax.plot(fine, predicted(np.exp(-1 / fine), one), color=claims.COLOURS[k], lw=0.9, ls=claims.LINES[k % 4])
        ax.plot(0, constants(one, own)[3], marker=claims.MARKERS[k], color=claims.COLOURS[k], ms=5, clip_on=False)
    ax.axhline(1, color="k", lw=0.6)
    ax.set(xlabel=r"$1/\log(1/\lambda)$", ylabel=r"normalized margin $\gamma(\rho_\lambda)/\gamma^*$")
    ax.set_xlim(0, None)
    ax.legend(title="open: trained; lines: law; filled: extrapolated", title_fontsize=7, loc="lower left")
    top = ax.secondary_xaxis("top")
    named = [k for k, reg in enumerate(regs) if round(np.log10(reg), 6) % 1 == 0]
    named = [k for k in named if k in (named[0], named[-1]) or x[k] - x[-1] > 0.12 * x[0]]  # where there is room
    top.set_xticks(x[named], [rf"$10^{{{round(np.log10(regs[k]))}}}$" for k in named], fontsize=7)
    top.set_xlabel(r"$\lambda$", labelpad=1, loc="left")
    ax.grid(axis="x", visible=False)


def draw_constants(ax: Any, limits: list[dict[str, Any]], rows: BySeed) -> None:
    """γ*∫‖θ‖² − min y f, which tends to c, against 1/log(1/λ)."""
    for k, (one, own) in enumerate(zip(limits, rows.values(), strict=True)):
        x = [1 / np.log(1 / row["reg"]) for row in own]
        c = [local(row, one) for row in own]
        ax.plot(x, c, color=claims.COLOURS[k], marker=claims.MARKERS[k], ms=4, lw=0.8, ls=":", mfc="none")
        ax.errorbar(
            0,
            one["c"],
            one["c_precision"],
            color=claims.COLOURS[k],
            marker=claims.MARKERS[k],
            ms=5,
            clip_on=False,
            capsize=2,
        )
    ax.set(xlabel=r"$1/\log(1/\lambda)$", ylabel=r"$\gamma^* \int\!\|\theta\|^2 d\rho_\lambda -$ least margin")
    ax.text(0.03, 0.05, "open: trained; filled: $c$ from the dual solution", transform=ax.transAxes, fontsize=7.5)
    ax.set_xlim(0, None)
    ax.set_ylim(0, None)


def paper(options: claims.Options) -> None:
    seeds = range(5 if options.full else 3)
    regs = [10.0 ** -(k / 2) for k in range(6, 17)] if options.full else [10.0**-k for k in range(3, 9)]
    found = approach(options, "paper", "xor", 160, 20, seeds, regs, 8192 if options.full else 1024, 5e-3)
    figure, axes = claims.page(2)
    draw_approach(axes[0], *found)
    draw_constants(axes[1], *found)
    claims.save(figure, "margin_paper", options)


def line(options: claims.Options) -> None:
    regs = [10.0**-k for k in range(5, 13 if options.full else 11)]
    m, steps = (1024, 300_000) if options.full else (256, 100_000)
    limits, rows = approach(options, "line", "line", 12, 2, [0], regs, m, 1e-5, steps, noise=1e-3)
    figure, axes = claims.page(2)
    draw_approach(axes[0], limits, rows)
    draw_functions(axes[1], limits[0], rows[0])
    claims.save(figure, "margin_line", options)


def draw_functions(ax: Any, one: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """f/(γ* ∫‖θ‖²): the maximum-margin network, and those of a large and a small λ."""
    X, y, _, _ = dataset("line", one["n"], 2, 0)
    shown = [next(row for row in rows if row["reg"] == reg) for reg in (1e-5, 1e-8)]
    for network, style, label in (
        (one, {"color": "k", "lw": 2.2, "alpha": 0.35}, "maximum margin (LP)"),
        (shown[0], {"color": claims.COLOURS[1], "ls": "--"}, r"$\lambda = 10^{-5}$"),
        (shown[1], {"color": claims.COLOURS[0]}, r"$\lambda = 10^{-8}$"),
    ):
        f = np.array(network["curve"].split(), dtype=float) / one["margin"]
        ax.plot(GRID, f, label=label, **style)
    ax.plot(X[y > 0, 0], y[y > 0], "o", color="k", ms=3, label=r"data, $y = +1$")
    ax.plot(X[y < 0, 0], y[y < 0], "o", color="k", mfc="w", ms=3, label=r"data, $y = -1$")
    ax.set(xlabel="$x$", ylabel=r"$f(x)\,/\,\gamma^*\!\int\!\|\theta\|^2 d\rho$")
    ax.set_ylim(-5, 8.5)
    ax.legend(fontsize=7, ncols=2, loc="upper right")


def multiclass(options: claims.Options) -> None:
    seeds = range(5 if options.full else 2)
    regs = [10.0**-k for k in range(3, 9)]
    n, d, m = (80, 10, 4096) if options.full else (40, 5, 1024)
    found = approach(options, "multiclass", "corners", n, d, seeds, regs, m, 5e-3)
    figure, axes = claims.page(2)
    draw_approach(axes[0], *found)
    draw_constants(axes[1], *found)
    claims.save(figure, "margin_multiclass", options)


def width_part(options: claims.Options) -> None:
    n, d, seeds, starts = (32, 10, range(5), 64) if options.full else (24, 8, range(3), 24)
    widths = [2**k for k in range(11)]
    limits = options.study("margin_width_limit", limit).run(
        {"source": "xor", "n": n, "d": d, "seed": s, "tolerance": 5e-3} for s in seeds
    )
    programs = options.study("margin_width_program", program).run(
        {"n": n, "d": d, "seed": s, "tolerance": 1e-3} for s in seeds
    )
    tries = {m: starts if m <= 16 else starts // 4 if m <= 64 else 2 for m in widths}
    rows = options.study("margin_width", width).run(
        {"n": n, "d": d, "seed": s, "m": m, "start": start, "reg": 1e-7, "steps": 4000}
        for s in seeds
        for m in widths
        for start in range(tries[m])
    )
    star = {one["seed"]: max(one["margin"], two["margin"]) for one, two in zip(limits, programs, strict=True)}
    best, errors, drops = envelopes([*rows, *programs], seeds, widths, star)
    ends = as_trained(rows, seeds, widths, star)
    columns = (best, ends[0], ends[1], errors)
    claims.table(
        ["m", "best known", "±", "trained, best start", "±", "trained, mean", "±", "test error of the best known", "±"],
        [[m, *(x for one in columns for x in claims.mean_and_error(one[:, k]))] for k, m in enumerate(widths)],
    )
    print(
        f"{drops} of {len(seeds) * (len(widths) - 1)} doublings found less than a narrower network has: that one is "
        f"kept. n = {n}; widths of the linear program's networks: {[one['m'] for one in programs]}"
    )
    tabulate_proofs(options, "width", limits)
    draw_width(options, rows, widths, star, best, ends[0], errors, n)


def envelopes(
    rows: list[dict[str, Any]], seeds: Sequence[int], widths: Sequence[int], star: dict[int, float]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Best margin/γ* and its network's test error (seeds, widths); how often a width found less than a narrower one.

    A network of width m is one of any larger width (split a neuron in two halves), so all rows up to m count for m.
    Where none separates the data, the error is that of the trained network of that width with the least.
    """
    best, errors, drops = np.zeros((len(seeds), len(widths))), np.full((len(seeds), len(widths)), np.nan), 0
    for i, seed in enumerate(seeds):
        for k, m in enumerate(widths):
            upto = [r for r in rows if r["seed"] == seed and r["m"] <= m]
            own = [r for r in upto if r["m"] == m and "start" in r]
            top = max(upto, key=lambda r: r["margin"])
            drops += k > 0 and max(r["margin"] for r in own) / star[seed] < best[i, k - 1]
            best[i, k] = top["margin"] / star[seed]
            errors[i, k] = top["test_error"] if top["margin"] > 0 else min(r["trained_test_error"] for r in own)
    return best, errors, drops


def as_trained(
    rows: list[dict[str, Any]], seeds: Sequence[int], widths: Sequence[int], star: dict[int, float]
) -> np.ndarray:
    """Margin/γ* (2, seeds, widths) as training ends, the best of the starts and their mean: no refit, nothing kept."""
    starts = [
        [[r["trained_margin"] / star[s] for r in rows if (r["seed"], r["m"]) == (s, m)] for m in widths] for s in seeds
    ]
    return np.array([[[of(one) for one in line] for line in starts] for of in (max, np.mean)])


def draw_width(
    options: claims.Options,
    rows: list[dict[str, Any]],
    widths: Sequence[int],
    star: dict[int, float],
    best: np.ndarray,
    trained_best: np.ndarray,
    errors: np.ndarray,
    n: int,
) -> None:
    figure, axes = claims.page(2)
    axes[0].plot(
        [r["m"] for r in rows],
        [r["trained_margin"] / star[r["seed"]] for r in rows],
        ".",
        color="0.7",
        ms=3,
        label="trained, each start",
        zorder=1,
    )
    mean, error = np.array([claims.mean_and_error(column) for column in trained_best.T]).T
    axes[0].errorbar(
        widths,
        mean,
        error,
        color=claims.COLOURS[1],
        ls="--",
        marker="s",
        ms=3,
        mfc="w",
        capsize=2,
        label="trained, best start",
    )
    for ax, values, colour in ((axes[0], best, claims.COLOURS[0]), (axes[1], 100 * errors, claims.COLOURS[0])):
        mean, error = np.array([claims.mean_and_error(column) for column in values.T]).T
        ax.errorbar(widths, mean, error, color=colour, marker="o", ms=3.5, capsize=2, label="best known")
        ax.axvline(n, color="k", ls=":", lw=0.8)
        ax.annotate(
            "$m = n$",
            (n, 0.94),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7.5,
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(widths[::2], [str(m) for m in widths[::2]])
        ax.set(xlabel="width $m$")
        ax.set_ylim(0, 1.15 * mean.max())
    axes[0].axhline(1, color="k", lw=0.6)
    axes[0].set_ylabel(r"normalized margin $\gamma_m/\gamma^*$")
    axes[1].set_ylabel("test error of the best known (%)")
    axes[0].legend(loc="center right")
    claims.save(figure, "margin_width", options)


if __name__ == "__main__":
    claims.main(__doc__, {"paper": paper, "line": line, "multiclass": multiclass, "width": width_part})
