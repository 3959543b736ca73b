"""exact_math: errors against mpmath, limits, monotony; sums against exact ones; products element by element."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from meanfield.engine import exact_algebra, exact_math
from meanfield.runtime.threads import Workers

mpmath.mp.dps = 60
COUNT = 3000
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, -2.0, 5e-324, -5e-324, 2.2e-308, -1e-310, 1e300])


def points(*, around=(), low=-40.0, high=40.0, seed=0):
    """Uniform in [low, high], of all sizes down to 1e-20 on both sides of 0 and of each of `around`."""
    rng = np.random.default_rng(seed)
    small = rng.choice([-1.0, 1.0], COUNT) * 10.0 ** rng.uniform(-20, 0, COUNT)
    return np.concatenate([rng.uniform(low, high, COUNT), small, *(a + a * small for a in around)])


POSITIVE = np.abs(points(around=(1.0, 2.0, 0.5, 1e-310), low=1e-3, high=1e3))
FUNCTIONS = {  # our function, mpmath's, points, largest error in ulp
    "exp": (exact_math.exp, mpmath.exp, points(low=-708.0, high=709.7, around=(0.3466, -0.3466)), 0.58),
    "exp, subnormal": (exact_math.exp, mpmath.exp, np.linspace(-745.1, -708.4, COUNT), 0.76),
    "expm1": (exact_math.expm1, mpmath.expm1, points(low=-45.0, high=60.0, around=(0.3466, -0.3466)), 0.78),
    "expm1, large": (exact_math.expm1, mpmath.expm1, np.linspace(-800, 709.7, COUNT), 0.58),
    "log": (exact_math.log, mpmath.log, POSITIVE, 0.58),
    "log, all sizes": (exact_math.log, mpmath.log, np.exp2(np.linspace(-1073, 1023, COUNT)), 0.51),
    "log1p": (exact_math.log1p, mpmath.log1p, points(low=-0.999, high=1e3, around=(-1.0, 0.4142, -0.2929)), 0.61),
    "cospi": (exact_math.cospi, lambda x: mpmath.cos(mpmath.pi * x), points(low=-9, high=9, around=(0.5, 1.0)), 0.75),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_what_the_docstrings_say(name):
    """Against 60 digits, in units in the last place of the rounded value."""
    function, reference, x, bound = FUNCTIONS[name]
    x = x[x > -1.0] if name == "log1p" else x[x != 0.5] if name == "cospi" else x
    worst = 0.0
    for point, value in zip(x, function(x), strict=True):
        exact = reference(mpmath.mpf(float(point)))
        spacing = np.spacing(abs(float(exact)))
        worst = max(worst, float(abs(mpmath.mpf(float(value)) - exact) / mpmath.mpf(float(spacing))))
    assert 0.45 < worst <= bound


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_limits_are_those_of_the_function(name):
    """±0, ±∞, NaN, overflow, underflow, outside the domain: as NumPy's, signs of zero included."""
    function = getattr(exact_math, name)
    x = np.concatenate([SPECIAL, [709.782712893384, 709.7827128933841, -745.1332191019411, -745.1332191019412, 1e9]])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    found = function(x)
    np.testing.assert_allclose(found, expected, rtol=4e-16, atol=0)
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(expected)]))


def test_the_cosine_is_right_at_quarter_turns():
    """Exactly 1, 0, −1; even; NaN for what is no number."""
    np.testing.assert_array_equal(exact_math.cospi(np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])), [1, 0, -1, 0, 1, -1])
    x = np.linspace(0, 3, 777)
    np.testing.assert_array_equal(exact_math.cospi(x), exact_math.cospi(-x))
    assert math.isnan(exact_math.cospi(math.inf))


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_a_monotone_function_never_falls(name):
    """From each of many points to its neighbour, most of them where one reduction of the argument gives way to the
    next."""
    rng = np.random.default_rng(1)
    steps = (np.arange(-40, 41) + 0.5) * math.log(2)
    edges = (
        np.exp2(np.arange(-20, 20) + 0.5)
        if name == "log"
        else steps
        if name != "log1p"
        else np.exp2(np.arange(0, 30) + 0.5) - 1
    )
    near = np.repeat(edges, 2000) * (1 + rng.uniform(-1, 1, 2000 * len(edges)) * 10.0 ** rng.uniform(-16, -1))
    x = np.concatenate([near, rng.uniform(-0.99, 3, 200_000), rng.uniform(0, 1e-3, 100_000)])
    x = np.abs(x) if name == "log" else x
    x = x[x > -1] if name == "log1p" else x
    function = getattr(exact_math, name)
    assert np.all(function(np.nextafter(x, np.inf)) >= function(x))


