#!/usr/bin/env python3
"""The regularized network needs about d examples where its kernel needs about d².

    python scripts/claim_sample_complexity.py                 all parts: fast, about ten minutes on two cores
    python scripts/claim_sample_complexity.py figure --full   d to 160 (kernel to 80), 20 draws: hours; see --shard
    python scripts/claim_sample_complexity.py --source parity the same on another of the three forms of the data

Parts, each a table of its own: `network` (objective regularized with λ = 5·10⁻³, and how far from its global minimum,
which in the first draw at n = 6d is proven by `certify` at effort 1), `kernel` (the closed-form NTK with the best of
all regularizations, and with the one that leave-one-out chooses; random features), `lazy` (the same network without
regularization, initialized where it stays in the kernel regime), `learned` (the NTK that learns its metric); `figure`
takes all, `exponents` what there is.
Data are the paper's distribution D, `xor`; `--source` takes `parity` or `parity_normal`, with two relevant
signs, into tables of their own. Each error is over 4096 new points.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import claims
import numpy as np
import scaling

from meanfield import Ensemble, GradientFlow, Problem, simulate
from meanfield.studies import comparison

SOURCES = ("xor", "parity", "parity_normal")
LEVEL = 0.1  # the test error at which sample sizes are compared
REG = 5e-3
DRAWS, FEWER, CHEAP = 20, 5, 20  # of the network; fewer in fast mode, but where d is small and so are the sets
NETWORK = (1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4, 4.5, 5, 6)  # n / d
SIGNS = (0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6)  # the same where the labels are a product of signs, found sooner
KERNEL = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)  # n / d²
LEARNED = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.2)  # n / d^1.5
LAZY = (0.2, 0.4, 0.8, 1.2, 1.6)  # n / d²
GRIDS = {
    "network": (NETWORK, 1),
    "kernel": (KERNEL, 2),
    "learned": (LEARNED, 1.5),
    "lazy": (LAZY, 2),
}  # ratios n / d^power
NAMES = {
    "network_error": "network",
    "network_refit_error": "network, refitted",
    "kernel_best_error": "NTK, best of all",
    "kernel_error": "NTK, leave-one-out",
    "features_best_error": "random features",
    "lazy_error": "network, lazy",
    "learned_error": "NTK, metric learned",
}
POWERS = {"network_error": 1, "network_refit_error": 1}  # the claimed exponents; 2 for all others


def network_cell(d: int, n: int, seed: int, reg: float, m: int, steps: int, source: str = SOURCES[0]) -> dict[str, Any]:
    problem = comparison.paper_problem(n, d, seed, reg=reg, source=source)
    return comparison.network(problem, m=m, steps=steps, seed=seed)


def proof_cell(d: int, n: int, seed: int, reg: float, source: str = SOURCES[0]) -> dict[str, Any]:
    return claims.proven_minimum(comparison.paper_problem(n, d, seed, reg=reg, source=source), effort=1.0)


def kernel_cell(d: int, n: int, seed: int, features: int, source: str = SOURCES[0]) -> dict[str, Any]:
    problem = comparison.paper_problem(n, d, seed, source=source)
    return comparison.kernel_choices(problem, features=features, seed=seed)


def learned_cell(d: int, n: int, seed: int, source: str = SOURCES[0]) -> dict[str, Any]:
    return comparison.learned_kernel(comparison.paper_problem(n, d, seed, source=source))


def lazy_cell(d: int, n: int, seed: int, m: int, alpha: float, steps: int, source: str = SOURCES[0]) -> dict[str, Any]:
    """Gradient flow without regularization, from N(0, α²) with a mirrored second half: f = 0 at the start.

    The tangent kernel grows like α² and so the particles need to move only by a fraction of order α⁻² (`moved`) until
    the risk is 10⁻³, where the flow stops. λ = 10⁻¹² stands for zero.
    """
    data = comparison.paper_problem(n, d, seed, source=source)
    problem = Problem(data.X, data.y, reg=1e-12, X_test=data.X_test, y_test=data.y_test)
    half = Ensemble.gaussian(m // 2, d, scale=alpha, seed=seed, dtype="float64")
    w, u = np.concatenate([half.w, -half.w]), np.concatenate([half.u, half.u])
    start = Ensemble.from_arrays(w, u, seed=seed, dtype="float32")
    result = simulate(
        problem,
        start,
        GradientFlow(),
        steps=steps,
        record_every=25,
        test_every=steps,
        anneal=False,
        callback=lambda ensemble, row: row["risk"] <= 1e-3,
    )
    end = result.ensemble
    f = end.predict(problem.X_test)[:, None]
    moved = np.sqrt((np.sum((end.u - u) ** 2) + np.sum((end.w - w) ** 2)) / (np.sum(u**2) + np.sum(w**2)))
    return {
        "lazy_error": problem.loss.error(f, problem.test_targets),
        "lazy_risk": float(result.trace["risk"][-1]),
        "lazy_steps": end.step,
        "moved": float(moved),
    }


def study(
    options: claims.Options, name: str, cell: Callable[..., dict[str, Any]], cells: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of one part; each source but the first has a table of its own, with a column that says so."""
    own = {} if options.source in ("", SOURCES[0]) else {"source": options.source}
    return options.study(named(name, options), cell).run({**one, **own} for one in cells)


