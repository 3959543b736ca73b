"""Weights learned from gradients: a committed cell comes out again, and the committed table says what the page says."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_learned_metric as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return Study("learned_metric", None, claims.RESULTS).read()


def test_a_committed_cell_comes_out_again(rows):
    row = next(row for row in rows if (row["n"], row["seed"]) == (100, 3))
    assert claim.cell(n=100, seed=3) == {
        name: pytest.approx(value, rel=1e-6) for name, value in row.items() if name.endswith(("_error", "_share"))
    }


def test_weights_find_the_three_coordinates_and_the_kernel_does_not(rows):
    """From n = 100 on within 0.7 of the noise, in every draw; the kernel stays above a quarter of y's variance."""
    enough = [row for row in rows if row["n"] >= 100]
    assert len(enough) == 35
    assert max(row["weights_error"] for row in enough) < 1.7 * claim.NOISE**2
    assert min(row["ridge_error"] for row in rows) > 0.25 * 4
