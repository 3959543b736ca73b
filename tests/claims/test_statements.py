"""The page of statements is that of the tables, and its verdicts turn where the numbers do."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claims  # noqa: E402
import statements  # noqa: E402
from statements import AGREES, DIFFERS, OPEN, UNTESTABLE  # noqa: E402


def test_the_committed_tables_are_those_of_the_committed_numbers(tmp_path, monkeypatch, capsys):
    """Of the page and of the README; the pages that they send to are there. A number that is another is told."""
    assert statements.main(["--check"]) == 0
    assert "data/results/statements.md" in (ROOT / "docs/claims/statements.md").read_text("utf-8")
    for one in statements.STATEMENTS:
        assert (ROOT / f"docs/claims/{one.page}.md").exists(), one.claim
    shown = statements.README.read_text("utf-8")
    monkeypatch.setattr(statements, "README", tmp_path / "README.md")
    statements.README.write_text(shown.replace("| agrees |", "| agreed |"), "utf-8")
    assert statements.main(["--check"]) == 1
    assert "README.md: is not what the tables say" in capsys.readouterr().err


def test_the_table_is_of_the_folder_that_is_named(tmp_path):
    """A row more there, with a margin below a quarter, turns the verdict; what has no table there is left out."""
    text = (claims.RESULTS / "bounds_network.csv").read_text("utf-8")
    (tmp_path / "bounds_network.csv").write_text(text + "32,99,0,0.1,0.1,0.5,1.0\n", "utf-8")
    one = next(one for one in statements.STATEMENTS if one.measure is statements.quarter)
    assert statements.line(one, claims.RESULTS)[3] == AGREES
    assert statements.line(one, tmp_path)[3] == DIFFERS
    assert statements.main(["--folder", str(tmp_path)]) == 0
    assert [row.split(" | ")[3] for row in (tmp_path / "statements.md").read_text("utf-8").splitlines()[2:]] == [
        statements.network_bound(statements.read("bounds_network", tmp_path))[1],
        DIFFERS,
    ]


def margins(*values):
    """Rows of one draw at falling λ, and its largest margin, 1."""
    rows = [{"seed": 0, "reg": 10.0**-k, "margin": value, "gap": 1e-4} for k, value in enumerate(values)]
    return rows, [{"seed": 0, "margin": 1.0}]


def wide(*trials):
    """Rows of trials with these margins at widths 1, 2, …."""
    return [{"m": 2**k, "seed": s, "margin": x} for s, trial in enumerate(trials) for k, x in enumerate(trial)]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (statements.margin_limit(*margins(0.8, 0.9, 0.95)), AGREES),
        (statements.margin_limit(*margins(0.8, 0.95, 0.94)), DIFFERS),
        (statements.margin_limit(*margins(0.5, 0.6, 0.7)), DIFFERS),
        (statements.margin_limit(*margins(0.9, 1.0, 1.1)), DIFFERS),
        (statements.eighth(*margins(0.8, 0.9)), UNTESTABLE),
        (statements.width([{"m": m, "seed": s, "margin": 1 - 1 / m} for m in (1, 2, 4) for s in (0, 1)]), AGREES),
        (statements.width([{"m": m, "seed": s, "margin": 1 / m} for m in (1, 2, 4) for s in (0, 1)]), DIFFERS),
        (statements.not_falling(wide((0, 1), (0, 1.1), (0, 0.9))), AGREES),
        (statements.not_falling(wide((0, 1), (0, -0.5), (0, -0.4))), OPEN),
        (statements.not_falling(wide((1, 0), (1.1, 0), (0.9, 0))), DIFFERS),
        (statements.quarter([{"margin": 0.25}]), AGREES),
        (statements.quarter([{"margin": 0.24}]), DIFFERS),
        (statements.network_bound([{"d": 5, "n": 10, "margin": 0.25, "test_error": 0.5}]), UNTESTABLE),
        (statements.network_bound([{"d": 5, "n": 10**6, "margin": 0.25, "test_error": 0.01}]), AGREES),
        (statements.network_bound([{"d": 5, "n": 10**6, "margin": 0.25, "test_error": 0.5}]), DIFFERS),
    ],
)
def test_verdicts_follow_the_numbers(found, verdict):
    assert found[1] == verdict


@pytest.mark.parametrize(("differences", "verdict"), [((-3, -2), AGREES), ((-3, 2), OPEN), ((3, 2.9), DIFFERS)])
def test_a_difference_agrees_where_it_is_more_than_two_standard_errors(differences, verdict):
    rows = [{"n": 10, "reg": 1e-8, "error": 5 + one, "kernel_error": 5} for one in differences]
    rows += [
        {"n": 5, "reg": 1e-8, "error": 0, "kernel_error": 100},
        {"n": 10, "reg": 1e-3, "error": 0, "kernel_error": 9},
    ]
    assert statements.less_error(rows)[1] == verdict


def test_bits_and_draws_are_those_of_the_tables():
    """Of the table with comments of several versions all; the fewest draws at any d."""
    assert statements.bits("sample_complexity_network", claims.RESULTS) == {"1", "2", "6"}
    assert statements.bits("starts_steps", claims.RESULTS) == {"3"}
    assert statements.draws_of([{"d": 1, "seed": 0}, {"d": 1, "seed": 1}, {"d": 2, "seed": 0}]) == 1
