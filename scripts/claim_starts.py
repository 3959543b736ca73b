#!/usr/bin/env python3
"""From bad starts: does rebirth reach the minimum where plain flow does not, and what does it cost?

    python scripts/claim_starts.py starts       steps to within ε of the minimum, start × dynamics × d
    python scripts/claim_starts.py bias         what is left above the minimum, over the rate σ of rebirth (d = 10)
    python scripts/claim_starts.py crossing     outputs that change sign only because a step has a size (d = 5)
    python scripts/claim_starts.py --quick      all, small: less than a minute; tables and figures are named `..._quick`

Data are the paper's distribution, λ is constant, the step size automatic, and at the end lowered to a thousandth, to
see what part is the step size's. Fast (default): about ten minutes on two cores; --full: some hours.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import claims
import numpy as np
from claim_optimization import minimum

from meanfield import Ensemble, GradientFlow, Langevin, PerturbedFlow, Problem, Schedule, simulate
from meanfield.dynamics import Dynamics
from meanfield.simulation.result import Result
from meanfield.studies.comparison import paper_problem

REG = 5e-3
EPSILONS = (1e-1, 1e-2, 1e-3, 1e-4)
COOLING = 1000  # the factor by which the step size falls over the last steps
RATES = {"rebirth 1e-2": 1e-2, "rebirth 1e-3": 1e-3, "rebirth 1e-4": 1e-4}
DYNAMICS = ("flow", *RATES, "noise")
LABELS = {
    "flow": "gradient flow",
    "rebirth 1e-2": r"rebirth, $\sigma = 10^{-2}$",
    "rebirth 1e-3": r"rebirth, $\sigma = 10^{-3}$",
    "rebirth 1e-4": r"rebirth, $\sigma = 10^{-4}$",
    "noise": r"noise, $\tau$ from $10^{-3}$ to 0",
}


def symmetric_problem(d: int, seed: int) -> Problem:
    """d draws of the noise of the paper's data, each with all four corners: n = 4d, and (x₁, x₂) has no odd moment."""
    z = paper_problem(d, d, seed, reg=REG).X[:, 2:]
    corners = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    X = np.hstack([np.repeat(corners, d, axis=0), np.tile(z, (4, 1))])
    return Problem(X, np.repeat([1, 1, -1, -1], d), reg=REG)


@cache
def problem_and_bound(symmetric: bool, d: int, seed: int) -> tuple[Problem, dict[str, float]]:
    """n = 4d examples, and the minimum; kept, since one process computes many cells of the same data."""
    problem = symmetric_problem(d, seed) if symmetric else paper_problem(4 * d, d, seed, reg=REG)
    return problem, minimum(problem)[1]


