"""What the scripts of the claims share: their command line, their studies, the look of their figures.

A script defines cells (module-level pure functions of their configuration) and parts, and ends in
`claims.main(__doc__, {"part": part})`; a part is a function of `Options`, which makes the configurations for the fast
or the full mode, has the study computed, prints a table and draws a figure. Under `mpiexec -n 9` the first rank deals
out cells to the eight others.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meanfield import Ensemble, Problem, certify, exact
from meanfield.cli._tables import table as aligned
from meanfield.errors import InputError
from meanfield.plots.style import COLOURS, COLUMN, PAGE, fit
from meanfield.runtime.process_pool import other_ranks
from meanfield.storage.versions import describe_versions
from meanfield.studies.study import Study, parse_shard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")


class Incomplete(Exception):
    """Cells of a part are still missing, so that it has no table and no figure yet."""


@dataclass(frozen=True)
class Options:
    """full: hours, not minutes; folder: where tables and figures go; the rest is for the studies."""

    full: bool = False
    folder: Path = RESULTS
    processes: int | None = None
    threads: int = 1
    shard: tuple[int, int] = (1, 1)
    quiet: bool = False
    executor: Executor | None = None
    source: str = ""
    width: float = PAGE
    data: str = ""

    def study(self, name: str, cell: Callable[..., Mapping], version: int = 1) -> BoundStudy:
        return BoundStudy(Study(name, cell, self.folder, version), self)


@dataclass(frozen=True)
class BoundStudy:
    """A study with the command line's processes, share and folder."""

    study: Study
    options: Options

    def run(self, configurations: Iterable[Mapping]) -> list[dict]:
        """All rows, in order. Incomplete: cells failed, or are another share's."""
        configurations, options = list(configurations), self.options
        rows = self.study.run(
            configurations, options.processes, options.threads, options.shard, options.quiet, options.executor
        )
        if missing := len({tuple(one.items()) for one in configurations}) - len(rows):
            k, K = options.shard
            what = "run it again" if self.study.failures else "run the other shares, then all without --shard"
            raise Incomplete(
                f"{self.study.name}: {missing} cells are missing"
                f"{f' (share {k} of {K} is done)' if K > 1 else ''}: {what}"
            )
        return rows


def main(
    doc: str, parts: Mapping[str, Callable[[Options], None]], sources: Sequence[str] = ("",), data: str = ""
) -> None:
    """Run the parts asked for (all, if none is named); ends the process. Status 1: cells are missing; 2: bad input.

    `sources`: the data that the claim can be put to, the default first, where there are several. `data`: what stands in
    for a file of the user's.
    """
    arguments = parse(doc, parts, sources, data)
    print(", ".join(f"{name} {value}" for name, value in describe_versions().items()))
    try:
        with other_ranks() as executor:
            options = Options(
                arguments.full,
                arguments.folder,
                arguments.processes,
                arguments.threads,
                parse_shard(arguments.shard),
                arguments.quiet,
                executor,
                arguments.source,
                arguments.width,
                arguments.data,
            )
            status = sum(_run(parts[part], part, options) for part in arguments.part or parts) and 1
        sys.exit(status)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)


def parse(doc: str, parts: Iterable[str], sources: Sequence[str], data: str) -> argparse.Namespace:
    """The command line of a claim; --source and --data where it has them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"of {', '.join(parts)} (default: all)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--fast", action="store_true", help="minutes on two cores (default)")
    mode.add_argument("--full", action="store_true", help="hours")
    parser.add_argument("--shard", default="1/1", metavar="k/K", help="compute only the k-th of K shares of the cells")
    parser.add_argument("--processes", type=int, help="worker processes (default: one a core)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default: 1)")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for tables and figures (default: data/results)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--width", type=float, default=PAGE, help=f"of figures, in inches (default: {PAGE}; {COLUMN} is a column)"
    )
    parser.add_argument(
        "--source",
        choices=sources,
        default=sources[0],
        help=f"of the data (default: {sources[0]})" if len(sources) > 1 else argparse.SUPPRESS,
    )
    parser.add_argument(
        "--data",
        default=data,
        metavar="FILE",
        help=f"of one's own, for the part that takes it (default: {data})" if data else argparse.SUPPRESS,
    )
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.part if part not in parts]:
        parser.error(f"{', '.join(unknown)}: the parts are {', '.join(parts)}")
    return arguments


def _run(part: Callable[[Options], None], name: str, options: Options) -> int:
    print(f"\n== {name}, {'full' if options.full else 'fast'}", flush=True)
    try:
        part(options)
    except Incomplete as error:
        print(error, file=sys.stderr)
        return 0 if options.shard[1] > 1 and "again" not in str(error) else 1
    return 0


def page(columns: int, rows: int = 1, height: float = 2.6) -> tuple[Figure, np.ndarray]:
    """(figure, axes) of panels `height` in high, in a column of a journal or two; axes (columns,), or (rows, columns).

    Of three the last has a row to itself.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.rcsetup import cycler

    from meanfield.plots import STYLE

    matplotlib.rcParams.update(STYLE, **{"axes.prop_cycle": cycler(color=COLOURS), "legend.fontsize": 7.5})
    if columns == 3:
        figure = Figure(figsize=(PAGE, 2 * height * rows), layout="constrained")
        grid = figure.add_gridspec(2, 2)
        return figure, np.array([figure.add_subplot(place) for place in (grid[0, 0], grid[0, 1], grid[1, :])])
    figure = Figure(figsize=(COLUMN if columns == 1 else PAGE, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes[0] if rows == 1 else axes


def at_values(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis of x that is marked at these values alone."""
    ax.set_xscale("log")
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)


def save(figure: Figure, name: str, options: Options) -> None:
    """Write NAME.png and NAME.pdf to the folder, the same bytes for the same figure, no wider than was asked for."""
    fit(figure, min(options.width, figure.get_figwidth()))
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind, silent in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        figure.savefig(options.folder / f"{name}.{kind}", metadata=silent)
    print(options.folder / f"{name}.pdf")


def mean_and_error(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard error s/√k, s with k − 1 degrees of freedom; the error of a single value is NaN."""
    values = np.asarray(list(values), dtype=float)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(values.mean()) if len(values) else math.nan, error


def ensemble_of(w: np.ndarray, u: np.ndarray) -> Ensemble:
    """Of the network Σ w_j relu(u_j·x), w (K, C) and u (K, d), of the least ∫‖θ‖²: neurons balanced."""
    size, length = np.linalg.norm(w, axis=1), np.linalg.norm(u, axis=1)
    w, u, size, length = (one[size * length > 0] for one in (w, u, size, length))
    root = np.sqrt(len(w) * size * length)[:, None]
    return Ensemble.from_arrays(root * w / size[:, None], root * u / length[:, None], dtype="float64")


def proven_minimum(problem: Problem, effort: float) -> dict[str, float]:
    """L of `exact.optimum`'s network, and what `certify` proves, and estimates, that no network is below."""
    best = exact.optimum(problem, tolerance=1e-5)
    found = certify(problem, ensemble_of(best.w, best.u), effort=effort, method="proven")
    return {"attained": found.primal, "proven_bound": found.lower_bound, "estimated_bound": found.estimated_bound}


def marked(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], name: str, options: Options) -> None:
    """Print a table, and write it to NAME.md in the folder, where a page includes it."""
    texts = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    table(head, texts)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / f"{name}.md").write_text(marked(head, texts), encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows aligned under a head; floats with four digits."""
    texts = (tuple(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row) for row in rows)
    print(aligned([tuple(head), *texts]))
