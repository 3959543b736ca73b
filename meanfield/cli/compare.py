"""`meanfield compare`: network against kernel over n, d and seeds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ._tables import print_json, shown_path, table


@click.command()
@click.option("--d", "dims", default="10,20", show_default=True, metavar="D,…", help="Dimensions.")
@click.option(
    "--n",
    "sizes",
    default="1d,2d,4d,6d,0.5d2,1d2",
    show_default=True,
    metavar="N,…",
    help="Examples: a number, or a multiple of d or d² such as 6d, 0.5d2.",
)
@click.option("--seeds", type=click.IntRange(1, 10**6), default=3, show_default=True, help="Draws of each n and d.")
@click.option("--reg", type=float, default=5e-3, show_default=True, help="The network's λ.")
@click.option("--m", type=click.IntRange(1, 2**40), default=1024, show_default=True, help="Particles.")
@click.option("--steps", type=click.IntRange(0, 2**40), default=4000, show_default=True, help="Steps of the network.")
@click.option("--n-test", type=click.IntRange(1, 10**8), default=4096, show_default=True, help="New examples.")
@click.option(
    "-o",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    metavar="DIR",
    help="Folder for compare.csv and compare.png (default: this one).",
)
@click.option("--processes", type=click.IntRange(1, 4096), help="Worker processes (default: one a core).")
@click.option("--threads", type=click.IntRange(1, 4096), default=1, show_default=True, help="Threads of each.")
@click.option("--shard", default="1/1", metavar="k/K", help="Compute only the k-th of K shares.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def compare(
    folder: Path, shard: str, processes: int | None, threads: int, as_json: bool, quiet: bool, **grid: Any
) -> int:
    """Network against kernel on the paper's data, over n, d and seeds.

    Finished cells are kept in DIR/compare.csv and never computed again: the same command goes on where it stopped,
    and with longer lists computes only what is new.
    """
    from ..runtime.process_pool import other_ranks
    from ..studies.comparison import cell, summary
    from ..studies.study import Study, parse_shard

    cells = configurations(**grid)
    part = parse_shard(shard)
    study = Study("compare", cell, folder, version=2)
    try:
        with other_ranks() as executor:
            rows = study.run(cells, processes, threads, part, quiet, executor)
    except OSError as error:
        raise InputError(f"-o {folder}: cannot be written: {error.strerror or error}") from None
    found = summary(rows, ("d", "n", "reg", "m", "steps", "n_test"))
    missing = len(cells) - len(rows)
    figure = _figure(found, folder / "compare.png") if not missing else None
    if as_json:
        print_json({"table": found, "cells": len(rows), "missing": missing, "folder": folder, "figure": figure})
    else:
        _show(found)
        print(f"\ncells     {shown_path(folder / ('compare*.csv' if missing else 'compare.csv'))}")
        print(f"figure    {shown_path(figure)}" if figure else "figure    none, until all cells are there")
    if missing:
        print(f"meanfield: {missing} of {len(cells)} cells are missing", file=sys.stderr)
    return 1 if study.failures else 0


def configurations(dims: str, sizes: str, seeds: int, reg: float, m: int, steps: int, n_test: int) -> list[dict]:
    """The cells of the command's lists. InputError: what is no list of dimensions or sizes, λ ≤ 0."""
    from ..studies.comparison import parse_size

    if not (reg > 0 and math.isfinite(reg)):
        raise InputError(f"--reg {reg!r}: must be positive")
    found = []
    for text in dims.split(","):
        if not (text.strip().isdecimal() and int(text) >= 2):
            raise InputError(f"--d {dims}: {text!r} must be an integer, at least 2")
        found.append(int(text))
    try:
        pairs = {(d, parse_size(text, d)): None for d in found for text in sizes.split(",")}
    except InputError as error:
        raise InputError(f"--n {error}") from None
    return [
        {"d": d, "n": n, "seed": seed, "reg": reg, "m": m, "steps": steps, "n_test": n_test}
        for d, n in sorted(pairs)
        for seed in range(seeds)
    ]


def _show(found: list[dict[str, Any]]) -> None:
    """Mean ± standard error of the test errors, how far the networks are from their optimum, and the mean seconds."""
    names = ("network_error", "kernel_error", "kernel_best_error", "learned_error")
    clocks = ("network_seconds", "kernel_seconds", "learned_seconds")
    print(
        table(
            [
                ("d", "n", "network", "NTK", "NTK, best *", "NTK, learned **", "relative gap ***", "seconds ****"),
                *(
                    (
                        str(row["d"]),
                        str(row["n"]),
                        *(_percent(row[name], row[f"{name}_se"]) for name in names),
                        f"{row['relative_gap']:.1e}",
                        " / ".join(f"{row[name]:.2g}" for name in clocks),
                    )
                    for row in found
                ),
            ]
        )
    )
    print(
        "\nTest errors, mean ± standard error over the seeds. NTK: ridge, chosen by leave-one-out.\n"
        "*    best of ridge, logistic and SVM paths, chosen on the test set itself in every cell: favours the kernel\n"
        "**   its metric learned from the gradients of its own fits: no fixed kernel\n"
        "***  (L − lower bound) / L of the network; the lower bound is an estimate\n"
        "**** mean over the seeds: network / NTK, all paths together / NTK, learned"
    )


def _percent(value: float, error: float) -> str:
    return f"{100 * value:.2f} %" if math.isnan(error) else f"{100 * value:.2f} ± {100 * error:.2f} %"


def _figure(found: list[dict[str, Any]], path: Path) -> Path:
    from ..plots import write_comparison

    return write_comparison(found, path)