def test_a_number_and_an_array_have_the_same_value():
    """Of any shape, layout and writability; what comes in is not changed."""
    x = np.linspace(-2, 2, 12)
    x.flags.writeable = False
    expected = [exact_math.exp(float(value)) for value in x]
    assert isinstance(expected[0], float)
    np.testing.assert_array_equal(exact_math.exp(x), expected)
    turned = exact_math.exp(x.reshape(3, 4).T)
    np.testing.assert_array_equal(turned, np.reshape(expected, (3, 4)).T)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 4099])
def test_sums_are_exact_to_a_rounding(size):
    """Of numbers of all sizes that cancel, against Python's exact sum; rows, columns and all agree."""
    rng = np.random.default_rng(size)
    x = rng.standard_normal(size) * 10.0 ** rng.uniform(-8, 8, size)
    x = np.concatenate([x, -x[::-1] * (1 + 1e-12)])
    exact = float(sum((Fraction(v) for v in x.tolist()), Fraction(0)))
    assert abs(exact_math.total(x) - exact) <= np.spacing(abs(exact)) + 1e-30 * np.abs(x).sum()
    assert exact_math.row_sums(np.stack([x, x]))[1] == exact_math.total(x) == exact_math.column_sums(x[:, None])[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.inf], np.inf),
        ([-np.inf] * 20, -np.inf),
        ([np.inf, -np.inf], np.nan),
        ([np.nan, 1.0], np.nan),
        ([1e308] * 3, np.inf),
    ],
)
def test_sums_without_a_finite_value_say_so(values, expected):
    np.testing.assert_equal(exact_math.total(np.array(values)), expected)


def test_a_product_is_a_chain_of_fma_whichever_way_it_is_laid_out():
    """Each element against exact rational arithmetic, rounded at every step; thin, wide and empty shapes."""
    rng = np.random.default_rng(0)
    for n, k, p in ((3, 5, 2), (1, 9, 40), (70, 2, 1), (5, 0, 3)):
        A, B = rng.standard_normal((n, k)), rng.standard_normal((k, p))
        found = exact_algebra.product(A, B)
        assert found.shape == (n, p)
        for i in range(n):
            for j in range(p):
                value = 0.0
                for q in range(k):
                    value = float(Fraction(A[i, q]) * Fraction(B[q, j]) + Fraction(value))
                assert found[i, j] == value
    A, B = rng.standard_normal((129, 33)), rng.standard_normal((33, 65))
    np.testing.assert_array_equal(exact_algebra.product(A, B), exact_algebra.product(B.T, A.T).T)
    np.testing.assert_array_equal(exact_algebra.product(A, B)[7:9, 3:50], exact_algebra.product(A[7:9], B[:, 3:50]))
    np.testing.assert_allclose(exact_algebra.product(A, B), A @ B, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lines", [1, 511, 512, 513, 1100])
def test_a_gram_matrix_is_a_chain_of_fma_over_all_lines(lines):
    """Whatever is packed at a time, however A lies in memory, and whoever shares the work."""
    rng = np.random.default_rng(lines)
    A, weight = rng.standard_normal((lines, 70)), rng.uniform(0.1, 2.0, lines)
    expected = np.tril(exact_algebra.product((weight[:, None] * A).T, A))
    expected = expected + np.tril(expected, -1).T
    for matrix, threads in ((A, 1), (A, 2), (np.asfortranarray(A), 2), (np.repeat(A, 2, axis=1)[:, ::2], 1)):
        np.testing.assert_array_equal(exact_algebra.gram(matrix, weight, Workers(threads)), expected)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 200])
def test_cholesky_factors_and_solves(n):
    """L Lᵀ = A and A x = b to rounding, whatever the width of the panels; None for what is not positive definite."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n + 3))
    A = A @ A.T + 0.1 * np.eye(n)
    L = exact_algebra.cholesky(A)
    np.testing.assert_allclose(L @ L.T, A, rtol=0, atol=1e-13 * np.abs(A).max())
    assert np.all(np.triu(L, 1) == 0)
    b = rng.standard_normal(n)
    np.testing.assert_allclose(A @ exact_algebra.cholesky_solve(L, b), b, rtol=0, atol=1e-9)
    A[-1, -1] = -1.0
    assert exact_algebra.cholesky(A) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (50, 1), (200, 20), (20, 200), (400, 300)])
def test_the_spectral_norm_is_the_largest_singular_value(shape):
    """From below, to 1e-6 on random inputs; at any scale; 0 for zeros; exact for the identity."""
    X = np.random.default_rng(0).standard_normal(shape)
    expected = np.linalg.norm(X, 2)
    assert 1 - 1e-6 <= exact_algebra.spectral_norm(X) / expected <= 1 + 1e-13
    assert exact_algebra.spectral_norm(1e-150 * X) == pytest.approx(1e-150 * exact_algebra.spectral_norm(X), rel=1e-12)
    assert exact_algebra.spectral_norm(np.zeros(shape)) == 0.0
    assert exact_algebra.spectral_norm(np.eye(7)) == pytest.approx(1.0, rel=1e-15)
