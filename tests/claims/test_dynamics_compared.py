"""Seven dynamics to a certified gap: the bound, a run again, and the page's table from the committed numbers."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_dynamics as claim  # noqa: E402
import claims  # noqa: E402

from meanfield import Ensemble, simulate  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402


def committed(name):
    return Study(name, None, claims.RESULTS).read()


def test_the_table_is_that_of_the_committed_numbers(tmp_path):
    """Every figure of it."""
    rows, costs, minima = map(committed, ("dynamics", "dynamics_costs", "dynamics_minima"))
    claim.write(rows, costs, minima, replace(claims.Options(), folder=tmp_path), "dynamics")
    assert (tmp_path / "dynamics.md").read_text("utf-8") == (claims.RESULTS / "dynamics.md").read_text("utf-8")


def test_the_bound_is_below_what_any_network_attains():
    """The best network's objective is above it, by at most what the page says; so is that of a start."""
    for row in committed("dynamics_minima"):
        assert row["proven_bound"] <= row["attained"] * (1 + 1e-12)
        assert 1 - row["proven_bound"] / row["attained"] < 1e-3
        problem = claim.problem_of(row["problem"], row["draw"])
        assert row["proven_bound"] < problem.objective(claim.start_of(problem, 512, row["draw"])).value
    assert all(row["gap"] > 0 for row in committed("dynamics"))


def test_the_first_step_is_the_first():
    """Of those looked at; −1 where there is none."""
    gap = np.array([0.5, 0.2, 0.05, 0.2, 0.01])
    found = [claim.first_step(10 * np.arange(5), gap, epsilon) for epsilon in (0.1, 0.01, 1e-3)]
    assert found == [20, 40, -1]


def test_a_committed_run_comes_out_again():
    """The implicit one on the line, whose steps have the same bits everywhere."""
    asked = {"problem": "line", "law": "implicit", "draw": 0}
    row = next(one for one in committed("dynamics") if asked.items() <= one.items())
    found = claim.run_cell(**asked, m=row["m"], steps=row["steps"], bound=row["bound"])
    assert found == pytest.approx({name: row[name] for name in found}, rel=1e-9)


@pytest.mark.parametrize("name", claim.PROBLEMS)
def test_bilevel_has_the_best_output_weights(name):
    """At fixed u the objective, convex in w, has no slope left by w, as far as a balance goes; and no step ascends."""
    problem = claim.problem_of(name)
    start = claim.start_of(problem, 128, 0)
    start = Ensemble.from_arrays(start.w, start.u, dtype="float64")
    result = simulate(problem, start, claim.Bilevel(), steps=20, record_every=1, anneal=False)
    assert np.all(np.diff(result.trace["objective"][1:]) <= 0)
    w, u = result.ensemble.w, result.ensemble.u
    residual = problem.loss.residual(np.maximum(problem.X @ u.T, 0) @ w / len(w), problem.targets)
    slope = np.maximum(problem.X @ u.T, 0).T @ residual + 2 * problem.reg(0) * w
    assert np.abs(slope).max() < 1e-4 * np.abs(2 * problem.reg(0) * w).max()
