"""From rich to lazy: the pieces against formulas, a cell again, and what the committed numbers say."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_lazy as claim  # noqa: E402
import claims  # noqa: E402

from meanfield import Ensemble, diagnostics  # noqa: E402
from meanfield.kernels import relu_ntk  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return Study("lazy", None, claims.RESULTS).read()


def test_the_kernel_of_relu_particles_is_the_ensembles_and_near_the_closed_form():
    """Of the sphere's law ∫∇Φ·∇Φ is the closed form over d + 1, up to 1/√m."""
    X = claim.data("xor", 0)[0]
    ensemble = Ensemble.sphere(1 << 14, claim.D, seed=1, dtype="float64")
    K = claim.tangent_kernel(ensemble, X, "relu")
    assert pytest.approx(diagnostics.tangent_kernel(ensemble, X), rel=1e-10) == K
    closed = relu_ntk(X) / (claim.D + 1)
    assert np.linalg.norm(K - closed) < 4 / np.sqrt(1 << 14) * np.linalg.norm(closed)


def test_descent_tends_to_the_flow_as_steps_shrink():
    """First order in η, on the training and the test set."""
    X, y, Z, _ = claim.data("xor", 0)
    K, errors = relu_ntk(np.vstack([X, Z]), X) / (claim.D + 1), []
    for eta in (0.5, 0.25):
        steps = np.array([400.0, 4000.0]) / eta
        errors.append(claim.rms(claim.flows(K, y, steps, eta) - claim.closed_form(X, Z, y, eta * steps)))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[0] < 1e-2


@pytest.mark.slow
def test_a_committed_cell_comes_out_again(rows):
    """tanh at α = 1000, in pairs."""
    wanted = {"source": "xor", "start": "pairs", "neuron": "tanh", "scale": 1000.0, "seed": 0}
    (row,) = (one for one in rows if wanted.items() <= one.items())
    found = claim.cell(**wanted, m=row["m"], steps=row["steps"])
    assert found["own"] == pytest.approx(row["own"], rel=1e-4)
    assert found["movement"] == pytest.approx(row["movement"], rel=1e-4)
    assert found["test_error"] == row["test_error"]


def test_committed_exponents_are_those_of_the_page(rows):
    """1/α for a smooth neuron, 1/α² in pairs, slower for relu; the kernel at rest where training is lazy."""
    slopes = {case: claim.slope(rows, case) for case in claim.CASES}
    assert slopes["paper's data, tanh, subtracted"] == pytest.approx(-1, abs=0.05)
    assert slopes["paper's data, tanh"] == pytest.approx(-2, abs=0.05)
    assert all(-0.65 < slopes[case] < -0.45 for case in list(claim.CASES)[:3])
    error = claim.means(rows, "paper's data", "test_error")
    kernel = claim.means(rows, "paper's data", "ntk_error")
    assert error[1] < 0.01
    assert error[10000] == pytest.approx(kernel[10000], abs=0.02)
    movement = list(claim.means(rows, "paper's data", "movement").values())
    assert movement == sorted(movement, reverse=True)
