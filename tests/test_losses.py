"""Laws of the losses: derivatives, duality, stability, and what labels they take."""

import copy
import pickle

import mpmath
import numpy as np
import pytest
from own_losses import Huber, SquaredHinge

from meanfield.errors import InputError
from meanfield.losses import LOSSES, CrossEntropy, Logistic, Loss, Squared, TwoClassLoss, check_loss, get_loss

N, C = 7, 4


def problem(name, seed=0, scale=1.0):
    """Outputs (n, C) and encoded targets for each loss."""
    rng = np.random.default_rng(seed)
    if name == "logistic":
        return scale * rng.standard_normal((N, 1)), rng.choice([-1.0, 1.0], N)
    if name == "squared":
        return scale * rng.standard_normal((N, C)), rng.standard_normal((N, C))
    return scale * rng.standard_normal((N, C)), np.arange(N) % C


def feasible(name, t, rng):
    """A random point in the interior of the domain of R*."""
    if name == "logistic":
        return (-t * rng.uniform(0, 1, N) / N)[:, None]
    if name == "squared":
        return rng.standard_normal((N, C)) / N
    return (rng.dirichlet(np.ones(C), N) - np.eye(C)[t]) / N


each = pytest.mark.parametrize("name", sorted(LOSSES))


@each
def test_residual_is_the_derivative_of_value(name):
    """Central differences of R agree with the residual to their own accuracy, 1e-9."""
    loss, (f, t), h = get_loss(name), problem(name), 1e-5
    numeric = np.zeros_like(f)
    for place in np.ndindex(*f.shape):
        step = np.zeros_like(f)
        step[place] = h
        numeric[place] = (loss.value(f + step, t) - loss.value(f - step, t)) / (2 * h)
    np.testing.assert_allclose(loss.residual(f, t), numeric, rtol=0, atol=1e-9)


@each
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 300.0])
def test_fenchel_young_is_an_equality_at_the_residual(name, scale):
    """R(f) + R*(R'(f)) = <f, R'(f)>: the residual is the dual point that belongs to f."""
    loss, (f, t) = get_loss(name), problem(name, 1, scale)
    r = loss.residual(f, t)
    np.testing.assert_allclose(
        loss.value(f, t) + loss.conjugate(r, t), np.sum(f * r), rtol=1e-13, atol=1e-13 * max(1, scale)
    )


@each
def test_fenchel_young_is_an_inequality_elsewhere(name):
    """R(f) + R*(a) > <f, a> for a random a in the domain that is not the residual."""
    loss, rng = get_loss(name), np.random.default_rng(2)
    for seed in range(20):
        f, t = problem(name, seed, 3.0)
        a = feasible(name, t, rng)
        assert np.isfinite(loss.conjugate(a, t))
        assert loss.value(f, t) + loss.conjugate(a, t) > np.sum(f * a) + 1e-6


@pytest.mark.parametrize("name", ["logistic", "cross_entropy"])
def test_the_conjugate_is_infinite_outside_its_domain(name):
    """Wrong sign, too large, a row that does not sum to zero, NaN."""
    loss, (f, t) = get_loss(name), problem(name)
    r = loss.residual(f, t)
    worse = r.copy()
    worse[0] += 1e-6
    assert loss.conjugate(-r, t) == np.inf
    assert loss.conjugate(1e3 * r, t) == np.inf
    assert loss.conjugate(np.full_like(r, np.nan), t) == np.inf
    if name == "cross_entropy":
        assert loss.conjugate(worse, t) == np.inf
        assert loss.largest_scale(worse, t) == 0.0


@pytest.mark.parametrize("name", ["logistic", "cross_entropy"])
def test_largest_scale_is_the_edge_of_the_domain(name):
    """R* is finite at s·a and infinite a millionth further, for residuals large and small."""
    loss = get_loss(name)
    for seed, scale in [(0, 0.0), (1, 1.0), (2, 30.0), (3, 300.0)]:
        f, t = problem(name, seed, scale)
        a = loss.residual(f, t)
        s = loss.largest_scale(a, t)
        assert s >= 1.0
        assert np.isfinite(loss.conjugate(s * a, t))
        assert loss.conjugate(s * (1 + 1e-6) * a, t) == np.inf
    assert loss.largest_scale(-a, t) == 0.0
    assert loss.largest_scale(0 * a, t) == np.inf
    assert get_loss("squared").largest_scale(a, t) == np.inf


