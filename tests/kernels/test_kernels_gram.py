"""The closed-form kernels: their values, and the matrices made of them."""

import csv
import subprocess
import sys
import tracemalloc
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

from meanfield.kernels import ReluKernel, empirical_ntk, relu_nngp, relu_ntk
from meanfield.kernels.gram import _map_tile
from meanfield.kernels.relu import _arcsine, _bend

TABLE = Path(__file__).parents[2] / "data" / "kernel_reference.csv"


def textbook(X, Z, w_std=1.0, u_std=1.0):
    """The two-layer NTK as the papers print it."""
    a, b = np.linalg.norm(X, axis=1)[:, None], np.linalg.norm(Z, axis=1)
    theta = np.arccos(np.clip(X @ Z.T / (a * b), -1, 1))
    kappa1 = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    return u_std**2 * a * b * kappa1 / 2 + w_std**2 * X @ Z.T * (1 - theta / np.pi) / 2


def ill_assorted(n, d, seed=0):
    """Points with exact and near duplicates, antipodes and zeros."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    fifth = n // 5
    X[fifth : 2 * fifth] = X[:fifth]
    X[2 * fifth : 3 * fifth] = X[:fifth] * (1 + 1e-9 * rng.normal(size=(fifth, d)))
    X[3 * fifth : 4 * fifth] = -X[:fifth]
    X[4 * fifth : 4 * fifth + 5] = 0
    return X


def test_values_agree_with_high_precision_on_every_kind_of_pair():
    """Relative error ≤ 1e-12: equal, opposite, near and far to 1e-12 rad, badly scaled; depth 2 to 50.

    Where the exact value is 0 (antiparallel), the error is at most 1e-30 ‖x‖ ‖y‖.
    """
    rows = list(csv.DictReader(TABLE.open()))
    assert len(rows) > 300
    for row in rows:
        x, y = (np.array([[float.fromhex(v) for v in row[name].split()]]) for name in "xy")
        scales = {"depth": int(row["depth"]), "w_std": float(row["w_std"]), "u_std": float(row["u_std"])}
        values = {
            name: relu_ntk(x, y, train=train, **scales)[0, 0]
            for name, train in (("ntk", "all"), ("first", "first"), ("last", "last"))
        }
        values["nngp"] = relu_nngp(x, y, **scales)[0, 0]
        for name, value in values.items():
            exact = float(row[name])
            allowed = 1e-12 * abs(exact) if exact else 1e-30 * np.linalg.norm(x) * np.linalg.norm(y)
            assert abs(value - exact) <= allowed, (row["pair"], row["d"], scales, name)


@pytest.mark.parametrize(
    ("polynomial", "function"),
    [
        (_arcsine, lambda z: mp.asin(mp.sqrt(z)) / mp.sqrt(z)),
        (_bend, lambda z: (mp.sqrt(1 - z) - (1 - 2 * z) * mp.asin(mp.sqrt(z)) / mp.sqrt(z)) / z),
    ],
)
def test_the_polynomials_are_right_to_two_units_in_the_last_place(polynomial, function):
    """On (0, ½], against mpmath."""
    rng = np.random.default_rng(0)
    with mp.workdps(60):
        for z in np.concatenate([rng.uniform(0, 0.5, 400), 10.0 ** rng.uniform(-12, -1, 100), [0.5]]):
            exact = function(mp.mpf(float(z)))
            assert abs(polynomial(z) - exact) <= 2 * np.spacing(float(exact)), z


def test_two_layers_are_the_printed_formula():
    """Depth 2 in the convention K = ½ u² ‖x‖‖z‖ κ₁ + ½ w² x·z κ₀, over several tiles."""
    rng = np.random.default_rng(1)
    X, Z = rng.normal(size=(300, 7)), rng.normal(size=(530, 7))
    K = relu_ntk(X, Z, w_std=0.7, u_std=1.9)
    assert K.dtype == np.float64
    np.testing.assert_allclose(K, textbook(X, Z, 0.7, 1.9), atol=1e-13)
    parts = sum(relu_ntk(X, Z, train=train, w_std=0.7, u_std=1.9) for train in ("first", "last"))
    np.testing.assert_allclose(K, parts, atol=1e-13)


@pytest.mark.parametrize("depth", [2, 4])
def test_gram_is_symmetric_to_the_bit_with_the_exact_diagonal(depth):
    """And the same bits with 1 or 3 threads."""
    X = ill_assorted(600, 5)
    kernel = ReluKernel(depth, 1.3, 0.8)
    K = kernel.gram(X, threads=1)
    assert np.array_equal(K, K.T)
    assert np.array_equal(K, kernel.gram(X, threads=3))
    np.testing.assert_allclose(np.diag(K), kernel.diagonal(X), rtol=4e-16)
    scale = sum(0.5 * 0.8**2 * (0.5 * 1.3**2) ** (depth - 2) for _ in range(depth - 1)) + (0.5 * 1.3**2) ** (depth - 1)
    np.testing.assert_allclose(np.diag(K), (X**2).sum(axis=1) * scale, rtol=2e-15)


@pytest.mark.parametrize("depth", [2, 5])
def test_gram_is_positive_semidefinite_to_rounding(depth):
    """2,000 points with duplicates, near duplicates, antipodes and zeros; nothing is NaN."""
    K = relu_ntk(ill_assorted(2000, 6), depth=depth)
    values = np.linalg.eigvalsh(K)
    assert values[0] >= -2000 * np.finfo(float).eps * values[-1]


def test_gram_respects_rotation_and_homogeneity():
    """K(Qx, Qz) = K(x, z) for orthogonal Q, and K(a x, b z) = a b K(x, z) for a, b > 0."""
    rng = np.random.default_rng(2)
    X, Z = rng.normal(size=(20, 6)), rng.normal(size=(30, 6))
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(relu_ntk(X @ Q, Z @ Q, depth=3), relu_ntk(X, Z, depth=3), atol=1e-13)
    np.testing.assert_allclose(relu_ntk(3 * X, Z / 7, depth=3), relu_ntk(X, Z, depth=3) * 3 / 7, rtol=1e-11)


@pytest.mark.parametrize("depth", [2, 4])
def test_finite_networks_converge_to_the_closed_form_like_one_over_root_width(depth):
    """The root mean square deviation over seeds falls with slope −½ in the width, ± 0.12."""
    rng = np.random.default_rng(3)
    X, Z = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    scales = {"depth": depth, "w_std": 1.4, "u_std": 0.8}
    limit, widths = relu_ntk(X, Z, **scales), np.array([32, 128, 512])
    errors = [
        np.sqrt(np.mean([(empirical_ntk(X, Z, width=m, seed=s, **scales) - limit) ** 2 for s in range(60)]))
        for m in widths
    ]
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.12
    assert errors[-1] < 0.2 * np.abs(limit).max()


def test_nngp_is_the_covariance_of_random_networks():
    """E f(x) f(z) over 200,000 two-layer networks of width one, within five standard errors."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(3, 4))
    f = np.maximum(0.6 * rng.normal(size=(200_000, 4)) @ X.T, 0) * 1.5 * rng.normal(size=(200_000, 1))
    products = f[:, :, None] * f[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(f))
    assert (np.abs(products.mean(axis=0) - relu_nngp(X, w_std=1.5, u_std=0.6)) < 5 * error).all()


