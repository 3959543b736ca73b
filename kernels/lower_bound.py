"""Why the kernel needs n ~ d² on the paper's data: signal and noise of a kernel predictor, and a cap on its margin.

Wei, Lee, Liu & Ma (arXiv 1810.05369), Section 2: on D (see `paper_data`) the label depends on (x₁, x₂) alone, and a
kernel predictor drowns what it knows of them in its variation over the other d − 2 coordinates unless n ≳ d². Every
point of D has norm √(d−1), and every product x_i·x is one of three values from (x₁, x₂) plus a sum of d − 2 random
signs. So averages over the noise coordinates are sums over binomial laws, and here they are taken exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .gram import ReluKernel

INFORMATIVE = np.array([(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
LABELS = np.array([1.0, 1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Split:
    """Where the variance of f over D lies.

    Attributes
    ----------
    means : ndarray (4,)
        E f given each (x₁, x₂) of INFORMATIVE.
    noise : float
        The mean variance over the noise coordinates.
    signal_se, noise_se : float
        Standard errors, zero where the averages are exact.
    informative : float
        Variance of `means`.
    signal : float
        E y f, the part of `means` along y.
    ratio : float
        signal / √noise. For the least-norm interpolant of n points it is of order n/d² until n ~ d².
    """

    means: np.ndarray
    noise: float
    signal_se: float = 0.0
    noise_se: float = 0.0

    @property
    def informative(self) -> float:
        return float(self.means.var())

    @property
    def signal(self) -> float:
        return float(self.means @ LABELS) / 4

    @property
    def ratio(self) -> float:
        return self.signal / self.noise**0.5 if self.noise > 0 else np.inf * np.sign(self.signal)


def paper_data(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of the paper's distribution D: (x₁, x₂) = (±1, 0) with y = +1 or (0, ±1) with y = −1; other x_k = ±1.

    Parameters
    ----------
    n, d : int
        Numbers of points, at least 1, and of coordinates, at least 2.
    seed : int
        Of the draw.

    Returns
    -------
    X : ndarray (n, d), float64
        Points of norm √(d − 1).
    y : ndarray (n,), float64
        ±1.

    Raises
    ------
    ValueError
        n or d too small.

    Notes
    -----
    Wei, Lee, Liu & Ma (arXiv 1810.05369), Section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import paper_data
    >>> X, y = paper_data(5, 8)
    >>> bool(np.array_equal(y, X[:, 0] ** 2 - X[:, 1] ** 2)), (X**2).sum(axis=1)
    (True, array([7., 7., 7., 7., 7.]))
    """
    if n < 1 or d < 2:
        raise ValueError(f"n = {n}, d = {d}: expected n of at least 1 and d of at least 2")
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=n)
    X = np.empty((n, d))
    X[:, :2] = INFORMATIVE[kind]
    X[:, 2:] = rng.integers(2, size=(n, d - 2)) * 2.0 - 1
    return X, np.where(kind < 2, 1.0, -1.0)


def split_exact(kernel: ReluKernel, X: np.ndarray, coef: np.ndarray) -> Split:
    """Signal and noise over D of f = Σ coef_i K(x_i, ·), x_i from D: exact up to rounding, O(n² d + d³).

    Parameters
    ----------
    kernel : ReluKernel
        K.
    X : ndarray (n, d)
        Points as of `paper_data`.
    coef : ndarray (n,)
        Coefficients of a fitted predictor.

    Returns
    -------
    Split
        `means`, `noise`, `signal`, `informative` and `ratio`.

    Raises
    ------
    ValueError
        X that is not from D, a coef of another shape.

    Notes
    -----
    Wei, Lee, Liu & Ma (arXiv 1810.05369), Section 2. Every product x_i·x is one of three values from (x₁, x₂) plus a
    sum of d − 2 random signs, so that averages over the noise coordinates are sums over binomial laws.

    Examples
    --------
    >>> from meanfield.kernels import Interpolation, ReluKernel, paper_data, split_exact
    >>> kernel, (X, y) = ReluKernel(), paper_data(6, 5)
    >>> split = split_exact(kernel, X, Interpolation().fit(kernel.gram(X), y).coef)
    >>> round(split.signal, 4), round(split.noise, 4), round(split.ratio, 4)
    (0.1179, 0.2512, 0.2353)
    """
    d = X.shape[1]
    _check(X, coef)
    kappa = _profile(kernel, d)
    informative = (X[:, :2] @ INFORMATIVE.T).astype(int)
    pair = _pair_means(kappa, d - 2)
    first = _single_means(kappa, d - 2)
    means = np.array([coef @ first[informative[:, v] + 1] for v in range(4)])
    distance = ((d - 2 - X[:, 2:] @ X[:, 2:].T) / 2).round().astype(int)
    second = np.zeros(4)
    for v in range(4):
        a = informative[:, v] + 1
        for s in range(3):
            for t in range(3):
                block = pair[s, t][distance[np.ix_(a == s, a == t)]] - first[s] * first[t]
                second[v] += coef[a == s] @ block @ coef[a == t]
    return Split(means, float(second.mean()))


