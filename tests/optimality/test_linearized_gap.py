"""Laws of the gap of the linearized problem: for a network of any neuron, how far from the minimum it may be."""

import math

import numpy as np
import pytest

from meanfield import Ensemble, GradientFlow, InputError, Neuron, Penalty, Problem, certify, simulate
from meanfield.dynamics import Field
from meanfield.neuron import get_neuron
from meanfield.optimality.budget import Budget
from meanfield.optimality.duality import dual_bound
from meanfield.optimality.linearized_gap import Ascent, Gain, linearized_bound
from meanfield.optimality.sphere_ascent import climb, random_starts

X = np.random.default_rng(0).standard_normal((40, 3))
Y = np.sign(X[:, 0] * X[:, 1])
CLIP = "relu(z + 1) - relu(z - 1) - 1"


def moments_of(problem, ensemble):
    return Field(problem, ensemble.dtype).predict(ensemble)


def bound_of(problem, ensemble, work=1e8, **options):
    return linearized_bound(problem, ensemble, moments_of(problem, ensemble), Budget(work), **options)


@pytest.mark.parametrize("neuron", ["tanh", "softplus", "sine"])
def test_in_one_dimension_it_is_what_a_grid_finds(neuron):
    """One feature, one example: max over s of −R*(s r) − max_u V on fine grids of s and u, to the grid's 10⁻⁵."""
    problem = Problem([[1.0]], [1.0], loss="squared", reg=0.1, neuron=neuron)
    ensemble = Ensemble.from_arrays([[1.0], [0.5]], [[1.0], [-0.3]], dtype="float64")
    r = moments_of(problem, ensemble).f[0, 0] - 1.0
    u, s = np.linspace(-30, 30, 60001), np.linspace(0, 3, 3001)
    phi = problem.neuron.evaluate(u)[0]
    worst = np.array([np.max((t * r * phi) ** 2 / 0.4 - 0.1 * u**2) for t in s])
    expected = np.max(-((s * r) ** 2 / 2 + s * r) - worst)
    assert bound_of(problem, ensemble).lower_bound == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("output", ["tanh", CLIP, "z + 0"])
def test_of_any_output_scale_and_weights_of_the_layers_too(output):
    """The same with ψ(w), α and p = ½‖u‖² + 2‖w‖²: the worst (u, w) of a grid."""
    neuron, p = {"activation": "tanh", "output": output}, Penalty(input=0.5, output=2.0)
    problem = Problem([[1.0]], [1.0], loss="squared", reg=0.05, neuron=neuron, output_scale=1.7, penalty=p)
    ensemble = Ensemble.from_arrays([[1.0], [0.5]], [[1.0], [-0.3]], dtype="float64")
    r = moments_of(problem, ensemble).f[0, 0] - 1.0
    u, w, s = np.linspace(-6, 6, 601), np.linspace(-6, 6, 1201), np.linspace(0, 3, 601)
    pull = 1.7 * np.outer(problem.neuron.evaluate(u)[0], problem.neuron.output.evaluate(w)[0])
    cost = 0.05 * (0.5 * u[:, None] ** 2 + 2.0 * w**2)
    worst = np.array([np.max(-t * r * pull - cost) for t in s])
    expected = np.max(-((s * r) ** 2 / 2 + s * r) - worst)
    found = certify(problem, ensemble)
    assert found.lower_bound == pytest.approx(expected, abs=1e-4)
    assert found.primal == pytest.approx(problem.objective(ensemble).value, rel=1e-12)
    assert 0 < found.lower_bound < found.primal


@pytest.mark.parametrize("psi", ["tanh", CLIP, "sine", "z * gauss(z / 2)"])
def test_the_best_output_weight_is_that_of_a_fine_grid(psi):
    """−min_w (g ψ(w) + λ w²) for g over six powers of ten and of either sign: convex, and its slope is −ψ there."""
    gain, w = Gain(get_neuron(psi), 0.03), np.linspace(-60, 60, 1_200_001)
    g = np.concatenate([-np.geomspace(1e-4, 1e2, 25)[::-1], [0.0], np.geomspace(1e-4, 1e2, 25)])
    value = get_neuron(psi).evaluate(w)[0]
    found, slope = gain.of(g)
    expected = np.array([-np.min(one * value + 0.03 * w * w) for one in g])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-10)
    assert (np.diff(found) / np.diff(g) <= slope[1:] + 1e-6 * np.abs(slope[1:])).all()
    assert (np.diff(found) / np.diff(g) >= slope[:-1] - 1e-6 * np.abs(slope[:-1])).all()