@each
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_nothing_overflows_at_extreme_outputs(name, size):
    """|f| up to 1e4, right and wrong: every function is finite and raises no floating-point flag."""
    loss, (f, t) = get_loss(name), problem(name)
    for sign in (-1.0, 1.0):
        extreme = sign * size * np.sign(f)
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            r = loss.residual(extreme, t)
            values = [
                loss.value(extreme, t),
                loss.conjugate(r, t),
                loss.error(extreme, t),
                *loss.curvature(extreme, t),
                *r.ravel(),
            ]
            assert loss.largest_scale(r, t) >= 1.0
        assert np.all(np.isfinite(values))


def test_small_losses_keep_their_digits():
    """At margin 60 both losses are e^-60 to 1e-13 relative, though 1 + e^-60 rounds to 1; so are the residuals."""
    with mpmath.workdps(50):
        exact = float(mpmath.log(1 + mpmath.exp(-60)))
    t = np.array([1.0])
    np.testing.assert_allclose(get_loss("logistic").value(np.array([[60.0]]), t), exact, rtol=1e-13)
    np.testing.assert_allclose(get_loss("logistic").residual(np.array([[60.0]]), t), -exact, rtol=1e-13)
    f, t = np.array([[0.0, 60.0]]), np.array([1])
    np.testing.assert_allclose(get_loss("cross_entropy").value(f, t), exact, rtol=1e-13)
    np.testing.assert_allclose(get_loss("cross_entropy").residual(f, t), [[exact, -exact]], rtol=1e-13)
    np.testing.assert_allclose(get_loss("cross_entropy").curvature(f, t), 2 * exact, rtol=1e-13)


def test_small_conjugates_keep_their_digits():
    """R* near p = 0 against 50 digits: p log p + (1-p) log(1-p) at p = 1e-20, in both losses."""
    with mpmath.workdps(50):
        p = mpmath.mpf("1e-20")
        exact = float(p * mpmath.log(p) + (1 - p) * mpmath.log1p(-p))
    a = np.array([[-1e-20]])
    np.testing.assert_allclose(get_loss("logistic").conjugate(a, np.array([1.0])), exact, rtol=1e-14)
    a = np.array([[1e-20, -1e-20]])
    np.testing.assert_allclose(get_loss("cross_entropy").conjugate(a, np.array([1])), exact, rtol=1e-14)


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0, 30.0])
def test_two_class_cross_entropy_is_the_logistic_loss(scale):
    """With outputs (0, f) and y = 1 for +1 the two losses, residuals, conjugates and margins coincide."""
    logistic, entropy = get_loss("logistic"), get_loss("cross_entropy")
    f, t = problem("logistic", 3, scale)
    f2, t2 = np.column_stack([np.zeros(N), f]), (t > 0).astype(np.int64)
    r, r2 = logistic.residual(f, t), entropy.residual(f2, t2)
    np.testing.assert_allclose(entropy.value(f2, t2), logistic.value(f, t), rtol=1e-13)
    np.testing.assert_allclose(r2, np.column_stack([-r, r]), rtol=1e-13)
    np.testing.assert_allclose(entropy.conjugate(r2, t2), logistic.conjugate(r, t), rtol=1e-12)
    np.testing.assert_allclose(entropy.largest_scale(r2, t2), logistic.largest_scale(r, t), rtol=1e-12)
    np.testing.assert_array_equal(entropy.margins(f2, t2), logistic.margins(f, t))
    assert entropy.error(f2, t2) == logistic.error(f, t)


@each
def test_curvature_bounds_the_hessian(name):
    """Against eigenvalues of numerical Hessians: equal for logistic and squared, a bound for cross_entropy."""
    loss, (f, t), h = get_loss(name), problem(name, 4), 1e-5
    for i, bound in enumerate(loss.curvature(f, t)):
        columns = []
        for c in range(f.shape[1]):
            step = np.zeros_like(f)
            step[i, c] = h
            columns.append(N * (loss.residual(f + step, t) - loss.residual(f - step, t))[i] / (2 * h))
        largest = np.linalg.eigvalsh(np.array(columns)).max()
        assert bound >= largest - 1e-9
        assert name == "cross_entropy" or bound == pytest.approx(largest, abs=1e-9)
        assert name != "cross_entropy" or bound <= 0.5


