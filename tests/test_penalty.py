"""Laws of penalties and of rates by layer: gradients, flows without data, minima they share, frozen layers, λ = 0."""

import math

import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import (
    Ensemble,
    GradientFlow,
    Implicit,
    InputError,
    Langevin,
    Penalty,
    PerturbedFlow,
    Problem,
    certify,
    diagnostics,
    exact,
    resume,
    simulate,
)
from meanfield.dynamics import Field
from meanfield.engine.engine import Coefficients, Engine
from meanfield.simulation.toml import load_config, parse_config, to_toml

MIXED = Penalty(input=0.3, output=2.0, quartic=0.7, path=1.1)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 3))
Y = np.sign(X[:, 0] * X[:, 1])


def lengths(ensemble):
    """‖u‖ and ‖w‖, (m,)."""
    return np.linalg.norm(ensemble.u, axis=1), np.linalg.norm(ensemble.w, axis=1)


def still(reg, penalty, outputs=1):
    """Data that pull at nothing: only the penalty acts."""
    return Problem(np.zeros((1, 3)), np.zeros((1, outputs)), loss="squared", reg=reg, penalty=penalty)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_penalty_gradient_and_potential_are_those_of_the_formula(outputs, dtype):
    """∫p, ∫‖∇L'‖² and L'(θ) from the passes against p and its derivatives by layer, written out."""
    ensemble, r = Ensemble.gaussian(130, 3, outputs, dtype=dtype, seed=3), RNG.standard_normal((30, outputs)) / 30
    w, u, (a, b), reg = ensemble.w.astype(float), ensemble.u.astype(float), lengths(ensemble), 0.4
    engine = Engine(X, outputs, dtype, 2, penalty=MIXED.coefficients)
    p = 0.3 * a**2 + 2.0 * b**2 + 0.7 * (a**2 + b**2) ** 2 + 1.1 * a * b
    eps = 1e-5 if dtype == "float32" else 1e-12
    assert engine.predict(ensemble.particles).penalty == pytest.approx(p.mean(), rel=eps)
    z = X @ u.T
    by_w = np.maximum(z, 0).T @ r
    by_u = ((z > 0) * (r @ w.T)).T @ X
    quartic = 4 * 0.7 * (a**2 + b**2)
    whole_u = by_u + reg * (0.6 + quartic + 1.1 * b / a)[:, None] * u
    whole_w = by_w + reg * (4.0 + quartic + 1.1 * a / b)[:, None] * w
    square, potential = engine.observe(ensemble.particles, r, reg, potentials=True)
    assert square == pytest.approx((np.sum(whole_u**2) + np.sum(whole_w**2)) / 130, rel=10 * eps)
    assert potential == pytest.approx(np.sum(w * by_w, axis=1) + reg * p, rel=100 * eps)


def test_each_layer_shrinks_by_its_own_weight_and_rate():
    """Without a residual u = e^{−2λat}u₀, w = e^{−2λbst}w₀ for any step; at λ = 0 nothing moves."""
    ensemble = Ensemble.gaussian(100, 3, dtype="float64", seed=1)
    flow = GradientFlow(step_size=2.0, rates=(1.0, 0.5))
    end = simulate(still(0.1, Penalty(input=3.0, output=5.0)), ensemble, flow, steps=2).ensemble
    assert end.u == pytest.approx(math.exp(-2 * 0.1 * 3 * 4) * ensemble.u, rel=1e-12)
    assert end.w == pytest.approx(math.exp(-2 * 0.1 * 5 * 0.5 * 4) * ensemble.w, rel=1e-12)
    end = simulate(still(0.0, Penalty()), ensemble, flow, steps=2).ensemble
    assert np.array_equal(end.theta, ensemble.theta)


def test_the_quartic_flow_is_exact_for_any_step():
    """s = ‖θ‖² falls as s/(1 + 8λqst): one step of 8 is eight of 1."""
    ensemble = Ensemble.gaussian(100, 3, dtype="float64", seed=1)
    problem = still(0.1, Penalty(0.0, 0.0, quartic=2.0))
    once, often = (simulate(problem, ensemble, GradientFlow(8.0 / k), steps=k).ensemble for k in (1, 8))
    s = np.sum(ensemble.u**2, axis=1) + ensemble.w[:, 0] ** 2
    assert once.u == pytest.approx(ensemble.u / np.sqrt(1 + 8 * 0.1 * 2 * s * 8)[:, None], rel=1e-12)
    assert often.u == pytest.approx(once.u, rel=1e-12)


