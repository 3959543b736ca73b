"""`meanfield info`, `plot` and `ntk`: what reads and never writes a run."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from ..errors import InputError, printable
from ._tables import check_rows, network_table, number, print_json, rate, result_keys, shown_path, table

_INCH = {"": 1.0, "in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.27}

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")


@click.command()
@click.argument("paths", metavar="RUN.h5...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_as_json
def info(paths: tuple[Path, ...], as_json: bool) -> int:
    """Configuration, progress, last measures and integrity of a run; of several runs, a line each."""
    from ..simulation.run import load
    from ..simulation.toml import to_toml

    if len(paths) > 1:
        return _several(paths, as_json)
    (path,) = paths
    run = load(path)  # verifies every checksum
    keys = result_keys(run, path)
    if as_json:
        print_json(_known(run, keys))
        return 0
    print("\n".join(map(printable, to_toml(run.config).split("\n"))))
    print(network_table(run, keys))
    rows = len(run.trace.get("step", ()))
    print(f"\n{_state(run)}: step {run.ensemble.step} of {run.config.run.steps}, {rows} rows of trace")
    print("integrity: every checksum verified")
    for line in _origin(run.attributes):
        print(textwrap.fill(printable(line), 80, subsequent_indent="  "))
    return 0


def _state(run: Any) -> str:
    return "finished" if run.ensemble.step >= run.config.run.steps else "unfinished"


def _known(run: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """What `info --json` prints of a run."""
    from ..simulation.toml import tables

    return {
        **keys,
        "steps": run.config.run.steps,
        "state": _state(run),
        "integrity": "verified",
        "config": tables(run.config),
        "bits": run.attributes["bits"],
        "software": run.attributes,
    }


def _several(paths: tuple[Path, ...], as_json: bool) -> int:
    """A table of runs, read one after the other; what cannot be read is told on stderr, and the status is 2 then."""
    from ..plots import differing
    from ..simulation.run import load

    known, rows = [], []
    labelled: list[Any] = []
    for path in paths:
        try:
            run = load(path)
        except InputError as error:
            print(f"meanfield: error: {error}", file=sys.stderr)
            continue
        keys, classes = result_keys(run, path), run.problem.classes is not None
        known.append(_known(run, keys))
        labelled.append(SimpleNamespace(config=run.config))
        errors = (rate(keys[name], classes) for name in ("train_error", "test_error"))
        rows.append((f"{keys['step']} of {run.config.run.steps}", number(keys["objective"]), *errors))
    if as_json:
        print_json({"runs": known})
    elif rows:
        names = [one["out"] for one in known]
        head = ("run", "settings", "step", "objective", "train error", "test error")
        labels = differing(labelled, ["the same"] * len(names))
        print(table([head, *((name, label, *row) for name, label, row in zip(names, labels, rows, strict=True))]))
    return 0 if len(known) == len(paths) else 2


def _origin(attributes: dict[str, Any]) -> list[str]:
    """What computed a run: the version of its bits, the software, the machine."""
    from ..storage.versions import BITS, MACHINE

    bits, history = attributes["bits"], attributes.get("bits_history")
    machine = [f"{name.replace('_', ' ')} {attributes[name]}" for name in MACHINE if name in attributes]
    software = {name: value for name, value in attributes.items() if name not in (*MACHINE, "bits", "bits_history")}
    before = f", before that {history}" if history else ""
    after = f"; a resume goes on under version {BITS}" if bits != BITS else ""
    return [
        f"bits: version {bits}{before}{after}",
        "made with: " + ", ".join(f"{name} {value}" for name, value in software.items()),
        f"machine: {'; '.join(machine) or 'unknown'}",
    ]


class Width(click.ParamType):
    """Inches, from "3.25in", "83mm", "8.3cm", "234pt" or a plain number."""

    name = "WIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        written = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(in|cm|mm|pt|)\s*", value)
        inches = float(written[1]) / _INCH[written[2]] if written else 0.0
        if not 2 <= inches <= 20:
            raise InputError(f"--width {value}: must be 2 to 20 inches, such as 3.25in, 8.3cm or 83mm")
        return inches


@click.command()
@click.argument("paths", metavar="RUN.h5...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "folder", type=click.Path(path_type=Path), help="Folder for the figures (default: the run's).")
@click.option("--format", "kind", type=click.Choice(["png", "pdf", "svg"]), default="png", show_default=True)
@click.option(
    "--only",
    metavar="NAME,...",
    help="Figures to draw (default: convergence,dashboard; overlay of several "
    "runs); also particles, decision, potential, margins, balance, gap, schedules, free-energy, or all.",
)
@click.option(
    "--width",
    type=Width(),
    help="Of the figures, letters staying at 7 to 9 points: 3.25in or 83mm for the column of a journal (default: each "
    "its own; without a unit, inches).",
)
@click.option("--animate", is_flag=True, help="Also the particles over the run's snapshots, as a GIF.")
@click.option("--margin-optimum", is_flag=True, help="Mark the largest possible margin; takes up to a minute.")
def plot(
    paths: tuple[Path, ...], folder: Path | None, kind: str, only: str | None, width: float | None, **more: bool
) -> int:
    """Draw the figures of a run, or lay several over each other."""
    from ..simulation.run import load

    names = _figures(only, len(paths), width)
    stems = _stems(paths)
    runs = [load(path) for path in paths]
    for run, path in zip(runs, paths, strict=True):
        check_rows(run, path)
    written: list[Path] = []
    try:
        for run, path, stem in zip(runs, paths, stems, strict=True):
            written += _draw(run, folder or path.parent, stem, kind, names, width, **more)
        if "overlay" in names:
            written.append(_overlay(runs, folder or paths[0].parent, stems, kind, width))
    except OSError as error:
        place = f"-o {folder}" if folder else str(paths[0].parent)
        raise InputError(f"{place}: cannot be written: {error.strerror or error}") from None
    print("\n".join(map(shown_path, written)))
    return 0


def _figures(only: str | None, runs: int, width: float | None = None) -> list[str]:
    """The names asked for. InputError: one that is not known."""
    from ..plots import FIGURES

    if only is None:
        return ["overlay"] if runs > 1 else ["convergence", "dashboard"] if width is None else ["convergence"]
    names = list(dict.fromkeys(name.strip() for name in only.split(",") if name.strip()))
    if "all" in names:
        return [*FIGURES, *(["overlay"] if runs > 1 else [])]
    unknown = [name for name in names if name not in (*FIGURES, "overlay")]
    if unknown or not names:
        raise InputError(f"--only {only}: must name some of {', '.join([*FIGURES, 'overlay', 'all'])}")
    return names


def _stems(paths: tuple[Path, ...]) -> list[str]:
    """Names for the figures; where two runs share a name, their folders' names come first, or numbers."""
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{path.resolve().parent.name}-{path.stem}" for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{k + 1}-{stem}" for k, stem in enumerate(stems)]
    return stems