def on_sphere(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return w, u


def positive(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sphere's law given w > 0."""
    return np.abs(w), u


def heavy(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w = 1, ‖u‖ = ½: e^{4λt}(w² − ‖u‖²) is constant along the flow, so no w changes its sign."""
    return np.ones(len(w)), 0.5 * unit(u)


def direction(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All u the same unit vector, w spread like N(0, 1)."""
    return np.sqrt(u.shape[1] + 1) * w, np.tile(unit(u[:1]), (len(u), 1))


def points(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two points only, (w, u) = (±1, s)/√2: under the flow never more than two neurons."""
    return np.sqrt(0.5) * (1.0 - 2.0 * (np.arange(len(w)) % 2)), np.sqrt(0.5) * np.tile(unit(u[:1]), (len(u), 1))


def half(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sphere's law given u₁ > 0."""
    return w, np.hstack([np.abs(u[:, :1]), u[:, 1:]])


def cone(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions within 0.05 of e₁; w as on the sphere."""
    near = 0.05 * unit(u)
    near[:, 0] += 1.0
    return w, unit(near)


def plane(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u₁ = u₂ = 0, the two coordinates that say something; else as on the sphere."""
    return w, np.hstack([np.zeros((len(u), 2)), u[:, 2:]])


def unit(u: np.ndarray) -> np.ndarray:
    return u / np.linalg.norm(u, axis=1, keepdims=True)


STARTS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "sphere": on_sphere,
    "positive": positive,
    "heavy": heavy,
    "direction": direction,
    "points": points,
    "half": half,
    "cone": cone,
    "plane": plane,
    "plane, symmetric": plane,
}


def particles(start: str, m: int, d: int, seed: int) -> Ensemble:
    drawn = Ensemble.sphere(m, d, seed=seed, dtype="float64")
    w, u = STARTS[start](drawn.w[:, 0], drawn.u)
    return Ensemble.from_arrays(w, u, seed=seed, dtype="float32")


def run(problem: Problem, start: Ensemble, dynamics: Dynamics, steps: int) -> Result:
    every = min(10, steps)
    return simulate(
        problem, start, dynamics, steps=steps, record_every=every, test_every=steps, anneal=False, threads=1
    )


def law(dynamics: str, step_size: str | Schedule = "auto") -> Dynamics:
    return PerturbedFlow(step_size, rebirth_rate=RATES[dynamics]) if dynamics in RATES else GradientFlow(step_size)


def cooled(problem: Problem, ended: Ensemble, make: Callable[[Schedule], Dynamics], steps: int) -> Result:
    """`steps` more, the step size falling geometrically by `COOLING`: noise of other addresses, rebirth as before."""
    eta = ended.memory["step_size"]
    start = Ensemble.from_arrays(ended.w, ended.u, seed=ended.seed + 1_000_000)
    return run(problem, start, make(Schedule("geometric", eta, eta / COOLING, steps)), steps)


def start_cell(start: str, dynamics: str, d: int, seed: int, m: int, steps: int) -> dict[str, Any]:
    """First step with L ≤ (1 + ε) times the lower bound, for every ε, −1: not reached; and what is left at the end.

    end: after `steps` steps of automatic size; cooled: after a sixth as many of falling size. `steps_ε` counts both.
    informative: the part of ∫‖u‖² in coordinates 1 and 2; distinct: how many of the particles differ.
    """
    problem, known = problem_and_bound("symmetric" in start, d, seed)
    flow: Dynamics = law(dynamics)
    if dynamics == "noise":
        problem = Problem(problem.X, problem.y, reg=REG, temperature=Schedule("linear", 1e-3, 0.0, steps // 2))
        flow = Langevin()
    first = run(problem, particles(start, m, d, seed), flow, steps)
    last = cooled(problem, first.ensemble, partial(law, dynamics), steps // 6)
    excess = np.concatenate([one.trace["objective"] for one in (first, last)]) / known["lower_bound"] - 1
    step = np.concatenate([first.trace["step"], steps + last.trace["step"]])
    reached = {f"steps_{epsilon:g}": first_step(step, excess <= epsilon) for epsilon in EPSILONS}
    w, u = last.ensemble.w, last.ensemble.u.astype(np.float64)
    return {
        **known,
        **reached,
        "end": float(first.trace["objective"][-1]) / known["lower_bound"] - 1,
        "cooled": float(excess[-1]),
        "time": first.ensemble.time,
        "informative": float(np.sum(u[:, :2] ** 2) / np.sum(u**2)),
        "distinct": len(np.unique(np.hstack([w, u]), axis=0)),
    }


def first_step(step: np.ndarray, reached: np.ndarray) -> int:
    return int(step[reached][0]) if reached.any() else -1


def bias_cell(rate: float, d: int, seed: int, m: int, steps: int) -> dict[str, Any]:
    """From the sphere under rebirth at a rate: the excess averaged over the last third of the steps, and cooled."""
    problem, known = problem_and_bound(False, d, seed)
    first = run(problem, particles("sphere", m, d, seed), PerturbedFlow(rebirth_rate=rate), steps)
    last = cooled(problem, first.ensemble, lambda eta: PerturbedFlow(eta, rebirth_rate=rate), steps // 6)
    late = first.trace["objective"][first.trace["step"] > 2 * steps / 3]
    norms = np.sum(first.ensemble.u**2, axis=1) + first.ensemble.w[:, 0] ** 2
    return {
        **known,
        "mean": float(late.mean()) / known["lower_bound"] - 1,
        "cooled": float(last.trace["objective"][-1]) / known["lower_bound"] - 1,
        "time": first.ensemble.time,
        "effective": float(norms.sum() ** 2 / np.sum(norms**2)),
    }


def crossing_cell(step_size: float, d: int, seed: int, m: int, time: float) -> dict[str, Any]:
    """Plain flow from `heavy` to a time: how many w have become negative, and the excess."""
    problem, known = problem_and_bound(False, d, seed)
    ended = run(problem, particles("heavy", m, d, seed), GradientFlow(step_size), round(time / step_size))
    excess = float(ended.trace["objective"][-1]) / known["lower_bound"] - 1
    return {**known, "negative": int(np.sum(ended.ensemble.w < 0)), "excess": excess}


def starts(options: claims.Options, quick: bool = False) -> None:
    dims, draws, m, steps = [5, 10, 20, 40], 2, 1024, 6000
    if options.full:
        draws, m, steps = 5, 4096, 30000
    if quick:
        dims, draws, m, steps = [5], 1, 256, 420
    name = "starts_steps" + "_full" * options.full + "_quick" * quick
    rows = options.study(name, start_cell).run(
        {"start": start, "dynamics": dynamics, "d": d, "seed": seed, "m": m, "steps": steps}
        for d in dims
        for seed in range(draws)
        for start in STARTS
        for dynamics in DYNAMICS
    )
    gaps = [1 - row["lower_bound"] / row["minimum"] for row in rows]
    print(f"relative gap of the minimum: at most {max(gaps):.0e}\n")
    markdown(
        ["d", "start", "dynamics", *(f"steps to {epsilon:g}" for epsilon in EPSILONS), "end", "cooled"],
        (
            [d, start, dynamics, *(both(own, f"steps_{epsilon:g}") for epsilon in EPSILONS), *left(own)]
            for d in dims
            for start in STARTS
            for dynamics in DYNAMICS
            for own in [select(rows, d=d, start=start, dynamics=dynamics)]
        ),
    )
    draw_starts(rows, 20 if 20 in dims else dims[0], steps, options, name)


def select(rows: Iterable[dict], **wanted: object) -> list[dict]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def both(rows: Sequence[dict], column: str) -> str:
    """The draws' steps, least first; a dash for never."""
    steps = sorted((row[column] for row in rows), key=lambda k: (k < 0, k))
    return ", ".join("–" if k < 0 else str(k) for k in steps)


def left(rows: Sequence[dict]) -> list[str]:
    """The largest excess over the draws, at the end of the automatic steps and cooled."""
    return [f"{max(row[column] for row in rows):.1e}" for column in ("end", "cooled")]


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for line in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(map(str, line))} |")


def draw_starts(rows: Sequence[dict], d: int, steps: int, options: claims.Options, name: str) -> None:
    """(a) what is left once cooled, (b) steps to 1 %, by start: every draw."""
    figure, axes = claims.page(2)
    never = 3 * steps
    for i, dynamics in enumerate(DYNAMICS):
        style = {"color": claims.COLOURS[i], "marker": claims.MARKERS[i], "ls": "", "ms": 3.5, "alpha": 0.7, "mew": 0}
        for ax, column in zip(axes, ("cooled", "steps_0.01"), strict=True):
            own = [
                (k, row[column])
                for k, one in enumerate(STARTS)
                for row in select(rows, d=d, start=one)
                if row["dynamics"] == dynamics
            ]
            at, values = np.array(own).T
            ax.plot(at + 0.15 * (i - 2), np.where(values > 0, values, never), label=LABELS[dynamics], **style)
    for ax, what in zip(axes, (r"$L/\min L - 1$, once cooled", r"steps to $\varepsilon = 10^{-2}$"), strict=True):
        ax.set(yscale="log", ylabel=what)
        ax.set_xticks(range(len(STARTS)), list(STARTS), rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
    axes[1].axhline(steps * 7 / 6, color="0.5", lw=0.7)
    axes[1].annotate("never", (len(STARTS) - 0.5, never), va="center", fontsize=7, annotation_clip=False)
    axes[0].set_title(f"(a) $d = {d}$", loc="left")
    axes[1].set_title("(b)", loc="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=7)
    claims.save(figure, name, options)


def bias(options: claims.Options, quick: bool = False) -> None:
    widths, draws, steps = [1024, 4096], 3, 6000
    if options.full:
        widths, draws, steps = [1024, 4096, 16384], 5, 60000
    if quick:
        widths, draws, steps = [256], 1, 300
    rates = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
    name = "starts_bias" + "_full" * options.full + "_quick" * quick
    rows = options.study(name, bias_cell).run(
        {"rate": rate, "d": 10, "seed": seed, "m": m, "steps": steps}
        for m in widths
        for seed in range(draws)
        for rate in rates
    )
    lines = []
    for m in widths:
        for rate in rates:
            own = select(rows, m=m, rate=rate)
            shown = [pm([row[column] for row in own]) for column in ("mean", "cooled")]
            time, effective = (np.mean([row[column] for row in own]) for column in ("time", "effective"))
            lines.append([m, f"{rate:g}", f"{rate * time:.2g}", f"{rate * m * time / steps:.2g}", *shown])
            lines[-1].append(f"{effective:.0f}")
    markdown(["m", "σ", "σT", "rebirths a step", "mean excess", "cooled", "effective particles"], lines)
    draw_bias(rows, widths, rates[1:], options, name)


def pm(values: Sequence[float]) -> str:
    mean, error = claims.mean_and_error(values)
    return f"{mean:.1e}" if np.isnan(error) else f"{mean:.1e} ± {error:.0e}"


def draw_bias(
    rows: Sequence[dict], widths: Sequence[int], rates: Sequence[float], options: claims.Options, name: str
) -> None:
    figure, (ax,) = claims.page(1)
    for i, m in enumerate(widths):
        for column, style, what in (("mean", "o-", "automatic steps"), ("cooled", "s--", "cooled")):
            left_over = np.array([[row[column] for row in select(rows, m=m, rate=rate)] for rate in rates])
            middle = left_over.mean(axis=1)
            whiskers = np.array([middle - left_over.min(axis=1), left_over.max(axis=1) - middle])
            label, colour = f"m = {m}, {what}", claims.COLOURS[i]
            ax.errorbar(rates, middle, whiskers, fmt=style, color=colour, ms=3, elinewidth=0.7, label=label)
            still = np.mean([row[column] for row in select(rows, m=m, rate=0.0)])
            ax.axhline(still, color=colour, ls=style[1:], lw=0.5)
    ax.set(xscale="log", yscale="log", xlabel=r"rate $\sigma$ of rebirth", ylabel=r"$L/\min L - 1$")
    ax.legend(fontsize=6.5)
    claims.save(figure, name, options)


def crossing(options: claims.Options, quick: bool = False) -> None:
    m, time, sizes = (256, 40.0, (0.8, 0.2)) if quick else (1024, 1000.0, (0.8, 0.4, 0.2, 0.1, 0.05))
    rows = options.study("starts_crossing" + "_quick" * quick, crossing_cell).run(
        {"step_size": size, "d": 5, "seed": seed, "m": m, "time": time} for size in sizes for seed in range(2)
    )
    columns = ("step_size", "seed", "negative", "excess")
    markdown(columns, ([f"{row[name]:.3g}" for name in columns] for row in rows))


if __name__ == "__main__":
    small = "--quick" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--quick"]
    parts = {"starts": starts, "bias": bias, "crossing": crossing}
    claims.main(__doc__, {name: partial(part, quick=small) for name, part in parts.items()})
