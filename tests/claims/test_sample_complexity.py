"""The claim on sample sizes: its committed numbers come out again, and its fits find what is put into them."""

import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_sample_complexity as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.errors import InputError  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402

CELLS = [
    ("network", claim.network_cell, {"d": 10, "n": 20, "seed": 0}),
    ("network", claim.network_cell, {"d": 10, "n": 60, "seed": 1}),
    ("kernel", claim.kernel_cell, {"d": 10, "n": 100, "seed": 0}),
    ("learned", claim.learned_cell, {"d": 20, "n": 125, "seed": 0}),
    ("lazy", claim.lazy_cell, {"d": 10, "n": 20, "seed": 0}),
]


def committed(name):
    return Study(f"sample_complexity_{name}", None, claims.RESULTS).read()


@pytest.mark.parametrize(("name", "cell", "which"), CELLS)
def test_committed_cells_come_out_again(name, cell, which):
    """What a run gives is the same number everywhere. The kernel's side is equal to rounding: of 4096 new points one or
    two may lie so close to the boundary that it moves them across, and a chosen regularization is one of a grid."""
    row = next(row for row in committed(name) if which.items() <= row.items())
    columns = cell.__code__.co_varnames[: cell.__code__.co_argcount]
    for column, value in cell(**{column: row[column] for column in columns if column in row}).items():
        if name in ("kernel", "learned") and isinstance(value, float):
            points = 2 / 4096 if column.endswith("error") else 0
            assert value == pytest.approx(row[column], rel=1e-6, abs=points), column
        else:
            assert value == (pytest.approx(row[column], rel=1e-9) if isinstance(value, float) else row[column]), column


@pytest.mark.parametrize("source", claim.SOURCES)
def test_all_three_distributions_are_problems_that_four_neurons_separate(source):
    """With the normalized margin that the reference names, and cells of another source have a table of their own."""
    data = claim.comparison.paper_problem(200, 6, 0, source=source)
    a, b = data.X[:, 0], data.X[:, 1]
    four = (np.abs(a) - np.abs(b)) / 8 if source == "xor" else (np.abs(a + b) - np.abs(a - b)) / 2 / (4 * np.sqrt(2))
    assert (data.targets * four).min() == pytest.approx(1 / 8 if source == "xor" else 1 / (4 * np.sqrt(2)))
    assert claim.named("network", claims.Options(source=source)) == {
        "xor": "sample_complexity_network",
        "parity": "sample_complexity_network_parity",
        "parity_normal": "sample_complexity_network_parity_normal",
    }.get(source)


def test_the_committed_tables_say_what_the_claim_says():
    """At n = 6d one network of 70 errs; each has a recorded gap below 3 %; the kernel there errs on a third or more."""
    network, kernel = committed("network"), committed("kernel")
    enough = [row for row in network if row["n"] == 6 * row["d"]]
    assert len(enough) == 70
    assert sum(row["network_error"] > 0 for row in enough) == 1
    assert 0 <= max(row["relative_gap"] for row in network) < 0.03
    few = [row for row in kernel if row["n"] <= 8 * row["d"] and row["d"] >= 20]
    assert few
    assert min(row["kernel_best_error"] for row in few) > 0.25


def test_a_learned_metric_needs_a_number_of_examples_between():
    """From d = 10 to 80 its mean error falls below 10 % between 1.2 and 1.6 d^1.5 examples: an exponent within 0.14 of
    1.5. At d = 40 that is above 6d, where no network errs, and below 0.8 d², where the best fixed kernel still does."""
    found = claim.curves(committed("learned"), "learned_error")
    assert len(found) == 7
    for d, (sizes, errors) in found.items():
        mean = dict(zip((sizes / d**1.5).round(1), errors.mean(axis=1), strict=True))
        assert mean[1.2] > claim.LEVEL > mean[1.6], d
    kernel = claim.curves(committed("kernel"), "kernel_best_error")[40]
    assert kernel[1][kernel[0] == round(0.8 * 40**2)].mean() > claim.LEVEL


