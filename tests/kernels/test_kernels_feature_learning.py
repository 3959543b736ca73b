"""A kernel that learns its metric: its gradients, its invariances, what it learns."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from meanfield.kernels import (
    Interpolation,
    RecursiveFeatureMachine,
    RFMClassifier,
    RFMRegressor,
    Ridge,
    relu_ntk,
)
from meanfield.studies.comparison import paper_problem

KERNELS = pytest.mark.parametrize("kernel", ["ntk", "laplace", "gaussian"])


def quadratic(n=60, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 0.3
    return X, np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2])], axis=1)


@parametrize_with_checks([RFMRegressor(kernel="laplace", reg=0.1), RFMClassifier()])
def test_scikit_learn_accepts_the_estimators(estimator, check):
    """Its own checks, all of them."""
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([RFMRegressor(), RFMClassifier(kernel="gaussian")])
def test_scikit_learn_accepts_other_kernels(estimator, check):
    check(estimator)


@KERNELS
def test_gradients_are_those_of_the_prediction(kernel):
    """Central differences of step 1e-5 err by 1e-9 or so; two outputs."""
    X, y = quadratic()
    machine = RecursiveFeatureMachine(kernel, bandwidth=0.7, iterations=2).fit(X, y)
    Z = np.random.default_rng(1).normal(size=(20, 4))
    steps = 1e-5 * np.eye(4)
    differences = [(machine.predict(Z + step) - machine.predict(Z - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(machine.gradients(Z), np.stack(differences, axis=2), atol=1e-7)


@KERNELS
def test_the_metric_is_the_outer_product_of_the_gradients_before(kernel):
    """M of one step is the sum over points and outputs, by hand; symmetric, without negative eigenvalues."""
    X, y = quadratic()
    before = RecursiveFeatureMachine(kernel, iterations=0).fit(X, y).gradients(X)
    after = RecursiveFeatureMachine(kernel, iterations=1).fit(X, y).M
    by_hand = sum(np.outer(gradient, gradient) for point in before for gradient in point)
    np.testing.assert_allclose(after / np.trace(after), by_hand / np.trace(by_hand), atol=1e-12)
    assert (after == after.T).all()
    assert np.linalg.eigvalsh(after).min() > -1e-14 * np.trace(after)


@KERNELS
def test_the_scale_of_the_metric_is_that_of_the_points(kernel):
    """Mean squared distance of all pairs, or mean squared length, is 1."""
    X, y = quadratic()
    machine = RecursiveFeatureMachine(kernel, iterations=3).fit(X, y)
    vectors = X if kernel == "ntk" else (X[:, None] - X[None, :]).reshape(-1, 4)
    assert np.mean(np.einsum("ij,jk,ik->i", vectors, machine.M, vectors)) == pytest.approx(1, rel=1e-12)


@KERNELS
def test_a_rotation_of_the_inputs_rotates_the_metric(kernel):
    """And changes no prediction; nor does a scale of the inputs, and one of the targets scales the predictions."""
    X, y = quadratic()
    Z = np.random.default_rng(1).normal(size=(20, 4))
    turn = 7 * np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    machine = RecursiveFeatureMachine(kernel, iterations=3).fit(X, y)
    turned = RecursiveFeatureMachine(kernel, iterations=3).fit(X @ turn, -2 * y)
    np.testing.assert_allclose(turn @ turned.M @ turn.T, machine.M, atol=1e-9 * np.trace(machine.M))
    np.testing.assert_allclose(turned.predict(Z @ turn), -2 * machine.predict(Z), atol=1e-8)


def test_without_iterations_it_is_the_solver_on_the_kernel():
    """relu_ntk of points of mean squared length 1; with a translation, the radial kernels see the same."""
    X, y = quadratic()
    unit = X / np.sqrt((X**2).sum() / len(X))
    plain = RecursiveFeatureMachine(solver=Ridge(0.1), iterations=0).fit(X, y)
    np.testing.assert_allclose(plain.coef, Ridge(0.1).fit(relu_ntk(unit), y).coef, rtol=1e-10)
    one, two = (RecursiveFeatureMachine("laplace").fit(X + shift, y).predict(X[:9] + shift) for shift in (0, 5))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_weights_of_coordinates_need_fewer_points():
    """y = x₁ + x₂ + x₃ + x₁x₂x₃ on {±1}^200, 250 points: the diagonal of M finds the three, all of M does not."""
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 1.0], size=(650, 200))
    y = X[:, :3].sum(axis=1) + X[:, :3].prod(axis=1)
    errors = {}
    for diagonal in (False, True):
        machine = RecursiveFeatureMachine("laplace", diagonal=diagonal).fit(X[:250], y[:250])
        errors[diagonal] = np.mean((machine.predict(X[250:]) - y[250:]) ** 2)
        assert ((machine.M != 0).sum() == 200) == diagonal
    assert errors[True] < 0.01 < 1 < errors[False]


@pytest.mark.parametrize("kernel", ["ntk", "gaussian"])
def test_on_the_papers_data_it_learns_the_two_directions(kernel):
    """d 20, n 300: nearly all of M lies in the first two coordinates, and no test point is wrong; at first 20 % are."""
    problem = paper_problem(300, 20, seed=0, n_test=1000)
    y, y_test = problem.targets.ravel(), problem.test_targets.ravel()
    plain, learned = (RecursiveFeatureMachine(kernel, iterations=k).fit(problem.X, y) for k in (0, 5))
    assert np.trace(learned.M[:2, :2]) > 0.999 * np.trace(learned.M)
    assert np.trace(plain.M[:2, :2]) < 0.2 * np.trace(plain.M)
    assert (learned.predict(problem.X_test) * y_test > 0).all()
    assert np.mean(plain.predict(problem.X_test) * y_test <= 0) > 0.05


@KERNELS
def test_points_and_targets_that_teach_nothing(kernel):
    """All targets 0, all points equal, a point at 0, duplicates: finite, and the metric stays what it was."""
    X, _ = quadratic(n=10)
    X[:3] = [[0, 0, 0, 0], X[3], 2 * X[4]]
    machine = RecursiveFeatureMachine(kernel).fit(X, np.zeros(10))
    assert (machine.predict(X) == 0).all()
    assert machine.M[0, 0] > 0
    np.testing.assert_array_equal(machine.M, machine.M[0, 0] * np.eye(4))
    assert np.isfinite(RecursiveFeatureMachine(kernel).fit(X, X[:, 0]).predict(X)).all()
    assert np.isfinite(RecursiveFeatureMachine(kernel).fit(np.ones((5, 2)), np.ones(5)).predict(np.eye(2))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "cosine"}, "kernel = 'cosine': expected one of ntk, laplace, gaussian"),
        ({"bandwidth": 0}, "bandwidth = 0: expected a positive finite number"),
        ({"iterations": -1}, "iterations = -1: expected a whole number of at least 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        RecursiveFeatureMachine(**options)
    with pytest.raises(ValueError, match="call fit before"):
        RecursiveFeatureMachine(solver=Interpolation()).predict(np.eye(2))
