"""Bounds on the pull of all directions, and what they say about an ensemble: never more than what is attained."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from meanfield import Ensemble, InputError, Problem, exact
from meanfield.engine.engine import Moments
from meanfield.optimality.branch_and_bound import bound_on_sphere
from meanfield.optimality.budget import Budget
from meanfield.optimality.certificate import certify, estimated_bound, predictions
from meanfield.optimality.free_energy_gap import certify_free_energy
from meanfield.optimality.gibbs import Dual
from meanfield.optimality.semidefinite_relaxation import relaxed_bound
from meanfield.optimality.sphere_ascent import FittedStarts, climb, pull, random_starts
from meanfield.optimality.sphere_quadrature import sphere_nodes


def directions(count, d, rng):
    u = rng.standard_normal((count, d))
    return u / np.linalg.norm(u, axis=1)[:, None]


def as_ensemble(found, problem):
    w, u = (found.w, found.u) if len(found.w) else (np.zeros((1, problem.outputs)), np.zeros((1, problem.d)))
    m = len(w)
    return Ensemble.from_arrays(np.sqrt(m) * w, np.sqrt(m) * u, dtype="float64")


def degenerate_problem(rng):
    """Random inputs of a random kind: plain, on a grid, duplicated, collinear, with zeros, of extreme scale."""
    n, d, kind = int(rng.integers(1, 20)), int(rng.integers(1, 6)), rng.integers(6)
    X = rng.standard_normal((n, d))
    if kind == 1:
        X = np.round(X)
    elif kind == 2:
        X = X[rng.integers(n, size=n)]
    elif kind == 3:
        X = np.outer(rng.standard_normal(n), rng.standard_normal(d))
    elif kind == 4:
        X = rng.integers(-1, 2, size=(n, d)) * (rng.random(n) < 0.8)[:, None]
    elif kind == 5:
        X = X * 10.0 ** rng.integers(-6, 7)
    reg = 10.0 ** rng.uniform(-4, 0)
    which = rng.integers(3)
    if which == 0:
        return Problem(X, np.where(rng.random(n) < rng.choice([0, 0.5, 1]), -1, 1), loss="logistic", reg=reg)
    if which == 1 and n > 2:
        return Problem(X, np.append([0, 1], rng.integers(3, size=n - 2)), loss="cross_entropy", reg=reg)
    return Problem(X, rng.standard_normal((n, 2)) * rng.choice([0, 1, 100.0]), loss="squared", reg=reg)


def check_sound(seed, effort):
    """Neither a rigorous bound nor an estimate exceeds the better of two ensembles found."""
    problem = degenerate_problem(np.random.default_rng(seed))
    found = exact.optimum(problem, tolerance=1e-7, effort=0.1 * effort)
    ensemble = as_ensemble(found, problem)
    certificate = certify(problem, ensemble, effort=effort)
    attained = min(found.value, certificate.primal)
    poor = Ensemble.sphere(200, problem.d, problem.outputs, seed=seed)
    for known in (ensemble, poor):
        recorded = estimated_bound(problem, known, Moments(*predictions(problem, known)), problem.reg.end)
        assert 0 <= recorded <= attained * (1 + 1e-12)
    assert certificate.proven_bound is not None
    assert certificate.proven_bound <= attained
    assert certificate.estimated_bound <= attained * (1 + 1e-12)
    assert certificate.lower_bound in (certificate.proven_bound, certificate.estimated_bound)
    return certificate


@pytest.mark.parametrize("seed", [*range(25), 1163])
def test_no_bound_exceeds_what_is_attained(seed):
    """Over random and degenerate problems, all losses."""
    check_sound(seed, 0.1)


@pytest.mark.slow
def test_no_bound_exceeds_what_is_attained_in_a_thousand_problems():
    """The same over a thousand; where enumeration finishes, the gap of the optimum is proven to be small."""
    gaps = [one.relative_gap for one in (check_sound(seed, 0.2) for seed in range(1000, 2000)) if one.method == "exact"]
    assert len(gaps) > 500
    assert np.median(gaps) < 1e-5


@pytest.mark.parametrize(("d", "outputs"), [(1, 1), (2, 1), (2, 3), (3, 1), (3, 2), (4, 1)])
def test_enumeration_brackets_the_maximum(d, outputs):
    """upper ≥ every one of 20000 directions and every peak climbed to; lower is attained at u; they meet to 1e-6."""
    rng = np.random.default_rng(10 * d + outputs)
    for X in (rng.standard_normal((30, d)), np.round(rng.standard_normal((30, d)))):
        a = rng.standard_normal((30, outputs))
        found = bound_on_sphere(X, a, tolerance=1e-6)
        assert found.closed
        assert found.upper <= found.lower * (1 + 1.1e-6) + 2 * found.allowance
        np.testing.assert_allclose(pull(X, a, found.u[None])[0], found.lower, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(found.u), 1.0, rtol=1e-12)
        seen = max(pull(X, a, directions(20_000, d, rng)).max(), climb(X, a, random_starts(X, 200)).value[0])
        assert seen <= found.upper


def test_enumeration_works_in_the_span_of_active_examples():
    """Rank 2 in d = 10, with rows of zero weight that would raise the rank: as in the plane."""
    rng = np.random.default_rng(5)
    plane, basis = rng.standard_normal((40, 2)), np.linalg.qr(rng.standard_normal((10, 2)))[0]
    a = rng.standard_normal((40, 1))
    X = np.concatenate([plane @ basis.T, rng.standard_normal((20, 10))])
    found = bound_on_sphere(X, np.concatenate([a, np.zeros((20, 1))]))
    flat = bound_on_sphere(plane, a)
    assert found.dimension == 2
    np.testing.assert_allclose(found.lower, flat.lower, rtol=2e-7)
    np.testing.assert_allclose(pull(X[:40], a, found.u[None])[0], found.lower, rtol=1e-10)


def test_examples_that_are_nearly_collinear_are_enumerated():
    """Iris, whose hyperplanes nearly coincide: closed, and above every peak climbed to where inputs have one scale."""
    data = load_iris()
    X, Y = data.data[::2], np.eye(3)[data.target[::2]]
    a = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    start = climb(X, a, FittedStarts(X).draw(100)).u[0]
    found = bound_on_sphere(X, a, start=start, budget=Budget(2e8))
    assert found.closed
    np.testing.assert_allclose(pull(X, a, found.u[None])[0], found.lower, rtol=1e-12)
    L = np.linalg.cholesky(X.T @ X)
    whitened = climb(np.ascontiguousarray(np.linalg.solve(L, X.T).T), a, random_starts(X, 100)).u @ np.linalg.inv(L)
    seen = max(pull(X, a, whitened / np.linalg.norm(whitened, axis=1)[:, None]).max(), pull(X, a, start[None])[0])
    assert seen <= found.upper


def test_interrupted_enumeration_is_still_a_bound():
    """Out of work, or of time, in six dimensions: not closed, yet above every peak found."""
    rng = np.random.default_rng(6)
    X, a = rng.standard_normal((60, 6)), rng.standard_normal((60, 1))
    highest = climb(X, a, random_starts(X, 300)).value[0]
    for found in (bound_on_sphere(X, a, budget=Budget(1e8)), bound_on_sphere(X, a, seconds=1e-9)):
        assert not found.closed
        assert highest <= found.upper


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_relaxation_is_above_every_peak(outputs):
    """Over random and structured inputs, and below the sum of all ‖a_i‖‖x_i‖; tight for a single example."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, 40)), int(rng.integers(1, 12))
        X, a = np.round(rng.standard_normal((n, d)), int(rng.integers(2)) * 8), rng.standard_normal((n, outputs))
        bound = relaxed_bound(X, a, budget=Budget(2e8))
        peaks = climb(X, a, random_starts(X, 100))
        assert peaks.value[0] <= bound <= (1 + 1e-7) * np.linalg.norm(a, axis=1) @ np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(relaxed_bound([[3.0, 4.0]] @ np.eye(2), np.array([[2.0]])), 10.0, rtol=1e-6)


