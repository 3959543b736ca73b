"""Physics of the dynamics: equilibrium, few-particle bias, descent, rebirth, exchange, minibatches, global minima."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from meanfield import exact
from meanfield.datasets.load import load_dataset
from meanfield.dynamics import BirthDeath, Field, GradientFlow, Langevin, PerturbedFlow, exponential_move
from meanfield.dynamics.birth_death import exchange
from meanfield.engine.engine import Engine, Move
from meanfield.engine.noise import Purpose, uniforms
from meanfield.ensemble import Ensemble
from meanfield.problem import Problem
from meanfield.simulation.config import check_config
from meanfield.simulation.loop import simulate

THREE_SIGMA = 2 * stats.norm.sf(3)


def xor(n, d, **settings):
    data = load_dataset(check_config({"data": {"source": "xor", "n": n, "d": d, "n_test": 0}}, "xor").data)
    return Problem(data.X, data.y, **settings)


def gaussian_inputs(loss="logistic", n=30, d=5, *, scale=1.0, **settings):
    X = np.random.default_rng(0).standard_normal((n, d))
    y = {"logistic": np.sign(X[:, 0] * X[:, 1]), "squared": X[:, 0] * X[:, 1], "cross_entropy": np.arange(n) % 3}[loss]
    return Problem(X * scale, y, loss=loss, **settings)


def excess(objective):
    """Largest rise above the running minimum, relative to it."""
    return float((objective / np.minimum.accumulate(objective) - 1).max())


def assert_same_run(a, b):
    """State and trace bit for bit."""
    assert np.array_equal(a.ensemble.theta, b.ensemble.theta)
    assert (a.ensemble.time, a.ensemble.memory) == (b.ensemble.time, b.ensemble.memory)
    assert list(a.trace) == list(b.trace)
    for name in a.trace:
        assert np.array_equal(a.trace[name], b.trace[name], equal_nan=True), name


# ---------------------------------------------------------------------------------------------------------------------
# equilibrium under a frozen residual: particles are independent, and their law is a Gibbs measure

REG, TEMPERATURE = 0.5, 0.3


def directions(d):
    """Nodes s (N, d) on the circle or the sphere, and weights of the uniform law."""
    if d == 2:
        angle = (np.arange(2**16) + 0.5) * (2 * np.pi / 2**16)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(2**16, 2.0**-16)
    z, weight = np.polynomial.legendre.leggauss(300)
    angle = (np.arange(600) + 0.5) * (2 * np.pi / 600)
    z, angle = np.repeat(z, 600), np.tile(angle, 300)
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1), np.repeat(weight, 600) / 1200


class Frozen:
    """Inputs X and a fixed residual r with max ‖G‖ = 0.6 · 2λ, and the Gibbs measure ∝ exp(−L'/τ) by quadrature."""

    def __init__(self, d, C, n=5):
        rng = np.random.default_rng(0)
        self.X, self.r, self.d, self.C = rng.standard_normal((n, d)), rng.standard_normal((n, C)), d, C
        self.s, uniform = directions(d)
        self.r *= 0.6 * 2 * REG / np.linalg.norm(self.pull(self.s), axis=1).max()
        self.q = 1 - np.sum(self.pull(self.s) ** 2, axis=1) / (2 * REG) ** 2
        self.p = uniform * self.q ** (-d / 2)
        self.p /= self.p.sum()

    def pull(self, u):
        """G(u) = Σ r_i relu(u·x_i) (…, C)."""
        return np.maximum(u @ self.X.T, 0) @ self.r

    def predictions(self):
        """E[w relu(u·x)] (n, C): w given u has mean −G(u)/2λ, |u|² given s has mean dτ/(2λq)."""
        weight = self.p * self.d * TEMPERATURE / (2 * REG * self.q)
        return -np.maximum(self.s @ self.X.T, 0).T @ (weight[:, None] * self.pull(self.s)) / (2 * REG)

    def relaxed(self, m, eta, seed, time=16.0):
        """Langevin particles after `time`; the slowest mean decays like e^{−0.4 t}."""
        ensemble = Ensemble.gaussian(m, self.d, self.C, seed=seed, dtype="float64")
        engine, move = Engine(self.X, self.C, "float64"), exponential_move(eta, REG, TEMPERATURE)
        engine.predict(ensemble.particles)
        for k in range(round(time / eta)):
            engine.advance(ensemble.particles, self.r, move, seed + 1, k)
        return ensemble


@pytest.mark.parametrize("C", [1, 2])
@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_under_a_frozen_residual_particles_relax_to_the_gibbs_measure(d, C):
    """Moments within three standard errors: of s ∝ q^{−d/2}, |u|² given s, w given u, and of Φ; four laws in full."""
    frozen, m = Frozen(d, C), 1 << 15
    ensemble = frozen.relaxed(m, 0.0125, seed=20)  # a step whose bias, of order η, is below half of these errors
    w, u = ensemble.w, ensemble.u
    norm2 = np.sum(u * u, axis=1)
    s, noise = u / np.sqrt(norm2)[:, None], w + frozen.pull(u) / (2 * REG)
    phi = (w[:, None, :] * np.maximum(u @ frozen.X.T, 0)[:, :, None]).reshape(m, -1)
    a, b = np.tril_indices(d)
    pairs = [
        (norm2[:, None], [d * TEMPERATURE / (2 * REG) * (frozen.p / frozen.q).sum()]),
        (s, frozen.p @ frozen.s),
        (s[:, a] * s[:, b], frozen.p @ (frozen.s[:, a] * frozen.s[:, b])),
        (phi, frozen.predictions().ravel()),
        (noise, np.zeros(C)),
        (noise**2, np.full(C, TEMPERATURE / (2 * REG))),
        (noise[:, :1] * u, np.zeros(d)),
        (noise * frozen.pull(u), np.zeros(C)),
    ]
    for sample, expected in pairs:
        error = sample.std(axis=0) / math.sqrt(m)
        assert error.min() > 0
        assert np.abs((sample.mean(axis=0) - expected) / error).max() < 3
    q = 1 - np.sum(frozen.pull(s) ** 2, axis=1) / (2 * REG) ** 2
    assert stats.kstest(q * norm2 * (2 * REG / TEMPERATURE), stats.chi2(d).cdf).pvalue > THREE_SIGMA
    assert stats.kstest(noise[:, 0] * math.sqrt(2 * REG / TEMPERATURE), stats.norm.cdf).pvalue > THREE_SIGMA
    if d == 2:
        angle = np.arctan2(-u[:, 1], -u[:, 0]) + np.pi
        grid, mass = np.linspace(0, 2 * np.pi, len(frozen.p) + 1), np.append(0, np.cumsum(frozen.p))
        assert stats.kstest(angle, lambda x: np.interp(x, grid, mass)).pvalue > THREE_SIGMA


@pytest.mark.parametrize(("d", "C", "m"), [(2, 1, 1 << 19), (3, 2, 1 << 18)])
def test_the_bias_of_the_step_is_of_first_order(d, C, m):
    """⟨r, f⟩ in equilibrium against quadrature: half of η has half of the bias, clear of the noise."""
    frozen = Frozen(d, C)
    exact_value, biases = float(np.sum(frozen.r * frozen.predictions())), []
    for eta in (0.4, 0.2):
        ensemble = frozen.relaxed(m, eta, seed=30, time=12.0)
        sample = np.sum(ensemble.w * frozen.pull(ensemble.u), axis=1)
        biases.append(sample.mean() - exact_value)
        assert abs(biases[-1]) > 6 * sample.std() / math.sqrt(m)
    assert 0.75 < math.log2(biases[0] / biases[1]) < 1.25


# ---------------------------------------------------------------------------------------------------------------------
# interacting particles


def alignments(problem, gibbs, m, seeds, steps=1200, burn=100):
    """⟨f, f∞⟩/‖f∞‖² averaged over a run's time, for each seed; started from samples of the Gibbs measure."""
    field, dynamics = Field(problem, np.dtype("float64"), 1), Langevin(step_size=0.2)
    direction, values = gibbs.f / np.sum(gibbs.f**2), []
    for seed in seeds:
        ensemble, total = Ensemble.from_arrays(*gibbs.samples(m, seed), seed=seed), 0.0
        moments = field.predict(ensemble)
        for k in range(steps):
            moments = dynamics.step(field, ensemble, moments)
            total += float(np.sum(moments.f * direction)) if k >= burn else 0.0
        values.append(total / (steps - burn))
    return np.array(values)


@pytest.mark.slow
def test_the_bias_of_few_particles_falls_like_one_over_m():
    """Mean of f over seeds, m = 4, 8, 16, less that of 65536 particles at the same η: m · bias is one number, not 0."""
    X = np.random.default_rng(0).standard_normal((4, 2))
    problem = Problem(X, np.array([1.0, -1, 1, -1]), loss="squared", reg=0.2, temperature=0.1)
    gibbs = exact.gibbs(problem)
    limit = alignments(problem, gibbs, 1 << 16, [99], steps=300)[0]
    assert limit == pytest.approx(1, abs=0.01)  # what is left is the step's bias
    scaled = {}
    for m in (4, 8, 16):
        values = m * (alignments(problem, gibbs, m, range(30)) - limit)
        scaled[m] = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
        assert abs(scaled[m][0]) > 6 * scaled[m][1]
    for (a, da), (b, db) in itertools.combinations(scaled.values(), 2):
        assert abs(a - b) < 3 * math.hypot(da, db)


def test_without_noise_the_objective_descends():
    """τ = 0, λ constant, the automatic step: on the paper's data no rise above the running minimum beyond 1e-3."""
    problem = xor(80, 20, reg=5e-3)
    trace = simulate(problem, Ensemble.sphere(1024, 20), Langevin(), steps=1500, record_every=1, anneal=False).trace
    objective = trace["objective"]
    assert objective[-1] < 0.3 * objective[0]
    assert excess(objective) <= 1e-3


def test_rises_of_the_objective_vanish_with_the_step():
    """Particles step over kinks and back: a quarter of the step, over the same time, rises at most a third as far."""
    problem = xor(80, 20, reg=5e-3)
    rises = []
    for eta in (2.0, 0.5):
        dynamics, steps = Langevin(step_size=eta), round(1000 / eta)
        trace = simulate(problem, Ensemble.sphere(1024, 20), dynamics, steps=steps, record_every=1).trace
        rises.append(excess(trace["objective"]))
    assert 1e-5 < rises[0] < 1e-3
    assert rises[1] < rises[0] / 3


# ---------------------------------------------------------------------------------------------------------------------
# perturbed flow


def reborn_in_steps(problem, ensemble, dynamics, steps):
    """Who was reborn in each step (steps, m), those who differ from where the flow alone takes them; and where."""
    field, flow, who, places = Field(problem, ensemble.dtype), GradientFlow(step_size=dynamics.step_size), [], []
    for _ in range(steps):
        still = ensemble.copy()
        flow.step(field, still, field.predict(still))
        dynamics.step(field, ensemble, field.predict(ensemble))
        who.append((still.u != ensemble.u).any(axis=1))
        places.append(np.hstack([ensemble.u, ensemble.w])[who[-1]])
    return np.array(who), np.concatenate(places)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rebirths_are_binomial_and_uniform_on_the_sphere(dtype):
    """Each step Binomial(m, 1 − e^{−ση}), independent of the last; the reborn have norm 1 and a sphere's marginals."""
    m, steps, sigma, eta, D = 3000, 60, 2.0, 0.2, 6
    p = -math.expm1(-sigma * eta)
    ensemble = Ensemble.gaussian(m, 5, dtype=dtype, seed=4)
    who, places = reborn_in_steps(gaussian_inputs(), ensemble, PerturbedFlow(eta, rebirth_rate=sigma), steps)
    z = (who.sum(axis=1) - m * p) / math.sqrt(m * p * (1 - p))
    assert abs(z.mean()) < 3 / math.sqrt(steps)
    assert abs(np.mean(z**2) - 1) < 3 * math.sqrt(2 / steps)
    twice, variance = (who[1:] & who[:-1]).mean(), p * p * (1 - p) * (1 + 3 * p)  # neighbouring pairs share a step
    assert abs(twice - p * p) < 3 * math.sqrt(variance / ((steps - 1) * m))
    assert np.abs(np.linalg.norm(places.astype(float), axis=1) - 1).max() < 4 * np.finfo(dtype).eps
    error = math.sqrt(1 / D / len(places))
    assert np.abs(places.mean(axis=0)).max() < 4 * error
    assert np.abs(D * places.T @ places / len(places) - np.eye(D)).max() < 4 * math.sqrt(2 / len(places))
    marginal = stats.beta((D - 1) / 2, (D - 1) / 2, loc=-1, scale=2).cdf
    for axis in (*np.eye(D)[[0, D - 1]], np.ones(D) / math.sqrt(D)):
        assert stats.kstest(places @ axis, marginal).pvalue > THREE_SIGMA


def test_survivors_decay_at_the_rebirth_rate():
    """Over the time T a particle is never reborn with probability e^{−σT}, whatever the step."""
    m, sigma, time = 20_000, 0.5, 2.0
    for steps in (1, 8):
        start = Ensemble.gaussian(m, 5, seed=8)
        who, _ = reborn_in_steps(gaussian_inputs(), start, PerturbedFlow(time / steps, rebirth_rate=sigma), steps)
        alive, p = (~who.any(axis=0)).mean(), math.exp(-sigma * time)
        assert abs(alive - p) < 3 * math.sqrt(p * (1 - p) / m)


@pytest.mark.parametrize("step_size", ["auto", 0.2])
def test_perturbed_flow_at_rate_zero_is_gradient_flow(step_size):
    """The whole run, state and trace, bit for bit; not so at a positive rate."""
    problem, start = gaussian_inputs(temperature=0.1), Ensemble.sphere(1500, 5)
    runs = [
        simulate(problem, start, dynamics, steps=40, record_every=5)
        for dynamics in (GradientFlow(step_size), PerturbedFlow(step_size, rebirth_rate=0.0), PerturbedFlow(step_size))
    ]
    assert_same_run(runs[0], runs[1])
    rate = PerturbedFlow(step_size, rebirth_rate=0.1)
    assert not np.array_equal(simulate(problem, start, rate, steps=40).ensemble.theta, runs[0].ensemble.theta)


# ---------------------------------------------------------------------------------------------------------------------
# birth and death


def potentials(field, ensemble, residual, reg):
    field.predict(ensemble)
    return field.engine.observe(ensemble.particles, residual, reg, potentials=True)[1]


def test_exchange_has_its_expected_number_of_events():
    """Independent events of probability 1 − e^{−|rate|}: mean and variance over many steps."""
    rates = np.random.default_rng(0).standard_normal(2000) * 0.3
    p, particles = -np.expm1(-np.abs(rates)), Ensemble.gaussian(2000, 3, seed=1).particles
    counts = np.array([exchange(particles.copy(), rates, 7, step) for step in range(400)])
    z = (counts - p.sum()) / math.sqrt((p * (1 - p)).sum())
    assert abs(z.mean()) < 3 / math.sqrt(400)
    assert abs(np.mean(z**2) - 1) < 3 * math.sqrt(2 / 400)


def test_exchange_lowers_the_mean_potential():
    """By Σ p_j |L'_j − mean| / m on average over steps, to first order in the rates; all particles are old ones."""
    problem, m = gaussian_inputs(reg=0.05), 2048
    ensemble = Ensemble.gaussian(m, 5, seed=2, dtype="float64")
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    residual = field.residual(moments)
    before = potentials(field, ensemble, residual, 0.05)
    dynamics, eta, changes = BirthDeath(exchange_rate=2.0), 0.0025 / before.std(), []
    rates = (before - before.mean()) * (2 * eta)
    for step in range(300):
        moved = ensemble.copy()
        moved.step = step
        field.predict(moved)
        dynamics.exchange(field, moved, moments, eta)
        after = potentials(field, moved, residual, 0.05)
        assert np.isin(after, before).all()
        changes.append(after.mean() - before.mean())
    expected = float(np.expm1(-np.abs(rates)) @ np.abs(before - before.mean())) / m
    error = float(np.std(changes)) / math.sqrt(len(changes))
    assert expected < -10 * error
    assert abs(np.mean(changes) - expected) < 3 * error


@pytest.mark.parametrize("outputs", [1, 3])
def test_birth_death_keeps_the_number_of_particles(outputs):
    """m stays, no lane beyond m comes to life, and the run departs from the Langevin run that it equals at rate 0."""
    problem = gaussian_inputs("logistic" if outputs == 1 else "cross_entropy", reg=1e-2, temperature=1e-3)
    start = Ensemble.sphere(1500, 5, outputs, seed=1)
    langevin, still, moving = (
        simulate(problem, start, dynamics, steps=60, record_every=10)
        for dynamics in (Langevin(), BirthDeath(exchange_rate=0.0), BirthDeath(exchange_rate=5.0))
    )
    assert_same_run(langevin, still)
    assert not np.array_equal(moving.ensemble.theta, langevin.ensemble.theta)
    assert (moving.ensemble.m, moving.ensemble.theta.shape) == (1500, start.theta.shape)
    assert not moving.ensemble.theta[-1, :, 1500 % start.theta.shape[2] :].any()
    assert (np.abs(moving.ensemble.w).sum(axis=1) > 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# minibatches


@pytest.mark.parametrize("loss", ["logistic", "squared", "cross_entropy"])
def test_a_minibatch_has_an_unbiased_gradient(loss):
    """Fixed particles' pulls averaged over the batches of 1000 steps against the full one: z-scores of a mean."""
    problem, steps = gaussian_inputs(loss, n=23), 1000
    ensemble = Ensemble.gaussian(20, 5, problem.outputs, seed=3, dtype="float64")

    def pull(field):
        moved = ensemble.copy()
        residual = field.residual(field.predict(moved))
        field.engine.advance(moved.particles, residual, Move(0.0, 1.0), 0, 0)
        return np.hstack([ensemble.u - moved.u, ensemble.w - moved.w])

    full = Field(problem, ensemble.dtype, 1)
    samples = np.array([pull(full.minibatch(6, 11, step)) for step in range(steps)])
    error = samples.std(axis=0) / math.sqrt(steps)
    felt = error > 0  # a particle may be active on no example
    assert felt.mean() > 0.9
    assert np.abs(samples - pull(full))[:, ~felt].max(initial=0) == 0
    assert np.abs((samples.mean(axis=0) - pull(full))[felt] / error[felt]).max() < 4.5  # the largest of over 100


def test_minibatches_draw_every_example_alike():
    """Counts over steps are multinomial: chi-squared within three sigma; no two steps draw the same batch."""
    n, size, steps = 23, 64, 500
    problem = Problem(np.arange(1.0, n + 1)[:, None], np.ones(n), loss="squared")
    field = Field(problem, np.dtype("float64"), 1)
    rows = np.array([field.minibatch(size, 5, step).problem.X[:, 0] - 1 for step in range(steps)]).astype(int)
    counts = np.bincount(rows.ravel(), minlength=n)
    assert len(counts) == n
    assert stats.chisquare(counts).pvalue > THREE_SIGMA
    assert len(np.unique(rows, axis=0)) == steps
    assert np.array_equal(rows[3], (uniforms(5, Purpose.BATCH, 3, size) * n).astype(int))


@pytest.mark.parametrize("step_size", ["auto", 0.2])
def test_a_batched_run_goes_on_from_its_state_alone(step_size):
    """30 steps equal 13 and then 17 from the ensemble that the first part returned, bit for bit."""
    problem, start = gaussian_inputs(temperature=1e-3), Ensemble.sphere(1500, 5, seed=9)
    dynamics = Langevin(step_size, batch=7)
    whole = simulate(problem, start, dynamics, steps=30, anneal=False).ensemble
    part = simulate(problem, start, dynamics, steps=13, anneal=False).ensemble
    again = simulate(problem, part, dynamics, steps=17, anneal=False).ensemble
    assert np.array_equal(whole.theta, again.theta)
    assert (whole.step, whole.time, whole.memory) == (again.step, again.time, again.memory)


# ---------------------------------------------------------------------------------------------------------------------
# global minima


def test_noise_frees_an_ensemble_that_the_flow_leaves_stuck():
    """All w = +1, |u| = ½: without noise no w changes sign; with τ lowered from 1e-3 the minimum is reached to 2 %."""
    problem = xor(80, 10, reg=5e-3)
    lowest = exact.optimum(problem, tolerance=1e-4).value
    u = np.random.default_rng(1).standard_normal((1024, 10))
    start = Ensemble.from_arrays(np.ones(1024), 0.5 * u / np.linalg.norm(u, axis=1)[:, None], dtype="float32")
    stuck = simulate(problem, start, GradientFlow(), steps=3000, anneal=False)
    assert stuck.trace["objective"][-1] > 1.5 * lowest
    cooling = {"shape": "geometric", "start": 1e-3, "end": 1e-8, "steps": 2100}
    warm = xor(80, 10, reg=5e-3, temperature=cooling)
    freed = simulate(warm, start, Langevin(), steps=3000, anneal=False)
    assert lowest * (1 - 1e-4) < freed.trace["objective"][-1] < 1.02 * lowest


SLOW_GRID = [
    pytest.param(n, reg, marks=pytest.mark.slow)
    for n in (40, 80, 160)
    for reg in (5e-3, 5e-4, 5e-5)
    if (n, reg) != (40, 5e-3)
]


@pytest.mark.parametrize(("n", "reg"), [(40, 5e-3), *SLOW_GRID])
def test_default_dynamics_reach_the_global_minimum(n, reg):
    """The paper's data, d = 20, 1024 particles, no setting touched: within 0.1 % of the minimum."""
    problem = xor(n, 20, reg=reg)
    lowest = exact.optimum(problem, tolerance=1e-4).value
    reached = simulate(problem, Ensemble.sphere(1024, 20)).trace["objective"][-1]
    assert lowest * (1 - 1e-4) < reached < 1.001 * lowest


SCALES = itertools.product(
    ("logistic", "squared", "cross_entropy"), (1e-3, 1.0, 1e3), (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), (10, 1000)
)
SCALES = [pytest.param(*case, marks=() if i % 10 == 3 else pytest.mark.slow) for i, case in enumerate(SCALES)]


@pytest.mark.parametrize(("loss", "scale", "reg", "m"), SCALES)
def test_any_scale_descends(loss, scale, reg, m):
    """Features × 10^{±3}, λ from 1e-1 to 1e-6, few particles or many: finite, lower at the end, no rise beyond 1e-3."""
    problem = gaussian_inputs(loss, scale=scale, reg=reg)
    start = Ensemble.sphere(m, 5, problem.outputs)
    result = simulate(problem, start, Langevin(), steps=200, record_every=1, anneal=False)
    objective = result.trace["objective"]
    assert np.isfinite(objective).all()
    assert np.isfinite(result.ensemble.theta).all()
    assert objective[-1] <= objective[0]
    assert excess(objective) <= 1e-3
