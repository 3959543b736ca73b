"""Laws of motion: what the scheme solves exactly, its order, and the step size that it chooses for itself."""

import copy
import itertools
import math
import pickle

import naive
import numpy as np
import pytest

from meanfield.dynamics import (
    DYNAMICS,
    BirthDeath,
    Field,
    GradientFlow,
    Langevin,
    PerturbedFlow,
    exponential_move,
)
from meanfield.dynamics.step_size import curvature_bound, curvature_ratio, pull_bound
from meanfield.engine.noise import Purpose, normals
from meanfield.ensemble import Ensemble
from meanfield.errors import InputError
from meanfield.problem import Problem
from meanfield.schedules import Schedule
from meanfield.simulation.loop import simulate

LOSSES = ["logistic", "squared", "cross_entropy"]


def example(loss, n=30, d=5, *, scale=1.0, seed=0, **settings):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = {"logistic": np.sign(X[:, 0] * X[:, 1]), "squared": X[:, 0] * X[:, 1], "cross_entropy": np.arange(n) % 3}[loss]
    return Problem(X * scale, y, loss=loss, **settings)


def silent(d=4, reg=0.1, temperature=0.0):
    """A problem whose residual is zero wherever the particles are: its one input is the origin, its target 0."""
    return Problem(np.zeros((1, d)), np.zeros(1), loss="squared", reg=reg, temperature=temperature)


def run(problem, ensemble, dynamics, steps):
    """The ensemble after so many steps of the bare dynamics."""
    ensemble, field = ensemble.copy(), Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    for _ in range(steps):
        moments = dynamics.step(field, ensemble, moments)
    return ensemble


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_the_twins(loss):
    """The exponential scheme with noise of the step's own address, λ and τ at their schedules' values."""
    settings = {
        "reg": {"start": 0.4, "end": 0.1, "steps": 2, "shape": "geometric"},
        "temperature": {"start": 0.2, "end": 0.0, "steps": 2, "shape": "linear"},
    }
    problem = example(loss, **settings)
    ensemble = Ensemble.gaussian(40, 5, problem.outputs, seed=2, dtype="float64")
    field, dynamics = Field(problem, ensemble.dtype), Langevin(step_size=0.3)
    moments = field.predict(ensemble)
    for k, reg, temperature in ((0, 0.4, 0.2), (1, 0.2, 0.1), (2, 0.1, 0.0)):
        w, u = ensemble.w, ensemble.u
        xi = normals(2, Purpose.LANGEVIN, k, 40, 5 + problem.outputs, dtype="float64")
        residual = problem.loss.residual(naive.predict(w, u, problem.X), problem.targets)
        w, u = naive.step(w, u, problem.X, residual, 0.3, reg, temperature, xi)
        moments = dynamics.step(field, ensemble, moments)
        assert np.abs(ensemble.w - w).max() < 1e-13
        assert np.abs(ensemble.u - u).max() < 1e-13
        assert np.abs(moments.f - naive.predict(w, u, problem.X)).max() < 1e-13
        assert (ensemble.step, ensemble.memory["step_size"]) == (k + 1, 0.3)
        assert ensemble.time == pytest.approx(0.3 * (k + 1))


@pytest.mark.parametrize("eta", [1e-3, 1.0, 100.0])
def test_decay_is_exact_for_any_step(eta):
    """At zero residual θ(t) = e^{−2λt} θ(0): one step of η, whatever its size."""
    problem, ensemble = silent(), Ensemble.gaussian(50, 4, dtype="float64")
    moved = run(problem, ensemble, GradientFlow(step_size=eta), 1)
    assert np.abs(moved.u - math.exp(-0.2 * eta) * ensemble.u).max() < 1e-15
    halves = run(problem, ensemble, GradientFlow(step_size=eta / 2), 2)
    assert np.abs(moved.u - halves.u).max() < 1e-15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [1, 16])
def test_free_particles_diffuse_by_two_tau_t(dtype, steps):
    """Without pull a component's variance grows by 2τt, in one step or many."""
    tau, time, m = 0.3, 2.0, 40_000
    ensemble = Ensemble.empty(m, 4, 1, dtype, seed=1)
    moved = run(silent(reg=1e-9, temperature=tau), ensemble, Langevin(step_size=time / steps), steps)
    z = np.hstack([moved.u, moved.w]) / math.sqrt(2 * tau * time)
    assert np.abs((z**2).mean(axis=0) - 1).max() < 4.5 * math.sqrt(2 / m)
    assert np.abs(np.corrcoef(z, rowvar=False) - np.eye(5)).max() < 4.5 / math.sqrt(m)