def split_sampled(kernel: ReluKernel, X: np.ndarray, coef: np.ndarray, *, samples: int = 4096, seed: int = 0) -> Split:
    """The same as `split_exact`, sampled; unbiased, with standard errors.

    Parameters
    ----------
    kernel : ReluKernel
        K.
    X : ndarray (n, d)
        Points as of `paper_data`.
    coef : ndarray (n,)
        Coefficients of a fitted predictor.
    samples : int
        Noise vectors at each of the four (x₁, x₂), at least 2.
    seed : int
        Of these.

    Returns
    -------
    Split
        With `signal_se` and `noise_se`.

    Raises
    ------
    ValueError
        X that is not from D, a coef of another shape, samples below 2.

    Examples
    --------
    >>> from meanfield.kernels import ReluKernel, paper_data, split_exact, split_sampled
    >>> kernel, (X, y) = ReluKernel(), paper_data(6, 5)
    >>> exact, sampled = split_exact(kernel, X, y), split_sampled(kernel, X, y, samples=256)
    >>> abs(sampled.signal - exact.signal) < 4 * sampled.signal_se
    True
    """
    _check(X, coef)
    return split_predictor(lambda points: kernel.dot(points, X, coef), X.shape[1], samples=samples, seed=seed)


def split_predictor(
    predict: Callable[[np.ndarray], np.ndarray], d: int, *, samples: int = 4096, seed: int = 0
) -> Split:
    """Signal and noise over D of any predictor, a network's, say; sampled as in `split_sampled`.

    Parameters
    ----------
    predict : callable, (k, d) → (k,)
        f.
    d : int
        Number of coordinates.
    samples : int
        Noise vectors at each of the four (x₁, x₂), at least 2.
    seed : int
        Of these.

    Returns
    -------
    Split
        With `signal_se` and `noise_se`.

    Raises
    ------
    ValueError
        samples below 2, predictions of another shape.

    Examples
    --------
    >>> from meanfield.kernels import split_predictor
    >>> split = split_predictor(lambda X: X[:, 0] ** 2 + X[:, 2] + X[:, 3], 5, samples=256)
    >>> abs(split.signal - 0.5) < 4 * split.signal_se, abs(split.noise - 2.0) < 4 * split.noise_se
    (True, True)
    """
    if samples < 2:
        raise ValueError(f"samples = {samples}: expected at least 2")
    rng = np.random.default_rng(seed)
    values = []
    for pair in INFORMATIVE:
        points = rng.integers(2, size=(samples, d)) * 2.0 - 1
        points[:, :2] = pair
        values.append(predict(points))
    f = np.array(values)
    if f.shape != (4, samples):
        raise ValueError(f"predict returned shape {f.shape[1:]} for {samples} points: expected ({samples},)")
    means, variances = f.mean(axis=1), f.var(axis=1, ddof=1)
    fourth = ((f - means[:, None]) ** 4).mean(axis=1)
    noise_se = float(np.sqrt(((fourth - variances**2) / samples).sum()) / 4)
    signal_se = float(np.sqrt(variances.sum() / samples)) / 4
    return Split(means, float(variances.mean()), signal_se, noise_se)