def named(name: str, options: claims.Options) -> str:
    """What the files of a part are called."""
    source = "" if options.source in ("", SOURCES[0]) else options.source
    return "_".join(filter(None, ("sample_complexity", name, source)))


def network_rows(options: claims.Options) -> list[dict[str, Any]]:
    dims = (10, 14, 20, 28, 40, 56, 80, 113, 160) if options.full else (10, 14, 20, 28, 40)
    m, steps = (4096, 12000) if options.full else (1024, 4000)
    cells = [
        {"d": d, "n": round(r * d), "seed": seed, "reg": REG, "m": m, "steps": steps}
        for seed in range(DRAWS)
        for d in dims
        for r in ratios_of("network", options.source)
        if options.full or seed < FEWER or d <= CHEAP
    ]
    return study(options, "network", network_cell, cells)


def kernel_rows(options: claims.Options) -> list[dict[str, Any]]:
    dims, seeds = ((10, 14, 20, 28, 40, 56, 80), 20) if options.full else ((10, 14, 20, 28, 40), 5)
    cells = [
        {"d": d, "n": round(r * d * d), "seed": seed, "features": 8192 if d < 50 else 16384}
        for d in dims
        for r in KERNEL
        for seed in range(seeds)
    ]
    return study(options, "kernel", kernel_cell, cells)


def learned_rows(options: claims.Options) -> list[dict[str, Any]]:
    dims, seeds = (10, 14, 20, 28, 40, 56, 80), 20 if options.full else 10
    cells = [{"d": d, "n": round(r * d**1.5), "seed": seed} for d in dims for r in LEARNED for seed in range(seeds)]
    return study(options, "learned", learned_cell, cells)


def lazy_rows(options: claims.Options) -> list[dict[str, Any]]:
    dims, seeds = ((10, 14, 20, 28), 20) if options.full else ((10, 14, 20), 3)
    cells = [
        {"d": d, "n": round(r * d * d), "seed": seed, "m": 2048, "alpha": 100.0, "steps": 20000}
        for d in dims
        for r in LAZY
        for seed in range(seeds)
    ]
    return study(options, "lazy", lazy_cell, cells)


def curves(rows: list[dict[str, Any]], column: str) -> scaling.Curves:
    """d -> (sizes (k,), errors (k, seeds))."""
    found = {}
    for d in sorted({row["d"] for row in rows}):
        sizes = sorted({row["n"] for row in rows if row["d"] == d})
        values = [[row[column] for row in rows if (row["d"], row["n"]) == (d, n)] for n in sizes]
        found[d] = np.array(sizes), np.array(values)
    return found


def show(rows: list[dict[str, Any]], columns: Sequence[str], unit: str) -> None:
    """Mean and standard error over the draws at every d and n; the largest value of what measures quality."""
    head = ["d", "n", f"n/{unit}", *(NAMES.get(name, name) for name in columns)]
    lines = []
    for line in comparison.summary(rows):
        scale = line["d"] ** {"d": 1, "d^1.5": 1.5, "d²": 2}[unit]
        values = [f"{line[name]:.4f} ± {line[f'{name}_se']:.4f}" for name in columns]
        lines.append([line["d"], line["n"], f"{line['n'] / scale:.2f}", *values])
    claims.table(head, lines)


