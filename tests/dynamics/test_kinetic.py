"""Laws of kinetic Langevin dynamics: its stationary law, order, limits, momentum, restart with velocities."""

import math

import numpy as np
import pytest
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import (
    Ensemble,
    GradientFlow,
    InputError,
    KineticLangevin,
    Penalty,
    Problem,
    RunFileError,
    load,
    resume,
    simulate,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 3))
Y = np.sign(X[:, 0] * X[:, 1])


def still(reg=0.5, temperature=0.0, **settings):
    """Data that pull at nothing."""
    return Problem(np.zeros((1, 3)), [0.0], loss="squared", reg=reg, temperature=temperature, **settings)


def near(numbers, variance):
    return numbers.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / numbers.size))


@pytest.mark.parametrize("eta", [0.5, 2.5])
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.3, 2.0)])
def test_without_data_the_law_is_exact_for_any_step(eta, rates):
    """Particles are N(0, τ/2λa) by layer, velocities N(0, τ), and neither knows of the other."""
    problem = still(0.5, 0.3, penalty=Penalty(input=1.0, output=4.0))
    law = KineticLangevin(step_size=eta, friction=0.8, rates=rates)
    end = simulate(problem, Ensemble.gaussian(1 << 15, 3, seed=4), law, steps=round(60 / eta)).ensemble
    for numbers, variance in ((end.u, 0.3), (end.w, 0.3 / 4), (end.velocity.u, 0.3), (end.velocity.w, 0.3)):
        assert near(numbers, variance)
    for theta, v in ((end.u, end.velocity.u), (end.w, end.velocity.w)):
        assert abs(np.corrcoef(theta.ravel(), v.ravel())[0, 1]) < 5 / math.sqrt(theta.size)


def gradient(w, u, f):
    """∇L' of relu particles at predictions f, squared loss: by w and by u."""
    r, z = (f - Y) / len(Y), u @ X.T
    return np.maximum(z, 0) @ r + 0.02 * w, ((z > 0) * (w[:, None] * r)) @ X + 0.02 * u


def test_a_step_is_the_splitting_written_out():
    """From rest, half a kick at first and whole ones later, at γ = 0, is leapfrog but for the spring."""
    problem = Problem(X, Y, loss="squared", reg=0.01)
    ensemble = Ensemble.sphere(50, 3, seed=2, dtype="float64")
    w, u, eta = ensemble.w[:, 0].copy(), ensemble.u.copy(), 1e-3
    v_w, v_u = np.zeros_like(w), np.zeros_like(u)
    for k in range(3):
        by_w, by_u = gradient(w, u, np.maximum(X @ u.T, 0) @ w / 50)
        v_w, v_u = (v - (0.5 if k == 0 else 1.0) * eta * g for v, g in ((v_w, by_w), (v_u, by_u)))
        w, u = w + eta * v_w, u + eta * v_u
    end = simulate(problem, ensemble, KineticLangevin(step_size=eta, friction=0.0), steps=3).ensemble
    assert end.u == pytest.approx(u, abs=1e-9)
    assert end.w[:, 0] == pytest.approx(w, abs=1e-9)
    assert np.abs(end.u - ensemble.u).max() > 1e-7


@pytest.mark.slow
def test_it_is_of_second_order():
    """At the same time, half a step has a quarter of the error; tanh, since a kink has no second order."""
    problem = Problem(X, Y, loss="squared", reg=0.05, neuron="tanh")
    ensemble, ends = Ensemble.gaussian(64, 3, seed=2, dtype="float64"), []
    for steps in (40, 80, 1280):
        law = KineticLangevin(step_size=8 / steps, friction=0.5)
        ends.append(simulate(problem, ensemble, law, steps=steps, anneal=False).ensemble.u)
    errors = [np.abs(end - ends[-1]).max() for end in ends[:2]]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.slow
