"""Laws of the measures: against the twin, and in the cases whose answer is known."""

import math

import naive
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from meanfield import diagnostics
from meanfield.diagnostics import sliced_wasserstein
from meanfield.dynamics import Field, GradientFlow, Langevin
from meanfield.engine.engine import Moments
from meanfield.ensemble import Ensemble
from meanfield.errors import InputError
from meanfield.exact import gibbs
from meanfield.problem import Problem
from meanfield.simulation import measures
from meanfield.simulation.config import MEASURES, check_config
from meanfield.simulation.loop import resume, simulate
from meanfield.simulation.snapshots import Snapshots

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


# ---- margins, calibration, stationarity ------------------------------------------------------------------------------


def test_margin_quantiles_are_margins_of_examples():
    """Planted margins 1 … 10 over ∫‖θ‖² = 2: the least is γ, the quantiles the margins of their rank."""
    problem = Problem(np.eye(10), [1, -1] * 5)
    moments = Moments((np.arange(1.0, 11) * problem.targets)[:, None], 2.0)
    found = diagnostics.margin_quantiles(problem, moments, [0, 0.1, 0.5, 0.9, 1])
    assert found.tolist() == [0.5, 0.5, 2.5, 4.5, 5]
    assert found[0] == diagnostics.normalized_margin(problem, moments)
    regression = Problem(np.eye(2), [0.5, 2.0], loss="squared")
    assert np.isnan(diagnostics.margin_quantiles(regression, Moments(np.ones((2, 1)), 1.0))).all()


@pytest.mark.parametrize(
    ("confidence", "right", "error"), [(0.75, 0.75, 0.0), (0.9, 0.6, 0.3), (0.6, 0.9, 0.3), (0.8, 0.0, 0.8)]
)
def test_calibration_is_the_gap_of_confidence_and_success(confidence, right, error):
    """One confidence for all: |confidence − share correct|; the same for two classes as for ±1."""
    n = 1000
    t = np.where(np.arange(n) < right * n, 1.0, -1.0)
    f = np.full((n, 1), math.log(confidence / (1 - confidence)))
    binary = Problem(np.ones((2, 1)), [1, -1])
    assert diagnostics.calibration_error(binary, f, t, bins=1) == pytest.approx(error, abs=1e-12)
    two = Problem(np.ones((2, 1)), [0, 1], loss="cross_entropy")
    both = np.concatenate([-f / 2, f / 2], axis=1)
    for bins in (1, 7):
        one = diagnostics.calibration_error(binary, f, t, bins=bins)
        assert diagnostics.calibration_error(two, both, (t > 0).astype(int), bins=bins) == pytest.approx(one, abs=1e-12)


def test_calibration_does_not_mix_what_is_and_is_not_sure():
    """Half are sure and wrong, half unsure and right: errors that cancel in the mean add up over the bins."""
    f = np.repeat([[4.0], [0.5]], 300, axis=0)
    t = np.where(f[:, 0] > 1, -1.0, 1.0)
    problem = Problem(np.ones((2, 1)), [1, -1])
    sure, unsure = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-0.5))
    expected = (sure + (1 - unsure)) / 2
    assert diagnostics.calibration_error(problem, f, t, bins=10) == pytest.approx(expected, rel=1e-12)
    order = np.random.default_rng(0).permutation(600)
    assert diagnostics.calibration_error(problem, f[order], t[order], bins=10) == pytest.approx(expected, rel=1e-12)
    floor = [_calibrated(seed) for seed in range(10)]
    assert 0.015 < np.mean(floor) < 0.024  # as stated: 0.019 at n = 4096


