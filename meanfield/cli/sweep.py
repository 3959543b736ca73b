"""`meanfield sweep`: one configuration over a grid of values."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ._tables import print_json, shown_path, table
from .run import Duration

_SHOWN = ("objective", "train_error", "test_error", "relative_gap")


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--grid",
    "texts",
    multiple=True,
    required=True,
    metavar="a.b=v,…",
    help="A key and its values: 1e-4,1e-3 or 0:10, which is 0 to 9, or 40:200:40. Once a key.",
)
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key in every cell.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="sweep",
    show_default=True,
    metavar="DIR",
    help="Folder for sweep.csv, the figure and a run file a cell.",
)
@click.option("--measure", "measures", metavar="NAME,…", help="Columns to draw (default: test_error or train_error).")
@click.option("--workers", type=click.IntRange(1, 4096), help="Worker processes (default: one a core).")
@click.option("--threads", type=click.IntRange(1, 4096), default=1, show_default=True, help="Threads of each.")
@click.option("--max-time", type=Duration(), help="Save all runs and stop with status 75 after this long: 10min, 2h.")
@click.option("--shard", default="1/1", metavar="k/K", help="Compute only the k-th of K shares.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def sweep(
    *,
    config: Path | None,
    texts: tuple[str, ...],
    overrides: tuple[str, ...],
    folder: Path,
    measures: str | None,
    workers: int | None,
    threads: int,
    max_time: float | None,
    shard: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run CONFIG.toml, or the paper's problem, at every point of a grid.

    Finished cells stand in DIR/sweep.csv and are never computed again; one that was stopped goes on from its run file:
    the same command goes on where it stopped, and with longer lists computes only what is new.
    """
    until = None if max_time is None else time.time() + max_time
    from ..runtime.process_pool import other_ranks
    from ..studies.study import parse_shard
    from ..studies.sweep import axes_of, read_grid, sweep_study

    grid, part = read_grid(texts), parse_shard(shard)
    try:
        study, cells = sweep_study(config, overrides, grid, folder, until)
        with other_ranks() as executor:
            rows = study.run(cells, workers, threads, part, quiet, executor)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written: {error.strerror or error}") from None
    missing = len(cells) - len(rows)
    lines, figure = _averaged(rows, axes_of(grid)), None
    if rows and not missing:
        figure = _figure(lines, axes_of(grid), _measures(measures, rows), folder / "sweep.png")
    if as_json:
        print_json({"table": rows, "cells": len(rows), "missing": missing, "folder": folder, "figure": figure})
    else:
        _show(lines, axes_of(grid))
        print(f"\ntable     {shown_path(folder / ('sweep*.csv' if missing else 'sweep.csv'))}")
        print(f"runs      {shown_path(folder / '*.h5')}")
        none = f"none: {'cells are missing' if missing else 'drawn over one or two keys'}"
        print(f"figure    {shown_path(figure or none)}")
    if missing:
        late = "; the time is over, the same command goes on" if study.left else ""
        print(f"meanfield: {missing} of {len(cells)} cells are missing{late}", file=sys.stderr)
    return 1 if study.failures else 75 if study.left else 0


def _averaged(rows: list[dict[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    from ..studies.comparison import summary

    return summary(rows, axes)


def _measures(text: str | None, rows: list[dict[str, Any]]) -> list[str]:
    """The columns to draw. InputError: one that is none, or holds no numbers."""
    numeric = [name for name, value in rows[0].items() if isinstance(value, int | float)]
    if text is None:
        return ["train_error" if math.isnan(rows[0]["test_error"]) else "test_error"]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in numeric:
            raise InputError(f"--measure {text}: {name!r} must be one of {', '.join(numeric)}")
    return names


def _figure(lines: list[dict[str, Any]], axes: Sequence[str], measures: list[str], path: Path) -> Path | None:
    from ..plots import write_sweep

    return write_sweep(lines, axes, measures, path) if len(axes) <= 2 else None


def _show(lines: list[dict[str, Any]], axes: Sequence[str]) -> None:
    """Mean ± standard error of what is shown, over the seeds where there are several."""
    head = (*axes, *(name.replace("_", " ") for name in _SHOWN))
    print(
        table([head, *((*(str(line[key]) for key in axes), *(_mean(line, name) for name in _SHOWN)) for line in lines)])
    )
    if any(line["cells"] > 1 for line in lines):
        print("\nMean ± standard error over the seeds; errors are fractions, or mean squares in a regression.")


def _mean(line: dict[str, Any], name: str) -> str:
    value, error = line[name], line[f"{name}_se"]
    if math.isnan(value):
        return "–"
    return f"{value:.4g}" if math.isnan(error) else f"{value:.4g} ± {error:.1g}"
