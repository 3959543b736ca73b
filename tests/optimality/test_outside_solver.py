"""The same minimum by the convex program of two-layer ReLU networks, which shares nothing with the engine.

Pilanci and Ergen 2020 (arXiv 2002.10553): over all activation patterns D_k = diag(1[X u > 0]) of the inputs,

    min R(Σ_k D_k X (v_k − v'_k)) + 2λ Σ_k (‖v_k‖ + ‖v'_k‖)    with v_k, v'_k in the cone (2 D_k − I) X v ≥ 0.

For one neuron w relu(u·x) the least of λ(w² + ‖u‖²) at a given product is 2λ|w|‖u‖: hence the factor 2λ, v = |w| u.
With several outputs the cost of a pattern is no plain norm, so only one output is compared. Solved by L-BFGS-B of
SciPy, the cones written by their extreme rays, and by an interior-point method through cvxpy where that is installed.
"""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from meanfield import Ensemble, Langevin, Problem, exact, simulate
from meanfield.optimality.certificate import certify
from meanfield.runtime.threads import single_threaded_blas

CASES = [("squared", 2, 8), ("squared", 3, 6), ("logistic", 2, 8), ("logistic", 3, 6)]


def problem_of(loss, d, n, seed, reg=1e-2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n) if loss == "squared" else np.where(np.arange(n) < n // 2, 1, -1)
    return Problem(X, y, loss=loss, reg=reg)


def vertices(X):
    """(rows, u): every choice of d − 1 hyperplanes x_i·u = 0, and the two unit vectors they have in common."""
    n, d = X.shape
    for rows in combinations(range(n), d - 1):
        ray = np.linalg.svd(X[list(rows)])[2][-1]
        yield from ((list(rows), sign * ray) for sign in (1.0, -1.0))


def patterns(X):
    """Distinct activation patterns (P, n), bool, of the cells, each of which has a vertex; Cover's number of them."""
    n, d = X.shape
    found = set()
    for rows, u in vertices(X):
        pattern = X @ u > 0
        for sides in product((True, False), repeat=d - 1):
            pattern[rows] = sides
            found.add(tuple(pattern.tolist()))
    assert len(found) == 2 * sum(comb(n - 1, k) for k in range(d))
    return np.array(sorted(found))


def extreme_rays(X, pattern):
    """(r, d): the vertices that lie in the closed cone of the pattern."""
    rays = np.array([u for _, u in vertices(X)])
    return rays[np.all((2 * pattern - 1) * (rays @ X.T) >= -1e-9, axis=1)]


def risk(problem, f):
    """R(f) from its definition, without the engine's losses."""
    return (
        0.5 * np.mean((f - problem.y) ** 2)
        if problem.loss.name == "squared"
        else np.mean(np.logaddexp(0, -problem.y * f))
    )


def risk_slope(problem, f):
    if problem.loss.name == "squared":
        return (f - problem.y) / problem.n
    return -problem.y / (1 + np.exp(problem.y * f)) / problem.n


def by_rays(problem, reg=1e-2):
    """The value of the convex program attained by L-BFGS-B over nonnegative multiples of rays, the norms rounded off
    less and less. It may end early, where its memory misleads it: begun again until that gains nothing."""
    X, cones, columns = problem.X, [], []
    for pattern in patterns(X):
        for sign in (1.0, -1.0):
            cones.append(extreme_rays(X, pattern))
            columns.append(sign * np.maximum(X @ cones[-1].T, 0.0))
    A, rays = np.concatenate(columns, axis=1), np.concatenate(cones)
    owner = np.repeat(np.arange(len(cones)), [len(one) for one in cones])
    first = np.searchsorted(owner, np.arange(len(cones)))

    def objective(t, epsilon):
        f, v = A @ t, np.add.reduceat(t[:, None] * rays, first)
        size = np.sqrt(np.sum(v * v, axis=1) + epsilon**2)
        along = np.sum(rays * (v / np.maximum(size, 1e-300)[:, None])[owner], axis=1)
        return risk(problem, f) + 2 * reg * np.sum(size - epsilon), A.T @ risk_slope(problem, f) + 2 * reg * along

    t = np.full(A.shape[1], 1e-2)
    with single_threaded_blas():  # tiny vectors: its threads would only wait for each other
        for epsilon in (1e-2, 1e-4, 1e-6):
            before = np.inf
            while (value := objective(t, epsilon)[0]) < before * (1 - 1e-8):
                before = value
                t = minimize(
                    objective,
                    t,
                    args=(epsilon,),
                    jac=True,
                    method="L-BFGS-B",
                    bounds=[(0, None)] * len(t),
                    options={"maxiter": 1000, "maxfun": 1500, "ftol": 1e-15, "gtol": 1e-10},
                ).x
    return objective(t, 0.0)[0]


@pytest.mark.parametrize(("loss", "d", "n"), CASES)
def test_the_convex_program_has_the_same_minimum(loss, d, n):
    """SciPy's value is that of exact.optimum to 2e-5 (rounding the norms off may cost 2 λ ε for each of up to 64 cones)
    and, being attained, never below its proven lower bound."""
    problem = problem_of(loss, d, n, seed=d)
    found, outside = exact.optimum(problem, tolerance=1e-7), by_rays(problem)
    m = len(found.w)
    proof = certify(problem, Ensemble.from_arrays(np.sqrt(m) * found.w, np.sqrt(m) * found.u, dtype="float64"))
    assert proof.rigorous
    assert proof.lower_bound <= outside
    np.testing.assert_allclose(outside, found.value, rtol=2e-5)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_particles_reach_the_minimum_of_the_convex_program(loss):
    """4096 particles end at most 0.5 % above what SciPy attains, and not below it by more than SciPy is inexact."""
    problem = problem_of(loss, 2, 8, seed=2)
    outside = by_rays(problem)
    run = simulate(problem, Ensemble.sphere(4096, 2), Langevin(), steps=2000)
    assert outside * (1 - 2e-5) <= problem.objective(run.ensemble).value <= 1.005 * outside


def test_the_largest_margin_is_that_of_a_linear_program_over_a_fine_grid():
    """d = 2: features at 4000 angles and on every kink attain γ* of max_margin to 1e-6, and never more."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((8, 2)), np.array([1, -1, 1, 1, -1, -1, 1, -1])
    kinks = np.arctan2(X[:, 1], X[:, 0])[:, None] + [0.5 * np.pi, -0.5 * np.pi]
    angle = np.concatenate([np.linspace(0, 2 * np.pi, 4000, endpoint=False), kinks.ravel()])
    signed = y[:, None] * np.maximum(X @ np.stack([np.cos(angle), np.sin(angle)]), 0)
    rows = np.hstack([-signed, signed, np.ones((8, 1))])  # γ ≤ y_i Σ (c⁺ − c⁻) φ, Σ c⁺ + c⁻ ≤ 1
    cost = np.append(np.zeros(2 * len(angle)), -1.0)
    budget = np.append(np.ones(2 * len(angle)), 0.0)[None]
    solved = linprog(
        cost,
        A_ub=np.vstack([rows, budget]),
        b_ub=np.append(np.zeros(8), 1.0),
        bounds=[(0, None)] * (2 * len(angle)) + [(None, None)],
        method="highs",
    )
    found = exact.max_margin(X, y, tolerance=1e-7)
    assert found.rigorous
    assert -solved.fun / 2 <= found.upper * (1 + 1e-9)
    np.testing.assert_allclose(-solved.fun / 2, found.margin, rtol=1e-6)


def program(cp, X):
    """cvxpy's variables of the convex program: predictions, Σ of norms, cone constraints."""
    f, size, constraints = 0, 0, []
    for pattern in patterns(X):
        for sign in (1.0, -1.0):
            v = cp.Variable(X.shape[1])
            f = f + sign * (pattern[:, None] * X) @ v
            size = size + cp.norm(v, 2)
            constraints.append((2.0 * pattern - 1)[:, None] * X @ v >= 0)
    return f, size, constraints


@pytest.mark.parametrize(("loss", "d", "n"), CASES)
@pytest.mark.parametrize("reg", [1e-1, 1e-2, 1e-3])
def test_an_interior_point_solver_agrees(loss, d, n, reg):
    """cvxpy with Clarabel: the same minimum to 1e-6."""
    cp = pytest.importorskip("cvxpy")
    problem = problem_of(loss, d, n, seed=10 + d, reg=reg)
    f, size, constraints = program(cp, problem.X)
    y = problem.y
    loss_of = cp.sum_squares(f - y) / 2 if loss == "squared" else cp.sum(cp.logistic(cp.multiply(-y, f)))
    outside = cp.Problem(cp.Minimize(loss_of / n + 2 * reg * size), constraints)
    outside.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    found = exact.optimum(problem, tolerance=1e-7)
    np.testing.assert_allclose(outside.value, found.value, rtol=1e-6)


@pytest.mark.parametrize(("d", "n"), [(2, 8), (3, 6)])
def test_an_interior_point_solver_finds_the_same_largest_margin(d, n):
    """γ_ℓ1 of cvxpy is 2 γ* of max_margin to 1e-6."""
    cp = pytest.importorskip("cvxpy")
    problem = problem_of("logistic", d, n, seed=20 + d)
    f, size, constraints = program(cp, problem.X)
    margin = cp.Variable()
    constraints += [cp.multiply(problem.y, f) >= margin, size <= 1]
    outside = cp.Problem(cp.Maximize(margin), constraints)
    outside.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    found = exact.max_margin(problem.X, problem.y, tolerance=1e-8)
    np.testing.assert_allclose(outside.value / 2, found.margin, rtol=1e-6)
