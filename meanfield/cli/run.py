"""`meanfield run` and `meanfield resume`."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, printable
from ..runtime.communicator import Alone, world
from ..runtime.durations import format_duration, parse_duration
from ..simulation.toml import load_config
from ._tables import mebibytes, network_table, percent, print_json, result_keys, shown_path

_ESTIMATE = "relative gap (estimate)"  # what a run's trace has recorded


class Duration(click.ParamType):
    """Seconds, from "90", "30s", "10min", "2h", "1h30m"."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value if not value.replace(".", "", 1).isdigit() else value + "s")
        except InputError as error:
            raise InputError(f"--max-time {error}") from None


_shared = [
    click.option("--threads", type=click.IntRange(1, 4096), help="Threads (default: the cores this process may use)."),
    click.option("--max-time", type=Duration(), help="Save and stop with status 75 after this long: 30s, 10min, 2h."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there."),
    click.option("--quiet", is_flag=True, help="No progress on stderr, only warnings."),
    click.option("--no-gap", is_flag=True, help="Do not estimate at the end how far from the minimum the run is."),
]


def _options(function: Any) -> Any:
    for option in reversed(_shared):
        function = option(function)
    return function


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run file to write (default: run-DATE-TIME.h5).")
@click.option("--force", is_flag=True, help="Overwrite an existing file, also one that another host has locked.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key of the configuration.")
@click.option(
    "--ntk", is_flag=True, help="Fit the NTK of the same neuron to the same data and show it beside the network."
)
@click.option("--plot", is_flag=True, help="Draw the convergence figure beside the run file.")
@click.option(
    "--dry-run", is_flag=True, help="Read the data, show the sizes of the run and the time expected, and do not run it."
)
@_options
def run(
    *,
    config: Path | None,
    out: Path | None,
    force: bool,
    overrides: tuple[str, ...],
    ntk: bool,
    plot: bool,
    dry_run: bool,
    threads: int | None,
    max_time: float | None,
    as_json: bool,
    quiet: bool,
    no_gap: bool,
) -> int:
    """Simulate what CONFIG.toml describes; without it, the paper's problem.

    The run is kept in one HDF5 file. Ctrl-C saves and stops; `meanfield resume` goes on exactly there.
    """
    began = time.monotonic()
    ranks = world()

    def read() -> tuple[Any, Path]:
        from ..simulation.output import new_name

        wanted = load_config(config, overrides, named="--set"), out or new_name(".")
        _check_output(wanted[1], force)
        return wanted

    loaded, out = ranks.once(read)
    from ..simulation.loop import run_to_end
    from ..simulation.new_run import new_run_from_config

    _check_alike(ranks)
    begun = new_run_from_config(loaded, ranks=ranks, draw=not dry_run)
    if dry_run:
        return _show_plan(begun, out, as_json, threads)
    left = None if max_time is None else max(0.0, max_time - (time.monotonic() - began))
    progress = _progress(quiet, as_json)
    result = run_to_end(
        begun, out, force=force, threads=threads, max_time=left, progress=progress, final_gap=not no_gap
    )
    return _finish(out, result, as_json, quiet, ntk=ntk, plot=plot)


def _show_plan(run: Any, out: Path, as_json: bool, threads: int | None) -> int:
    """What a run would take and write."""
    from ..simulation.plan import Plan, expected_seconds

    seconds = expected_seconds(run, threads)
    plan, problem, m = Plan.of(run), run.problem, run.ensemble.m
    n_test, steps = problem.n_test, run.config.run.steps
    sizes = {"n": problem.n, "d": problem.d, "outputs": problem.outputs, "n_test": n_test, "m": m, "steps": steps}
    if as_json:
        taken = {"memory": plan.memory, "file": plan.file, "seconds": seconds}
        print_json({**sizes, **plan._asdict(), **taken, "out": out})
        return 0
    parts = {name: value for name, value in plan._asdict().items() if name != "rows"}
    held = ", ".join(f"{name} {mebibytes(value)}" for name, value in parts.items() if value)
    every = run.config.run.checkpoint_every
    often = f"{every} steps" if isinstance(every, int) else every
    rows = [
        ("examples", f"n {problem.n}, d {problem.d}, outputs {problem.outputs}, of tests {n_test}"),
        ("particles", f"m {m}, {run.ensemble.dtype}"),
        ("steps", f"{steps} of {run.dynamics.name}; {plan.rows} rows of trace, a checkpoint every {often}"),
        ("time", f"about {format_duration(seconds)} for the steps, an estimate from a few that were timed here"),
        ("memory", f"at least {mebibytes(plan.memory)} beside the process: {held}"),
        (
            "file",
            f"{shown_path(out)}, about {mebibytes(plan.file)}, and the one before it as {shown_path(out.name)}.prev",
        ),
    ]
    print("\n".join(f"{name:<10}{text}" for name, text in rows))
    return 0


def _check_output(path: Path, force: bool) -> None:
    """InputError, in the words of this command: no run can be written to `path`."""
    from ..simulation.output import OutputExistsError, check_output, quoted

    try:
        check_output(path, force)
    except OutputExistsError as error:
        go_on = f"it is unfinished ({error.progress}): go on with `meanfield resume {quoted(path)}`, or "
        raise InputError(
            f"--out {path}: exists already; {go_on if error.progress else ''}overwrite it with --force"
        ) from None
    except InputError as error:
        raise InputError(str(error).replace("out = ", "--out ", 1)) from None


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--until", type=click.IntRange(0, 2**48), metavar="STEP", help="Go on to this step.")
@click.option("--more", type=click.IntRange(0, 2**48), metavar="N", help="Go on by N steps.")
@click.option("--force", is_flag=True, help="Take over a lock left by another host.")
@_options
def resume(
    *,
    path: Path,
    until: int | None,
    more: int | None,
    force: bool,
    threads: int | None,
    max_time: float | None,
    as_json: bool,
    quiet: bool,
    no_gap: bool,
) -> int:
    """Go on with a run exactly where it stopped: same bits as if it never had."""
    began = time.monotonic()
    from ..simulation.final_gap import final_gap
    from ..simulation.loop import run_to_end
    from ..simulation.run import load
    from ..storage.lock import locked

    ranks = world()
    _check_alike(ranks)

    if until is not None and more is not None:
        raise InputError("--until and --more: give one of them")
    with locked(path, ranks, force):
        loaded = load(path, fall_back=True, ranks=ranks)
        if loaded.recovered and ranks.leads:
            print(f"meanfield: {printable(loaded.recovered)}", file=sys.stderr)
        if until is not None and until < loaded.ensemble.step:
            raise InputError(f"--until {until}: the run is at step {loaded.ensemble.step} already")
        loaded.end_at(until, more)
        if loaded.ensemble.step >= loaded.config.run.steps:
            gap = None if no_gap or not as_json else final_gap(loaded, "done", threads)
            keys = result_keys(loaded, path, threads, gap) if as_json else {}
            told = f"finished at step {loaded.ensemble.step}; go further with --more N or --until STEP"
            print(f"{shown_path(path)}: {told}", file=sys.stderr if as_json else sys.stdout)
            if as_json:
                print_json(keys)
            return 0
        left = None if max_time is None else max(0.0, max_time - (time.monotonic() - began))
        progress = _progress(quiet, as_json)
        result = run_to_end(
            loaded, path, lock=False, threads=threads, max_time=left, progress=progress, final_gap=not no_gap
        )
    return _finish(path, result, as_json, quiet)


def _progress(quiet: bool, as_json: bool) -> Any:
    from ..simulation.progress import Silent, suitable

    return Silent() if quiet or not world().leads else suitable()


def _check_alike(ranks: Alone) -> None:
    """InputError, naming the difference, unless all ranks run the same version and number of the bits."""
    from .. import __version__
    from ..storage.versions import BITS

    versions = ranks.gather({"meanfield": __version__, "bits": BITS})

    def compare() -> None:
        for rank, other in enumerate(versions):
            for name, mine in versions[0].items():
                if other[name] != mine:
                    raise InputError(
                        f"rank {rank} runs {name} {other[name]}, rank 0 {mine}: they must be the same, "
                        "or results would depend on who computed them"
                    )

    ranks.once(compare)


def _finish(out: Path, result: Any, as_json: bool, quiet: bool, *, ntk: bool = False, plot: bool = False) -> int:
    """Show what came out, say how to go on, and turn the reason for stopping into an exit status."""
    status, run = _status(result), result.run
    gap = result.final_gap if result.wants_gap and status == 0 else None
    keys, baseline = result_keys(run, out, result.threads, gap), None
    figures: list[Path] = []
    if not world().leads:
        return status
    if not result.saved:
        print(f"meanfield: error: the last state could not be saved to {shown_path(out)}", file=sys.stderr)
    if ntk:
        baseline = _aside("kernel", lambda: _baseline(run))
    if plot:
        figures = _aside("figure", lambda: _drawn(run, out)) or []
    if as_json:
        kernel = {"ntk": baseline and vars(baseline)} if ntk else {}
        print_json({**keys, **kernel, **({"figures": figures} if plot else {})})
    else:
        _show(out, result, network_table(run, keys, baseline, gap.words if gap else _ESTIMATE), figures)
    if gap is not None:
        _judge(gap, run, out, quiet)
    return status


def _aside(what: str, make: Callable[[], Any]) -> Any:
    """What is shown beside a run that is done and kept: a failure costs it, and a line on stderr, and nothing else."""
    try:
        return make()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"meanfield: no {what}: {printable(reason)[:500]}", file=sys.stderr)
        return None


