"""Laws of neurons ψ(w) φ(u·x): the chain rule, bounds, restart, kernels, growth; and of signs that are held."""

import math
import pickle

import naive
import numpy as np
import pytest
from faults import in_process
from helpers import assert_same
from small_run import SETTINGS, example, start

from meanfield import BirthDeath, Ensemble, InputError, Langevin, Problem, certify, load, resume, simulate
from meanfield.dynamics import exponential_move
from meanfield.engine.engine import Engine
from meanfield.engine.noise import Purpose, normals
from meanfield.kernels import RandomFeatures, neuron_nngp, neuron_ntk
from meanfield.neuron import get_neuron
from meanfield.simulation.toml import load_config, parse_config, to_toml

BOUNDED = {"activation": "relu", "output": "tanh"}
CLIPPED = {"activation": "erf", "output": "relu(z + 1) - relu(z - 1) - 1"}


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize(("n", "d", "m", "outputs"), [(37, 11, 70, 1), (70, 27, 45, 3)])
def test_any_shape_agrees_with_the_twin(dtype, eps, n, d, m, outputs):
    """Predictions, the drift's norm, potentials and a noisy step: the twin's at ψ(w), its slope by w times ψ'(w)."""
    rng = np.random.default_rng(n)
    X, r = (rng.standard_normal(shape).astype(dtype).astype(float) for shape in ((n, d), (n, outputs)))
    ensemble = Ensemble.gaussian(m, d, outputs, seed=m, dtype=dtype)
    w, u = ensemble.w.astype(float), ensemble.u.astype(float)
    twin, psi, slope = (np.tanh, lambda z: 1 - np.tanh(z) ** 2), np.tanh(w), 1 - np.tanh(w) ** 2
    engine = Engine(X, outputs, dtype, activation=get_neuron("tanh").with_output("tanh").passes)

    assert np.abs(engine.predict(ensemble.particles).f - naive.predict(psi, u, X, twin)).max() <= eps
    square, potentials = engine.observe(ensemble.particles, r, 0.3, potentials=True)
    by_psi, by_u = naive.pull(psi, u, X, r, twin)
    by_w = slope * by_psi + 0.6 * w
    assert square == pytest.approx((np.sum(by_w**2) + np.sum((by_u + 0.6 * u) ** 2)) / m, rel=10 * eps)
    exact = naive.potentials(psi, u, X, r, 0.0, twin) + 0.3 * (np.sum(w**2, 1) + np.sum(u**2, 1))
    assert np.abs(potentials - exact).max() <= 10 * eps * n

    move = exponential_move(0.7, 0.3, 0.2)
    engine.advance(ensemble.particles, r, move, 5, 6)
    xi = move.noise * normals(5, Purpose.LANGEVIN, 6, m, d + outputs, dtype=dtype)
    for got, old, pull, own in ((ensemble.u, u, by_u, xi[:, :d]), (ensemble.w, w, slope * by_psi, xi[:, d:])):
        expected = (1 - move.shrink) * old - move.drift * pull + own
        assert np.abs(got - expected).max() <= 10 * eps * np.abs(expected).max()


def test_an_output_that_changes_nothing_changes_no_bit():
    """ψ(w) = w, in every pass."""
    problems = [example(neuron=one, temperature=1e-3) for one in ("tanh", {"activation": "tanh", "output": "z + 0"})]
    first, second = (simulate(one, start(m=300), BirthDeath(), steps=8, **SETTINGS) for one in problems)
    assert np.array_equal(first.ensemble.theta, second.ensemble.theta)
    assert {name: column.tobytes() for name, column in first.trace.items() if name != "relative_gap"} == {
        name: column.tobytes() for name, column in second.trace.items() if name != "relative_gap"
    }


def test_the_output_stays_within_its_scale():
    """|f| ≤ R max|φ|, whatever the weights; of clipped ones likewise, and it is reached."""
    X = np.random.default_rng(0).standard_normal((20, 3))
    far = Ensemble.gaussian(200, 3, scale=1e6, dtype="float64")
    for neuron, scale in ((CLIPPED, 15.0), ({"activation": "tanh", "output": "tanh"}, 3.0)):
        problem = Problem(X, X[:, 0] > 0, neuron=neuron, output_scale=scale)
        one_sided = Ensemble.from_arrays(np.abs(far.w), far.u * np.sign(far.u[:, :1]), dtype="float64")
        f = problem.predict(one_sided, [[1.0, 0.0, 0.0]])
        assert f == pytest.approx(scale, rel=1e-3)
        assert np.abs(problem.predict(far)).max() <= scale


@pytest.mark.parametrize("neuron", [BOUNDED, CLIPPED], ids=["tanh", "clipped"])
def test_interrupted_equals_uninterrupted(tmp_path, neuron):
    """The file holds ψ, and gives it back; another one is refused."""
    problem, path = example(3, neuron=neuron, output_scale=5.0), tmp_path / "run.h5"
    whole = simulate(problem, start(3, m=1100), Langevin(), steps=18, threads=2, **SETTINGS)
    simulate(problem, start(3, m=1100), Langevin(), steps=9, threads=1, out=path, **SETTINGS)
    assert load(path).problem.neuron.output.name == neuron["output"]
    with pytest.raises(InputError, match=r"neuron\.output is"):
        load(path, neuron=get_neuron(neuron["activation"]))
    assert_same(resume(path, until=18, measures=SETTINGS["measures"]), whole)


