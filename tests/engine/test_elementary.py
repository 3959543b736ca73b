"""elementary: errors against mpmath in both precisions, symmetries, limits, and no bit from how a loop is cut."""

import functools

import mpmath
import numba
import numpy as np
import pytest

from meanfield.engine import elementary

mpmath.mp.dps = 40
DTYPES = [np.float32, np.float64]


def sine(z):
    return elementary.sine_one(z, 0.0)


def decay(z):
    return elementary.decay_one(abs(z))


FUNCTIONS = {  # ours, mpmath's, largest error in ulp of the result; of 1 where it is a sum that cancels
    "tanh": (elementary.tanh_one, mpmath.tanh, 1.9),
    "tanh slope": (elementary.tanh_slope_one, lambda z: mpmath.sech(z) ** 2, 2.0),
    "logistic": (elementary.logistic_one, lambda z: 1 / (1 + mpmath.exp(-z)), 2.4),
    "softplus": (elementary.softplus_one, lambda z: mpmath.log1p(mpmath.exp(z)), 2.1),
    "erf": (elementary.erf_one, mpmath.erf, 2.0),
    "decay": (decay, lambda z: mpmath.exp(-abs(z)), 1.0),
    "sine": (sine, mpmath.sin, 1.5),
    "normal share": (elementary.normal_share_one, mpmath.ncdf, 2.0),
}


@functools.cache
def loop_of(function):
    """The function over an array, in one compiled loop."""
    inner = numba.njit(error_model="numpy")(function)

    @numba.njit(error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = inner(x[i])

    return loop


def looped(function, x):
    """The values, in the precision of x."""
    out = np.empty_like(x)
    loop_of(function)(x, out)
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_what_the_docstrings_say(name):
    """In units in the last place; and one number at a time has the bits that it has in a vector."""
    function, reference, bound = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    small = rng.choice([-1.0, 1.0], 60) * 10.0 ** rng.uniform(-12, 0, 60)
    for dtype in DTYPES:
        x = np.concatenate([np.linspace(-8, 8, 401), small]).astype(dtype)
        values = looped(function, x)
        worst = 0.0
        for point, value in zip(x, values, strict=True):
            exact = reference(mpmath.mpf(float(point)))
            size = dtype(1.0) if name == "normal share" else dtype(abs(float(exact)))
            worst = max(worst, float(abs(mpmath.mpf(float(value)) - exact) / mpmath.mpf(float(np.spacing(size)))))
        assert 0.3 < worst <= bound
        for i in range(0, len(x), 37):
            assert looped(function, x[i : i + 1]) == values[i]


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetries_and_limits(dtype):
    """tanh and erf are odd to the last bit and end at ±1; slopes end at 0; NaN is never hidden."""
    x = np.linspace(0, 7, 333).astype(dtype)
    far = np.array([50.0, 1e4, 1e30, np.inf], dtype)
    for function in (elementary.tanh_one, elementary.erf_one):
        assert np.array_equal(looped(function, -x), -looped(function, x))
        assert np.array_equal(looped(function, far), np.ones_like(far))
    assert np.all(looped(elementary.tanh_slope_one, far) < 1e-18)
    assert np.array_equal(looped(elementary.softplus_one, far), far)
    for function, _, _ in FUNCTIONS.values():
        assert np.isnan(looped(function, np.array([np.nan], dtype))).all()
