"""NTKRegressor and NTKClassifier among scikit-learn's own tools."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
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
    RFMClassifier,
    RFMRegressor,
    Ridge,
    RidgePath,
    class_targets,
    relu_ntk,
    solver_choice,
)
from meanfield.kernels.logistic import _Binary, _Softmax

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


@pytest.mark.slow
@parametrize_with_checks([NTKRegressor(solver="iterative")])
def test_scikit_learn_accepts_the_choice_without_the_matrix(estimator, check):
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
    model = NTKRegressor(depth=3, w_std=1.2, reg=reg, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(model.predict(Z), expected, atol=1e-9)
    labels = np.array(["no", "yes"])[(y[:, 0] > 0).astype(int)]
    scores = solver.fit(relu_ntk(X), class_targets(labels)[1]).predict(relu_ntk(Z, X))
    assert (NTKClassifier(reg=reg).fit(X, labels).predict(Z) == np.where(scores > 0, "yes", "no")).all()


@pytest.mark.parametrize("options", [{"reg": 0.1}, {"reg": "auto"}, {"reg": 0.1, "centres": 20}])
@pytest.mark.parametrize("shift", [1e4, np.array([1e4, -3.0])], ids=["one output", "two"])
def test_a_constant_added_to_y_is_added_to_the_predictions(options, shift):
    """To rounding; without an intercept the kernel has to make up for it, and fails at 1e4."""
    rng = np.random.default_rng(7)
    X, Z = rng.normal(size=(60, 3)), rng.normal(size=(20, 3))
    y = np.stack([np.abs(X[:, 0]), X[:, 1]], axis=1)[:, : np.size(shift)].reshape(60, *np.shape(shift))
    plain, moved = (NTKRegressor(**options).fit(X, y + c).predict(Z) for c in (0, shift))
    np.testing.assert_allclose(moved, plain + shift, atol=1e-7)
    bare, off = (NTKRegressor(fit_intercept=False, **options).fit(X, y + c).predict(Z) for c in (0, shift))
    assert np.abs(off - shift - bare).max() > 100
    model = RFMRegressor(iterations=2).fit(X, y + shift)
    np.testing.assert_allclose(model.predict(Z), RFMRegressor(iterations=2).fit(X, y).predict(Z) + shift, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"reg": "auto"}, {"solver": "iterative"}, {"centres": 30}, {"reg": 0}])
def test_the_constant_is_not_penalized(options):
    """Where b is best, residuals add up to 0; with all points K c + reg c + b = y too. A function that the kernel has,
    such as |x₁|, is not spoilt by it: its constant is small, where the mean is 0.8."""
    rng = np.random.default_rng(9)
    X = rng.normal(size=(150, 3))
    model = NTKRegressor(**{"reg": 0.1, **options}).fit(X, np.abs(X[:, 0]) + 2)
    residuals = np.abs(X[:, 0]) + 2 - model.predict(X)
    assert abs(residuals.sum()) < 1e-6
    assert abs(model.intercept_ - 2) < 0.2
    if "centres" not in options:
        np.testing.assert_allclose(model.reg_ * model.coef_, residuals, atol=1e-6)


def test_probabilities_are_those_that_the_logistic_loss_is_the_likelihood_of():
    """−Σ log p of the labels is the loss that was minimized; sums are one; no other method has them."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(50, 3))
    for labels in (X[:, 0] > 0, X.argmax(axis=1)):
        model = NTKClassifier(method="logistic", reg=0.1).fit(X, labels)
        p = model.predict_proba(X)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
        assert (model.classes_[p.argmax(axis=1)] == model.predict(X)).all()
        targets, law = model.solver_.targets, _Binary if p.shape[1] == 2 else _Softmax
        likelihood = np.log(p[np.arange(50), labels.astype(int)]).sum()
        assert law(targets, np.ones(50)).loss(model.solver_.fitted) == pytest.approx(-likelihood, rel=1e-9)
    assert not hasattr(NTKClassifier(), "predict_proba")


def test_sparse_points_are_refused_in_one_line():
    for model in (NTKRegressor(), NTKClassifier(), RFMRegressor(), RFMClassifier()):
        with pytest.raises(TypeError, match="Sparse data was passed") as refused:
            model.fit(csr_array(np.eye(3)), [0, 1, 0])
        assert "\n" not in str(refused.value)


