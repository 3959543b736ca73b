"""MeanFieldClassifier and MeanFieldRegressor among scikit-learn's own tools, and the laws of what they add."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from meanfield import Ensemble, GradientFlow, Langevin, Problem, load, simulate
from meanfield.estimators import MeanFieldClassifier, MeanFieldRegressor

SMALL = {"m": 64, "steps": 8, "threads": 1}
ESTIMATORS = [MeanFieldClassifier(**SMALL), MeanFieldRegressor(**SMALL)]
VARIANTS = [
    MeanFieldClassifier(loss="cross_entropy", fit_intercept=False, **SMALL),
    MeanFieldRegressor(fit_intercept=False, dynamics=Langevin(), temperature=1e-4, **SMALL),
]
LONG = ("check_classifiers_train",)  # three classes of 100 points each, trained over and over


def checks():
    """scikit-learn's own, for every estimator; those that take long, and of the variants all, are slow."""
    for estimator in [*ESTIMATORS, *VARIANTS]:
        for one, check in estimator_checks_generator(estimator):
            slow = estimator in VARIANTS or check.func.__name__ in LONG
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(one, check, id=f"{estimator}-{check.func.__name__}", marks=marks)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn_accepts_the_estimators(estimator, check):
    """Its whole contract."""
    check(estimator)


def points(n=40, d=3, seed=0):
    """X (n, d) normal and y (n,) = |x_0| − |x_1|."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    return X, np.abs(X[:, 0]) - np.abs(X[:, 1])


def test_a_fit_is_the_simulation_by_hand():
    """Same bits: of labels as they are, on inputs with a feature 1, and on targets without their mean."""
    X, y = points()
    Z, names = np.column_stack([X, np.ones(len(X))]), np.where(y > 0, "above", "below")
    by_hand = simulate(Problem(Z, names, reg=1e-2), Ensemble.sphere(64, 4, seed=3), steps=8).ensemble.predict(Z)
    model = MeanFieldClassifier(reg=1e-2, random_state=3, **SMALL).fit(X, names)
    np.testing.assert_array_equal(model.decision_function(X), by_hand)
    assert (model.predict(X) == np.where(by_hand > 0, "below", "above")).all()  # the larger of the two is +1
    problem = Problem(X, y, loss="squared", reg=1e-2)
    by_hand = simulate(problem, Ensemble.sphere(64, 3, seed=0), steps=8).ensemble.predict(X)
    np.testing.assert_array_equal(
        MeanFieldRegressor(reg=1e-2, fit_intercept=False, **SMALL).fit(X, y).predict(X), by_hand
    )


@pytest.mark.parametrize("shift", [1e4, 1e6])
def test_what_is_added_to_the_targets_is_added_to_predictions(shift):
    """Whatever its size: the intercept is not penalized, and no particle need carry it."""
    X, y = points()
    model = MeanFieldRegressor(reg=1e-3, m=128, steps=30).fit(X, y + shift)
    plain = MeanFieldRegressor(reg=1e-3, m=128, steps=30).fit(X, y)
    assert model.score(X, y + shift) > 0.9
    assert model.score(X, y + shift) == pytest.approx(plain.score(X, y), abs=1e-3)


@pytest.mark.parametrize("dynamics", [GradientFlow(step_size=0.1), Langevin(step_size=0.1)])
def test_a_warm_start_goes_on(dynamics):
    """Twice k steps are 2k steps, bit for bit, noise included; without it a fit begins anew."""
    X, y = points()
    options = {"dynamics": dynamics, "temperature": 1e-3 if isinstance(dynamics, Langevin) else 0.0}
    warm = MeanFieldRegressor(warm_start=True, m=64, steps=10, **options).fit(X, y)
    half = warm.predict(X)
    whole = MeanFieldRegressor(m=64, steps=20, **options).fit(X, y)
    np.testing.assert_array_equal(warm.fit(X, y).predict(X), whole.predict(X))
    assert (warm.set_params(warm_start=False).fit(X, y).predict(X) == half).all()


def test_a_warm_start_keeps_its_classes():
    X, y = points()
    model = MeanFieldClassifier(warm_start=True, **SMALL).fit(X, y > 0)
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(X, np.where(y > 0, "a", "b"))


def test_a_certificate_is_computed_when_it_is_asked_for():
    """Once; a notebook's view does not ask for it, and another fit forgets it."""
    model = MeanFieldRegressor(m=64, steps=40, reg=0.05)
    with pytest.raises(AttributeError, match="no attribute 'certificat'"):
        model.certificat  # noqa: B018
    with pytest.raises(NotFittedError):
        model.certificate_  # noqa: B018
    x = np.linspace(-1, 1, 9)[:, None]
    model.fit(x, np.abs(x[:, 0]))
    assert "result_" in model._repr_html_()
    assert "certificate_" not in vars(pickle.loads(pickle.dumps(model)))
    found = model.certificate_
    assert found is model.certificate_
    assert 0 <= found.relative_gap < 0.01
    assert "certificate_" not in vars(model.fit(x, np.abs(x[:, 0])))


