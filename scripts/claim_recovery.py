#!/usr/bin/env python3
"""What many particles find: a teacher's directions, and the largest margin (Chizat and Bach 2018, 2020).

    python scripts/claim_recovery.py             the figures of docs/claims/recovery.md
    python scripts/claim_recovery.py teacher     excess loss over the number of particles, directions learned or not
    python scripts/claim_recovery.py layers      test error on clusters over n and d, both layers learned or one
    python scripts/claim_recovery.py width       the margin over the number of particles

Teacher: ten relu units in ten dimensions, weights ±1, a thousand examples x ~ N(0, I) without noise; squared loss, no
penalty, momentum. Clusters: nine on a grid in the plane, the classes dealt out at random, a constant and d − 3
coordinates without meaning beside. Fast mode takes some minutes on one core.
"""

from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, GradientFlow, KineticLangevin, Problem, exact, simulate
from meanfield.kernels import SVM, relu_nngp

D, UNITS, N, N_TEST = 10, 10, 1000, 4000  # of the teacher
PARTICLES, SMALL = (5, 10, 15, 20, 40, 80), 0.1
NEAR = 0.99  # cosine from which on a particle has a teacher's direction
SIDE = 3  # clusters a side
SIZES, DIMENSIONS, WIDTHS = (32, 64, 128, 256, 512), (5, 10, 15, 20, 25), (8, 16, 32, 64, 128, 256, 512, 1024)
REG, STEPS = 1e-6, 4000


def directions(count: int, rng: np.random.Generator) -> np.ndarray:
    u = rng.standard_normal((count, D))
    return u / np.linalg.norm(u, axis=1)[:, None]


def signs(count: int) -> np.ndarray:
    return np.where(np.arange(count) % 2, 1.0, -1.0)


def teacher_cell(m: int, seed: int) -> dict[str, Any]:
    """E (f − g)²/E g² on fresh examples, with momentum and with the start's directions; how many of g's are found.

    A direction is found if particles within NEAR of it, of its sign, carry half of its weight.
    """
    rng = np.random.default_rng(seed)
    U, a = directions(UNITS, rng), signs(UNITS)
    X, Z = rng.standard_normal((N, D)), rng.standard_normal((N_TEST, D))
    y, z = (np.maximum(points @ U.T, 0) @ a for points in (X, Z))
    size = SMALL * np.sqrt(m)
    start = Ensemble.from_arrays(size * signs(m), size * directions(m, rng), seed=seed, dtype="float64")
    problem = Problem(X, y, loss="squared", reg=0.0)
    settings: dict[str, Any] = {"record_every": STEPS, "threads": 1, "final_gap": False}
    ended = simulate(problem, start, KineticLangevin(friction=0.1), steps=STEPS, **settings).ensemble
    weights = np.linalg.lstsq(np.maximum(X @ start.u.T, 0), y, rcond=None)[0]
    length = np.linalg.norm(ended.u, axis=1)
    w = ended.w[:, 0]
    near = (ended.u @ U.T > NEAR * length[:, None]) & (np.sign(w)[:, None] == a)
    return {
        "excess": float(np.mean((problem.predict(ended, Z, threads=1) - z) ** 2) / np.mean(z**2)),
        "fixed_excess": float(np.mean((np.maximum(Z @ start.u.T, 0) @ weights - z) ** 2) / np.mean(z**2)),
        "found": int(np.sum((abs(w) * length / m) @ near > 0.5)),
    }


