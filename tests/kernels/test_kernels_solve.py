"""What is learned with a kernel matrix: limits, twins and closed forms."""

import numpy as np
import pytest

from meanfield.kernels import (
    SVM,
    GradientFlow,
    Interpolation,
    Logistic,
    RandomFeatures,
    Ridge,
    RidgePath,
    best,
    class_targets,
    logistic_path,
    margin_cap,
    margins,
    paper_data,
    relu_ntk,
)
from meanfield.kernels.tridiagonal import Tridiagonal


@pytest.fixture(scope="module")
def problem():
    """120 points of the paper's data in 8 dimensions: K (120, 120), y."""
    X, y = paper_data(120, 8, seed=1)
    return relu_ntk(X + 0.1 * np.random.default_rng(0).normal(size=X.shape)), y


def without(K, y, i):
    keep = np.arange(len(y)) != i
    return K[np.ix_(keep, keep)], y[keep], K[[i]][:, keep]


@pytest.mark.parametrize("outputs", [1, 3])
def test_ridge_solves_its_normal_equations_and_leaves_out_in_closed_form(problem, outputs):
    """(K + reg I) coef = y, and the closed-form leave-one-out prediction is the refit's."""
    K, y = problem
    y = y if outputs == 1 else np.stack([y, 2 * y + 1, np.arange(len(y)) / 9], axis=1)
    ridge = Ridge(0.3).fit(K, y)
    np.testing.assert_allclose(K @ ridge.coef + 0.3 * ridge.coef, y, atol=1e-10)
    np.testing.assert_allclose(ridge.fitted, K @ ridge.coef, atol=1e-10)
    for i in (0, 57):
        K_i, y_i, row = without(K, y, i)
        np.testing.assert_allclose(ridge.leave_one_out()[i], Ridge(0.3).fit(K_i, y_i).predict(row)[0], atol=1e-10)
    in_place = Ridge(0.3).fit(K.copy(), y, overwrite=True)
    np.testing.assert_allclose(in_place.coef, ridge.coef, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_path_is_the_ridge_at_every_value(problem, outputs):
    """Coefficients and leave-one-out of one reduction equal those of separate factorizations."""
    K, y = problem
    y = y if outputs == 1 else np.stack([y, np.arange(len(y)) / 9], axis=1)
    path = RidgePath([1e-2, 1.0, 50.0]).fit(K, y)
    for reg, left_out in zip(path.regs, path.leave_one_out, strict=True):
        ridge = Ridge(reg).fit(K, y)
        np.testing.assert_allclose(path.select(reg).coef, ridge.coef, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(left_out, ridge.leave_one_out(), rtol=1e-8, atol=1e-9)
    assert path.fit(K, y).reg == path.regs[path.scores.argmin()]
    assert path.residuals.max() < 1e-14


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 300])
def test_the_tridiagonal_form_is_the_matrix(n):
    """QᵀQ = I and Q T Qᵀ = K to rounding, over one block of reflectors and several; eigenvalues are K's."""
    K = relu_ntk(np.random.default_rng(n).normal(size=(n, 3)))
    reduced = Tridiagonal(K)
    T = np.diag(reduced.diagonal) + np.diag(reduced.off_diagonal, 1) + np.diag(reduced.off_diagonal, -1)
    np.testing.assert_allclose(reduced.Q.T @ reduced.Q, np.eye(n), atol=1e-13)
    np.testing.assert_allclose(reduced.Q @ T @ reduced.Q.T, K, atol=1e-14 * n * np.trace(K))
    np.testing.assert_allclose(reduced.eigenvalues(), np.linalg.eigvalsh(K), atol=1e-14 * np.trace(K))


