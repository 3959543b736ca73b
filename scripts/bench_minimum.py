#!/usr/bin/env python3
"""Time to 1 % above the lowest objective known: the default run against Adam in PyTorch, and `exact.optimum`.

    python scripts/bench_minimum.py --peer-python PEERS/bin/python              # the suite (scripts/minimum_suite.py)
    python scripts/bench_minimum.py "sin 3x" iris --limit 5 --peer-python PEERS/bin/python

Run and Adam start from the same particles (m on the unit sphere, float32) and use the same threads; both are warm. What
is counted: from the first step until a step starts, or the run ends, at L ≤ 1.01 times the lowest known, L at the
problem's own λ. The default run records every --every steps (what recording takes is counted; it stops on a record),
Adam sees L in every step's forward pass. Adam has the best of five learning rates, chosen afterwards for every problem
(scripts/peers_adam.py): the time of the search for it is not counted. `exact.optimum`'s rounds count from their first,
to the round whose network is as good; it makes no particles. Figures are medians of --repeats; who has not arrived at
the limit, or when a default run is over, counts as the limit. The geometric mean is that of Adam's over the run's.

Each problem's figures are kept in FILE.json as they come, and the table goes to stdout and FILE.md beside it. It has
every problem that was measured with the same particles, threads and repeats, each at its own limit: what a shorter one
cuts short is marked by it, and makes the mean a lower bound of that at a longer one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import claims
import minimum_suite
import numpy as np
from claim_minimum import chosen, digest, law_of, read
from minimum_suite import Case

from meanfield import Ensemble, simulate
from meanfield.errors import InputError
from meanfield.optimality.budget import Budget
from meanfield.optimality.conditional_gradient import Search
from meanfield.runtime.threads import default_threads
from meanfield.simulation.config import Config
from meanfield.storage.versions import describe_versions

ABOVE = 1.01
HEAD = ("problem", "n", "d", "C", "default run, s", "Adam, s", "rate", "Adam over run", "exact.optimum, s")


def seconds_of_run(case: Case, goal: float, options: argparse.Namespace) -> float | None:
    """From the first step to the goal; None if the run ends before, or at the limit."""
    problem, begun, arrived = case.problem, 0.0, None

    def look(ensemble: Ensemble, row: dict[str, float]) -> bool:
        nonlocal begun, arrived
        now = time.perf_counter()
        if row["step"] == 0:
            begun = now
        if row["risk"] + row["penalty"] * (case.reg / row["reg"]) <= goal:
            arrived = now - begun
        return arrived is not None or now - begun > options.limit

    start = Ensemble.sphere(options.m, problem.d, problem.outputs)
    result = simulate(problem, start, record_every=options.every, callback=look, threads=options.threads)
    end = time.perf_counter() - begun
    if arrived is None and end <= options.limit and problem.objective(result.ensemble).value <= goal:
        return end  # the last step, which no record saw
    return arrived


def seconds_of_optimum(case: Case, goal: float, options: argparse.Namespace) -> float | None:
    """Rounds of `exact.optimum`, from its usual number of starts, to the goal."""
    search = Search(case.problem, case.reg, threads=options.threads, budget=Budget(seconds=options.limit))
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < options.limit:
        if search.best[0] <= goal:
            return now
        if search.budget.over():
            return None
        search.round(search.peaks(200))
    return None


def seconds_of_adam(case: Case, goal: float, options: argparse.Namespace) -> dict[str, list[float | None]]:
    """Learning rate -> seconds of its runs, from the peer's process."""
    problem = case.problem
    start = Ensemble.sphere(options.m, problem.d, problem.outputs)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        np.savez(task, X=problem.X, y=problem.targets, U=start.u, w=start.w, loss=case.loss, reg=case.reg, goal=goal)
        command = [options.peer_python, Path(__file__).with_name("peers_adam.py"), task]
        command += ["--limit", options.limit, "--threads", options.threads, "--repeats", options.repeats]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, env=surroundings(options)
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--peer-python {options.peer_python}: exit status {done.returncode}: {last}")
    return json.loads(done.stdout)["seconds"]


