"""The upper sum of q^{−d/2} over the sphere: above quadrature, near it, and below it what is proven of F_τ."""

import mpmath
import numpy as np
import pytest

from meanfield import Ensemble, Problem, exact
from meanfield.optimality.free_energy_gap import certify_free_energy
from meanfield.optimality.proven_integral import proven_mean
from meanfield.optimality.sphere_ascent import climb, random_starts
from meanfield.optimality.sphere_quadrature import sphere_nodes


@pytest.mark.parametrize(("d", "near"), [(2, 1e-3), pytest.param(3, 3e-2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_sum_is_above_quadrature_and_near_it(d, near, outputs):
    """Whatever the number of cells, up to peaks of ‖G‖ of 0.95 · 2λ; more cells bring it nearer."""
    for seed in range(3):
        rng = np.random.default_rng(100 * d + seed)
        X, a = rng.standard_normal((8, d)), rng.standard_normal((8, outputs))
        reg = climb(X, a, random_starts(X, 300)).value[0] / (2 * rng.uniform(0.3, 0.95))
        nodes, _ = sphere_nodes(X, 0, 0)
        G = np.maximum(nodes.s @ X.T, 0) @ a
        integral = nodes.weight @ (1 - np.sum(G * G, axis=1) / (2 * reg) ** 2) ** (-0.5 * d)
        few, many = (proven_mean(X, a, reg, cells=cells) for cells in (500, 20_000))
        assert integral * (1 - 1e-9) <= many < few
        assert many <= integral * (1 + near)


def test_one_example_in_the_plane_against_forty_digits():
    """G = relu(s·x): on half of the circle 1/(1 − k² cos²θ), on the other 1."""
    with mpmath.workdps(40):
        k = mpmath.mpf("0.75")
        half = mpmath.quad(lambda t: 1 / (1 - (k * mpmath.cos(t)) ** 2), [-mpmath.pi / 2, 0, mpmath.pi / 2])
        truth = float((half + mpmath.pi) / (2 * mpmath.pi))
    found = proven_mean(np.array([[1.0, 0.0]]), np.array([[0.75]]), 0.5)
    assert truth <= found <= truth * (1 + 1e-5)


def test_beyond_the_domain_the_sum_is_infinite():
    assert proven_mean(np.array([[1.0, 0.0]]), np.array([[2.0]]), 0.5, cells=1000) == np.inf


@pytest.mark.parametrize("d", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_proven_bound_is_below_the_free_energy(d):
    """Of the Gibbs minimizer; and as high as the estimate up to τ times the logarithm of what the sum is too large."""
    rng = np.random.default_rng(d)
    problem = Problem(rng.standard_normal((8, d)), rng.standard_normal(8), loss="squared", reg=0.02, temperature=0.01)
    best = exact.gibbs(problem)
    assert best.attained
    found = certify_free_energy(problem, Ensemble.from_arrays(*best.samples(20_000), dtype="float64"))
    assert found.proven_bound <= best.free_energy
    assert found.lower_bound - 0.01 * 0.05 <= found.proven_bound <= found.lower_bound + found.standard_error + 1e-9
