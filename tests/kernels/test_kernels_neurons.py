"""The kernels of every neuron: against high precision, against each other, against random networks."""

import csv
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtr

from meanfield import Neuron
from meanfield.kernels import (
    NeuronKernel,
    NTKClassifier,
    NTKRegressor,
    RandomFeatures,
    empirical_ntk,
    neuron_kernel,
    neuron_nngp,
    neuron_ntk,
    relu_nngp,
    relu_ntk,
)
from meanfield.kernels.dual import CLOSED
from meanfield.kernels.neurons import NEURONS, NamedNeuron
from meanfield.neuron import ACTIVATIONS, get_neuron

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 4))
EXACT = {  # φ and φ' in mpmath
    "relu": (lambda z: max(z, 0), lambda z: mp.mpf(z > 0)),
    "leaky_relu": (lambda z: z if z > 0 else mp.mpf(0.01) * z, lambda z: mp.mpf(1) if z > 0 else mp.mpf(0.01)),
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "erf": (mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-z * z)),
    "softplus": (lambda z: mp.log1p(mp.exp(z)), lambda z: 1 / (1 + mp.exp(-z))),
    "gelu": (lambda z: z * mp.ncdf(z), lambda z: mp.ncdf(z) + z * mp.npdf(z)),
    "relu2": (lambda z: max(z, 0) ** 2, lambda z: 2 * max(z, 0)),
    "sine": (mp.sin, mp.cos),
    "quadratic": (lambda z: z * z, lambda z: 2 * z),
}


OTHERS = ({"neuron": "quadratic"}, {"neuron": "sine"})


def hard_tanh(z):
    return min(max(z, -1.0), 1.0)


def hard_tanh_slope(z):
    return 1.0 if abs(z) < 1.0 else 0.0


def integrated(name):
    """A neuron of that name's functions of which nothing is known but its values."""
    return NamedNeuron(f"my {name}", NEURONS[name].evaluate)


def mean(function, breaks=()):
    """E of a function of a standard normal number."""
    return mp.quad(lambda p: function(p) * mp.npdf(p), sorted([-14, -4, -1, 0, 1, 4, 14, *breaks]))


def panels(cuts):
    """Gauss's nodes between the cuts, and weights that are those of the normal law."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = 0.5 * np.diff(cuts)[:, None]
    p = (0.5 * (cuts[1:] + cuts[:-1])[:, None] + half * nodes).ravel()
    return p, (half * weights).ravel() * np.exp(-0.5 * p**2) / np.sqrt(2 * np.pi)


def pairs(a, b):
    """Hard pairs of lengths a and b on a line or at right angles, with E f(u) f(v) as an integral over a line."""
    a, b = mp.mpf(a), mp.mpf(b)
    return {
        "parallel": ([a, 0], [b, 0], lambda f: mean(lambda p: f(a * p) * f(b * p))),
        "antiparallel": ([a, 0], [-b, 0], lambda f: mean(lambda p: f(a * p) * f(-b * p))),
        "orthogonal": ([a, 0], [0, b], lambda f: mean(lambda p: f(a * p)) * mean(lambda p: f(b * p))),
        "zero": ([a, 0], [0, 0], lambda f: mean(lambda p: f(a * p)) * f(mp.mpf(0))),
    }


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_hard_pairs_agree_with_forty_digits(name):
    """Equal, parallel, antiparallel, orthogonal, zero and tiny vectors: 10⁻¹² of √(E φ² E φ²), of φ' likewise."""
    with mp.workdps(40):
        phi, slope = EXACT[name]
        for a, b in ((0.75, 0.75), (2.0**-30, 4.0)):
            squares = {
                f: [mean(lambda p, f=f, s=s: f(s * p) ** 2) for s in (mp.mpf(a), mp.mpf(b))] for f in EXACT[name]
            }
            for what, (x, y, expect) in pairs(a, b).items():
                x, y = (np.array([[float(v) for v in one]]) for one in (x, y))
                if what == "zero":
                    squares = {f: [squares[f][0], f(mp.mpf(0)) ** 2] for f in EXACT[name]}
                for f, kind in ((phi, "last"), (slope, "first")):
                    value = neuron_ntk(x, y, neuron=name, train=kind)[0, 0]
                    product = 1 if f is phi else float(x[0] @ y[0])
                    allowed = 1e-12 * abs(product) * mp.sqrt(squares[f][0] * squares[f][1])
                    if product:
                        assert abs(value - product * expect(f)) <= allowed, (what, a, b, kind)


