"""`meanfield info`, `plot` and `ntk`: what reads and never writes a run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ._tables import network_table, print_json, rate, result_keys, table

_run_file = click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")


@click.command()
@_run_file
@_as_json
def info(path: Path, as_json: bool) -> int:
    """Configuration, progress, last measures and integrity of a run."""
    from ..config import tables, to_toml
    from ..run import load

    run = load(path)  # verifies every checksum
    keys = result_keys(run, path)
    state = "finished" if run.ensemble.step >= run.config.run.steps else "unfinished"
    if as_json:
        configuration = tables(run.config)
        print_json({**keys, "steps": run.config.run.steps, "state": state, "integrity": "verified",
                    "config": configuration, "software": run.attributes})  # fmt: skip
        return 0
    print(to_toml(run.config))
    print(network_table(run, keys))
    rows = len(run.trace.get("step", ()))
    print(f"\n{state}: step {run.ensemble.step} of {run.config.run.steps}, {rows} rows of trace")
    print("integrity: every checksum verified")
    made_with = "made with: " + ", ".join(f"{name} {value}" for name, value in run.attributes.items())
    print(textwrap.fill(made_with, 80, subsequent_indent="  "))
    return 0


@click.command()
@_run_file
@click.option("-o", "folder", type=click.Path(path_type=Path), help="Folder for the figures (default: the run's).")
@click.option("--format", "kind", type=click.Choice(["png", "pdf", "svg"]), default="png", show_default=True)
def plot(path: Path, folder: Path | None, kind: str) -> int:
    """Draw the convergence figures of a run."""
    from ..plots import write
    from ..run import load

    run, folder = load(path), folder or path.parent
    try:
        figures = write(run, folder, path.stem, kind)
    except OSError as error:
        raise InputError(f"-o {folder}: cannot be written: {error.strerror or error}") from None
    print("\n".join(map(str, figures)))
    return 0


@click.command()
@click.argument("source", metavar="[CONFIG.toml | RUN.h5]", required=False, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key of the configuration.")
@_as_json
def ntk(source: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """The kernel baseline: ridge regression with the closed-form ReLU NTK on the same data."""
    from ..comparison import kernel_baseline

    problem = _problem(source, overrides)
    found = kernel_baseline(problem)
    if as_json:
        print_json({"train_error": found.train_error, "test_error": found.test_error, "margin": found.margin,
                    "method": found.method, "n": found.n, "reg": found.reg})  # fmt: skip
        return 0
    classes = problem.classes is not None
    print(table([
        (f"ReLU NTK, n = {found.n}", ""),
        ("train error", rate(found.train_error, classes)),
        ("test error", rate(found.test_error, classes)),
        ("margin / RKHS norm", f"{found.margin:.4g}"),
        ("method", found.method),
    ]))  # fmt: skip
    return 0


def _problem(source: Path | None, overrides: tuple[str, ...]) -> Any:
    from ..config import load_config
    from ..datasets import load_dataset
    from ..run import load, problem_of

    if source is not None and source.suffix == ".h5":
        if overrides:
            raise InputError("--set: a run file's configuration is fixed; give a CONFIG.toml to change it")
        return load(source).problem
    config = load_config(source, overrides)
    return problem_of(config, load_dataset(config.data))