def test_the_path_norm_kills_the_smaller_layer_and_keeps_the_difference_of_squares():
    """d‖u‖/dt = −λ‖w‖ and d‖w‖/dt = −λ‖u‖ until one is 0, for good: ‖u‖² − ‖w‖² stays; first order in η."""
    ensemble, errors = Ensemble.gaussian(200, 3, dtype="float64", seed=1), []
    a, b = lengths(ensemble)
    for steps in (100, 200):
        end = simulate(still(0.5, Penalty(0, 0, path=1.0)), ensemble, GradientFlow(10 / steps), steps=steps).ensemble
        after, other = lengths(end)
        dead = a > b
        assert 0.5 < np.mean(dead) < 1
        assert not other[np.arctanh(b / a, where=dead, out=np.full(200, np.inf)) < 4].any()
        errors.append(np.abs(after[dead] ** 2 - (a**2 - b**2)[dead]).max())
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("penalty", [Penalty(output=4.0), Penalty(0.0, 0.0, path=2.0), Penalty(0.25, 1.0, path=1.0)])
def test_the_minimum_is_that_of_one_weight_for_both_layers(penalty):
    """p ≥ 2 factor ‖u‖‖w‖, with equality at the best scaling of a neuron: the minimum is that of factor·λ‖θ‖²."""
    plain = exact.optimum(Problem(X, Y, reg=5e-3 * penalty.factor))
    problem = Problem(X, Y, reg=5e-3, penalty=penalty)
    result = simulate(problem, Ensemble.sphere(512, 3, seed=0), GradientFlow(), steps=3000, record_every=100)
    objective = result.trace["objective"][-1]
    assert plain.lower_bound <= objective <= 1.005 * plain.value
    assert result.final_gap.missing.endswith(f"the minimum is that of reg = {5e-3 * penalty.factor:.6g} alone")


def test_the_step_at_no_penalty_is_the_limit_of_small_ones():
    """λ → 0 in the run, noise included: variance 2τt of a particle that nothing holds."""
    ensemble, flow = Ensemble.sphere(300, 3, dtype="float64", seed=2), GradientFlow(step_size=0.5)
    ends = [simulate(Problem(X, Y, reg=reg), ensemble, flow, steps=50).ensemble for reg in (0.0, 1e-13)]
    assert ends[0].u == pytest.approx(ends[1].u, rel=1e-9, abs=1e-11)
    free = Problem(np.zeros((1, 3)), [0.0], loss="squared", reg=0.0, temperature=0.02)
    many = Ensemble.from_arrays(np.zeros((1 << 15, 1)), np.zeros((1 << 15, 3)), seed=4)
    moved = simulate(free, many, Langevin(step_size=0.25), steps=8).ensemble
    for numbers in (moved.u.ravel(), moved.w.ravel()):
        assert numbers.var() == pytest.approx(2 * 0.02 * 2.0, rel=5 * math.sqrt(2 / len(numbers)))


@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.2, 3.0)])
def test_rates_do_not_change_the_law_that_noise_leads_to(rates):
    """A layer without data ends at N(0, τ/2λa), whatever its rate."""
    problem = still(0.5, Penalty(input=1.0, output=4.0)).with_schedules(reg=0.5, temperature=0.3)
    many = Ensemble.gaussian(1 << 15, 3, seed=4)
    end = simulate(problem, many, Langevin(step_size=3.0, rates=rates), steps=8).ensemble
    for numbers, variance in ((end.u.ravel(), 0.3), (end.w.ravel(), 0.3 / 4)):
        assert numbers.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / len(numbers)))


def test_a_frozen_layer_keeps_its_bits_and_random_features_end_at_ridge_regression():
    """rates (0, 1): u stays to the bit, and w is then a convex problem with a closed form."""
    problem = Problem(X, X[:, 0] * X[:, 1], loss="squared", reg=5e-2)
    ensemble = Ensemble.sphere(64, 3, dtype="float64", seed=0)
    end = simulate(problem, ensemble, GradientFlow(rates=(0, 1)), steps=2000, record_every=500).ensemble
    assert np.array_equal(end.u, ensemble.u)
    phi = np.maximum(X @ ensemble.u.T, 0)
    K = phi @ phi.T / 64
    f = K @ np.linalg.solve(K + 2 * 5e-2 * 30 * np.eye(30), X[:, 0] * X[:, 1])
    assert end.predict(X) == pytest.approx(f, abs=1e-6)
    other = simulate(problem, ensemble, Langevin(rates=(1, 0)), steps=20).ensemble
    assert np.array_equal(other.w, ensemble.w)
    assert not np.array_equal(other.u, ensemble.u)


def test_a_rate_of_both_layers_is_a_longer_step():
    """rates (2, 2) at η is rates (1, 1) at 2η, bit for bit; an automatic step is half as long."""
    ensemble, problem = Ensemble.sphere(100, 3, seed=0), Problem(X, Y, reg=1e-2)
    one, two = (
        simulate(problem, ensemble, law, steps=5) for law in (GradientFlow(0.5), GradientFlow(0.25, rates=(2, 2)))
    )
    assert np.array_equal(one.ensemble.theta, two.ensemble.theta)
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    eta = [
        law.eta(field, ensemble.copy(), moments, field.residual(moments))
        for law in (Langevin(), Langevin(rates=(2, 0)))
    ]
    assert eta[0] == 2 * eta[1]


