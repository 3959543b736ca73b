"""Laws of the bound on the test error: its terms, its complexity, and that it holds where nothing can be learned."""

import math

import numpy as np
import pytest

from meanfield import exact
from meanfield.optimality.sphere_ascent import climb, random_starts
from meanfield.studies.comparison import paper_problem
from meanfield.studies.error_bound import _at, error_bound


def naive(margins, mean_square, delta):
    """The least over a wide grid, one term after the other."""
    n, found = len(margins), []
    for k in range(-200, 400):
        r = math.exp(-k / 10)
        ramp = sum(min(1.0, max(0.0, 1 - 2 * z / r)) for z in margins) / n
        own = 2 / 3 * delta / ((abs(k) + 1) * (abs(k) + 2))
        found.append(ramp + 4 * math.sqrt(mean_square / n) / r + 3 * math.sqrt(math.log(2 / own) / (2 * n)))
    return min(found)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_it_is_the_least_over_the_grid(scale):
    """Margins of every sign; where it says something no r outside the part that is searched is better."""
    margins = scale * np.random.default_rng(0).normal(1.0, 0.3, 400)
    for square in (1e-3, 1e-2):
        found = error_bound(margins, square * scale**2, 0.1)
        assert not found.is_vacuous
        assert found.value == pytest.approx(naive(margins, square * scale**2, 0.1), rel=1e-12)
        assert found.value == pytest.approx(found.ramp + found.complexity + found.confidence)


def test_the_probabilities_of_failure_add_up_to_delta():
    """Σ over all k of δ_k = δ, each read off the third term."""
    terms = [_at(k, np.ones(4), 1.0, 1.0).confidence for k in range(-5000, 5001)]
    assert 0.999 < sum(2 * math.exp(-8 * (term / 3) ** 2) for term in terms) < 1.0


def test_the_complexity_is_above_that_of_the_networks_and_not_far():
    """E sup_{‖u‖=1} |(1/n) Σ σ_i relu(u·x_i)|, the suprema by climbing, against 2 √(D/n)."""
    problem = paper_problem(60, 8, seed=0)
    X, rng, found = problem.X, np.random.default_rng(0), []
    for draw in range(20):
        signs = rng.choice([-1.0, 1.0], (len(X), 1)) / len(X)
        found.append(climb(X, signs, random_starts(X, 64, seed=0, draw=draw)).value[0])
    bound = 2 * math.sqrt(np.mean(np.sum(X**2, axis=1)) / len(X))
    assert 0.3 * bound < np.mean(found) < bound


def test_on_labels_that_mean_nothing_it_says_nothing_and_on_the_papers_data_it_does():
    """A network that fits 20 random labels errs on half of all others; |x₁| − |x₂| on none."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((20, 5)), rng.choice([-1, 1], 20)
    margins = y * exact.max_margin(X, y, effort=0.05, prove=False).predict(X)[:, 0]
    assert margins.min() > 0
    assert error_bound(margins, float(np.mean(np.sum(X**2, axis=1)))).value > 0.5
    data = paper_problem(20000, 20, seed=0)
    margins = data.targets * (np.abs(data.X[:, 0]) - np.abs(data.X[:, 1])) / 8
    found = error_bound(margins, float(np.mean(np.sum(data.X**2, axis=1))))
    assert found.ramp == 0
    assert 0 < found.value < 0.6
