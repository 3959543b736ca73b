#!/usr/bin/env python3
"""Margin and test error over the width, of networks as training leaves them.

    python scripts/claim_width.py                                  both parts, fast
    python scripts/claim_width.py images --data mnist.npz          the second on MNIST, where its file is at hand

Parts: `teacher`, a teacher of ten units, d = 20, |teacher| ≥ 0.01, λ = 10⁻⁵, 20 trials, each with a teacher and data of
its own; `images`, λ = 10⁻⁶, on scikit-learn's digits, which are in everyone's reach, or on the file of `--data`. No
weight is fitted again after training, and nothing is carried over from one width to the next, so that a curve may fall.
Fast mode takes 4000 steps, and 200 of the images; --full 80,000, and 2000 images to a width of 4096.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, Langevin, Problem, simulate
from meanfield.datasets.load import load_dataset
from meanfield.simulation.config import Data

DIGITS = "sklearn:digits"


def teacher_cell(n: int, d: int, seed: int, m: int, reg: float, steps: int) -> dict[str, Any]:
    data = load_dataset(Data(source="teacher", hidden=10, margin=0.01, n=n, d=d, n_test=4096, seed=seed))
    return trained(Problem(data.X, data.y, reg=reg, X_test=data.X_test, y_test=data.y_test), m, seed, steps)


def images_cell(source: str, n: int, seed: int, m: int, reg: float, steps: int) -> dict[str, Any]:
    """The first n images, brightness scaled to [0, 1]; the seed is of the start, and of the split where one is made."""
    data = load_dataset(Data(source=source, seed=seed))
    assert data.X_test is not None
    X, X_test = (one / data.X.max() for one in (data.X[:n], data.X_test))
    problem = Problem(X, data.y[:n], loss="cross_entropy", reg=reg, X_test=X_test, y_test=data.y_test)
    return trained(problem, m, seed, steps)


def trained(problem: Problem, m: int, seed: int, steps: int) -> dict[str, Any]:
    """What annealed Langevin ends with, from the sphere; `margin` is 0 where an example is missed."""
    start = Ensemble.sphere(m, problem.d, problem.outputs, seed=seed)
    result = simulate(problem, start, Langevin(), steps=steps, record_every=steps, threads=1, final_gap=False)
    names = ("margin", "test_error", "train_error", "objective")
    found = {name: float(result.trace[name][-1]) for name in names}
    return {**found, "margin": max(0.0, found["margin"])}


def teacher(options: claims.Options) -> None:
    cells = [
        {"n": 200, "d": 20, "seed": seed, "m": 2**k, "reg": 1e-5, "steps": 80_000 if options.full else 4000}
        for seed in range(20)
        for k in range(4, 11)
    ]
    show(options, "width_teacher", options.study("width_teacher", teacher_cell).run(cells), "a teacher of ten units")


def images(options: claims.Options) -> None:
    n, widths, steps = (2000, range(6, 13), 80_000) if options.full else (200, range(4, 10), 4000)
    source = options.data or DIGITS
    name = "digits" if source == DIGITS else Path(source).stem
    cells = [
        {"source": source, "n": n, "seed": seed, "m": 2**k, "reg": 1e-6, "steps": steps}
        for seed in range(20 if options.full else 3)
        for k in widths
    ]
    rows = options.study(f"width_{name}", images_cell).run(cells)
    show(options, f"width_{name}", rows, "scikit-learn's digits" if source == DIGITS else name)


def by_width(rows: Sequence[dict[str, Any]], column: str) -> tuple[list[int], np.ndarray]:
    """Widths, and values (seeds, widths)."""
    widths, seeds = (sorted({row[name] for row in rows}) for name in ("m", "seed"))
    value = {(row["seed"], row["m"]): row[column] for row in rows}
    return widths, np.array([[value[seed, m] for m in widths] for seed in seeds])


def doublings(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """What the margin of a trial gains from each width to the next: means and standard errors over the trials."""
    gains = np.diff(by_width(rows, "margin")[1], axis=1)
    mean, error = np.array([claims.mean_and_error(column) for column in gains.T]).T
    return mean, error


def show(options: claims.Options, name: str, rows: Sequence[dict[str, Any]], title: str) -> None:
    columns = {"margin": r"normalized margin $\gamma$", "test_error": "test error"}
    gains = [("", ""), *((f"{mean:.2g}", f"{error:.1g}") for mean, error in zip(*doublings(rows), strict=True))]
    figure, axes = claims.page(2)
    lines = []
    for ax, (column, label), letter in zip(axes, columns.items(), "ab", strict=True):
        widths, values = by_width(rows, column)
        mean, error = np.array([claims.mean_and_error(part) for part in values.T]).T
        lines.append([f"{a:.4g} ± {b:.1g}" for a, b in zip(mean, error, strict=True)])
        ax.plot(widths, values.T, color="0.8", lw=0.5)
        ax.errorbar(widths, mean, error, marker="o", ms=3.5, capsize=2)
        ax.set_xscale("log", base=2)
        ax.set_xticks(widths, [str(m) for m in widths])
        ax.minorticks_off()
        ax.set(xlabel="width $m$", ylabel=label, ylim=(0, None))
        ax.set_title(f"({letter}) {title}", loc="left")
    head = ["m", *columns, "separated", "gain of γ", "±"]
    apart = (by_width(rows, "margin")[1] > 0).sum(axis=0)
    claims.table(head, [[*row, *gain] for *row, gain in zip(widths, *lines, apart, gains, strict=True)])
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"teacher": teacher, "images": images}, data=DIGITS)