@pytest.mark.parametrize("eta", [0.5, 20.0])
def test_the_stationary_law_has_no_bias_in_the_step(eta):
    """Ornstein–Uhlenbeck at zero residual: variance τ/(2λ) for any η, where Euler's scheme would add a factor."""
    reg, tau, m = 0.1, 0.05, 40_000
    ensemble = Ensemble.empty(m, 4, 1, "float64", seed=3)
    moved = run(silent(reg=reg, temperature=tau), ensemble, Langevin(step_size=eta), math.ceil(40 / eta) + 1)
    z2 = np.hstack([moved.u, moved.w]) ** 2 / (tau / (2 * reg))
    assert abs(z2.mean() - 1) < 4.5 * math.sqrt(2 / (5 * m))


def test_the_scheme_is_of_first_order():
    """Halving η halves the distance to the flow at a fixed time; the residual's pull included, no kink crossed."""
    problem = Problem(np.array([[1.0, 0.2], [0.3, 1.0]]), np.array([1.0, -0.5]), loss="squared", reg=0.05)
    rng = np.random.default_rng(0)
    ensemble = Ensemble.from_arrays(rng.standard_normal(20), np.abs(rng.standard_normal((20, 2))) + 1)
    runs = [run(problem, ensemble, GradientFlow(step_size=1.0 / steps), steps) for steps in (20, 40, 80, 5120)]
    assert all((end.u @ problem.X.T).min() > 0.1 for end in runs)  # no kink was crossed
    ends = [end.theta for end in runs]
    errors = [np.abs(end - ends[-1]).max() for end in ends[:-1]]
    assert np.abs(ends[-1] - ensemble.theta).max() > 0.3  # it did move
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.85 < order < 1.15 for order in orders)


def test_to_first_order_it_is_gradient_descent():
    """Coefficients → 1 − 2λη, η and √(2ητ) as η → 0, with relative errors of order λη."""
    for eta in (1e-2, 1e-4):
        move = exponential_move(eta, 0.3, 0.7)
        assert move.shrink / (2 * 0.3 * eta) == pytest.approx(1, abs=eta)
        assert move.drift / eta == pytest.approx(1, abs=eta)
        assert move.noise / math.sqrt(2 * eta * 0.7) == pytest.approx(1, abs=eta)
    tiny = exponential_move(1e-8, 1e-8, 1.0)  # no cancellation in 1 − e^{−2λη}
    assert tiny.drift == pytest.approx(1e-8, rel=1e-12)
    assert tiny.noise == pytest.approx(math.sqrt(2e-8), rel=1e-12)


def test_gradient_flow_is_langevin_without_noise():
    """Bit for bit at τ = 0; and whatever τ is, gradient flow does not feel it."""
    ensemble = Ensemble.sphere(200, 5)
    cold, warm = example("logistic"), example("logistic", temperature=0.1)
    flow = run(cold, ensemble, GradientFlow(), 5)
    assert np.array_equal(run(cold, ensemble, Langevin(), 5).theta, flow.theta)
    assert np.array_equal(run(warm, ensemble, GradientFlow(), 5).theta, flow.theta)
    assert not np.array_equal(run(warm, ensemble, Langevin(), 5).theta, flow.theta)


def test_perturbed_flow_without_rebirth_is_gradient_flow():
    """Bit for bit at σ = 0; at σ > 0 each step replaces the fraction 1 − e^{−ση}."""
    problem, ensemble = example("logistic"), Ensemble.sphere(20_000, 5)
    flow = run(problem, ensemble, GradientFlow(step_size=0.1), 1)
    assert np.array_equal(run(problem, ensemble, PerturbedFlow(step_size=0.1, rebirth_rate=0.0), 1).theta, flow.theta)
    perturbed = run(problem, ensemble, PerturbedFlow(step_size=0.1, rebirth_rate=2.0), 1)
    reborn, p = (perturbed.u != flow.u).any(axis=1).mean(), -math.expm1(-0.2)
    assert abs(reborn - p) < 4.5 * math.sqrt(p * (1 - p) / 20_000)


