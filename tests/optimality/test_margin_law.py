"""The margin law: γ*, the dual solution of least KL, and what they say about small λ; the claim's own numbers."""

import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield import InputError, Problem, exact
from meanfield.optimality.margin_law import MarginLaw, margin_law
from meanfield.optimality.max_margin import max_margin, refitted
from meanfield.optimality.soft_margin import soft_margin
from meanfield.optimality.sphere_ascent import climb
from meanfield.studies.study import Study

ROOT = Path(__file__).resolve().parents[2]
PLUS = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])


@pytest.fixture(scope="module")
def claim():
    """scripts/claim_margin.py as a module."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location("claim_margin", ROOT / "scripts" / "claim_margin.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def line(n):
    """n points in the middles of equal cells of [−1, 1], and a constant feature; six intervals of alternating class."""
    x = (2 * np.arange(n) + 1) / n - 1
    return np.column_stack([x, np.ones(n)]), 1 - 2 * (np.floor(3 * (x + 1)).astype(int) % 2)


def test_unequal_corners_have_the_closed_form_constant():
    """n_k copies of corner k of the plain xor: each corner has mass ¼, KL least if shared equally, p = 1/(4 n_k)."""
    copies = np.array([1, 2, 3, 6])
    X, y, n = np.repeat(PLUS, copies, axis=0), np.repeat([1, 1, -1, -1], copies), copies.sum()
    law = margin_law(X, y)
    np.testing.assert_allclose(law.dual, np.repeat(1 / (4 * copies), copies), rtol=1e-2)
    assert abs(law.divergence - np.log(n / (4 * copies)).mean()) < 2e-3
    assert abs(law.deficit - (np.log(n / 4) - np.log(n / (4 * copies)).mean())) < 5e-3


def test_the_dual_weights_are_feasible_on_the_whole_circle():
    """max over 10⁵ directions of |G_p(u)| is 2γ*, to the precision that the weight 80 allows: KL/80."""
    X, y = line(12)
    law = margin_law(X, y)
    angle = np.linspace(0, 2 * np.pi, 100_000)
    G = np.maximum(np.stack([np.cos(angle), np.sin(angle)], axis=1) @ X.T, 0) @ (law.dual * y)
    assert 1 - 1e-5 < np.abs(G).max() / (2 * law.margin) < 1 + 1e-4
    assert law.peak < 1 + 1e-4
    np.testing.assert_allclose(law.dual.sum(), 1, rtol=1e-12)


def test_neurons_that_the_linear_program_did_not_need_are_added():
    """Points in space, begun from a coarse linear program: p is feasible where a fresh ascent looks, too."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)), np.tile([1, -1], 6)
    coarse = max_margin(X, y, tolerance=0.2)
    law = margin_law(X, y, coarse, weight=20, rounds=60)
    peaks = climb(X, (law.dual * y)[:, None], rng.standard_normal((300, 3)))
    assert coarse.margin < law.margin <= peaks.value[0] / 2 * (1 + 1e-9)
    np.testing.assert_allclose(peaks.value[0] / 2, law.margin, rtol=1e-2)


def test_of_the_dual_solutions_the_law_takes_one_of_no_more_kl_than_the_linear_programs():
    """The plain xor with copies has many dual solutions; the linear program's vertex is not nearer to uniform."""
    X, y = np.repeat(PLUS, 3, axis=0), np.repeat([1, 1, -1, -1], 3)
    found = max_margin(X, y)
    law = margin_law(X, y, found)
    p = found.dual[found.dual > 0]
    assert law.divergence < 1e-6
    assert law.divergence <= np.sum(p * np.log(len(y) * p)) + 1e-9
    assert law.deficit < 1e-6


def test_the_law_predicts_the_regularized_optimum():
    """Margin and ∫‖θ‖² of the global minimum, found neuron by neuron, at λ = 1e-7 and 1e-9."""
    X, y = line(12)
    law = margin_law(X, y)
    for reg, tolerance in ((1e-7, 2e-3), (1e-9, 5e-4)):
        best = exact.optimum(Problem(X, y, reg=reg), tolerance=1e-6)
        norm = np.sum(best.w**2) + np.sum(best.u**2)
        margin = (best.predict(X)[:, 0] * y).min() / norm
        np.testing.assert_allclose(law.margin_at(reg), margin, rtol=tolerance)
        np.testing.assert_allclose(law.norm_at(reg), norm, rtol=tolerance)
        assert 1 - margin / law.margin > 5 * tolerance, "the deficit is what the prediction is about"


