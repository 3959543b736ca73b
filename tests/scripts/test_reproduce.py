"""Laws of `scripts/reproduce`: what it calls, that it goes on after a failure, and that it says how long each took."""

import csv
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def reproduce(tmp_path):
    """The script as a module."""
    loader = SourceFileLoader("reproduce", str(SCRIPTS / "reproduce"))
    module = module_from_spec(spec_from_loader("reproduce", loader))
    loader.exec_module(module)
    return module


def test_it_calls_every_claim_that_there_is(reproduce):
    """In shares where it has cells, with its own data; a name that is none is refused."""
    assert len(reproduce.CLAIMS) > 10
    called = reproduce.calls(reproduce.parse(["--full", "--shard", "2/5", "--folder", "x"]))
    assert "minimum" not in called
    assert len(called) == len(reproduce.CLAIMS) - 1 + len(reproduce.SOURCES)
    for command in called.values():
        assert {"--full", "--shard", "2/5", "--folder", "x"} <= set(command)
    assert called["sample_complexity, parity"][-2:] == ["--source", "parity"]
    assert set(reproduce.calls(reproduce.parse(["lazy"]))) == {"lazy"}
    assert list(reproduce.calls(reproduce.parse([]))) == [*reproduce.CLAIMS, "statements"]
    with pytest.raises(SystemExit):
        reproduce.parse(["lasy"])


def test_an_estimate_adds_up_what_the_cells_took(reproduce, tmp_path):
    """By claim, the longest name that fits a table's; what has no seconds counts for nothing."""
    (tmp_path / "margin_line.csv").write_text("# study\nd,seconds\n1,2.5\n# computed with x\n2,3.5\n", "utf-8")
    (tmp_path / "margin_limit.csv").write_text("d,seconds\n1,4\n", "utf-8")
    (tmp_path / "margin.csv").write_text("d,fit_seconds\n1,4\n", "utf-8")
    assert reproduce.estimate(tmp_path) == {"margin": 6.0, "margin_limit": 4.0}


def test_a_claim_that_fails_does_not_keep_the_others_and_all_are_timed(reproduce, tmp_path, monkeypatch, capsys):
    (tmp_path / "claim_bad.py").write_text("raise SystemExit(1)")
    (tmp_path / "claim_good.py").write_text("import sys, pathlib; pathlib.Path(sys.argv[-2], 'mark').touch()")
    (tmp_path / "statements.py").write_text("")
    monkeypatch.setattr(reproduce, "SCRIPTS", tmp_path)
    monkeypatch.setattr(reproduce, "CLAIMS", ("bad", "good"))
    assert reproduce.main(["--folder", str(tmp_path / "new")]) == 1
    assert (tmp_path / "new" / "mark").exists()
    said = capsys.readouterr().out
    assert "status 1" in said
    assert "done" in said
    assert reproduce.main(["good", "--folder", str(tmp_path / "new")]) == 0
    with open(tmp_path / "new" / "times.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["claim"], row["status"]) for row in rows] == [
        (one, str(int(one == "bad"))) for one in ("bad", "good", "statements", "good")
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
