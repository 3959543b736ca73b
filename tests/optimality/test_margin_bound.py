"""The proven bound on γ*: above every network, close to the best one, and 0 where rays contradict each other."""

import numpy as np
import pytest

from meanfield import InputError, exact
from meanfield.optimality.budget import Budget
from meanfield.optimality.margin_bound import Weights, bound_margin, proven_margin
from meanfield.optimality.margin_program import Pairs
from meanfield.optimality.max_margin import refitted


def paper(n, d, seed=0):
    """The paper's data: ±e₁ and ±e₂, and d − 2 coordinates of noise."""
    rng = np.random.default_rng(seed)
    X, k = rng.choice([-1.0, 1.0], size=(n, d)), rng.integers(4, size=n)
    X[:, :2] = 0
    X[np.arange(n), k // 2] = 1 - 2 * (k % 2)
    return X, np.where(k < 2, 1.0, -1.0)


def points(d, classes, seed):
    """Normal points of lengths from 1/10 to 10, and random classes, each at least once."""
    rng = np.random.default_rng(seed)
    n = 9
    X = rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 1, size=(n, 1))
    return X, np.append(np.arange(classes), rng.integers(classes, size=n - classes))


def margin_of(w, u, X, y):
    """The normalized margin of neurons w (K, C) and u (K, d), balanced."""
    f, rows = np.maximum(X @ u.T, 0) @ w, np.arange(len(y))
    if f.shape[1] == 1:
        own, other = f[:, 0] * np.where(y > 0, 1, -1), 0
    else:
        own = f[rows, y]
        f[rows, y] = -np.inf
        other = f.max(axis=1)
    return (own - other).min() / (2 * np.sum(np.linalg.norm(w, axis=1) * np.linalg.norm(u, axis=1)))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("d", [2, 3, 5, 20])
def test_no_network_exceeds_the_proven_bound(d, classes):
    """Neither the best one known, nor any near it, nor one of 200 random directions; in d ≤ 3 the best one attains it.

    Weights that are not the best prove as much, by whatever bounds their peak.
    """
    rng, loss = np.random.default_rng(0), ("logistic", "cross_entropy")[classes - 2]
    for seed in range(3):
        X, y = points(d, classes, seed)
        found = exact.max_margin(X, y, loss=loss, effort=0.05, threads=1)
        assert found.rigorous
        np.testing.assert_allclose(margin_of(found.w, found.u, X, y), found.margin, rtol=1e-9)
        assert 0 < found.margin <= found.upper
        assert found.upper < found.margin * (1 + 1e-4 if d <= 3 else 1.3)
        for size in (1e-6, 1e-3, 1e-1):
            w, u = (one + size * rng.standard_normal(one.shape) * np.abs(one).mean() for one in (found.w, found.u))
            assert margin_of(w, u, X, y) < found.upper
        if classes == 2:
            assert refitted(X, y, rng.standard_normal((200, d)))[0] < found.upper
        pairs = Pairs(X, y, loss)
        q = rng.dirichlet(np.ones(pairs.count))
        known = Weights(q / (q @ pairs.least), np.inf, np.eye(d)[0])
        upper, weights, _ = bound_margin(pairs, known, None, 0.0, Budget(1e8), 1)
        assert weights.q is known.q
        assert found.upper < 0.5 * pairs.scale * upper * (1 + 1e-4)


def test_what_weights_prove_does_not_depend_on_their_sum():
    """The bound of s q is that of q: ‖G‖ is divided by Σ least q. No rounding makes it smaller than the quotient."""
    X, y = points(3, 3, 0)
    pairs, rng = Pairs(X, y, "cross_entropy"), np.random.default_rng(1)
    q, peak = rng.random(pairs.count), 0.7
    one = proven_margin(pairs, q, peak)
    assert one > peak / (q @ pairs.least)
    for s in (1e-3, 0.3, 7.0):
        np.testing.assert_allclose(proven_margin(pairs, s * q, s * peak), one, rtol=1e-12)


