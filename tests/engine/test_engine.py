"""Laws of the compiled loops: they agree with the slow twin, and nothing but the numbers decides the bits."""

import copy
import os
import pickle
import subprocess
import sys

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meanfield.dynamics import exponential_move
from meanfield.engine.engine import BLOCK, Engine, Move, Particles, group_size
from meanfield.engine.noise import Purpose, normals
from meanfield.ensemble import Ensemble

DTYPES = ["float32", "float64"]
ROUNDING = {"float32": 1e-5, "float64": 1e-13}


def make(m, d, outputs, dtype, seed=0):
    return Ensemble.gaussian(m, d, outputs, seed=seed, dtype=dtype)


def inputs(n, d, outputs, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, outputs)) / n


def close(got, exact, within):
    """Largest difference below `within` times the largest exact number."""
    assert np.abs(got - exact).max() <= within * np.abs(exact).max()


sizes = st.integers(1, 70)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=sizes, d=sizes, m=sizes, outputs=st.one_of(st.just(1), sizes), dtype=st.sampled_from(DTYPES))
def test_any_shape_agrees_with_the_twin(n, d, m, outputs, dtype):
    """Predictions, ∫‖θ‖², the drift's norm, potentials and a noisy step, for sizes that fill no tile."""
    X, r = inputs(n, d, outputs, seed=n + 71 * d)
    X = X.astype(dtype).astype(np.float64)
    r = r.astype(dtype).astype(np.float64)
    ensemble = make(m, d, outputs, dtype, seed=m)
    u = ensemble.u.copy()
    u[naive.near_kink(u, X, 1e-5)] = 0  # nobody's pattern may hang on a rounding
    w = ensemble.w.astype(np.float64)
    ensemble.fill(0, w, u)
    u = u.astype(np.float64)
    eps, engine = ROUNDING[dtype], Engine(X, outputs, dtype)

    moments = engine.predict(ensemble.particles)
    assert moments.f.shape == (n, outputs)
    scale = np.abs(np.maximum(X @ u.T, 0) @ np.abs(w)).max() / m
    assert np.abs(moments.f - naive.predict(w, u, X)).max() <= eps * scale
    assert moments.second == pytest.approx(naive.second(w, u), rel=1e-12)

    square, potentials = engine.observe(ensemble.particles, r, 0.3, potentials=True)
    by_w, by_u = naive.drift(w, u, X, r, 0.3)
    assert square == pytest.approx((np.sum(by_w**2) + np.sum(by_u**2)) / m, rel=10 * eps)
    exact = naive.potentials(w, u, X, r, 0.3)
    assert np.abs(potentials - exact).max() <= 10 * eps * (np.abs(exact).max() + np.abs(by_w * w).sum(axis=1).max())

    move = exponential_move(0.7, 0.3, 0.2)
    engine.advance(ensemble.particles, r, move, 5, 6)
    xi = normals(5, Purpose.LANGEVIN, 6, m, d + outputs, dtype=dtype)
    w, u = naive.step(w, u, X, r, 0.7, 0.3, 0.2, xi)
    close(ensemble.u, u, 10 * eps)
    close(ensemble.w, w, 10 * eps)