def _calibrated(seed, n=4096):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.5, 1, n)
    t = np.where(rng.random(n) < p, 1.0, -1.0)
    return diagnostics.calibration_error(Problem(np.ones((2, 1)), [1, -1]), np.log(p / (1 - p))[:, None], t)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_variation_vanishes_on_the_support_of_an_optimum(dtype):
    """One example, squared loss: w = u = a with a² = 1 − 2λ is optimal; at a perfect fit ν is 1, the ℓ2 term alone."""
    reg = 0.1
    problem = Problem([[1.0]], [1.0], loss="squared", reg=reg)
    a = math.sqrt(1 - 2 * reg)
    field = Field(problem, np.dtype(dtype))
    best = Ensemble.from_arrays(np.full(70, a), np.full((70, 1), a), dtype=dtype)
    assert diagnostics.stationarity(field, best, field.predict(best)) < (1e-6 if dtype == "float32" else 1e-14)
    fit = Ensemble.from_arrays(np.ones(70), np.ones((70, 1)), dtype=dtype)
    assert diagnostics.stationarity(field, fit, field.predict(fit)) == 1
    still = Ensemble.empty(3, 1, 1, dtype)
    assert math.isnan(diagnostics.stationarity(field, still, field.predict(still)))


def test_stationarity_is_the_twins_and_counts_by_mass():
    """Against potentials one by one, at the λ of the step; particles of no size have no say."""
    rng = np.random.default_rng(0)
    problem = Problem(
        rng.standard_normal((15, 4)),
        np.arange(15) % 3,
        loss="cross_entropy",
        reg={"start": 1.0, "end": 0.05, "steps": 1},
    )
    ensemble = Ensemble.gaussian(90, 4, 3, dtype="float64")
    ensemble.step = 1
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    w, u = ensemble.w, ensemble.u
    square = np.sum(w**2, axis=1) + np.sum(u**2, axis=1)
    nu = naive.potentials(w, u, problem.X, field.residual(moments), 0.05) / (0.05 * square)
    expected = math.sqrt(np.sum(square * nu**2) / np.sum(square))
    assert diagnostics.stationarity(field, ensemble, moments) == pytest.approx(expected, rel=1e-10)


# ---- transport -------------------------------------------------------------------------------------------------------


def moved(ensemble, factor=1.0, shift=0.0):
    return Ensemble.from_arrays(factor * ensemble.w, factor * ensemble.u + shift, dtype=ensemble.dtype)


@pytest.mark.parametrize(("m", "k"), [(6, 4), (1, 5), (12, 12), (7, 3)])
def test_quantiles_of_unequal_samples_are_compared_exactly(m, k):
    """As if every sample were repeated to a common size."""
    rng = np.random.default_rng(m)
    a, b = np.sort(rng.standard_normal(m)), np.sort(rng.standard_normal(k))
    expected = np.mean((np.repeat(a, k) - np.repeat(b, m)) ** 2)
    steps = sliced_wasserstein._common_steps(m, k)
    assert sliced_wasserstein._quantile_square(a, b, steps) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein._quantile_square(a.astype("f4"), b.astype("f4"), steps) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shift_is_measured_exactly(dtype):
    """SW₂ = ‖δ‖/√D, in up to 25 dimensions without Monte-Carlo error; nothing is as far as 0 from itself."""
    one = Ensemble.gaussian(700, 11, seed=1, dtype=dtype)
    delta = np.linspace(-1, 2, 11)
    found = diagnostics.sliced_distance(one, moved(one, shift=delta), projections=30)
    assert found.value == pytest.approx(np.linalg.norm(delta) / math.sqrt(12), rel=1e-5)
    assert found.standard_error < 1e-5
    assert found.projections == 48
    assert diagnostics.sliced_distance(one, one) == diagnostics.SlicedDistance(0.0, 0.0, 108)


def test_gaussians_are_as_far_apart_as_they_should():
    """N(0, I) and N(δ, s²I): SW₂² = ‖δ‖²/D + (1 − s)², up to what so many particles leave open; any two sizes."""
    D, s, delta = 5, 1.7, 0.8
    one = Ensemble.gaussian(30_000, D - 1, seed=1)
    two = moved(Ensemble.gaussian(20_000, D - 1, seed=2), s, delta)
    exact = math.sqrt((D - 1) * delta**2 / D + (1 - s) ** 2)
    found = diagnostics.sliced_distance(one, two, projections=50)
    assert abs(found.value - exact) < 4 * found.standard_error + 0.01
    assert found.value == pytest.approx(diagnostics.sliced_distance(two, one, projections=50).value, rel=1e-6)


