"""`meanfield report`: a run as one HTML file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from ..errors import InputError
from ..storage.atomic import replace_whole
from ._tables import check_rows, shown_path


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("-o", "out", type=click.Path(path_type=Path), help="File to write (default: RUN.html beside the run).")
@click.option(
    "--seconds",
    type=click.FloatRange(0.0),
    default=3.0,
    show_default=True,
    metavar="BUDGET",
    help="Time for the certificate; 0 for none.",
)
def report(path: Path, out: Path | None, seconds: float) -> int:
    """Figures, measures, certificate and configuration of a run in one HTML file that needs nothing else."""
    from ..report import html
    from ..simulation.run import load

    out = out or path.with_suffix(".html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {out}: must end in .html")
    run = load(path)
    check_rows(run, path)
    written = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    page = html(run, path.name, seconds=seconds, written=written)

    def write(temporary: Path) -> None:
        temporary.write_text(page, encoding="utf-8")

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(out, write)
    except OSError as error:
        raise InputError(f"-o {out}: cannot be written: {error.strerror or error}") from None
    print(shown_path(out))
    return 0