WEIGHTED = [
    NTKRegressor(reg=0.1),
    NTKRegressor(reg=0),
    NTKRegressor(),
    NTKRegressor(fit_intercept=False),
    NTKRegressor(reg=0.1, solver=ConjugateGradients(rank=20, tolerance=1e-12)),
    NTKClassifier(),
    NTKClassifier(reg=0.1, solver="iterative"),
    NTKClassifier(method="logistic", reg=0.1),
    NTKClassifier(method="svm", reg=0.3),
    RFMRegressor(kernel="gaussian", iterations=2),
    RFMClassifier(iterations=2),
]


def weighted(model, outputs, seed=11):
    """Points, targets and weights 0, 1, 2, 3, at which equal rows do not stand in the way of an interpolant."""
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(60, 4)), rng.integers(0, 4, size=60)
    if not hasattr(model, "decision_function"):
        y = np.stack([np.abs(X[:, 0]) + 3, X[:, 1] + 0.3 * rng.normal(size=60)], axis=1)
        return X, y if outputs > 1 else y[:, 1], w
    return X, X[:, :3].argmax(axis=1) if outputs > 1 else X[:, 0] + 0.5 * rng.normal(size=60) > 0, w


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("model", WEIGHTED, ids=repr)
def test_weights_that_are_whole_are_rows_repeated(model, outputs):
    """Predictions to 1e-6, the choice of reg and its score included; without weights they are others."""
    X, y, w = weighted(model, outputs)
    found, repeated = clone(model).fit(X, y, w), clone(model).fit(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0))
    plain = clone(model).fit(X[w > 0], y[w > 0])
    at = np.random.default_rng(12).normal(size=(30, 4))
    values, expected, others = (getattr(m, "decision_function", m.predict)(at) for m in (found, repeated, plain))
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert model.reg == 0 or np.abs(others - expected).max() > 1e-3
    if model.reg == "auto":
        np.testing.assert_allclose(found.selection_.scores, repeated.selection_.scores, rtol=1e-6)


@pytest.mark.parametrize("reg", [1.0, 1e-3])
def test_an_example_that_is_left_out_is_so_with_its_weight(reg):
    """By fits without it: all of a weight below 1, of a larger one 1; ridge at one reg and on a path."""
    rng = np.random.default_rng(13)
    X, y, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 2)), rng.uniform(0.2, 2.5, size=30)
    K, by_hand = relu_ntk(X), []
    for i in range(30):
        less = w - np.eye(30)[i]
        kept = less > 0
        by_hand.append(Ridge(reg).fit(K[np.ix_(kept, kept)], y[kept], less[kept]).predict(K[[i]][:, kept])[0])
    np.testing.assert_allclose(Ridge(reg).fit(K, y, w).leave_one_out(), by_hand, atol=1e-8)
    path = RidgePath([reg]).fit(K, y, w)
    np.testing.assert_allclose(path.leave_one_out[0], by_hand, atol=1e-8)
    np.testing.assert_allclose(path.coef, Ridge(reg).fit(K, y, w).coef, atol=1e-9)
    assert path.scores[0] == pytest.approx((w @ (np.array(by_hand) - y) ** 2).mean() / w.sum())


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
    model = NTKRegressor(reg=0.1, centres=50, fit_intercept=False).fit(X, X[:, 0] ** 2)
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
    assert NTKRegressor().fit(X, X[:, 0]).selection_.by == "generalized cross-validation"
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
        ({"reg": "auto", "centres": 2}, [0, 1, 0], "reg.*give a number"),
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


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        ({"reg": 0.1}, [1, -1, 1], "sample_weight: expected numbers of at least 0"),
        ({"reg": 0.1}, [0, 0, 0], "(?i)sample.weight"),
        ({"reg": 0.1}, [1, 0, 1], "one class"),
        ({"reg": 0.1, "centres": 2}, [1, 1, 1], "centres = 2: expected None with sample_weight"),
        ({"method": "logistic"}, [1, 1, 1], "with weights expected"),
    ],
)
def test_weights_that_cannot_be_are_named(options, weights, message):
    with pytest.raises(ValueError, match=message):
        NTKClassifier(**options).fit(np.eye(3), [0, 1, 0], weights)