def clusters(n: int, d: int, classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """X (n, d) and y (n,): discs of radius Δ = 1/(3k − 1) whose centres are 3Δ apart, within [−½, ½]²."""
    delta, which = 1 / (3 * SIDE - 1), rng.integers(0, SIDE**2, n)
    centre = delta * (1 + 3 * np.column_stack([which % SIDE, which // SIDE])) - 0.5
    angle, radius = 2 * np.pi * rng.random(n), delta * rng.random(n)
    plane = centre + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return np.column_stack([np.ones(n), plane, rng.random((n, d - 3)) - 0.5]), classes[which]


def clusters_of(n: int, d: int, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and test set of the seed's distribution, four of nine clusters of the one class."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.where(np.arange(SIDE**2) < SIDE**2 // 2, -1.0, 1.0))
    return clusters(n, d, classes, rng), clusters(N_TEST, d, classes, rng)


def layers_cell(n: int, d: int, m: int, seed: int) -> dict[str, Any]:
    """Test errors, and the normalized margin γ of the network: both layers by gradient flow, λ lowered to REG; and the
    largest margin of the last layer alone over infinitely many random units, by a support vector machine.
    """
    (X, y), (Z, z) = clusters_of(n, d, seed)
    rng = np.random.default_rng(1000 + seed)
    start = Ensemble.from_arrays(rng.standard_normal(m), rng.standard_normal((m, d)), seed=seed, dtype="float32")
    problem = Problem(X, y, reg=REG)
    settings: dict[str, Any] = {"record_every": STEPS, "threads": 1, "final_gap": False}
    result = simulate(problem, start, GradientFlow(), steps=STEPS, **settings)
    machine = SVM().fit(relu_nngp(X), y)
    return {
        "error": float(np.mean(problem.predict(result.ensemble, Z, threads=1) * z <= 0)),
        "margin": float(result.trace["margin"][-1]),
        "last_error": float(np.mean(relu_nngp(Z, X) @ machine.coef * z <= 0)),
        "last_margin": machine.margin(),
    }


def largest_cell(n: int, d: int, seed: int) -> dict[str, Any]:
    """γ* of the clusters, its bound from above (an estimate), and the test error of its network."""
    (X, y), (Z, z) = clusters_of(n, d, seed)
    best = exact.max_margin(X, y, tolerance=1e-2, effort=5.0, threads=1, prove=False)
    return {"margin": best.margin, "upper": best.upper, "error": float(np.mean(best.predict(Z)[:, 0] * z <= 0))}


def mean(rows: Iterable[dict], column: str, **where: Any) -> float:
    return float(np.mean([row[column] for row in rows if all(row[key] == value for key, value in where.items())]))


def teacher(options: claims.Options) -> None:
    name = "recovery_teacher" + "_full" * options.full
    draws = 20 if options.full else 5
    rows = options.study(name, teacher_cell).run({"m": m, "seed": seed} for m in PARTICLES for seed in range(draws))
    own = {m: [row for row in rows if row["m"] == m] for m in PARTICLES}
    claims.table(
        ["m", "median excess", "largest", "directions found", "median excess, directions held"],
        (
            [
                m,
                float(np.median([row["excess"] for row in own[m]])),
                max(row["excess"] for row in own[m]),
                mean(rows, "found", m=m),
                float(np.median([row["fixed_excess"] for row in own[m]])),
            ]
            for m in PARTICLES
        ),
    )
    figure, axes = claims.page(2)
    for i, (column, label) in enumerate({"excess": "both layers", "fixed_excess": "directions held"}.items()):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 4}
        axes[0].plot([row["m"] for row in rows], [row[column] for row in rows], ls="none", alpha=0.5, **style)
        axes[0].plot(PARTICLES, [np.median([row[column] for row in own[m]]) for m in PARTICLES], label=label, **style)
    axes[1].plot(PARTICLES, [mean(rows, "found", m=m) for m in PARTICLES], marker="o", ms=4)
    for ax in axes:
        ax.axvline(UNITS, color="grey", lw=0.7, ls=":")
        ax.set(xlabel="particles m")
        claims.at_values(ax, PARTICLES)
    axes[0].set(yscale="log", ylabel="excess loss")
    axes[1].set(ylabel=f"directions found, of {UNITS}", ylim=(0, None))
    axes[0].legend()
    finish(figure, axes, name, options)


def layers(options: claims.Options) -> None:
    name = "recovery_layers" + "_full" * options.full
    draws = 10 if options.full else 2
    cases = {(n, 15) for n in SIZES} | {(256, d) for d in DIMENSIONS}
    rows = options.study(name, layers_cell).run(
        {"n": n, "d": d, "m": 1024, "seed": seed} for n, d in sorted(cases) for seed in range(draws)
    )
    columns = ("error", "last_error", "margin", "last_margin")
    claims.table(["n", "d", *columns], ([n, d, *(mean(rows, c, n=n, d=d) for c in columns)] for n, d in sorted(cases)))
    figure, axes = claims.page(2)
    for i, (column, label) in enumerate({"error": "both layers", "last_error": "last layer"}.items()):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 4, "label": label}
        axes[0].plot(SIZES, [mean(rows, column, n=n, d=15) for n in SIZES], **style)
        axes[1].plot(DIMENSIONS, [mean(rows, column, n=256, d=d) for d in DIMENSIONS], **style)
    axes[0].set(xlabel="examples n, d = 15", ylabel="test error", ylim=(0, None))
    claims.at_values(axes[0], SIZES)
    axes[1].set(xlabel="dimension d, n = 256", ylabel="test error", ylim=(0, None))
    axes[0].legend()
    finish(figure, axes, name, options)


def width(options: claims.Options) -> None:
    name = "recovery_width" + "_full" * options.full
    draws = 10 if options.full else 2
    at = {"n": 64, "d": 15}
    best = options.study(f"{name}_largest", largest_cell).run({**at, "seed": seed} for seed in range(draws))
    rows = options.study(name, layers_cell).run({**at, "m": m, "seed": seed} for m in WIDTHS for seed in range(draws))
    largest = {row["seed"]: row["margin"] for row in best}
    shares = [{**row, "share": row["margin"] / largest[row["seed"]]} for row in rows]
    claims.table(["m", "γ/γ*", "error"], ([m, mean(shares, "share", m=m), mean(shares, "error", m=m)] for m in WIDTHS))
    print(", ".join(f"draw {row['seed']}: γ* {row['margin']:.4f} to {row['upper']:.4f}" for row in best))
    figure, axes = claims.page(1)
    axes[0].plot([row["m"] for row in shares], [row["share"] for row in shares], ls="none", marker="+", color="black")
    axes[0].plot(WIDTHS, [mean(shares, "share", m=m) for m in WIDTHS])
    axes[0].axhline(1.0, color="grey", lw=0.7, ls=":")
    axes[0].set(xlabel="particles m", ylabel=r"margin, $\gamma/\gamma^*$")
    claims.at_values(axes[0], WIDTHS)
    claims.save(figure, name, options)


def finish(figure: Any, axes: np.ndarray, name: str, options: claims.Options) -> None:
    for ax, title in zip(axes, "ab", strict=True):
        ax.set_title(f"({title})", loc="left")
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"teacher": teacher, "layers": layers, "width": width})