def test_zero_and_ties_are_errors():
    """f = 0, a tie for the top, and NaN count as misclassified."""
    logistic, entropy = get_loss("logistic"), get_loss("cross_entropy")
    t = np.array([1.0, -1.0, 1.0, 1.0])
    assert logistic.error(np.array([[2.0], [0.0], [-1.0], [np.nan]]), t) == 0.75
    f = np.array([[1.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 5.0]])
    assert entropy.error(f, np.array([0, 0, 1])) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(entropy.margins(f, np.array([0, 0, 1])), [0.0, 2.0, -4.0])


def test_squared_error_is_the_mean_squared_norm():
    """By hand; and R is half of it."""
    loss = get_loss("squared")
    f, t = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 4.0]])
    assert loss.error(f, t) == (5 + 16) / 2
    assert loss.value(f, t) == (5 + 16) / 4
    assert loss.margins(f, t) is None
    assert loss.outputs(t) == 2


@pytest.mark.parametrize(
    ("labels", "signs"),
    [
        ([0, 1, 0], [-1, 1, -1]),
        ([-1, 1, 1], [-1, 1, 1]),
        ([True, False, True], [1, -1, 1]),
        (["no", "yes", "no"], [-1, 1, -1]),
        ([2.0, 1.0, 2.0], [1, -1, 1]),
        ([1, 1], [1, 1]),
        ([0, 0], [-1, -1]),
        ([b"a", b"b"], [-1, 1]),
    ],
)
def test_logistic_maps_two_labels_in_sorted_order(labels, signs):
    """The smaller of two labels is -1; a lone 0, 1 or -1 keeps its sign; the classes map a test set alike."""
    loss = get_loss("logistic")
    t, classes = loss.encode(np.array(labels))
    assert t.dtype == np.float64
    assert t.tolist() == signs
    assert len(classes) == 2
    assert loss.encode(np.array(labels[:1]), classes=classes)[0].tolist() == signs[:1]
    assert loss.outputs(t) == 1


@pytest.mark.parametrize(
    ("labels", "codes", "classes"),
    [
        ([3, 1, 3, 7], [1, 0, 1, 2], [1, 3, 7]),
        ([2.0, 0.0], [1, 0], [0, 2]),
        (["b", "a", "c"], [1, 0, 2], ["a", "b", "c"]),
    ],
)
def test_cross_entropy_numbers_classes_in_sorted_order(labels, codes, classes):
    """0..C-1 in sorted order, and the classes come back."""
    loss = get_loss("cross_entropy")
    t, found = loss.encode(np.array(labels))
    assert (t.tolist(), found.tolist()) == (codes, classes)
    assert t.dtype == np.int64
    assert loss.outputs(t) == len(classes)


def test_squared_makes_columns():
    """(n,) becomes (n, 1), float64, and no classes."""
    t, classes = get_loss("squared").encode(np.array([1, 2, 3]))
    assert (t.shape, t.dtype, classes) == ((3, 1), np.float64, None)


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("logistic", [1, 2, 3], "needs two classes, found 3 distinct labels: 1, 2, 3.*cross_entropy"),
        ("logistic", [0.5, 0.2, 0.1], "found 3 distinct labels.*squared"),
        ("logistic", [5, 5], "found 1 distinct label: 5"),
        ("logistic", [0.0, np.nan], r"y\[1\] is nan"),
        ("logistic", [[0, 1]], r"shape \(1, 2\)"),
        ("logistic", [], "not empty"),
        ("logistic", np.array([None, 1]), "dtype object"),
        ("cross_entropy", [0.5, 1.5], "integers or strings.*squared"),
        ("cross_entropy", ["a", "a"], "at least two classes"),
        ("squared", ["a", "b"], "needs numbers, found 2 distinct labels: 'a', 'b'.*logistic"),
        ("squared", [1.0, np.inf], r"y\[1\] is inf"),
        ("squared", np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
    ],
)
def test_unsuitable_labels_are_named(name, labels, words):
    """One line that says what was found and what would do."""
    with pytest.raises(InputError, match=words) as caught:
        get_loss(name).encode(np.array(labels))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("train", "test"), [([0, 1], [1, 2]), (["a", "b"], ["c"]), ([0, 1], ["1"]), (["a", "b"], [1])])
