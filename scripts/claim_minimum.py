#!/usr/bin/env python3
"""The default run against the lowest objective known, on every problem of the suite (scripts/minimum_suite.py).

    python scripts/claim_minimum.py                          # all problems, as `simulate` runs them by default
    python scripts/claim_minimum.py "sin 3x" iris --m 1024   # some of them, smaller
    python scripts/claim_minimum.py --explicit               # beside it 4000 steps of Langevin, 20 minutes at most
    python scripts/claim_minimum.py --references             # look for lower objectives first, by other methods

A run's time is that of `simulate`, after a few steps on the same problem so that nothing is compiled in it. Results are
kept in FILE.json as they come, and a run that is there already, of the same problem, size and default dynamics, is not
done again; the table, of all problems that have a result, goes to stdout and to FILE.md beside it. `--references` may
take about the given seconds a problem, and writes what it finds lower into scripts/minimum_suite.json.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import claims
import minimum_references
import minimum_suite
import numpy as np
from minimum_suite import Case, Known

from meanfield import Ensemble, Langevin, simulate
from meanfield.dynamics import Dynamics
from meanfield.errors import DivergenceError, InputError, did_you_mean
from meanfield.simulation.config import Config
from meanfield.storage.versions import describe_versions

EXPLICIT_STEPS, EXPLICIT_SECONDS = 4000, 1200.0
WITHIN = (2e-3, 1e-2)
HEAD = ("problem", "n", "d", "C", "loss", "λ", "lowest known", "bound", "default run", "ratio", "s")
EXPLICIT_HEAD = ("explicit", "s")

Results = dict[str, dict[str, dict[str, Any]]]  # kind of work -> problem -> what was asked, and what came out


@functools.cache
def default_law(example: str) -> str:
    """What a default run is, as far as the particles that a short one ends with tell: results are of that law."""
    problem = minimum_suite.suite()[example].problem
    end = simulate(problem, Ensemble.sphere(64, problem.d, problem.outputs), steps=24, final_gap=False).ensemble
    state = hashlib.sha256(np.concatenate([end.w, end.u], axis=1).tobytes()).hexdigest()[:16]
    usual = inspect.signature(simulate).parameters["steps"].default
    return f"state {state} after 24 steps, steps {usual}"


def law_of(case: Case) -> str:
    """The law on problems with as many outputs: of several, output weights are fitted too."""
    return default_law("sin 3x" if case.problem.outputs == 1 else "linnerud, raw")


def digest(case: Case) -> str:
    """Of all that the problem is."""
    found = hashlib.sha256(f"{case.loss} {case.reg!r}".encode())
    for array in (case.X, case.y):
        found.update(np.ascontiguousarray(array, dtype=float).tobytes())
    return found.hexdigest()[:16]


def timed(case: Case, m: int, law: Dynamics | None = None, **how: Any) -> dict[str, Any]:
    """L at the end of a run and the seconds it took; what made it fail, if its numbers left the range."""
    problem = case.problem
    warm, start = (Ensemble.sphere(size, problem.d, problem.outputs) for size in (256, m))
    simulate(problem, warm, law, **{**how, "steps": 3})
    begun = time.perf_counter()
    try:
        result = simulate(problem, start, law, **how)
    except DivergenceError as error:
        return {"failed": str(error), "seconds": time.perf_counter() - begun}
    if result.stopped.startswith("SIG"):
        raise InterruptedError(f"{case.name}: {result.stopped} ended the run: it is no result")
    seconds = time.perf_counter() - begun
    value = problem.objective(result.ensemble).value
    ended = {"steps": result.ensemble.step, "dynamics": result.dynamics.name, "stopped": result.stopped}
    return {"objective": value, "seconds": seconds, **ended}


def default_run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Whatever `simulate` does when nothing is said."""
    steps = {} if options.steps is None else {"steps": options.steps}
    return timed(case, options.m, threads=options.threads, **steps)


def explicit_run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Noisy gradient descent, its step and its annealing as they come; given up after `EXPLICIT_SECONDS`."""
    how = {"steps": EXPLICIT_STEPS, "max_time": EXPLICIT_SECONDS, "threads": options.threads}
    return timed(case, options.m, Langevin(), **how)


def references(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Search, and lower what the suite knows."""
    known = minimum_suite.known()
    before = known.get(case.name)
    known[case.name], by_method = minimum_references.search(case, before, options.seconds, options.threads)
    minimum_suite.keep(known)
    return {"by_method": by_method, "lowest": known[case.name].lowest, "before": before and before.lowest}


def work(
    kind: str,
    task: Callable[[Case, argparse.Namespace], dict[str, Any]],
    asked: Callable[[Case], dict[str, Any]],
    options: argparse.Namespace,
) -> None:
    """Do a task on the problems that have no result of what is asked, and keep each result as it comes."""
    results = read(options.json)
    held = results.setdefault(kind, {})
    for case in options.cases:
        question = {**asked(case), "data": digest(case)}
        if held.get(case.name, {}).get("asked") == question:
            continue
        found = task(case, options)
        held[case.name] = {"asked": question, **found}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        minimum_suite.write_text(
            options.json, json.dumps({**results, "versions": describe_versions()}, indent=1) + "\n"
        )
        words = ", ".join(f"{key} {found[key]:.6g}" for key in ("objective", "lowest", "seconds") if key in found)
        print(f"{kind}: {case.name}: {found.get('failed', words)}", file=sys.stderr, flush=True)


