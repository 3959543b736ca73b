#!/usr/bin/env python3
"""How much of a gap is proven: certificates in 3 to 40 dimensions, and how far the bound on the pull is loose.

    python scripts/claim_proofs.py gap        # the table: proven and estimated gap of a network near the minimum
    python scripts/claim_proofs.py bounds     # the same dual points by each of the bounds alone
    python scripts/claim_proofs.py others --peer-python PEERS/bin/python    # against others (scripts/peers_proofs.py)
    python scripts/claim_proofs.py gap bounds --quick    # small: a minute; tables are named `..._quick`

The network is that of `exact.optimum`. A proof ends at the gap that its row asks for (`until_gap`) or after its
seconds, and is `certify`'s own. For times that mean something: `--processes 1 --threads 2`, and nothing else on the
machine; `gap` takes five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import claims
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from meanfield import Problem, certify, exact
from meanfield.errors import InputError
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
    ("noise labels", 40, 5, 5e-3, 1e-6, 150.0),
    ("noise labels", 60, 20, 5e-3, 1e-2, 300.0),
    ("paper", 40, 20, 5e-3, 1e-3, 300.0),
    ("paper", 40, 20, 5e-5, 1e-3, 300.0),
    ("paper", 80, 20, 5e-3, 1e-3, 300.0),
    ("paper", 160, 20, 5e-3, 1e-3, 60.0),
    ("paper", 160, 20, 5e-5, 1e-3, 60.0),
    ("paper", 240, 40, 5e-3, 2e-2, 200.0),
    ("four classes", 60, 10, 5e-3, 5e-2, 45.0),
)
# (data, loss, n, d, λ, the gap to prove)
OTHERS = (
    ("teacher", "squared", 25, 2, 0.1 / 50, 1e-6),
    ("teacher", "squared", 25, 2, 0.01 / 50, 1e-6),
    ("iris", "squared", 75, 4, 0.1 / 150, 1e-6),
    ("iris", "squared", 75, 4, 0.01 / 150, 1e-6),
    ("noise labels", "squared", 40, 5, 5e-3, 1e-3),
    ("paper", "squared", 40, 20, 5e-3, 1e-3),
    ("noise labels", "logistic", 40, 5, 5e-3, 1e-3),
    ("paper", "logistic", 40, 20, 5e-3, 1e-3),
    ("paper", "logistic", 80, 20, 5e-3, 1e-3),
)
EFFORT = 3  # of a proof beside others'
QUICK = (("repeated inputs", 39, 3, 1e-7, 1e-6, 20.0), ("paper", 40, 20, 5e-3, 1e-2, 20.0))


def problem_of(data: str, n: int, d: int, reg: float, loss: str = "logistic") -> Problem:
    """The first draw of a kind of data."""
    if data == "paper":
        drawn = paper_problem(n, d, 0, reg=reg)
        return Problem(drawn.X, drawn.y, loss=loss, reg=reg)
    if data == "iris":
        X, classes = load_iris(return_X_y=True)
        X, _, y, _ = train_test_split(X, np.eye(3)[classes], train_size=n, random_state=42)
        return Problem(X, y, loss=loss, reg=reg)
    rng = np.random.default_rng(0)
    if data == "teacher":
        U, V, X = (rng.standard_normal(shape) for shape in ((d, 100), (100, 5), (n, d)))
        return Problem(X, np.maximum(X @ U, 0.0) @ V, loss=loss, reg=reg)
    if data == "repeated inputs":
        X, y = np.repeat(rng.standard_normal((n // 3, d)), 3, axis=0), np.tile([1, 1, -1], n // 3)
        return Problem(X, y, reg=reg)
    X = rng.standard_normal((n, d))
    if data == "noise labels":
        return Problem(X, np.where(rng.random(n) < 0.5, -1, 1), loss=loss, reg=reg)
    y = np.argmax(X[:, :4] + 0.5 * rng.standard_normal((n, 4)), axis=1)
    return Problem(X, y, loss="cross_entropy", reg=reg)


@cache
def network_of(data: str, n: int, d: int, reg: float, loss: str = "logistic") -> tuple[Problem, exact.Optimum]:
    """The problem and its minimum as far as `exact.optimum` finds it; kept for all parts."""
    problem = problem_of(data, n, d, reg, loss)
    return problem, exact.optimum(problem, tolerance=1e-6)


def gap_cell(data: str, n: int, d: int, reg: float, goal: float, limit: float) -> dict[str, Any]:
    """Proven and estimated relative gap, how loose the bound on the pull is, and what it took."""
    problem, best = network_of(data, n, d, reg)
    ensemble = claims.ensemble_of(best.w, best.u)
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


def others_cell(data: str, loss: str, n: int, d: int, reg: float, goal: float, *, python: str) -> dict[str, Any]:
    """A proof and what the peers have: bounds and networks beside L, bounds on the pull beside the highest found."""
    problem, best = network_of(data, n, d, reg, loss)
    begun = time.process_time()
    found = certify(
        problem, claims.ensemble_of(best.w, best.u), until_gap=goal, effort=EFFORT, method="proven", threads=1
    )
    row = {"L": found.primal, "proven": found.relative_gap, "took": time.process_time() - begun}
    row |= {"loose": found.looseness, "relaxed": math.nan, "relaxed_status": "-", "relaxed_took": math.nan}
    row |= {"peer": "-", "above": math.nan, "peer_took": math.nan, "crown": math.nan, "crown_took": math.nan}
    ask = partial(answer, python, X=problem.X, y=problem.targets.reshape(n, -1), a=found.dual, reg=reg)
    if loss == "squared":
        told = ask("relaxation")
        row |= {"relaxed": 1 - told["value"] / found.primal, "relaxed_took": told["took"]}
        row["relaxed_status"] = told["status"]
    if problem.outputs == 1:
        row["peer"] = "scnn" if loss == "squared" else "adelie"
        told, pull = ask(row["peer"]), ask("crown")
        network = claims.ensemble_of(np.array(told["w"]), np.array(told["u"]))
        row |= {"above": problem.objective(network).value / found.primal - 1, "peer_took": told["took"]}
        row |= {"crown": pull["value"] / found.best_norm - 1, "crown_took": pull["took"]}
    return row


def answer(python: str, peer: str, **task: Any) -> dict[str, Any]:
    """What a peer says of a task, from a process of its own with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        np.savez(path, **task)
        command = [python, str(Path(__file__).with_name("peers_proofs.py")), peer, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **one})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--peer-python {python}: {peer}: exit status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


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


def others(options: claims.Options, python: str = sys.executable) -> None:
    names = ("data", "loss", "n", "d", "reg", "goal")
    cells = [dict(zip(names, one, strict=True)) for one in OTHERS]
    rows = options.study("proofs_others", partial(others_cell, python=python)).run(cells)
    bounds = ("data", "loss", "n", "d", "reg", "L", "proven", "took", "relaxed", "relaxed_status", "relaxed_took")
    claims.table(bounds, ([shown(row[name]) for name in bounds] for row in rows))
    rest = ("data", "loss", "n", "d", "reg", "peer", "above", "peer_took", "loose", "crown", "crown_took")
    claims.table(rest, ([shown(row[name]) for name in rest] for row in rows if row["peer"] != "-"))


def shown(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer-python", default=sys.executable)
    own, sys.argv[1:] = parser.parse_known_args()
    parts = {"gap": partial(gap, quick=own.quick), "bounds": partial(bounds, quick=own.quick)}
    claims.main(__doc__, {**parts, "others": partial(others, python=own.peer_python)})
