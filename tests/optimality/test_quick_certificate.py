"""Laws of the gap by little work: below what is attained, the same for any threads, within its work."""

import math
import time

import numpy as np
import pytest

from meanfield import Ensemble, Problem, exact
from meanfield.dynamics import Field
from meanfield.optimality.quick_certificate import quick_bound
from meanfield.optimality.quick_free_energy import free_energy_bound, sphere_mixture
from meanfield.optimality.sphere_ascent import FittedStarts, climb, random_starts


def far_from_zero(d=6, n=80, seed=0):
    """Inputs with a mean of thirty deviations, and a teacher's targets before it was added."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X + 30, np.maximum(X @ rng.standard_normal((d, 4)), 0) @ rng.standard_normal(4)


def as_ensemble(best):
    size = math.sqrt(len(best.w))
    return Ensemble.from_arrays(size * best.w, size * best.u, dtype="float64")


def bound(problem, ensemble, work=2e8, threads=1):
    return quick_bound(problem, ensemble, Field(problem, ensemble.dtype).predict(ensemble), work, threads)


def test_fitted_starts_do_not_see_a_linear_map_of_the_inputs():
    """X A has the starts A⁻¹u: the same u·x, whatever the scales, the mean or the correlations."""
    rng = np.random.default_rng(0)
    X, A = rng.standard_normal((50, 5)) + 10, rng.standard_normal((5, 5)) * 10.0 ** np.arange(-2, 3)
    one, other = (inputs @ FittedStarts(inputs).draw(40).T for inputs in (X, X @ A))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


def test_fitted_starts_split_few_examples_in_every_way():
    """Inputs whose mean is large, fewer than dimensions: each of the 2ⁿ patterns of signs comes up."""
    X = np.random.default_rng(0).standard_normal((4, 9)) + 100
    assert len(np.unique(X @ FittedStarts(X).draw(300).T > 0, axis=1).T) == 16
    assert len(np.unique(X @ random_starts(X, 300).T > 0, axis=1).T) < 16


def test_fitted_starts_find_what_others_miss():
    """Where the mean is large; and none is lost by climbing from both."""
    found = []
    for seed in range(4):
        X, y = far_from_zero(seed=seed)
        one = np.column_stack([X, np.ones(len(X))])
        r = (one @ np.linalg.lstsq(one, y, rcond=None)[0] - y)[:, None] / len(y)
        uniform, fitted = random_starts(X, 100, seed=seed), FittedStarts(X).draw(100, seed=seed)
        plain, both = climb(X, r, random_starts(X, 200, seed=seed)), climb(X, r, np.concatenate([uniform, fitted]))
        found.append(both.value[0] / plain.value[0])
    assert min(found) > 0.999
    assert np.median(found) > 1.05


def test_a_bound_for_inputs_far_from_zero_is_hardly_above_what_a_network_attains():
    """A rotation of the inputs changes no minimum: no bound exceeds the other search's value by half a per cent."""
    X, y = far_from_zero()
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    found = [
        exact.optimum(Problem(Z, y, loss="squared", reg=1e-2), effort=0.02, seed=k) for k, Z in enumerate((X, X @ Q))
    ]
    assert max(one.lower_bound for one in found) <= 1.005 * min(one.value for one in found)


@pytest.mark.parametrize(("loss", "d"), [("squared", 1), ("squared", 3), ("squared", 6), ("logistic", 6)])
def test_the_bound_is_below_the_minimum_and_close_to_it(loss, d):
    """For the minimizer itself; proven in up to three dimensions, and the same answer with two threads."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((40, d))
    y = np.abs(X[:, 0]) if loss == "squared" else np.where(X[:, 0] * X[:, -1] > 0, 1, -1)
    problem = Problem(X, y, loss=loss, reg=1e-2)
    best = exact.optimum(problem, effort=0.05)
    found = bound(problem, as_ensemble(best))
    assert found.rigorous == (d <= 3)
    assert found.lower_bound <= best.value * (1 + 1e-9)
    assert found.lower_bound >= best.value * (1 - 1e-3)
    assert bound(problem, as_ensemble(best), threads=2) == found


def test_what_is_far_is_said_to_be_far():
    """The gap of particles at rest is at least their distance from the best network known."""
    X, y = far_from_zero()
    problem = Problem(X, y, loss="squared", reg=1e-2)
    best, ensemble = exact.optimum(problem, effort=0.02), Ensemble.sphere(300, 6)
    for work in (1e7, 3e8):
        found = bound(problem, ensemble, work)
        assert 0 <= found.lower_bound <= 1.01 * best.value < 0.5 * found.primal


def test_work_bounds_the_time():
    """Ten times as long as its nanoseconds, at most, also where one climb takes long."""
    rng = np.random.default_rng(0)
    for n, d in ((40, 5), (4000, 30)):
        X = rng.standard_normal((n, d))
        problem, ensemble = Problem(X, rng.standard_normal(n), loss="squared", reg=1e-3), Ensemble.sphere(300, d)
        bound(problem, ensemble)  # compiled
        for work in (1e8, 1e9):
            began = time.process_time()
            bound(problem, ensemble, work)
            assert time.process_time() - began < 10e-9 * work


# The free energy


@pytest.mark.parametrize("d", [2, 5, 20])
def test_a_mixture_gives_means_over_the_sphere(d):
    """E s sᵀ = I/d, also where half of the nodes lie about three directions."""
    nodes, _ = sphere_mixture(np.eye(d)[:2], 1 << 15, np.random.default_rng(0))
    assert nodes.weight.sum() == pytest.approx(1)
    second = (nodes.s * nodes.weight[:, None]).T @ nodes.s
    np.testing.assert_allclose(second, np.eye(d) / d, atol=0.05 / d)


def test_the_free_energy_of_particles_without_data():
    """With y = 0 the minimum is −τ (C + d)/2 log(πτ/λ)."""
    problem = Problem(np.eye(4), np.zeros(4), loss="squared", reg=0.1, temperature=0.05)
    ensemble = Ensemble.from_arrays(np.zeros(64), np.zeros((64, 4)))
    found = free_energy_bound(problem, ensemble, Field(problem, ensemble.dtype).predict(ensemble), 1e8, 1)
    assert found == pytest.approx(-0.05 * 2.5 * math.log(math.pi * 0.5), abs=1e-6)


def test_the_bound_of_the_free_energy_is_that_of_the_gibbs_measure():
    """Where quadrature gives the minimum: near it, and above it by no more than the nodes' error."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((25, 2))
    problem = Problem(X, np.abs(X[:, 0]), loss="squared", reg=1e-2, temperature=2e-3)
    best = exact.gibbs(problem)
    assert best.attained
    w, u = best.samples(20_000)
    ensemble = Ensemble.from_arrays(w, u, dtype="float64")
    moments = Field(problem, ensemble.dtype).predict(ensemble)
    for work in (1e8, 2e9):
        found = free_energy_bound(problem, ensemble, moments, work, 1)
        assert -5e-3 < (found - best.free_energy) / problem.objective(ensemble).value < 1e-3