def read(path: Path) -> Results:
    """The results of a file, none if it is missing. InputError: a file that holds something else."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not (isinstance(found, dict) and all(isinstance(part, dict) for part in found.values())):
        raise InputError(f"{path}: not results of this script")
    return found


def bound_text(known: Known) -> str:
    """The bound over the lowest known, p proven, e estimated."""
    if known.lower_bound is None:
        return "–"
    return f"{known.lower_bound / known.lowest:.5f} {'p' if known.proven else 'e'}"


def ratio_cells(found: dict[str, Any] | None, lowest: float, with_value: bool) -> list[str]:
    """Objective (on demand), its ratio to the lowest known, seconds."""
    if found is None or "failed" in found:
        what = "–" if found is None else "failed"
        return [what] * (2 if with_value else 1) + ["–" if found is None else f"{found['seconds']:.1f}"]
    value = [f"{found['objective']:.6g}"] if with_value else []
    more = "> " if found.get("stopped") == "max_time" else ""
    return [*value, f"{found['objective'] / lowest:.4f}", f"{more}{found['seconds']:.1f}"]


def table(results: Results, known: dict[str, Known]) -> str:
    """The table in Markdown of all problems that were run, in the order of the suite, and what it comes to."""
    runs, explicit = results.get("default", {}), results.get("explicit", {})
    cases = [case for case in minimum_suite.suite().values() if case.name in runs and case.name in known]
    with_explicit = any(case.name in explicit for case in cases)
    head = HEAD + (EXPLICIT_HEAD if with_explicit else ())
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for case in cases:
        problem, held = case.problem, known[case.name]
        cells = [case.name.replace("|", "\\|"), *map(str, (problem.n, problem.d, problem.outputs))]
        cells += [case.loss.replace("_", "-"), f"{case.reg:.0e}", f"{held.lowest:.6g}", bound_text(held)]
        cells += ratio_cells(runs[case.name], held.lowest, True)
        if with_explicit:
            cells += ratio_cells(explicit.get(case.name), held.lowest, False)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", summary("The default run", runs, known, cases)]
    if with_explicit:
        lines += [summary(f"{EXPLICIT_STEPS} explicit steps", explicit, known, cases)]
    return "\n".join([*lines, "", settings(results)]) + "\n"


def ratios(found: dict[str, dict[str, Any]], known: dict[str, Known], cases: Sequence[Case]) -> dict[str, float]:
    """Problem -> objective over the lowest known; infinite where the run failed."""
    return {
        case.name: found[case.name].get("objective", np.inf) / known[case.name].lowest
        for case in cases
        if case.name in found
    }


def summary(what: str, found: dict[str, dict[str, Any]], known: dict[str, Known], cases: Sequence[Case]) -> str:
    """How many end within each of `WITHIN` of the lowest known, and which ended below it."""
    over = ratios(found, known, cases)
    counts = ", ".join(
        f"{sum(ratio <= 1 + part for ratio in over.values())} within {100 * part:g} %" for part in WITHIN
    )
    below = [name for name, ratio in over.items() if ratio < 1 - 1e-6]
    lower = f" Below the lowest known: {', '.join(below)}." if below else ""
    worst = max(over, key=lambda name: over[name])
    return f"{what}: {len(over)} problems, {counts}; the worst is {worst} at {over[worst]:.4f}.{lower}"


def settings(results: Results) -> str:
    """With which sizes, versions and processor it was measured."""
    said = {json.dumps(run["asked"]["m"]) + " particles" for run in results["default"].values()}
    said |= {f"{run['dynamics']}, {run['steps']} steps" for run in results["default"].values() if "steps" in run}
    said |= {f"{run['asked']['threads'] or 'all'} threads" for run in results["default"].values()}
    versions = ", ".join(f"{name} {value}" for name, value in results.get("versions", {}).items())
    return f"({'; '.join(sorted(said))}. {versions}.)"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="problems (default: all)")
    parser.add_argument("--m", type=int, default=Config().ensemble.m, help="particles (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of the default run (default: its own)")
    parser.add_argument("--explicit", action="store_true", help=f"time {EXPLICIT_STEPS} steps of Langevin too")
    parser.add_argument("--references", action="store_true", help="look for lower objectives, by other methods")
    parser.add_argument("--seconds", type=float, default=100.0, help="of that for a problem (default: %(default)g)")
    parser.add_argument("--threads", type=int, help="default: the cores that this process may use")
    parser.add_argument("--json", type=Path, metavar="FILE", default=claims.RESULTS / "minimum.json", help="results")
    options = parser.parse_args(arguments)
    for name in ("m", "steps", "seconds", "threads"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise InputError(f"--{name} {value:g}: must be positive")
    options.cases = chosen(options.names)
    return options


def chosen(names: Sequence[str]) -> list[Case]:
    """The problems of these names, all if there are none. InputError: no problem of the suite."""
    cases = minimum_suite.suite()
    for name in names:
        if name not in cases:
            hint = did_you_mean(name, cases, "python scripts/minimum_suite.py lists them")
            raise InputError(f"{name!r}: no problem of the suite{hint}")
    return [cases[name] for name in names or cases]


def run(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.references:
        work("references", references, lambda case: {"seconds": options.seconds}, options)
    size = {"m": options.m, "threads": options.threads}
    work("default", default_run, lambda case: {**size, "steps": options.steps, "law": law_of(case)}, options)
    if options.explicit:
        work("explicit", explicit_run, lambda case: {**size, "bits": describe_versions()["bits"]}, options)
    text = table(read(options.json), minimum_suite.known())
    minimum_suite.write_text(options.json.with_suffix(".md"), text)
    print(text, end="")


def main() -> None:
    try:
        run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except InterruptedError as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