@pytest.mark.parametrize("name", ["logistic", "cross_entropy"])
def test_labels_unseen_in_training_are_refused(name, train, test):
    """A test label outside the training classes names itself."""
    _, classes = get_loss(name).encode(np.array(train))
    with pytest.raises(InputError, match=r"y_test.*training set lacks"):
        get_loss(name).encode(np.array(test), "y_test", classes)


def test_an_unknown_loss_suggests_the_nearest():
    """The message lists the losses and guesses."""
    with pytest.raises(InputError, match="did you mean logistic"):
        get_loss("logistik")


KINDS = [
    *((Logistic(), 1), (Squared(), 1), (Squared(), 3), (CrossEntropy(), 2), (CrossEntropy(), 4)),
    *((SquaredHinge(), 1), (Huber(), 1), (Huber(0.5), 3)),
]
kinds = pytest.mark.parametrize(("loss", "outputs"), [pytest.param(*kind, id=f"{kind[0]}-{kind[1]}") for kind in KINDS])


@kinds
@pytest.mark.parametrize("seed", range(5))
def test_ours_and_two_of_a_users_own_obey_all_laws(loss, outputs, seed):
    """By numbers, at made-up targets and at given ones."""
    check_loss(loss, outputs=outputs, seed=seed)
    y = np.arange(7) % max(2, outputs) if loss.is_classification else np.ones((7, outputs))
    check_loss(loss, targets=loss.encode(y)[0], seed=seed)


EQUAL = (
    "value",
    "residual",
    "conjugate",
    "conjugate_gradient",
    "conjugate_hessian",
    "dual_basis",
    "margins",
    "hessian",
)
EQUAL += ("margin_rows", "probabilities", "error")
WRONG = [
    *((kind, method, factor) for kind in KINDS for method in EQUAL for factor in (0.5, 2.0) if kind[0].offers(method)),
    *((kind, method, 0.9) for kind in KINDS for method in ("curvature",) if kind[0].name != "cross_entropy"),
    *(((CrossEntropy(), 2), "curvature", 0.9), ((Logistic(), 1), "curvature", 1.1), ((Huber(), 1), "curvature", 1.1)),
    *((kind, "conjugate_magnitude", 0.5) for kind in KINDS),
    *(((loss, 1), "largest_scale", factor) for loss in (Logistic(), Huber()) for factor in (0.5, 2.0)),
    *(((CrossEntropy(), 3), "largest_scale", factor) for factor in (0.5, 2.0)),
]


def broken(loss, method, change):
    """A copy of the loss one of whose methods is changed."""
    original = getattr(type(loss), method)

    def changed(self, *arguments):
        value = original(self, *arguments)
        return value if value is None else change(value)

    copied = copy.copy(loss)
    copied.__class__ = type("Broken", (type(loss),), {method: changed, "name": "broken"})
    return copied


@pytest.mark.parametrize(
    ("kind", "method", "factor"), [pytest.param(*one, id=f"{one[0][0]}-{one[0][1]}-{one[1]}-{one[2]}") for one in WRONG]
)
def test_a_wrong_factor_in_any_method_is_caught(kind, method, factor):
    """In one line with the name of the loss."""
    with np.errstate(all="ignore"), pytest.raises(InputError, match="loss 'broken': ") as caught:
        check_loss(broken(kind[0], method, lambda value: factor * value), outputs=kind[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "change", "law"),
    [
        ("value", lambda value: np.float32(value), "value must return a float"),
        ("value", lambda value: value - 1.0, "negative"),
        ("value", lambda value: 0.0 if np.isnan(value) else value, "NaN"),
        ("residual", lambda value: value[:, 0], "residual must return float64 of shape"),
        ("residual", lambda value: value.astype(np.float32), "residual must return float64"),
        ("residual", np.nan_to_num, "residual must not be finite"),
        ("conjugate", lambda value: 0.0 if value == np.inf else value, "inf beyond largest_scale"),
        ("margins", lambda value: -value, "positive where outputs move against the residual"),
        ("error", lambda value: 1.0 - value, "fraction of margins"),
        ("probabilities", lambda value: value[:, ::-1], "the own class's probability"),
        ("encode", lambda value: (value[0][1:], value[1]), "a target for each example"),
    ],
)
def test_each_broken_law_is_named(method, change, law):
    """Of the logistic loss, whose methods are spoiled one by one."""
    with pytest.raises(InputError, match=law):
        check_loss(broken(Logistic(), method, change))


