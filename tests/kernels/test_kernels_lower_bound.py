"""The paper's lower bound: what a kernel predictor knows of the label against what it varies without reason."""

import itertools

import numpy as np
import pytest

from meanfield.kernels import (
    SVM,
    Interpolation,
    ReluKernel,
    best,
    margin_cap,
    margin_cap_limit,
    paper_data,
    split_exact,
    split_predictor,
    split_sampled,
)
from meanfield.kernels.lower_bound import INFORMATIVE


def interpolant(n, d, seed):
    X, y = paper_data(n, d, seed)
    kernel = ReluKernel()
    return kernel, X, y, Interpolation().fit(kernel.gram(X), y)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_exact_split_is_the_average_over_all_points_of_the_distribution(depth):
    """d = 7: all 4 · 2⁵ points by enumeration."""
    kernel = ReluKernel(depth, 1.2, 0.9)
    X, _ = paper_data(30, 7, seed=3)
    coef = np.random.default_rng(0).normal(size=30)
    noise = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    f = np.array([kernel.gram(np.column_stack([np.tile(pair, (32, 1)), noise]), X) @ coef for pair in INFORMATIVE])
    split = split_exact(kernel, X, coef)
    np.testing.assert_allclose(split.means, f.mean(axis=1), atol=1e-12)
    assert split.noise == pytest.approx(f.var(axis=1).mean(), rel=1e-10)
    assert split.informative + split.noise == pytest.approx(f.var(), rel=1e-10)
    assert split.signal == pytest.approx((f[:2].mean() - f[2:].mean()) / 2, rel=1e-10)


def test_sampling_agrees_with_the_exact_split_within_its_standard_errors():
    """Twenty independent samples: deviations in standard errors have mean square near 1, none beyond 4."""
    kernel, X, _, fit = interpolant(100, 12, 0)
    exact = split_exact(kernel, X, fit.coef)
    samples = [split_sampled(kernel, X, fit.coef, samples=500, seed=s) for s in range(20)]
    for name in ("signal", "noise"):
        z = np.array([(getattr(s, name) - getattr(exact, name)) / getattr(s, f"{name}_se") for s in samples])
        assert np.abs(z).max() < 4
        assert 0.4 < (z**2).mean() < 1.8


def test_signal_over_noise_collapses_onto_n_over_d_squared():
    """At equal n/d², least-norm interpolants in d = 10, 20, 40 agree within a factor 1.4, while n differs 16-fold.

    The common curve rises with n/d² from 0.1 to 0.8, between 0.45 and 1.35 times n/d² itself.
    """
    curve = []
    for scale in (0.1, 0.2, 0.4, 0.8):
        ratios = []
        for d, seeds in ((10, 24), (20, 8), (40, 3 if scale < 0.4 else 1)):
            fits = [interpolant(round(scale * d**2), d, seed) for seed in range(seeds)]
            splits = [split_exact(kernel, X, fit.coef) for kernel, X, _, fit in fits]
            ratios.append(np.mean([s.signal for s in splits]) / np.sqrt(np.mean([s.noise for s in splits])))
        assert max(ratios) < 1.4 * min(ratios), (scale, ratios)
        curve.append(np.mean(ratios) / scale)
    assert min(curve) > 0.45
    assert max(curve) < 1.35


def test_the_kernels_margin_stays_under_its_cap_which_shrinks_with_n():
    """No function of norm 1 beats ‖(1/n) Σ y φ(x)‖; on this data the cap falls towards its n → ∞ value."""
    caps = []
    for n in (50, 200, 800):
        X, y = paper_data(n, 20, seed=1)
        K = ReluKernel().gram(X)
        caps.append(margin_cap(K, y))
        if n < 800:
            assert 0 < SVM().fit(K, y).margin() <= caps[-1]
    assert caps[0] > caps[1] > caps[2]


def test_any_predictor_is_split_as_the_kernels_are():
    """f = 3(|x₁| − |x₂|) + 2 x₃ has signal 3 and noise 4; a kernel's own predictions give `split_sampled`."""
    split = split_predictor(lambda X: 3 * (np.abs(X[:, 0]) - np.abs(X[:, 1])) + 2 * X[:, 2], 9, samples=2000)
    assert abs(split.signal - 3) < 4 * split.signal_se
    assert split.noise == pytest.approx(4, rel=1e-2)
    kernel, X, _, fit = interpolant(40, 9, 0)
    again = split_predictor(lambda Z: kernel.gram(Z, X) @ fit.coef, 9, samples=50)
    np.testing.assert_allclose(again.means, split_sampled(kernel, X, fit.coef, samples=50).means, atol=1e-10)


def test_the_cap_of_all_points_is_its_limit_and_the_svm_reaches_it_there():
    """All 4 · 2⁴ points of d = 6 as the sample: margin, cap and limit are one number. Any weights cap the margin."""
    kernel = ReluKernel(2, 1.1, 0.6)
    noise = np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    X = np.concatenate([np.column_stack([np.tile(pair, (16, 1)), noise]) for pair in INFORMATIVE])
    K, y = kernel.gram(X), np.repeat([1.0, 1.0, -1.0, -1.0], 16)
    assert margin_cap(K, y) == pytest.approx(margin_cap_limit(kernel, 6), rel=1e-9)
    reached = SVM().fit(K, y).margin()
    assert reached == pytest.approx(margin_cap_limit(kernel, 6), rel=1e-5)
    weights = np.random.default_rng(0).random((10, 64))
    assert min(margin_cap(K, y, w) for w in weights) > reached


def test_the_cap_at_infinitely_many_points_falls_like_one_over_d():
    """Over √K(x, x) = √(d − 1) at unit scales: local exponent −1 ± 0.05 from d = 40 to 160."""
    caps = [margin_cap_limit(ReluKernel(), d) / np.sqrt(d - 1) for d in (40, 80, 160)]
    np.testing.assert_allclose(np.diff(np.log(caps)) / np.log(2), -1, atol=0.05)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda X: margin_cap(np.eye(5), np.ones(5), -np.ones(5)), "weights"),
        (lambda X: split_predictor(lambda Z: Z, 6, samples=5), "predict"),
        (lambda X: split_exact(ReluKernel(), X + 0.1, np.ones(5)), "distribution"),
        (lambda X: split_exact(ReluKernel(), X, np.ones(4)), "coef"),
        (lambda X: split_sampled(ReluKernel(), X, np.ones(5), samples=1), "samples"),
        (lambda X: paper_data(5, 1), "d = 1"),
    ],
)
def test_bad_input_is_named(action, message):
    with pytest.raises(ValueError, match=message):
        action(paper_data(5, 6)[0])


def test_the_best_regularized_kernel_needs_about_d_squared_points():
    """Best over reg on the test set itself: above 10 % error at n = 0.8 d², below it at n = 1.3 d², d = 10 and 20."""
    kernel = ReluKernel()
    for d, seeds in ((10, 10), (20, 3)):
        errors = []
        for ratio in (0.8, 1.3):
            least = []
            for seed in range(seeds):
                (X, y), (Z, z) = paper_data(round(ratio * d**2), d, seed), paper_data(1000, d, 100 + seed)
                K, K_test, regs = kernel.gram(X), kernel.gram(Z, X), np.logspace(-4, 1, 6)
                least.append(best("ridge", K, y, regs, by="test", K_test=K_test, y_test=z).score)
            errors.append(np.mean(least))
        assert errors[0] > 0.1 > errors[1], (d, errors)
