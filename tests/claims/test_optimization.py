"""The claim on optimization: its committed numbers come out again, and say that the global minimum is reached."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_optimization as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


def committed(name):
    return Study(f"optimization_{name}", None, claims.RESULTS).read()


def test_a_committed_cell_comes_out_again():
    """d = 5: the bound to twice the tolerance by which its search ends, the steps to 10 %."""
    row = next(row for row in committed("steps") if (row["dynamics"], row["d"], row["seed"]) == ("flow", 5, 1))
    found = claim.steps_cell(**{name: row[name] for name in ("dynamics", "d", "n", "seed", "m", "steps", "smallest")})
    assert found["lower_bound"] == pytest.approx(row["lower_bound"], rel=2e-5)
    for epsilon in claim.EPSILONS:
        assert found[f"steps_{epsilon:g}"] == pytest.approx(row[f"steps_{epsilon:g}"], rel=0.1, abs=5)


def test_bounds_lie_below_what_is_attained_and_close():
    """In every committed table the lower bound is below the minimum met, by at most 10⁻⁵."""
    for name in ("minima", "start", "steps"):
        for row in committed(name):
            assert 0 <= 1 - row["lower_bound"] / row["minimum"] <= 1e-5


def test_noise_and_rebirth_leave_the_bad_start_and_plain_flow_does_not():
    """The last objective, over the lower bound: above 2.5 without, within 1 % with."""
    rows = committed("start")
    assert {row["dynamics"] for row in rows} == set(claim.FLOWS)
    for row in rows:
        ratio = row["L6000"] / row["lower_bound"]
        assert ratio > 2.5 if row["dynamics"] == "flow" else ratio < 1.01


def test_the_fitted_exponent_is_that_of_the_medians():
    """Steps 7 x^0.4 with a factor of noise a seed: the slope, inside its interval; what was not reached is left out."""
    x = np.array([10.0, 100.0, 1000.0])
    k = 7 * x[:, None] ** 0.4 * np.array([0.9, 1.0, 1.2])
    slope, low, high = claim.power(x, k, draws=100)
    assert slope == pytest.approx(0.4)
    assert low <= slope <= high
    k = np.vstack([k, [np.nan] * 3])
    assert claim.power(np.append(x, 1e4), k, draws=100)[0] == pytest.approx(0.4)
