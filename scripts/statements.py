#!/usr/bin/env python3
"""Each statement of the paper beside what was measured of it, from the tables in data/results.

    python scripts/statements.py          writes data/results/statements.md, which the page of statements includes, and
                                          of the statements named in HEADLINES the table in README.md
    python scripts/statements.py --check  writes nothing; status 1 where either is not that of the tables

A statement names its tables and is a function of their rows that returns what was measured, in words, and a verdict:
"agrees", "does not agree", "open" (the data do not tell) or "not testable". Draws are the fewest that a table has at
any d, the bits those that the tables' own comments name (version 1 where they name none).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import claim_sample_complexity
import claim_width
import claims
import numpy as np

from meanfield.studies.study import Study

AGREES, DIFFERS, OPEN, UNTESTABLE = "agrees", "does not agree", "open", "not testable"
Rows = list[dict[str, Any]]
Found = tuple[str, str]  # what was measured, and the verdict


class Statement(NamedTuple):
    """What the paper says, where, the page that says more, the tables, and what they show."""

    claim: str
    where: str
    page: str
    tables: tuple[str, ...]
    measure: Callable[..., Found]


def verdict(holds: bool) -> str:
    return AGREES if holds else DIFFERS


def groups(rows: Rows, *keys: str) -> dict[tuple[Any, ...], Rows]:
    """Rows by the values of these columns, in order."""
    found: dict[tuple[Any, ...], Rows] = {}
    for row in sorted(rows, key=lambda row: tuple(row[key] for key in keys)):
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def exponent(rows: Rows, column: str) -> Found:
    """Of the n at 10 % error; a logarithm that fits better leaves it open."""
    fit = claim_sample_complexity.growth_of(claim_sample_complexity.curves(rows, column), column)
    text = f"exponent {fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}], {fit.verdict}; {fit.alternative}"
    if not fit.verdict.startswith("consistent"):
        return text, verdict(False) if np.isfinite(fit.low) else OPEN
    return text, OPEN if fit.alternative.endswith(f"log d rather than d{'^2' * (fit.power == 2)}") else AGREES


def network_samples(rows: Rows) -> Found:
    return exponent(claim_sample_complexity.on_grid("network", rows), "network_error")


def kernel_samples(rows: Rows) -> Found:
    return exponent(claim_sample_complexity.on_grid("kernel", rows), "kernel_best_error")


def focus(rows: Rows) -> Found:
    """Signal over noise of least-norm interpolants at n = 0.4 d²: the same at every d if the kernel cannot focus."""
    found = groups([row for row in rows if abs(row["n"] / row["d"] ** 2 - 0.4) < 0.01], "d")
    ratios = [
        np.mean([row["signal_0"] for row in part]) / np.mean([row["noise_0"] for row in part])
        for part in found.values()
    ]
    dims = ", ".join(str(d) for (d,) in found)
    text = f"signal over noise at n = 0.4 d²: {', '.join(f'{one:.2f}' for one in ratios)} at d = {dims}"
    return text, verdict(max(ratios) < 1.5 * min(ratios))


def margin_limit(rows: Rows, limits: Rows) -> Found:
    largest = {row["seed"]: row["margin"] for row in limits}
    curves = [
        [row["margin"] / largest[seed] for row in sorted(part, key=lambda row: -row["reg"])]
        for (seed,), part in groups(rows, "seed").items()
    ]
    rises = all(a < b for curve in curves for a, b in pairwise(curve))
    last, reg = [curve[-1] for curve in curves], min(row["reg"] for row in rows)
    rising = "rises at every step of λ" if rises else "does not rise at every step of λ"
    text = f"γ/γ* {rising}, to {min(last):.3f} … {max(last):.3f} at {reg:.0e}"
    return text, verdict(rises and min(last) > 0.9 and max(last) < 1 + 1e-4)


def eighth(rows: Rows, limits: Rows) -> Found:
    """The hypothesis has a constant that is not stated; the conclusion can be looked at."""
    largest = {row["seed"]: row["margin"] for row in limits}
    least = min(row["margin"] / largest[row["seed"]] for row in rows)
    gap = max(row["gap"] for row in rows)
    return f"least γ/γ* {least:.2f} where L is within {100 * gap:.2g} % of the minimum (estimate)", UNTESTABLE


def deep_limit(rows: Rows) -> Found:
    names = sorted((name for name in rows[0] if re.fullmatch(r"margin_\d+", name)), key=lambda name: int(name[7:]))
    curves = [[row[name] for name in names] for row in rows]
    rises = sum(all(a < b for a, b in pairwise(curve)) for curve in curves)
    short = [1 - curve[-1] / row["best"] for curve, row in zip(curves, rows, strict=True)]
    text = f"rises with every step of λ in {rises} of {len(rows)} networks of 2 to {max(row['depth'] for row in rows)}"
    text += f" layers; ends at most {100 * max(short):.1f} % below the best found"
    return text, verdict(rises == len(rows))


def width(rows: Rows) -> Found:
    """What training and refitting found by itself, the best of the starts; nothing is carried over."""
    best = groups(rows, "m", "seed")
    return not_falling([{"m": m, "seed": s, "margin": max(row["margin"] for row in best[m, s])} for m, s in best])


def not_falling(rows: Rows) -> Found:
    """In expectation over the trials, each of which has all widths; three errors, as there are up to ten doublings."""
    widths, values = claim_width.by_width(rows, "margin")
    mean, error = claim_width.doublings(rows)
    whole, bar = claims.mean_and_error(values[:, -1] - values[:, 0])
    falls = int(np.sum(mean < -3 * error))
    text = f"gains {whole:.2g} ± {bar:.1g} from m = {widths[0]} to {widths[-1]}"
    text += f", falls by more than three standard errors in {falls} of {len(mean)} doublings"
    return text, DIFFERS if falls else AGREES if whole > 3 * bar else OPEN


def images(rows: Rows) -> Found:
    """Of the set that stands in for MNIST, and so no verdict on it."""
    error = claim_width.by_width(rows, "test_error")[1]
    mean, bar = claims.mean_and_error(error[:, -1] - error[:, 0])
    text = f"on scikit-learn's digits in its place: margin {not_falling(rows)[0]}"
    return f"{text}; test error changes by {100 * mean:.2g} ± {100 * bar:.1g} %", UNTESTABLE


def network_bound(rows: Rows) -> Found:
    bounds = np.array([12 * np.sqrt((row["d"] - 1) / row["n"]) / row["margin"] for row in rows])
    broken = sum(row["test_error"] > bound for row, bound in zip(rows, bounds, strict=True))
    text = f"12 √D/(γ_ℓ1 √n) is {bounds.min():.2g} at the least in {len(rows)} cells; a test error above it in {broken}"
    return text, DIFFERS if broken else UNTESTABLE if bounds.min() >= 1 else AGREES


def quarter(rows: Rows) -> Found:
    least = min(row["margin"] for row in rows)
    return f"least γ_ℓ1 {least:.4f}, found by a program that stops at 0.5 %", verdict(least > 0.25 * (1 - 5e-3))


def less_error(rows: Rows) -> Found:
    """Paired, at the largest n: the network's error less the kernel's."""
    n, reg = max(row["n"] for row in rows), min(row["reg"] for row in rows)
    part = [row for row in rows if row["n"] == n and row["reg"] == reg]
    mean, error = claims.mean_and_error(row["error"] - row["kernel_error"] for row in part)
    text = f"error less the kernel's at n = {n}, paired: {mean:.3g} ± {error:.2g}"
    return text, AGREES if mean < -2 * error else DIFFERS if mean > 2 * error else OPEN


def minimum(cells: Rows, proofs: Rows) -> Found:
    """4000 steps and more of annealed noise, held against proven lower bounds."""
    keys = ("d", "n", "seed", "reg")
    bounds = {tuple(row[key] for key in keys): row["proven_bound"] for row in proofs}
    gaps = [1 - bounds[tuple(row[key] for key in keys)] / row["objective"] for row in cells]
    text = (
        f"at most {100 * max(gaps):.2f} % above a proven lower bound in {len(gaps)} cells; the polynomial is not stated"
    )
    return text, verdict(max(gaps) < 0.01)


def any_start(rows: Rows) -> Found:
    """Within 10 % and within 1 % at σ = 10⁻³, from all starts; the time that the theorem gives is not known."""
    part = [row for row in rows if row["dynamics"] == "rebirth 1e-3"]
    near, close = (sum(row[f"steps_{level}"] >= 0 for row in part) for level in ("0.1", "0.01"))
    text = f"σ = 10⁻³: within 10 % in {near} of {len(part)} runs, within 1 % in {close}, in the time they were given"
    return text, AGREES if close == len(part) else OPEN


SAMPLES = "section 2"
STATEMENTS = (
    Statement(
        "The regularized network learns D from n of order d examples",
        SAMPLES,
        "sample_complexity",
        ("sample_complexity_network",),
        network_samples,
    ),
    *(
        Statement(
            f"The same where y = x₁x₂ of two signs, the other coordinates {others}",
            SAMPLES,
            "sample_complexity",
            (f"sample_complexity_network_{source}",),
            network_samples,
        )
        for source, others in (("parity", "signs"), ("parity_normal", "normal"))
    ),
    Statement(
        "The NTK needs n of order d²",
        SAMPLES,
        "sample_complexity",
        ("sample_complexity_kernel",),
        kernel_samples,
    ),
    Statement(
        "The kernel cannot focus on the two coordinates that matter", SAMPLES, "kernel", ("kernel_ridge",), focus
    ),
    Statement(
        "As λ → 0 the normalized margin tends to the largest, γ*",
        "theorem 4.1",
        "margin",
        ("margin_paper", "margin_paper_limit"),
        margin_limit,
    ),
    Statement("The same for deeper networks", "theorem 4.1", "deep", ("deep_margin",), deep_limit),
    Statement(
        "A 2-approximate minimizer has γ ≥ γ*/8 if λ ≤ γ*/(n (l − 1))^c, c large enough",
        "after theorem 4.1",
        "margin",
        ("margin_paper", "margin_paper_limit"),
        eighth,
    ),
    Statement(
        "The largest margin of width m does not fall as m grows", "section 4", "margin", ("margin_width",), width
    ),
    Statement(
        "Test error ≤ (6/γ) √(D/n) + …, for γ* that is 12 √D/(γ_ℓ1 √n) + …",
        "section 4",
        "bounds",
        ("bounds_network",),
        network_bound,
    ),
    Statement("γ_ℓ1 ≥ ¼ on D, whatever n and d", SAMPLES, "bounds", ("bounds_network",), quarter),
    Statement(
        "With a teacher of six units the network errs less than the kernel, in classification",
        "experiments",
        "bounds",
        ("bounds_classification",),
        less_error,
    ),
    Statement("The same, in regression", "experiments", "bounds", ("bounds_regression",), less_error),
    Statement(
        "Noisy gradient descent comes within ε of the minimum in a polynomial number of steps",
        "section 3",
        "optimization",
        ("optimization_cells", "optimization_proofs"),
        minimum,
    ),
    Statement("Perturbed flow does so from any start", "sections 3 to 5", "starts", ("starts_steps",), any_start),
    Statement(
        "With a teacher of ten units the margin of a trained network rises with its width",
        "experiments",
        "width",
        ("width_teacher",),
        not_falling,
    ),
    Statement(
        "On MNIST margin and test error improve with the width", "experiments", "width", ("width_digits",), images
    ),
)


def read(name: str, folder: Path) -> Rows:
    return Study(name, None, folder).read()  # type: ignore[arg-type]


def draws_of(rows: Rows) -> int:
    """The fewest seeds at any d."""
    seeds: dict[Any, set[Any]] = {}
    for row in rows:
        seeds.setdefault(row.get("d"), set()).add(row["seed"])
    return min(map(len, seeds.values()))


def bits(name: str, folder: Path) -> set[str]:
    """The versions that the comments of a table name; 1 before they did."""
    text = (folder / f"{name}.csv").read_text(encoding="utf-8")
    made = [line for line in text.splitlines() if line.startswith("# computed with")]
    return {found[1] if (found := re.search(r"bits (\d+)", line)) else "1" for line in made}


HEADLINES = (network_samples, kernel_samples, margin_limit, not_falling, less_error, minimum)  # of the README
README = claims.RESULTS.parents[1] / "README.md"
MARKS = "<!-- by scripts/statements.py -->\n", "<!-- to here -->\n"


def line(statement: Statement, folder: Path, pages: str = "") -> list[str]:
    """A row of the table; `pages`: the folder of the pages, from where the table stands."""
    rows = [read(name, folder) for name in statement.tables]
    measured, said = statement.measure(*rows)
    draws = str(min(map(draws_of, rows)))
    made = ", ".join(sorted(set().union(*(bits(name, folder) for name in statement.tables))))
    page = f"[{statement.page.replace('_', ' ')}]({pages}{statement.page}.md)"
    return [statement.claim, statement.where, measured, said, draws, made, page]


def texts(folder: Path) -> dict[Path, str]:
    """What is to stand in the file of all statements that have their tables there, and in the README."""
    there = [one for one in STATEMENTS if all((folder / f"{name}.csv").exists() for name in one.tables)]
    head = ["stated", "where", "measured", "verdict", "draws", "bits", "more"]
    whole = claims.marked(head, [line(one, folder) for one in there])
    chosen = [line(one, folder, "docs/claims/") for one in there if one.measure in HEADLINES]
    of = itemgetter(0, 2, 3, 4, 6)
    short = claims.marked(of(head), map(of, chosen))
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    return {
        folder / "statements.md": whole,
        README: "".join([before, MARKS[0], "\n", short, "\n", MARKS[1], rest.partition(MARKS[1])[2]]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=claims.RESULTS, help="of the tables (default: data/results)")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    found = texts(options.folder)
    if options.folder.resolve() != claims.RESULTS:  # the README is of the tables beside it
        del found[README]
    if not options.check:
        for path, text in found.items():
            path.write_text(text, encoding="utf-8")
    old = [path for path, text in found.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in old:
        print(f"{path}: is not what the tables say: python scripts/statements.py", file=sys.stderr)
    return int(bool(old))


if __name__ == "__main__":
    sys.exit(main())