def test_the_stated_error_is_that_of_the_choice_of_directions():
    """Unequal axes in 40 dimensions: estimates with other seeds spread by the standard error, within a third."""
    one, axes = Ensemble.gaussian(500, 39, seed=1), np.linspace(0.2, 6, 39) ** 2
    two = Ensemble.from_arrays(one.w, one.u * axes)
    found = [diagnostics.sliced_distance(one, two, projections=200, seed=seed) for seed in range(40)]
    spread = np.std([one.value for one in found])
    assert spread == pytest.approx(np.mean([one.standard_error for one in found]), rel=0.33)
    assert diagnostics.sliced_distance(one, two, projections=800).standard_error < 0.7 * spread


def test_distances_depend_on_neither_threads_nor_the_order_of_particles():
    """With == for threads, and to rounding for the order."""
    one, two = Ensemble.sphere(3000, 7, seed=1), Ensemble.sphere(2000, 7, seed=2)
    found = diagnostics.sliced_distance(one, two, threads=1)
    assert diagnostics.sliced_distance(one, two, threads=3) == found
    order = np.random.default_rng(0).permutation(3000)
    other = Ensemble.from_arrays(one.w[order], one.u[order])
    assert diagnostics.sliced_distance(other, two).value == pytest.approx(found.value, rel=1e-6)


def test_the_noise_floor_is_what_two_halves_differ_by():
    """Two ensembles of m of one law are 1/√2 as far apart as the halves of one, and the floor falls like 1/√m."""

    def floor(m, seed):
        return diagnostics.noise_floor(Ensemble.gaussian(m, 5, seed=seed), projections=60).value

    small, large = (np.mean([floor(m, seed) for seed in range(8)]) for m in (500, 8000))
    assert small / large == pytest.approx(4, rel=0.15)
    pairs = [
        diagnostics.sliced_distance(Ensemble.gaussian(8000, 5, seed=s), Ensemble.gaussian(8000, 5, seed=s + 50)).value
        for s in range(8)
    ]
    assert np.mean(pairs) == pytest.approx(large / math.sqrt(2), rel=0.15)
    odd = Ensemble.gaussian(301, 2, seed=3)
    halves = [Ensemble.from_arrays(odd.w[i::2], odd.u[i::2]) for i in (0, 1)]
    assert diagnostics.noise_floor(odd) == diagnostics.sliced_distance(*halves)


# ---- entropy and free energy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 4])
def test_the_entropy_of_a_gaussian_is_the_closed_form(d):
    """D/2 log 2πeσ², up to four standard errors and the stated bias, for any σ."""
    D, sigma = d + 1, 0.3
    found = diagnostics.entropy(Ensemble.gaussian(4096, d, scale=sigma, seed=3))
    assert found.particles == 4096
    assert abs(found.value - D / 2 * math.log(2 * math.pi * math.e * sigma**2)) < 4 * found.standard_error + 0.05
    assert found.standard_error < 0.05


def test_the_bias_in_many_dimensions_is_as_stated():
    """In 21 dimensions 4096 particles say 0.7 nats too much, 16384 say 0.5 too much."""
    exact = 21 / 2 * math.log(2 * math.pi * math.e)
    found = diagnostics.entropy(Ensemble.gaussian(4096, 20, seed=1))
    assert 0.5 < found.value - exact < 0.95