def test_out_is_the_run_file_of_the_fit(tmp_path):
    X, y = points()
    model = MeanFieldClassifier(out=tmp_path / "fit.h5", **SMALL).fit(X, np.where(y > 0, "above", "below"))
    run = load(tmp_path / "fit.h5")
    np.testing.assert_array_equal(run.ensemble.theta, model.result_.ensemble.theta)
    assert run.problem.classes.tolist() == ["above", "below"]
    with pytest.raises(ValueError, match=r"fit\.h5"):
        model.fit(X, y > 0)


@pytest.mark.parametrize(("loss", "names"), [("auto", "abc"), ("cross_entropy", "ab"), ("auto", "ab")])
def test_probabilities_say_what_predictions_do(loss, names):
    """They sum to 1, the likeliest class is the one predicted, and of two log p₁/p₀ is the decision function."""
    X, y = points()
    labels = np.array(list(names))[np.digitize(y, [-0.5, 0.5][: len(names) - 1])]
    model = MeanFieldClassifier(loss=loss, **SMALL).fit(X, labels)
    p, scores = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (model.predict(X) == model.classes_[p.argmax(axis=1)]).all()
    assert model.score(X, labels) > 0.6
    if len(names) == 2:
        np.testing.assert_allclose(np.log(p[:, 1] / p[:, 0]), scores)
    else:
        assert scores.shape == (len(X), 3)


def test_the_seed_is_scikit_learns():
    """A number's bits are its own, equal RandomStates give equal fits, and with None no two are equal."""
    X, y = points()

    def fitted(random_state):
        return MeanFieldRegressor(random_state=random_state, **SMALL).fit(X, y).predict(X)

    assert (fitted(np.int64(5)) == fitted(5)).all()
    assert (fitted(np.random.RandomState(5)) == fitted(np.random.RandomState(5))).all()
    assert not (fitted(None) == fitted(None)).any()


def test_a_grid_search_over_a_pipeline_of_a_data_frame():
    """Names of features are kept; where one feature's unit is a million, the scaler before makes the better model."""
    X, y = points()
    frame = pd.DataFrame(X * [1, 1, 1e6], columns=["first", "second", "third"])
    pipe = make_pipeline(StandardScaler(), MeanFieldRegressor(m=64, steps=20))
    grid = {"meanfieldregressor__reg": [1.0, 1e-3]}
    search = GridSearchCV(pipe, grid, cv=2).fit(frame, y)
    assert search.best_params_ == {"meanfieldregressor__reg": 1e-3}
    model = MeanFieldRegressor(m=64, steps=20, reg=1e-3).fit(frame, y)
    assert model.feature_names_in_.tolist() == ["first", "second", "third"]
    assert search.score(frame, y) > model.score(frame, y)
    with pytest.raises(ValueError, match="same order"):
        model.predict(frame[["second", "first", "third"]])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MeanFieldClassifier(loss="squared"), "'squared': must be one of classes"),
        (MeanFieldRegressor(loss="logistic"), "'logistic': must be one of numbers"),
        (MeanFieldClassifier(loss="hinge"), "hinge"),
        (MeanFieldClassifier(reg=-1), "reg"),
        (MeanFieldRegressor(m=0), "m = 0"),
        (MeanFieldRegressor(steps=-1), "steps"),
        (MeanFieldRegressor(random_state="today"), "today"),
    ],
)
def test_bad_parameters_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit([[1.0], [2.0], [3.0]], [0, 1, 1])