def test_birth_death_moves_mass_downhill():
    """At zero drift the mean potential changes at the rate −α Var(L'), and no particle is new."""
    problem = silent(reg=0.5)
    ensemble = Ensemble.gaussian(100_000, 4, dtype="float64", seed=6)
    eta, alpha = 1e-3, 20.0
    still = run(problem, ensemble, GradientFlow(step_size=eta), 1)
    moved = run(problem, ensemble, BirthDeath(step_size=eta, exchange_rate=alpha), 1)
    before, after = (0.5 * np.sum(np.hstack([e.u, e.w]) ** 2, axis=1) for e in (still, moved))
    assert set(np.unique(after)) <= set(np.unique(before))
    change, expected = after.mean() - before.mean(), -alpha * eta * before.var()
    assert change == pytest.approx(expected, rel=0.1)
    assert np.array_equal(run(problem, ensemble, BirthDeath(step_size=eta, exchange_rate=0.0), 1).theta, still.theta)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("m", [10, 10_000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_automatic_step_stays_stable_on_any_scale(loss, m, scale):
    """Features by 10^{±3}, with λ to match (f ~ scale·θ²): finite, and the objective falls."""
    problem = example(loss, scale=scale, reg=1e-3 * scale)
    start = Ensemble.sphere(m, 5, problem.outputs, scale=scale**-0.5)
    result = simulate(problem, start, Langevin(), steps=150, record_every=10, anneal=False)
    objective = result.trace["objective"]
    assert np.isfinite(objective).all()
    assert objective[-1] < objective[0]
    assert np.all(np.diff(objective) <= 0.01 * np.abs(objective[:-1]))


def test_an_automatic_step_follows_the_features():
    """x → s x, λ → s λ, θ → θ/√s is the same problem with time scaled by 1/s: η scales so, particles likewise."""
    s = 1024.0  # a square of a power of two: the scaled run is the same one bit for bit, up to the power iteration
    ends = []
    for scale in (1.0, s):
        problem = example("logistic", scale=scale, reg=1e-2 * scale)
        rng = np.random.default_rng(1)
        w, u = rng.standard_normal((100, 1)), rng.standard_normal((100, 5))
        ends.append(run(problem, Ensemble.from_arrays(w / scale**0.5, u / scale**0.5), Langevin(), 20))
    assert ends[1].memory["step_size"] == pytest.approx(ends[0].memory["step_size"] / s, rel=1e-3)
    assert np.abs(ends[1].u * s**0.5 - ends[0].u).max() < 1e-3


@pytest.mark.parametrize("loss", LOSSES)
def test_an_automatic_step_depends_on_the_state_alone(loss):
    """A new field and a copy of the ensemble, at any step, choose the same η to the last bit; threads do not matter."""
    problem, dynamics = example(loss, temperature=1e-3), Langevin()
    ensemble = Ensemble.sphere(3000, 5, problem.outputs)
    field = Field(problem, ensemble.dtype, 1)
    moments = field.predict(ensemble)
    for k in range(70):
        if k in (0, 1, 3, 32, 49, 50, 63, 69):
            other, copied = Field(problem, ensemble.dtype, 2), ensemble.copy()
            dynamics.step(other, copied, other.predict(copied))
        moments = dynamics.step(field, ensemble, moments)
        if k in (0, 1, 3, 32, 49, 50, 63, 69):
            assert copied.memory == ensemble.memory
            assert np.array_equal(copied.theta, ensemble.theta)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_curvature_bounds_hold(loss):
    """Every particle's pull matrix is below `pull_bound`, the tangent kernel's top eigenvalue below `curvature_bound`;
    power iteration comes from below: at its default length beyond half of the eigenvalue, at length within 2 %."""
    problem = example(loss, n=25)
    ensemble = Ensemble.gaussian(300, 5, problem.outputs, dtype="float64")
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    residual = field.residual(moments)
    on = (problem.X @ ensemble.u.T > 0).astype(float)
    largest = max(np.linalg.norm((residual * on[:, [j]]).T @ problem.X, 2) for j in range(300))
    assert 0 < largest <= pull_bound(field, residual) * (1 + 1e-12)

    jacobian = np.zeros((25, problem.outputs, 300, 5 + problem.outputs))  # ∂f_ic/∂θ_j, times √m
    for c in range(problem.outputs):
        jacobian[:, c, :, :5] = (on * ensemble.w[:, c])[:, :, None] * problem.X[:, None, :]
        jacobian[:, c, :, 5 + c] = np.maximum(problem.X @ ensemble.u.T, 0)
    flat = jacobian.reshape(25 * problem.outputs, -1) / math.sqrt(300)
    weights = np.repeat(np.sqrt(problem.loss.curvature(moments.f, problem.targets) / 25), problem.outputs)
    top = np.linalg.norm(weights[:, None] * flat, 2) ** 2
    bound = curvature_bound(field, moments)
    assert top <= bound
    assert 0.5 * top < curvature_ratio(field, ensemble, moments) * bound < 1.02 * top
    if loss != "cross_entropy":  # whose curvature is itself a bound
        assert curvature_ratio(field, ensemble, moments, iterations=60) * bound == pytest.approx(top, rel=0.02)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Langevin(step_size="fast"), "step_size"),
        (lambda: Langevin(step_size=0.0), "step_size"),
        (lambda: Langevin(step_size=-1.0), "step_size"),
        (lambda: Langevin(step_size=float("inf")), "finite"),
        (lambda: Langevin(batch=0), "batch"),
        (lambda: PerturbedFlow(rebirth_rate=-1.0), "rebirth_rate"),
        (lambda: BirthDeath(exchange_rate=math.nan), "exchange_rate"),
    ],
)
def test_bad_settings_are_named(make, named):
    """InputError, in one line."""
    with pytest.raises(InputError, match=named):
        make()


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_dynamics_is_what_its_section_says(name):
    """Through the words of a configuration and back."""
    dynamics = DYNAMICS[name](step_size=0.25)
    section = dynamics.section()
    assert section["method"] == name
    assert DYNAMICS[name].of(type("Section", (), section)) == dynamics