def test_entropy_follows_affine_maps():
    """H(Aθ + b) = H(θ) + log |det A|, exactly: singular values from 0.02 to 50."""
    rng = np.random.default_rng(0)
    one = Ensemble.gaussian(800, 4, seed=1, dtype="float64")
    theta = np.concatenate([one.u, one.w], axis=1)
    A = np.linalg.qr(rng.standard_normal((5, 5)))[0] @ np.diag([0.02, 0.5, 1, 3, 50]) @ rng.standard_normal((5, 5))
    image = theta @ A.T + 7
    two = Ensemble.from_arrays(image[:, 4:], image[:, :4])
    difference = diagnostics.entropy(two).value - diagnostics.entropy(one).value
    assert difference == pytest.approx(np.linalg.slogdet(A)[1], abs=1e-8)


def test_measures_without_a_density_have_no_entropy():
    """−∞ where particles coincide or lie in a plane; NaN for too few to tell."""
    theta = np.random.default_rng(0).standard_normal((50, 3))
    assert diagnostics.entropy(Ensemble.from_arrays(theta[:, 0], theta[:, 1:].repeat(2, axis=1))).value == -math.inf
    twice = np.repeat(theta, 2, axis=0)
    assert diagnostics.entropy(Ensemble.from_arrays(twice[:, 0], twice[:, 1:])).value == -math.inf
    assert math.isnan(diagnostics.entropy(Ensemble.gaussian(4, 2)).value)


def test_the_free_energy_of_the_gaussian_at_rest_is_its_partition_function():
    """Without data to fit (all residuals 0) the minimizer is N(0, τ/2λ), with F_τ = R − τ log (πτ/λ)^{D/2}."""
    reg, tau, D = 0.5, 0.2, 3
    problem = Problem(np.zeros((2, 2)), [0.0, 0.0], loss="squared", reg=reg, temperature=tau)
    ensemble = Ensemble.gaussian(20_000, 2, scale=math.sqrt(tau / (2 * reg)), seed=4, dtype="float64")
    moments = Field(problem, ensemble.dtype).predict(ensemble)
    found = diagnostics.entropy(ensemble, particles=20_000)
    exact = -tau * D / 2 * math.log(math.pi * tau / reg)
    assert diagnostics.free_energy(problem, ensemble, moments, found) == pytest.approx(exact, abs=4 * tau * 0.015)
    wider = moved(ensemble, 1.5)
    assert diagnostics.free_energy(problem, wider, Field(problem, wider.dtype).predict(wider)) > exact + 0.1 * tau
    cold = Problem(np.zeros((2, 2)), [0.0, 0.0], loss="squared", reg=reg)
    assert diagnostics.free_energy(cold, ensemble, moments) == cold.objective(ensemble).value