def test_the_golden_set_of_dual_activations_comes_out():
    """Every neuron, lengths and correlation of data/dual_reference.csv: 10⁻¹² of √(E φ² E φ²), of φ' likewise."""
    rows = list(csv.DictReader((Path(__file__).parents[2] / "data" / "dual_reference.csv").open()))
    assert {row["neuron"] for row in rows} == set(ACTIVATIONS)
    groups = {}
    for row in rows:
        groups.setdefault((row["neuron"], row["a"], row["b"]), []).append(row)
    for (neuron, *lengths), group in groups.items():
        a, b = map(float.fromhex, lengths)
        c = np.array([float.fromhex(row["c"]) for row in group])
        x, Y = np.array([[a, 0.0]]), b * np.stack([c, np.sqrt((1 - c) * (1 + c))], axis=1)
        for train, column in (("last", "value"), ("first", "slope")):
            K = NeuronKernel(neuron, train=train)
            exact = np.array([float(row[column]) for row in group]) * (1 if train == "last" else a * Y[:, 0])
            scale = np.sqrt(K.diagonal(x) * K.diagonal(Y))
            assert (np.abs(K.gram(x, Y)[0] - exact) <= 1e-12 * scale).all(), (neuron, a, b, train)


@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_a_general_pair_agrees_with_the_trapezoidal_rule(name):
    """What has no formula, in the plane: for functions analytic in a strip that rule errs by e^{−50} at this step."""
    p, h = np.arange(-100, 101) * 0.1, 0.1
    weights = h * np.exp(-0.5 * p**2) / np.sqrt(2 * np.pi)
    x, angles = np.array([[2.0, 0.0]]), np.array([0.0, 1e-7, 0.2, 1.0, 2.0, 3.1])
    y = 1.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for k, train in enumerate(("last", "first")):
        u, v = 2 * p[:, None], y @ np.stack(np.meshgrid(p, p, indexing="ij")).reshape(2, -1)
        f, g = NEURONS[name].evaluate(u)[k], NEURONS[name].evaluate(v)[k].reshape(-1, p.size, p.size)
        exact = np.einsum("i,j,ij,aij->a", weights, weights, f + 0 * p, g)
        found = neuron_ntk(x, y, neuron=name, train=train)[0] / (1 if k == 0 else (x @ y.T)[0])
        np.testing.assert_allclose(found, exact, atol=2e-15)


@pytest.mark.parametrize("angle", [1.2, 0.3, 0.04, 1e-3, 1e-7, np.pi - 0.3, np.pi - 1e-4])
def test_kinks_away_from_zero_are_found_and_integrated(angle):
    """min(max(z, −1), 1) and, at cuts that are no round numbers, the same times 1.1: with formulas for the inner mean.

    It is relu(z + 1) − relu(z − 1) − 1, and E relu(m + sξ) = m Φ(m/s) + s φ(m/s).
    """
    a, b, c, s = 2.0, 1.5, np.cos(angle), np.sin(angle)
    x, y = np.array([[a, 0.0]]), np.array([[b * c, b * s]])
    for scale in (1.0, 1.1):
        neuron = NamedNeuron("hard tanh", lambda z, t=scale: (np.clip(z, -t, t) + 0.0, 1.0 * (np.abs(z) < t)))
        layers = [np.array([sign * scale / a]) for sign in (-1, 1)]
        layers += [sign * scale / (b * c) + np.linspace(-9, 9, 37) * s for sign in (-1, 1)]
        p, weights = panels(np.unique(np.concatenate([np.linspace(-10, 10, 81), *layers])))
        part = lambda m: m * ndtr(m / (b * s)) + b * s * np.exp(-0.5 * (m / (b * s)) ** 2) / np.sqrt(2 * np.pi)  # noqa: E731
        mean_of = part(b * c * p + scale) - part(b * c * p - scale) - scale
        share = ndtr((b * c * p + scale) / (b * s)) - ndtr((b * c * p - scale) / (b * s))
        value, slope = (
            np.sum(weights * np.clip(a * p, -scale, scale) * mean_of),
            np.sum(weights * (np.abs(a * p) < scale) * share),
        )
        assert neuron_ntk(x, y, neuron=neuron, train="last")[0, 0] == pytest.approx(value, abs=1e-14)
        assert neuron_ntk(x, y, neuron=neuron, train="first")[0, 0] / (a * b * c) == pytest.approx(slope, abs=1e-14)


