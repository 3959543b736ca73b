"""Six dynamics to a certified gap: the bound, a run again, and the page's table from the committed numbers."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_dynamics as claim  # noqa: E402
import claims  # noqa: E402

from meanfield import Ensemble  # noqa: E402
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
        problem = claim.problem_of(row["problem"])
        assert row["proven_bound"] < problem.objective(Ensemble.sphere(512, problem.d, seed=1)).value
    assert all(row["gap"] > 0 for row in committed("dynamics"))


def test_the_first_step_is_the_first():
    """Of those looked at; −1 where there is none."""
    gap = np.array([0.5, 0.2, 0.05, 0.2, 0.01])
    found = [claim.first_step(10 * np.arange(5), gap, epsilon) for epsilon in (0.1, 0.01, 1e-3)]
    assert found == [20, 40, -1]


def test_a_committed_run_comes_out_again():
    """The implicit one on the line, whose steps have the same bits everywhere."""
    row = next(one for one in committed("dynamics") if (one["problem"], one["law"]) == ("line", "implicit"))
    found = claim.run_cell("line", "implicit", row["m"], row["steps"], row["bound"])
    assert found == pytest.approx({name: row[name] for name in found}, rel=1e-9)
