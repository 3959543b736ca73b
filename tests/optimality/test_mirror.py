"""Positively homogeneous neurons as relu's on mirrored examples: certificates and minima of leaky_relu."""

import numpy as np
import pytest

from meanfield import Ensemble, GradientFlow, InputError, Problem, certify, exact, simulate
from meanfield.optimality.budget import Budget
from meanfield.optimality.mirror import RELU, Mirror
from meanfield.optimality.proof import proven_peak
from meanfield.optimality.sphere_ascent import pull

RNG = np.random.default_rng(0)


def as_ensemble(best):
    """The network of an `Optimum` as particles."""
    scale = len(best.w) ** 0.5
    return Ensemble.from_arrays(scale * best.w, scale * best.u, dtype="float64")


@pytest.mark.parametrize("sides", [(1.0, -0.01), (1.0, -1.0), (0.5, 2.0), (1.0, 0.0), (-1.0, 0.3)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_pull_is_that_of_relu_at_mirrored_examples(sides, outputs):
    """‖Σ a_i φ(u·x_i)‖, and no proof on the mirrored examples is below it anywhere: 20,000 directions."""
    mirror, X, a = Mirror(*sides), RNG.standard_normal((12, 3)), RNG.standard_normal((12, outputs))
    u = RNG.standard_normal((20_000, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    z = u @ X.T
    exactly = np.linalg.norm(np.where(z > 0, sides[0] * z, -sides[1] * z) @ a, axis=1)
    np.testing.assert_allclose(pull(mirror.examples(X), mirror.point(a), u), exactly, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(mirror.features(z) @ a, axis=1), exactly, atol=1e-13)
    start = u[np.argmax(exactly)]
    proven = proven_peak(mirror.examples(X), mirror.point(a), start=start, level=0.0, budget=Budget(1e9))
    assert exactly.max() <= proven.upper <= 1.05 * exactly.max()
    assert mirror.spread >= abs(sides[0]) + abs(sides[1])
    assert (mirror.examples(X) is X) == (mirror == RELU)


def test_in_one_dimension_it_is_a_lasso_of_two_features():
    """u = ±1 are all directions: coordinate descent finds the same minimum, which certify proves."""
    X, y, reg = np.array([[1.0], [-1.0], [2.0]]), np.array([1.0, 0.5, -0.3]), 0.05
    phi = np.stack([np.where(s * X[:, 0] > 0, s * X[:, 0], 0.01 * s * X[:, 0]) for s in (1, -1)], axis=1)
    c = np.zeros(2)
    for _ in range(200):
        for k in range(2):
            rest = y - phi @ c + phi[:, k] * c[k]
            pulled, square = phi[:, k] @ rest / 3, phi[:, k] @ phi[:, k] / 3
            c[k] = np.sign(pulled) * max(abs(pulled) - 2 * reg, 0) / square
    least = np.mean((phi @ c - y) ** 2) / 2 + 2 * reg * np.abs(c).sum()
    problem = Problem(X, y, loss="squared", reg=reg, neuron="leaky_relu")
    best = exact.optimum(problem)
    assert best.value == pytest.approx(least, rel=1e-6)
    assert np.allclose(best.predict(X)[:, 0], phi @ c, atol=1e-4)
    found = certify(problem, as_ensemble(best))
    assert found.rigorous
    assert found.lower_bound <= least * (1 + 1e-12)
    assert found.lower_bound == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize(("d", "outputs"), [(3, 1), (3, 2), pytest.param(6, 1, marks=pytest.mark.slow)])
def test_a_minimum_is_attained_and_proven(d, outputs):
    """The objective of the network found is its value, and a proof lies below it and above 97 % of it."""
    X = RNG.standard_normal((24, d))
    y = X[:, :outputs] ** 2 - 1
    problem = Problem(X, y if outputs > 1 else y[:, 0], loss="squared", reg=0.02, neuron="leaky_relu")
    best = exact.optimum(problem, effort=0.1)
    ensemble = as_ensemble(best)
    assert problem.objective(ensemble).value == pytest.approx(best.value, rel=1e-9)
    found = certify(problem, ensemble, method="proven", effort=0.3)
    assert found.rigorous
    assert 0.97 * best.value < found.lower_bound <= best.value
    assert certify(problem, Ensemble.gaussian(50, d, outputs), method="estimate").lower_bound <= best.value * (1 + 1e-6)


def test_the_end_of_a_run_proves_it_in_few_dimensions():
    """As for relu; and a proof of another neuron than relu cannot be kept."""
    X = RNG.standard_normal((30, 2))
    problem = Problem(X, np.abs(X[:, 0]), loss="squared", reg=1e-2, neuron="leaky_relu")
    result = simulate(problem, Ensemble.sphere(500, 2), GradientFlow(), steps=400)
    assert result.final_gap.rigorous
    best = exact.optimum(problem)
    assert result.final_gap.lower_bound <= best.value
    assert best.value <= result.final["objective"] * (1 + 1e-9)
    with pytest.raises(InputError, match="a proof that is kept knows relu neurons only, not 'leaky_relu'"):
        certify(problem, result.ensemble, keep=True)


def test_the_largest_margin_of_leaky_relu():
    """±1 on a line: (1 + 0.01)/4 in closed form; in the plane the dual weights pull nowhere harder than they say."""
    two = exact.max_margin([[1.0], [-1.0]], [1, -1], neuron="leaky_relu")
    assert two.margin == pytest.approx(1.01 / 4, rel=1e-9)
    assert two.rigorous
    assert two.margin <= two.upper <= two.margin * (1 + 1e-4)
    x = (2 * np.arange(12) + 1) / 12 - 1
    X, y = np.column_stack([x, np.ones(12)]), 1 - 2 * (np.floor(3 * (x + 1)).astype(int) % 2)
    best = exact.max_margin(X, y, neuron="leaky_relu")
    law = exact.margin_law(X, y, best, neuron="leaky_relu")
    assert (y * best.predict(X)[:, 0]).min() == pytest.approx(best.margin, rel=1e-9)
    angle = np.linspace(0, 2 * np.pi, 20_000)
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ X.T
    for dual, precision in ((best.dual, 1e-6), (law.dual, 1e-4)):
        assert np.abs(np.where(z > 0, z, 0.01 * z) @ (dual * y)).max() == pytest.approx(2 * best.upper, rel=precision)
    assert best.upper < best.margin * (1 + 1e-4)
    assert best.margin != pytest.approx(exact.max_margin(X, y).margin, rel=1e-3)


def test_margins_of_other_neurons_are_refused():
    """In one line; and those of another network's law."""
    for reference in (exact.max_margin, exact.margin_law):
        with pytest.raises(InputError, match="knows the positively homogeneous neurons relu and leaky_relu only"):
            reference([[1.0], [-1.0]], [1, -1], neuron="tanh")
    with pytest.raises(InputError, match="best is that of 'relu'"):
        exact.margin_law([[1.0], [-1.0]], [1, -1], exact.max_margin([[1.0], [-1.0]], [1, -1]), neuron="leaky_relu")
