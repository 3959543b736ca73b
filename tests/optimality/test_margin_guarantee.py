"""Laws of the margin that a small objective proves: no network falls below it, and λ₀ is where it says."""

import math

import numpy as np
import pytest

from meanfield.optimality.margin_guarantee import guaranteed_margin, weak_reg


def least_margin(n, share, margin, rivals, reg, factor):
    """The least normalized margin among networks with L ≤ factor · min L, by brute force.

    One example has margin a and the n − 1 others b, which costs ∫‖θ‖² = (share a + (1 − share) b)/γ*: x = ±1 on a line
    with one example at −1 (share ½), or the unit vectors as n classes (share 1/n).
    """
    a, b = np.meshgrid(*(np.geomspace(1e-3, 100, 1500),) * 2)
    second = (share * a + (1 - share) * b) / margin
    risk = (np.log1p(rivals * np.exp(-a)) + (n - 1) * np.log1p(rivals * np.exp(-b))) / n
    value = risk + reg * second
    return float(np.min((np.minimum(a, b) / second)[value <= factor * value.min()]))


LINE = {"n": 30, "share": 0.5, "margin": 0.25, "rivals": 1}
CLASSES = {"n": 12, "share": 1 / 12, "margin": 1 / math.sqrt(1 - 1 / 12) / 24, "rivals": 11}


@pytest.mark.parametrize("case", [LINE, CLASSES], ids=["line", "classes"])
@pytest.mark.parametrize("factor", [1.01, 2.0, 4.0])
def test_no_network_with_so_small_an_objective_has_a_smaller_margin(case, factor):
    """At every λ; and the bound is of use, at least a fifth of what brute force finds where λ is small."""
    n, margin, rivals = case["n"], case["margin"], case["rivals"]
    for reg in (1e-3, 1e-5, 1e-8, 1e-12):
        least = least_margin(**case, reg=reg, factor=factor)
        bound = guaranteed_margin(margin, reg, n, factor, rivals)
        assert bound <= least
        assert guaranteed_margin(0.9 * margin, reg, n, factor, rivals) <= bound <= margin / factor
    assert bound > 0.2 * least


def test_that_one_example_of_n_may_be_given_up_counts():
    """Were the whole objective spread over all examples, brute force would find networks below the bound."""
    worst = [
        (guaranteed_margin(0.25, reg, 1, factor), least_margin(**LINE, reg=reg, factor=factor))
        for reg in (1e-3, 1e-5)
        for factor in (2.0, 4.0)
    ]
    assert any(bound > least for bound, least in worst)


@pytest.mark.parametrize(("n", "factor", "rivals"), [(2, 1.0, 1), (160, 2.0, 1), (10**5, 2.0, 9), (40, 4.0, 2)])
def test_below_the_weak_regularization_an_eighth_is_guaranteed_and_above_it_is_not(n, factor, rivals):
    margin = 0.1
    reg = weak_reg(margin, n, factor, rivals)
    assert 0 < reg < margin
    for part in (1.0, 0.3, 1e-3, 1e-9):
        assert guaranteed_margin(margin, part * reg, n, factor, rivals) >= margin / 8
    assert guaranteed_margin(margin, 1.001 * reg, n, factor, rivals) < margin / 8
    # half the margin is what is proven of γ*: an eighth of all of it takes a smaller λ
    less = weak_reg(margin / 2, n, 1.0, rivals, upper=margin)
    assert guaranteed_margin(margin / 2, less, n, 1.0, rivals) >= margin / 8
    assert less < weak_reg(margin / 2, n, 1.0, rivals)


def test_where_nothing_can_be_guaranteed_nothing_is():
    assert weak_reg(0.1, 10, factor=8.0) == 0
    assert weak_reg(0.0, 10) == 0
    assert guaranteed_margin(0.0, 1e-3, 10) == guaranteed_margin(0.1, 1e-3, 10, math.inf) == 0
    assert guaranteed_margin(0.1, 0.2, 10) == 0
