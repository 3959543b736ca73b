#!/usr/bin/env python3
"""From rich to lazy: one network at output scales α from 1 to 10⁴, against the closed-form kernel at equal time.

    python scripts/claim_lazy.py              the table and the figure of docs/claims/lazy.md
    python scripts/claim_lazy.py --full       more particles, draws and steps: about an hour

Squared loss on labels ±1, no penalty, f = (α/m) Σ w relu(u·x), gradient descent with steps η/α² up to the time T/α²: in
the limit α → ∞ the flow of the kernel up to T. Fast mode takes about two minutes on one core.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import claims
import numpy as np

from meanfield import Ensemble, GradientFlow, Problem, diagnostics, simulate
from meanfield.datasets.load import load_dataset
from meanfield.kernels import GradientFlow as KernelFlow
from meanfield.kernels import neuron_ntk
from meanfield.neuron import get_neuron
from meanfield.simulation.config import check_config

SCALES = (1, 3, 10, 100, 1000, 10000)
D, N, N_TEST, TIME, LOOKS = 20, 160, 512, 4000.0, 8
DATA: dict[str, dict[str, Any]] = {"xor": {"source": "xor"}, "teacher": {"source": "teacher", "hidden": 3}}
RICH = 8.0  # below this α particles move far, and steps are shorter by what it lacks
CASES = {  # data, start, neuron, and the least α
    "paper's data": ("xor", "pairs", "relu", 1),
    "teacher": ("teacher", "pairs", "relu", 1),
    "paper's data, subtracted": ("xor", "subtracted", "relu", 1),
    "paper's data, tanh": ("xor", "pairs", "tanh", 10),
    "paper's data, tanh, subtracted": ("xor", "subtracted", "tanh", 10),
}


@cache
def data(source: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, y, X_test, y_test with labels ±1."""
    section = {**DATA[source], "n": N, "d": D, "n_test": N_TEST, "seed": seed}
    found = load_dataset(check_config({"data": section}, source).data)
    X_test, y_test = (np.asarray(part, float) for part in (found.X_test, found.y_test))
    return found.X, found.y.astype(float), X_test, y_test


def flows(K: np.ndarray, y: np.ndarray, steps: np.ndarray, eta: float) -> np.ndarray:
    """f (k, N + N_TEST) of gradient descent with the kernel K (N + N_TEST, N): after each number of steps of size η."""
    s, V = np.linalg.eigh(K[:N])
    learned = -np.expm1(steps[:, None] * np.log1p(-eta * s / N)) / s
    return (learned * (V.T @ y)) @ (K @ V).T


def closed_form(X: np.ndarray, Z: np.ndarray, y: np.ndarray, times: np.ndarray, neuron: str = "relu") -> np.ndarray:
    """f (k, N + N_TEST) of the infinitely wide network's kernel, in continuous time.

    Its weights are gaussian, of the covariance of particles that are uniform on the unit sphere of R^{d+1}: for relu
    the kernel of these, for another neuron up to 1/d.
    """
    size = (D + 1) ** -0.5
    K = neuron_ntk(np.vstack([X, Z]), X, neuron=neuron, w_std=size, u_std=size)
    flow = KernelFlow().fit(K[:N], y)
    return np.array([K @ flow.until(time / N).coef for time in times])


def tangent_kernel(ensemble: Ensemble, X: np.ndarray, neuron: str) -> np.ndarray:
    """The ensemble's (len(X), N): of all inputs with the first N, ∫ φφ' + w² φ'φ' x·x' dρ."""
    gates, values = np.zeros((len(X), N)), np.zeros((len(X), N))
    for w, u in ensemble.blocks(1024):
        value, slope = get_neuron(neuron).evaluate(u @ X.T)
        values += value.T @ value[:, :N]
        gates += (w * slope).T @ (w * slope[:, :N])
    return (values + gates * (X @ X[:N].T)) / ensemble.m


