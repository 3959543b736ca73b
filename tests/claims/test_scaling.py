"""Laws of the exponents: what is put into synthetic curves comes out, and intervals hold it as often as they say."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import scaling

GRID = np.array((1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4, 4.5, 5, 6))


def synthetic(power, log, draws, seed, dims=(10, 14, 20, 28, 40)):
    """Errors ½/(1 + (n/N)^12), each draw with an N of its own around 3.25 d^power, times log d where `log`."""
    rng, found = np.random.default_rng(seed), {}
    for d in dims:
        scale = d**power * (np.log(d) if log else 1.0)
        own = 3.25 * scale * np.exp(0.12 * rng.standard_normal(draws))
        sizes = np.round(scale * GRID)
        found[d] = sizes, 0.5 / (1 + (sizes[:, None] / own) ** 12)
    return found


@pytest.mark.parametrize("power", [1, 2])
def test_the_interval_at_twenty_draws_holds_the_exponent_at_least_as_often_as_it_says(power):
    """In 60 sets; it is wide, no more than ± 0.2 in the mean, and the point is nearly unbiased."""
    fits = [scaling.growth(synthetic(power, False, 20, [power, k]), power, replicates=200, seed=k) for k in range(60)]
    held = np.mean([fit.low <= power <= fit.high for fit in fits])
    assert held >= 0.95
    assert np.mean([fit.high - fit.low for fit in fits]) < 0.4
    assert np.mean([fit.slope for fit in fits]) == pytest.approx(power, abs=0.03)
    assert np.std([fit.slope for fit in fits]) < 0.1
    assert all(fit.verdict == f"consistent with {power}" for fit in fits if fit.low <= power <= fit.high)


def test_a_logarithm_is_told_from_none_and_is_no_agreement():
    """d log d against d, both ways; the interval of the one does not hold the exponent of the other."""
    for k in range(10):
        plain, log = (scaling.growth(synthetic(1, log, 20, [3, k]), 1, replicates=200, seed=k) for log in (False, True))
        assert plain.preference < -scaling.TOLD
        assert plain.alternative == "d rather than d log d"
        assert log.preference > scaling.TOLD
        assert log.alternative == "d log d rather than d"
        assert log.verdict == "above 1"


def test_noise_that_drowns_the_logarithm_leaves_both():
    """Two draws that differ by a factor: nothing is told apart, and the interval says how little is known."""
    rng, found = np.random.default_rng(0), {}
    for d in (10, 14, 20):
        own = 3.25 * d * np.exp(0.8 * rng.standard_normal(4))
        found[d] = d * GRID, 0.5 / (1 + (d * GRID[:, None] / own) ** 12)
    fit = scaling.growth(found, 1)
    assert fit.alternative == "d and d log d not told apart"
    assert not fit.high - fit.low < 0.4


def test_below_three_dimensions_there_is_no_exponent():
    fit = scaling.growth(synthetic(1, False, 5, 0, dims=(10, 20)), 1)
    assert np.isnan(fit.slope)
    assert fit.verdict == "no interval"


def test_a_threshold_lies_between_the_sizes_around_it_and_is_not_invented():
    """Interpolated in log n; NaN where the error never falls, or was low from the start; a late relapse counts."""
    assert scaling.crossing([10, 40], [0.2, 0.0], 0.1) == pytest.approx(20.0)
    assert np.isnan(scaling.crossing([10, 20], [0.4, 0.3], 0.1))
    assert np.isnan(scaling.crossing([10, 20], [0.05, 0.0], 0.1))
    assert scaling.crossing([10, 20, 40, 80], [0.3, 0.0, 0.2, 0.0], 0.1) > 40
    places = scaling.crossing([10, 40], np.tile([0.2, 0.0], (3, 1)), 0.1, np.array([0.0, 0.5, 1.0]))
    assert places == pytest.approx([10, 20, 40])


def test_slopes_leave_out_what_is_missing():
    """As polyfit has them, on the points there are, repeated ones included."""
    x, y = np.log([10.0, 20, 20, 40, 80]), np.array([1.0, 2.1, np.nan, 2.9, 4.2])
    good = np.isfinite(y)
    assert scaling.slopes(x, y) == pytest.approx(np.polyfit(x[good], y[good], 1)[0])
    assert np.isnan(scaling.slopes(x[:3], np.array([1.0, 2.0, 3.0])))
