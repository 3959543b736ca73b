#!/usr/bin/env python3
"""The normalized margin at the global minimum as λ → 0, to where float64 can still tell.

    python scripts/claim_margin_limit.py        points on a line to λ = 10⁻²⁰, the paper's data to 1e-14

Nothing is trained here: at each λ `exact.optimum` finds the minimum neuron by neuron, to an estimated gap of 1e-6, and
`certify` proves a bound on it. What can be proven is the lesser part: a proof's allowance for rounding does not
shrink with λ as the objective does. Beside γ/γ* stands the law of claim_margin.py, in which nothing is fitted.
Minutes in both modes.
"""

from typing import Any

import claim_margin
import claims
import numpy as np

from meanfield import Problem, certify, exact

LAYOUT = {"line": (12, 2, (0,), range(5, 21)), "xor": (160, 20, (0,), (8, 10, 12, 14))}  # n, d, seeds, -log10 of the λ


def cell(source: str, n: int, d: int, seed: int, reg: float) -> dict[str, Any]:
    """The margin of the minimum's network, and how far that is from the minimum: by an estimate, and proven."""
    X, y, _, _ = claim_margin.dataset(source, n, d, seed)
    problem = Problem(X, y, reg=reg)
    best = exact.optimum(problem, tolerance=1e-6, effort=claim_margin.PATIENCE, threads=1)
    found = certify(problem, claims.ensemble_of(best.w, best.u), effort=1.0, method="proven", threads=1)
    norm = float(np.sum(best.w**2) + np.sum(best.u**2))
    return {
        "margin": float(problem.loss.margins(best.predict(X), problem.targets).min()) / norm,
        "norm": norm,
        "objective": found.primal,
        "gap": best.relative_gap,
        "proven_gap": 1 - found.lower_bound / found.primal,
        "neurons": len(best.u),
    }


def minima(options: claims.Options) -> None:
    names = {"line": "line", "xor": "paper"}
    tolerances = {"line": 1e-5, "xor": 5e-3}
    cells = [
        {"source": source, "n": n, "d": d, "seed": seed, "reg": 10.0**-k}
        for source, (n, d, seeds, powers) in LAYOUT.items()
        for seed in seeds
        for k in powers
    ]
    rows = options.study("margin_limit", cell).run(cells)
    limits = {
        (source, one["seed"]): one
        for source, (n, d, seeds, _) in LAYOUT.items()
        for one in options.study(f"margin_{names[source]}_limit", claim_margin.limit).run(
            {"source": source, "n": n, "d": d, "seed": seed, "tolerance": tolerances[source]} for seed in seeds
        )
    }
    lines = []
    for row in rows:
        one = limits[row["source"], row["seed"]]
        ratio, law = row["margin"] / one["margin"], float(claim_margin.predicted(row["reg"], one))
        told = [row["source"], row["seed"], f"{row['reg']:.0e}", f"{ratio:.5f}", f"{law:.5f}"]
        lines.append([*told, row["gap"], row["proven_gap"]])
    head = ["data", "draw", "λ", "γ/γ* at the minimum", "the law", "gap, an estimate", "gap, proven"]
    claims.markdown(head, lines, "margin_limit", options)


if __name__ == "__main__":
    claims.main(__doc__, {"minima": minima})
