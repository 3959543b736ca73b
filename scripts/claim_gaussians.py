#!/usr/bin/env python3
"""Two Gaussians of different covariance: theory's curve over simulation (Mei, Montanari, Nguyen 2018).

    python scripts/claim_gaussians.py          the figure of docs/claims/gaussians.md

y = ±1 with probability ½ each, x ~ N(0, (1 ± Δ)² I), and f(x) = (1/m) Σ_j σ(u_j·x) with a truncated linear σ and w = 1
held; squared loss, no penalty, u_j ~ N(0, κ²/d I) at the start. The limit m → ∞ of the flow on the whole distribution
keeps the law of u rotation invariant, so that it is a flow of radii ‖u‖, solved here for the d at hand and for d → ∞.
Fast mode takes about four minutes on one core.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import claims
import numpy as np

from meanfield import Ensemble, GradientFlow, Problem, simulate

DELTA, KAPPA, D = 0.8, 0.1, 40
LOW, HIGH, FROM, TO = -2.5, 7.5, 0.5, 1.5  # σ is LOW below FROM, HIGH above TO, linear between
EARLY = 0.5  # until when what m units do depends on when the first of them start to grow
SLOPE = (HIGH - LOW) / (TO - FROM)
SIGMA = f"{SLOPE:g}*(relu(z - {FROM:g}) - relu(z - {TO:g})) - {-LOW:g}"
TIME, LOOKS, RADII = 20.0, 24, 400
POOL, SEEN = 20_000, 2.0  # examples drawn anew from look to look, and those of a step, times its length
LEVELS = (0.1, 0.5, 0.9)  # of the quantiles of ‖u‖


class Theory(NamedTuple):
    """h and h' of E σ(r ρ c) = h(r ρ) over directions; the sizes ρ of inputs, their weights and labels."""

    h: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    sizes: np.ndarray
    weights: np.ndarray
    labels: np.ndarray


def theory(d: float) -> Theory:
    """That of dimension d, or of d = ∞, where u·x ~ N(0, r²ρ²) and inputs have the sizes 1 ± Δ alone (over √d).

    Sizes are in units of √d. In dimension d the component of u·x/(rρ) is √d times that of a uniform unit vector, with
    density ∝ (1 − c²/d)^{(d−3)/2}, and the sizes are √(χ²_d/d)(1 ± Δ). Sums over equal steps in c and in the size.
    """
    c, size = (np.arange(8000) + 0.5) / 1000 - 4, np.ones(1)
    c, size = (2 * c, size) if np.isinf(d) else (c * np.sqrt(d) / 4, 1 + np.linspace(-5, 5, 41) / np.sqrt(2 * d))
    density = np.exp(-(c**2) / 2) if np.isinf(d) else (1 - c**2 / d) ** ((d - 3) / 2)
    spread = np.ones(1) if np.isinf(d) else np.exp((d - 1) * np.log(size) - d * size**2 / 2 + d / 2)
    grid = np.concatenate([np.linspace(0, 2, 2001), np.linspace(2, 18, 801)[1:]])
    values, slopes = np.array([(density @ sigma(a * c), density @ (c * window(a * c))) for a in grid]).T / density.sum()
    return Theory(
        lambda a: np.interp(a, grid, values),
        lambda a: np.interp(a, grid, slopes),
        np.concatenate([(1 + DELTA) * size, (1 - DELTA) * size]),
        np.tile(spread / spread.sum() / 2, 2),
        np.repeat([1.0, -1.0], len(size)),
    )


def sigma(z: np.ndarray) -> np.ndarray:
    return LOW + SLOPE * (np.clip(z, FROM, TO) - FROM)


def window(z: np.ndarray) -> np.ndarray:
    """σ'."""
    return SLOPE * ((z > FROM) & (z < TO))


def starting_radii(d: float, count: int) -> np.ndarray:
    """Quantiles of ‖u‖ for u ~ N(0, κ²/d I)."""
    from scipy import stats

    levels = (np.arange(count) + 0.5) / count
    return np.full(count, KAPPA) if np.isinf(d) else KAPPA * np.sqrt(stats.chi2.ppf(levels, d) / d)


