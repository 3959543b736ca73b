"""Laws of the output scale: of gradients, of the equivalence with a larger start, of the lazy limit; paired starts."""

import warnings

import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import Ensemble, GradientFlow, InputError, Langevin, Problem, certify, load, plots, resume, simulate
from meanfield.dynamics import Field

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 3))
Y = np.sign(X[:, 0] * X[:, 1])


@pytest.mark.parametrize("neuron", ["relu", "tanh"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_outputs_and_gradients_are_scaled(outputs, neuron):
    """f and ∇⟨r, f⟩ are α times those at α = 1, in every measure and on test data."""
    ensemble = Ensemble.gaussian(100, 3, outputs, dtype="float64", seed=2)
    y = RNG.standard_normal((30, outputs))
    settings = {"loss": "squared", "reg": 0.0, "neuron": neuron, "X_test": X[:5], "y_test": y[:5]}
    plain, scaled = (Problem(X, y, **settings, output_scale=a) for a in (1.0, 7.0))
    f = plain.predict(ensemble).reshape(30, outputs)
    assert scaled.predict(ensemble).reshape(30, outputs) == pytest.approx(7 * f, rel=1e-12)
    r = RNG.standard_normal((30, outputs))
    squares = [Field(p, ensemble.dtype).engine.observe(ensemble.particles, r, 0.0)[0] for p in (plain, scaled)]
    assert squares[1] == pytest.approx(49 * squares[0], rel=1e-12)
    run = simulate(scaled, ensemble, GradientFlow(1e-6), steps=1).run
    assert run.trace["train_error"][0] == pytest.approx(np.mean(np.sum((7 * f - y) ** 2, axis=1)), rel=1e-9)
    assert run.trace["test_error"][0] == pytest.approx(np.mean(np.sum((7 * f - y)[:5] ** 2, axis=1)), rel=1e-9)
    assert plots.moments_of(run).f == pytest.approx(scaled.predict(run.ensemble).reshape(30, outputs), rel=1e-12)


@pytest.mark.parametrize("step_size", [0.25, "auto"])
def test_for_relu_a_scale_is_a_larger_start_and_a_slower_clock(step_size):
    """α at λ and η from θ is α = 1 at λ/α and αη from √α θ: the same f, and particles √α times as large."""
    small = Ensemble.sphere(200, 3, dtype="float64", seed=1)
    large = Ensemble.from_arrays(2 * small.w, 2 * small.u)
    scaled, plain = Problem(X, Y, reg=4e-3, output_scale=4.0), Problem(X, Y, reg=1e-3)
    step = [step_size if step_size == "auto" else a * step_size for a in (0.25, 1)]
    one, other = (
        simulate(p, e, GradientFlow(eta), steps=30, record_every=10, anneal=False)
        for p, e, eta in zip((scaled, plain), (small, large), step, strict=True)
    )
    assert 2 * one.ensemble.u == pytest.approx(other.ensemble.u, rel=1e-9, abs=1e-12)
    assert 4 * one.ensemble.time == pytest.approx(other.ensemble.time, rel=1e-9)
    assert one.trace["objective"] == pytest.approx(other.trace["objective"], rel=1e-12)
    assert scaled.predict(one.ensemble) == pytest.approx(plain.predict(other.ensemble), rel=1e-9)


@pytest.mark.parametrize("law", [Ensemble.sphere, Ensemble.gaussian])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_start_in_pairs_has_no_output(law, dtype):
    """Every second particle is the one before with −w; the others are those of the start without pairs."""
    pairs, drawn = (law(1406, 3, 2, symmetric=one, seed=3, dtype=dtype) for one in (True, False))
    assert np.array_equal(pairs.u[::2], drawn.u[::2])
    assert np.array_equal(pairs.u[1::2], pairs.u[::2])
    assert np.array_equal(pairs.w[1::2], -pairs.w[::2])
    eps = np.finfo(dtype).eps
    assert np.abs(pairs.predict(X)).max() < eps < np.abs(drawn.predict(X)).max()
    assert not np.signbit(pairs.theta[-1][:, 1406 % pairs.theta.shape[2] :]).any()


def test_an_odd_number_of_particles_has_no_pairs():
    """One line, in Python and in a configuration."""
    with pytest.raises(InputError, match="m = 11: must be even"):
        Ensemble.sphere(11, 3, symmetric=True)
    for settings in (["ensemble.m=11"], ["ensemble.init=start.npz"]):
        asked = [word for one in ("ensemble.symmetric=true", *settings) for word in ("--set", one)]
        status, _, err = in_process("run", "--out", "never.h5", *asked)
        assert (status, err.count("\n")) == (2, 1)
        assert "symmetric = true: needs init = 'sphere', 'gaussian' or 'signs', and an even m" in err


def linearized(ensemble, y, steps, eta):
    """f of gradient descent with the tangent kernel of tanh neurons at the start, from f = 0."""
    z = X @ ensemble.u.T
    w, value, slope = ensemble.w[:, 0], np.tanh(z), 1 - np.tanh(z) ** 2
    K = (value @ value.T + (slope * w) @ (slope * w).T * (X @ X.T)) / ensemble.m
    s, V = np.linalg.eigh(K)
    return V @ ((1 - (1 - eta * s / len(X)) ** steps) * (V.T @ y))


@pytest.mark.parametrize(("symmetric", "order"), [(False, 1.0), (True, 2.0)])
def test_as_the_scale_grows_training_becomes_linear(symmetric, order):
    """Without a penalty, at time t/α², f less its start tends to the kernel's flow: like 1/α, in pairs like 1/α²."""
    ensemble, y, errors = Ensemble.sphere(128, 3, dtype="float64", seed=4, symmetric=symmetric), Y.astype(float), []
    for alpha in (100.0, 400.0):
        settings = {"loss": "squared", "reg": 0.0, "output_scale": alpha, "neuron": "tanh"}
        zero = Problem(X, y, **settings).predict(ensemble)
        problem = Problem(X, y + zero, **settings)
        ended = simulate(problem, ensemble, GradientFlow(2.0 / alpha**2), steps=200, final_gap=False).ensemble
        errors.append(np.abs(problem.predict(ended) - zero - linearized(ensemble, y, 200, 2.0)).max())
    assert np.log(errors[0] / errors[1]) / np.log(4) == pytest.approx(order, abs=0.15)


def test_a_scaled_run_that_was_cut_ends_with_the_same_bits(tmp_path):
    """α is in the file."""
    problem, law = example(output_scale=3.0), Langevin()
    whole = simulate(problem, start(), law, steps=20, threads=1, **SETTINGS)
    simulate(problem, start(), law, steps=9, threads=2, out=tmp_path / "run.h5", **SETTINGS)
    rest = resume(tmp_path / "run.h5", until=20, threads=3, measures=SETTINGS["measures"])
    assert_same(whole, rest)
    assert load(tmp_path / "run.h5").problem.output_scale == 3.0


def test_a_configuration_says_scale_and_pairs(tmp_path):
    """Such a run is explicit, at a constant λ, and starts at f = 0: risk log 2."""
    keys = ("objective.output_scale=10.0", "ensemble.symmetric=true", "data.n=20", "data.d=4", "ensemble.m=64")
    asked = [word for one in (*keys, "run.steps=4") for word in ("--set", one)]
    status, _, err = in_process("run", "--out", tmp_path / "run.h5", "--quiet", *asked)
    assert (status, err) == (0, "")
    run = load(tmp_path / "run.h5")
    assert run.config.dynamics.method == "langevin"
    assert run.trace["risk"][0] == pytest.approx(np.log(2), abs=1e-5)
    assert run.problem.reg.shape == "constant"


def test_references_refuse_a_scale():
    """Naming the λ at which the plain problem has the same minimum."""
    problem = Problem(X, Y, reg=1e-2, output_scale=5.0)
    with pytest.raises(InputError, match=r"needs output_scale = 1, not 5.0; the minimum is that of reg = 0.002 alone"):
        certify(problem, Ensemble.sphere(64, 3))
    for wrong in (0.0, -1.0, np.inf, True, "2"):
        with pytest.raises(InputError, match="output_scale"):
            Problem(X, Y, output_scale=wrong)


@pytest.mark.parametrize(("scale", "steps", "off"), [(1e3, 400, 1e-4), (1e4, 2000, 5e-3), (1e6, 1000, None)])
def test_float32_serves_while_scale_times_steps_is_moderate(scale, steps, off):
    """From the same particles f is that of float64 up to `off`; from 10⁸ on it errs by a per cent: a run says so."""
    start = Ensemble.sphere(256, 3, symmetric=True, seed=0)
    problem = Problem(X, Y, loss="squared", reg=0.0, output_scale=scale)
    found = {}
    for dtype in ("float32", "float64"):
        first = Ensemble.from_arrays(start.w, start.u, dtype=dtype)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            flow = GradientFlow(400 / steps / scale**2)
            ended = simulate(problem, first, flow, steps=steps, record_every=steps, final_gap=False).ensemble
        assert [str(one.message).partition(":")[0] for one in caught] == (
            ["ensemble.dtype = 'float32'"] if off is None and dtype == "float32" else []
        )
        found[dtype] = problem.predict(ended)
    error = np.sqrt(np.mean((found["float32"] - found["float64"]) ** 2)) / found["float64"].std()
    assert error < off if off else error > 0.01