@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_converged_ensembles_in_small_dimension_have_a_proven_gap(d):
    """n = 500, random labels and real data: rigorous, by enumeration, relative gap at most 1e-3."""
    rng = np.random.default_rng(d)
    real = load_breast_cancer()
    columns = real.data[:500, : d - 1]
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    cases = [
        (rng.standard_normal((500, d)), np.where(rng.random(500) < 0.5, -1, 1)),
        (np.column_stack([columns, np.ones(500)]), real.target[:500]),
    ]
    for X, y in cases:
        problem = Problem(X, y, reg=5e-4)
        found = certify(problem, as_ensemble(exact.optimum(problem, tolerance=1e-5), problem))
        assert found.rigorous
        assert found.method == "exact"
        assert -1e-12 <= found.relative_gap <= 1e-3
        assert found.allowance < 1e-8 * found.primal


def test_a_poor_ensemble_is_told_so():
    """The bound of an ensemble at its start is that of the optimum; the violation shows that it is not optimal."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    problem = Problem(X, np.sign(X[:, 0] * X[:, 1]), reg=1e-3)
    best = exact.optimum(problem).value
    found = certify(problem, Ensemble.sphere(1000, 3))
    assert found.violation > 1
    assert found.lower_bound <= best
    assert found.lower_bound > best * (1 - 1e-3)
    assert found.primal > 1.5 * best
    np.testing.assert_allclose(pull(X, found.dual, found.direction[None])[0], found.best_norm, rtol=1e-9)


def test_estimate_and_proof_are_told_apart():
    """d = 20: by little work an estimate, which says so, the proven bound beside and below it; by more a proof."""
    rng = np.random.default_rng(1)
    X = np.sign(rng.standard_normal((30, 20)))
    problem = Problem(X, np.where(rng.random(30) < 0.5, -1, 1), reg=5e-3)
    ensemble = as_ensemble(exact.optimum(problem), problem)
    found = certify(problem, ensemble, effort=0.01)
    assert (found.method, found.rigorous) == ("estimate", False)
    assert found.proven_bound < found.lower_bound == found.estimated_bound
    proven = certify(problem, ensemble, effort=0.01, method="proven")
    assert (proven.method, proven.rigorous) == ("proven", True)
    assert proven.lower_bound == proven.proven_bound
    assert proven.looseness > 1e-3
    assert certify(problem, ensemble, method="estimate").proven_bound is None
    with pytest.raises(InputError, match="exact"):
        certify(problem, ensemble, effort=0.01, method="exact")
    reached = certify(problem, ensemble, until_gap=1e-3)
    assert reached.rigorous
    assert found.proven_bound < reached.lower_bound
    assert reached.relative_gap <= 1e-3


def answers_of(problem, ensemble, threads):
    """All that a certificate says, and the recorded bound."""
    found = certify(problem, ensemble, threads=threads, effort=0.3)
    assert not found.cut_short
    recorded = estimated_bound(problem, ensemble, Moments(*predictions(problem, ensemble)), problem.reg.end, threads)
    said = {name: value for name, value in vars(found).items() if name != "seconds"}
    return recorded, {name: one.tobytes() if isinstance(one, np.ndarray) else one for name, one in said.items()}


@pytest.mark.parametrize(
    ("loss", "d"), [("logistic", 3), pytest.param("squared", 5, marks=pytest.mark.slow), ("cross_entropy", 20)]
)
def test_a_certificate_is_the_same_every_time(monkeypatch, loss, d):
    """With one thread, and with two where a second passes between two looks at the clock: equal in every bit."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((30, d))
    problem = Problem(X, rng.integers(2 if loss == "logistic" else 3, size=30), loss=loss, reg=1e-3)
    ensemble = Ensemble.sphere(3000, d, problem.outputs, seed=1)
    first = answers_of(problem, ensemble, 1)
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    assert answers_of(problem, ensemble, 2) == first


