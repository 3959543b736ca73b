#!/usr/bin/env python3
"""How many examples the mean-field Langevin algorithm needs (Mousavi-Hosseini, Wu, Erdogdu, ICLR 2025).

    python scripts/claim_multi_index.py          the table and the figure of docs/claims/multi_index.md

x ~ N(0, Σ) in d = 50 dimensions with a constant appended, y = x₁² − 1, and Σ diagonal: 1 in the direction that y
depends on, (d_eff − 1)/(d − 1) in all others, so that its trace is the effective dimension d_eff. Fifty relu units
with output weights ±1, which are held; squared loss, noise. Fast mode takes some minutes on one core.
"""

from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, simulate

D, M, N_TEST = 50, 50, 100_000
STEP, DECAY, TEMPERATURE = 0.1, 0.01, 1e-3
EFFECTIVE = (2, 5, 10, 25, 50)
SHORT, LONG = 200, 3000  # steps before the test loss, and before the generalization gap, is looked at
HALF = 0.5  # of the test loss of f = 0, which is 1


def sample(n: int, effective: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """X (n, D + 1), the last feature constant, and y (n,)."""
    spread = np.full(D, np.sqrt((effective - 1) / (D - 1)))
    spread[0] = 1.0
    X = np.column_stack([spread * rng.standard_normal((n, D)), np.ones(n)])
    return X, X[:, 0] ** 2 - 1


def cell(n: int, effective: int, seed: int, steps: int) -> dict[str, Any]:
    """E ½(f − y)² on the training and on the test set after so many steps."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((M, D + 1))
    start = Ensemble.from_arrays(
        np.repeat([1.0, -1.0], M // 2), u / np.linalg.norm(u, axis=1)[:, None], seed=seed, dtype="float64"
    )
    seen, fresh = sample(n, effective, rng), sample(N_TEST, effective, rng)
    problem = Problem(*seen, loss="squared", reg=DECAY / 2, temperature=TEMPERATURE)
    settings: dict[str, Any] = {"record_every": steps, "threads": 1, "final_gap": False, "anneal": False}
    ended = simulate(problem, start, Langevin(STEP, rates=(1, 0)), steps=steps, **settings).ensemble
    losses = (float(np.mean((problem.predict(ended, X, threads=1) - y) ** 2) / 2) for X, y in (seen, fresh))
    return dict(zip(("train", "test"), losses, strict=True))


def multi_index(options: claims.Options) -> None:
    draws, sizes = (20, (50, 100, 200, 500, 1000, 2000, 5000)) if options.full else (5, (50, 100, 200, 500, 1000, 2000))
    name = "multi_index" + "_full" * options.full
    cases = [(n, SHORT) for n in sizes] + [(n, LONG) for n in (100, 200, 500)]
    rows = options.study(name, cell).run(
        {"n": n, "effective": effective, "seed": seed, "steps": steps}
        for n, steps in cases
        for effective in EFFECTIVE
        for seed in range(draws)
    )
    claims.table(
        ["d_eff", *(f"test, n = {n}" for n in sizes), "n at half", *(f"gap, n = {n}" for n in (100, 200, 500))],
        (
            [
                effective,
                *means(rows, effective, SHORT).values(),
                size_at(means(rows, effective, SHORT), HALF),
                *means(rows, effective, LONG, gap=True).values(),
            ]
            for effective in EFFECTIVE
        ),
    )
    print(f"n at half ~ d_eff^{exponent(rows):.2f}")
    draw(rows, options, name)


def means(rows: Iterable[dict], effective: int, steps: int, gap: bool = False) -> dict[int, float]:
    """n → the mean over draws of the test loss, or of what it exceeds the training loss by."""
    own = [row for row in rows if (row["effective"], row["steps"]) == (effective, steps)]
    found = {n: [row["test"] - gap * row["train"] for row in own if row["n"] == n] for n in {row["n"] for row in own}}
    return {n: float(np.mean(found[n])) for n in sorted(found)}


def size_at(losses: dict[int, float], level: float) -> float:
    """The n at which the loss first falls to the level, between those measured on a logarithmic scale; else NaN."""
    ns, values = np.log(list(losses)), np.array(list(losses.values()))
    below = np.flatnonzero(values <= level)
    if not len(below) or below[0] == 0:
        return float("nan")
    i = below[0]
    return float(np.exp(np.interp(level, values[[i, i - 1]], ns[[i, i - 1]])))


def exponent(rows: list[dict]) -> float:
    """The slope of log n at half against log d_eff."""
    found = {effective: size_at(means(rows, effective, SHORT), HALF) for effective in EFFECTIVE}
    known = {effective: n for effective, n in found.items() if np.isfinite(n)}
    if len(known) < 2:
        return float("nan")
    return float(np.polyfit(np.log(list(known)), np.log(list(known.values())), 1)[0])


def draw(rows: list[dict], options: claims.Options, name: str) -> None:
    """(a) test loss over n, (b) the same over n/d_eff, (c) the generalization gap over d_eff."""
    figure, axes = claims.page(3)
    for i, effective in enumerate(EFFECTIVE):
        losses = means(rows, effective, SHORT)
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 4}
        sizes, label = np.array(list(losses)), rf"$d_\mathrm{{eff}} = {effective}$"
        axes[0].plot(sizes, list(losses.values()), label=label, **style)
        axes[1].plot(sizes / effective, list(losses.values()), **style)
    for i, n in enumerate((100, 200, 500)):
        gaps = [means(rows, effective, LONG, gap=True)[n] for effective in EFFECTIVE]
        axes[2].plot(EFFECTIVE, gaps, color=claims.COLOURS[i], marker=claims.MARKERS[i], ms=4, label=f"n = {n}")
    axes[0].set(xscale="log", xlabel="examples n", ylabel="test loss", ylim=(0, None))
    axes[1].set(xscale="log", xlabel=r"$n/d_\mathrm{eff}$", ylabel="test loss", ylim=(0, None))
    axes[2].set(xlabel=r"effective dimension $d_\mathrm{eff}$", ylabel="test loss − training loss", ylim=(0, None))
    for ax, title in zip(axes, "abc", strict=True):
        ax.set_title(f"({title})", loc="left")
    axes[0].legend()
    axes[2].legend()
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"multi_index": multi_index})
