"""NTKRegressor and NTKClassifier among scikit-learn's own tools."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from meanfield.kernels import (
    ConjugateGradients,
    Interpolation,
    IterativeRidge,
    NTKClassifier,
    NTKRegressor,
    NystromRidge,
    Ridge,
    class_targets,
    relu_ntk,
    solver_choice,
)

ESTIMATORS = [
    NTKRegressor(),
    NTKRegressor(reg=0.1, depth=3),
    NTKClassifier(),
    NTKClassifier(method="logistic", reg=0.1),
    NTKClassifier(method="svm", reg=0.3),
    NTKRegressor(reg=0.1, solver="iterative"),
    NTKClassifier(reg=0.1, solver="iterative"),
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


@pytest.mark.parametrize("solver", ["iterative", ConjugateGradients(rank=20, products="float32")])
def test_without_the_matrix_the_predictions_are_those_with_it(solver):
    """Regression with two outputs and three classes, at a reg and at 0: to 1e-6 of their size."""
    rng = np.random.default_rng(3)
    X, Z, y = rng.normal(size=(300, 4)), rng.normal(size=(50, 4)), rng.normal(size=(300, 2))
    for reg in (0.1, 0):
        dense, iterative = (NTKRegressor(depth=3, reg=reg, solver=s).fit(X, y) for s in ("dense", solver))
        expected = dense.predict(Z)
        assert isinstance(iterative.solver_, IterativeRidge)
        assert np.linalg.norm(iterative.predict(Z) - expected) < 1e-6 * np.linalg.norm(expected)
    labels = X[:, :3].argmax(axis=1)
    dense, iterative = (NTKClassifier(reg=0.1, solver=s).fit(X, labels) for s in ("dense", solver))
    np.testing.assert_allclose(iterative.decision_function(Z), dense.decision_function(Z), atol=1e-6)


def test_centres_fit_all_points_and_predict_by_themselves():
    """X_fit_ holds M points, which predict what the ridge on centres does; all points as centres are the ridge."""
    rng = np.random.default_rng(5)
    X, Z = rng.normal(size=(200, 3)), rng.normal(size=(40, 3))
    model = NTKRegressor(reg=0.1, centres=50).fit(X, X[:, 0] ** 2)
    assert isinstance(model.solver_, NystromRidge)
    assert model.X_fit_.shape == (50, 3)
    np.testing.assert_allclose(model.predict(X), model.solver_.fitted, atol=1e-12)
    whole = NTKRegressor(reg=0.1, centres=200).fit(X, X[:, 0] ** 2).predict(Z)
    np.testing.assert_allclose(whole, NTKRegressor(reg=0.1).fit(X, X[:, 0] ** 2).predict(Z), atol=1e-6)


def test_the_matrix_is_done_without_where_it_does_not_fit(monkeypatch, capsys):
    """By the memory available, and in a line; a chosen solver and a method that needs the matrix stand."""
    X = np.random.default_rng(4).normal(size=(100, 3))
    assert isinstance(NTKRegressor(reg=0.1).fit(X, X[:, 0]).solver_, Ridge)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(solver_choice, "available_memory", lambda: 8 * 100**2 - 1)
    assert isinstance(NTKRegressor(reg=0.1).fit(X, X[:, 0]).solver_, IterativeRidge)
    assert "solving without it" in capsys.readouterr().err
    assert isinstance(NTKRegressor(reg=0.1, solver="dense").fit(X, X[:, 0]).solver_, Ridge)
    assert NTKClassifier(method="svm", reg=0.1).fit(X, X[:, 0] > 0).solver_.coef.shape == (100,)
    with pytest.raises(ValueError, match="give a number"):
        NTKRegressor().fit(X, X[:, 0])
    monkeypatch.setattr(solver_choice, "available_memory", lambda: 8 * 100**2)
    assert isinstance(NTKRegressor(reg=0.1).fit(X, X[:, 0]).solver_, Ridge)
    assert isinstance(NTKRegressor(reg=0).fit(X, X[:, 0]).solver_, IterativeRidge)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({}, [1, 1, 1], "one class"),
        ({"method": "tree"}, [0, 1, 0], "method"),
        ({"reg": "best"}, [0, 1, 0], "reg"),
        ({"reg": -1}, [0, 1, 0], "reg"),
        ({"reg": -1, "solver": "iterative"}, [0, 1, 0], "reg"),
        ({"reg": "auto", "solver": "iterative"}, [0, 1, 0], "reg.*give a number"),
        ({"reg": 0.1, "solver": "lu"}, [0, 1, 0], "solver"),
        ({"method": "svm", "reg": 0.1, "solver": "iterative"}, [0, 1, 0], "method.*ridge"),
        ({"method": "svm", "reg": 0.1, "centres": 2}, [0, 1, 0], "method.*ridge"),
        ({"reg": 0.1, "centres": 2, "solver": "dense"}, [0, 1, 0], "solver.*centres"),
        ({"reg": 0.1, "centres": 4}, [0, 1, 0], "centres"),
        ({"reg": 0, "centres": 2}, [0, 1, 0], "reg"),
        ({"depth": 1}, [0, 1, 0], "depth"),
    ],
)
def test_bad_input_is_named(options, y, message):
    with pytest.raises(ValueError, match=message):
        NTKClassifier(**options).fit(np.eye(3), y)