def test_a_hinge_with_a_tail_or_with_the_logistic_losss_conjugate_is_caught():
    """What a subclass of the wrong class inherits."""

    class Tailed(SquaredHinge):
        exponential_tail = True

    class Inherits(Logistic):
        value, residual, curvature = SquaredHinge.value, SquaredHinge.residual, SquaredHinge.curvature

    with np.errstate(all="ignore"):
        with pytest.raises(InputError, match="exponential_tail"):
            check_loss(Tailed())
        with pytest.raises(InputError, match="Fenchel"):
            check_loss(Inherits())


def test_a_method_that_writes_into_its_arguments_is_caught():
    """A run's predictions would be changed under its feet."""

    class Careless(Logistic):
        def margins(self, f, t):
            f *= t[:, None]
            return f[:, 0]

    with pytest.raises(InputError, match="margins must leave its arguments"):
        check_loss(Careless())


@kinds
def test_the_scale_found_by_bisection_is_the_closed_forms(loss, outputs):
    """What a loss that has only a conjugate gets from the base class; 0 off the domain's cone."""
    t = loss.encode(np.arange(9) % max(2, outputs) if loss.is_classification else np.ones((9, outputs)))[0]
    rng = np.random.default_rng(3)
    for _ in range(3):
        a = loss.residual(rng.standard_normal((9, outputs)), t)
        bisected = Loss.largest_scale(loss, a, t)
        np.testing.assert_allclose(bisected, loss.largest_scale(a, t), rtol=1e-10)
    if loss.name in ("logistic", "cross_entropy", "squared_hinge"):
        assert loss.largest_scale(-a, t) == Loss.largest_scale(loss, -a, t) == 0


class Minimal(TwoClassLoss):
    """ℓ = e^{−yf}: nothing but what dynamics need."""

    name = "minimal"

    def value(self, f, t):
        return float(np.mean(np.exp(-t * f[:, 0])))

    def residual(self, f, t):
        return (-t * np.exp(-t * f[:, 0]) / len(t))[:, None]

    def curvature(self, f, t):
        return np.exp(-t * f[:, 0])


def test_what_a_loss_does_not_offer_is_said_in_one_line():
    """By the method itself, and by `require` with the name of the reference."""
    loss, f, t = Minimal(), np.zeros((2, 1)), np.array([1.0, -1.0])
    assert loss.hessian(f, t).tolist() == [[[1.0]], [[1.0]]]
    assert not loss.offers("conjugate")
    for call in (
        lambda: loss.conjugate(f, t),
        lambda: loss.conjugate_gradient(f, t),
        lambda: loss.probabilities(f),
        lambda: loss.hessian(np.zeros((2, 2)), t),
    ):
        with pytest.raises(InputError, match="loss 'minimal' does not define"):
            call()
    with pytest.raises(InputError, match="something needs a loss with conjugate, which loss 'minimal' lacks"):
        loss.require("something", "value", "conjugate")


@kinds
def test_losses_are_copied_and_pickled_with_their_settings(loss, outputs):
    """As a process pool does."""
    for copied in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert type(copied) is type(loss)
        assert vars(copied) == vars(loss)


def test_an_object_is_itself_and_what_is_none_is_refused():
    """A class in the place of an object, an object without a name, a number."""

    class Nameless(Logistic):
        name = None

    hinge = SquaredHinge()
    assert get_loss(hinge) is hinge
    for wrong in (SquaredHinge, Nameless(), 3, None, ["logistic"]):
        with pytest.raises(InputError, match="loss") as caught:
            get_loss(wrong)
        assert "\n" not in str(caught.value)