@pytest.mark.parametrize("method", ["auto", "proven", "estimate"])
def test_a_limit_only_cuts_short(method):
    """No time at all: bounds that hold, and they say that they were cut short."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 8))
    problem = Problem(X, np.where(rng.random(60) < 0.5, -1, 1), reg=1e-3)
    ensemble = Ensemble.sphere(500, 8)
    found, best = certify(problem, ensemble, seconds=1e-9, method=method), exact.optimum(problem, tolerance=1e-3)
    assert found.cut_short
    assert 0 <= found.lower_bound <= best.value
    if method != "estimate":
        assert 0 <= found.proven_bound <= best.value
    assert not certify(problem, ensemble, seconds=1000, effort=0.1, method=method).cut_short


def test_bad_requests_are_refused_in_one_line():
    """An unknown method, no time, endless work, a gap that is none."""
    problem, ensemble = Problem([[1.0], [-1.0]], [1, -1]), Ensemble.sphere(10, 1)
    with pytest.raises(InputError, match="method"):
        certify(problem, ensemble, method="guess")
    with pytest.raises(InputError, match="seconds"):
        certify(problem, ensemble, seconds=0)
    with pytest.raises(InputError, match="effort"):
        certify(problem, ensemble, effort=float("inf"))
    with pytest.raises(InputError, match="until_gap"):
        certify(problem, ensemble, until_gap=0.0)
    with pytest.raises(InputError, match="temperature"):
        certify_free_energy(problem, ensemble)


@pytest.mark.slow
def test_the_free_energy_bound_stays_below_the_minimum():
    """Samples of the optimal measure: D(a) ≤ min F_τ, close to it, and f(a) near f; a poor ensemble gets less."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 2)), np.array([1, -1, 1, -1, -1, 1, 1, -1])
    problem = Problem(X, y, reg=1e-2, temperature=2e-2)
    best = exact.gibbs(problem)
    w, u = best.samples(1_000_000)
    ensemble = Ensemble.from_arrays(w, u)
    good = certify_free_energy(problem, ensemble)
    poor = certify_free_energy(problem, Ensemble.sphere(1000, 2))
    assert best.free_energy * (1 - 1e-3) < good.lower_bound <= best.free_energy + 1e-9
    assert poor.lower_bound <= best.free_energy + 1e-9
    assert good.consistency < 0.5 < poor.consistency
    assert 0 <= good.gap < poor.gap
    for one in (good, poor):  # bound + gap is the free energy of a measure, hence at least the minimum
        assert best.free_energy - 1e-9 <= one.lower_bound + one.gap
    assert good.scale == 1
    reached = Dual(problem, 1e-2, 2e-2, sphere_nodes(X, 1, 0)[0]).moments(good.dual)[2]
    f, loss, t = ensemble.predict(X)[:, None], problem.loss, problem.targets
    divergence = loss.value(reached, t) - loss.value(f, t) - np.sum(good.dual * (reached - f))  # Bregman's, of R
    np.testing.assert_allclose(good.gap, divergence, rtol=1e-6)


def test_a_collapsed_integral_is_not_called_anything():
    """d = 20: nearly all of q^(−d/2) sits in a peak that no node comes near, unless a is scaled far down."""
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((30, 20)), np.where(rng.random(30) < 0.5, -1, 1)
    found = certify_free_energy(Problem(X, y, reg=1e-3, temperature=1e-3), Ensemble.sphere(500, 20))
    assert found.method == "refused" or found.effective > 50
    assert (found.method == "refused") == (found.lower_bound is None)