@pytest.mark.slow
def test_on_the_papers_data_what_was_asked_for_is_proven():
    """n = 40, d = 20: to a thousandth of the margin."""
    X, y = paper(40, 20)
    found = exact.max_margin(X, y, tolerance=1e-3, threads=1)
    assert found.rigorous
    assert found.margin <= found.upper <= found.margin * (1 + 1e-3)


@pytest.mark.slow
def test_an_eighth_is_the_largest_margin_on_the_papers_data():
    """n = 160, d = 20: four neurons have ⅛, and 18 coordinates of noise add no more than a thousandth to it."""
    X, y = paper(160, 20)
    found = exact.max_margin(X, y, threads=1)
    u = np.concatenate([np.eye(20)[:2], -np.eye(20)[:2]])
    np.testing.assert_allclose(margin_of(np.array([[1.0], [-1], [1], [-1]]), u, X, y), 0.125, rtol=1e-12)
    assert found.rigorous
    assert 0.125 <= found.upper <= 0.125 * 1.001


def test_without_a_proof_there_is_the_estimate():
    """It says so, and on a line both are the same to what was asked for."""
    X, y = points(3, 2, 1)
    bare, proven = exact.max_margin(X, y, prove=False), exact.max_margin(X, y)
    assert not bare.rigorous
    assert bare.upper == bare.estimate
    assert bare.margin == proven.margin
    np.testing.assert_allclose(bare.estimate, proven.upper, rtol=2e-5)


@pytest.mark.parametrize(
    ("X", "y", "loss"),
    [
        ([[0.1, 0.7, -0.3], [0.3, 2.1, -0.9], [1, 0, 0], [0, 1, 0]], [1, -1, 1, -1], "logistic"),
        ([[1.0, 2], [np.pi, 2 * np.pi], [3, 1], [-1, -2]], [0, 1, 2, 0], "cross_entropy"),
        ([[0.0, 0], [1, 2], [3, 1]], [1, -1, 1], "logistic"),
        ([[0.0, 0], [1, 2], [3, 1]], [2, 0, 1], "cross_entropy"),
    ],
)
def test_rays_that_contradict_each_other_have_no_margin(X, y, loss):
    """Positive multiples, whatever rounding makes of them, and inputs 0, where every network is 0: γ* = 0.

    Proven as far as unit vectors are told apart, 1e-12.
    """
    found = exact.max_margin(X, y, loss=loss)
    assert found.margin == 0
    assert len(found.w) == len(found.u) == 0
    assert found.rigorous
    assert 0 <= found.upper < 1e-12
    assert found.rounds == 0
    np.testing.assert_allclose(found.dual.sum(), 1, rtol=1e-12)
    with pytest.raises(InputError, match="no network separates"):
        exact.margin_law(X, y, loss=loss)


def test_rays_of_one_class_or_on_either_side_of_0_do_not_contradict():
    """x and 3x of one class, and −x of another: relu tells x from −x."""
    found = exact.max_margin([[1.0, 2], [3, 6], [-1, -2]], [0, 0, 1], loss="cross_entropy")
    assert found.margin > 0.1
    np.testing.assert_allclose(found.margin, found.upper, rtol=2e-5)


def test_the_network_is_kept_whatever_the_time():
    """However short the limit: a network that has its margin, and a bound that no other network exceeds."""
    X, y = paper(24, 6)
    best = exact.max_margin(X, y, tolerance=1e-3, prove=False)
    for seconds in (1e-9, 1e-3, 0.05, 0.3):
        cut = exact.max_margin(X, y, seconds=seconds, tolerance=1e-12)
        assert cut.cut_short
        assert cut.rigorous
        assert 0 < cut.margin <= best.estimate * (1 + 1e-9)
        assert best.margin <= cut.upper
        np.testing.assert_allclose(margin_of(cut.w, cut.u, X, y), cut.margin, rtol=1e-9)


def test_the_law_says_what_is_proven_of_the_largest_margin():
    """margin ≤ upper, max_margin's own."""
    X, y = points(3, 2, 2)
    best = exact.max_margin(X, y)
    law = exact.margin_law(X, y, best)
    assert law.rigorous
    assert law.margin <= law.upper == best.upper