def test_matrices_on_disk_hold_the_same_bits(tmp_path):
    """Memory-mapped and HDF5, square and rectangular; the budget decides; float32 is the rounded float64."""
    X, Z = ill_assorted(600, 4), ill_assorted(300, 4, seed=1)
    for other in (None, Z):
        K = relu_ntk(X, other)
        mapped = relu_ntk(X, other, out=tmp_path / "K.npy", memory_budget=1000)
        assert isinstance(mapped, np.memmap)
        assert np.array_equal(mapped, K)
        dataset = relu_ntk(X, other, out=tmp_path / "K.h5")
        assert np.array_equal(dataset[:], K)
        dataset.file.close()
        assert np.array_equal(relu_ntk(X, other, dtype="float32"), K.astype(np.float32))
    assert not isinstance(relu_ntk(X, out=tmp_path / "no.npy", memory_budget=10**9), np.memmap)
    assert not (tmp_path / "no.npy").exists()
    with pytest.raises(ValueError, match="memory budget"):
        relu_ntk(X, memory_budget=1000)


def test_streamed_products_equal_the_matrix_product():
    """kernel.dot(Z, X, coef) = K(Z, X) @ coef for one and several outputs, whatever the threads."""
    X, Z = ill_assorted(600, 4), ill_assorted(700, 4, seed=1)
    kernel, coef = ReluKernel(3), np.random.default_rng(5).normal(size=(600, 3))
    K = kernel.gram(Z, X)
    np.testing.assert_allclose(kernel.dot(Z, X, coef), K @ coef, atol=1e-10)
    assert np.array_equal(kernel.dot(Z, X, coef[:, 0], threads=1), kernel.dot(Z, X, coef[:, 0], threads=3))


def test_the_compiled_map_knows_that_rows_have_no_gaps():
    """Or it handles one number at a time, in four times as long: whatever the shape, it is compiled for C order."""
    X = ill_assorted(300, 4)
    ReluKernel().gram(X)
    ReluKernel().dot(X[:7], X, X[:, 0], products="float32")
    assert {signature[0].layout for signature in _map_tile.signatures} == {"C"}