@pytest.mark.parametrize("outputs", [1, 3])
def test_for_relu_it_is_the_dual_bound_of_the_residual(outputs):
    """The same function under another name: the highest pull on the sphere is what is met infinitely far away."""
    relu = Neuron(lambda z: z if z > 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0)
    T = np.random.default_rng(1).standard_normal((40, outputs))
    problem = Problem(X, T, loss="squared", reg=1e-2, neuron=relu)
    ensemble = Ensemble.gaussian(300, 3, outputs, dtype="float64")
    r = problem.loss.residual(moments_of(problem, ensemble).f, problem.targets)
    peak = climb(X, r, random_starts(X, 2000)).value[0]
    expected, _ = dual_bound(problem.loss, problem.targets, r, peak, 1e-2)
    assert bound_of(problem, ensemble, 1e9).lower_bound == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "neuron", ["tanh", "erf", "gelu", "leaky_relu", {"activation": "tanh", "output": "tanh"}], ids=str
)
def test_the_gap_closes_as_the_flow_goes_on_and_its_bound_stays_below(neuron):
    """Of three times the bound is never above the least objective met, and the gap falls to a few per cent."""
    problem = Problem(X, np.tanh(X[:, 0]), loss="squared", reg=0.02, neuron=neuron)
    state, gaps, bounds, values = Ensemble.sphere(400, 3, seed=0, dtype="float64"), [], [], []
    for steps in (10, 300, 4000):
        state = simulate(problem, state, GradientFlow(), steps=steps, record_every=steps, final_gap=False).ensemble
        found = bound_of(problem, state)
        gaps.append(1 - found.lower_bound / found.primal)
        bounds.append(found.lower_bound)
        values.append(found.primal)
        assert found.excess >= found.primal - found.lower_bound - 1e-9 * found.primal  # s = 1 is among the scales
    assert max(bounds) <= min(values) * (1 + 1e-7)  # where the rounds of ascents end
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


def test_a_single_neuron_at_its_optimum_has_no_gap():
    """f = w tanh u, one example: all particles at the least of ½(f − 1)² + λ(w² + u²) make a minimum of L."""
    reg = 0.05
    w, u = np.meshgrid(np.linspace(0.5, 1.5, 2001), np.linspace(0.5, 1.5, 2001), indexing="ij")
    k = np.argmin(0.5 * (w * np.tanh(u) - 1) ** 2 + reg * (w**2 + u**2))
    problem = Problem([[1.0]], [1.0], loss="squared", reg=reg, neuron="tanh")
    ensemble = Ensemble.from_arrays([[w.flat[k]]], [[u.flat[k]]], dtype="float64")
    found = bound_of(problem, ensemble)
    assert 0 <= found.primal - found.lower_bound < 1e-5 * found.primal


def test_the_slope_climbed_along_is_that_of_the_height():
    """By differences, for two outputs; and no step goes down."""
    problem = Problem(X, np.stack([Y, X[:, 2]], axis=1), loss="squared", reg=0.05, neuron="gelu")
    ensemble = Ensemble.gaussian(50, 3, 2, dtype="float64")
    r = problem.loss.residual(moments_of(problem, ensemble).f, problem.targets)
    ascent = Ascent(problem, 0.05, r, Budget(1e9), 0)
    U = np.random.default_rng(2).standard_normal((5, 3))
    V, slope = ascent.hill.rise(U, 0.7)
    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        found = (ascent.hill.rise(U + step, 0.7)[0] - ascent.hill.rise(U - step, 0.7)[0]) / 2e-6
        np.testing.assert_allclose(found, slope[:, k], rtol=1e-6, atol=1e-8)
    assert (ascent.hill.rise(ascent.climb(U, 0.7), 0.7)[0] >= V).all()


@pytest.mark.parametrize("neuron", ["relu2", "quadratic"])
def test_where_the_penalty_buys_anything_there_is_no_bound(neuron):
    """A share p of the particles, θ larger by p^(−1/3): the same f, and the penalty falls as p^(1/3)."""
    problem = Problem(X, Y, reg=0.1, neuron=neuron)
    ensemble = Ensemble.gaussian(64, 3, dtype="float64")
    with pytest.raises(InputError, match=f"grows at most quadratically.*{neuron}") as caught:
        certify(problem, ensemble)
    assert "\n" not in str(caught.value)
    for others in ({"penalty": Penalty(quartic=1.0)}, {"penalty": Penalty(input=0.0)}, {"reg": 0.0}):
        wrong = Problem(X, Y, **{"reg": 0.1, "neuron": "tanh", **others})
        with pytest.raises(InputError, match="penalty"):
            certify(wrong, ensemble)
    few = Ensemble.from_arrays(
        *(
            np.concatenate([8 ** (1 / 3) * part, np.zeros((7 * 64, part.shape[1]))])
            for part in (ensemble.w, ensemble.u)
        ),
        dtype="float64",
    )
    one, other = (problem.objective(state) for state in (ensemble, few))
    assert other.risk == pytest.approx(one.risk, rel=1e-9)
    assert other.penalty == pytest.approx(one.penalty / 2, rel=1e-9)


def test_certify_and_the_end_of_a_run_say_it_and_call_it_an_estimate():
    """The same kind of number, below L; a temperature above 0 still has none for such neurons."""
    problem = Problem(X, Y, reg=0.02, neuron="tanh")
    result = simulate(problem, Ensemble.sphere(200, 3), GradientFlow(), steps=100)
    gap = result.final_gap
    assert (gap.kind, gap.rigorous, gap.missing, gap.words) == ("objective", False, "", "relative gap (estimate)")
    found = certify(problem, result.ensemble, threads=1)
    assert (found.method, found.rigorous, found.proven_bound) == ("estimate", False, None)
    assert found.lower_bound == pytest.approx(gap.lower_bound, rel=0.02)
    assert found.primal == pytest.approx(problem.objective(result.ensemble).value, rel=1e-5)
    assert 0 < found.lower_bound < found.primal
    assert found.violation > 0
    assert found.lower_bound == certify(problem, result.ensemble, threads=2).lower_bound
    hot = Problem(X, Y, reg=0.02, neuron="tanh", temperature=1e-3)
    assert "relu" in simulate(hot, Ensemble.sphere(200, 3), steps=5).final_gap.missing
    assert math.isnan(simulate(hot, Ensemble.sphere(200, 3), steps=5).final_gap.lower_bound)
