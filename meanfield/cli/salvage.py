"""`meanfield salvage`: a new run from what is whole of a damaged one."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import printable


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run file to make.")
def salvage(path: Path, out: Path) -> int:
    """Begin a new run from what is whole of a damaged one, array by array, and say what is lost.

    For a run that `resume` refuses in both generations, or that another program has changed. RUN.h5 stays as it is.
    """
    from ..simulation import salvage as library
    from ..simulation.output import quoted

    run, lost = library.salvage(path, out)
    print(f"kept      step {run.ensemble.step}, m = {run.ensemble.m}, {len(run.trace.get('step', ()))} rows of trace")
    for one in lost or ["nothing"]:
        print(f"lost      {printable(one)}")
    print(f"run file  {printable(str(out))}\ngo on     meanfield resume {printable(quoted(out))}")
    return 0
