#!/usr/bin/env python3
"""Six dynamics on three small problems: how many steps, and how much work, to a certified gap.

    python scripts/claim_dynamics.py          the table and the figure of docs/claims/dynamics.md

Every run begins at the same particles and minimizes at the same constant λ. Its gap is 1 − B/L with the lower bound B
that `certify` proves at the network of `exact.optimum`, so that it is a proven bound on the gap of each state. Steps
are the same everywhere; work is steps times what a step costs beside one of gradient flow, in processor time, measured
in one process. Fast mode takes about two minutes on one thread.
"""

import time
from collections.abc import Iterable
from typing import Any

import claims
import numpy as np

from meanfield import (
    BirthDeath,
    Ensemble,
    GradientFlow,
    Implicit,
    KineticLangevin,
    Langevin,
    PerturbedFlow,
    Problem,
    Schedule,
    simulate,
)
from meanfield.dynamics import Field
from meanfield.studies.comparison import paper_problem

GAPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
LOOKS = 400  # states of a run that are looked at
TRIALS = 7
PROBLEMS = {
    "line": "10 + |x|, 40 points, squared",
    "xor": "the paper's data, d 5, n 40, logistic",
    "noise": "random labels, d 3, n 40, logistic",
}
LAWS = {
    "implicit": lambda steps: Implicit(cooled_at=steps),
    "gradient flow": lambda steps: GradientFlow(),
    "langevin": lambda steps: Langevin(),
    "momentum": lambda steps: KineticLangevin(friction=0.1),
    "birth and death": lambda steps: BirthDeath(exchange_rate=1.0),
    "perturbed flow": lambda steps: PerturbedFlow(rebirth_rate=1e-4),
}


def problem_of(name: str) -> Problem:
    """The problem, without noise."""
    if name == "line":
        x = np.linspace(-1, 1, 40)
        return Problem(np.column_stack([x, np.ones(40)]), 10 + abs(x), loss="squared", reg=1e-3)
    if name == "xor":
        return paper_problem(40, 5, 0, reg=5e-3)
    rng = np.random.default_rng(0)
    return Problem(rng.standard_normal((40, 3)), rng.integers(0, 2, 40), reg=1e-3)


def minimum_cell(problem: str) -> dict[str, Any]:
    return claims.proven_minimum(problem_of(problem), effort=1.0)


def run_cell(problem: str, law: str, m: int, steps: int, bound: float) -> dict[str, Any]:
    """First step whose gap is at most ε, for every ε of GAPS, −1 if there is none; and the gap at the end."""
    posed, start = problem_of(problem), Ensemble.sphere(m, problem_of(problem).d, seed=1)
    if law == "langevin":
        posed.temperature = Schedule("geometric", 1e-3, 1e-9, steps)
    every = max(1, steps // LOOKS)
    settings: dict[str, Any] = {"steps": steps, "record_every": every, "test_every": steps, "threads": 1}
    trace = simulate(posed, start, LAWS[law](steps), anneal=False, final_gap=False, **settings).trace
    gap = 1 - bound / trace["objective"]
    first = {f"steps_{epsilon:g}": first_step(trace["step"], gap, epsilon) for epsilon in GAPS}
    return {**first, "gap": float(gap[-1]), "time": float(trace["time"][-1])}


def first_step(steps: np.ndarray, gap: np.ndarray, epsilon: float) -> int:
    reached = np.flatnonzero(gap <= epsilon)
    return int(steps[reached[0]]) if len(reached) else -1


def cost_cell(problem: str, law: str, m: int) -> dict[str, Any]:
    """Processor time of a step over that of one of gradient flow: the least of some trials of each, in turn."""
    posed, least = problem_of(problem), {law: np.inf, "gradient flow": np.inf}
    if law == "langevin":
        posed.temperature = Schedule.of(1e-6)
    for _ in range(TRIALS):
        for name in least:
            ensemble, dynamics = Ensemble.sphere(m, posed.d, seed=1), LAWS[name](24)
            field = Field(posed, ensemble.dtype, 1)
            moments = field.predict(ensemble)
            start = time.process_time()
            for _ in range(24):
                moments = dynamics.step(field, ensemble, moments)
            least[name] = min(least[name], time.process_time() - start)
    return {"steps": least[law] / least["gradient flow"]}


def dynamics(options: claims.Options) -> None:
    m, lengths = (1024, (240, 100_000)) if options.full else (512, (240, 10_000))
    name = "dynamics" + "_full" * options.full
    minima = options.study(f"{name}_minima", minimum_cell).run({"problem": one} for one in PROBLEMS)
    bounds = {row["problem"]: row["proven_bound"] for row in minima}
    cases = [(one, law) for one in PROBLEMS for law in LAWS]
    rows = options.study(name, run_cell).run(
        {"problem": one, "law": law, "m": m, "steps": lengths[law != "implicit"], "bound": bounds[one]}
        for one, law in cases
    )
    costs = options.study(f"{name}_costs", cost_cell).run({"problem": one, "law": law, "m": m} for one, law in cases)
    write(rows, costs, minima, options, name)
    draw(rows, costs, options, name)


def write(rows: list[dict], costs: list[dict], minima: list[dict], options: claims.Options, name: str) -> None:
    """The table of the page, as Markdown."""
    cost = {(row["problem"], row["law"]): row["steps"] for row in costs}
    lines = [
        "| problem, gap of the bound | dynamics | " + " | ".join(f"{100 * e:g} %" for e in GAPS) + " | at the end |"
    ]
    lines.append("|---" * (len(GAPS) + 3) + "|")
    for row in rows:
        own = next(one for one in minima if one["problem"] == row["problem"])
        known = f"{PROBLEMS[row['problem']]}: {100 * (1 - own['proven_bound'] / own['attained']):.2g} %"
        each = cost[row["problem"], row["law"]]
        first = (row[f"steps_{epsilon:g}"] for epsilon in GAPS)
        cells = [f"{k} ({float(f'{k * each:.2g}'):.0f})" if k >= 0 else "–" for k in first]
        known = known.replace("|", "\\|") if row["law"] == "implicit" else ""
        lines.append(f"| {known} | {row['law']} | {' | '.join(cells)} | {100 * row['gap']:.2g} % |")
    (options.folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def draw(rows: Iterable[dict], costs: list[dict], options: claims.Options, name: str) -> None:
    """For each problem: the gap over the work to it."""
    cost = {(row["problem"], row["law"]): row["steps"] for row in costs}
    figure, axes = claims.page(len(PROBLEMS))
    for ax, (problem, title) in zip(axes, PROBLEMS.items(), strict=True):
        for i, law in enumerate(LAWS):
            (row,) = (one for one in rows if (one["problem"], one["law"]) == (problem, law))
            reached = [(row[f"steps_{e:g}"] * cost[problem, law], e) for e in GAPS if row[f"steps_{e:g}"] >= 0]
            if reached:
                ax.plot(*zip(*reached, strict=True), color=claims.COLOURS[i], marker=claims.MARKERS[i], ms=4, label=law)
        ax.set(xscale="log", yscale="log", xlabel="work, steps of gradient flow", ylabel="proven gap")
        ax.set_title(title, loc="left", fontsize=8)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=6, fontsize=7)
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"dynamics": dynamics})
