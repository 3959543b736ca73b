#!/usr/bin/env python3
"""The problems on which runs are judged, each with the lowest objective that any network was seen to attain.

    python scripts/minimum_suite.py            # prints them

`suite()` maps names to problems; `known()` says what `minimum_suite.json`, beside this file, knows of their minima:

    lowest        an objective L = R + λ ∫ ‖θ‖² dρ that some network attained; lower ones may exist
    found         by which method (`claim_minimum.py --references`)
    lower_bound   on L over all networks, null where none is known
    proven        whether that bound is proven; else it is an estimate, and can lie above the minimum

Data are made with NumPy's and scikit-learn's generators, or come with scikit-learn. No set is cleaned up for the sake
of a method: some inputs and targets are unscaled, far from the origin, or repeated.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn import datasets

from meanfield import Problem
from meanfield.datasets.load import load_dataset
from meanfield.simulation.config import Data

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Case:
    """L = R + reg ∫ ‖θ‖² dρ on inputs X (n, d) and targets y (n,) or (n, C)."""

    name: str
    X: np.ndarray
    y: np.ndarray
    loss: str
    reg: float

    @functools.cached_property
    def problem(self) -> Problem:
        return Problem(self.X, self.y, loss=self.loss, reg=self.reg)


@dataclass(frozen=True)
class Known:
    """What is known of a minimum; the file's own words, see above."""

    lowest: float
    found: str
    lower_bound: float | None = None
    proven: bool = False


