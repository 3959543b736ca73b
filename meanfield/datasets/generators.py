"""The paper's data and others made from a seed: (section, n, stream) -> X (n, d) float64, y (n,).

Of a longer set the first n examples are the set of n (except for "line", which is evenly spaced); training and test are
independent streams of the section's seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine import exact_algebra, noise
from ..errors import InputError
from ..neuron import get_neuron
from .opened import LARGEST_BYTES

# Streams of random numbers, next to the seed; none is 0, for SeedSequence takes trailing zeros for nothing.
TRAIN, TEST, TEACHER, SPLIT = 1, 2, 3, 4
_NOISE = 8  # beside TRAIN or TEST


def words(section: Any, count: int, stream: int, part: int = 1) -> np.ndarray:
    """Random uint64 (count,). Of NumPy's random numbers only these words of PCG64 are promised to stay as they are."""
    return np.random.PCG64([section.seed, stream, part]).random_raw(count)


def _choices(section: Any, bits: int, shape: tuple[int, ...], stream: int, part: int = 1) -> np.ndarray:
    """Uniform int64 below 2^bits: the first bits of random words' halves, low halves first."""
    count = math.prod(shape)
    drawn = words(section, -(-count // 2), stream, part)
    halves = np.stack([drawn & np.uint64(0xFFFFFFFF), drawn >> np.uint64(32)], axis=1).reshape(-1)[:count]
    return (halves >> np.uint64(32 - bits)).astype(np.int64).reshape(shape)


def _normals(seed: int, stream: int, first: int, count: int, components: int) -> np.ndarray:
    """Standard normals (count, components), those of the examples from `first` on."""
    return noise.normals(seed, noise.Purpose.DATA, stream, count, components, first=first, dtype="float64")


def _xor(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """The distribution D of Wei et al. (arXiv 1810.05369): |x₁| - |x₂| = y, the other coordinates are fair ±1 noise."""
    X = np.zeros((n, section.d))
    corner = _choices(section, 2, (n,), split, 1)
    X[np.arange(n), corner // 2] = 1.0 - 2.0 * (corner % 2)
    X[:, 2:] = 2.0 * _choices(section, 1, (n, section.d - 2), split, 2) - 1.0
    return X, 1 - 2 * (corner // 2)


def teacher_units(seed: int, d: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """u (hidden, d) and w (hidden,) of the teacher: u_j, |w_j| standard normal, the signs of w_j alternate."""
    units = _normals(seed, TEACHER, 0, hidden, d + 1)
    return units[:, :d], np.abs(units[:, d]) * (1 - 2 * (np.arange(hidden) % 2))


def _teacher(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """A random network g(x) = Σ_j w_j relu(u_j·x), j < `hidden`, on x ~ N(0, I_d); our own choice of constants.

    u_j and |w_j| are standard normal and the signs of w_j alternate, so that both classes occur. Regression: y = g(x),
    without noise. Classification: y = sign g(x), keeping only inputs with |g(x)| >= `margin` and g(x) != 0.
    """
    classes = section.task == "classification"
    if classes and section.hidden < 2:
        raise InputError("data.hidden = 1: a teacher of two classes needs at least 2 units")
    u, w = teacher_units(section.seed, section.d, section.hidden)
    kept, drawn, chunk = [np.empty((0, section.d))], 0, 1024
    outputs = [np.empty(0)]
    while sum(map(len, kept)) < n:
        X = _normals(section.seed, split, drawn, chunk, section.d)
        g = exact_algebra.product(np.maximum(exact_algebra.product(X, u.T), 0.0), w[:, None])[:, 0]
        keep = (np.abs(g) >= section.margin) & (g != 0.0) if classes else np.full(chunk, True)
        kept.append(X[keep])
        outputs.append(g[keep])
        drawn += chunk
        if drawn >= 1000 * n + 100_000:
            raise InputError(
                f"data.margin = {section.margin}: fewer than one input in a thousand reaches it: must be smaller"
            )
    y = np.concatenate(outputs)[:n]
    return np.concatenate(kept)[:n], np.sign(y).astype(np.int64) if classes else y


def _parity(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """x uniform on {-1, 1}^d, y = x₁ … x_k."""
    X = 2.0 * _choices(section, 1, (n, section.d), split) - 1.0
    return X, X[:, : section.k].prod(axis=1).astype(np.int64)


def _parity_normal(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k of x are fair signs and y is their product, the others independent standard normals."""
    signs = 2.0 * _choices(section, 1, (n, section.k), split) - 1.0
    X = np.hstack([signs, _normals(section.seed, split, 0, n, section.d)[:, section.k :]])
    return X, signs.prod(axis=1).astype(np.int64)


def _line(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (x, 1) with x in [-1, 1] cut into six equal intervals of alternating class, +1 first.

    Training: the middles of n equal cells. Test: uniform at random.
    """
    if split == TRAIN:
        x: np.ndarray = (2.0 * np.arange(n) + 1.0) / n - 1.0
    else:
        x = 2.0 * ((words(section, n, split) >> np.uint64(11)) * 2.0**-53) - 1.0
    interval = np.minimum(np.floor(3.0 * (x + 1.0)), 5.0).astype(np.int64)
    return np.column_stack([x, np.ones(n)]), 1 - 2 * (interval % 2)


def _uniform(section: Any, n: int, split: int, part: int) -> np.ndarray:
    """(n,) in [0, 1)."""
    return (words(section, n, split, part) >> np.uint64(11)) * 2.0**-53


def _signs(section: Any, n: int, split: int) -> np.ndarray:
    return 1 - 2 * _choices(section, 1, (n,), split)


def _index(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """x ~ N(0, I_d), y = φ(x₁) … φ(x_k) + `noise` ξ, or its sign; φ is `link`, and k = 1 for "single_index".

    That the hidden directions are the first coordinates takes nothing away, as the law of x knows no directions.
    """
    X = _normals(section.seed, split, 0, n, section.d)
    hidden = X[:, : 1 if section.source == "single_index" else section.k]
    factors = get_neuron(section.link).evaluate(hidden)[0]
    y = factors[:, 0] + 0.0
    for j in range(1, hidden.shape[1]):
        y = y * factors[:, j]
    y = y + section.noise * _normals(section.seed, split + _NOISE, 0, n, 1)[:, 0]
    return X, np.where(y > 0, 1, -1) if section.task == "classification" else y


def _two_gaussians(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """x ~ N(y s/2 e₁, I_d), y a fair ±1, s the `separation` of the means: no classifier errs less than Φ(−s/2)."""
    X, y = _normals(section.seed, split, 0, n, section.d), _signs(section, n, split)
    X[:, 0] += 0.5 * section.separation * y
    return X, y


def _turned(angle: np.ndarray) -> np.ndarray:
    """(cos, sin) of angles (n,), (n, 2), the same bits everywhere."""
    return np.column_stack([get_neuron(f"{name}(z)").evaluate(angle)[0] for name in ("cos", "sin")])


def _in_the_plane(section: Any, n: int, split: int, points: np.ndarray) -> np.ndarray:
    """The points (n, 2) with `noise` ξ added; the other coordinates are standard normal, and say nothing."""
    X = _normals(section.seed, split, 0, n, section.d)
    X[:, :2] = points + section.noise * X[:, :2]
    return X


def _two_moons(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """y = 1 on the half circle (cos t, sin t), −1 on (1 − cos t, ½ − sin t), t uniform in [0, π)."""
    y, moon = _signs(section, n, split), _turned(math.pi * _uniform(section, n, split, 2))
    other = np.column_stack([1.0 - moon[:, 0], 0.5 - moon[:, 1]])
    return _in_the_plane(section, n, split, np.where(y[:, None] > 0, moon, other)), y


def _spirals(section: Any, n: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """y r (cos 3πr, sin 3πr), r uniform in [0, 1): two arms of one and a half turns."""
    y, r = _signs(section, n, split), _uniform(section, n, split, 2)
    return _in_the_plane(section, n, split, (y * r)[:, None] * _turned(3 * math.pi * r)), y


GENERATORS: dict[str, Callable[[Any, int, int], tuple[np.ndarray, np.ndarray]]] = {
    "xor": _xor,
    "teacher": _teacher,
    "parity": _parity,
    "parity_normal": _parity_normal,
    "line": _line,
    "single_index": _index,
    "multi_index": _index,
    "two_gaussians": _two_gaussians,
    "two_moons": _two_moons,
    "spirals": _spirals,
}
_PLANAR = ("xor", "line", "two_moons", "spirals")  # need two coordinates


def generated(section: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """X, y, X_test, y_test as a configuration's data section asks for. InputError: sizes that cannot be."""
    needed = {"n": 1, "d": 2 if section.source in _PLANAR else 1, "n_test": 0}
    for key, least in needed.items():
        if getattr(section, key) < least:
            raise InputError(f"data.{key} = {getattr(section, key)}: must be at least {least}")
    size = 8 * section.d * (section.n + section.n_test)
    if size > LARGEST_BYTES:
        raise InputError(
            f"data.n = {section.n}, data.n_test = {section.n_test}, data.d = {section.d}: "
            f"{size / 2**30:.0f} GiB of inputs: must be at most 64 GiB"
        )
    make = GENERATORS[section.source]
    test = make(section, section.n_test, TEST) if section.n_test else (None, None)
    return (*make(section, section.n, TRAIN), *test)