def reflected(ensemble):
    """Every particle set to another place."""
    ensemble.fill(0, 0.5 * ensemble.w, -ensemble.u)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dynamics", [Langevin(), BirthDeath(exchange_rate=5.0), GradientFlow(step_size=0.1)])
def test_a_callback_may_edit_the_particles(loss, dynamics):
    """Edited between two steps they move as in a run that was stopped, edited and taken up by a fresh engine."""
    problem = example(loss, temperature=1e-3, reg=0.01)
    start = Ensemble.sphere(200, 5, problem.outputs, seed=3)
    settings = {"record_every": 5, "anneal": False}

    def callback(ensemble, row):
        if row["step"] == 10:
            reflected(ensemble)

    live = simulate(problem, start, dynamics, steps=20, callback=callback, **settings)
    stopped = simulate(problem, start, dynamics, steps=10, **settings).ensemble
    reflected(stopped)
    later = simulate(problem, stopped, dynamics, steps=10, **settings)
    assert np.array_equal(live.ensemble.theta, later.ensemble.theta)
    assert live.ensemble.memory == later.ensemble.memory
    for name in ("step", "time", "objective", "penalty"):
        assert np.array_equal(live.trace[name][3:], later.trace[name][1:]), name


PICKLED = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


@pytest.mark.parametrize("again", PICKLED)
@pytest.mark.parametrize("name", DYNAMICS)
def test_a_dynamics_can_be_copied_and_pickled(name, again):
    """And is then equal to the first."""
    for step_size in ("auto", 0.5, Schedule("linear", 1.0, 0.5, 10)):
        dynamics = DYNAMICS[name](step_size=step_size, batch=None if name == "implicit" else 7)
        assert again(dynamics) == dynamics
        assert type(again(dynamics)) is type(dynamics)


@pytest.mark.parametrize("again", PICKLED)
def test_a_field_can_be_copied_and_pickled(again):
    """In the middle of a run: the next step has the same bits."""
    problem, dynamics = example("logistic"), Langevin(step_size=0.1)
    ensemble = Ensemble.sphere(100, 5)
    field = Field(problem, ensemble.dtype, 1)
    moments = dynamics.step(field, ensemble, field.predict(ensemble))
    second, copied = again(field), ensemble.copy()
    first = dynamics.step(field, ensemble, moments)
    assert np.array_equal(dynamics.step(second, copied, moments).f, first.f)
    assert np.array_equal(copied.theta, ensemble.theta)