@pytest.mark.parametrize("name", CLOSED)
def test_integrals_agree_with_the_formulas(name):
    """Series and double integral, over lengths from 0 to 6 and angles from 0 to π, near both ends too: 10⁻¹²."""
    angles = np.array([0, 1e-9, 1e-4, 0.02, 0.1, 0.3, 1.0, 1.6, 2.5, 3.0, np.pi - 1e-5, np.pi])
    lengths = np.array([0.0, 1e-5, 0.3, 2.0, 6.0])
    points = np.concatenate([r * np.stack([np.cos(angles), np.sin(angles)], axis=1) for r in lengths])
    for train in ("last", "first"):
        exact = neuron_ntk(points[::12], points, neuron=name, train=train)
        found = neuron_ntk(points[::12], points, neuron=integrated(name), train=train)
        scale = np.sqrt(np.outer(*(NeuronKernel(name, train=train).diagonal(one) for one in (points[::12], points))))
        assert np.abs(found - exact).max() > 0 or name == "quadratic"
        assert (np.abs(found - exact) <= 1e-12 * scale).all()


def test_relu_is_the_kernel_of_relu():
    """Both kinds, w_std and u_std in their places."""
    scales = {"w_std": 0.7, "u_std": 1.9}
    np.testing.assert_allclose(neuron_ntk(X, **scales), relu_ntk(X, **scales), rtol=1e-13)
    np.testing.assert_allclose(neuron_nngp(X, **scales), relu_nngp(X, **scales), rtol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "gelu", "sine", "relu2"])
def test_finite_networks_converge_to_the_kernel_like_one_over_root_width(name):
    """The root mean square deviation over seeds falls with slope −½ in the width, ± 0.12."""
    scales = {"neuron": name, "w_std": 1.4, "u_std": 0.8}
    limit, widths = neuron_ntk(X, **scales), np.array([32, 128, 512])
    errors = [
        np.sqrt(np.mean([(empirical_ntk(X, width=m, seed=seed, **scales) - limit) ** 2 for seed in range(60)]))
        for m in widths
    ]
    assert abs(np.polyfit(np.log(widths), np.log(errors), 1)[0] + 0.5) < 0.12
    assert errors[-1] < 0.2 * np.abs(limit).max()