def surroundings(options: argparse.Namespace) -> dict[str, str]:
    """The environment of a process of so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **{name: str(options.threads) for name in names}}


def goal_of(case: Case) -> float:
    """The objective to be reached."""
    return ABOVE * minimum_suite.known()[case.name].lowest


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a problem."""
    goal, problem = goal_of(case), case.problem
    small = Ensemble.sphere(256, problem.d, problem.outputs)
    simulate(problem, small, steps=3, record_every=1, threads=options.threads)
    ours = [seconds_of_run(case, goal, options)]
    Search(problem, case.reg, threads=options.threads, budget=Budget(work=1.0)).run(1.0, 10)
    optimum = [seconds_of_optimum(case, goal, options)]
    for seconds, ask in ((ours, seconds_of_run), (optimum, seconds_of_optimum)):
        more = options.repeats - 1 if seconds[0] is not None else 0  # who does not arrive need not fail three times
        seconds += [ask(case, goal, options) for _ in range(more)]
    return {"run": ours, "optimum": optimum, "adam": seconds_of_adam(case, goal, options)}


def counted(seconds: Sequence[float | None], limit: float) -> float:
    """The median, the limit in the place of what has not arrived."""
    return statistics.median(limit if one is None else min(one, limit) for one in seconds)


def best_of_adam(found: dict[str, list[float | None]], limit: float) -> tuple[float, str]:
    """The median of the best rate, and which; – where none has arrived."""
    rate = min(found, key=lambda one: (counted(found[one][:1], limit), float(one)))
    return counted(found[rate], limit), rate if found[rate][0] is not None else "–"


def shown(seconds: float, limit: float) -> str:
    return f"> {limit:g}" if seconds >= limit else f"{seconds:.3g}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """The table in Markdown and the geometric mean."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    ratios, arrived = [], {"default run": 0, "Adam": 0, "exact.optimum": 0}
    for case in minimum_suite.suite().values():
        if case.name not in results:
            continue
        found, problem = results[case.name], case.problem
        limit = found["asked"]["limit"]
        run, optimum = counted(found["run"], limit), counted(found["optimum"], limit)
        adam, rate = best_of_adam(found["adam"], limit)
        for name, seconds in zip(arrived, (run, adam, optimum), strict=True):
            arrived[name] += seconds < limit
        ratios.append(adam / run)
        cells = [case.name.replace("|", "\\|"), str(problem.n), str(problem.d), str(problem.outputs)]
        cells += [shown(run, limit), shown(adam, limit), rate, f"{ratios[-1]:.3g}", shown(optimum, limit)]
        lines.append("| " + " | ".join(cells) + " |")
    who = ", ".join(f"{name} {count}" for name, count in arrived.items())
    limits = " or ".join(f"{one:g}" for one in sorted({found["asked"]["limit"] for found in results.values()}))
    lines += ["", f"{len(ratios)} problems; within {100 * (ABOVE - 1):g} % in {limits} s: {who}."]
    lines += [f"Geometric mean of Adam's time over the default run's: {statistics.geometric_mean(ratios):.3g}."]
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="problems (default: all)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that imports torch")
    parser.add_argument("--m", type=int, default=Config().ensemble.m, help="particles (default: %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="steps between records (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds (default: %(default)g)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", default=claims.RESULTS / "minimum_race.json")
    options = parser.parse_args(arguments)
    for name in ("m", "every", "limit", "repeats", "threads"):
        if not getattr(options, name) > 0:
            raise InputError(f"--{name} {getattr(options, name)}: must be positive")
    return options


def run(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    results = read(options.json)
    races = results.setdefault("races", {})
    asked = {name: getattr(options, name) for name in ("m", "every", "limit", "repeats", "threads")}
    for case in chosen(options.names):
        question = {**asked, "law": law_of(case), "data": digest(case), "goal": goal_of(case)}
        if races.get(case.name, {}).get("asked") != question:
            races[case.name] = {"asked": question, **measure(case, options)}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"races": races, "versions": describe_versions()}, indent=1) + "\n"
            minimum_suite.write_text(options.json, text)
            print(f"{case.name}: {counted(races[case.name]['run'], options.limit):.3g} s", file=sys.stderr, flush=True)
    del asked["limit"]
    held = {name: found for name, found in races.items() if found["asked"].items() >= asked.items()}
    text = table(held)
    versions = ", ".join(f"{name} {value}" for name, value in describe_versions().items())
    text += f"\n({options.m} particles, {options.threads} threads, medians of {options.repeats}. {versions}.)\n"
    minimum_suite.write_text(options.json.with_suffix(".md"), text)
    print(text, end="")


def main() -> None:
    try:
        run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
