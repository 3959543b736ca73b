"""All peaks of the pull on a circle: none is missed, whatever the inputs."""

import numpy as np
import pytest

from meanfield.optimality.branch_and_bound import bound_on_sphere
from meanfield.optimality.circle import highest_on_circle
from meanfield.optimality.sphere_ascent import climb, pull

ANGLES = np.linspace(-np.pi, np.pi, 20_001)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def inputs(kind, rng):
    """Of a kind: plain, on a grid, multiples of few, on one line, of unlike scales, far from zero, one alone."""
    n = int(rng.integers(2, 40))
    X = rng.standard_normal((n, 2))
    return {
        "plain": X,
        "grid": np.round(X),
        "repeated": X[rng.integers(n, size=n)] * rng.integers(-2, 3, size=(n, 1)),
        "line": np.outer(rng.standard_normal(n), rng.standard_normal(2)),
        "scale": X * 10.0 ** rng.integers(-6, 7, size=(n, 1)),
        "far": X + 1e4,
        "one": X[:1],
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "grid", "repeated", "line", "scale", "far", "one"])
def test_no_direction_pulls_harder(kind):
    """Of 20,000 on the circle, of what cones enclose, and of every local maximum among the 20,000."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = inputs(kind, rng)
        a = rng.standard_normal((len(X), 1 + seed % 3))
        u = highest_on_circle(X, a, 500)
        values, dense = pull(X, a, u), pull(X, a, CIRCLE)
        size = float(np.linalg.norm(X, axis=1) @ np.linalg.norm(a, axis=1))
        np.testing.assert_allclose(np.linalg.norm(u, axis=1), 1, rtol=1e-14)
        assert np.all(np.diff(values) <= 1e-13 * size)
        assert values[0] >= dense.max() - 1e-14 * size
        cones = bound_on_sphere(X, a, tolerance=1e-9)
        assert cones.closed
        assert cones.lower * (1 - 1e-14) - 1e-14 * size <= values[0] <= cones.upper
        peaks = np.flatnonzero((dense > np.roll(dense, 1) + 1e-13 * size) & (dense > np.roll(dense, -1) + 1e-13 * size))
        assert np.all(np.max(CIRCLE[peaks] @ u.T, axis=1) > np.cos(1e-3))


def test_a_limit_leaves_the_highest():
    rng = np.random.default_rng(0)
    X, a = rng.standard_normal((60, 2)), rng.standard_normal((60, 2))
    u = highest_on_circle(X, a, 100)
    assert 3 < len(u) < 100
    np.testing.assert_array_equal(highest_on_circle(X, a, 3), u[:3])


def test_where_nothing_pulls_there_is_a_direction_all_the_same():
    assert len(highest_on_circle(np.zeros((3, 2)), np.ones((3, 1)), 10)) == 0
    assert climb(np.zeros((3, 2)), np.ones((3, 1)), np.eye(2)).value.tolist() == [0, 0]