def test_the_gibbs_measure_has_the_least_free_energy():
    """Samples of the infinite-width minimizer come within the estimate's error of its F_τ, other measures lie above."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 2))
    problem = Problem(X, np.sign(X[:, 0] * X[:, 1]), reg=0.05, temperature=0.02)
    exact = gibbs(problem)
    assert exact.attained
    w, u = exact.samples(16384, seed=1)
    best = Ensemble.from_arrays(w, u)
    values = [
        diagnostics.free_energy(
            problem, one, Field(problem, one.dtype).predict(one), diagnostics.entropy(one, particles=16384)
        )
        for one in (best, moved(best, 1.2), moved(best, 0.8))
    ]
    assert values[0] == pytest.approx(exact.free_energy, abs=0.003)
    assert min(values[1:]) > exact.free_energy + 0.003


# ---- features --------------------------------------------------------------------------------------------------------


def planted(masses, each, d=6, width=0.02, seed=0):
    """Neurons along the axes, of these masses in all, each as `each` particles within `width` of it, of many sizes."""
    rng = np.random.default_rng(seed)
    axes = np.repeat(np.eye(d)[: len(masses)], each, axis=0) + width * rng.standard_normal((len(masses) * each, d)) / d
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    size = rng.uniform(0.1, 10, len(axes))
    signs = np.repeat(np.resize([1.0, -1.0], len(masses)), each)
    return Ensemble.from_arrays(signs * np.repeat(masses, each) / size, axes * size[:, None])


@pytest.mark.parametrize("each", [1, 20, 300])
def test_groups_of_one_direction_count_as_one_neuron(each):
    """K equal groups count K; unequal ones (Σa)²/Σa²; however many particles and in whatever split of size."""
    assert diagnostics.effective_neurons(planted(np.ones(6), each)) == pytest.approx(6, rel=1e-5)
    masses = np.array([5.0, 1, 1, 2])
    assert diagnostics.effective_neurons(planted(masses, each)) == pytest.approx(81 / 31, rel=1e-5)


def test_neurons_of_opposite_sign_are_two():
    """Of one input direction; and those within the angle are one, those beyond it two."""
    u = np.array([[1.0, 0], [1, 0]])
    assert diagnostics.effective_neurons(Ensemble.from_arrays([1.0, -1], u)) == 2
    for turn, count in ((0.29, 1), (0.31, 2)):
        u = np.array([[1.0, 0], [math.cos(turn), math.sin(turn)]])
        assert diagnostics.effective_neurons(Ensemble.from_arrays([1.0, 1], u)) == pytest.approx(count)
    assert math.isnan(diagnostics.effective_neurons(Ensemble.empty(5, 2, 1, "float32")))


def test_alignment_is_the_share_of_mass_inside():
    """Planted 0.8 of the mass; k/d for uniform directions, within the stated deviation; any basis of the subspace."""
    ensemble = planted(np.array([3.0, 1, 1]), 50, width=0)
    assert diagnostics.alignment(ensemble, np.eye(6)[:2]) == pytest.approx(0.8, rel=1e-6)
    assert diagnostics.alignment(ensemble, [[1.0, 2, 0, 0, 0, 0], [3, -1, 0, 0, 0, 0]]) == pytest.approx(0.8, rel=1e-6)
    assert diagnostics.alignment(ensemble, np.eye(6)) == pytest.approx(1, rel=1e-6)
    k, d, m = 2, 20, 8000
    found = [diagnostics.alignment(equal_masses(m, d, seed), np.eye(d)[:k]) - k / d for seed in range(20)]
    assert np.std(found) == pytest.approx(math.sqrt(2 * k * (d - k) / (d + 2)) / (d * math.sqrt(m)), rel=0.5)
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(20)


def equal_masses(m, d, seed):
    return Ensemble.from_arrays(np.ones(m), np.random.default_rng(seed).standard_normal((m, d)).astype("f4"))


def test_leading_directions_are_those_of_the_mass():
    """A rotated planted plane is found, the heavier axis first; the histogram has its mass there and sums to it."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    flat = planted(np.array([3.0, 2, 0.1]), 200, width=0)
    ensemble = Ensemble.from_arrays(flat.w, flat.u @ turn.T)
    found = diagnostics.leading_directions(ensemble)
    assert np.abs(found @ turn)[:, :2] == pytest.approx(np.eye(2), abs=1e-5)
    histogram = diagnostics.mass_by_direction(ensemble, bins=8)
    assert histogram.mass.sum() == pytest.approx(diagnostics.alignment(ensemble, found), rel=1e-6)
    assert sorted(histogram.mass)[-2:] == pytest.approx([2 / 5.1, 3 / 5.1], rel=1e-5)
    assert histogram.net.sum() == pytest.approx((3 - 2) / 5.1, rel=1e-5)


