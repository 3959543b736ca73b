"""`meanfield certify`: how far from the global minimum a run's ensemble is, and the check of a proof of that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, printable
from ..runtime.communicator import world
from ._tables import number, print_json, table

_MEANING = {
    "exact": "proven: the highest pull of all directions is known to a millionth",
    "proven": "proven: an upper bound on the pull of every direction",
    "estimate": "an estimate: from the highest pull found, not from a proof that there is none higher",
    "none": "nothing is proven",
}


@click.command()
@click.argument("path", metavar="[RUN.h5]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option(
    "--effort",
    type=float,
    metavar="E",
    help="Work to do: 1, the default, is about five seconds of one core for the search and at most twenty for a proof.",
)
@click.option("--seconds", type=float, metavar="LIMIT", help="Stop there if the work takes longer (default: no limit).")
@click.option(
    "--until-gap",
    type=float,
    metavar="GAP",
    help="Go on until the relative gap is proven to be this small, such as 1e-3, however long that takes unless "
    "--effort or --seconds say otherwise.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "proven", "estimate"]),
    default="auto",
    show_default=True,
    help="auto: a proof if a tight one can be had, else an estimate and the proof beside it; exact, proven: nothing "
    "but a proof, whose bound is reached, or may be loose; estimate: no proof.",
)
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Keep the proof there, for --verify.")
@click.option(
    "--verify",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check a proof that was kept, in seconds and without searching; RUN.h5 is not needed, and if given must be "
    "the run that it is of. Status 0: it holds, 1: it does not.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads (default: the cores this process may use).")
def certify(*, path: Path | None, as_json: bool, verify: Path | None, threads: int | None, **wanted: Any) -> int:
    """Bound the gap between the objective of a run's ensemble and the global minimum.

    The answer is the same every time, unless a limit in --seconds cuts the work short; then it says so. On a terminal
    the proof shows what it has so far.
    """
    if verify is not None:
        return _verify(verify, path, as_json, threads, wanted)
    if path is None:
        raise InputError("certify: needs RUN.h5, or --verify FILE")
    from ..simulation.run import load

    run = load(path, ranks=world())
    schedule = run.problem.temperature
    if schedule(run.ensemble.step) > 0 and not schedule.end < schedule.start:
        for option in ("until_gap", "save"):
            if wanted[option] is not None:
                raise InputError(
                    f"--{option.replace('_', '-')}: at a temperature τ > 0 that does not fall there is no proof"
                )
        return _free_energy(run, path, as_json, threads)
    return _certify(run, path, as_json, threads, **wanted)


def _certify(
    run: Any, path: Path, as_json: bool, threads: int | None, *, quiet: bool, save: Path | None, **wanted: Any
) -> int:
    """The bound of L, at τ = 0 whatever the temperature of the run."""
    from ..optimality.certificate import certify as bound
    from ..optimality.proof_file import check_place, save_proof

    if save is not None:
        if wanted["method"] == "estimate":
            raise InputError("--save: --method estimate has no proof that could be kept")
        run.ensemble.span.ranks.once(lambda: check_place(save))
    with _Anytime(not (quiet or as_json) and sys.stderr.isatty()) as line:
        found = bound(run.problem, run.ensemble, threads=threads, keep=save is not None, watch=line.show, **wanted)
    keys = _keys(found, run, path)
    if as_json:
        print_json(keys)
    else:
        _show(found, keys)
    if save is not None:
        save_proof(save, run.problem, run.ensemble, found)
        if not as_json:
            from ..simulation.output import quoted

            print(f"proof kept: meanfield certify --verify {printable(quoted(save))}")
    return 0


class _Anytime:
    """A line on stderr, rewritten in place while a proof goes on, and erased at its end; nothing unless `shown`."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def __enter__(self) -> _Anytime:
        self._write("looking for the pull that is hardest to bound …")
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def show(self, lower_bound: float, relative_gap: float, cells: int) -> None:
        gap = f"{100 * relative_gap:.3g} %"
        self._write(f"proven so far: min L ≥ {lower_bound:.6g}, relative gap {gap}, open cells {cells}")

    def _write(self, text: str) -> None:
        if self.shown:
            print(f"\r{text[:79]}\x1b[K", end="", file=sys.stderr, flush=True)


def _verify(proof: Path, path: Path | None, as_json: bool, threads: int | None, wanted: dict[str, Any]) -> int:
    """The check of a proof that was kept; of this run, if one is given."""
    from ..optimality.proof_file import verify_proof
    from ..simulation.run import load

    for option in ("effort", "seconds", "until_gap", "save"):
        if wanted[option] is not None:
            raise InputError(f"--verify: searches nothing, so that --{option.replace('_', '-')} has no meaning with it")
    ranks = world()
    found = ranks.once(lambda: verify_proof(proof, threads=threads))
    run = None if path is None else load(path, ranks=ranks)
    of_run = None if run is None else found.is_of(run.problem, run.ensemble)
    holds = found.holds and of_run is not False
    keys = {
        "step": found.step,
        "reg": found.problem.reg.end,
        "primal": found.primal,
        "lower_bound": found.lower_bound,
        "claim": found.claim,
        "relative_gap": found.relative_gap,
        "rigorous": found.method != "none",
        "method": found.method,
        "max_norm": found.max_norm,
        "cells": found.cells,
        "holds": holds,
        "reason": found.reason if of_run is not False else f"it is not of {path}",
        "of_run": of_run,
        "ensemble_sha256": found.ensemble_sha256,
        "seconds": found.seconds,
        "out": proof,
    }
    if as_json:
        print_json(keys)
    else:
        _show_verified(keys, found.problem)
    return 0 if holds else 1


def _show_verified(keys: dict[str, Any], problem: Any) -> None:
    rows = [
        (f"n = {problem.n}, d = {problem.d}, {problem.loss}, λ = {keys['reg']:.3g}", ""),
        ("lower bound of min L", number(keys["lower_bound"])),
        ("  as claimed", number(keys["claim"])),
        (f"objective L at step {keys['step']}, as stated", number(keys["primal"])),
        ("relative gap", f"{100 * keys['relative_gap']:.3g} %"),
    ]
    print(table(rows))
    print(f"\nmethod: {keys['method']} ({_MEANING[keys['method']]})")
    verdict = "the proof holds" if keys["holds"] else f"the proof does not hold: {keys['reason']}"
    print(f"{verdict} ({keys['cells']} cells, {keys['seconds']:.2g} s)")


def _keys(found: Any, run: Any, path: Path) -> dict[str, Any]:
    """What `--json` prints of a certificate."""
    loose = None if found.proven_norm is None else found.proven_norm / max(found.best_norm, 1e-300) - 1
    step = run.ensemble.step
    return {
        "step": step,
        "reg": found.reg,
        "temperature": run.problem.temperature(step),
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
    if keys["temperature"] > 0:
        print(f"at τ = 0: the run's temperature falls, and is {keys['temperature']:.3g} at this step")
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
        "proven_bound": found.proven_bound,
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
                ("  proven", number(found.proven_bound)),
                ("free-energy gap of the Gibbs measure of its residual", number(found.gap)),
                ("Gibbs consistency ‖f(a) − f‖ / ‖f‖", number(found.consistency)),
                ("effective sample size", f"{found.effective:.0f}"),
            ]
        )
    )
    print(f"\nmethod: {found.method}")
    return 0
