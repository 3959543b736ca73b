"""What is proven, beside what others have: conversions between objectives, and tables in which no bound is above a
network."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_proofs as claim  # noqa: E402
import claims  # noqa: E402
import peers_proofs as peers  # noqa: E402

from meanfield import Problem  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402


def committed(name):
    rows = Study(name, None, claims.RESULTS).read()
    assert rows
    return rows


def test_a_network_becomes_the_balanced_ensemble_of_the_same_function():
    """Its L is R + 2λ Σ ‖w‖‖u‖, which no other scale of the neurons undercuts; a neuron of size 0 may be among them."""
    rng = np.random.default_rng(0)
    X, y, w, u = (rng.standard_normal(shape) for shape in ((6, 3), (6, 2), (4, 2), (4, 3)))
    w[2] = 0
    problem = Problem(X, y, loss="squared", reg=0.1)
    value = problem.objective(claims.ensemble_of(w, u)).value
    f = np.maximum(X @ u.T, 0) @ w
    R = np.mean(0.5 * np.sum((f - y) ** 2, axis=1))
    assert value == pytest.approx(R + 0.2 * np.linalg.norm(w, axis=1) @ np.linalg.norm(u, axis=1), rel=1e-12)
    for scale in (0.5, 2.0):
        assert R + 0.1 * (np.sum((scale * w) ** 2) + np.sum((u / scale) ** 2)) > value


def test_what_is_proven_lies_below_every_network():
    """In the committed tables: below the estimate, the networks of searches and runs, and those of others."""
    for claimed, runs in (("optimization", "optimization_cells"), ("sample_complexity", "sample_complexity_network")):
        known = {}
        for row in committed(f"{claimed}_proofs"):
            assert 0 < row["proven_bound"] <= row["estimated_bound"] <= row["attained"]
            known[tuple(row[name] for name in ("d", "n", "seed", "reg"))] = row["proven_bound"]
        attained = [
            (tuple(row[name] for name in ("d", "n", "seed", "reg")), row["objective"]) for row in committed(runs)
        ]
        assert known.keys() <= {key for key, _ in attained}
        assert all(known.get(key, 0.0) < L for key, L in attained)
    for row in committed("proofs_others"):
        assert 0 <= row["proven"] < 1
        assert not row["above"] < -row["proven"]


def test_a_proven_bound_on_the_margin_lies_above_every_network():
    """Of the proof's own search and of the one to a tolerance."""
    for part in ("paper", "line", "multiclass", "width"):
        limits, proofs = committed(f"margin_{part}_limit"), committed(f"margin_{part}_proof")
        for two in proofs:
            one = next(one for one in limits if all(one[name] == two[name] for name in ("n", "d", "seed")))
            assert max(one["margin"], two["margin"]) <= two["upper"]


def test_a_committed_proof_comes_out_again():
    """A teacher of 100 neurons: L to the tolerance of its search."""
    row = next(row for row in committed("proofs_others") if row["data"] == "teacher")
    found = claims.proven_minimum(claim.problem_of("teacher", 25, 2, row["reg"], "squared"), effort=1.0)
    assert found["attained"] == pytest.approx(row["L"], rel=2e-5)
    assert found["proven_bound"] == pytest.approx(row["L"] * (1 - row["proven"]), rel=2e-4)


def test_the_relaxation_of_training_is_below_the_minimum_and_tight_for_one_example():
    """x = 1, y = 1, λ = ¼: ⅜ (cvxpy). In other units of inputs and targets it is the same problem."""
    pytest.importorskip("cvxpy")
    one = {"X": np.ones((1, 1)), "y": np.ones((1, 1)), "reg": 0.25}
    assert peers.relaxation(one)["value"] == pytest.approx(0.375, abs=1e-5)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal((6, 1))
    value = peers.relaxation({"X": X, "y": y, "reg": 0.02})["value"]
    found = claims.proven_minimum(Problem(X, y, loss="squared", reg=0.02), effort=1.0)
    assert 0.5 * found["attained"] < value < found["attained"] * (1 + 1e-6)
    other = peers.relaxation({"X": 3 * X, "y": 2 * y, "reg": 0.12})["value"]
    assert other == pytest.approx(4 * value, rel=1e-4)