def test_the_four_neurons_of_the_paper_lie_in_four_bins():
    """Of mass ¼ each, positive along x₁ and negative along x₂, in the bins of their angles."""
    _, ensemble = paper(30)
    histogram = diagnostics.mass_by_direction(ensemble, np.eye(2), bins=4)
    assert histogram.edges == pytest.approx(np.linspace(-math.pi, math.pi, 5))
    ensemble = Ensemble.from_arrays(ensemble.w, ensemble.u @ np.array([[1, 0.1], [-0.1, 1]]))
    histogram = diagnostics.mass_by_direction(ensemble, np.eye(2), bins=4)
    assert histogram.mass == pytest.approx([0.25] * 4, rel=1e-6)
    assert sorted(histogram.net[:, 0]) == pytest.approx([-0.25, -0.25, 0.25, 0.25], rel=1e-6)
    assert histogram.net[2, 0] == pytest.approx(0.25, rel=1e-6)  # angle just above 0: along x₁


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_tangent_kernel_is_the_gram_matrix_of_the_jacobian(outputs):
    """m Σ_c J_c J_cᵀ by differences of the twin's predictions: with 1/m in f, gradients carry 1/m each, K a mean."""
    rng, m, h = np.random.default_rng(0), 5, 1e-6
    w, u, X = rng.standard_normal((m, outputs)), rng.standard_normal((m, 4)), rng.standard_normal((7, 4))
    columns = []
    for array in (w, u):
        for place in np.ndindex(array.shape):
            array[place] += h
            up = naive.predict(w, u, X)
            array[place] -= 2 * h
            columns.append((up - naive.predict(w, u, X)) / (2 * h))
            array[place] += h
    J = np.stack(columns, axis=2)  # (n, C, parameters)
    found = diagnostics.tangent_kernel(Ensemble.from_arrays(w, u), X)
    assert found == pytest.approx(m * np.einsum("icp,kcp->ik", J, J), rel=1e-6, abs=1e-8)


def test_a_linear_network_has_a_linear_kernel():
    """Where every unit is active, K = Xᵀ-Gram of ∫ u uᵀ + w² I, and its movement is that of second moments."""
    rng = np.random.default_rng(0)
    X, u, w = rng.uniform(0.1, 1, (30, 5)), rng.uniform(0.1, 1, (400, 5)), rng.standard_normal(400)
    start = Ensemble.from_arrays(w, u)
    K0 = X @ (u.T @ u / 400 + np.mean(w**2) * np.eye(5)) @ X.T
    assert diagnostics.tangent_kernel(start, X) == pytest.approx(K0, rel=1e-12)
    K = X @ (4 * u.T @ u / 400 + np.mean(w**2) * np.eye(5)) @ X.T
    found = diagnostics.kernel_movement(start, Ensemble.from_arrays(w, 2 * u), X)
    assert found.relative == pytest.approx(np.linalg.norm(K - K0) / np.linalg.norm(K0), rel=1e-12)
    cosine = np.sum(K * K0) / np.linalg.norm(K) / np.linalg.norm(K0)
    assert found.rotation == pytest.approx(1 - cosine, rel=1e-9)


