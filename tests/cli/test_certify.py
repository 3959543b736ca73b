"""Laws of `meanfield certify`: proofs that are kept and checked, statuses, and what is said while one is made."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from meanfield.cli import main
from meanfield.storage import hdf5

SMALL = ("ensemble.m=256", "data.n=40", "data.d=10", "data.n_test=0", "run.steps=40", "objective.reg=0.02")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    """Run the command in this process: (status, stdout, stderr)."""

    def run(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def run(call):
    """A function that makes a small run file."""

    def make(name, *more):
        settings = [part for setting in (*SMALL, *more) for part in ("--set", setting)]
        assert call("run", *settings, "--out", name, "--quiet", "--no-gap")[0] == 0

    return make


def test_a_proof_can_be_handed_over(call, run):
    """Kept, checked alone and against its run, in words and in JSON."""
    run("a.h5")
    status, out, _ = call("certify", "a.h5", "--effort", 0.3, "--method", "proven", "--save", "a.proof.h5", "--json")
    found = json.loads(out)
    assert (status, found["rigorous"]) == (0, True)
    assert {path.name for path in Path().iterdir()} >= {"a.h5", "a.proof.h5"}
    status, out, err = call("certify", "--verify", "a.proof.h5", "--json")
    checked = json.loads(out)
    assert (status, err, checked["holds"], checked["rigorous"], checked["of_run"]) == (0, "", True, True, None)
    assert checked["lower_bound"] >= checked["claim"] == pytest.approx(found["lower_bound"], rel=2e-9)
    assert (checked["primal"], checked["step"], checked["method"]) == (found["primal"], 40, found["method"])
    assert checked["relative_gap"] <= found["relative_gap"] + 1e-9
    assert checked["seconds"] < 60
    status, out, _ = call("certify", "a.h5", "--verify", "a.proof.h5")
    assert status == 0
    assert "the proof holds" in out


def test_a_proof_that_does_not_hold_ends_with_status_1(call, run):
    """A claim that was raised; or a proof of another run."""
    run("a.h5")
    run("b.h5", "ensemble.seed=1")
    assert call("certify", "a.h5", "--effort", 0.3, "--method", "proven", "--save", "a.proof.h5")[0] == 0
    status, out, _ = call("certify", "b.h5", "--verify", "a.proof.h5")
    assert status == 1
    assert "not of b.h5" in out
    tree = hdf5.read("a.proof.h5")
    tree["claim"]["lower_bound"] *= 1.01
    hdf5.write("raised.h5", tree)
    status, out, _ = call("certify", "--verify", "raised.h5", "--json")
    assert status == 1
    assert json.loads(out)["holds"] is False
    assert "claims" in json.loads(out)["reason"]
    Path("cut.h5").write_bytes(Path("a.proof.h5").read_bytes()[:-9])
    status, out, err = call("certify", "--verify", "cut.h5")
    assert (status, out) == (2, "")
    assert "truncated" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "needs RUN.h5"),
        (["--verify", "a.h5"], "not a meanfield proof"),
        (["--verify", "absent.h5"], "no such file"),
        (["--verify", "absent.h5", "--effort", "2"], "--effort"),
        (["a.h5", "--save", "a.h5"], "exists and is no proof"),
        (["a.h5", "--save", "none/a.h5"], "no folder"),
        (["a.h5", "--save", "b.h5", "--method", "estimate"], "--save"),
        (["a.h5", "--until-gap", "2"], "until_gap = 2.0"),
        (["warm.h5", "--until-gap", "1e-3"], "--until-gap"),
        (["warm.h5", "--save", "b.h5"], "--save"),
    ],
)
def test_bad_requests_are_refused_in_one_line(call, run, args, words):
    run("a.h5")
    run("warm.h5", "objective.temperature=1e-4")
    before = Path("a.h5").read_bytes()
    status, out, err = call("certify", *args)
    assert (status, out) == (2, "")
    assert err.startswith("meanfield: error: ")
    assert words in err
    assert err.count("\n") == 1
    assert Path("a.h5").read_bytes() == before
    assert not Path("b.h5").exists()


def test_an_estimate_is_told_and_not_kept(call, run):
    run("a.h5", "data.n=160", "data.d=20", "objective.reg=0.005")
    status, out, err = call("certify", "a.h5", "--effort", 0.001, "--save", "a.proof.h5")
    assert status == 2
    assert "estimate" in out
    assert "an estimate has no proof" in err
    assert not Path("a.proof.h5").exists()


def test_a_temperature_that_falls_is_no_reason_to_refuse(call, run):
    """L is bounded, at τ = 0, and the command says so; at a constant one it is the free energy."""
    run("a.h5", 'objective.temperature={shape="geometric",start=1e-3,end=1e-6,steps=40}')
    status, out, _ = call("certify", "a.h5", "--effort", 0.1)
    assert status == 0
    assert "at τ = 0: the run's temperature falls" in out
    keys = json.loads(call("certify", "a.h5", "--effort", 0.1, "--json")[1])
    assert keys["temperature"] == pytest.approx(1e-6)
    assert keys["lower_bound"] <= keys["primal"]
    run("warm.h5", "objective.temperature=1e-4")
    assert "consistency" in json.loads(call("certify", "warm.h5", "--json")[1])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_what_is_proven_so_far(monkeypatch, call, run):
    """One line that is rewritten, never wider than 80 columns, and gone at the end; bounds that only rise."""
    run("a.h5", "data.n=60", "data.d=20", "objective.reg=0.005")
    shown = {}
    for more in ((), ("--quiet",), ("--json",)):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            assert call("certify", "a.h5", "--until-gap", 1e-4, "--effort", 0.06, *more)[0] == 0
        shown[more] = terminal.getvalue()
    assert shown[("--quiet",)] == shown[("--json",)] == ""
    assert "\n" not in shown[()]
    assert shown[()].endswith("\r\x1b[K")
    lines = [line.removesuffix("\x1b[K") for line in shown[()].split("\r")]
    assert max(map(len, lines)) < 80
    bounds = [float(found[1]) for line in lines if (found := re.search(r"min L ≥ ([\d.e-]+),", line))]
    assert len(bounds) > 0
    assert bounds == sorted(bounds)