def network(options: claims.Options) -> None:
    rows = network_rows(options)
    show(rows, ["network_error", "network_refit_error", "relative_gap", "refit_gap"], "d")
    largest = max(rows, key=lambda row: row["relative_gap"])
    print(f"largest relative gap (an estimate) {largest['relative_gap']:.1e} at d = {largest['d']}, n = {largest['n']}")
    at_six = [row for row in rows if row["n"] == 6 * row["d"]]
    print(f"n = 6d: {sum(row['network_error'] > 0 for row in at_six)} of {len(at_six)} cells with a test error above 0")
    show_proofs(options, [row for row in at_six if row["seed"] == 0])


def show_proofs(options: claims.Options, rows: list[dict[str, Any]]) -> None:
    """The proven relative gap of these networks, and of `exact.optimum`'s for the same data."""
    cells = ({name: row[name] for name in ("d", "n", "seed", "reg")} for row in rows)
    proofs = study(options, "proofs", proof_cell, cells)
    lines = []
    for row, proof in zip(rows, proofs, strict=True):
        gaps = [1 - proof[bound] / row["objective"] for bound in ("estimated_bound", "proven_bound")]
        gaps.append(1 - proof["proven_bound"] / proof["attained"])
        lines.append([row["d"], row["n"], *(f"{100 * gap:.3f}" for gap in gaps)])
    claims.table(["d", "n", "estimated gap %", "proven gap %", "proven of the minimum %"], lines)


def kernel(options: claims.Options) -> None:
    rows = kernel_rows(options)
    show(rows, ["kernel_best_error", "kernel_error", "features_best_error"], "d²")
    methods = [row["kernel_best_method"] for row in rows]
    print("best of all:", ", ".join(f"{name} {methods.count(name)}" for name in sorted(set(methods))))


def learned(options: claims.Options) -> None:
    show(learned_rows(options), ["learned_error"], "d^1.5")


def lazy(options: claims.Options) -> None:
    rows = lazy_rows(options)
    show(rows, ["lazy_error", "lazy_risk", "moved"], "d²")
    print(f"not at risk 10⁻³ after the last step: {sum(row['lazy_risk'] > 1e-3 for row in rows)} of {len(rows)}")


def figure(options: claims.Options) -> None:
    nets, kernels = network_rows(options), kernel_rows(options)
    others = {"lazy_error": lazy_rows(options), "learned_error": learned_rows(options)}
    page, axes = claims.page(3, height=2.7)
    for ax, power in ((axes[0], 1), (axes[1], 2)):
        draw_errors(ax, nets, kernels, power)
    rows = {name: others.get(name, nets if "network" in name else kernels) for name in NAMES}
    fits = {name: growth_of(curves(own, name), name) for name, own in rows.items()}
    write_exponents(fits, options)
    draw_thresholds(axes[2], {name: fit for name, fit in fits.items() if name != "network_refit_error"})
    for letter, ax in zip("abc", axes, strict=True):
        ax.set_title(f"({letter})", loc="left")
    claims.save(page, named("", options), options)


def ratios_of(part: str, source: str) -> Sequence[float]:
    """n / d^power at which a part is computed."""
    return SIGNS if part == "network" and source in SOURCES[1:] else GRIDS[part][0]


