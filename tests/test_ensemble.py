"""Laws of the ensemble: its initial laws, and that particles go in and come out unchanged."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from meanfield import Problem, load, simulate
from meanfield.ensemble import Ensemble
from meanfield.errors import InputError

DTYPES = ["float32", "float64"]


def both(ensemble):
    """θ = (u, w) as (m, d + C) float64."""
    return np.hstack([ensemble.u, ensemble.w]).astype(np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "outputs", "scale"), [(1, 1, 1.0), (5, 3, 0.25), (20, 1, 3.0)])
def test_sphere_is_uniform_on_the_sphere(dtype, d, outputs, scale):
    """Radius `scale` to rounding; components and squares have the moments of U(S^{D−1}), D = d + C; |u|² is Beta."""
    m, D = 60_000, d + outputs
    theta = both(Ensemble.sphere(m, d, outputs, scale=scale, seed=1, dtype=dtype)) / scale
    assert np.abs(np.linalg.norm(theta, axis=1) - 1).max() < (5e-7 if dtype == "float32" else 1e-15)
    assert np.abs(theta.mean(axis=0)).max() < 4.5 / np.sqrt(D * m)
    variance = 3 / (D * (D + 2)) - 1 / D**2
    assert np.abs((theta**2).mean(axis=0) - 1 / D).max() < 4.5 * np.sqrt(variance / m)
    covariance = theta.T @ theta / m
    off = np.abs(covariance - np.diag(np.diag(covariance))).max()
    assert off < 4.5 / np.sqrt(D * (D + 2) * m)
    u2 = np.sum(theta[:, :d] ** 2, axis=1)
    assert stats.kstest(u2, stats.beta(d / 2, outputs / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_components_are_independent_normals(dtype):
    """Each component N(0, scale²), uncorrelated, Kolmogorov–Smirnov over all."""
    theta = both(Ensemble.gaussian(50_000, 6, 2, scale=0.5, seed=2, dtype=dtype)) / 0.5
    assert stats.kstest(theta.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(theta, rowvar=False) - np.eye(8)).max() < 4.5 / np.sqrt(50_000)


@pytest.mark.parametrize("law", [Ensemble.sphere, Ensemble.gaussian])
def test_more_particles_begin_with_the_fewer(law):
    """A particle's initial place depends on seed and number only; another seed gives another ensemble."""
    few, many = law(100, 5, 2, seed=4), law(3000, 5, 2, seed=4)
    assert np.array_equal(both(few), both(many)[:100])
    assert not np.array_equal(both(law(100, 5, 2, seed=5)), both(few))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 31, 32, 63, 64, 65, 1023, 1025])
def test_particles_come_out_as_they_went_in(dtype, m):
    """from_arrays, then w and u, any range of rows, blocks of any size, and a copy: the same bits."""
    rng = np.random.default_rng(m)
    w, u = rng.standard_normal((m, 3)).astype(dtype), rng.standard_normal((m, 5)).astype(dtype)
    ensemble = Ensemble.from_arrays(w, u, seed=3)
    assert (ensemble.m, ensemble.d, ensemble.outputs, ensemble.dtype) == (m, 5, 3, np.dtype(dtype))
    assert np.array_equal(ensemble.w, w)
    assert np.array_equal(ensemble.u, u)
    for first, last in ((0, m), (m // 3, m // 2 + 1), (m - 1, m)):
        got_w, got_u = ensemble.rows(first, last)
        assert np.array_equal(got_w, w[first:last])
        assert np.array_equal(got_u, u[first:last])
    for size in (1, 50, 1 << 18):
        parts = list(ensemble.blocks(size))
        assert np.array_equal(np.concatenate([part[0] for part in parts]), w)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), u)


@pytest.mark.parametrize("dtype", DTYPES)
def test_filling_in_pieces_is_filling_at_once(dtype):
    """Pieces that begin at multiples of 64, the last one of any length; lanes beyond m stay zero."""
    rng = np.random.default_rng(0)
    w, u = rng.standard_normal((333, 1)).astype(dtype), rng.standard_normal((333, 4)).astype(dtype)
    whole, pieces = Ensemble.from_arrays(w, u), Ensemble.empty(333, 4, 1, dtype)
    for first, last in ((0, 64), (64, 256), (256, 333)):
        pieces.fill(first, w[first:last], u[first:last])
    assert np.array_equal(pieces.theta, whole.theta)
    assert not pieces.theta[-1, :, 333 % pieces.theta.shape[2] :].any()


def test_a_copy_shares_nothing():
    """Neither particles nor memory; seed, step and time come along."""
    first = Ensemble.sphere(10, 3, seed=8)
    first.step, first.time, first.memory["a"] = 5, 0.5, 1.0
    other = first.copy()
    assert (other.seed, other.step, other.time, other.memory) == (8, 5, 0.5, {"a": 1.0})
    other.fill(0, np.zeros((10, 1)), np.zeros((10, 3)))
    other.memory["a"] = 2.0
    assert first.theta.any()
    assert first.memory["a"] == 1.0
    w, u = np.ones((4, 1)), np.ones((4, 3))
    taken = Ensemble.from_arrays(w, u)
    u[:] = 7
    assert np.array_equal(taken.u, np.ones((4, 3)))