def test_the_refined_law_has_the_constant_as_its_slope():
    """(1 − γ/γ*) log(1/λ) → c as λ → 0."""
    numbers = {
        "margin": 0.3,
        "upper": 0.3,
        "rigorous": True,
        "divergence": 0.2,
        "excess": 0.9,
        "peak": 1.0,
        "precision": 0.0,
    }
    law = MarginLaw(**numbers, dual=np.ones(1), rounds=0, seconds=0.0)
    reg = 1e-300
    np.testing.assert_allclose((1 - law.margin_at(reg) / 0.3) * np.log(1 / reg), law.deficit, rtol=1e-2)


def test_rescaled_inputs_scale_the_margin_and_keep_the_constant():
    """relu is homogeneous: γ* → s γ*, c as it was."""
    X, y = line(12)
    one, other = margin_law(X, y), margin_law(50 * X, y)
    np.testing.assert_allclose(other.margin, 50 * one.margin, rtol=1e-5)
    assert abs(other.deficit - one.deficit) < 1e-3


def test_two_classes_by_cross_entropy_have_root_two_times_the_margin():
    """f_y − f_other with w along (1, −1)/√2 gains √2 over y f for the same norm; the weights are the same."""
    X, y = line(12)
    one, two = max_margin(X, y), max_margin(X, y, loss="cross_entropy")
    assert two.rigorous
    np.testing.assert_allclose(two.margin, np.sqrt(2) * one.margin, rtol=2e-5)
    laws = margin_law(X, y, one), margin_law(X, y, two, loss="cross_entropy")
    assert abs(laws[0].deficit - laws[1].deficit) < 1e-3


def test_four_corners_as_four_classes():
    """w = e_c − ¼, scaled: margins a/√¾ for a = ¼ on each neuron, so γ* = 1/(4√3), attained by the neurons returned."""
    found = max_margin(PLUS, [0, 1, 2, 3], loss="cross_entropy")
    np.testing.assert_allclose([found.margin, found.upper], 1 / (4 * np.sqrt(3)), rtol=1e-5)
    f = found.predict(PLUS)
    own = f[np.arange(4), np.arange(4)]
    f[np.arange(4), np.arange(4)] = -np.inf
    np.testing.assert_allclose((own - f.max(axis=1)).min(), found.margin, rtol=1e-9)
    np.testing.assert_allclose(np.sum(found.w**2) + np.sum(found.u**2), 1, rtol=1e-12)
    assert found.dual.shape == (4, 4)
    assert np.all(np.diag(found.dual) == 0)
    np.testing.assert_allclose(found.dual.sum(), 1, rtol=1e-12)


def test_soft_margins_meet_their_dual_bound():
    """log mean exp(−Aᵀc) at its least equals −(S max Ap + KL(p)); and no other c does better."""
    rng = np.random.default_rng(0)
    A, S = rng.standard_normal((12, 20)) + 0.5, 7.0
    c, p = soft_margin(A, np.ones(12), S, 1e-8)
    value = np.log(np.mean(np.exp(-(c @ A))))
    np.testing.assert_allclose(c.sum(), S, rtol=1e-12)
    assert abs(value + S * (A @ p).max() + np.sum(p * np.log(20 * p))) < 1e-7
    for other in rng.dirichlet(np.ones(12), 200) * S:
        assert np.log(np.mean(np.exp(-(other @ A)))) >= value


def test_more_directions_never_lower_the_refitted_margin():
    """Nested sets of directions; the linear program's own neurons attain γ*, none exceeds it."""
    X, y = line(12)
    best = max_margin(X, y)
    u = np.random.default_rng(0).standard_normal((200, 2))
    margins = [refitted(X, y, u[:m])[0] for m in (5, 20, 80, 200)]
    assert margins == sorted(margins)
    assert 0 < margins[-1] <= best.upper
    margin, w, v = refitted(X, y, best.u)
    np.testing.assert_allclose(margin, best.margin, rtol=1e-6)
    np.testing.assert_allclose((np.maximum(X @ v.T, 0) @ w[:, 0] * y).min(), margin, rtol=1e-6)
    np.testing.assert_allclose(np.sum(w**2) + np.sum(v**2), 1, rtol=1e-12)