K = 9  # where runs are cut: no multiple of record_every (5) or checkpoint_every (7)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path, outputs):
    """Penalty, rates and schedules are in the file; threads change nothing."""
    problem, law = example(outputs, penalty=MIXED), Langevin(rates=(0.5, 2.0), step_size=0.2)
    whole = simulate(problem, start(outputs), law, steps=20, threads=1, **SETTINGS)
    simulate(problem, start(outputs), law, steps=K, threads=2, out=tmp_path / "run.h5", **SETTINGS)
    rest = resume(tmp_path / "run.h5", until=20, threads=3, measures=SETTINGS["measures"])
    assert_same(whole, rest)
    assert rest.run.problem.penalty == MIXED
    assert rest.run.dynamics.rates == law.rates


def test_a_configuration_says_it_too(tmp_path):
    """[penalty], rates and reg = 0 make explicit runs at a constant λ, kept as they are; a file holds them."""
    text = "[objective]\nreg = 0.0\n[penalty]\noutput = 4.0\npath = 0.5\n[dynamics]\nrates = [0, 1]\n"
    (tmp_path / "run.toml").write_text(text)
    config = load_config(tmp_path / "run.toml")
    assert config.dynamics.method == "langevin"
    assert parse_config(to_toml(config), "again") == config
    small = ["--set", "data.n=20", "--set", "data.d=4", "--set", "ensemble.m=64", "--set", "run.steps=6"]
    command = ["run", tmp_path / "run.toml", "--out", tmp_path / "run.h5", *small, "--quiet", "--json"]
    status, out, err = in_process(*command)
    assert (status, err) == (0, "")
    assert '"relative_gap": null' in out
    assert resume(tmp_path / "run.h5", more=2).run.problem.penalty == Penalty(output=4.0, path=0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["penalty.quartic=-1"], "penalty.quartic = -1: must be at least 0"),
        (
            ["penalty.output=2.0", "dynamics.method=implicit"],
            "dynamics.method = 'implicit': needs reg > 0, the penalty",
        ),
        (["objective.reg=0.0", "dynamics.method=implicit"], "dynamics.method = 'implicit': needs reg > 0, the penalty"),
        (["objective.reg=0.0", "record.gap=true"], "record.gap = true: needs reg > 0"),
        (["dynamics.rates=[0, 0]"], "must be two finite numbers, of u and of w, at least 0 and not both 0"),
        (["dynamics.rates=[1, 2]", "dynamics.method=implicit"], "an implicit step moves both layers alike"),
        (["dynamics.rates=[0, 1]", "dynamics.method=perturbed_flow"], "rebirth moves both layers"),
        (["penalty.ouput=2.0"], "did you mean penalty.output?"),
        (["objective.reg=-1e-3"], "objective.reg = -0.001: must be at least 0"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(tmp_path, settings, words):
    """By the command, naming the key and what would be valid."""
    asked = [word for one in settings for word in ("--set", one)]
    status, _, err = in_process("run", "--out", tmp_path / "run.h5", *asked)
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_references_refuse_what_they_do_not_know():
    """Bounds, certificates, stationarity and implicit steps: in one line, with the λ of the same minimum."""
    ensemble = Ensemble.sphere(64, 3, seed=0)
    weighted, free = Problem(X, Y, reg=1e-2, penalty={"output": 4.0}), Problem(X, Y, reg=0.0)
    quartic = Problem(X, Y, reg=1e-2, penalty=Penalty(quartic=1.0))
    for problem, words in ((weighted, "minimum is that of reg = 0.02 alone"), (free, "needs λ > 0"), (quartic, "‖θ‖²")):
        field = Field(problem, ensemble.dtype)
        for ask in (
            lambda p=problem: certify(p, ensemble),
            lambda p=problem: exact.optimum(p),
            lambda f=field: diagnostics.stationarity(f, ensemble, f.predict(ensemble)),
            lambda f=field: Implicit().step(f, ensemble.copy(), f.predict(ensemble)),
            lambda p=problem: p.critical_reg(),
        ):
            with pytest.raises(InputError, match=words):
                ask()
    for wrong in ((1,), (0, 0), (-1, 1), (1, math.nan), "ab", (True, 1)):
        with pytest.raises(InputError, match="rates"):
            Langevin(rates=wrong)
    for wrong in ({"inputs": 1.0}, {"path": -1.0}, 3.0, {"output": "1"}):
        with pytest.raises(InputError, match="penalty"):
            Problem(X, Y, penalty=wrong)
    with pytest.raises(InputError, match="rebirth"):
        PerturbedFlow(rates=(0, 1))
    assert Langevin(rates=(np.float32(0.5), np.int64(1))).rates == (0.5, 1.0)
    assert Problem(X, Y, penalty={"path": np.float32(0.5)}, output_scale=np.int64(2)).penalty.path == 0.5
    assert Coefficients(*MIXED.coefficients).times(2.0) == (0.6, 4.0, 1.4, 2.2)