def test_more_rows_and_blocks_than_any_tile_agree_with_the_twin():
    """n beyond the rows that are summed in one go, m beyond two blocks, d beyond one tile; one output and several."""
    for outputs in (1, 3):
        X, r = inputs(600, 50, outputs)
        ensemble = make(2 * BLOCK + 100, 50, outputs, "float64")
        w, u = ensemble.w, ensemble.u
        engine = Engine(X, outputs, "float64", threads=2)
        close(engine.predict(ensemble.particles).f, np.maximum(X @ u.T, 0) @ w / ensemble.m, 1e-12)
        engine.advance(ensemble.particles, r, Move(0.1, 0.2), 0, 0)
        on = (X @ u.T > 0).astype(float)
        close(ensemble.u, 0.9 * u - 0.2 * (on * (r @ w.T)).T @ X, 1e-12)
        close(ensemble.w, 0.9 * w - 0.2 * np.maximum(X @ u.T, 0).T @ r, 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_particle_on_a_kink_feels_nothing_of_that_example(dtype, outputs):
    """relu'(0) = 0: exact zeros, such as u ⊥ x on the paper's data, and u = 0, count as inactive."""
    X = np.array([[1.0, 0, 1], [0, 1.0, 1], [-1.0, 0, -1]])
    w, u = np.ones((2, outputs)), np.array([[1.0, 0, -1], [0, 0, 0]])
    ensemble = Ensemble.from_arrays(w, u, dtype=dtype)
    Engine(X, outputs, dtype).advance(ensemble.particles, np.ones((3, outputs)), Move(0.0, 1.0), 0, 0)
    assert np.array_equal(ensemble.u, u)
    assert np.array_equal(ensemble.w, w)


def history(threads, outputs, dtype, m=5 * BLOCK + 77, death=0.05):
    """Bits of everything that three noisy steps with deaths produce."""
    X, r = inputs(37, 11, outputs, seed=2)
    ensemble, engine = make(m, 11, outputs, dtype), Engine(X, outputs, dtype, threads)
    out = [engine.predict(ensemble.particles)]
    for step in range(3):
        out.append(engine.advance(ensemble.particles, r, Move(0.01, 0.1, 0.01, death), 1, step))
    square, potentials = engine.observe(ensemble.particles, r, 0.1, potentials=True)
    parts = [moments.f.tobytes() + np.float64(moments.second).tobytes() for moments in out]
    return b"".join([*parts, np.float64(square).tobytes(), potentials.tobytes(), ensemble.theta.tobytes()])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_threads_change_no_bit(dtype, outputs):
    """1, 2, 3 and 8 threads, more than there are blocks, the same bits."""
    alone = history(1, outputs, dtype)
    assert all(history(threads, outputs, dtype) == alone for threads in (2, 3, 8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 4])
def test_predicting_alone_or_in_a_step_gives_the_same_bits(dtype, outputs):
    """What `advance` returns is what `predict` says of the moved particles, with or without kept bits."""
    X, r = inputs(37, 11, outputs)
    ensemble = make(2 * BLOCK + 5, 11, outputs, dtype)
    engine = Engine(X, outputs, dtype, 2)
    fused = engine.advance(ensemble.particles, r, Move(0.1, 0.5, 0.3, 0.1), 3, 4)
    for keep in (True, False):
        alone = Engine(X, outputs, dtype, 1).predict(ensemble.particles, keep=keep)
        assert np.array_equal(alone.f, fused.f)
        assert alone.second == fused.second
    for row in (0, 5, 36):  # nor do the other rows matter
        assert np.array_equal(Engine(X[row : row + 1], outputs, dtype).predict(ensemble.particles).f[0], fused.f[row])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_padding_stays_zero(dtype, outputs):
    """Lanes beyond m hold zeros after noise, drift and deaths, and add nothing."""
    X, r = inputs(9, 5, outputs)
    ensemble = make(101, 5, outputs, dtype)
    engine = Engine(X, outputs, dtype)
    for step in range(3):
        moments = engine.advance(ensemble.particles, r, Move(0.1, 1.0, 1.0, 0.9), 0, step)
    assert not ensemble.theta[-1, :, 101 % group_size(dtype) :].any()
    assert moments.second == pytest.approx(naive.second(ensemble.w, ensemble.u), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_move_does_not_depend_on_a_particles_place(dtype, outputs):
    """At τ = 0 permuted particles move to permuted places, bit for bit; their predictions agree to rounding."""
    X, r = inputs(37, 11, outputs)
    m = BLOCK + 130
    first = make(m, 11, outputs, dtype)
    order = np.random.default_rng(0).permutation(m)
    second = Ensemble.from_arrays(first.w[order], first.u[order], dtype=dtype)
    f, g = (Engine(X, outputs, dtype).advance(e.particles, r, Move(0.1, 0.5), 0, 0).f for e in (first, second))
    assert np.array_equal(first.u[order], second.u)
    assert np.array_equal(first.w[order], second.w)
    close(g, f, ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_order_of_blocks_changes_no_bit(dtype, outputs):
    """Sums over blocks are exact: blocks reversed, or every block held twice, the same predictions bit for bit."""
    X, _ = inputs(37, 11, outputs)
    ensemble = make(4 * BLOCK, 11, outputs, dtype)
    blocks = ensemble.theta.reshape(4, -1, *ensemble.theta.shape[1:])
    engine = Engine(X, outputs, dtype, 2)
    moments = engine.predict(ensemble.particles)
    backwards = engine.predict(Particles(np.concatenate(list(blocks[::-1])), 4 * BLOCK))
    twice = engine.predict(Particles(np.concatenate([*blocks, *blocks]), 8 * BLOCK))
    for other in (backwards, twice):
        assert np.array_equal(other.f, moments.f)
        assert other.second == moments.second


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_that_cancel_leave_no_trace(dtype):
    """Two blocks of opposite sign and 10⁵ times the size take nothing from the third one's sum."""
    X, _ = inputs(37, 11, 1)
    small, big = make(BLOCK, 11, 1, dtype), make(BLOCK, 11, 1, dtype, seed=1)
    large, mirrored = big.theta * 300, big.theta * 300
    mirrored[:, 11:] *= -1
    engine = Engine(X, 1, dtype)
    alone = engine.predict(small.particles).f * BLOCK
    together = engine.predict(Particles(np.concatenate([large, small.theta, mirrored]), 3 * BLOCK)).f
    assert np.array_equal(together, alone / (3 * BLOCK))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e10])
def test_what_is_out_of_range_becomes_nan(dtype, outputs, bad):
    """NaN, infinity, or a sum beyond 2⁵⁷ anywhere makes every prediction NaN: never a wrong number."""
    X = np.abs(inputs(6, 4, outputs)[0])
    ensemble = make(2 * BLOCK, 4, outputs, dtype)
    engine = Engine(X, outputs, dtype, 2)
    assert np.isfinite(engine.predict(ensemble.particles).f).all()
    with ensemble.particles.writing() as theta:
        theta[3, :, 5] = bad
    moments = engine.predict(ensemble.particles)
    assert np.isnan(moments.f).all()
    assert np.isnan(moments.second)
    assert np.isnan(engine.observe(ensemble.particles, np.full((6, outputs), 1e6), 1.0)[0])


def test_tiny_predictions_keep_an_absolute_error():
    """Fixed point ends at 2⁻⁷²: a prediction is good to 2⁻⁷³ a block and output, however small the particles are."""
    X, _ = inputs(5, 3, 1)
    made = make(BLOCK, 3, 1, "float64")
    ensemble = Ensemble.from_arrays(made.w * 1e-9, made.u * 1e-9)
    f = Engine(X, 1, "float64").predict(ensemble.particles).f
    assert np.abs(f - naive.predict(ensemble.w, ensemble.u, X)).max() <= (2.0**-73 + 1e-13 * 1e-18 * 1e4) / BLOCK
    assert f.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_deaths_come_at_their_rate_and_births_on_the_sphere(dtype):
    """With probability p a particle is replaced by a point of the unit sphere, u and w together; the rest stay."""
    m, p = 20_000, 0.3
    ensemble = make(m, 4, 2, dtype)
    before = np.hstack([ensemble.u, ensemble.w])
    Engine(np.ones((1, 4)), 2, dtype).advance(ensemble.particles, np.zeros((1, 2)), Move(0.0, 0.0, 0.0, p), 9, 1)
    after = np.hstack([ensemble.u, ensemble.w]).astype(np.float64)
    died = (after != before).any(axis=1)
    assert abs(died.mean() - p) < 4.5 * np.sqrt(p * (1 - p) / m)
    assert np.abs(np.linalg.norm(after[died], axis=1) - 1).max() < (1e-6 if dtype == "float32" else 1e-14)
    assert np.abs(after[died].mean(axis=0)).max() < 4.5 / np.sqrt(6 * died.sum())


def test_other_particles_are_predicted_before_they_are_moved():
    """Activation bits belong to the particles last seen: others never move by them."""
    X, r = inputs(9, 5, 1)
    one, other = make(50, 5, 1, "float64"), make(50, 5, 1, "float64", seed=1)
    engine, fresh = Engine(X, 1, "float64"), other.copy()
    engine.predict(one.particles)
    engine.advance(other.particles, r, Move(0.0, 0.5), 0, 0)
    Engine(X, 1, "float64").advance(fresh.particles, r, Move(0.0, 0.5), 0, 0)
    assert np.array_equal(other.theta, fresh.theta)


def filled(ensemble, X):
    ensemble.fill(0, ensemble.w, -ensemble.u)


def written_into(ensemble, X):
    with ensemble.particles.writing() as theta:
        theta[:, : ensemble.d] *= -1


def moved_by_another_engine(ensemble, X):
    Engine(X, 1, "float64").advance(ensemble.particles, np.ones((len(X), 1)), Move(2.0, 3.0), 0, 0)


@pytest.mark.parametrize("change", [filled, written_into, moved_by_another_engine])
def test_particles_that_anybody_changed_are_predicted_before_they_are_moved(change):
    """An engine that has seen them moves and observes them as one that has not."""
    X, r = inputs(9, 5, 1)
    ensemble, engine = make(50, 5, 1, "float64"), Engine(X, 1, "float64")
    engine.predict(ensemble.particles)
    change(ensemble, X)
    assert not engine.knows(ensemble.particles)
    fresh = ensemble.copy()
    seen, unseen = (
        e.observe(p.particles, r, 0.1)[0] for e, p in ((engine, ensemble), (Engine(X, 1, "float64"), fresh))
    )
    assert seen == unseen
    engine.predict(ensemble.particles)
    change(ensemble, X)
    fresh = ensemble.copy()
    engine.advance(ensemble.particles, r, Move(0.0, 0.5), 0, 0)
    Engine(X, 1, "float64").advance(fresh.particles, r, Move(0.0, 0.5), 0, 0)
    assert np.array_equal(ensemble.theta, fresh.theta)


def test_nobody_writes_past_the_engine():
    """Arrays that are given out are read-only, slices included."""
    ensemble = make(50, 5, 1, "float64")
    for array in (ensemble.theta, ensemble.theta[0], ensemble.particles.theta, ensemble.groups(0, 1)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_an_engine_can_be_copied_and_pickled(again):
    """The copy computes the same bits, and holds none of the particles that the first one has seen."""
    X, r = inputs(9, 5, 1)
    ensemble, engine = make(50, 5, 1, "float32"), Engine(X, 1, "float32", 1)
    engine.predict(ensemble.particles)
    second = again(engine)
    assert not second.knows(ensemble.particles)
    moved = ensemble.copy()
    first = engine.advance(ensemble.particles, r, Move(0.1, 0.5, 0.1), 1, 2)
    assert np.array_equal(second.advance(moved.particles, r, Move(0.1, 0.5, 0.1), 1, 2).f, first.f)
    assert np.array_equal(moved.theta, ensemble.theta)


DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_engine import history
print(hashlib.sha256(b"".join(history(2, C, t, m=1100) for C in (1, 3) for t in ("float32", "float64"))).hexdigest())
"""


@pytest.mark.slow
def test_the_vector_width_changes_no_bit(tmp_path):
    """A process held to 256-bit registers, with smaller tiles, computes the same bits as one at full width."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    if not features.get("avx512f"):
        pytest.skip("needs a processor with 512-bit vectors")
    narrow = ",".join(f"{'+' if on and not name.startswith('avx512') else '-'}{name}" for name, on in features.items())
    digests = []
    for extra in ({}, {"NUMBA_CPU_NAME": binding.get_host_cpu_name(), "NUMBA_CPU_FEATURES": narrow}):
        env = {**os.environ, **extra, "NUMBA_CACHE_DIR": str(tmp_path / str(len(extra)))}
        command = [sys.executable, "-c", DIGEST, os.path.dirname(__file__)]
        digests.append(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    assert digests[0] == digests[1]