def test_nngp_is_the_covariance_of_random_networks_of_ones_own_neuron():
    """E f(x) f(z) over 200,000 networks of width one, within five standard errors."""
    f = np.clip(0.6 * np.random.default_rng(4).normal(size=(200_000, 4)) @ X.T, -1, 1) * 1.5
    products = f[:, :, None] * f[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(f))
    exact = neuron_nngp(X, w_std=1.5, u_std=0.6, neuron=Neuron(hard_tanh, hard_tanh_slope))
    assert (np.abs(products.mean(axis=0) - exact) < 5 * error).all()


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_the_matrix_is_symmetric_semidefinite_and_streamed(name):
    """Equal points, antipodes and zeros among them; the same bits for any threads."""
    points = np.concatenate([X, X[:3], -X[:3], np.zeros((2, 4)), 20 * X[:2], RNG.standard_normal((300, 4))])
    kernel = NeuronKernel(name, 1.3, 0.8)
    K = kernel.gram(points, threads=1)
    assert np.array_equal(K, K.T)
    assert np.array_equal(K, kernel.gram(points, threads=2))
    values = np.linalg.eigvalsh(K)
    assert values[0] >= -1e-13 * values[-1]
    np.testing.assert_allclose(kernel.diagonal(points), np.diag(K), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(kernel.dot(X, points, points), K[:7] @ points, rtol=1e-10, atol=1e-10)


def test_a_homogeneous_neuron_of_ones_own_has_the_formula():
    """Slopes 1 and −0.3 left of 0: what the formula gives is what the integral gives."""
    own = Neuron(lambda z: z if z > 0 else 0.3 * z, lambda z: 1.0 if z > 0 else 0.3)
    kernel = NeuronKernel(own)
    assert kernel._closed() is not None
    np.testing.assert_allclose(kernel.gram(X), neuron_ntk(X, neuron=NamedNeuron("mine", own.evaluate)), rtol=1e-11)


def test_names_mean_what_the_engine_means_by_them():
    """The same list of names, the same functions; a built-in object is its name."""
    assert list(NEURONS) == list(ACTIVATIONS)
    z = np.linspace(-6, 6, 601)[1::2]
    for name, neuron in NEURONS.items():
        for ours, engine in zip(neuron.evaluate(z), get_neuron(name).evaluate(z), strict=True):
            np.testing.assert_allclose(ours, engine, rtol=1e-13, atol=1e-15)
        assert np.array_equal(neuron_ntk(X, neuron=get_neuron(name)), neuron_ntk(X, neuron=name))


def test_estimators_and_random_features_take_a_neuron():
    """What only that neuron's kernel contains is learned: x₁x₂ by the quadratic one from a few points; sums by sine."""
    points, more = (np.random.default_rng(s).standard_normal((40, 3)) for s in (1, 2))
    y, z = points[:, 0] * points[:, 1], more[:, 0] * more[:, 1]
    assert np.abs(NTKRegressor(neuron="quadratic", reg=1e-9).fit(points, y).predict(more) - z).max() < 1e-5
    assert np.abs(NTKRegressor(reg=1e-9).fit(points, y).predict(more) - z).max() > 1e-2
    right = [(NTKClassifier(**one).fit(points, np.sign(y)).predict(more) == np.sign(z)).mean() for one in OTHERS]
    assert right[0] > right[1]
    features = RandomFeatures(20_000, neuron="sine").features(X)
    assert np.abs(features @ features.T - neuron_ntk(X, neuron="sine", train="last")).max() < 0.03


def test_what_cannot_be_done_is_said_in_one_line(monkeypatch):
    """Names, depth, functions that bend without end, points beyond the range of numbers, an integral not reached."""
    with pytest.raises(ValueError, match="neuron = 'tan'"):
        neuron_ntk(X, neuron="tan")
    with pytest.raises(ValueError, match="depth = 3"):
        NTKRegressor(neuron="tanh", depth=3).fit(X, X[:, 0])
    rough = NamedNeuron("rough", lambda z: (np.sin(1e5 * z), np.cos(1e5 * z)))
    with pytest.raises(ValueError, match="'rough': bends too often"):
        neuron_ntk(X, neuron=rough)
    with pytest.raises(ValueError, match="'steep': is not finite"), np.errstate(over="ignore"):
        neuron_ntk(100 * X, neuron=NamedNeuron("steep", lambda z: (np.exp(z), np.exp(z))))
    with pytest.raises(ValueError, match="overflows"):
        neuron_ntk(1e100 * X, neuron="quadratic")
    monkeypatch.setattr(neuron_kernel, "ACCURACY", 1e-18)
    with pytest.raises(ValueError, match=r"integrated to \d.*e-1\d, not to 1e-18"):
        neuron_ntk(X, neuron=integrated("relu"))