def _draw(
    run: Any,
    folder: Path,
    stem: str,
    kind: str,
    names: list[str],
    width: float | None,
    *,
    animate: bool,
    margin_optimum: bool,
) -> list[Path]:
    from .. import plots

    optimum = None
    if margin_optimum:
        from ..exact import max_margin

        if run.problem.classes is None:
            raise InputError("--margin-optimum: a regression has no margin")
        optimum = max_margin(run.problem.X, run.problem.y, loss=run.problem.loss, neuron=run.problem.neuron).margin
    own = [name for name in names if name != "overlay"]
    written = plots.write(run, folder, stem, kind, own, optimum=optimum, width=width)
    if animate:
        written.append(plots.animate(run, folder / f"{stem}-particles.gif"))
    return written


def _overlay(runs: list[Any], folder: Path, stems: list[str], kind: str, width: float | None) -> Path:
    from .. import plots

    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots.overlay(runs, stems) if width is None else plots.overlay(runs, stems, width)
    return plots.save(drawn, folder / f"{stems[0]}-overlay.{kind}", ", ".join(stems))


@click.command()
@click.argument("source", metavar="[CONFIG.toml | RUN.h5]", required=False, type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key of the configuration.")
@_as_json
def ntk(source: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """The kernel baseline: ridge regression with the NTK of the same neuron on the same data."""
    from ..studies.comparison import kernel_baseline

    problem = _problem(source, overrides)
    found = kernel_baseline(problem)
    if as_json:
        print_json(
            {
                "train_error": found.train_error,
                "test_error": found.test_error,
                "margin": found.margin,
                "method": found.method,
                "n": found.n,
                "reg": found.reg,
                "kernel": found.kernel,
                "seconds": found.seconds,
            }
        )
        return 0
    classes = problem.classes is not None
    print(
        table(
            [
                (f"{found.kernel}, n = {found.n}", ""),
                ("train error", rate(found.train_error, classes)),
                ("test error", rate(found.test_error, classes)),
                ("margin / RKHS norm", f"{found.margin:.4g}"),
                ("method", found.method),
                ("seconds", f"{found.seconds:.2g}"),
            ]
        )
    )
    return 0


def _problem(source: Path | None, overrides: tuple[str, ...]) -> Any:
    from ..datasets.load import load_dataset
    from ..simulation.run import load, problem_of
    from ..simulation.toml import load_config

    if source is not None and source.suffix == ".h5":
        if overrides:
            raise InputError("--set: a run file's configuration is fixed; give a CONFIG.toml to change it")
        return load(source).problem
    config = load_config(source, overrides, named="--set")
    return problem_of(config, load_dataset(config.data))
