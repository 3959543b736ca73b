"""References with a loss of the user's own: against an independent minimizer; what they miss is said in one line."""

import numpy as np
import pytest
from own_losses import Huber, SquaredHinge
from scipy.optimize import minimize

from meanfield import Ensemble, InputError, Problem, certify, exact
from meanfield.losses import Loss, RegressionLoss
from meanfield.optimality.free_energy_gap import certify_free_energy

OWN = [SquaredHinge(), Huber(0.4)]
each = pytest.mark.parametrize("loss", OWN, ids=lambda loss: loss.name)


def line(loss, n=30, d=1, *, reg=3e-2, **rest):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((n, d))
    noisy = np.abs(X[:, 0]) - 0.7 + 0.3 * rng.standard_normal(n)
    return Problem(X, np.where(noisy > 0, 1, -1) if loss.is_classification else noisy, loss=loss, reg=reg, **rest)


def on_the_line(problem, reg):
    """min over c of R(c₁ relu(x) + c₂ relu(−x)) + 2λ(|c₁| + |c₂|): in d = 1 there are only these two directions."""
    phi = np.maximum(problem.X * [1.0, -1.0], 0.0)

    def value(parts):
        f = phi @ (parts[:2] - parts[2:])
        slope = phi.T @ problem.loss.residual(f[:, None], problem.targets)[:, 0]
        return problem.loss.value(f[:, None], problem.targets) + 2 * reg * parts.sum(), np.append(
            slope, -slope
        ) + 2 * reg

    return minimize(
        value, np.full(4, 0.1), jac=True, bounds=[(0, None)] * 4, options={"ftol": 1e-15, "gtol": 1e-10}
    ).fun


def as_ensemble(found):
    m = len(found.w)
    return Ensemble.from_arrays(np.sqrt(m) * found.w, np.sqrt(m) * found.u, dtype="float64")


@each
@pytest.mark.parametrize("reg", [3e-3, 3e-2])
def test_the_optimum_is_that_of_an_independent_minimizer(loss, reg):
    """On the line, where the problem has four unknowns; and its bound closes."""
    problem = line(loss, reg=reg)
    found = exact.optimum(problem, tolerance=1e-6)
    np.testing.assert_allclose(found.value, on_the_line(problem, reg), rtol=2e-6)
    assert -1e-12 < found.relative_gap <= 1e-6


@each
def test_a_proof_closes_in_the_plane(loss):
    """certify of the optimum: exact, rigorous, a gap below 1e-4, and the proven bound not above what is attained."""
    problem = line(loss, d=2, reg=1e-2)
    found = exact.optimum(problem, tolerance=1e-6)
    proof = certify(problem, as_ensemble(found))
    assert (proof.method, proof.rigorous) == ("exact", True)
    assert 0 <= proof.relative_gap < 1e-4
    poor = certify(problem, Ensemble.sphere(300, 2, seed=1))
    assert poor.proven_bound <= found.value < poor.primal


def test_two_outputs_have_the_hessian_that_they_need():
    """Huber's loss with C = 2: the bound closes; without a Hessian one line says so."""

    class Blind(Huber):
        hessian = Loss.hessian

    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((20, 2)), rng.standard_normal((20, 2))
    assert exact.optimum(Problem(X, y, loss=Huber(), reg=1e-2), tolerance=1e-6).relative_gap <= 1e-6
    problem = Problem(X, y, loss=Blind(), reg=1e-2)
    with pytest.raises(InputError, match=r"exact\.optimum needs a loss with hessian, which loss 'huber' lacks"):
        exact.optimum(problem)


def test_margins_of_ones_own_loss_have_the_same_largest_margin():
    """γ* knows only the margins; the law of its approach needs the tail as well."""
    X, y = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), [1, 1, -1, -1]
    np.testing.assert_allclose(exact.max_margin(X, y, loss=SquaredHinge()).margin, 0.125, rtol=1e-5)
    with pytest.raises(InputError, match=r"exact\.margin_law needs a loss with an exponential tail"):
        exact.margin_law(X, y, loss=SquaredHinge())


@each
def test_the_gibbs_dual_of_ones_own_loss_is_a_lower_bound(loss):
    """D(a) stays below the free energy of the Gaussian law, ρ ∝ e^{−λ‖θ‖²/τ}, whose f is 0."""
    problem = line(loss, n=8, reg=0.1, temperature=0.05)
    found = exact.gibbs(problem)
    gaussian = loss.value(np.zeros((8, 1)), problem.targets) - 0.05 * np.log(np.pi * 0.05 / 0.1)
    assert found.lower_bound <= gaussian
    if found.attained:
        np.testing.assert_allclose(found.free_energy, found.lower_bound, rtol=1e-9)
        assert np.abs(found.a - loss.residual(found.f, problem.targets)).max() < 1e-6


class Minimal(RegressionLoss):
    """log cosh(f − y): what dynamics need, and no more."""

    name = "log_cosh"

    def value(self, f, t):
        z = np.abs(f - t)
        return float(np.sum(z + np.log1p(np.exp(-2 * z)) - np.log(2)) / len(t))

    def residual(self, f, t):
        return np.tanh(f - t) / len(t)

    def curvature(self, f, t):
        return (1 / np.cosh(np.clip(f - t, -300, 300)) ** 2).max(axis=1)


@pytest.mark.parametrize(
    ("reference", "call"),
    [
        (r"exact\.gibbs", lambda cold, warm, ensemble: exact.gibbs(warm)),
        (r"exact\.optimum", lambda cold, warm, ensemble: exact.optimum(cold)),
        (r"exact\.max_margin", lambda cold, warm, ensemble: exact.max_margin(cold.X, cold.y, loss=cold.loss)),
        (r"exact\.margin_law", lambda cold, warm, ensemble: exact.margin_law(cold.X, cold.y, loss=cold.loss)),
        ("certify", lambda cold, warm, ensemble: certify(cold, ensemble)),
        ("certify_free_energy", lambda cold, warm, ensemble: certify_free_energy(warm, ensemble)),
        ("dual_bound", lambda cold, warm, e: exact.dual_bound(cold.loss, cold.targets, np.ones((30, 1)), 1.0, 0.1)),
    ],
)
def test_a_reference_says_in_one_line_what_it_misses(reference, call):
    """The names of the reference, of the loss and of the method."""
    loss = Minimal()
    with pytest.raises(InputError, match=f"{reference} needs .*'log_cosh'") as caught:
        call(line(loss), line(loss, temperature=0.1), Ensemble.sphere(100, 1))
    assert "\n" not in str(caught.value)


def test_without_the_size_of_its_terms_there_is_an_estimate_and_no_proof():
    """Rounding cannot be accounted for: "auto" gives an estimate, "proven" says why there is none."""

    class Unsized(Huber):
        conjugate_magnitude = Loss.conjugate_magnitude

    problem = line(Unsized(0.4))
    found = certify(problem, Ensemble.sphere(300, 1))
    assert (found.method, found.proven_bound) == ("estimate", None)
    with pytest.raises(InputError, match="conjugate_magnitude"):
        certify(problem, Ensemble.sphere(300, 1), method="proven")
