"""Two-parity: labels are the product, and the committed numbers say it."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_two_parity as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


def test_labels_are_the_product_of_two_coordinates():
    X, y = claim.sample(500, 9, np.random.default_rng(0))
    assert np.allclose(y, 9 * X[:, 0] * X[:, 1])
    assert np.allclose(np.sum(X**2, axis=1), 2)
    assert abs(y.mean()) < 0.15


def test_from_eight_examples_a_dimension_on_the_network_errs_little_and_the_kernel_more():
    rows = Study("two_parity_samples", None, claims.RESULTS).read()
    for d in claim.DIMENSIONS:
        assert all(claim.mean(rows, "accuracy", d=d, n=k * d) > 0.975 for k in (8, 16, 32))
    kernel = [claim.mean(rows, "kernel_accuracy", d=d, n=8 * d) for d in claim.DIMENSIONS]
    assert kernel == sorted(kernel, reverse=True)
    assert kernel[-1] == pytest.approx(0.66, abs=0.01)


def test_particles_matter_little_and_noise_much():
    rows = Study("two_parity_particles", None, claims.RESULTS).read()
    for tau in claim.TEMPERATURES:
        few, many = (claim.mean(rows, "risk", warm=tau, m=m) for m in (50, 2000))
        assert 0.85 < many / few < 1
    accuracies = {tau: claim.mean(rows, "accuracy", warm=tau, m=2000) for tau in claim.TEMPERATURES}
    assert accuracies.pop(0.1) < 0.6
    assert min(accuracies.values()) == 1
