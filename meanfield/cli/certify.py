"""`meanfield certify`: how far from the global minimum a run's ensemble is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..runtime.communicator import world
from ._tables import number, print_json, table

_MEANING = {
    "exact": "proven: all cells of the hyperplane arrangement that could hold more were examined",
    "proven": "proven: an upper bound on the pull of every direction",
    "estimate": "an estimate: from the highest pull found, not from a proof that there is none higher",
}


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option(
    "--effort",
    type=float,
    default=1.0,
    show_default=True,
    metavar="E",
    help="Work to do; 1 is about five seconds of one core.",
)
@click.option("--seconds", type=float, metavar="LIMIT", help="Stop there if the work takes longer (default: no limit).")
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "proven", "estimate"]),
    default="auto",
    show_default=True,
    help="How to bound the pull of all directions.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads (default: the cores this process may use).")
def certify(path: Path, as_json: bool, effort: float, seconds: float | None, method: str, threads: int | None) -> int:
    """Bound the gap between the objective of a run's ensemble and the global minimum.

    The answer is the same every time, unless a limit in --seconds cuts the work short; then it says so.
    """
    from ..simulation.run import load

    run = load(path, ranks=world())
    if run.problem.temperature(run.ensemble.step) > 0:
        return _free_energy(run, path, as_json, threads)
    from ..optimality.certificate import certify as bound

    found = bound(run.problem, run.ensemble, effort=effort, seconds=seconds, method=method, threads=threads)
    keys = _keys(found, run.ensemble.step, path)
    if as_json:
        print_json(keys)
    else:
        _show(found, keys)
    return 0


def _keys(found: Any, step: int, path: Path) -> dict[str, Any]:
    """What `--json` prints of a certificate."""
    loose = None if found.proven_norm is None else found.proven_norm / max(found.best_norm, 1e-300) - 1
    return {
        "step": step,
        "reg": found.reg,
        "primal": found.primal,
        "lower_bound": found.lower_bound,
        "gap": found.gap,
        "relative_gap": found.relative_gap,
        "rigorous": found.rigorous,
        "method": found.method,
        "max_norm": found.max_norm,
        "proven_looseness": loose,
        "allowance": found.allowance,
        "violation": found.violation,
        "proven_bound": found.proven_bound,
        "estimated_bound": found.estimated_bound,
        "direction": found.direction.tolist(),
        "seconds": found.seconds,
        "cut_short": found.cut_short,
        "out": str(path),
    }


def _show(found: Any, keys: dict[str, Any]) -> None:
    """The same as a table."""
    loose = keys["proven_looseness"]
    kind = "lower bound" if found.rigorous else "lower bound (estimate)"
    rows = [
        (f"step {keys['step']}, λ = {found.reg:.3g}", ""),
        ("objective L", number(found.primal)),
        (f"{kind} of min L", number(found.lower_bound)),
        ("relative gap" if found.rigorous else "relative gap (estimate)", f"{100 * found.relative_gap:.3g} %"),
    ]
    if not found.rigorous and found.proven_bound is not None and loose is not None:
        rows.append(("proven lower bound of min L", number(found.proven_bound)))
        rows.append(("  its bound on the pull is loose by up to", f"{100 * loose:.3g} %"))
    print(table(rows))
    print(f"\nmethod: {found.method} ({_MEANING[found.method]})")
    if found.cut_short:
        print("stopped by --seconds before its work was done: more time can give a better bound")


def _free_energy(run: Any, path: Path, as_json: bool, threads: int | None) -> int:
    from ..optimality.free_energy_gap import certify_free_energy

    found = certify_free_energy(run.problem, run.ensemble, threads=threads)
    keys = {
        "step": run.ensemble.step,
        "reg": found.reg,
        "temperature": found.temperature,
        "rigorous": False,
        "method": found.method,
        "lower_bound": found.lower_bound,
        "standard_error": found.standard_error,
        "effective_sample_size": found.effective,
        "gap": found.gap,
        "consistency": found.consistency,
        "min_q": found.min_q,
        "out": str(path),
    }
    if as_json:
        print_json(keys)
        return 0
    error = "" if found.standard_error is None else f" ± {found.standard_error:.2g}"
    print(
        table(
            [
                (f"step {run.ensemble.step}, λ = {found.reg:.3g}, τ = {found.temperature:.3g}", ""),
                ("lower bound (estimate) of min F_τ", number(found.lower_bound) + error),
                ("free-energy gap of the Gibbs measure of its residual", number(found.gap)),
                ("Gibbs consistency ‖f(a) − f‖ / ‖f‖", number(found.consistency)),
                ("effective sample size", f"{found.effective:.0f}"),
            ]
        )
    )
    print(f"\nmethod: {found.method}")
    return 0
