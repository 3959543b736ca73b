"""A sweep: one configuration over a grid of values. Every cell is a run with a file of its own; together, one table."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..simulation.loop import resume, run_to_end
from ..simulation.new_run import new_run_from_config
from ..simulation.toml import as_override, load_config, read_override, read_tables, tables_text
from ..storage.atomic import replace_whole
from ..storage.csv_table import Value, text_of
from .study import Study

NAME, BASE = "sweep", "sweep.toml"
REPLICATES = ("data.seed", "ensemble.seed")  # keys over which results are averaged
_MOST = 10**6  # cells
_LONGEST = 150  # characters of a run file's name without its ending
_RANGE = re.compile(r"\s*(-?\d+):(-?\d+)(?::([1-9]\d*))?\s*")

Grid = Mapping[str, Sequence[Value]]


def read_grid(texts: Sequence[str]) -> dict[str, list[Value]]:
    """A grid from its texts: "objective.reg=1e-4,1e-3", "data.seed=0:10", "data.n=40:200:40".

    A range is as Python has it: its end does not belong to it.

    Parameters
    ----------
    texts : sequence of str
        One a key.

    Returns
    -------
    dict of str to list
        Key -> values, in the order given, each once.

    Raises
    ------
    InputError
        A text without a key, a key given twice, no values, values that are neither numbers, truths nor words.

    Examples
    --------
    >>> from meanfield.studies.sweep import read_grid
    >>> read_grid(["objective.reg=1e-4,1e-3", "data.seed=0:3", "objective.loss=logistic"])
    {'objective.reg': [0.0001, 0.001], 'data.seed': [0, 1, 2], 'objective.loss': ['logistic']}
    """
    grid: dict[str, list[Value]] = {}
    for text in texts:
        head, _, listed = text.partition("=")
        values: dict[str, Value] = {}
        for item in listed.split(","):
            bounds = _RANGE.fullmatch(item)
            for one in _whole_range(bounds, text) if bounds else [item]:
                key, value = read_override(f"{head}={one}", "--grid")
                if not isinstance(value, str | int | float | bool) or value == "":
                    raise InputError(f"--grid {text}: {item!r} must be a number, true, false or a word")
                values[text_of(value)] = value
        if key in grid:
            raise InputError(f"--grid {text}: {key} is given twice")
        grid[key] = list(values.values())
    return grid


def _whole_range(bounds: re.Match[str], text: str) -> range:
    found = range(int(bounds[1]), int(bounds[2]), int(bounds[3] or 1))
    if not 0 < len(found) <= _MOST:
        raise InputError(
            f"--grid {text}: {bounds[0].strip()} must have 1 to {_MOST} values; its end is not one of them"
        )
    return found


def sweep_study(
    config: str | Path | None, overrides: Sequence[str], grid: Grid, folder: str | Path, until: float | None = None
) -> tuple[Study, list[dict[str, Value]]]:
    """The study of a sweep and its cells, all of them valid; `folder` holds, or will hold, what they are made from.

    `study.run(cells)` computes them. In the folder lie then sweep.csv, the table; sweep.toml, the configuration
    without the grid; and a run file a cell, named by `file_name`.

    Parameters
    ----------
    config : str, Path or None
        The configuration's file; None: all defaults.
    overrides : sequence of str
        "section.key=value", for every cell.
    grid : mapping
        Key -> values, as `read_grid` has it.
    folder : str or Path
        Made where it is missing.
    until : float, optional
        Seconds since 1970 at which cells that are under way stop, saved, and none is begun any more.

    Returns
    -------
    (Study, list of dict)

    Raises
    ------
    InputError
        A cell whose configuration is not valid, naming key and value; a key of the grid that is overridden too; a
        folder with another sweep in it; too many cells.
    OSError
        A folder that cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from meanfield.studies.sweep import read_grid, sweep_study
    >>> small = ["data.n=16", "data.d=4", "data.n_test=16", "ensemble.m=64", "run.steps=4"]
    >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
    ...     study, cells = sweep_study(None, small, read_grid(["objective.reg=1e-2,1e-1"]), folder)
    ...     rows = study.run(cells, quiet=True, executor=executor)
    >>> [(row["objective.reg"], row["step"], row["run"]) for row in rows]
    [(0.01, 4, 'objective.reg=0.01.h5'), (0.1, 4, 'objective.reg=0.1.h5')]
    """
    load_config(config, overrides, named="--set")
    count = math.prod(map(len, grid.values()))
    if count > _MOST:
        raise InputError(f"--grid: {count} cells; must be at most {_MOST}")
    for key in grid:
        if any(read_override(one, "--set")[0] == key for one in overrides):
            raise InputError(f"--grid {key}: is given by --set too")
    cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for one in cells:
        load_config(config, [*overrides, *_overrides(one)], named="--grid")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _keep(read_tables(config, overrides, named="--set"), folder / BASE)
    return Study(NAME, functools.partial(run_cell, str(folder), until), folder), cells


def run_cell(folder: str, until: float | None = None, /, **settings: Value) -> dict[str, Value] | None:
    """One cell: its run from the first step, or from where its file is, to the end.

    Parameters
    ----------
    folder : str
        Of the sweep.
    until : float, optional
        Seconds since 1970 at which the run stops, saved.
    **settings
        Key -> value.

    Returns
    -------
    dict or None
        The measures of the last state, as `Result.final` has them, and `run`, the file's name; None if it is too late.

    Raises
    ------
    InputError
        As of a run.
    InterruptedError
        A signal stopped the run, which is saved: there is no result yet.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from meanfield.studies.sweep import run_cell
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "sweep.toml").write_text(
    ...         "[data]\\nn = 16\\nd = 4\\n[ensemble]\\nm = 64\\n[run]\\nsteps = 2\\n"
    ...     )
    ...     first, again = (run_cell(folder, **{"data.seed": 3}) for _ in range(2))
    >>> first["run"], first["step"], first == again
    ('data.seed=3.h5', 2, True)
    """
    path = Path(folder) / file_name(settings)
    left = None if until is None else until - time.time()
    if left is not None and left <= 0:
        return None
    if path.exists():
        result = resume(path, max_time=left)
    else:
        config = load_config(Path(folder) / BASE, _overrides(settings), named="--grid")
        result = run_to_end(new_run_from_config(config), path, max_time=left)
    if result.stopped == "max_time":
        return None
    if result.stopped not in ("done", "objective_change", "relative_gap"):
        raise InterruptedError(f"{result.stopped} at step {result.ensemble.step}; {path} is saved there")
    return {**result.final, "run": path.name}


def file_name(settings: Mapping[str, Value]) -> str:
    """The name of a cell's run file: its settings, as far as a file's name can hold them.

    Parameters
    ----------
    settings : mapping
        Key -> value.

    Returns
    -------
    str
        Of at most about 160 characters; where signs had to be left out, with digits that tell such names apart.

    Examples
    --------
    >>> from meanfield.studies.sweep import file_name
    >>> file_name({"objective.reg": 1e-3, "data.seed": 7})
    'objective.reg=0.001,data.seed=7.h5'
    >>> file_name({"data.source": "tables/a.csv"})
    'data.source=tables_a.csv-e24195ea.h5'
    """
    whole = ",".join(f"{key}={text_of(value)}" for key, value in settings.items())
    plain = re.sub(r"[^\w.+,=-]", "_", whole)[:_LONGEST]
    apart = "" if plain == whole else f"-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return f"{plain}{apart}.h5"


def axes_of(grid: Grid) -> list[str]:
    """The keys whose values a table or figure tells apart: those with several values, but for seeds beside others.

    Parameters
    ----------
    grid : mapping
        Key -> values.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from meanfield.studies.sweep import axes_of
    >>> axes_of({"objective.reg": [1e-3, 1e-2], "data.n": [80], "data.seed": [0, 1]}), axes_of({"data.seed": [0, 1]})
    (['objective.reg'], ['data.seed'])
    """
    several = [key for key, values in grid.items() if len(values) > 1] or list(grid)
    return [key for key in several if key not in REPLICATES] or several


def _overrides(settings: Mapping[str, Value]) -> list[str]:
    return [as_override(key, value) for key, value in settings.items()]


def _keep(tables: Mapping[str, Any], path: Path) -> None:
    """Write the configuration that the cells share. InputError: another one is there."""
    if not path.exists():

        def write(temporary: Path) -> None:
            temporary.write_text(tables_text(tables), encoding="utf-8")

        return replace_whole(path, write)
    was, now = (_flat(one) for one in (read_tables(path), tables))
    for key in {**was, **now}:
        if was.get(key) != now.get(key):
            there, here = (repr(one[key]) if key in one else "its default" for one in (was, now))
            raise InputError(f"{path}: holds a sweep with {key} = {there}, not {here}: give another folder")
    return None


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, keys in tables.items() for key, value in keys.items()}
