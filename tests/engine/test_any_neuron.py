"""Laws of the passes for any neuron w φ(u·x): they agree with the slow twin, and nothing else decides their bits."""

import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import naive
import numpy as np
import pytest

from meanfield.dynamics import exponential_move
from meanfield.engine import activation
from meanfield.engine.engine import BLOCK, Activation, Engine, Move
from meanfield.engine.noise import Purpose, normals
from meanfield.ensemble import Ensemble
from meanfield.neuron import get_neuron

DTYPES = ["float32", "float64"]
ROUNDING = {"float32": 1e-5, "float64": 1e-13}
TANH = np.tanh, (lambda z: 1 - np.tanh(z) ** 2)


def shifted(z):
    """No zero at 0: what lies beyond the last particle and the last row must not count."""
    return 1.0 / (1.0 + z * z)


def shifted_slope(z):
    return -2.0 * z / (1.0 + z * z) ** 2


NEURONS = {  # what the engine takes, and the twin
    "tanh": (get_neuron("tanh").passes, TANH),
    "own": (Activation(shifted, shifted_slope), (shifted, shifted_slope)),
}


def inputs(n, d, outputs, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, outputs)) / n


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize(("n", "d", "m", "outputs"), [(1, 1, 1, 1), (37, 11, 70, 1), (70, 27, 45, 3), (130, 3, 65, 26)])
def test_any_shape_agrees_with_the_twin(name, dtype, n, d, m, outputs):
    """Predictions, ∫‖θ‖², the drift's norm, potentials and a noisy step, for sizes that fill no tile."""
    passes, twin = NEURONS[name]
    X, r = (a.astype(dtype).astype(np.float64) for a in inputs(n, d, outputs, seed=n))
    ensemble = Ensemble.gaussian(m, d, outputs, seed=m, dtype=dtype)
    w, u = ensemble.w.astype(np.float64), ensemble.u.astype(np.float64)
    eps, engine = ROUNDING[dtype], Engine(X, outputs, dtype, activation=passes)

    moments = engine.predict(ensemble.particles)
    scale = np.abs(twin[0](X @ u.T) @ np.abs(w)).max() / m
    assert np.abs(moments.f - naive.predict(w, u, X, twin)).max() <= eps * scale
    assert moments.second == pytest.approx(naive.second(w, u), rel=1e-12)

    square, potentials = engine.observe(ensemble.particles, r, 0.3, potentials=True)
    by_w, by_u = naive.drift(w, u, X, r, 0.3, twin)
    assert square == pytest.approx((np.sum(by_w**2) + np.sum(by_u**2)) / m, rel=10 * eps)
    exact = naive.potentials(w, u, X, r, 0.3, twin)
    assert np.abs(potentials - exact).max() <= 10 * eps * (np.abs(exact).max() + np.abs(by_w * w).sum(axis=1).max())

    engine.advance(ensemble.particles, r, exponential_move(0.7, 0.3, 0.2), 5, 6)
    xi = normals(5, Purpose.LANGEVIN, 6, m, d + outputs, dtype=dtype)
    w, u = naive.step(w, u, X, r, 0.7, 0.3, 0.2, xi, twin)
    for got, expected in ((ensemble.u, u), (ensemble.w, w)):
        assert np.abs(got - expected).max() <= 10 * eps * np.abs(expected).max()
    assert not ensemble.theta[-1, :, m % ensemble.theta.shape[2] :].any() or m % ensemble.theta.shape[2] == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_threads_change_no_bit(outputs):
    """Neither do other rows, a fused prediction, or a pickled engine."""
    X, r = inputs(37, 11, outputs, seed=2)
    found = set()
    for threads in (1, 3):
        ensemble = Ensemble.gaussian(2 * BLOCK + 77, 11, outputs)
        engine = pickle.loads(pickle.dumps(Engine(X, outputs, "float32", threads, get_neuron("tanh").passes)))
        for step in range(3):
            fused = engine.advance(ensemble.particles, r, Move(0.01, 0.1, 0.01, 0.05), 1, step)
        square, _ = engine.observe(ensemble.particles, r, 0.1)
        found.add((ensemble.theta.tobytes(), fused.f.tobytes(), fused.second, square))
        row = Engine(X[5:6], outputs, "float32", 1, get_neuron("tanh").passes)
        assert np.array_equal(row.predict(ensemble.particles).f[0], fused.f[5])
    assert len(found) == 1


def test_the_general_pass_of_relu_is_the_relu():
    """Up to the order of sums: the two know nothing of each other."""
    X, r = inputs(40, 7, 1)
    relu = Activation(*(get_neuron("relu").activation, get_neuron("relu").derivative))
    first, second = (Ensemble.gaussian(300, 7, dtype="float64") for _ in range(2))
    f = Engine(X, 1, "float64", activation=relu).advance(first.particles, r, Move(0.1, 0.5), 0, 0).f
    g = Engine(X, 1, "float64").advance(second.particles, r, Move(0.1, 0.5), 0, 0).f
    assert not np.array_equal(first.theta, second.theta)
    assert np.abs(first.theta - second.theta).max() < 1e-14
    assert np.abs(f - g).max() < 1e-13


def test_two_threads_that_need_a_loop_at_once_get_the_same(monkeypatch):
    """And it lives: nobody holds the address of one that was thrown away."""
    both, make = threading.Barrier(2), activation._loops
    monkeypatch.setattr(activation, "_loops", lambda *what: (both.wait(60) and None) or make(*what))
    own = Activation(shifted, shifted_slope)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: own.rule("float64"), range(2))
    assert first == second == own.rule("float64")


def test_numbers_that_are_none_are_seen():
    """A neuron that leaves the range gives NaN moments, and no exception in compiled code."""
    steep = Activation(lambda z: math.exp(z * z), lambda z: 2 * z * math.exp(z * z))
    ensemble = Ensemble.from_arrays([1.0], [[100.0]])
    assert np.isnan(Engine(np.ones((2, 1)), 1, "float64", activation=steep).predict(ensemble.particles).f).all()
