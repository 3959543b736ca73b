#!/usr/bin/env python3
"""Weights of the coordinates, learned from the gradients of a kernel's own fits, find three coordinates of 200.

    python scripts/claim_learned_metric.py        about two minutes on one core

Figure 1 of Zhu, Davis, Drusvyatskiy & Fazel, "Iteratively reweighted kernel machines efficiently learn sparse
functions" (arXiv 2505.08277), as far as its caption states how it was made: points uniform on {±1}^200,
y = x₁ + x₂ + x₃ + x₁x₂x₃ + ε with ε ~ N(0, 0.1²), the Laplacian kernel, at most five steps, five draws. Not said there,
and so ours: the numbers of points, ridge 10⁻³, bandwidth 1 (as `RecursiveFeatureMachine` defines it), five steps, the
same points at each, errors on 4096 new points with their noise. Beside it stands all of M, a metric instead of weights.
"""

from typing import Any

import claims
import numpy as np

from meanfield.kernels import RecursiveFeatureMachine

D, NOISE, NEW, STEPS = 200, 0.1, 4096, 5
SIZES = (50, 100, 150, 200, 300, 400, 800, 1600)
SHOWN = 400  # the n at which gradients are drawn
NAMES = {"ridge": "Laplace kernel", "weights": "weights learned", "metric": "metric learned"}


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.choice([-1.0, 1.0], size=(n, D))
    return X, X[:, :3].sum(axis=1) + X[:, :3].prod(axis=1) + NOISE * rng.standard_normal(n)


def machines(n: int, seed: int) -> dict[str, RecursiveFeatureMachine]:
    """Fitted: ridge without a step, with weights of the coordinates, with all of M."""
    X, y = draw(n, seed)
    options: dict[str, dict[str, Any]] = {
        "ridge": {"iterations": 0},
        "weights": {"iterations": STEPS, "diagonal": True},
        "metric": {"iterations": STEPS},
    }
    return {name: RecursiveFeatureMachine("laplace", **own).fit(X, y) for name, own in options.items()}


def shares(machine: RecursiveFeatureMachine, X: np.ndarray) -> np.ndarray:
    """Each coordinate's share of the mean squared gradient at the points (D,)."""
    squares = np.mean(machine.gradients(X) ** 2, axis=0)
    return squares / squares.sum()


def cell(n: int, seed: int) -> dict[str, Any]:
    """Mean squared errors at new points, and the share of the first three coordinates in the squared gradient."""
    X, _ = draw(n, seed)
    Z, z = draw(NEW, 1000 + seed)
    found = machines(n, seed)
    errors = {f"{name}_error": float(np.mean((one.predict(Z) - z) ** 2)) for name, one in found.items()}
    return {**errors, **{f"{name}_share": float(shares(one, X)[:3].sum()) for name, one in found.items()}}


def learned(options: claims.Options) -> None:
    cells = [{"n": n, "seed": seed} for n in SIZES for seed in range(5)]
    rows = options.study("learned_metric", cell).run(cells)
    lines = []
    for n in SIZES:
        own = [row for row in rows if row["n"] == n]
        means = {name: claims.mean_and_error(row[name] for row in own) for name in own[0] if "_" in name}
        lines.append([n, *(f"{mean:.4f} ± {error:.4f}" for mean, error in means.values())])
    claims.table(["n", *(f"{name} {what}" for what in ("error", "share") for name in NAMES)], lines)
    draw_figure(rows, options)


def draw_figure(rows: list[dict[str, Any]], options: claims.Options) -> None:
    page, axes = claims.page(2)
    styles = zip(NAMES.items(), claims.COLOURS, claims.MARKERS, claims.LINES, strict=False)
    for (name, label), colour, marker, line in styles:
        found = [claims.mean_and_error(row[f"{name}_error"] for row in rows if row["n"] == n) for n in SIZES]
        mean, error = np.array(found).T
        axes[0].errorbar(SIZES, mean, error, color=colour, marker=marker, ls=line, ms=3.5, lw=0.9, label=label)
    axes[0].axhline(NOISE**2, color="0.5", lw=0.7, ls=":")
    axes[0].set(xscale="log", yscale="log", xlabel="examples $n$", ylabel="mean squared error, new points")
    axes[0].legend(loc="center left")
    X, _ = draw(SHOWN, 0)
    fitted = machines(SHOWN, 0)
    for name, colour, marker in zip(("ridge", "weights"), claims.COLOURS, claims.MARKERS, strict=False):
        share = shares(fitted[name], X)
        axes[1].plot(np.arange(1, D + 1), share, marker, color=colour, ms=2.5, ls="", label=NAMES[name])
    axes[1].set(xlabel="coordinate", ylabel="share of the squared gradient")
    axes[1].set_title(f"$n = {SHOWN}$", fontsize=8)
    axes[1].legend(loc="center right")
    claims.save(page, "learned_metric", options)


if __name__ == "__main__":
    claims.main(__doc__, {"learned": learned})
