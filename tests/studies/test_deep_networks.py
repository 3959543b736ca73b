"""Laws of networks of any depth: gradients, homogeneity, two layers in the engine's units, the margin theorem."""

import numpy as np
import pytest

from meanfield import Ensemble, InputError, Problem, exact
from meanfield.studies.deep_networks import Network, ascend, descend, lower_reg, normalized_margin, objective
from meanfield.studies.deep_networks import _soft_margin as soft_margin
from meanfield.studies.deep_networks import _value as value


def paper(n, d, seed=0, loss="logistic"):
    rng = np.random.default_rng(seed)
    corner = rng.integers(4, size=n)
    X = 2.0 * rng.integers(2, size=(n, d)) - 1
    X[:, :2] = 0
    X[np.arange(n), corner // 2] = 1.0 - 2.0 * (corner % 2)
    return Problem(X, 1 - 2 * (corner // 2), loss=loss)


def gaussian(n=30, d=4, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return Problem(rng.standard_normal((n, d)), y, loss="logistic" if classes == 2 else "cross_entropy")


def corners(depth, d):
    """|x₁| − |x₂| by four neurons, added up in the second layer, copied by any more; ‖W_k‖ equal."""
    first = np.zeros((4, d))
    first[:, :2] = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    if depth == 2:
        weights = [first, np.array([[1.0, 1, -1, -1]])]
    else:
        weights = [first, np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), *[np.eye(2)] * (depth - 3), np.array([[1.0, -1]])]
    return Network(tuple(W / np.linalg.norm(W) for W in weights))


def differences(function, theta, h=1e-6):
    return np.array([(function(theta + h * e) - function(theta - h * e)) / (2 * h) for e in np.eye(len(theta))])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gradients_are_those_of_finite_differences(depth, classes):
    """Of L/λ and of the soft margin, for one and for several outputs; Gaussian inputs lie on no kink."""
    problem = gaussian(classes=classes)
    network = Network.random((4, *[5] * (depth - 1), problem.outputs), seed=depth)
    theta = network.vector()
    rows = problem.loss.margin_rows(problem.targets, problem.outputs)
    for function in (
        lambda v: value(problem, network.at(v), v, 0.1),
        lambda v: soft_margin(problem.X, rows, network.at(v), v, 3.0),
    ):
        slope = function(theta)[1]
        expected = differences(lambda v, f=function: f(v)[0], theta)
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_normalized_margin_knows_no_scale(depth):
    """f(cΘ) = c^K f(Θ), so γ(cΘ) = γ(Θ)."""
    problem, network = gaussian(), Network.random((4, *[6] * (depth - 1), 1))
    larger = network.at(3.0 * network.vector())
    np.testing.assert_allclose(larger.outputs(problem.X), 3.0**depth * network.outputs(problem.X), rtol=1e-12)
    assert normalized_margin(problem, larger) == pytest.approx(normalized_margin(problem, network), rel=1e-12)


def test_two_layers_are_the_engine_s_network_in_other_units():
    """Particles (√m w, √m u): the same predictions, objective and margin, the engine's factor 1/m included."""
    problem, m = Problem(gaussian().X, gaussian().y, reg=0.03), 7
    network = Network.random((4, m, 1), seed=1)
    u, w = network.weights
    ensemble = Ensemble.from_arrays(np.sqrt(m) * w.T, np.sqrt(m) * u, dtype="float64")
    np.testing.assert_allclose(network.outputs(problem.X)[:, 0], ensemble.predict(problem.X), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(objective(problem, network, 0.03), problem.objective(ensemble), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_four_neurons_have_a_margin_that_no_dimension_lowers(depth):
    """γ = K^(−K/2) / (4 · 2^((K−2)/2)) on the paper's data, 1/8 for two layers."""
    for d in (5, 40):
        margin = normalized_margin(paper(50, d), corners(depth, d))
        assert margin == pytest.approx(depth ** (-depth / 2) / (4 * 2 ** ((depth - 2) / 2)), rel=1e-12)


@pytest.mark.slow
def test_two_layers_climb_to_the_linear_program_s_margin():
    """The best of two starts comes within 0.5 % of γ*, and none exceeds its upper bound."""
    problem = paper(40, 6)
    best = exact.max_margin(problem.X, problem.y, tolerance=1e-3)
    starts = [Network.random((6, 40, 1), seed) for seed in range(2)]
    margins = [normalized_margin(problem, ascend(problem, start, iterations=300)) for start in starts]
    assert 0.995 * best.margin <= max(margins) <= best.upper * (1 + 1e-9)


@pytest.mark.parametrize("depth", [2, 3])
def test_margins_rise_to_the_best_as_reg_falls(depth):
    """The margin theorem: the deficit against the best margin by ascent falls with λ, like 1/log(1/λ) or faster."""
    problem = paper(60, 6)
    stages = lower_reg(problem, Network.random((6, *[20] * (depth - 1), 1)), (1e-2, 1e-4, 1e-8, 1e-16))
    best = normalized_margin(problem, ascend(problem, stages[-1].network, iterations=300))
    deficit = np.array([1 - stage.margin / best for stage in stages])
    assert (deficit > 0).all()
    assert (deficit[1:] < 0.75 * deficit[:-1]).all()
    assert deficit[-1] < 0.05


@pytest.mark.parametrize("depth", [2, 3])
def test_two_classes_by_cross_entropy_have_root_two_times_the_margin(depth):
    """Last rows (−v, v)/√2 have the norm of v and √2 times its margin; and (w₁ − w₀)/√2 gives back at least 1/√2."""
    one, two = paper(30, 4), paper(30, 4, loss="cross_entropy")
    *hidden, v = corners(depth, 4).weights
    pair = Network((*hidden, np.concatenate([-v, v]) / np.sqrt(2)))
    expected = np.sqrt(2) * normalized_margin(one, corners(depth, 4))
    assert normalized_margin(two, pair) == pytest.approx(expected, rel=1e-12)
    trained = lower_reg(two, Network.random((4, *[20] * (depth - 1), 2)), (1e-2, 1e-4))[-1].network
    *hidden, rows = trained.weights
    single = Network((*hidden, (rows[1:] - rows[:1]) / np.sqrt(2)))
    assert normalized_margin(two, trained) > 0
    assert normalized_margin(one, single) >= normalized_margin(two, trained) / np.sqrt(2) * (1 - 1e-12)


def test_ascent_for_several_classes_ends_above_descent_at_small_reg():
    """Four corners as four classes: the margin at λ = 10⁻⁴ is positive, and the ascent from there raises it."""
    X = paper(40, 5).X
    problem = Problem(X, (X[:, :2] @ [1, 2]).astype(int), loss="cross_entropy")
    stage = lower_reg(problem, Network.random((5, 20, 20, 4)), (1e-2, 1e-4))[-1]
    climbed = ascend(problem, stage.network, iterations=300)
    assert 0 < stage.margin < normalized_margin(problem, climbed)
    assert climbed.squared_norm == pytest.approx(1.0, rel=1e-12)


def test_descent_never_ends_above_its_start():
    """Whatever it does on kinks."""
    problem, network = paper(40, 5), Network.random((5, 10, 10, 1))
    for reg in (1e-1, 1e-3):
        lower = descend(problem, network, reg)
        assert objective(problem, lower, reg).value < objective(problem, network, reg).value


def test_bad_input_is_refused_in_one_line():
    """Widths, sizes that do not fit, a loss without margins, λ ≤ 0, a network of zeros."""
    problem, network = gaussian(), Network.random((4, 3, 1))
    zero = network.at(0 * network.vector())
    regression = Problem(problem.X, problem.X[:, 0], loss="squared")
    for wrong in (
        lambda: Network.random((4, 1)),
        lambda: Network.random((4, 0, 1)),
        lambda: Network.random((4, 3, 1), scale=0.0),
        lambda: descend(problem, Network.random((5, 3, 1)), 0.1),
        lambda: descend(problem, Network.random((4, 3, 2)), 0.1),
        lambda: descend(problem, network, 0.0),
        lambda: ascend(regression, network),
        lambda: normalized_margin(problem, zero),
        lambda: ascend(problem, zero),
    ):
        with pytest.raises(InputError) as error:
            wrong()
        assert "\n" not in str(error.value)
