"""Runs with other neurons than the relu: every explicit dynamics, restart, configuration, figures, refusals."""

import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import (
    BirthDeath,
    Ensemble,
    GradientFlow,
    Implicit,
    InputError,
    Langevin,
    Neuron,
    PerturbedFlow,
    Problem,
    RunFileError,
    load,
    plots,
    resume,
    simulate,
)
from meanfield.simulation.toml import load_config, parse_config, to_toml

K = 9  # where runs are cut: no multiple of record_every (5) or checkpoint_every (7)


def bump(z):
    return z / (1.0 + z * z)


def bump_slope(z):
    return (1.0 - z * z) / (1.0 + z * z) ** 2


def other(z):
    return z / (1.0 + 2.0 * z * z)


def other_slope(z):
    return (1.0 - 2.0 * z * z) / (1.0 + 2.0 * z * z) ** 2


OWN, OTHER = Neuron(bump, bump_slope, name="bump"), Neuron(other, other_slope)


@pytest.mark.parametrize(
    ("dynamics", "outputs"),
    [
        (Langevin(), 1),
        (GradientFlow(batch=16), 3),
        (PerturbedFlow(rebirth_rate=0.1), 1),
        (BirthDeath(exchange_rate=5.0), 1),
    ],
    ids=lambda one: getattr(one, "name", one),
)
@pytest.mark.parametrize("neuron", ["tanh", OWN], ids=["tanh", "own"])
def test_interrupted_equals_uninterrupted(tmp_path, neuron, dynamics, outputs):
    """State and trace with ==, whatever the threads; the user's own is given to the file again."""
    problem, path = example(outputs, neuron=neuron), tmp_path / "run.h5"
    own = {"neuron": neuron} if isinstance(neuron, Neuron) else {}
    whole = simulate(problem, start(outputs, m=1100), dynamics, steps=2 * K, threads=2, **SETTINGS)
    simulate(problem, start(outputs, m=1100), dynamics, steps=K, threads=1, out=path, **SETTINGS)
    assert_same(resume(path, until=2 * K, measures=SETTINGS["measures"], **own), whole)
    assert np.isnan(whole.trace["margin"]).all()
    assert np.isfinite(whole.trace["drift"]).all()
    relu = simulate(example(outputs), start(outputs, m=1100), dynamics, steps=2 * K, **SETTINGS)
    assert not np.array_equal(relu.ensemble.u, whole.ensemble.u)


@pytest.mark.parametrize("neuron", ["tanh", "softplus", "leaky_relu", "relu2", "sine"])
def test_automatic_steps_descend(neuron):
    """Without annealing; by default they are Langevin's, whose automatic step is found in the state."""
    problem = example(reg=1e-3, temperature=0.0, neuron=neuron)
    result = simulate(problem, start(m=300), steps=300, record_every=20)
    objective = result.trace["objective"]
    assert result.config.dynamics.method == "langevin"
    assert result.problem.reg == problem.reg
    assert (np.diff(objective) < 1e-9).all()
    assert objective[-1] < 0.9 * objective[0]
    gap = result.final_gap
    assert "grows at most" in gap.missing if neuron == "relu2" else 0 < gap.relative_gap < 1


def test_a_configuration_names_the_neuron(tmp_path):
    """[neuron] of a file, written out again; implicit steps are then not the default, and nothing is annealed."""
    small = ["data.n=30", "data.d=3", "data.n_test=20", "ensemble.m=100", "run.steps=5"]
    config = load_config(None, ["neuron.activation=tanh", *small])
    assert (config.dynamics.method, config.objective.reg) == ("langevin", 5e-3)
    assert load_config(None, ["neuron.activation=tanh"]).run.steps == 4000
    assert load_config(None, []).dynamics.method == "implicit"
    assert parse_config(to_toml(config), "x") == config
    path = tmp_path / "run.h5"
    settings = [word for one in ("neuron.activation=tanh", *small) for word in ("--set", one)]
    assert in_process("run", "--out", path, *settings)[0] == 0
    run = load(path)
    assert run.problem.neuron.name == "tanh"
    assert run.problem.reg.shape == "constant"
    assert in_process("certify", path)[0] == 0
    assert in_process("certify", path, "--method", "proven")[0] == 2
    for command in (["info", path], ["plot", path], ["report", path, "--seconds", "0"]):
        assert in_process(*command)[0] == 0, command


def test_the_file_names_the_functions_and_refuses_others(tmp_path):
    """`module.QualName` of both; none, another, and one of ours are refused in one line."""
    path = tmp_path / "run.h5"
    own = simulate(example(neuron=OWN), start(m=64), Langevin(), steps=2, out=path).config
    assert (own.neuron.activation, own.neuron.derivative) == (f"{__name__}.bump", f"{__name__}.bump_slope")
    assert parse_config(to_toml(own), "x") == own
    for wrong, words in (
        (None, "give it there"),
        (OTHER, r"neuron\.activation is .*bump; the object given has .*other"),
        ("tanh", r"neuron\.activation is .*bump; the object given has tanh"),
    ):
        with pytest.raises(RunFileError, match=words) as caught:
            resume(path, more=1, neuron=wrong)
        assert "\n" not in str(caught.value)
    assert resume(path, more=1, neuron=OWN).problem.neuron is OWN
    with pytest.raises(InputError, match="only in the run files of runs made in Python"):
        load_config(None, ["neuron.activation='mine.own'"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["dynamics.method=implicit"], "dynamics.method = 'implicit': moves relu neurons only, not 'tanh'"),
        (["record.gap=true"], "record.gap = true: bounds are known for relu neurons only"),
        (["neuron.activation=tan"], "did you mean tanh"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(settings, words):
    """Before anything is loaded."""
    with pytest.raises(InputError, match=words):
        load_config(None, ["neuron.activation=tanh", *settings])


def test_implicit_steps_and_annealing_are_refused():
    """As objects too."""
    problem = Problem(np.eye(2), [1, -1], neuron="tanh")
    with pytest.raises(InputError, match="moves relu neurons only"):
        simulate(problem, Ensemble.sphere(64, 2), Implicit(), steps=1)
    with pytest.raises(InputError, match="critical_reg knows relu neurons only"):
        simulate(problem, Ensemble.sphere(64, 2), steps=1, anneal=True)


@pytest.mark.slow
def test_a_run_of_another_neuron_is_drawn():
    """Every figure and panel; what it draws of the function is the network of this neuron."""
    result = simulate(example(neuron=OWN), start(m=200), Langevin(), steps=10, record_every=5, record={"snapshots": 2})
    for name in (*plots.FIGURES, *plots.PANELS):
        assert len(result.plot(name).axes) > 0
    f = plots.moments_of(result).f[:, 0]
    assert np.allclose(f, result.ensemble.predict(result.problem.X, neuron=OWN))
    assert not np.allclose(f, result.ensemble.predict(result.problem.X))


def test_the_test_error_is_that_of_the_network():
    """Of this neuron's network, not of the relu's: here the squares of the same particles' outputs."""
    X = np.random.default_rng(0).standard_normal((20, 6))
    problem = Problem(X, X[:, 0], X_test=X, y_test=X[:, 0], loss="squared", neuron="quadratic")
    row = simulate(problem, start(m=200), GradientFlow(), steps=5).final
    assert row["test_error"] == pytest.approx(2 * row["risk"], rel=1e-9)
    assert row["test_error"] == row["train_error"]