@pytest.mark.parametrize("n", [1, 2, 65, 200])
def test_every_shift_is_solved_and_inverted_on_the_diagonal(n):
    """Against dense inverses, from reg far above the spectrum to far below, several outputs; K float32 as well."""
    rng = np.random.default_rng(n)
    K, y = relu_ntk(rng.normal(size=(n, 30))), rng.normal(size=(n, 2))
    regs = np.array([1e4, 1.0, 1e-8])
    for matrix in (K, K.astype(np.float32)):
        reduced = Tridiagonal(matrix)
        inverses = [np.linalg.inv(matrix.astype(float) + reg * np.eye(n)) for reg in regs]
        np.testing.assert_allclose(reduced.coefficients(y, regs), [A @ y for A in inverses], rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(reduced.inverse_diagonals(regs), [np.diag(A) for A in inverses], rtol=1e-9)


def test_where_reg_is_below_rounding_the_path_falls_back_to_eigenvalues():
    """K of rank 2 and reg = 1e-20: rows that agree with the eigendecomposition cut at 0; others are untouched."""
    X = np.array([[1.0], [2.0], [-1.0], [3.0], [-2.0]])
    K, y, regs = relu_ntk(X), np.array([[1.0], [2.0], [-1.0], [3.0], [-2.0]]), np.array([1.0, 1e-20])
    reduced = Tridiagonal(K)
    assert reduced._factor(regs)[1].tolist() == [True, False]
    A = np.linalg.inv(K + np.eye(5))
    np.testing.assert_allclose(reduced.coefficients(y, regs)[0], A @ y, atol=1e-13)
    np.testing.assert_allclose(reduced.inverse_diagonals(regs)[0], np.diag(A), atol=1e-13)
    assert np.isfinite(reduced.coefficients(y, regs)).all()
    # y lies in the range of K; what rounding leaves of it outside is not to be divided by reg
    assert (reduced.inverse_diagonals(regs)[1] > 1e18).all()


def test_interpolation_is_the_limit_of_ridge_and_of_gradient_flow(problem):
    """reg → 0 and t → ∞ agree; the report says how well conditioned it was."""
    K, y = problem
    exact = Interpolation().fit(K, y)
    np.testing.assert_allclose(exact.fitted, y, atol=1e-9)
    np.testing.assert_allclose(Ridge(1e-9).fit(K, y).coef, exact.coef, rtol=1e-5)
    np.testing.assert_allclose(GradientFlow(np.inf).fit(K, y).coef, exact.coef, rtol=1e-8)
    assert exact.report.method == "cholesky"
    assert exact.report.jitter == 0
    assert exact.report.residual < 1e-10
    true = 1 / np.linalg.cond(K, 1)
    assert true / 3 < exact.report.rcond < 3 * true
    jittered = Interpolation(jitter=1e-3).fit(K, y)
    assert jittered.report.jitter == pytest.approx(1e-3 * np.trace(K) / len(K))
    assert jittered.report.residual > 1e-6


def test_equal_points_interpolate_if_they_agree_and_are_named_if_not(problem):
    """Duplicates make K singular: the least-norm interpolant with the rank, or an error. Never NaN."""
    K, y = problem
    double = np.tile(K, (2, 2))
    twice = Interpolation().fit(double, np.tile(y, 2))
    assert twice.report.method == "pseudo-inverse"
    assert twice.report.rank == len(y)
    np.testing.assert_allclose(twice.coef[: len(y)], Interpolation().fit(K, y).coef / 2, rtol=1e-6, atol=1e-10)
    conflicting = np.concatenate([y, -y])
    with pytest.raises(ValueError, match="equal points"):
        Interpolation().fit(double, conflicting)
    with pytest.raises(ValueError, match="different labels"):
        SVM().fit(double, conflicting)
    for solver in (Ridge(1.0), Logistic(1.0), SVM(0.5), RidgePath([1.0]), GradientFlow()):
        np.testing.assert_allclose(solver.fit(double, conflicting).fitted, 0, atol=1e-6)
        assert solver.margin() <= 1e-6


def test_gradient_flow_follows_its_equation(problem):
    """f(0) = 0, df/dt = −K (f − y) by central differences, and small steps of explicit Euler arrive there."""
    K, y = problem
    flow = GradientFlow(0.0).fit(K, y)
    assert not flow.coef.any()
    t, h = 0.05, 1e-6
    slope = (flow.until(t + h).fitted - flow.until(t - h).fitted) / (2 * h)
    np.testing.assert_allclose(slope, -K @ (flow.until(t).fitted - y), rtol=1e-5, atol=1e-6)
    coef = np.zeros(len(y))
    for _ in range(20_000):
        coef -= t / 20_000 * (K @ coef - y)
    np.testing.assert_allclose(flow.until(t).coef, coef, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(flow.fitted, K @ flow.coef, atol=1e-10)


@pytest.mark.parametrize("reg", [10.0, 0.1, 1e-5])
def test_logistic_regression_is_stationary_and_softmax_of_two_is_the_same(problem, reg):
    """coef = −∂ℓ/reg at the optimum, by finite differences; two-class softmax has half the score per class."""
    K, y = problem
    fit = Logistic(reg).fit(K, y)
    np.testing.assert_allclose(reg * fit.coef, y / (1 + np.exp(y * fit.fitted)), atol=1e-8)
    pair = Logistic(2 * reg).fit(K, np.stack([-y, y], axis=1))
    np.testing.assert_allclose(pair.fitted[:, 1] - pair.fitted[:, 0], fit.fitted, rtol=1e-4, atol=1e-4)


def test_softmax_of_three_classes_is_stationary():
    """reg · coef = one-hot − softmax(f)."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(90, 3))
    classes, targets = class_targets((X @ rng.normal(size=(3, 3))).argmax(axis=1))
    fit = Logistic(0.05).fit(relu_ntk(X), targets)
    p = np.exp(fit.fitted) / np.exp(fit.fitted).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(0.05 * fit.coef, (targets == 1) - p, atol=1e-8)
    assert len(classes) == 3


def test_weak_regularization_takes_logistic_regression_to_the_largest_margin(problem):
    """Margins grow along reg → 0, stay below the hard-margin SVM's, and come within 5 % of it."""
    K, y = problem
    path = [fit.margin() for fit in logistic_path(K, y, np.logspace(2, -12, 15))]
    largest = SVM().fit(K, y)
    assert (np.diff(path) > -1e-9).all()
    assert 0.95 * largest.margin() < path[-1] < largest.margin_bound


def test_svm_margin_meets_its_bound_and_the_cap(problem):
    """Primal = dual to 1e-11: the margin reached, the least hull norm; both at most ‖(1/n) Σ y φ(x)‖."""
    K, y = problem
    svm = SVM().fit(K, y)
    assert svm.norm == pytest.approx(1, rel=1e-9)
    assert 1 - 1e-11 < svm.margin() / svm.margin_bound <= 1 + 1e-12
    assert svm.margin_bound <= margin_cap(K, y)
    for other in (Ridge(0.1), Interpolation(), Logistic(0.01)):
        assert other.fit(K, y).margin() <= svm.margin_bound
    inside = margins(svm.fitted, y)
    np.testing.assert_allclose(inside[svm.support], svm.margin_bound, rtol=1e-9)


@pytest.mark.parametrize("nu", [0.6, 0.9])
def test_nu_caps_the_weight_of_every_point(problem, nu):
    """No point holds more than 1/(nu n) of the weight, and every point inside the margin holds exactly that."""
    K, y = problem
    svm = SVM(nu).fit(K, y)
    share, functional = np.abs(svm.coef) / np.abs(svm.coef).sum(), margins(svm.fitted, y)
    cap = 1 / (nu * len(y))
    assert share.max() == pytest.approx(cap, rel=1e-9)
    free = (share > 1e-6 * cap) & (share < (1 - 1e-6) * cap)
    rho = functional[free].mean()
    np.testing.assert_allclose(functional[free], rho, rtol=1e-4)
    assert (functional[share <= 1e-6 * cap] > rho * (1 - 1e-4)).all()
    inside = functional < rho * (1 - 1e-4)
    assert inside.any()
    np.testing.assert_allclose(share[inside], cap, rtol=1e-6)


@pytest.mark.parametrize("nu", [0.05, 0.3, 0.9])
def test_the_soft_margin_is_the_largest(nu):
    """Primal = dual to 1e-12: max over ρ of ρ − Σ ξ_i / νn at this f, and the least norm of the hull, 1/Σ |coef|."""
    X, y = paper_data(150, 20)
    svm = SVM(nu).fit(relu_ntk(X), y)
    functional, bound = margins(svm.fitted, y), 1 / np.abs(svm.coef).sum()
    assert np.abs(svm.coef).max() <= bound**-1 / (nu * 150) * (1 + 1e-12)
    reached = max(rho - np.maximum(rho - functional, 0).sum() / (nu * 150) for rho in functional)
    assert abs(reached - bound) < 1e-12 * bound


def test_random_features_approach_the_last_layer_kernel():
    """Feature products converge to the closed form like 1/√m; ridge is the same through either system."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    limit = relu_ntk(X, train="last")
    errors = []
    for m in (100, 10_000):
        gaps = [RandomFeatures(m, seed=s).features(X) for s in range(5)]
        errors.append(np.sqrt(np.mean([(phi @ phi.T - limit) ** 2 for phi in gaps])))
    assert 7 < errors[0] / errors[1] < 14
    for m in (30, 50):
        model = RandomFeatures(m, 0.2).fit(X, y)
        phi = model.features(X)
        np.testing.assert_allclose(model.predict(X), phi @ np.linalg.solve(phi.T @ phi + 0.2 * np.eye(m), phi.T @ y))


@pytest.mark.parametrize("method", ["ridge", "logistic", "svm", "flow"])
def test_the_best_setting_is_the_best_of_its_path(problem, method):
    """The score is the least of the path; by "test" it is at most the error of a setting chosen blind."""
    K, y = problem
    train, test = np.arange(80), np.arange(80, 120)
    square, cross = K[np.ix_(train, train)], K[np.ix_(test, train)]
    oracle = best(method, square, y[train], by="test", K_test=cross, y_test=y[test])
    blind = best(method, square, y[train], by="leave-one-out" if method == "ridge" else "validation")
    for selection in (oracle, blind):
        assert selection.score == selection.scores.min()
        assert selection.setting in selection.settings
    error = (margins(blind.predictor.predict(cross), y[test]) <= 0).mean()
    assert oracle.score <= error
    assert (margins(oracle.predictor.predict(cross), y[test]) <= 0).mean() == oracle.score


@pytest.mark.parametrize("X", [np.ones((1, 3)), np.ones((4, 1)), np.zeros((3, 2)), np.ones((5, 4))])
def test_degenerate_inputs_give_finite_answers(X):
    """One point, one feature, zeros, constant features: finite predictions from every regularized solver."""
    K, y = relu_ntk(X), np.ones(len(X))
    for solver in (Ridge(0.1), RidgePath(), Logistic(0.1), SVM(0.5), GradientFlow(), Interpolation()):
        if isinstance(solver, SVM | Interpolation) and not K.any():
            with pytest.raises(ValueError, match=r"zero|interpolated"):
                solver.fit(K, y)
            continue
        assert np.isfinite(solver.fit(K, y).predict(K)).all()
        assert np.isfinite(solver.margin())


def test_targets_and_margins_of_classes():
    """Two classes are ±1, more are simplex coded; zero scores count as errors (margin 0)."""
    assert class_targets(np.array(["b", "a"]))[1].tolist() == [1, -1]
    _, targets = class_targets(np.array([2, 0, 1]))
    np.testing.assert_allclose(targets.sum(axis=1), 0)
    np.testing.assert_allclose(margins(np.array([[1.0, 5, 3], [2, 0, 0], [1, 1, 1]]), targets), [-2, 2, 0])
    with pytest.raises(ValueError, match="one class"):
        class_targets(np.ones(3))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda K, y: Ridge(0), "reg"),
        (lambda K, y: RidgePath(loss="hinge"), "loss"),
        (lambda K, y: Interpolation(-1), "jitter"),
        (lambda K, y: SVM(2), "nu"),
        (lambda K, y: GradientFlow(-1), "time"),
        (lambda K, y: Ridge().fit(K[:3], y), "square"),
        (lambda K, y: Ridge().fit(K, y[:3]), "y has shape"),
        (lambda K, y: Ridge().fit(K, y * np.nan), "NaN"),
        (lambda K, y: Logistic().fit(K, 3 * y), "targets"),
        (lambda K, y: SVM().fit(K, 0 * y), "contains 0"),
        (lambda K, y: Ridge().predict(K), "call fit"),
        (lambda K, y: Ridge().fit(K, y).predict(K[:, :3]), "K_test"),
        (lambda K, y: Ridge(0.1).fit(-K, y), "definite"),
        (lambda K, y: best("svm", K, y), "validation"),
        (lambda K, y: best("tree", K, y), "method"),
        (lambda K, y: RandomFeatures(0), "m = 0"),
        (lambda K, y: Logistic(1e-9, max_iterations=1).fit(K, y), "converge"),
    ],
)
def test_bad_input_is_named(problem, action, message):
    with pytest.raises(ValueError, match=message):
        action(*problem)


def test_the_blocked_factor_is_lapacks(problem, monkeypatch):
    """Blocks of 32 columns on 120 points: factor, solution, inverse diagonal and condition are those of one block."""
    from meanfield.kernels import cholesky

    K, y = problem
    monkeypatch.setattr(cholesky, "BLOCK", 32)
    L, size = cholesky.factorize(K, 0.1)
    assert size == pytest.approx(np.linalg.norm(K + 0.1 * np.eye(len(K)), 1), rel=1e-14)
    A = K + 0.1 * np.eye(len(K))
    np.testing.assert_allclose(np.tril(L), np.linalg.cholesky(A), atol=1e-12)
    np.testing.assert_allclose(cholesky.solve(L, y), np.linalg.solve(A, y), atol=1e-11)
    np.testing.assert_allclose(cholesky.inverse_diagonal(L), np.diag(np.linalg.inv(A)), rtol=1e-10)
    assert 1 / 3 < cholesky.reciprocal_condition(L, size) * np.linalg.cond(A, 1) < 3
