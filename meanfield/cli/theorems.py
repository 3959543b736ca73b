"""`meanfield theorems`: which theorems of the paper a run's data and certificate prove the hypotheses of."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import click

from ._tables import number, percent, print_json, table

_WIDTH = 80
_MEANING = {
    "proven": "all hypotheses are proven",
    "assumed": "what is not proven is assumed",
    "constant not stated": "not testable: the paper leaves a constant open",
    "not proven": "a hypothesis is not proven",
    "not met": "hypothesis not met",
}


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@click.option(
    "--effort",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="E",
    help="Work to do: 1 is at most about two minutes of one core.",
)
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="The probability with which a bound on the test error may fail.",
)
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads (default: the cores this process may use).")
def theorems(path: Path, as_json: bool, effort: float, delta: float, threads: int | None) -> int:
    """Which theorems of arXiv 1810.05369 speak of a run, and what follows.

    Of every hypothesis: whether the data and the certificate prove it. Of every conclusion: the number, and what was
    measured beside it.
    """
    from ..simulation.run import load
    from ..studies.theorems import theorems as found_of

    found = found_of(load(path), effort=effort, delta=delta, threads=threads)
    if as_json:
        print_json(_keys(found, path))
    else:
        print(_text(found))
    return 0


def _keys(found: Any, path: Path) -> dict[str, Any]:
    """What `--json` prints; `holds`: whether all hypotheses are proven or assumed."""
    own = {name: value for name, value in vars(found).items() if name != "statements"}
    statements = [
        {
            **statement._asdict(),
            "hypotheses": [hypothesis._asdict() for hypothesis in statement.hypotheses],
            "status": statement.status,
            "holds": statement.status in ("proven", "assumed"),
        }
        for statement in found.statements
    ]
    return {**own, "statements": statements, "out": path}


def _text(found: Any) -> str:
    """The same as paragraphs of at most 80 columns."""
    head = f"step {found.step}, λ = {found.reg:.3g}, n = {found.n}, d = {found.d}, m = {found.m}"
    rows = [
        (head, ""),
        ("objective L", number(found.objective)),
        ("  of the minimum at most, proven", f"{found.factor:.6g} times"),
        ("normalized margin γ", number(found.margin)),
        ("  largest γ*, at least", number(found.max_margin)),
        ("  largest γ*, at most, proven", number(found.max_margin_upper)),
        *([("test error", percent(found.test_error))] if percent(found.test_error) else []),
    ]
    return "\n\n".join([table(rows), *(_paragraph(statement) for statement in found.statements)])


def _paragraph(statement: Any) -> str:
    lines = [f"{statement.name} ({statement.source}): {_MEANING[statement.status]}"]
    for claim, status, detail in statement.hypotheses:
        lines.append(f"  if    {claim}: {', '.join(filter(None, (status, detail)))}")
    lines.append(f"  then  {statement.conclusion}")
    numbers = "bound " + ("none" if statement.bound is None else f"{statement.bound:.4g}")
    numbers += ", which says nothing" if statement.is_vacuous else ""
    if statement.measured is not None and math.isfinite(statement.measured):
        numbers += f"; measured {statement.measured:.4g}"
    lines.append(f"        {numbers}")
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent=" " * 10) for line in lines)