def test_what_does_not_move_the_kernel():
    """Signs of w; and a change of scale by 2 is a relative movement of 3 without rotation. On at most 512 points."""
    X = np.random.default_rng(0).standard_normal((1000, 4))
    start = Ensemble.gaussian(300, 4)
    flipped = Ensemble.from_arrays(-start.w, start.u)
    assert diagnostics.kernel_movement(start, flipped, X) == diagnostics.KernelMovement(0, 0)
    doubled = diagnostics.kernel_movement(start, moved(start, 2.0), X)
    assert (doubled.relative, doubled.rotation) == pytest.approx((3, 0), abs=1e-12)
    spread = X[np.arange(512) * 1000 // 512]
    other = Ensemble.gaussian(300, 4, seed=1)
    assert diagnostics.kernel_movement(start, other, X) == diagnostics.kernel_movement(start, other, spread)


def test_training_is_lazy_at_a_large_scale():
    """Until the data are fitted θ moves by O(1/s²) of its scale s. All units active, and in pairs ±w, which cancel what
    is of first order in that (and f at the start): the kernel moves by O(1/s⁴)."""
    rng = np.random.default_rng(0)
    X, base = rng.uniform(0.5, 1, (12, 5)), rng.uniform(1, 2, (600, 5))
    problem = Problem(X, X @ [1.0, -1, 2, 0, 1], loss="squared", reg=1e-9)
    movements = []
    for s in (0.3, 2.0, 4.0):
        start = Ensemble.from_arrays(s * np.repeat([1.0, -1.0], 300), s * np.concatenate([base[:300], base[:300]]))
        end = simulate(problem, start, GradientFlow(), steps=1000, record_every=1000, anneal=False)
        assert end.trace["risk"][-1] < 0.02 * end.trace["risk"][0]
        movements.append(diagnostics.kernel_movement(start, end.ensemble, X).relative)
    assert movements[0] > 1
    assert movements[1] / movements[2] == pytest.approx(16, rel=0.1)
    assert movements[2] < 0.01


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: diagnostics.sliced_distance(e, Ensemble.gaussian(9, 3)), "same d"),
        (lambda e: diagnostics.sliced_distance(e, e, projections=0), "at least 1"),
        (lambda e: diagnostics.noise_floor(Ensemble.gaussian(1, 2)), "at least 2"),
        (lambda e: diagnostics.effective_neurons(e, angle=2.0), "angle"),
        (lambda e: diagnostics.alignment(e, np.eye(3)), "must be"),
        (lambda e: diagnostics.alignment(e, [[1, 0], [2, 0]]), "independent"),
        (lambda e: diagnostics.leading_directions(e, 3), "from 1 to d"),
        (lambda e: diagnostics.mass_by_direction(e, np.eye(2)[:1]), "shape"),
        (lambda e: diagnostics.mass_by_direction(Ensemble.empty(5, 2, 1, "float32")), "no mass"),
        (lambda e: diagnostics.tangent_kernel(e, np.eye(3)), "shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, words):
    """InputError of one line."""
    with pytest.raises(InputError, match=words) as caught:
        call(Ensemble.gaussian(9, 2))
    assert "\n" not in str(caught.value)


# ---- by name, in a trace ---------------------------------------------------------------------------------------------


def scene(**settings):
    rng = np.random.default_rng(3)
    X, X_test = rng.standard_normal((24, 5)), rng.standard_normal((7, 5))
    settings = {"reg": {"start": 0.1, "end": 0.01, "steps": 31, "shape": "geometric"}, "temperature": 1e-3, **settings}
    return Problem(X, np.sign(X[:, 0]), X_test=X_test, y_test=np.sign(X_test[:, 0]), **settings)


def test_every_name_is_known_to_the_configuration_and_has_a_column():
    """One list for both; no column is that of another measure."""
    assert tuple(measures.MEASURES) == MEASURES
    columns = measures.columns(MEASURES)
    assert len(set(columns)) == len(columns)


def test_named_measures_are_those_of_the_state(tmp_path):
    """Every column of every name, at the rows that are due, equals the function called on the ensemble of that step."""
    problem, start = scene(), Ensemble.sphere(500, 5, seed=2, dtype="float64")
    result = simulate(
        problem,
        start,
        steps=20,
        record_every=5,
        measures=MEASURES,
        anneal=False,
        record={"measures_every": 10, "snapshots": 3, "snapshot_particles": 100},
    )
    row = {name: column[-1] for name, column in result.trace.items()}
    for name in measures.columns(MEASURES):
        assert np.isfinite(result.trace[name]).tolist() == [True, False, True, False, True]
    ensemble, first = result.ensemble, result.snapshots[0]
    field = Field(problem, ensemble.dtype)
    moments = field.predict(ensemble)
    now = Ensemble.from_arrays(ensemble.w[first.index], ensemble.u[first.index])
    movement = diagnostics.kernel_movement(first.ensemble, now, problem.X)
    expected = {
        "free_energy": diagnostics.free_energy(problem, ensemble, moments),
        "entropy": diagnostics.entropy(ensemble).value,
        "margin_q50": diagnostics.margin_quantiles(problem, moments)[1],
        "calibration_error": diagnostics.calibration_on_test_set(problem, ensemble),
        "stationarity": diagnostics.stationarity(field, ensemble, moments),
        "noise_floor": diagnostics.noise_floor(ensemble).value,
        "effective_neurons": diagnostics.effective_neurons(ensemble),
        "alignment": diagnostics.alignment(ensemble, np.eye(5)[:2]),
        "transport": diagnostics.sliced_distance(first.ensemble, now).value,
        "kernel_movement": movement.relative,
        "kernel_rotation": movement.rotation,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert [result.trace[name][0] for name in ("transport", "kernel_movement", "kernel_rotation")] == [0, 0, 0]
    assert [s.step for s in result.snapshots] == [0, 10, 20]


def test_named_measures_go_on_with_the_same_bits(tmp_path):
    """Interrupted and on another number of threads, through the file; those of the start included."""
    settings = {"record_every": 3, "measures": list(MEASURES), "record": {"measures_every": 6}, "anneal": False}
    start = Ensemble.sphere(300, 5, seed=2)
    whole = simulate(scene(), start, steps=24, threads=2, **settings)
    simulate(scene(), start, steps=10, threads=1, out=tmp_path / "run.h5", **settings)
    rest = resume(tmp_path / "run.h5", until=24, threads=1)
    assert [s.step for s in rest.snapshots] == [0]  # kept for the measures from the start
    assert list(rest.trace) == list(whole.trace)
    for name, column in whole.trace.items():
        assert np.array_equal(rest.trace[name], column, equal_nan=True), name


def test_named_measures_do_not_depend_on_the_threads_of_the_matrix_product():
    """With ==: whatever number of threads NumPy's library was set to."""
    problem = Problem(np.random.default_rng(0).standard_normal((300, 20)), np.resize([1, -1], 300))
    kept, start, ensemble = Snapshots([0]), Ensemble.sphere(4096, 20, seed=1), Ensemble.sphere(4096, 20, seed=2)
    kept.take(start, 1.0)
    take, field = measures.Taker(("kernel_movement",), kept, 2), Field(problem, ensemble.dtype)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(take(field, ensemble, field.predict(ensemble)))
    assert found[0] == found[1]


def test_what_has_no_answer_leaves_the_run_alone():
    """Regression, no test set, two particles: NaN in the columns, and the run ends as it would."""
    problem = Problem(np.eye(2), [0.5, 2.0], loss="squared")
    result = simulate(problem, Ensemble.sphere(2, 2), steps=2, record_every=1, measures=MEASURES)
    for name in ("margin_q10", "calibration_error", "entropy"):
        assert np.isnan(result.trace[name]).all()
    assert np.isfinite(result.trace["stationarity"]).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"measures": ["free_enrgy"]}, r"record\.measures.*'free_enrgy'.*did you mean free_energy"),
        ({"measures": "margins"}, "must be a list"),
        ({"measures": ["margins", "margins"]}, "only once"),
        ({"measures_every": "often"}, '"auto"'),
        ({"alignment_dims": 0}, "at least 1"),
    ],
)
def test_unknown_names_are_told(settings, words):
    """InputError of one line that suggests the nearest."""
    with pytest.raises(InputError, match=words) as caught:
        check_config({"record": settings}, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record_every", [1, 20, 7])
@pytest.mark.parametrize("steps", [0, 400, 10**6])
@pytest.mark.parametrize("m", [100, 16384, 10**6])
def test_named_measures_are_taken_as_often_as_a_share_of_the_run_allows(m, steps, record_every):
    """At rows of the trace; ten times a run at least, as far as there are rows, and more rarely the more there are."""
    settings = {"step": Langevin().cost(m, 24, 5), "kept": 4096, "steps": steps, "record_every": record_every}
    every = [
        measures.affordable_every(names, scene(), m, **settings)
        for names in (["margins"], ["margins", "free_energy"], MEASURES)
    ]
    assert every == sorted(every)
    for one in every:
        assert one % record_every == 0
        assert record_every <= one <= max(record_every, steps / 10)
