"""Neurons that are a line of text: what is read, what it means, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from scipy.special import erf, expit

from meanfield import Ensemble, GradientFlow, InputError, Neuron, Problem, load, resume, simulate
from meanfield.formula import FUNCTIONS, is_formula, read_formula
from meanfield.neuron import get_neuron
from meanfield.simulation.toml import load_config, parse_config, to_toml

LINES = {  # and what they mean
    "tanh(z) + 0.1*z": lambda z: np.tanh(z) + 0.1 * z,
    "-(relu(z)**3 - 2)/(1 + abs(z))": lambda z: -(np.maximum(z, 0) ** 3 - 2) / (1 + np.abs(z)),
    "z*logistic(1.7*z) - erf(z)*softplus(-z)": lambda z: z * expit(1.7 * z) - erf(z) * np.logaddexp(0, -z),
    "sin(2*z)*gauss(z/2) + cos(z)": lambda z: np.sin(2 * z) * np.exp(-((z / 2) ** 2)) + np.cos(z),
}
X = np.random.default_rng(0).standard_normal((30, 3))
Y = np.sign(X[:, 0] * X[:, 1])


@pytest.mark.parametrize("line", LINES)
def test_a_line_means_what_it_says_and_its_derivative_is_its_own(line):
    """Against NumPy; the derivative is compared with differences when a neuron is made; both precisions; pickled."""
    neuron, z = get_neuron(line), np.linspace(-4, 4, 801) + 1e-3
    value, slope = neuron.evaluate(z)
    np.testing.assert_allclose(value, LINES[line](z), rtol=1e-12, atol=1e-14)
    differences = (LINES[line](z + 1e-6) - LINES[line](z - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-6)
    assert np.abs(neuron.evaluate(z.astype(np.float32))[0] - value).max() < 1e-5
    assert pickle.loads(pickle.dumps(neuron)).formula == line
    assert (neuron.name, neuron.is_built_in, get_neuron(line) is neuron) == (line, False, True)


def test_every_function_is_in_a_line_above():
    assert all(any(f"{name}(" in line for line in LINES) for name in FUNCTIONS)


def test_it_has_the_bits_of_the_built_in_neuron():
    """The very arithmetic of `elementary`: a run of "tanh(z)" ends where one of "tanh" does."""
    ends = []
    for neuron in ("tanh", "tanh(z)"):
        problem = Problem(X, Y, reg=0.01, neuron=neuron)
        ends.append(simulate(problem, Ensemble.sphere(100, 3), GradientFlow(), steps=20, final_gap=False).ensemble)
    assert np.array_equal(ends[0].theta, ends[1].theta)


def test_run_files_and_configurations_keep_the_line(tmp_path):
    """Loaded and gone on with, nothing given again; another neuron is refused."""
    line, path = "tanh(z) + 0.1*z", tmp_path / "run.h5"
    config = load_config(None, [f"neuron.activation={line}", "data.n=20"])
    assert config.neuron.activation == line
    assert parse_config(to_toml(config), "x") == config
    problem, start = Problem(X, Y, reg=0.01, neuron=line), Ensemble.sphere(100, 3)
    simulate(problem, start, GradientFlow(), steps=5, out=path, final_gap=False)
    run = load(path)
    assert (run.problem.neuron.formula, run.config.neuron.derivative) == (line, None)
    longer = resume(path, more=5, final_gap=False).ensemble
    whole = simulate(problem, start, GradientFlow(), steps=10, final_gap=False).ensemble
    assert np.array_equal(longer.theta, whole.theta)
    with pytest.raises(InputError, match="the object given has tanh"):
        load(path, neuron="tanh")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("__import__('os').system('true')", "must be a number, z, an operation"),
        ("z.__class__", None),
        ("exp(z)", "'exp' must be one of relu"),
        ("tan(z)", "did you mean tanh"),
        ("x + 1", "'x' must be a number"),
        ("z**0.5", "powers must be whole numbers"),
        ("z**9", "powers must be whole numbers from 1 to 8"),
        ("z**-1", "powers must be"),
        ("z if z else 1", "must be a number, z"),
        ("[z][0]", "must be a number, z"),
        ("tanh(z, z)", "must be a number, z"),
        ("(lambda: z)()", "must be a number, z"),
        ("True + z", "must be a number, z"),
        ("'z' + z", "must be a number, z"),
        ("1e999*z", "below 1e100"),
        ("9" * 190, "below 1e100"),
        ("z +", "is not understood"),
        ("z\0+ 1", "is not understood"),
        ("(" * 150 + "z", "is not understood"),
        ("z + " * 80 + "z", "at most 200"),
        ("1/z", "is not a finite number"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused_in_one_line(line, words):
    """Nothing is run, whatever it says; what is no formula at all is an unknown name."""
    if words is None:
        assert not is_formula(line)
        words = "is unknown"
    with pytest.raises(InputError, match=words) as caught:
        get_neuron(line)
    assert "\n" not in str(caught.value)
    if words not in ("is unknown", "is not a finite number"):
        with pytest.raises(InputError, match=r"neuron\.activation"):
            load_config(None, [f"neuron.activation={json.dumps(line)}"])
        with pytest.raises(InputError):
            read_formula(line)


def test_a_formula_may_be_a_kernel():
    """Whatever evaluates goes to the kernels: relu as a line has relu's."""
    from meanfield.kernels import neuron_ntk, relu_ntk

    np.testing.assert_allclose(neuron_ntk(X, neuron=Neuron.from_formula("relu(z) + 0*z")), relu_ntk(X), atol=1e-11)