def cell(source: str, start: str, neuron: str, scale: float, seed: int, m: int, steps: int) -> dict[str, Any]:
    """Largest rms distance of f to both flows over the run, the kernel's movement, and errors at the end.

    own: gradient descent, step for step, with the kernel that the ensemble has at the start; ntk: the infinitely wide
    network's flow at equal times. Both on examples of the training and the test set. Where the start is "subtracted" f
    is the network less what it was at the start, and in "pairs" that is 0.
    """
    X, y, Z, y_test = data(source, seed)
    both = np.vstack([X, Z])
    first = Ensemble.sphere(m, D, symmetric=start == "pairs", seed=seed, dtype="float64")
    settings: dict[str, Any] = {"loss": "squared", "reg": 0.0, "output_scale": scale, "neuron": neuron}
    network = Problem(X, y, **settings)
    zero = network.predict(first, both)
    problem = Problem(X, y + zero[:N], **settings)
    found: list[np.ndarray] = []
    every = round(steps * max(1.0, RICH / scale)) // LOOKS
    eta = TIME / (LOOKS * every)
    ended = simulate(
        problem,
        first,
        GradientFlow(eta / scale**2),
        steps=LOOKS * every,
        record_every=every,
        callback=lambda ensemble, row: found.append(network.predict(ensemble, both) - zero),
        threads=1,
        final_gap=False,
    ).ensemble
    looked, f = every * np.arange(1, LOOKS + 1), np.array(found[1:])
    K = tangent_kernel(first, both, neuron)
    moved = diagnostics.neurons.compared(K[:N], tangent_kernel(ended, both, neuron)[:N])
    ntk = closed_form(X, Z, y, eta * looked, neuron)
    return {
        "own": rms(f - flows(K, y, looked, eta)),
        "ntk": rms(f - ntk),
        "movement": moved.relative,
        "train_rms": float(np.sqrt(np.mean((f[-1, :N] - y) ** 2))),
        "test_error": float(np.mean(np.sign(f[-1, N:]) != y_test)),
        "ntk_error": float(np.mean(np.sign(ntk[-1, N:]) != y_test)),
    }


def rms(difference: np.ndarray) -> float:
    """Of the time at which it is largest."""
    return float(np.sqrt(np.mean(difference**2, axis=1)).max())


def lazy(options: claims.Options) -> None:
    m, draws, steps = (16384, 5, 8000) if options.full else (1024, 2, 2000)
    name = "lazy" + "_full" * options.full
    rows = options.study(name, cell).run(
        {
            "source": source,
            "start": start,
            "neuron": neuron,
            "scale": float(scale),
            "seed": seed,
            "m": m,
            "steps": steps,
        }
        for source, start, neuron, least in CASES.values()
        for scale in SCALES
        if scale >= least
        for seed in range(draws)
    )
    columns = ("own", "ntk", "movement", "train_rms", "test_error", "ntk_error")
    claims.table(
        ["case", "α", *columns],
        (
            [case, scale, *(means(rows, case, column)[scale] for column in columns)]
            for case in CASES
            for scale in SCALES
            if scale in means(rows, case, "own")
        ),
    )
    for case in CASES:
        print(f"{case}: own ~ α^{slope(rows, case):.2f} between 1000 and 10000")
    draw(rows, options, name)


def means(rows: Iterable[dict], case: str, column: str) -> dict[int, float]:
    """α → the mean over draws."""
    own = [row for row in rows if (row["source"], row["start"], row["neuron"]) == CASES[case][:3]]
    found = {scale: [row[column] for row in own if row["scale"] == scale] for scale in SCALES}
    return {scale: float(np.mean(values)) for scale, values in found.items() if values}


def slope(rows: Iterable[dict], case: str) -> float:
    """The exponent of α with which the distance to the flow of the network's own kernel falls at the end."""
    *_, last, end = means(rows, case, "own").items()
    return float(np.log(end[1] / last[1]) / np.log(end[0] / last[0]))


def draw(rows: list[dict], options: claims.Options, name: str) -> None:
    """(a) distances to the flow of the own kernel, (b) the kernel's movement, (c) test errors, over α."""
    figure, axes = claims.page(3)
    for i, case in enumerate(CASES):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ms": 3.5}
        for ax, column in zip(axes, ("own", "movement", "test_error"), strict=True):
            values = means(rows, case, column)
            ax.plot(list(values), list(values.values()), label=case, **style)
        if i < 2:
            axes[2].axhline(means(rows, case, "ntk_error")[10000], color=style["color"], lw=0.7, ls="--")
    axes[0].set(yscale="log", ylabel="distance to the kernel's flow")
    axes[1].set(yscale="log", ylabel=r"$\|K - K_0\|/\|K_0\|$")
    axes[2].set(ylabel="test error", ylim=(0, None))
    for ax, title in zip(axes, "abc", strict=True):
        ax.set(xscale="log", xlabel=r"output scale $\alpha$")
        ax.set_title(f"({title})", loc="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=7)
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"lazy": lazy})