def standardized(X: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 (constant ones 0)."""
    deviation = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviation == 0, 1, deviation)


def with_constant(X: np.ndarray) -> np.ndarray:
    """X (n, d), or (n,) for one input, with a column of ones."""
    return np.column_stack([X, np.ones(len(X))])


def paper_data(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The paper's distribution D: two informative coordinates, d − 2 of noise."""
    rng = np.random.default_rng(seed)
    X, k = rng.choice([-1.0, 1.0], size=(n, d)), rng.integers(4, size=n)
    X[:, :2] = 0
    X[np.arange(n), k // 2] = 1 - 2 * (k % 2)
    return X, np.where(k < 2, 1.0, -1.0)


def teacher(n: int, d: int, units: int, seed: int, outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian inputs and a random network of a few units."""
    rng = np.random.default_rng(seed)
    X, U, W = rng.standard_normal((n, d)), rng.standard_normal((units, d)), rng.standard_normal((units, outputs))
    f = np.maximum(X @ U.T, 0) @ W / np.sqrt(d)
    return X, f[:, 0] if outputs == 1 else f


def signs(values: np.ndarray) -> np.ndarray:
    """+1 where a value is positive, else −1."""
    return np.where(values > 0, 1.0, -1.0)


def _functions() -> Iterator[Case]:
    """Functions of one variable."""
    x = np.linspace(-1, 1, 40)
    yield Case("10 + |x|", with_constant(x), 10 + np.abs(x), "squared", 1e-3)
    x = np.linspace(-1, 1, 30)
    for name, y, reg in (
        ("sin 3x", np.sin(3 * x), 1e-3),
        ("bump", np.exp(-20 * x**2), 1e-3),
        ("1000 + sin 3x", 1000 + np.sin(3 * x), 1e-3),
        ("1e-3 sin 3x", 1e-3 * np.sin(3 * x), 1e-5),
    ):
        yield Case(name, with_constant(x), y, "squared", reg)
    x = np.linspace(-1, 1, 20)
    yield Case("sin 4x", with_constant(x), np.sin(4 * x), "squared", 1e-4)
    x = np.linspace(-1, 1, 60)
    yield Case("sin 8x", with_constant(x), np.sin(8 * x), "squared", 1e-4)
    yield Case("step", with_constant(x), np.sign(x + 0.3), "squared", 1e-3)
    yield Case("stripes", with_constant(x), signs(np.sin(8 * x)), "logistic", 1e-3)
    x = np.sort(np.random.default_rng(0).uniform(-1, 1, 30))
    yield Case("three units", with_constant(x), np.abs(x - 0.3) - 2 * np.abs(x + 0.5) + x, "squared", 1e-3)
    line = load_dataset(Data(source="line", n=30, n_test=0))
    yield Case("line", line.X, line.y, "logistic", 1e-3)


def _drawn_in_turn() -> Iterator[Case]:
    """Problems whose numbers come one after the other from one generator: their order is part of them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3))
    yield Case("noise labels, d 3", X, rng.standard_normal(100), "squared", 1e-4)
    X = rng.standard_normal((200, 10))
    yield Case("x1^2 - 1", X, X[:, 0] ** 2 - 1, "squared", 1e-3)
    X = rng.standard_normal((200, 5))
    yield Case("x1 x2", X, X[:, 0] * X[:, 1], "squared", 1e-3)
    X = rng.standard_normal((300, 10))
    yield Case("x1 x2 x3", X, X[:, :3].prod(axis=1), "squared", 1e-3)
    yield Case("noise labels, d 20", rng.standard_normal((100, 20)), rng.standard_normal(100), "squared", 1e-3)
    y = rng.choice([-1.0, 1.0], size=200)
    yield Case("noise labels, logistic", rng.standard_normal((200, 10)), y, "logistic", 1e-3)
    X = np.repeat(rng.standard_normal((30, 4)), 6, axis=0)
    yield Case("repeated inputs", X, rng.standard_normal(180), "squared", 1e-3)


def _targets() -> Iterator[Case]:
    """Polynomials and teachers, one output or three."""
    X, y = datasets.make_friedman1(400, random_state=0)
    yield Case("Friedman 1", with_constant(standardized(X)), y, "squared", 1e-3)
    yield Case("Friedman 1, raw X", with_constant(X), y, "squared", 1e-3)
    yield Case("teacher, d 20", *teacher(400, 20, 3, 1), "squared", 1e-3)
    yield Case("teacher, d 100", *teacher(300, 100, 5, 2), "squared", 1e-3)
    X, y = teacher(400, 30, 4, 3)
    yield Case("teacher, signs", X, signs(y - np.median(y)), "logistic", 1e-3)
    yield Case("teacher, C 3", *teacher(300, 8, 6, 4, outputs=3), "squared", 1e-3)
    X, y = teacher(5000, 10, 5, 5)
    noise = 0.3 * np.random.default_rng(6).standard_normal(5000)
    yield Case("teacher, n 5000", X, y + noise, "squared", 1e-3)
    X, y = teacher(5000, 500, 5, 8)
    yield Case("n 5000, d 500", X, signs(y), "logistic", 3e-3)
    X, y = teacher(200, 6, 4, 7)
    yield Case("scales 1e-2 to 1e2", X * np.logspace(-2, 2, 6), y, "squared", 1e-3)
    yield Case("mean 30", X + 30, y, "squared", 1e-3)
    yield Case("targets x 1e3", with_constant(X), 1e3 * y, "squared", 1e-2)


def _paper() -> Iterator[Case]:
    """The paper's data at n = 2d, 4d, 8d and three λ."""
    for n in (40, 80, 160):
        for reg in (5e-3, 5e-4, 5e-5):
            yield Case(f"D, n {n}, {reg:.0e}", *paper_data(n, 20, 0), "logistic", reg)
    yield Case("D, d 60", *paper_data(240, 60, 1), "logistic", 1e-3)


def _classes() -> Iterator[Case]:
    """Two classes or eight: even and very uneven, sparse parity, curves in the plane."""
    y = signs(1.5 - np.arange(2002))
    for name, skipped in (("2 against 2000", 0), ("2 against 2000, another draw", 2400)):
        X = np.random.default_rng(0).standard_normal(skipped + 5 * 2002)[skipped:].reshape(2002, 5)
        yield Case(name, with_constant(X), y, "logistic", 1e-4)
    X, t = datasets.make_moons(200, noise=0.2, random_state=0)
    for reg in (1e-3, 1e-4):
        yield Case(f"two moons, {reg:.0e}", with_constant(X), 2.0 * t - 1, "logistic", reg)
    X, t = datasets.make_circles(300, noise=0.1, factor=0.5, random_state=0)
    yield Case("circles, far", with_constant(10 + 3 * X), 2.0 * t - 1, "logistic", 1e-3)
    rng = np.random.default_rng(1)
    X = rng.choice([-1.0, 1.0], size=(300, 15))
    yield Case("parity of 3", X, X[:, :3].prod(axis=1), "logistic", 1e-3)
    X = rng.standard_normal((1000, 10))
    X[:20, 0] += 2
    yield Case("20 against 980", with_constant(X), signs(19.5 - np.arange(1000)), "logistic", 1e-3)
    X, t = datasets.make_blobs(300, centers=8, cluster_std=1.5, random_state=0)
    yield Case("blobs, C 8", with_constant(X), t, "cross_entropy", 1e-3)


def _bundled() -> Iterator[Case]:
    """The sets that come with scikit-learn, standardized and as they are."""
    X, t = datasets.load_breast_cancer(return_X_y=True)
    yield Case("breast cancer", with_constant(standardized(X)), 2.0 * t - 1, "logistic", 1e-2)
    yield Case("breast cancer, raw", with_constant(X), 2.0 * t - 1, "logistic", 1e-2)
    X, y = datasets.load_diabetes(return_X_y=True)
    yield Case("diabetes", with_constant(standardized(X)), y, "squared", 1e-2)
    X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    yield Case("diabetes, raw", with_constant(X), y, "squared", 1e-2)
    for name in ("wine", "iris"):
        X, t = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield Case(name, with_constant(standardized(X)), t, "cross_entropy", 1e-3)
        yield Case(f"{name}, raw", with_constant(X), t, "cross_entropy", 1e-3)
    X, Y = datasets.load_linnerud(return_X_y=True)
    yield Case("linnerud", with_constant(standardized(X)), standardized(Y), "squared", 1e-3)
    yield Case("linnerud, raw", with_constant(X), Y, "squared", 1e-2)
    X, t = datasets.load_digits(return_X_y=True)
    yield Case("digits 500", with_constant(X[:500] / 16), t[:500], "cross_entropy", 1e-3)
    yield Case("digits 500, standardized", with_constant(standardized(X[:500])), t[:500], "cross_entropy", 1e-3)
    yield Case("digits 500, raw", with_constant(X[:500]), t[:500], "cross_entropy", 1e-3)
    yield Case("digits", with_constant(X / 16), t, "cross_entropy", 1e-3)


@functools.cache
def suite() -> dict[str, Case]:
    """Name -> problem, in the order of the tables."""
    groups = (_functions, _drawn_in_turn, _targets, _paper, _classes, _bundled)
    return {case.name: case for group in groups for case in group()}


def known(path: Path = FILE) -> dict[str, Known]:
    """Name -> what is known."""
    return {name: Known(**held) for name, held in json.loads(path.read_text(encoding="utf-8")).items()}


def keep(names: dict[str, Known], path: Path = FILE) -> None:
    """Write what is known, in the order of the suite; the file is replaced whole."""
    held = {name: asdict(names[name]) for name in suite() if name in names}
    write_text(path, json.dumps(held, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside the file and rename, so that a reader never sees half of it."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def main() -> None:
    held = known()
    for name, case in suite().items():
        problem = case.problem
        sizes = f"n {problem.n:5d}  d {problem.d:3d}  C {problem.outputs:2d}  {case.loss:13s} reg {case.reg:.0e}"
        print(f"{name:28s} {sizes}  {'lowest known ' + format(held[name].lowest, '.6g') if name in held else ''}")


if __name__ == "__main__":
    main()