def test_one_direction_cannot_separate_the_xor():
    """The margin is 0 and so is the network."""
    margin, w, u = refitted(PLUS, [1, 1, -1, -1], [[1.0, 0.0]])
    assert margin == 0
    assert not w.any()
    assert not u.any()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: max_margin(PLUS, [1, 1, -1, -1], loss="squared"), "exact.max_margin needs.*margin_rows.*'squared'"),
        (lambda: margin_law([[1.0]], [1.0], loss="squared"), "exponential tail; loss 'squared'"),
        (lambda: margin_law([[1.0, 2], [1, 2]], [1, -1]), "no network separates"),
        (lambda: margin_law(PLUS, [1, 1, -1, -1], weight=0), "weight"),
        (lambda: refitted(PLUS, [1, 1, -1, -1], [[1.0, 0, 0]]), "must be"),
    ],
)
def test_bad_input_is_named(call, match):
    """One line that names what is wrong."""
    with pytest.raises(InputError, match=match):
        call()


def test_fits_of_the_claim_return_a_planted_law(claim):
    """γ/γ* = a − c x + b x²; leaving a point out changes nothing where the law is exact."""
    x = 1 / np.log(1 / 10.0 ** -np.arange(3, 9))
    (a, c), _ = claim.extrapolated(x, 1 - 0.45 * x - 0.9 * x**2), None
    np.testing.assert_allclose([a, c], [1, 0.45], rtol=1e-9)
    value, change = claim.left_out(claim.fitted, x, 1 - 0.45 * x - 0.9 * x**2)
    np.testing.assert_allclose(value, 0.45, rtol=1e-9)
    assert change < 1e-9


def test_a_width_inherits_what_half_of_it_had(claim):
    """The envelope keeps the narrower network, its test error with it, and counts how often that was needed."""
    rows = [
        {"seed": 0, "m": m, "start": 0, "margin": g, "test_error": e, "trained_test_error": 0.6}
        for m, g, e in [(1, 0.0, 1.0), (2, 0.1, 0.4), (2, 0.02, 0.2), (4, 0.05, 0.3), (8, 0.15, 0.1)]
    ]
    best, errors, drops = claim.envelopes(rows, [0], [1, 2, 4, 8], {0: 0.2})
    np.testing.assert_allclose(best, [[0, 0.5, 0.5, 0.75]])
    np.testing.assert_allclose(errors, [[0.6, 0.4, 0.4, 0.1]])
    assert drops == 1
    with_program = [*rows, {"seed": 0, "m": 3, "margin": 0.2, "test_error": 0.05}]
    np.testing.assert_allclose(claim.envelopes(with_program, [0], [1, 2, 4, 8], {0: 0.2})[0], [[0, 0.5, 1, 1]])


@pytest.mark.parametrize(
    ("study", "cell", "which"),
    [
        ("margin_line_limit", "limit", {}),
        ("margin_width", "width", {"m": 16, "start": 1, "seed": 1}),
    ],
)
def test_the_committed_numbers_come_back(claim, study, cell, which):
    """A cell of the committed table, computed again: to the gap at which margin_law ends (its `tolerance`, in units of
    KL) and for margins to five digits, or the cell's own tolerance."""
    rows = Study(study, getattr(claim, cell), claim.claims.RESULTS).read()
    row = next(row for row in rows if all(row[name] == value for name, value in which.items()))
    function = getattr(claim, cell)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    gap = inspect.signature(margin_law).parameters["tolerance"].default
    relative = max(1e-5, row.get("tolerance", 0.0))
    for name, value in function(**{name: row[name] for name in names}).items():
        if isinstance(value, float):
            np.testing.assert_allclose(
                value, row[name], rtol=relative, atol=gap if name in ("c", "c_precision", "kl", "excess") else 1e-7
            )
