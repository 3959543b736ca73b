"""Laws of the measures: against the twin, and in the cases whose answer is known."""

import math

import naive
import numpy as np
import pytest

from meanfield import diagnostics
from meanfield.dynamics import Field
from meanfield.ensemble import Ensemble
from meanfield.problem import Problem
from meanfield.sweep import Moments

TRUTH_W = np.array([4.0, 4, -4, -4])
TRUTH_U = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])


def paper(m_each=1):
    """The paper's data in two dimensions and the four neurons |x₁| − |x₂| that separate it: f = ±1."""
    X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    problem = Problem(X, [1, 1, -1, -1], X_test=X[[0, 2]], y_test=[1, 1], reg=0.1)
    return problem, Ensemble.from_arrays(np.repeat(TRUTH_W, m_each), np.repeat(TRUTH_U, m_each, axis=0))


@pytest.mark.parametrize("m_each", [1, 500])
def test_the_four_neurons_of_the_paper_have_margin_one_seventeenth(m_each):
    """y f = 1 on every example and ∫‖θ‖² = 1 + 16, however often each neuron is held."""
    problem, ensemble = paper(m_each)
    moments = Field(problem, ensemble.dtype).predict(ensemble)
    assert np.array_equal(moments.f[:, 0], [1, 1, -1, -1])
    assert diagnostics.normalized_margin(problem, moments) == pytest.approx(1 / 17, rel=1e-15)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_normalized_margin_is_invariant_under_scaling(factor):
    """f and ∫‖θ‖² are both of degree two in θ."""
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((20, 3)), np.arange(20) % 3, loss="cross_entropy")
    one = Ensemble.gaussian(50, 3, 3, dtype="float64")
    two = Ensemble.from_arrays(factor * one.w, factor * one.u)
    a, b = (diagnostics.normalized_margin(problem, Field(problem, e.dtype).predict(e)) for e in (one, two))
    assert a == pytest.approx(b, rel=1e-13)
    f = naive.predict(one.w, one.u, problem.X)
    gaps = [f[i, i % 3] - max(f[i, c] for c in range(3) if c != i % 3) for i in range(20)]
    assert a == pytest.approx(min(gaps) / naive.second(one.w, one.u), rel=1e-12)


def test_what_has_no_answer_is_nan():
    """The margin of a regression, or of particles that are all zero; the test error without a test set."""
    regression = Problem(np.eye(2), [0.5, 2.0], loss="squared")
    assert math.isnan(diagnostics.normalized_margin(regression, Moments(np.ones((2, 1)), 1.0)))
    problem, ensemble = paper()
    assert math.isnan(diagnostics.normalized_margin(problem, Moments(np.zeros((4, 1)), 0.0)))
    assert math.isnan(diagnostics.error_on_test_set(regression, ensemble))


def test_test_errors_are_counted_or_squared():
    """Half of the two labels are wrong; for regression the mean squared error; f = 0 is an error."""
    problem, ensemble = paper()
    assert diagnostics.error_on_test_set(problem, ensemble) == 0.5
    assert diagnostics.error_on_test_set(problem, Ensemble.empty(5, 2, 1, "float32")) == 1.0
    regression = Problem(problem.X, [1.0, 1, -1, -1], loss="squared", X_test=problem.X, y_test=[2.0, 1, -1, -3])
    assert diagnostics.error_on_test_set(regression, ensemble) == pytest.approx((1 + 4) / 4, rel=1e-14)


def test_the_drift_is_zero_where_nothing_moves():
    """At particles all zero; and it is the twin's root mean square elsewhere, at the λ of the step."""
    problem, _ = paper()
    field = Field(problem, np.dtype("float64"))
    still = Ensemble.empty(10, 2, 1, "float64")
    assert diagnostics.drift_norm(field, still, field.predict(still)) == 0
    problem = Problem(problem.X + 0.1, [1, 1, -1, -1], reg={"start": 1.0, "end": 0.5, "steps": 1})
    field, ensemble = Field(problem, np.dtype("float64")), Ensemble.gaussian(40, 2, dtype="float64")
    for step, reg in ((0, 1.0), (1, 0.5)):
        ensemble.step = step
        moments = field.predict(ensemble)
        by_w, by_u = naive.drift(ensemble.w, ensemble.u, problem.X, field.residual(moments), reg)
        exact = math.sqrt((np.sum(by_w**2) + np.sum(by_u**2)) / 40)
        assert diagnostics.drift_norm(field, ensemble, moments) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_out_of_range_is_seen(bad):
    """In the predictions or in ∫‖θ‖²."""
    f = np.zeros((5, 2))
    assert diagnostics.all_finite(Moments(f, 1.0))
    assert not diagnostics.all_finite(Moments(f, bad))
    f[3, 1] = bad
    assert not diagnostics.all_finite(Moments(f, 1.0))
