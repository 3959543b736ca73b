"""Two Gaussians: theory's pieces against direct sums, its flow as a gradient flow, and the committed numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_gaussians as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.neuron import get_neuron  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    return Study("gaussians", None, claims.RESULTS).read()


def test_theory_averages_the_neuron_over_directions():
    """h against Monte Carlo over the sphere of R^40, h' against differences of h; d → ∞ is near."""
    law, rng = claim.theory(40.0), np.random.default_rng(0)
    c = rng.standard_normal((200_000, 40))
    c = np.sqrt(40) * c[:, 0] / np.linalg.norm(c, axis=1)
    for a in (0.3, 1.0, 4.0):
        direct = get_neuron(claim.SIGMA).evaluate(a * c)[0]
        assert float(law.h(a)) == pytest.approx(direct.mean(), abs=5 * direct.std() / np.sqrt(len(c)))
        assert float(law.slope(a)) == pytest.approx(float(law.h(a + 0.05) - law.h(a - 0.05)) / 0.1, rel=0.02)
    assert float(claim.theory(np.inf).h(1.0)) == pytest.approx(float(law.h(1.0)), rel=0.05)


def test_theory_descends_at_the_rate_of_a_gradient_flow():
    """dR/dt = −∫ v² dρ: from differences of the risk, and of the radii, at two times."""
    times, risks, radii = np.array([0.5, 0.51, 0.52]), [], []
    for wanted in (claim.LEVELS, (np.arange(400) + 0.5) / 400):
        claim.LEVELS, kept = wanted, claim.LEVELS
        risk, found = claim.radial_flow(40.0, times)
        claim.LEVELS = kept
        risks.append(risk)
        radii.append(found)
    assert np.array_equal(risks[0], risks[1])
    speed = (radii[1][2] - radii[1][0]) / 0.02
    assert (risks[0][2] - risks[0][0]) / 0.02 == pytest.approx(-np.mean(speed**2), rel=0.02)


def test_the_first_look_of_a_cell_is_theorys_start(rows):
    """At time 0: the risk of 800 random units, and their lengths; and the end is that of the committed table."""
    risk, radii = claim.radial_flow(float(claim.D), np.zeros(1))
    for row in (one for one in rows if one["m"] == 800):
        found, lengths = claim.curves(row)
        assert found[0] == pytest.approx(risk[0], rel=0.01)
        assert lengths[0] == pytest.approx(radii[0], rel=0.02)


def test_wider_networks_are_nearer_to_theory(rows):
    """As the page says: the distance of the risk falls with m, once all units have begun to grow."""
    limit = claim.radial_flow(float(claim.D), claim.times_looked_at())
    found = [claim.distances([row for row in rows if row["m"] == m], limit)[1] for m in (50, 200, 800)]
    assert found[0] > found[1] > found[2]