def test_much_friction_is_gradient_flow_at_a_slower_clock():
    """γ → ∞: the flow at t/γ, off by O(1/γ²) once velocities have relaxed."""
    problem = Problem(X, Y, reg=0.05, neuron="tanh")
    ensemble = Ensemble.gaussian(64, 3, seed=2, dtype="float64")
    flow = simulate(problem, ensemble, GradientFlow(step_size=0.002), steps=1000, record_every=500).ensemble
    off = []
    for gamma, eta in ((5.0, 0.01), (10.0, 0.0025)):  # γη halves, whose square is an error too
        law = KineticLangevin(step_size=eta, friction=gamma)
        end = simulate(problem, ensemble, law, steps=round(2 * gamma / eta), record_every=1000).ensemble
        off.append(np.abs(end.u - flow.u).max())
    assert off[1] < 0.35 * off[0]


def test_momentum_descends_faster_than_plain_descent():
    """An automatic run without noise: lower after as many steps, where curvatures differ."""
    problem = Problem(X, X[:, 0] * X[:, 1], loss="squared", reg=1e-3)
    runs = [
        simulate(problem, Ensemble.sphere(512, 3, seed=0), law, steps=100, anneal=False, record_every=20)
        for law in (KineticLangevin(friction=1.0), GradientFlow())
    ]
    ends = [run.trace["objective"][-1] for run in runs]
    assert ends[0] < 0.6 * ends[1]


def test_further_penalties_pull_at_velocities():
    """‖θ‖⁴ and the path norm: v after a short step from rest is −η/2 ∇p λ."""
    ensemble = Ensemble.gaussian(50, 3, seed=2, dtype="float64")
    problem = still(0.5, penalty=Penalty(0.0, 0.0, quartic=0.7, path=1.1))
    end = simulate(problem, ensemble, KineticLangevin(step_size=1e-6, friction=0.0), steps=1).ensemble
    a, b = np.linalg.norm(ensemble.u, axis=1), np.abs(ensemble.w[:, 0])
    quartic = 4 * 0.7 * (a**2 + b**2)
    assert end.velocity.u == pytest.approx(-0.5e-6 * 0.5 * (quartic + 1.1 * b / a)[:, None] * ensemble.u, rel=1e-6)
    assert end.velocity.w[:, 0] == pytest.approx(-0.5e-6 * 0.5 * (quartic + 1.1 * a / b) * ensemble.w[:, 0], rel=1e-6)


def test_a_frozen_layer_stays():
    """To the bit."""
    ensemble = Ensemble.sphere(100, 3, seed=0)
    problem = Problem(X, Y, temperature=0.1)
    end = simulate(problem, ensemble, KineticLangevin(rates=(0, 1)), steps=5).ensemble
    assert np.array_equal(end.u, ensemble.u)
    assert not np.array_equal(end.w, ensemble.w)


@pytest.mark.parametrize(("outputs", "batch"), [(1, None), (3, 11)])
def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path, outputs, batch):
    """Velocities are in the file; threads change nothing; a copy has its own."""
    problem, law, path = example(outputs), KineticLangevin(friction=0.5, batch=batch), tmp_path / "run.h5"
    whole = simulate(problem, start(outputs), law, steps=20, threads=1, **SETTINGS)
    part = simulate(problem, start(outputs), law, steps=9, threads=2, out=path, **SETTINGS)
    kept = load(path).ensemble.velocity
    assert np.array_equal(kept.theta, part.ensemble.velocity.theta)
    assert part.ensemble.velocity.u.any()
    rest = resume(path, until=20, threads=3, measures=SETTINGS["measures"])
    assert_same(whole, rest)
    assert np.array_equal(whole.ensemble.velocity.theta, rest.ensemble.velocity.theta)
    copy = whole.ensemble.copy()
    assert not np.shares_memory(copy.velocity.theta, whole.ensemble.velocity.theta)


def test_velocities_of_another_shape_are_refused(tmp_path):
    """Velocities that are not of their particles are not saved, and what was there stays."""
    from meanfield.storage import run_file

    path = tmp_path / "run.h5"
    simulate(example(), start(), KineticLangevin(), steps=2, out=path, **SETTINGS)
    content = run_file.load(path)
    content.velocity_u = content.velocity_u[:-1]
    with pytest.raises(RunFileError, match="do not belong together"):
        run_file.save(path, content)
    assert load(path).ensemble.step == 2
    with pytest.raises(InputError, match="friction"):
        KineticLangevin(friction=-1.0)
