#!/usr/bin/env python3
"""Seven dynamics on three small problems: how many steps, and how much work, to a certified gap.

    python scripts/claim_dynamics.py          the table and the figure of docs/claims/dynamics.md

All runs on a draw begin at the same particles and minimize at the same constant λ. The gap is 1 − B/L with the lower
bound B that `certify` proves at the network of `exact.optimum`, so that it is a proven bound on the gap of each state.
Steps are the same everywhere, but for the bilevel method's, which uses the BLAS; work is steps times what a step costs
beside one of gradient flow, in processor time, measured in one process. Figures are medians over the draws, of data and
particles.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import field as parameter
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
from meanfield.dynamics import Dynamics, Field, exponential_move
from meanfield.dynamics.coupling import Balance, Coupling, Gates
from meanfield.dynamics.masses import put, take
from meanfield.engine.engine import Moments, Move
from meanfield.studies.comparison import paper_problem

GAPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
LOOKS = 400  # states of a run that are looked at
TRIALS = 7
LONG, STEPS = 10_000, {"implicit": 240, "bilevel": 1000}  # of a run, but of those that take more for a step
DRAWS = 5
HALVINGS = 40
PROBLEMS = {
    "line": "10 + |x|, 40 points, squared",
    "xor": "the paper's data, d 5, n 40, logistic",
    "noise": "random labels, d 3, n 40, logistic",
}


@dataclass(frozen=True, repr=False)
class Bilevel(Dynamics):
    """The flow of u alone, down min_w L: output weights are the best for the u that are there, in every step.

    The bilevel reduction of arXiv 2406.17054, here without noise and of λ(‖u‖² + w²). With a_j = relu(X u_j) the best
    are w_j = −⟨r, a_j⟩/2λ, r = R'(f), f = −(1/2λ m) Σ a_j a_jᵀ r: a balance in n numbers. The slope of the minimum by u
    is that of L at them. η is halved until the step descends, and doubled for the next. One output.
    """

    rates: tuple[float, float] = parameter(default=(1.0, 0.0), kw_only=True)
    name = "bilevel"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, 0.0)

    def fitted(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        """Put the best output weights; the moments then."""
        problem, m, d = field.problem, ensemble.m, ensemble.d
        everyone, reg = np.arange(m), problem.reg(ensemble.step)
        rows = take(ensemble, everyone)
        active = np.maximum(rows[:, :d] @ problem.X.T, 0.0)
        gates = Gates(
            problem.X, field.plain.inner, np.zeros_like(active), active, np.zeros((m, 1)), np.full(m, 1.0 / m)
        )
        balance = Balance(problem.loss, problem.targets, 0 * moments.f, Coupling.of(gates), 1 / (2 * reg))
        rows[:, d:] = -(active @ balance.solution(field.residual(moments))) / (2 * reg)
        put(ensemble, everyone, rows)
        return field.predict(ensemble)

    def step(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        memory, everyone, reg = ensemble.memory, np.arange(ensemble.m), field.problem.reg(ensemble.step)
        if "step_size" not in memory:
            moments = self.fitted(field, ensemble, moments)
            memory["step_size"] = self.eta(field, ensemble, moments, field.residual(moments))
        before, rows = field.problem.evaluate(moments.f, moments.second, reg).value, take(ensemble, everyone)
        eta, after = memory["step_size"], moments
        for _ in range(HALVINGS):
            moves = self.moves(eta, field.problem, ensemble)
            after = field.engine.advance(
                ensemble.particles, field.residual(moments), moves, ensemble.seed, ensemble.step
            )
            after = self.fitted(field, ensemble, after)
            if field.problem.evaluate(after.f, after.second, reg).value <= before:
                break
            put(ensemble, everyone, rows)
            eta, after = 0.5 * eta, moments
        memory["step_size"] = 2 * eta
        ensemble.step += 1
        ensemble.time += eta
        return field.current(ensemble, after)


LAWS: dict[str, Callable[[int], Dynamics]] = {
    "implicit": lambda steps: Implicit(cooled_at=steps),
    "gradient flow": lambda steps: GradientFlow(),
    "langevin": lambda steps: Langevin(),
    "momentum": lambda steps: KineticLangevin(friction=0.1),
    "birth and death": lambda steps: BirthDeath(exchange_rate=1.0),
    "perturbed flow": lambda steps: PerturbedFlow(rebirth_rate=1e-4),
    "bilevel": lambda steps: Bilevel(),
}


def problem_of(name: str, draw: int = 0) -> Problem:
    """The problem, without noise; that of the line has one draw of data."""
    if name == "line":
        x = np.linspace(-1, 1, 40)
        return Problem(np.column_stack([x, np.ones(40)]), 10 + abs(x), loss="squared", reg=1e-3)
    if name == "xor":
        return paper_problem(40, 5, draw, reg=5e-3)
    rng = np.random.default_rng(draw)
    return Problem(rng.standard_normal((40, 3)), rng.integers(0, 2, 40), reg=1e-3)


def start_of(problem: Problem, m: int, draw: int) -> Ensemble:
    """Particles uniform on the unit sphere."""
    return Ensemble.sphere(m, problem.d, seed=1 + draw)


def minimum_cell(problem: str, draw: int) -> dict[str, Any]:
    return claims.proven_minimum(problem_of(problem, draw), effort=1.0)


def run_cell(problem: str, law: str, m: int, steps: int, draw: int, bound: float) -> dict[str, Any]:
    """First step whose gap is at most ε, for every ε of GAPS, −1 if there is none; and the gap at the end."""
    posed = problem_of(problem, draw)
    start = start_of(posed, m, draw)
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
            ensemble, dynamics = start_of(posed, m, 0), LAWS[name](24)
            field = Field(posed, ensemble.dtype, 1)
            moments = field.predict(ensemble)
            start = time.process_time()
            for _ in range(24):
                moments = dynamics.step(field, ensemble, moments)
            least[name] = min(least[name], time.process_time() - start)
    return {"steps": least[law] / least["gradient flow"]}


def dynamics(options: claims.Options) -> None:
    m, more = (1024, 10) if options.full else (512, 1)
    name = "dynamics" + "_full" * options.full
    drawn = [{"problem": one, "draw": draw} for one in PROBLEMS for draw in range(DRAWS)]
    minima = options.study(f"{name}_minima", minimum_cell).run(drawn)
    bounds = {(row["problem"], row["draw"]): row["proven_bound"] for row in minima}
    rows = options.study(name, run_cell).run(
        {
            "problem": one,
            "law": law,
            "m": m,
            "steps": STEPS[law] if law == "implicit" else STEPS.get(law, LONG) * more,
            "draw": draw,
            "bound": bounds[one, draw],
        }
        for one in PROBLEMS
        for law in LAWS
        for draw in range(DRAWS)
    )
    costs = options.study(f"{name}_costs", cost_cell).run(
        {"problem": one, "law": law, "m": m} for one in PROBLEMS for law in LAWS
    )
    write(rows, costs, minima, options, name)
    draw_figure(rows, costs, options, name)


def steps_to(rows: Iterable[dict], problem: str, law: str, epsilon: float) -> float:
    """The median over the draws; infinite where half of them do not arrive."""
    own = (row for row in rows if (row["problem"], row["law"]) == (problem, law))
    found = (row[f"steps_{epsilon:g}"] for row in own)
    return float(np.median([k if k >= 0 else np.inf for k in found]))


def write(rows: list[dict], costs: list[dict], minima: list[dict], options: claims.Options, name: str) -> None:
    """The table of the page, as Markdown."""
    table = []
    for row in costs:
        problem, law = row["problem"], row["law"]
        loose = max(1 - one["proven_bound"] / one["attained"] for one in minima if one["problem"] == problem)
        ends = [100 * one["gap"] for one in rows if (one["problem"], one["law"]) == (problem, law)]
        first = [steps_to(rows, problem, law, epsilon) for epsilon in GAPS]
        work = [float(f"{k * row['steps']:.2g}") for k in first]
        cells = [f"{k:.0f} ({spent:.0f})" if k < np.inf else "–" for k, spent in zip(first, work, strict=True)]
        known = f"{PROBLEMS[problem]}: {100 * loose:.2g} %".replace("|", "\\|") if law == "implicit" else ""
        table.append([known, law, *cells, f"{np.median(ends):.2g} % ({max(ends):.2g} %)"])
    head = ["problem, gap of the bound", "dynamics", *(f"{100 * e:g} %" for e in GAPS), "at the end (the worst)"]
    (options.folder / f"{name}.md").write_text(claims.marked(head, table), encoding="utf-8")
    claims.table(head, table)


def draw_figure(rows: list[dict], costs: list[dict], options: claims.Options, name: str) -> None:
    """For each problem: the gap over the work to it."""
    cost = {(row["problem"], row["law"]): row["steps"] for row in costs}
    figure, axes = claims.page(len(PROBLEMS))
    for ax, (problem, title) in zip(axes, PROBLEMS.items(), strict=True):
        for i, law in enumerate(LAWS):
            reached = [(steps_to(rows, problem, law, e) * cost[problem, law], e) for e in GAPS]
            reached = [one for one in reached if one[0] < np.inf]
            if reached:
                ax.plot(*zip(*reached, strict=True), color=claims.COLOURS[i], marker=claims.MARKERS[i], ms=4, label=law)
        ax.set(xscale="log", yscale="log", xlabel="work, steps of gradient flow", ylabel="proven gap")
        ax.set_title(title, loc="left", fontsize=8)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=7, fontsize=7)
    claims.save(figure, name, options)


if __name__ == "__main__":
    claims.main(__doc__, {"dynamics": dynamics})
