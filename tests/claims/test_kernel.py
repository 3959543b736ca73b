"""The claim that the kernel cannot focus: its cells again, and the measures it rests on."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield import Ensemble
from meanfield.kernels import RidgePath, paper_data, relu_ntk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import claim_kernel  # noqa: E402


def committed(study, **where):
    """The row of a study's table with these values."""
    with open(ROOT / "data" / "results" / f"{study}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found = [row for row in rows if all(row[name] == str(value) for name, value in where.items())]
    assert len(found) == 1, where
    return found[0]


@pytest.mark.parametrize(
    ("study", "cell", "where"),
    [
        ("kernel_ridge", claim_kernel.ridge_cell, {"d": 10, "n": 80, "seed": 1}),
        ("kernel_oracle", claim_kernel.oracle_cell, {"method": "logistic", "d": 10, "n": 100, "seed": 1}),
        ("kernel_oracle", claim_kernel.oracle_cell, {"method": "svm", "d": 10, "n": 110, "seed": 2}),
        ("kernel_margin", claim_kernel.margin_cell, {"d": 20, "n": 100, "seed": 2}),
    ],
)
def test_cells_are_what_the_tables_hold(study, cell, where):
    """To five digits; test errors to two of the 4000 points, which another processor may round to the other side."""
    row = committed(study, **where)
    for name, value in cell(**where).items():
        allowed = {"abs": 2 / claim_kernel.N_TEST} if name.endswith("error") else {"rel": 1e-5}
        assert value == pytest.approx(float(row[name]), **allowed), name


def test_a_network_cell_is_what_the_table_holds():
    """d = 10, n = 20, the whole run; the same bits on the same type of processor, three digits on another."""
    where = {"d": 10, "n": 20, "seed": 0}
    row = committed("kernel_network", **where)
    again = claim_kernel.network_cell(**where, **claim_kernel.NETWORK)
    for name in ("signal", "margin", "aligned_0", "aligned_320", "aligned_4000"):
        assert again[name] == pytest.approx(float(row[name]), rel=1e-3), name


def test_alignment_is_the_share_of_two_in_d_before_and_one_after():
    """Uniform particles: 2/d within five standard errors; particles in the plane: 1; a dead particle has no say."""
    uniform = Ensemble.sphere(20_000, 16, seed=1)
    assert claim_kernel.alignment(uniform) == pytest.approx(2 / 16, abs=5 * 0.1 / np.sqrt(20_000))
    w, u = np.array([1.0, -2.0, 5.0]), np.array([[3.0, 4, 0, 0], [0, 0, 0, 5], [0, 0, 0, 0]])
    assert claim_kernel.alignment(Ensemble.from_arrays(w, u)) == pytest.approx(5 / 15, rel=1e-6)


def test_the_crossing_is_where_the_mean_error_passes_ten_percent():
    """Errors 0.3 − 0.1 n/d² + a shift of each seed: n/d² = 2 + mean shift/0.1; jackknife = error of the mean shift."""
    shifts = [0.01, -0.02, 0.04, 0.0]
    rows = [
        {"d": 10, "n": n, "seed": s, "e": 0.3 - 0.1 * n / 100 + shift}
        for n in (100, 150, 200, 250, 300)
        for s, shift in enumerate(shifts)
    ]
    at, error = claim_kernel.crossing(rows, "e", 10)
    assert at == pytest.approx(2 + np.mean(shifts) / 0.1)
    assert error == pytest.approx(np.std(shifts, ddof=1) / np.sqrt(4) / 0.1, rel=1e-6)
    assert np.isnan(claim_kernel.crossing(rows[:4], "e", 10)[0]), "never below 10 %: no crossing"


def test_the_oracle_is_never_worse_than_leave_one_out_nor_than_any_reg():
    """And leave-one-out's error is that of the reg it chose."""
    where = {"d": 8, "n": 60, "seed": 3}
    found = claim_kernel.ridge_cell(**where)
    (X, y), (Z, z) = paper_data(60, 8, 3), paper_data(claim_kernel.N_TEST, 8, 10_003)
    path = RidgePath(loss="error").fit(relu_ntk(X), y)
    error = (z * path.predict(relu_ntk(Z, X)) <= 0).mean()
    assert found["loo_error"] == pytest.approx(error, abs=1e-9)
    assert found["oracle_error"] <= error