def test_a_configuration_names_it(tmp_path):
    """`neuron.output`: explicit steps, no annealing, no bound; one line where it is no function of a number."""
    small = ["data.n=30", "data.d=3", "data.n_test=0", "ensemble.m=100", "run.steps=5", "neuron.output=tanh"]
    config = load_config(None, small)
    assert (config.dynamics.method, config.neuron.activation, config.neuron.output) == ("langevin", "relu", "tanh")
    assert parse_config(to_toml(config), "x") == config
    settings = [word for one in small for word in ("--set", one)]
    assert in_process("run", "--out", tmp_path / "run.h5", *settings)[0] == 0
    assert load(tmp_path / "run.h5").problem.reg.shape == "constant"
    for wrong, words in (
        ("neuron.output=tan", "did you mean tanh"),
        ("neuron.output='z +'", "neuron.output"),
        ("record.gap=true", "relu neurons only, not 'relu, output tanh'"),
        ("dynamics.method=implicit", "relu neurons only, not 'relu, output tanh'"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            load_config(None, [*small, wrong])
        assert "\n" not in str(caught.value)


def test_its_kernels_are_those_of_the_last_layer_times_two_numbers():
    """ψ(w) = w is no output; of erf E ψ(w)² = (2/π) asin(2s²/(1 + 2s²)); the NTK is a wide network's."""
    X, s = np.random.default_rng(1).standard_normal((4, 3)), 1.3
    for kernel in (neuron_ntk, neuron_nngp):
        same = kernel(X, neuron=get_neuron("gelu").with_output("z + 0"), w_std=s)
        assert np.allclose(same, kernel(X, neuron="gelu", w_std=s), rtol=1e-11)
    square = 2 / math.pi * math.asin(2 * s**2 / (1 + 2 * s**2))
    found = neuron_nngp(X, neuron=get_neuron("gelu").with_output("erf"), w_std=s)
    assert np.allclose(found, square * neuron_nngp(X, neuron="gelu"), rtol=1e-11)

    rng, tanh = np.random.default_rng(2), get_neuron("tanh")
    u, w = rng.standard_normal((400_000, 3)), s * rng.standard_normal(400_000)
    (value, slope), (psi, psi_slope) = tanh.evaluate(u @ X.T), tanh.evaluate(w)
    by_w, by_u = psi_slope[:, None] * value, psi[:, None] * slope
    wide = (by_w.T @ by_w + (X @ X.T) * (by_u.T @ by_u)) / len(w)
    assert np.allclose(neuron_ntk(X, neuron=tanh.with_output("tanh"), w_std=s), wide, atol=0.01)


def test_noise_is_held_by_what_grows_slowly_enough():
    """‖θ‖² must outgrow ψ(w) φ(u·x): relu² does with tanh(w), relu does not with w²; the message says both names."""
    X = np.eye(2)
    assert Problem(X, [0, 1], temperature=1e-3, neuron={"activation": "relu2", "output": "tanh"}).neuron.growth < 1.01
    with pytest.raises(InputError, match=r"'relu, output z\*\*2' grows faster"):
        Problem(X, [0, 1], temperature=1e-3, neuron={"output": "z**2"})


def test_what_knows_no_output_says_so():
    """In one line; and what is no output is none."""
    problem, ensemble = example(neuron=BOUNDED, temperature=0.0), start(m=64)
    for refused in (
        lambda: certify(problem, ensemble, method="proven"),
        lambda: problem.critical_reg(),
        lambda: RandomFeatures(8, neuron=problem.neuron).features(problem.X),
        lambda: problem.neuron.with_output("tanh"),
        lambda: get_neuron("relu").with_output("tann"),
        lambda: get_neuron({"activation": "relu", "outputs": "tanh"}),
    ):
        with pytest.raises(ValueError, match=r"output|tanh") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert "output tanh" in repr(problem)
    again = pickle.loads(pickle.dumps(problem.neuron))
    assert again.output.name == "tanh"
    assert not again.is_relu
    assert not again.is_homogeneous


def test_signs_are_held():
    """Half of them are +1, u is gaussian; where w does not move they stay, and f is a mean of ±φ."""
    law = Ensemble.signs(4096, 3, scale=0.5, seed=3)
    assert set(np.unique(law.w)) == {-1.0, 1.0}
    assert abs(law.w.mean()) < 4 / 64
    assert law.u.std() == pytest.approx(0.5, rel=0.03)
    assert (Ensemble.signs(100, 2, symmetric=True).w.reshape(-1, 2).sum(axis=1) == 0).all()
    config = load_config(None, ["ensemble.init=signs", "dynamics.rates=[1, 0]", "dynamics.method=langevin"])
    assert config.ensemble.init == "signs"
    first = Ensemble.signs(100, 6, 1, seed=1)
    ended = simulate(example(), first, Langevin(rates=(1, 0)), steps=5).ensemble
    assert np.array_equal(ended.w, first.w)
    assert not np.array_equal(ended.u, first.u)
