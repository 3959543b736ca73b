#!/usr/bin/env python3
"""How much of a gap is proven: certificates in 3 to 40 dimensions, and how far the bound on the pull is loose.

    python scripts/claim_proofs.py gap        # the table: proven and estimated gap of a network near the minimum
    python scripts/claim_proofs.py bounds     # the same dual points by each of the bounds alone
    python scripts/claim_proofs.py --quick    # both, small: a minute; tables are named `..._quick`

The network is that of `exact.optimum`. A proof ends at the gap that its row asks for (`until_gap`) or after its
seconds, and is `certify`'s own. For times that mean something: `--processes 1 --threads 2`, and nothing else on the
machine; `gap` takes five minutes on two cores.
"""

from __future__ import annotations

import math
import sys
import time
from functools import cache, partial
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Problem, certify, exact
from meanfield.optimality.budget import Budget
from meanfield.optimality.doubly_nonnegative import relax
from meanfield.optimality.rows import effective_rows
from meanfield.optimality.semidefinite_relaxation import relaxed_bound
from meanfield.optimality.sign_branching import roots
from meanfield.studies.comparison import paper_problem

# (data, n, d, λ, the gap to prove, seconds)
GAPS = (
    ("repeated inputs", 39, 3, 1e-7, 1e-6, 60.0),
    ("noise labels", 100, 3, 5e-3, 1e-6, 60.0),
    ("noise labels", 40, 5, 5e-3, 1e-5, 60.0),
    ("noise labels", 60, 20, 5e-3, 1e-2, 300.0),
    ("paper", 40, 20, 5e-3, 1e-3, 300.0),
    ("paper", 40, 20, 5e-5, 1e-3, 300.0),
    ("paper", 80, 20, 5e-3, 1e-3, 300.0),
    ("paper", 160, 20, 5e-3, 1e-3, 60.0),
    ("paper", 160, 20, 5e-5, 1e-3, 60.0),
    ("paper", 240, 40, 5e-3, 2e-2, 200.0),
    ("four classes", 60, 10, 5e-3, 5e-2, 45.0),
)
QUICK = (("repeated inputs", 39, 3, 1e-7, 1e-6, 20.0), ("paper", 40, 20, 5e-3, 1e-2, 20.0))


def problem_of(data: str, n: int, d: int, reg: float) -> Problem:
    """The first draw of a kind of data."""
    if data == "paper":
        return paper_problem(n, d, 0, reg=reg)
    rng = np.random.default_rng(0)
    if data == "repeated inputs":
        X, y = np.repeat(rng.standard_normal((n // 3, d)), 3, axis=0), np.tile([1, 1, -1], n // 3)
        return Problem(X, y, reg=reg)
    X = rng.standard_normal((n, d))
    if data == "noise labels":
        return Problem(X, np.where(rng.random(n) < 0.5, -1, 1), reg=reg)
    y = np.argmax(X[:, :4] + 0.5 * rng.standard_normal((n, 4)), axis=1)
    return Problem(X, y, loss="cross_entropy", reg=reg)


@cache
def network_of(data: str, n: int, d: int, reg: float) -> tuple[Problem, exact.Optimum]:
    """The problem and its minimum as far as `exact.optimum` finds it; kept for both parts."""
    problem = problem_of(data, n, d, reg)
    return problem, exact.optimum(problem, tolerance=1e-6)


def gap_cell(data: str, n: int, d: int, reg: float, goal: float, limit: float) -> dict[str, Any]:
    """Proven and estimated relative gap, how loose the bound on the pull is, and what it took."""
    problem, best = network_of(data, n, d, reg)
    root = math.sqrt(len(best.w))
    ensemble = Ensemble.from_arrays(root * best.w, root * best.u, dtype="float64")
    begun = time.perf_counter()
    found = certify(problem, ensemble, until_gap=goal, seconds=limit, method="proven")
    return {
        "proven": found.relative_gap,
        "estimated": 1 - found.estimated_bound / found.primal,
        "loose": found.looseness,
        "method": found.method,
        "took": time.perf_counter() - begun,
    }


def bound_cell(data: str, n: int, d: int, reg: float) -> dict[str, Any]:
    """Bounds on the highest pull of the optimum's dual point over the highest found, nothing cut: old and new."""
    problem, best = network_of(data, n, d, reg)
    a, X = best.dual, problem.X
    loose = relaxed_bound(X, a, budget=Budget(1e10)) / best.peak
    rows, begun = effective_rows(X, a), time.perf_counter()
    whole = [relax(root, best.peak * (1 + 1e-6), steps=2000, slack=1e-2) for root in roots(rows)]
    return {
        "loose": loose - 1,
        "relaxed": max(one.bound for one in whole) / best.peak - 1,
        "took": time.perf_counter() - begun,
    }


def gap(options: claims.Options, quick: bool = False) -> None:
    cells = [
        dict(zip(("data", "n", "d", "reg", "goal", "limit"), one, strict=True)) for one in (QUICK if quick else GAPS)
    ]
    rows = options.study("proofs_gap" + "_quick" * quick, gap_cell).run(cells)
    columns = ("data", "n", "d", "reg", "goal", "proven", "estimated", "loose", "took")
    claims.table(columns, ([shown(row[name]) for name in columns] for row in rows))


def bounds(options: claims.Options, quick: bool = False) -> None:
    cells = [dict(zip(("data", "n", "d", "reg"), one[:4], strict=True)) for one in (QUICK if quick else GAPS)]
    rows = options.study("proofs_bounds" + "_quick" * quick, bound_cell).run(cells)
    columns = ("data", "n", "d", "reg", "loose", "relaxed", "took")
    claims.table(columns, ([shown(row[name]) for name in columns] for row in rows))


def shown(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    small = "--quick" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--quick"]
    claims.main(__doc__, {name: partial(part, quick=small) for name, part in {"gap": gap, "bounds": bounds}.items()})
