"""Laws of the kernel baseline: it sees the network's data, and counts errors as the network's are counted."""

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
    """The paper's data, d = 10: hardly better than chance at n = 3d, no error at n = 8d² (arXiv 1810.05369, sec. 2)."""
    assert kernel_baseline(xor(30, 10)).test_error > 0.3
    enough = kernel_baseline(xor(800, 10))
    assert (enough.train_error, enough.test_error, enough.n) == (0.0, 0.0, 800)


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_renamed_classes_change_nothing(loss):
    """Labels are names: ±1 and texts give the same errors and margin, in either coding of two classes."""
    problem, names = xor(80), np.array(["no", "yes"])
    renamed = [names[(y > 0).astype(int)] for y in (problem.y, problem.y_test)]
    found = kernel_baseline(problem)
    other = kernel_baseline(Problem(problem.X, renamed[0], loss=loss, X_test=problem.X_test, y_test=renamed[1]))
    assert (found.train_error, found.test_error) == (other.train_error, other.test_error)
    assert found.margin == pytest.approx(other.margin, rel=1e-9)


def test_the_margin_is_below_what_the_kernel_allows():
    """For any f of the kernel's space, min_i y_i f(x_i) / ‖f‖ ≤ √(yᵀKy) / n, since a minimum is below the mean."""
    problem = xor(160)
    y, K = np.asarray(problem.y, float), relu_ntk(problem.X)
    assert 0 < kernel_baseline(problem).margin <= math.sqrt(y @ K @ y) / len(y)


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