def on_grid(part: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a part's table at the sizes that the part asks for; a table can hold others, too."""
    power = GRIDS[part][1]
    return [
        row
        for row in rows
        if row["n"] in {round(r * row["d"] ** power) for r in ratios_of(part, row.get("source", SOURCES[0]))}
    ]


def exponents(options: claims.Options) -> None:
    """The table of exponents alone, of those parts that have tables; computes no cell."""
    tables = {part: options.study(named(part, options), dict).study.read() for part in GRIDS}
    kept = {part: on_grid(part, rows) for part, rows in tables.items() if rows}
    parts = {name: name.partition("_")[0].replace("features", "kernel") for name in NAMES}
    fits = {name: growth_of(curves(kept[part], name), name) for name, part in parts.items() if part in kept}
    write_exponents(fits, options)


def growth_of(found: scaling.Curves, name: str) -> scaling.Growth:
    return scaling.growth(found, POWERS.get(name, 2), LEVEL)


def write_exponents(fits: dict[str, scaling.Growth], options: claims.Options) -> None:
    """The table of the page, its verdicts included, as Markdown."""
    head = ["", "n at 10 % error, by d", "exponent [95 %]", "the claim", "d log d", "draws"]
    rows = []
    for name, fit in fits.items():
        ns = ", ".join(f"{n:.0f} ({d})" for d, (n, *_) in fit.thresholds.items() if np.isfinite(n))
        interval = f"{fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}]"
        draws = " to ".join(map(str, sorted(set(fit.draws))))
        rows.append([NAMES[name], ns, interval, fit.verdict, f"{fit.alternative} ({fit.preference:+.1f})", draws])
    claims.markdown(head, rows, named("exponents", options), options)


def draw_errors(ax: Any, nets: list[dict[str, Any]], kernels: list[dict[str, Any]], power: int) -> None:
    """Test error against n/d^power: the network filled and solid, the best kernel open and dashed."""
    import matplotlib
    from matplotlib.lines import Line2D

    handles = []
    net, ker = curves(nets, "network_error"), curves(kernels, "kernel_best_error")
    for i, d in enumerate(sorted(net)):
        colour = matplotlib.colormaps["viridis"](0.9 * (1 - i / max(1, len(net) - 1)))
        marker = claims.MARKERS[i % len(claims.MARKERS)]
        for found, line, face in ((net, "-", colour), (ker, "--", "white")):
            if d in found:
                sizes, errors = found[d]
                se = errors.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])
                ax.errorbar(
                    sizes / d**power,
                    errors.mean(axis=1),
                    se,
                    ls=line,
                    marker=marker,
                    color=colour,
                    mfc=face,
                    ms=3.2,
                    mew=0.8,
                    lw=0.9,
                    elinewidth=0.7,
                )
        handles.append(Line2D([], [], color=colour, marker=marker, ms=3.2, label=f"$d = {d}$"))
    ax.axhline(LEVEL, color="0.5", lw=0.7, ls=":")
    ax.set(xscale="log", xlabel="$n/d$" if power == 1 else "$n/d^2$", ylabel="test error", ylim=(-0.015, 0.56))
    ticks = (2, 5, 10, 20, 50) if power == 1 else (0.05, 0.1, 0.2, 0.5, 1, 2)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    if power == 1:
        ax.legend(handles=handles, loc="upper right")
    else:
        black: dict[str, Any] = {"color": "k", "marker": "o", "ms": 3.2, "lw": 0.9}
        styles = [
            Line2D([], [], **black, label="regularized network"),
            Line2D([], [], **black, mfc="white", ls="--", label="NTK, best of all"),
        ]
        ax.legend(handles=styles, loc="upper right", bbox_to_anchor=(1.0, 1.08))


def draw_thresholds(ax: Any, fits: dict[str, scaling.Growth]) -> None:
    styles = zip(
        claims.COLOURS, claims.MARKERS, ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1))), strict=False
    )
    for (name, fit), (colour, marker, line) in zip(fits.items(), styles, strict=False):
        d = np.array([d for d, n in fit.thresholds.items() if np.isfinite(n[0])])
        n = np.array([fit.thresholds[k] for k in d]).reshape(-1, 3)
        label = f"{NAMES[name]}: {fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}]"
        ends = np.abs(n[:, 1:] - n[:, :1]).T
        ax.errorbar(d, n[:, 0], ends, marker=marker, ls="", ms=3.5, color=colour, elinewidth=0.7)
        ax.plot([], [], color=colour, marker=marker, ms=3.5, ls=line, label=label)
        if np.isfinite(fit.slope):
            level = np.exp(np.mean(np.log(n[:, 0]) - fit.slope * np.log(d)))
            ax.plot(d, level * d**fit.slope, color=colour, ls=line, lw=0.9)
    dims = sorted(set().union(*(fit.thresholds for fit in fits.values())))
    ax.set(xscale="log", yscale="log", xlabel="dimension $d$", ylabel=rf"$n$ at {100 * LEVEL:.0f} % test error")
    ax.set_xticks(dims, [str(d) for d in dims])
    ax.minorticks_off()
    ax.set_ylim(top=ax.get_ylim()[1] * 500)  # for the legend, in a column too
    ax.legend(loc="upper left", title="exponent [95 %]", title_fontsize=7.5)


if __name__ == "__main__":
    claims.main(
        __doc__,
        {
            "network": network,
            "kernel": kernel,
            "learned": learned,
            "lazy": lazy,
            "figure": figure,
            "exponents": exponents,
        },
        SOURCES,
    )
