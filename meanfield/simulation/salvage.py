"""A run begun anew from what is whole of one that nothing else opens, in either of its generations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..datasets.dataset import Dataset
from ..errors import InputError, RunFileError, printable
from ..losses import Loss
from ..neuron import Neuron
from ..storage import run_file
from ..storage.atomic import previous
from ..storage.lock import RunLock
from ..storage.versions import FIRST_BITS
from .config import Config
from .output import check_output
from .run import Run, load
from .toml import parse_config, to_toml

_VELOCITIES = ("velocity_w", "velocity_u")


class _Generation(NamedTuple):
    path: Path
    tree: Mapping[str, Any]
    lost: list[str]

    def part(self, group: str, name: str) -> Any:
        return self.tree.get(group, {}).get(name)

    def has(self, group: str, *names: str) -> bool:
        return all(self.part(group, name) is not None for name in names)


def salvage(
    path: str | Path, out: str | Path, *, loss: Loss | None = None, neuron: Neuron | None = None
) -> tuple[Run, list[str]]:
    """Begin a new run from what is whole of a damaged one, array by array.

    The particles are those of the newest generation of which w and u are whole, with their step, time, velocities,
    trace and snapshots as far as these are whole; configuration and data may come from the other generation. Nothing of
    `path` is changed; the new file names it as its parent, and `resume` goes on with it.

    Parameters
    ----------
    path : str or Path
        The run file; beside it the generation before, if there is one.
    out : str or Path
        The file to make.
    loss, neuron : Loss, Neuron, optional
        The run's own, again, where they are of the user's making.

    Returns
    -------
    Run
        As `load` gives it of the new file.
    list of str
        What is lost, a line each; empty where all is whole.

    Raises
    ------
    InputError
        An `out` that exists, or cannot be written.
    RunFileError
        Particles, data or configuration are lost in both generations, or do not fit together.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, simulate
    >>> from meanfield.simulation.salvage import salvage
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> _ = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=4, out=path)
    >>> with open(path, "ab") as file:
    ...     _ = file.write(b"what does not belong here")
    >>> run, lost = salvage(path, path + ".new")
    >>> run.ensemble.step, lost
    (4, [])
    """
    check_output(out)
    generations = _generations(path)
    with run_file.whole(path):
        content, lost = _content(path, generations)
    with RunLock(out):
        for kept in ({"trace", "snapshots"}, {"trace"}, {"snapshots"}, set[str]()):  # until it fits together
            trial = replace(
                content,
                trace=content.trace if "trace" in kept else {},
                timing=content.timing if "trace" in kept else {},
                snapshots=content.snapshots if "snapshots" in kept else {},
            )
            try:
                run_file.save(out, trial, keep_previous=False)
                run = load(out, loss=loss, neuron=neuron)
            except InputError as error:
                failure = error
                continue
            given_up = [name for name in ("trace", "snapshots") if name not in kept and getattr(content, name)]
            return run, lost + [f"{name}: what is whole of it does not fit the rest" for name in given_up]
        run_file.remove(out)
    raise RunFileError(f"{path}: what is whole of it makes no run: {failure}")


def _generations(path: str | Path) -> list[_Generation]:
    """What is whole of each, the newest first. RunFileError: of none anything, or they are no runs."""
    found, failure = [], None
    for one in (Path(path), previous(path)):
        try:
            found.append(_Generation(one, *run_file.whole_parts(one)))
        except RunFileError as error:
            failure = failure or error
    if not found and failure is not None:
        raise failure
    return found


def _content(path: str | Path, generations: list[_Generation]) -> tuple[run_file.RunContent, list[str]]:
    """One run of what there is, and what is missing of it."""
    main = _first(path, generations, "its particles", "ensemble", "w", "u")
    generations = [main, *(one for one in generations if one is not main)]
    given = _first(path, generations, "its data", "data", "X", "y")
    said = next((one for one in generations if isinstance(one.tree.get("config"), str)), None)
    if said is None:
        raise RunFileError(f"{path}: its configuration is lost in both generations: there is nothing to go on from")
    config = parse_config(said.tree["config"], f"{said.path}: config")
    dataset, config = _data(given, config)
    state = {"step": 0, "time": 0.0, "seed": config.ensemble.seed, "memory": {}, **main.tree["ensemble"]}
    if not main.has("ensemble", *_VELOCITIES):  # they begin anew at 0
        state = {name: value for name, value in state.items() if name not in _VELOCITIES}
    attributes = dict(main.tree.get("@attrs", {"bits": FIRST_BITS}))
    for name in ("format", "format_version"):
        attributes.pop(name, None)
    attributes["parent"] = f"{printable(str(main.path))}, step {state['step']}, data {dataset.sha256}"
    arrays = {"X": dataset.X, "y": dataset.y, "X_test": dataset.X_test, "y_test": dataset.y_test}
    content = run_file.RunContent(
        config=to_toml(config),
        data={name: values for name, values in arrays.items() if values is not None},
        data_sha256=dataset.sha256,
        **state,
        **{name: main.tree.get(name, {}) for name in ("trace", "timing", "snapshots")},
        attributes=attributes,
    )
    return content, _lost(main, given, said)


def _first(path: str | Path, generations: list[_Generation], what: str, group: str, *names: str) -> _Generation:
    """The newest generation that has these. RunFileError: none has."""
    for one in generations:
        if one.has(group, *names):
            return one
    raise RunFileError(f"{path}: {what} are lost in both generations: there is nothing to go on from")


def _data(given: _Generation, config: Config) -> tuple[Dataset, Config]:
    """The data, without a test set where that is not whole, and the configuration that says so."""
    test = given.has("data", "X_test", "y_test")
    X, y, X_test, y_test = (given.part("data", name) for name in ("X", "y", "X_test", "y_test"))
    dataset = Dataset(X, y, X_test if test else None, y_test if test else None, config.data.source)
    n_test = len(X_test) if test else 0
    return dataset, config.model_copy(update={"data": config.data.model_copy(update={"n_test": n_test})})


def _lost(main: _Generation, given: _Generation, said: _Generation) -> list[str]:
    """A line for each part of the generation with the particles that the other has not made up for."""
    names = [f"{main.path.name}: {name}" for name in main.lost if name != "data/sha256"]  # made from the data anew
    for what, other in (("data", given), ("config", said)):
        if other.path != main.path:
            names = [name for name in names if not name.partition(": ")[2].startswith(what)]
            names.append(f"{main.path.name}: {what}, taken from {other.path.name}")
    return names
