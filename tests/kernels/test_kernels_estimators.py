"""NTKRegressor and NTKClassifier among scikit-learn's own tools."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from meanfield.kernels import Interpolation, NTKClassifier, NTKRegressor, Ridge, class_targets, relu_ntk

ESTIMATORS = [
    NTKRegressor(),
    NTKRegressor(reg=0.1, depth=3),
    NTKClassifier(),
    NTKClassifier(method="logistic", reg=0.1),
    NTKClassifier(method="svm", reg=0.3),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_accepts_the_estimators(estimator, check):
    """Its own checks, all of them."""
    check(estimator)


def test_grid_search_over_a_pipeline_finds_a_good_classifier():
    """Digits: at least as many held-out points right, within half a percent, as scikit-learn's default SVC."""
    X, y = load_digits(return_X_y=True)
    pipe = make_pipeline(Normalizer(), NTKClassifier())
    grid = {"ntkclassifier__depth": [2, 3], "ntkclassifier__reg": [0.1, "auto"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X[:300], y[:300])
    peer = make_pipeline(Normalizer(), SVC()).fit(X[:300], y[:300])
    assert search.score(X[300:], y[300:]) > peer.score(X[300:], y[300:]) - 0.005


@pytest.mark.parametrize(("reg", "solver"), [(0.2, Ridge(0.2)), (0, Interpolation())])
def test_estimators_are_the_solvers_on_the_kernel_matrix(reg, solver):
    """Predictions equal those of relu_ntk and the solver by hand, one and several outputs."""
    rng = np.random.default_rng(0)
    X, Z, y = rng.normal(size=(40, 3)), rng.normal(size=(50, 3)), rng.normal(size=(40, 2))
    expected = solver.fit(relu_ntk(X, depth=3, w_std=1.2), y).predict(relu_ntk(Z, X, depth=3, w_std=1.2))
    model = NTKRegressor(depth=3, w_std=1.2, reg=reg).fit(X, y)
    np.testing.assert_allclose(model.predict(Z), expected, atol=1e-9)
    labels = np.array(["no", "yes"])[(y[:, 0] > 0).astype(int)]
    scores = solver.fit(relu_ntk(X), class_targets(labels)[1]).predict(relu_ntk(Z, X))
    assert (NTKClassifier(reg=reg).fit(X, labels).predict(Z) == np.where(scores > 0, "yes", "no")).all()


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({}, [1, 1, 1], "one class"),
        ({"method": "tree"}, [0, 1, 0], "method"),
        ({"reg": "best"}, [0, 1, 0], "reg"),
        ({"reg": -1}, [0, 1, 0], "reg"),
        ({"depth": 1}, [0, 1, 0], "depth"),
    ],
)
def test_bad_input_is_named(options, y, message):
    with pytest.raises(ValueError, match=message):
        NTKClassifier(**options).fit(np.eye(3), y)
