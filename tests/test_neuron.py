"""Laws of neurons: derivatives, homogeneity and growth of the built-in ones, and what is refused at the door."""

import math
import pickle

import numpy as np
import pytest

from meanfield import Ensemble, GradientFlow, Implicit, InputError, Neuron, Problem, certify, diagnostics, exact
from meanfield.dynamics import Field
from meanfield.dynamics.step_size import curvature_bound, curvature_ratio
from meanfield.neuron import ACTIVATIONS, _check, get_neuron
from meanfield.simulation.config import NEURONS

X = np.random.default_rng(0).standard_normal((30, 3))
Y = np.sign(X[:, 0] * X[:, 1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_built_in_neurons_pass_the_check_of_ones_own(name):
    """Finite at 0 and beside it, and the derivative is the derivative; in float32 to its rounding."""
    neuron = get_neuron(name)
    _check(neuron)
    z = np.linspace(-5, 5, 101)
    for single, double in zip(neuron.evaluate(z.astype(np.float32)), neuron.evaluate(z), strict=True):
        assert single.dtype == np.float32
        assert np.abs(single - double).max() <= 2e-6 * (1 + np.abs(double).max())
    again = pickle.loads(pickle.dumps(neuron))
    assert np.array_equal(again.evaluate(z), neuron.evaluate(z))
    assert again.is_relu is (name == "relu")


def test_homogeneity_and_growth_are_found_by_evaluation():
    """Of the same functions under another name too: relu's, though for relu itself nothing is evaluated."""
    assert [name for name in ACTIVATIONS if get_neuron(name).is_homogeneous] == ["relu", "leaky_relu"]
    assert [name for name in ACTIVATIONS if get_neuron(name).growth > 1.01] == ["relu2", "quadratic"]
    same = Neuron(lambda z: z if z > 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0)
    assert not same.is_relu
    assert same.is_homogeneous
    assert same.growth == 1.0
    assert list(ACTIVATIONS) == list(NEURONS)


def test_steepness_is_that_of_the_function():
    """tanh: |φ'| ≤ 1 and |φ''| ≤ 4/(3√3); of cz it is c times φ', c² times φ''."""
    steep, bend = get_neuron("tanh").steepness(6.0)
    assert steep == 1.0
    assert bend == pytest.approx(4 / (3 * math.sqrt(3)), rel=0.02)
    fast = Neuron(lambda z: math.tanh(3 * z), lambda z: 3 * (1 - math.tanh(3 * z) ** 2))
    assert fast.steepness(2.0) == pytest.approx((3 * steep, 9 * bend), rel=1e-9)


@pytest.mark.parametrize(
    ("activation", "derivative", "words"),
    [
        (lambda z: z * z, lambda z: z, r"its derivative at .* differences of the activation give"),
        (
            lambda z: math.sin(z) / z,
            lambda z: (math.cos(z) - math.sin(z) / z) / z,
            "its activation at 0 is not a finite",
        ),
        (lambda z: abs(z), lambda z: z / abs(z), "its derivative at 0 is not a finite number"),
        (lambda z: str(z), lambda z: 1.0, "numba cannot compile"),
        (lambda z: undefined(z), lambda z: 1.0, "numba cannot compile"),  # noqa: F821
        ("tanh", lambda z: 1.0, "activation = 'tanh': must be a function"),
    ],
)
def test_what_is_no_neuron_is_refused_at_the_door(activation, derivative, words):
    """In one line that names it."""
    with pytest.raises(InputError, match=words) as caught:
        Neuron(activation, derivative, name="mine")
    assert "\n" not in str(caught.value)


def test_names_are_known_or_suggested():
    """As losses are."""
    for wrong, words in (("tan", "did you mean tanh"), (3, "must be one of relu")):
        with pytest.raises(InputError, match=words):
            Problem(X, Y, neuron=wrong)


def test_a_neuron_that_noise_carries_away_is_refused():
    """Faster than quadratic in θ at τ > 0, in a schedule too; not at τ = 0."""
    assert Problem(X, Y, neuron="relu2").neuron.name == "relu2"
    for name in ("relu2", "quadratic"):
        with pytest.raises(InputError, match=f"{name}.*grows faster than quadratically"):
            Problem(X, Y, neuron=name, temperature={"start": 1e-3, "end": 0.0, "steps": 5, "shape": "linear"})
    assert Problem(X, Y, neuron="softplus", temperature=1e-3).temperature(0) == 1e-3


def refusals():
    """What is a theorem about relu, or about homogeneous neurons, asked for others."""
    problem, ensemble = Problem(X, Y, neuron="tanh"), Ensemble.sphere(64, 3)
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    return {
        "certify": lambda: certify(problem, ensemble, method="proven"),
        "until": lambda: certify(problem, ensemble, until_gap=0.1),
        "optimum": lambda: exact.optimum(problem),
        "gibbs": lambda: exact.gibbs(Problem(X, Y, neuron="tanh", temperature=0.1)),
        "critical": lambda: problem.critical_reg(),
        "implicit": lambda: Implicit().step(field, ensemble.copy(), moments),
        "quantiles": lambda: diagnostics.margin_quantiles(problem, moments),
        "stationarity": lambda: diagnostics.stationarity(field, ensemble, moments),
        "leaky": lambda: certify(Problem(X, Y, neuron="leaky_relu"), ensemble, keep=True),
    }


@pytest.mark.parametrize(
    "what", ["certify", "until", "optimum", "gibbs", "critical", "implicit", "quantiles", "stationarity", "leaky"]
)
def test_theorems_about_relu_stay_theorems_about_relu(what):
    """One line that names the neuron and what there is instead."""
    with pytest.raises(InputError, match=r"tanh|leaky_relu") as caught:
        refusals()[what]()
    assert "objective" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_measures_of_homogeneous_neurons_work_for_leaky_relu():
    """The margin does not change with the scale of θ, and stationarity is defined; for tanh the margin is NaN."""
    found = []
    for scale in (1.0, 3.0):
        ensemble = Ensemble.gaussian(200, 3, scale=scale, dtype="float64")
        field = Field(Problem(X, Y, neuron="leaky_relu"), ensemble.dtype)
        moments = field.predict(ensemble)
        found.append(diagnostics.normalized_margin(field.problem, moments))
        assert diagnostics.stationarity(field, ensemble, moments) > 0
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert math.isnan(diagnostics.normalized_margin(Problem(X, Y, neuron="tanh"), moments))


def test_a_step_descends_along_the_gradient_of_the_objective():
    """dL/dt = −∫‖∇L'‖² dρ for each neuron: no factor is missing between prediction, residual, drift and step."""
    for neuron in ("tanh", "gelu", "quadratic", {"activation": "relu", "output": "tanh"}):
        problem = Problem(X, Y, neuron=neuron, reg=0.01)
        ensemble = Ensemble.gaussian(100, 3, dtype="float64")
        field, eta = Field(problem, ensemble.dtype), 1e-4
        moments = field.predict(ensemble)
        drift = diagnostics.drift_norm(field, ensemble, moments)
        before = problem.objective(ensemble).value
        GradientFlow(step_size=eta).step(field, ensemble, moments)
        assert (before - problem.objective(ensemble).value) / eta == pytest.approx(drift**2, rel=1e-2)


@pytest.mark.parametrize("name", ["tanh", "quadratic"])
def test_the_curvature_is_that_of_the_tangent_kernel(name):
    """κ B, by power iteration over steps, is the top eigenvalue of D^½ K D^½, K from φ and φ' of every particle."""
    problem, ensemble = Problem(X, Y, neuron=name), Ensemble.gaussian(500, 3, scale=2.0, dtype="float64")
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    phi, slope = problem.neuron.evaluate(X @ ensemble.u.T)
    K = ((slope * ensemble.w[:, 0] ** 2) @ slope.T * (X @ X.T) + phi @ phi.T) / ensemble.m
    root = np.sqrt(problem.loss.curvature(moments.f, problem.targets) / problem.n)
    top = np.linalg.eigvalsh(root[:, None] * K * root)[-1]
    found = curvature_ratio(field, ensemble, moments) * curvature_bound(field, moments)
    assert found == pytest.approx(top, rel=0.05)


def test_predict_takes_the_neuron():
    """The relu unless another is named."""
    ensemble = Ensemble.from_arrays(w=[2.0], u=[[1.0]])
    assert ensemble.predict([[-1.0], [3.0]]).tolist() == [0.0, 6.0]
    assert ensemble.predict([[-1.0], [3.0]], neuron="quadratic").tolist() == [2.0, 18.0]
