"""Examples by effective dimension: the data have that dimension, and the committed numbers say what the page says."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_multi_index as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


def test_the_effective_dimension_is_the_trace_over_the_direction_of_y():
    """tr Σ over the variance in e₁, from a sample; and f = 0 has the loss 1."""
    X, y = claim.sample(50_000, 10, np.random.default_rng(0))
    variance = X.var(axis=0)
    assert variance[-1] == 0
    assert X[0, -1] == 1
    assert variance.sum() / variance[0] == pytest.approx(10, rel=0.02)
    assert np.mean(y**2) / 2 == pytest.approx(1, rel=0.1)


def test_half_is_found_between_two_sizes():
    assert claim.size_at({10: 1.0, 100: 0.4, 1000: 0.0}, 0.7) == pytest.approx(10**1.5)
    assert np.isnan(claim.size_at({10: 1.0, 100: 0.9}, 0.7))
    assert np.isnan(claim.size_at({10: 0.5, 100: 0.4}, 0.7))


def test_the_committed_numbers_say_what_the_page_says():
    """Nearly linear in d_eff; the same loss at n = 20 d_eff; the gap grows with d_eff."""
    rows = Study("multi_index", None, claims.RESULTS).read()
    assert claim.exponent(rows) == pytest.approx(1.06, abs=0.005)
    at_20 = [claim.means(rows, d, claim.SHORT)[20 * d] for d in (5, 10, 25, 50)]
    assert max(at_20) < 1.05 * min(at_20)
    for n in (100, 200, 500):
        gaps = [claim.means(rows, d, claim.LONG, gap=True)[n] for d in claim.EFFECTIVE]
        assert gaps == sorted(gaps)
