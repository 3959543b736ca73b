"""Teacher and clusters: the data are what the page says, and the committed numbers say it too."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_recovery as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


def read(name):
    return Study(f"recovery_{name}", None, claims.RESULTS).read()


def test_classes_of_clusters_are_apart_and_the_other_coordinates_say_nothing():
    """Discs of radius Δ, 3Δ apart: no two points of different classes are nearer than Δ in the plane."""
    X, y = claim.clusters_of(600, 6, seed=0)[0]
    apart = np.linalg.norm(X[y > 0, None, 1:3] - X[None, y < 0, 1:3], axis=2).min()
    assert 1 / 8 <= apart < 1.2 / 8
    assert abs(X[:, 1:]).max() <= 0.5
    assert abs(np.corrcoef(X[:, 3:].T, y)[-1, :-1]).max() < 0.15


def test_a_teacher_is_recovered_from_half_as_many_more_particles_on():
    rows = read("teacher")
    excess = {m: sorted(row["excess"] for row in rows if row["m"] == m) for m in claim.PARTICLES}
    assert excess[10][2] > 1e-3
    assert max(excess[m][-1] for m in (15, 20, 40, 80)) < 1e-4
    fixed = [np.median([row["fixed_excess"] for row in rows if row["m"] == m]) for m in claim.PARTICLES]
    assert fixed == sorted(fixed, reverse=True)
    assert fixed[-1] > excess[5][2]


def test_margins_rise_to_a_share_of_the_largest_and_both_layers_err_less():
    largest = {row["seed"]: row for row in read("width_largest")}
    assert all(1 <= row["upper"] / row["margin"] < 1.011 for row in largest.values())
    shares = {
        m: np.mean([row["margin"] / largest[row["seed"]]["margin"] for row in read("width") if row["m"] == m])
        for m in claim.WIDTHS
    }
    assert shares[8] < 0.5 < shares[64] < shares[1024] < 1
    assert shares[1024] == pytest.approx(shares[512], rel=1e-3)
    for n in (128, 256, 512):
        assert claim.mean(read("layers"), "error", n=n, d=15) < claim.mean(read("layers"), "last_error", n=n, d=15)