@pytest.mark.parametrize(("m", "d", "outputs"), [(1, 1, 1), (10, 1, 1), (30, 1, 2), (32, 3, 1), (100, 3, 2)])
def test_particles_come_out_as_copies(m, d, outputs):
    """What `rows`, `w`, `u` and `head` return stays when the ensemble changes, however few particles it has."""
    ensemble = Ensemble.gaussian(m, d, outputs, dtype="float64")
    given = (*ensemble.rows(0, m), ensemble.w, ensemble.u, ensemble.head(m).theta)
    before = [array.copy() for array in given]
    ensemble.fill(0, np.zeros((m, outputs)), np.zeros((m, d)))
    assert all(np.array_equal(array, old) for array, old in zip(given, before, strict=True))
    for array in ensemble.rows(0, m):  # these are the caller's own
        array[:] = 7
    assert not ensemble.u.any()


@pytest.mark.parametrize("name", ["w", "u", "theta"])
def test_attributes_are_not_written_to_in_vain(name):
    """Setting elements of a copy would change nothing, and of theta behind the engine's back: both raise."""
    with pytest.raises(ValueError, match="read-only"):
        getattr(Ensemble.sphere(10, 3), name)[0] = 7


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), Ensemble.copy])
def test_an_ensemble_can_be_copied_and_pickled(again):
    """With all that its next step needs; deep copies share nothing."""
    first = Ensemble.sphere(100, 3, 2, seed=8)
    first.step, first.time, first.memory["a"] = 5, 0.5, 1.0
    second = again(first)
    assert np.array_equal(second.theta, first.theta)
    assert (second.seed, second.step, second.time, second.memory) == (8, 5, 0.5, {"a": 1.0})
    X = np.random.default_rng(0).standard_normal((7, 3))
    assert np.array_equal(second.predict(X), first.predict(X))
    if again is not copy.copy:
        second.fill(0, np.zeros((100, 2)), np.zeros((100, 3)))
        second.memory["a"] = 2.0
        assert first.u.any()
        assert first.memory == {"a": 1.0}


def test_predictions_have_the_shape_of_the_task():
    """(n,) for one output, else (n, C); float64; rows beyond one batch of 4096 included."""
    X = np.random.default_rng(0).standard_normal((5000, 3))
    for outputs, shape in ((1, (5000,)), (2, (5000, 2))):
        ensemble = Ensemble.gaussian(70, 3, outputs, dtype="float64")
        f = ensemble.predict(X)
        assert f.shape == shape
        assert f.dtype == np.float64
        exact = np.maximum(X @ ensemble.u.T, 0) @ ensemble.w / 70
        assert np.abs(f.reshape(5000, -1) - exact).max() < 1e-13


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Ensemble.sphere(0, 3), "m = 0"),
        (lambda: Ensemble.sphere(10, 0), "d = 0"),
        (lambda: Ensemble.sphere(10, 3, 0), "outputs = 0"),
        (lambda: Ensemble.sphere(2.5, 3), "m = 2.5"),
        (lambda: Ensemble.sphere(True, 3), "m = True"),
        (lambda: Ensemble.sphere(2**48, 3), "m = "),
        (lambda: Ensemble.sphere(10, 3, seed=-1), "seed = -1"),
        (lambda: Ensemble.sphere(10, 3, seed=2**64), "seed = "),
        (lambda: Ensemble.gaussian(10, 3, scale=0), "scale = 0"),
        (lambda: Ensemble.gaussian(10, 3, scale=float("nan")), "scale = nan"),
        (lambda: Ensemble.sphere(10, 3, scale=1e20), "scale = 1e.20: must be from 1e-15 to 1e15"),
        (lambda: Ensemble.sphere(10, 3, scale=1e-30), "scale = 1e-30"),
        (lambda: Ensemble.sphere(10, 3, dtype="float16"), "dtype"),
        (lambda: Ensemble.sphere(10, 3, dtype="int32"), "dtype"),
        (lambda: Ensemble.from_arrays(np.ones((3, 1)), np.ones((4, 2))), "shape"),
        (lambda: Ensemble.from_arrays(np.ones(4), np.ones(4)), "shape"),
        (lambda: Ensemble.from_arrays(np.ones(4), np.array([[1, 2.0], [np.nan, 0], [0, 0], [0, 0]])), r"u\[1, 0\]"),
        (lambda: Ensemble.from_arrays(np.array([1, np.inf]), np.ones((2, 2))), r"w\[1, 0\]"),
        (lambda: Ensemble.from_arrays(np.ones((0, 1)), np.ones((0, 2))), "m = 0"),
        (lambda: Ensemble.sphere(10, 3).predict(np.ones((5, 4))), "X"),
        (lambda: Ensemble.sphere(10, 3).predict(np.ones(3)), "X"),
    ],
)
def test_bad_arguments_are_named(call, named):
    """InputError, in one line that names what is wrong."""
    with pytest.raises(InputError, match=named) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_dtype_that_is_none_is_an_input_error():
    """A name that NumPy does not know is refused in our words too."""
    with pytest.raises(InputError, match="dtype"):
        Ensemble.sphere(10, 3, dtype="float33")


def test_particles_that_overflow_single_precision_are_refused():
    """What is finite in float64 but not in the ensemble's own dtype must not become an infinity in silence."""
    with pytest.raises(InputError, match="finite"):
        Ensemble.from_arrays(np.ones(2), np.array([[1.0], [1e39]]), dtype="float32")


def test_sizes_and_seeds_may_be_scalars_of_numpy(tmp_path):
    """The run is kept, and the particles are those of the numbers themselves."""
    sizes = (np.int64(64), np.int32(2), np.uint8(1))
    ensemble = Ensemble.sphere(*sizes, seed=np.uint64(3))
    np.testing.assert_array_equal(ensemble.theta, Ensemble.sphere(64, 2, 1, seed=3).theta)
    simulate(Problem(np.eye(2), [1, -1]), ensemble, steps=np.int32(1), out=tmp_path / "a.h5")
    assert load(tmp_path / "a.h5").ensemble.m == 64
