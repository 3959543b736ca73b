"""Degenerate data: every solver and estimator answers with finite numbers that are right, or with one clear line."""

import numpy as np
import pytest

from meanfield.kernels import (
    SVM,
    GradientFlow,
    Interpolation,
    Logistic,
    NTKClassifier,
    NTKRegressor,
    RandomFeatures,
    Ridge,
    RidgePath,
    best,
    relu_ntk,
)

pytestmark = pytest.mark.filterwarnings("error")

DATA = {
    "one point": (np.array([[1.0, -2.0]]), [1]),
    "one feature": (np.array([[1.0], [2.0], [-1.0], [-3.0], [0.5]]), [1, 1, -1, -1, 1]),
    "one feature, one class a sign twice": (np.array([[1.0], [2.0], [-1.0], [-3.0]]), [1, -1, 1, -1]),
    "constant features": (np.ones((6, 4)), [1, -1, 1, -1, 1, 1]),
    "zeros": (np.zeros((4, 3)), [1, -1, 1, -1]),
    "one class": (np.random.default_rng(0).normal(size=(8, 3)), [1] * 8),
    "equal points, different labels": (np.tile(np.eye(6, 3) + 0.1, (2, 1)), [1] * 6 + [-1] * 6),
    "equal points, equal labels": (np.tile(np.eye(3), (3, 1)), [1, -1, 1] * 3),
    "one point apart": (np.array([[1.0, 0], [1, 0], [1, 0], [1e-200, 1e-200]]), [1, 1, 1, -1]),
}
SOLVERS = [
    Ridge(0.1),
    Ridge(1e-30),
    RidgePath(),
    RidgePath([1e-30, 1.0], loss="error"),
    Interpolation(),
    Interpolation(jitter=1e-6),
    GradientFlow(),
    GradientFlow(3.0),
    Logistic(0.1),
    Logistic(1e-6),
    SVM(),
    SVM(0.5),
]
METHODS = [
    ("ridge", "leave-one-out"),
    ("logistic", "validation"),
    ("svm", "validation"),
    ("flow", "validation"),
    ("ridge", "test"),
    ("logistic", "test"),
    ("svm", "test"),
    ("flow", "test"),
]
ESTIMATORS = [
    NTKRegressor(),
    NTKRegressor(reg=0),
    NTKRegressor(reg=0.5),
    NTKClassifier(),
    NTKClassifier(reg=0),
    *(NTKClassifier(method=method, reg=reg) for method in ("logistic", "svm") for reg in ("auto", 0.3)),
]


def finite_or_one_line(action):
    """What `action` returns, all finite; or None, where it raised a ValueError of one line."""
    try:
        answers = action()
    except ValueError as error:
        if not str(error) or "\n" in str(error):
            raise
        return None
    for answer in answers:
        assert np.isfinite(answer).all()
    return answers


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_solvers_never_answer_with_nan(solver, name):
    """Predictions, margin, leave-one-out; a fitted value over all of reg ≥ 0.1 lies between the targets."""
    X, y = DATA[name]
    K, y = relu_ntk(X), np.array(y, dtype=float)

    def answers():
        solver.fit(K, y)
        left_out = solver.leave_one_out if isinstance(solver, RidgePath) else [solver.norm]
        left_out = solver.leave_one_out() if isinstance(solver, Ridge) else left_out
        return solver.predict(K), solver.margin(), left_out

    found = finite_or_one_line(answers)
    if isinstance(solver, Ridge | RidgePath | Logistic) and getattr(solver, "reg", 1) >= 0.1:
        assert found is not None, "a regularized solver has an answer for any data"
    if isinstance(solver, Ridge) and solver.reg == 0.1:
        assert np.abs(found[0]).max() <= np.linalg.norm(y)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(("method", "by"), METHODS)
def test_selection_never_answers_with_nan(method, by, name):
    X, y = DATA[name]
    K, y = relu_ntk(X), np.array(y, dtype=float)
    test = {"K_test": K, "y_test": y} if by == "test" else {}

    def answers():
        selection = best(method, K, y, by=by, **test)
        return selection.score, selection.scores, selection.predictor.predict(K)

    finite_or_one_line(answers)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimators_never_answer_with_nan(estimator, name):
    """Scores are finite; a classifier refuses a single class by name."""
    X, y = DATA[name]
    classifier = isinstance(estimator, NTKClassifier)

    def answers():
        estimator.fit(X, y)
        return (estimator.decision_function(X) if classifier else estimator.predict(X),)

    found = finite_or_one_line(answers)
    if classifier and len(set(y)) == 1:
        assert found is None
        with pytest.raises(ValueError, match="class"):
            estimator.fit(X, y)


@pytest.mark.parametrize("m", [2, 50])
@pytest.mark.parametrize("name", DATA)
def test_random_features_never_answer_with_nan(name, m):
    X, y = DATA[name]
    finite_or_one_line(lambda: (RandomFeatures(m, 0.1).fit(X, np.array(y, dtype=float)).predict(X),))


@pytest.mark.parametrize("solver", [Ridge(0.7), RidgePath([0.7])], ids=["Ridge", "RidgePath"])
def test_in_one_dimension_ridge_is_two_straight_lines(solver):
    """K(x, x') = x x' on equal signs and 0 on opposite ones: f(x) = x Σ x_i y_i / (Σ x_i² + reg) on each side."""
    x, y = np.array([1.0, 2.0, -1.0, -3.0, 0.5]), np.array([0.3, 2.0, -1.0, 4.0, 1.0])
    f = solver.fit(relu_ntk(x[:, None]), y).fitted
    for side in (x > 0, x < 0):
        np.testing.assert_allclose(f[side], x[side] * (x[side] @ y[side]) / (x[side] @ x[side] + 0.7), rtol=1e-12)


@pytest.mark.parametrize(
    "solver", [Ridge(0.1), RidgePath([0.1]), Logistic(0.1), GradientFlow(), SVM(0.5)], ids=lambda s: type(s).__name__
)
def test_equal_points_with_opposite_labels_cancel(solver):
    """Each point once with +1 and once with −1: the answer is f = 0, margin at most 0."""
    X, y = DATA["equal points, different labels"]
    fit = solver.fit(relu_ntk(X), np.array(y, dtype=float))
    np.testing.assert_allclose(fit.fitted, 0, atol=1e-6)
    assert fit.margin() <= 1e-6


def test_constant_features_give_the_regularized_mean():
    """n equal points of norm² k: f = k Σ y / (n k + reg) at every one."""
    X, y = DATA["constant features"]
    f = Ridge(0.5).fit(relu_ntk(X), np.array(y, dtype=float)).fitted
    np.testing.assert_allclose(f, 4 * sum(y) / (6 * 4 + 0.5), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_whether_points_can_be_interpolated_does_not_depend_on_the_unit_of_the_targets(scale):
    X, y = DATA["equal points, equal labels"]
    K, y = relu_ntk(X), np.array(y, dtype=float)
    np.testing.assert_allclose(Interpolation().fit(K, scale * y).fitted, scale * y, rtol=1e-9)
    y[0] = -y[0]
    with pytest.raises(ValueError, match="cannot be interpolated"):
        Interpolation().fit(K, scale * y)
