"""Laws of the kernel baseline: it sees the data that the network sees, and counts errors as the network's are counted."""

import math

import numpy as np
import pytest

from meanfield import Problem
from meanfield.comparison import kernel_baseline
from meanfield.config import load_config
from meanfield.datasets import load_dataset
from meanfield.kernels import relu_ntk
from meanfield.run import problem_of


def xor(n, d=20):
    config = load_config(None, [f"data.n={n}", f"data.d={d}", "data.n_test=1024"])
    return problem_of(config, load_dataset(config.data))


def test_the_kernel_needs_of_the_order_of_d_squared_examples():
    """On the paper's data at d = 20: near chance at n = 6d, without error at n = 8d² (arXiv 1810.05369, theorem 2.1)."""
    assert kernel_baseline(xor(120)).test_error > 0.3
    assert kernel_baseline(xor(3200)).test_error < 0.01


def test_a_lone_kernel_interpolates_what_it_was_fitted_to():
    """Distinct examples and a strictly positive definite kernel: no training error, a positive margin."""
    found = kernel_baseline(xor(80))
    assert found.train_error == 0.0
    assert found.margin > 0
    assert found.n == 80


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_renamed_classes_change_nothing(loss):
    """Labels are names: ±1, 0/1 and texts give the same errors and margin, in both codings of two classes."""
    problem = xor(80)
    texts = np.where(np.array([-1, 1])[np.newaxis] == problem.y[:, np.newaxis], 1, 0)[:, 1]
    names = np.array(["no", "yes"])
    found = [
        kernel_baseline(Problem(problem.X, y, loss=loss, X_test=problem.X_test, y_test=t))
        for y, t in ((problem.y, problem.y_test), (names[texts], names[(problem.y_test > 0).astype(int)]))
    ]
    assert (found[0].train_error, found[0].test_error) == (found[1].train_error, found[1].test_error)
    assert found[0].margin == pytest.approx(found[1].margin, rel=1e-9)


def test_the_margin_is_bounded_by_the_largest_that_the_kernel_allows():
    """min_i y_i f(x_i) / ‖f‖ ≤ (mean-based bound) √(aᵀKa), a = y/n: the margin of any f in the RKHS."""
    problem = xor(60)
    y, K = np.asarray(problem.y, float), relu_ntk(problem.X)
    bound = math.sqrt(y @ K @ y) / len(y)
    assert 0 < kernel_baseline(problem).margin <= bound * (1 + 1e-9)


def test_regression_counts_mean_squares_and_recovers_a_function_of_the_kernel_s_space():
    """A linear function (in the kernel's space) is learned: a test error far below its variance, and no margin."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 4))
    y = X @ [1.0, -2.0, 0.5, 0.0]
    found = kernel_baseline(Problem(X[:200], y[:200], loss="squared", X_test=X[200:], y_test=y[200:]))
    assert found.test_error < 1e-2 * y.var()
    assert math.isnan(found.margin)


def test_without_a_test_set_there_is_no_test_error():
    """NaN, not zero."""
    problem = xor(40)
    assert math.isnan(kernel_baseline(Problem(problem.X, problem.y)).test_error)