@pytest.mark.parametrize("source", claim.SOURCES)
def test_the_verdicts_in_words_are_those_of_the_tables(tmp_path, source, capsys):
    """The committed table comes out of the committed cells, and the page includes it."""
    options = claims.Options(folder=tmp_path, source=source)
    for part in claim.GRIDS:
        if (table := claims.RESULTS / f"{claim.named(part, options)}.csv").exists():
            shutil.copy(table, tmp_path)
    claim.exponents(options)
    name = f"{claim.named('exponents', options)}.md"
    text = (tmp_path / name).read_text("utf-8")
    assert text == (claims.RESULTS / name).read_text("utf-8")
    assert f"data/results/{name}" in (ROOT / "docs/claims/sample_complexity.md").read_text("utf-8")
    page = (ROOT / "docs/claims.md").read_text("utf-8").splitlines()
    line = next(line for line in page if "claim_sample_complexity" in line and "[" in line and "%" in line)
    for row in text.splitlines():
        if source == "xor" and row.startswith(("| network |", "| NTK, best of all |")):
            assert row.split(" | ")[2] in line


def test_a_part_with_missing_cells_draws_nothing(tmp_path, monkeypatch, capsys):
    """A share computes its cells and stops before the table; an unknown part and share are refused."""
    options = ["--shard", "1/2", "--folder", str(tmp_path), "--quiet", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", ["x", "part", *options])
    drawn = []

    def part(options):
        options.study("powers", pow2).run({"x": x} for x in range(4))
        drawn.append(options)

    with pytest.raises(SystemExit) as ended:
        claims.main("doc", {"part": part})
    assert (ended.value.code, drawn) == (0, [])
    assert "2 cells are missing (share 1 of 2 is done)" in capsys.readouterr().err
    with open(tmp_path / "powers.shard-1-of-2.csv") as file:
        assert sorted(line[0] for line in csv.reader(file) if line[0].isdigit()) == ["0", "2"]
    for wrong in (["nopart"], ["part", "--shard", "3/2"]):
        monkeypatch.setattr(sys, "argv", ["x", *wrong])
        with pytest.raises(SystemExit) as ended:
            claims.main("doc", {"part": part})
        assert ended.value.code == 2


def test_a_figure_has_the_same_bytes_each_time(tmp_path):
    """No dates, no versions of the drawing software in the PNG: equal figures are equal files."""
    contents = []
    for _ in range(2):
        figure, axes = claims.page(2)
        axes[0].plot([1, 2], [3, 4])
        claims.save(figure, "x", claims.Options(folder=tmp_path))
        contents.append([(tmp_path / f"x.{kind}").read_bytes() for kind in ("png", "pdf")])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("panels", "width", "size"), [(1, 6.75, 3.25), (3, 6.75, 6.75), (3, 3.25, 3.25)])
def test_a_figure_is_as_wide_as_it_is_printed(tmp_path, panels, width, size):
    """A column or a page, at 300 dots an inch, letters of 7.5 points and more; in a column all below each other."""
    figure, axes = claims.page(panels)
    for ax in axes:
        ax.plot([1, 2], [3, 4], label="a")
        ax.legend()
    claims.save(figure, "x", claims.Options(folder=tmp_path, width=width))
    with Image.open(tmp_path / "x.png") as image:
        assert image.width == pytest.approx(300 * size, abs=1)
    shown = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_fontsize() for text in shown) >= 7.5
    if size == 3.25:
        assert len({round(ax.get_position().x0, 2) for ax in axes}) == 1


def pow2(x):
    return {"y": 2**x, "pid": os.getpid()}


def test_mean_and_error_are_those_of_independent_draws():
    """s/√k with k − 1 degrees of freedom; a single value has no error."""
    assert claims.mean_and_error([1.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(claims.mean_and_error([1.0])[1])
    with pytest.raises(InputError):
        claim.network_cell(1, 10, 0, 5e-3, 64, 1)