def radial_flow(d: float, times: np.ndarray, longest: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """(E ½(f − y)² (k,), quantiles of the radii (k, 3)) at the times, by Heun's method with steps of at most t/100."""
    law, r, now = theory(d), starting_radii(d, RADII), 0.0

    def predictions(r: np.ndarray) -> np.ndarray:
        return law.h(np.outer(r, law.sizes)).mean(axis=0)

    def velocity(r: np.ndarray) -> np.ndarray:
        pull = law.weights * (predictions(r) - law.labels) * law.sizes
        return -law.slope(np.outer(r, law.sizes)) @ pull

    risks, quantiles = [], []
    for time in times:
        count = int(np.ceil((time - now) / min(longest, time / 100))) if time > now else 0
        for _ in range(count):
            h = (time - now) / count
            first = velocity(r)
            r = np.abs(r + h / 2 * (first + velocity(np.abs(r + h * first))))
        now = time
        risks.append(law.weights @ (predictions(r) - law.labels) ** 2 / 2)
        quantiles.append(np.quantile(r, LEVELS))
    return np.array(risks), np.array(quantiles)


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """X (n, D) and y (n,) of the distribution."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], n)
    return (1 + DELTA * y)[:, None] * rng.standard_normal((n, D)), y


def times_looked_at() -> np.ndarray:
    """0, and LOOKS times that grow geometrically up to TIME."""
    return np.append(0.0, np.geomspace(0.05, TIME, LOOKS))


def cell(m: int, seed: int, eta: float) -> dict[str, Any]:
    """Risk on ten thousand fresh examples, and quantiles of ‖u‖, at the times; steps of at most eta and t/150."""
    u = KAPPA / np.sqrt(D) * np.random.default_rng(seed).standard_normal((m, D))
    ensemble = Ensemble.from_arrays(np.ones(m), u, seed=seed, dtype="float32")
    times, fresh, found = times_looked_at(), sample(10_000, 10_000 + seed), {}
    for k, time in enumerate(times):
        X, y = sample(POOL, 1000 * seed + k)
        problem = Problem(X, y, loss="squared", reg=0.0, neuron=SIGMA)
        if k:
            steps = int(np.ceil((time - times[k - 1]) / min(eta, time / 150)))
            h = (time - times[k - 1]) / steps
            flow = GradientFlow(h, batch=round(SEEN / h), rates=(1, 0))
            settings: dict[str, Any] = {"record_every": steps, "threads": 1, "final_gap": False}
            ensemble = simulate(problem, ensemble, flow, steps=steps, **settings).ensemble
        f, sizes = problem.predict(ensemble, fresh[0], threads=1), np.linalg.norm(ensemble.u, axis=1)
        found[f"risk{k}"] = float(np.mean((f - fresh[1]) ** 2) / 2)
        found |= {f"r{k}_{level:g}": float(np.quantile(sizes, level)) for level in LEVELS}
    return found


def gaussians(options: claims.Options) -> None:
    draws, eta = (5, 0.001) if options.full else (2, 0.005)
    name = "gaussians" + "_full" * options.full
    widths = (50, 200, 800)
    rows = options.study(name, cell).run({"m": m, "seed": seed, "eta": eta} for m in widths for seed in range(draws))
    times = times_looked_at()
    limits = {d: radial_flow(d, times) for d in (float(D), np.inf)}
    claims.table(
        ["m", f"largest |risk − theory| before t = {EARLY}", "after", "largest |radius − theory| of the median, after"],
        ([m, *distances([row for row in rows if row["m"] == m], limits[float(D)])] for m in widths),
    )
    print(f"risk at the end: theory {limits[float(D)][0][-1]:.4f}, d → ∞ {limits[np.inf][0][-1]:.4f}")
    draw(rows, limits, times, options, name)


def curves(row: dict) -> tuple[np.ndarray, np.ndarray]:
    """(risk (k,), quantiles (k, 3)) of a cell."""
    looks = range(sum(name.startswith("risk") for name in row))
    radii = [[row[f"r{k}_{level:g}"] for level in LEVELS] for k in looks]
    return np.array([row[f"risk{k}"] for k in looks]), np.array(radii)


def distances(rows: list[dict], limit: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
    """Largest over time of the mean over draws: of the risk before and after EARLY, of the median radius after."""
    found, late = [curves(row) for row in rows], times_looked_at() > EARLY
    risk, radii = (np.mean([abs(one[i] - limit[i]) for one in found], axis=0) for i in (0, 1))
    return float(risk[~late].max()), float(risk[late].max()), float(radii[late, 1].max())


def draw(rows: list[dict], limits: dict, times: np.ndarray, options: claims.Options, name: str) -> None:
    """(a) risk over time, (b) quantiles of ‖u‖: theory's lines and the simulation's marks."""
    figure, axes = claims.page(2)
    widths = list(dict.fromkeys(row["m"] for row in rows))
    for i, m in enumerate(widths):
        risk, radii = curves(next(row for row in rows if row["m"] == m))
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 3.5, "ls": "none"}
        axes[0].plot(times, risk, label=f"m = {m}", **style)
        if m == widths[-1]:
            axes[1].plot(times, radii, **style)
    for (risk, radii), line, size in zip(limits.values(), ("-", "--"), (D, r"\infty"), strict=True):
        axes[0].plot(times, risk, color="black", ls=line, lw=1, label=f"theory, $d = {size}$")
        axes[1].plot(times, radii, color="black", ls=line, lw=1)
    axes[0].set(xscale="log", xlabel="time", ylabel="risk", ylim=(0, None))
    axes[1].set(xscale="log", yscale="log", xlabel="time", ylabel=r"$\|u_j\|$: 10, 50, 90 %")
    for ax, title in zip(axes, "ab", strict=True):
        ax.set_title(f"({title})", loc="left")
    axes[0].legend()
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"gaussians": gaussians})
