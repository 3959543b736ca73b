"""Laws of the problem: the objective is the twin's, and the drift is its gradient."""

import copy
import pickle

import naive
import numpy as np
import pytest
from own_losses import Huber, SquaredHinge

from meanfield.dynamics import Field
from meanfield.ensemble import Ensemble
from meanfield.errors import InputError
from meanfield.problem import Problem

LOSSES = ["logistic", "squared", "cross_entropy"]


def example(loss, n=23, d=4, *, reg=0.1, seed=0):
    """A problem with its labels as the twin wants them: ±1, (n, 2) numbers, or one of three classes."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = {
        "logistic": np.where(rng.random(n) < 0.5, -1.0, 1.0),
        "squared": rng.standard_normal((n, 2)),
        "cross_entropy": np.arange(n) % 3,
    }[loss]
    return Problem(X, y, loss=loss, reg=reg), y


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_objective_is_the_twins(loss, dtype):
    """value = risk + penalty, each to rounding; λ is that of the ensemble's step."""
    problem, y = example(loss, reg={"start": 1.0, "end": 0.25, "steps": 2, "shape": "geometric"})
    ensemble = Ensemble.gaussian(77, problem.d, problem.outputs, dtype=dtype)
    for step, reg in ((0, 1.0), (1, 0.5), (2, 0.25), (9, 0.25)):
        ensemble.step = step
        value, risk, penalty = problem.objective(ensemble)
        w, u = ensemble.w, ensemble.u
        close = {"rel": 1e-6 if dtype == "float32" else 1e-13}
        assert risk == pytest.approx(naive.risk(naive.predict(w, u, problem.X), y, loss), **close)
        assert penalty == pytest.approx(reg * naive.second(w, u), rel=1e-13)
        assert value == risk + penalty
        assert value == pytest.approx(naive.objective(w, u, problem.X, y, loss, reg), **close)


@pytest.mark.parametrize("loss", LOSSES)
def test_finite_differences_confirm_the_drift(loss):
    """∂L/∂θ_j = (1/m) ∇L'(θ_j): central differences of the twin's objective, every coordinate, away from kinks."""
    problem, y = example(loss)
    ensemble = Ensemble.gaussian(5, problem.d, problem.outputs, seed=3, dtype="float64")
    w, u, h = ensemble.w, ensemble.u, 1e-5
    assert not naive.near_kink(u, problem.X, 1e-3).any()
    field = Field(problem, ensemble.dtype)
    residual = field.residual(field.predict(ensemble))
    theta = np.hstack([w, u])
    C = problem.outputs
    numeric = np.zeros_like(theta)
    for place in np.ndindex(*theta.shape):
        values = []
        for sign in (1, -1):
            moved = theta.copy()
            moved[place] += sign * h
            values.append(naive.objective(moved[:, :C], moved[:, C:], problem.X, y, loss, 0.1))
        numeric[place] = 5 * (values[0] - values[1]) / (2 * h)
    by_w, by_u = naive.drift(w, u, problem.X, residual, 0.1)
    assert np.abs(numeric - np.hstack([by_w, by_u])).max() < 1e-8
    square, _ = field.engine.observe(ensemble.particles, residual, 0.1)
    assert square == pytest.approx(np.sum(numeric**2) / 5, rel=1e-7)


def test_equal_measures_have_equal_objectives():
    """Every particle twice is the same measure."""
    problem, _ = example("logistic")
    one = Ensemble.gaussian(50, problem.d, dtype="float64")
    two = Ensemble.from_arrays(np.repeat(one.w, 2, axis=0), np.repeat(one.u, 2, axis=0))
    assert problem.objective(two).value == pytest.approx(problem.objective(one).value, rel=1e-14)


GOOD = {"X": np.ones((4, 2)), "y": [1, -1, 1, -1]}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"X": np.ones(4)}, "X"),
        ({"X": np.ones((0, 2)), "y": []}, "X|y"),
        ({"X": np.array([[1.0, 2], [3, np.nan], [0, 0], [0, 0]])}, r"X\[1, 1\]"),
        ({"X": np.full((4, 2), 1e16)}, "rescale"),
        ({"y": [1, -1, 1]}, "y"),
        ({"reg": -1e-9}, "reg"),
        ({"reg": -1.0}, "reg"),
        ({"reg": float("nan")}, "finite"),
        ({"temperature": -0.1}, "temperature"),
        ({"loss": "logistc"}, "logistic"),
        ({"loss": 3}, "loss = 3: must be one of logistic"),
        ({"loss": SquaredHinge}, "object of a subclass of Loss"),
        ({"X_test": np.ones((3, 5)), "y_test": [1, 1, -1]}, "X_test"),
        ({"X_test": np.ones((3, 2)), "y_test": [1, 1]}, "y_test"),
        ({"X_test": np.ones((3, 2)), "y_test": [1, 1, 5]}, "y_test"),
        ({"X_test": np.ones((3, 2))}, "y_test"),
    ],
)
def test_bad_problems_are_named(changed, named):
    """InputError, in one line that names what is wrong."""
    with pytest.raises(InputError, match=named) as caught:
        Problem(**{**GOOD, **changed})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("d", "outputs"), [(3, 1), (2, 2)])
def test_an_ensemble_of_another_shape_is_refused(d, outputs):
    """Another d or another number of outputs."""
    with pytest.raises(InputError, match="needs d = 2, outputs = 1"):
        Problem(**GOOD).objective(Ensemble.sphere(10, d, outputs))


@pytest.mark.parametrize("loss", [SquaredHinge(), Huber(0.3)])
def test_a_loss_of_ones_own_is_the_problems_very_object(loss):
    """Nothing is registered; objective and targets are those of the loss."""
    X, y = np.ones((4, 2)), np.array([1.0, -1.0, 1.0, -1.0])
    problem = Problem(X, y, loss=loss, reg=0.1)
    assert problem.loss is loss
    ensemble = Ensemble.sphere(64, 2, dtype="float64")
    f = ensemble.predict(X)[:, None]
    assert problem.objective(ensemble).risk == pytest.approx(loss.value(f, problem.targets), rel=1e-12)
    assert problem.restricted(np.array([0, 1])).loss is loss


@pytest.mark.parametrize("loss", [*LOSSES, SquaredHinge(), Huber(0.3)])
def test_problems_are_copied_and_pickled(loss):
    """With their data, loss and schedules: the same objective, bit for bit."""
    rng = np.random.default_rng(0)
    X, y = (
        rng.standard_normal((6, 3)),
        np.array([0, 1, 2, 0, 1, 2]) if loss == "cross_entropy" else np.array([0, 1] * 3),
    )
    problem = Problem(
        X, y, loss=loss, reg={"start": 1.0, "end": 0.5, "steps": 3, "shape": "linear"}, X_test=X, y_test=y
    )
    ensemble = Ensemble.sphere(32, 3, problem.outputs)
    for other in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert type(other.loss) is type(problem.loss)
        assert other.objective(ensemble) == problem.objective(ensemble)
        assert np.array_equal(other.test_targets, problem.test_targets)
