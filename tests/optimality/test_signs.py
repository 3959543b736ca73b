"""Bounds by signs and the relaxation under them: never below the maximum, and what merging rows must not change."""

import itertools

import numpy as np
import pytest

from meanfield import Ensemble, Problem, certify
from meanfield.optimality.branch_and_bound import bound_on_sphere
from meanfield.optimality.budget import Budget
from meanfield.optimality.doubly_nonnegative import Cell, proven_pull, relax
from meanfield.optimality.rows import effective_rows
from meanfield.optimality.sign_branching import bound_by_signs, roots
from meanfield.optimality.sphere_ascent import climb, pull, random_starts


def instance(seed, d, outputs=1):
    """Inputs of a random kind, with repeats and opposite rows among them, and weights (n, C)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 14))
    X = rng.standard_normal((n, d))
    kind = seed % 4
    if kind == 1:
        X = np.round(X)
    elif kind == 2:
        X = X[rng.integers(n, size=n)] * rng.uniform(-2, 2, size=(n, 1))
    elif kind == 3:
        X = np.sign(X)
    return X, rng.standard_normal((n, outputs))


def check_above_the_maximum(seed, d, outputs):
    """Whatever work is done, the bound is at least the maximum, which cones enclose in d ≤ 3; and it gets there."""
    X, a = instance(seed, d, outputs)
    truth = bound_on_sphere(X, a, tolerance=1e-9, budget=Budget(1e10))
    assert truth.closed
    for work in (1e6, 1e8):
        found = bound_by_signs(X, a, tolerance=1e-4, budget=Budget(work))
        if found is not None:
            assert found.upper >= truth.lower * (1 - 1e-14)
            assert found.lower <= truth.upper
    return found, truth


@pytest.mark.parametrize(("d", "outputs"), [(2, 1), (3, 1), (2, 3), (3, 2)])
def test_no_bound_is_below_the_maximum(d, outputs):
    for seed in range(12):
        found, truth = check_above_the_maximum(1000 * d + seed, d, outputs)
        if outputs == 1:
            assert found.upper <= truth.upper * (1 + 2e-4) + 2 * found.allowance


@pytest.mark.slow
def test_no_bound_is_below_the_maximum_in_thousands_of_problems():
    for seed, (d, outputs) in zip(range(3000), itertools.cycle([(2, 1), (3, 1), (2, 2), (3, 3)]), strict=False):
        check_above_the_maximum(seed, d, outputs)


@pytest.mark.parametrize("outputs", [1, 3])
def test_any_matrix_gives_a_bound(outputs):
    """The proof takes M alone: one of random numbers proves something too, in every cell."""
    rng = np.random.default_rng(outputs)
    X, a = rng.standard_normal((8, 3)), rng.standard_normal((8, outputs))
    rows = effective_rows(X, a)
    U = rng.standard_normal((100_000, 3))
    U /= np.linalg.norm(U, axis=1)[:, None]
    for signs in (np.zeros(8, np.int8), np.array([1, 0, 0, -1, 0, 0, 0, 0], np.int8)):
        z = U @ rows.X.T
        inside = U[np.all(z * signs >= 0, axis=1)]
        pulled = np.maximum(inside @ rows.X.T, 0) @ rows.up + np.maximum(-inside @ rows.X.T, 0) @ rows.down
        for root in roots(rows):
            cell = Cell.of(rows, root.side, signs)
            highest = np.linalg.norm(pulled, axis=1) if not root.side else root.side * pulled[:, 0]
            for size in (1e-3, 1.0):
                M = size * cell.scale**2 * rng.standard_normal((len(cell.W),) * 2)
                assert proven_pull(cell, M)[0] >= highest.max()


def test_where_nothing_pulls_a_matrix_of_zeros_proves_it():
    """A cell in which G = 0, and M = 0: all that is factorized is 0, and the bound is rounding."""
    X, a = np.diag([1.0, -1.0]), np.array([[1.0], [2.0]])
    cell = Cell.of(effective_rows(X, a), 1, np.array([-1, -1], np.int8))
    assert not np.any(cell.S)
    assert proven_pull(cell, np.zeros((3, 3)))[0] < 1e-6


def test_half_a_cell_is_never_bounded_more_loosely_than_the_whole():
    """Without a step of its own: the proof of the whole holds in its parts."""
    X, a = instance(4, 3)
    rows = effective_rows(X, a)
    for root in roots(rows):
        whole = relax(root, 0.0, steps=100)
        for sign in (1, -1):
            signs = np.zeros(len(rows.X), np.int8)
            signs[0] = sign
            half = relax(Cell.of(rows, root.side, signs), 0.0, whole, steps=0)
            assert half.bound <= whole.bound * (1 + 1e-9)


def test_a_search_is_the_same_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    X, a = rng.standard_normal((20, 5)), rng.standard_normal((20, 1))
    one, two = (bound_by_signs(X, a, budget=Budget(3e8), threads=threads) for threads in (1, 2))
    assert (one.upper, one.cells) == (two.upper, two.cells)


def test_in_twenty_dimensions_a_search_closes():
    """Where cones cannot even begin: random labels, to 1e-3, and above every peak."""
    rng = np.random.default_rng(1)
    X, a = rng.standard_normal((30, 20)), rng.standard_normal((30, 1))
    highest = climb(X, a, random_starts(X, 300))
    found = bound_by_signs(X, a, start=highest.u[0], tolerance=1e-3, budget=Budget(2e10))
    assert found.closed
    assert highest.value[0] <= found.upper <= highest.value[0] * 1.0011
    np.testing.assert_allclose(pull(X, a, found.u[None])[0], found.lower, rtol=1e-12)


def repeated(d, opposite):
    """The same G twice: once with rows apart whose weights cancel or add, once merged by hand."""
    rng = np.random.default_rng(d)
    B, weights = rng.standard_normal((6, d)), rng.standard_normal((6, 3, 1))
    scales = rng.uniform(0.5, 2, size=(6, 3, 1)) * (1 - 2 * opposite * rng.integers(2, size=(6, 3, 1)))
    X, a = (B[:, None] * scales).reshape(18, d), weights.reshape(18, 1)
    up, down = (np.sum(np.maximum(side * scales, 0) * weights, axis=1) for side in (1, -1))
    return (X, a), (np.concatenate([B, -B]), np.concatenate([up, down]))


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("d", [2, 3, 5, 20])
def test_multiples_of_a_row_are_one_row(d, opposite):
    (X, a), merged = repeated(d, opposite)
    rows = effective_rows(X, a)
    assert rows.X.shape == (6, min(6, d))
    assert rows.error < 1e-12 * rows.size
    one, other = (bound_by_signs(*both, tolerance=1e-4, budget=Budget(1e9)) for both in ((X, a), merged))
    assert one.closed
    assert other.closed
    np.testing.assert_allclose(one.upper, other.upper, rtol=1.1e-4)


def test_contradictory_labels_on_thirteen_directions_are_exact():
    """39 examples on 13 lines: few cells, where 39 separate rows left hundreds of thousands open."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((13, 3)), 3, axis=0)
    problem = Problem(X, np.tile([1, 1, -1], 13), loss="logistic", reg=1e-7)
    found = certify(problem, Ensemble.sphere(100, 3, seed=0), method="exact")
    assert found.rigorous
    assert found.estimated_bound - found.lower_bound < 1e-9


def test_weights_that_cancel_leave_nothing():
    found = bound_by_signs(np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[3.0], [-1.0]]))
    assert found.closed
    assert found.upper < 1e-12


@pytest.mark.parametrize("seed", [2, 3, 24])
def test_a_cell_where_nothing_pulls_is_relaxed_too(seed):
    """Five examples in five dimensions: there are signs under which G is 0, and no direction to favour."""
    rng = np.random.default_rng(seed)
    X, a = rng.standard_normal((5, 5)), rng.standard_normal((5, 1))
    found = bound_by_signs(X, a, budget=Budget(1e9))
    assert found.lower <= found.upper
    assert climb(X, a, random_starts(X, 100)).value[0] <= found.upper * (1 + 1e-14)
