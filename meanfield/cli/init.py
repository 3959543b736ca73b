"""`meanfield init`: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError, printable
from ..simulation.output import quoted


@click.command()
@click.argument("path", metavar="[FILE]", default="run.toml", type=click.Path(path_type=Path))
def init(path: Path) -> int:
    """Write a configuration with every key, what it means and its default, commented out: FILE, or run.toml.

    A file that is there already stays as it is.
    """
    from ..simulation.template import template

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise InputError(f"{path}: exists already; give another name") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    print(f"{printable(str(path))}\nrun it    meanfield run {printable(quoted(path))}")
    return 0