def _baseline(run: Any) -> Any:
    from ..studies.comparison import kernel_baseline

    return kernel_baseline(run.problem)


def _drawn(run: Any, out: Path) -> list[Path]:
    from ..plots import write

    return write(run, out.parent, out.stem)


def _status(result: Any) -> int:
    """The exit status that a run ends with."""
    if not result.saved:
        return 1
    status = {"done": 0, "objective_change": 0, "relative_gap": 0, "callback": 0, "max_time": 75}.get(result.stopped)
    return 128 + int(signal.Signals[result.stopped]) if status is None else status


def _show(out: Path, result: Any, shown: str, figures: list[Path]) -> None:
    """The results as a table, where they are kept, and how to go on."""
    from ..simulation.output import quoted

    run = result.run
    finished = run.ensemble.step >= run.config.run.steps
    print(shown)
    kept = result.saved or out.exists()
    print(
        (f"\nrun file  {shown_path(out)}" if kept else "")
        + "".join(f"\nfigure    {shown_path(one)}" for one in figures)
    )
    if kept:
        more = " --more 1000" if finished and result.saved else ""
        print(f"go on     {_program()} resume {printable(quoted(out))}{more}")
    if result.stopped not in ("done", "callback"):
        print(f"stopped   at step {run.ensemble.step} of {run.config.run.steps}: {result.stopped}", file=sys.stderr)


def _judge(gap: Any, run: Any, out: Path, quiet: bool) -> None:
    """One line on stderr on a gap that is large, or that could not be had."""
    from ..simulation.final_gap import LARGE
    from ..simulation.output import quoted

    if gap.missing and not quiet:
        print(f"meanfield: the distance from the minimum is not known: {printable(gap.missing)}", file=sys.stderr)
    elif gap.relative_gap > LARGE:
        what, of = ("free energy", " of L") if gap.kind == "free energy" else ("objective", "")
        sure = "proven: at most that" if gap.rigorous else "an estimate"
        more = max(1000, run.ensemble.step // 2)
        print(
            f"meanfield: warning: the {what} may be above its minimum by {percent(gap.relative_gap)}{of} ({sure}): go "
            f"on with `{_program()} resume {printable(quoted(out))} --more {more}`, or look closer with `certify`",
            file=sys.stderr,
        )


def _program() -> str:
    """How this command was called, where its plain name would not find it: from an environment that is not active."""
    found = shutil.which("meanfield")
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m meanfield"
    same = found is not None and called.exists() and os.path.samefile(found, called)
    if same or called.name != "meanfield":
        return "meanfield"
    near = called.absolute().is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(called) if near else str(called))