def test_single_precision_products_err_by_their_rounding():
    """At most 2e-7 ‖z‖‖x‖ an entry; near and opposite pairs are taken from float64 vectors, zeros stay zero."""
    X, Z = ill_assorted(600, 40), ill_assorted(600, 40)[100:400]
    kernel = ReluKernel(w_std=1.2, u_std=0.7)
    error = kernel.dot(Z, X, np.eye(600), products="float32") - kernel.gram(Z, X)
    lengths = np.linalg.norm(Z, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    assert (np.abs(error) <= 2e-7 * lengths).all()
    assert np.abs(error).max() > 1e-9 * lengths.max()
    close = np.abs(Z @ X.T) > 0.9999 * lengths
    assert close.any()
    assert (np.abs(error) <= 1e-14 * lengths)[close].all()
    with pytest.raises(ValueError, match="products"):
        kernel.dot(Z, X, np.eye(600), products="float16")


def test_memory_stays_near_the_matrix_itself():
    """At most 1.1 × the Gram matrix while it is made; a product with 50,000 test points holds no matrix at all."""
    rng = np.random.default_rng(6)
    X, Z = rng.normal(size=(2500, 20)), rng.normal(size=(50_000, 20))
    kernel = ReluKernel()
    kernel.gram(X[:300])
    tracemalloc.start()
    K = kernel.gram(X, threads=2)
    square = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    kept = tracemalloc.get_traced_memory()[0]
    kernel.dot(Z, X, X[:, 0], threads=2)
    streamed = tracemalloc.get_traced_memory()[1] - kept
    tracemalloc.stop()
    assert square <= 1.1 * K.nbytes
    assert streamed <= 5 * Z.nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[np.nan, 1.0]],), "NaN"),
        (([1.0, 2.0],), "shape"),
        ((np.zeros((0, 3)),), "shape"),
        ((np.ones((2, 3)), np.ones((2, 4))), "4 features"),
        ((np.full((2, 2), 1e200),), "overflow"),
        ((np.array([["a"]]),), "numbers"),
    ],
)
def test_bad_points_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        relu_ntk(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 1},
        {"depth": 2.5},
        {"w_std": -1},
        {"w_std": 1e200},
        {"depth": 2000},
        {"depth": 400, "w_std": 10.0},
        {"depth": 20, "w_std": 1e100},
        {"u_std": np.nan},
        {"train": "middle"},
        {"dtype": "int"},
        {"threads": 0},
        {"out": "K.csv"},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        relu_ntk(np.ones((2, 2)), **options)


def test_a_deep_kernel_of_a_lasting_size_is_taken():
    """Depth 2000 at w_std = √2: K(x, x) = L/2 ‖x‖² for ½ u_std² = ½ a layer and T¹ = 1 at first; depth 800 at 1."""
    assert relu_ntk(np.eye(2), depth=2000, w_std=2**0.5)[0, 0] == pytest.approx(1 + 1999 / 2, rel=1e-10)
    assert relu_ntk(np.eye(2), depth=800)[0, 0] > 0


def test_importing_the_package_loads_nothing_heavy():
    """numba, SciPy and scikit-learn wait for the first use, so that a command line's --help is quick."""
    code = "import sys, meanfield.kernels; print({'numba', 'scipy', 'sklearn', 'h5py'} & set(sys.modules) or 'none')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "none"


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_an_outside_implementation_agrees(depth):
    """neural-tangents' analytic kernels in double precision, two to five layers, to 1e-10.

    It multiplies standard normal weights by W_std/√(fan-in), so each layer's part of its NTK is that factor² × ours.
    """
    stax = pytest.importorskip("neural_tangents").stax
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
    rng = np.random.default_rng(7)
    X, Z, s, u, d = rng.normal(size=(20, 5)), rng.normal(size=(10, 5)), 1.3, 0.7, 5
    hidden = [layer for _ in range(depth - 2) for layer in (stax.Dense(1, W_std=s), stax.Relu())]
    kernel = stax.serial(stax.Dense(1, W_std=u), stax.Relu(), *hidden, stax.Dense(1, W_std=s))[2]
    scales = {"w_std": s, "u_std": u / np.sqrt(d), "depth": depth}
    first = relu_ntk(X, Z, train="first", **scales)
    ours = u**2 / d * first + s**2 * (relu_ntk(X, Z, **scales) - first)
    np.testing.assert_allclose(ours, kernel(X, Z, "ntk"), rtol=1e-10)
    np.testing.assert_allclose(relu_nngp(X, Z, **scales), kernel(X, Z, "nngp"), rtol=1e-10)