def margin_cap(K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """‖Σ a_i y_i φ(x_i)‖, a the weights over their sum: no f of norm 1 has a larger margin on (K, y).

    The least over all weights is `SVM.margin_bound`, and is reached.

    Parameters
    ----------
    K : ndarray (n, n)
        Gram matrix.
    y : ndarray (n,)
        ±1.
    weights : array (n,), optional
        ≥ 0; by default all points count alike.

    Returns
    -------
    float
        In the units of f, like the margin of an f with ‖f‖ = 1.

    Raises
    ------
    ValueError
        Weights that are negative, all 0, not finite or of another number.

    Notes
    -----
    For any such f, min_i y_i f(x_i) ≤ Σ a_i y_i f(x_i) = ⟨f, Σ a_i y_i φ(x_i)⟩.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import margin_cap
    >>> margin_cap(np.eye(4), np.array([1.0, 1.0, -1.0, -1.0]))
    0.5
    >>> margin_cap(np.eye(4), np.array([1.0, 1.0, -1.0, -1.0]), weights=[1.0, 0.0, 0.0, 0.0])
    1.0
    """
    a = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if a.shape != y.shape or not (a >= 0).all() or not 0 < a.sum() < np.inf:
        raise ValueError(f"weights: expected {len(y)} numbers of at least 0, not all 0")
    signed = a * y / a.sum()
    return float(np.sqrt(max(signed @ K @ signed, 0.0)))


def margin_cap_limit(kernel: ReluKernel, d: int) -> float:
    """`margin_cap` of infinitely many points of D in d dimensions, √E y y' K(x, x') for independent pairs: exact.

    The cap of any n points exceeds it by what the n pairs x = x' add. Relative to √K(x, x) it falls like 1/d.

    Parameters
    ----------
    kernel : ReluKernel
        K.
    d : int
        Number of coordinates.

    Returns
    -------
    float
        In the units of `margin_cap`.

    Examples
    --------
    >>> from meanfield.kernels import ReluKernel, margin_cap_limit
    >>> kernel = ReluKernel()
    >>> [round(d * margin_cap_limit(kernel, d) / (d - 1) ** 0.5, 4) for d in (10, 100, 1000)]
    [0.4167, 0.3505, 0.346]
    """
    below, equal, above = _single_means(_profile(kernel, d), d - 2)
    return float(np.sqrt(max(below + above - 2 * equal, 0.0))) / 2


def _check(X: np.ndarray, coef: np.ndarray) -> None:
    known = (X[:, None, :2] == INFORMATIVE).all(axis=2).any(axis=1).all() and (np.abs(X[:, 2:]) == 1).all()
    if not known:
        raise ValueError("X is not from the paper's distribution: expected one of (±1, 0), (0, ±1), then ±1")
    if coef.shape != (len(X),):
        raise ValueError(f"coef has shape {coef.shape}: expected ({len(X)},)")


def _profile(kernel: ReluKernel, d: int) -> np.ndarray:
    """K as a function of the product x·x' between points of norm √(d−1), for −(d−1) … d−1: (2d − 1,)."""
    radius2 = d - 1
    cosine = np.arange(-radius2, radius2 + 1) / radius2
    circle = np.sqrt(radius2) * np.stack([cosine, np.sqrt(np.maximum(1 - cosine**2, 0))], axis=1)
    return np.asarray(kernel.gram(circle, np.array([[np.sqrt(radius2), 0.0]]))[:, 0])


def _single_means(kappa: np.ndarray, k: int) -> np.ndarray:
    """E K(a + S) for a = −1, 0, 1 and S the sum of k independent signs: (3,)."""
    signs, weights = _binomial(k)
    return np.array([weights @ kappa[a + signs + k + 1] for a in (-1, 0, 1)])


def _pair_means(kappa: np.ndarray, k: int) -> np.ndarray:
    """E K(a + S) K(b + S') for two points that differ in h of k noise coordinates: (3, 3, k + 1) for a, b, h.

    S = A + B and S' = A − B with A a sum of k − h and B of h independent signs.
    """
    out = np.empty((3, 3, k + 1))
    for h in range(k + 1):
        (same, p), (other, q) = _binomial(k - h), _binomial(h)
        plus, minus = same[:, None] + other + k + 1, same[:, None] - other + k + 1
        for a in range(3):
            for b in range(3):
                out[a, b, h] = p @ (kappa[plus + a - 1] * kappa[minus + b - 1]) @ q
    return out


def _binomial(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of a sum of k independent signs."""
    from scipy.stats import binom

    heads = np.arange(k + 1)
    return 2 * heads - k, binom.pmf(heads, k, 0.5)
