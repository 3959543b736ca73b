"""Laws of what is told before a run: `meanfield init` writes what an empty file means, `--dry-run` what a run takes."""

import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meanfield import load
from meanfield.cli import main
from meanfield.dynamics import GradientFlow
from meanfield.simulation.config import Config
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.plan import expected_seconds
from meanfield.simulation.toml import load_config, tables

SMALL = ["ensemble.m=20000", "data.n=40", "data.d=6", "data.n_test=300", "run.steps=45", "record.snapshots=3"]
SETS = [part for one in SMALL for part in ("--set", one)]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """The command in this process, in a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def test_a_new_configuration_is_that_of_an_empty_file(call):
    """As it is written; and with every default put in force, the same again, but that all was set."""
    assert call("init", "a.toml")[0] == 0
    text = Path("a.toml").read_text(encoding="utf-8")
    assert load_config("a.toml") == Config()
    Path("b.toml").write_text(re.sub(r"^#(?=\w+ = (?!…))", "", text, flags=re.MULTILINE), encoding="utf-8")
    assert tables(load_config("b.toml")) == tables(Config())


def test_a_new_configuration_has_every_key_that_a_file_may_set_and_words_for_it(call):
    """Each under its section, after a comment; keys that only run files hold are not offered."""
    call("init")
    text = Path("run.toml").read_text(encoding="utf-8")
    for section, field in Config.model_fields.items():
        part = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0]
        shown = re.findall(r"^# .+\n#(\w+) = ", part, re.MULTILINE)
        lacking = set(field.annotation.model_fields) - set(shown)
        assert lacking <= {"parameters", "derivative"}
        assert set(shown) <= set(field.annotation.model_fields)
    assert "`" not in text
    assert "](" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_file_that_is_there_stays(call):
    Path("run.toml").write_text("[data]\n")
    status, out, err = call("init")
    assert (status, out) == (2, "")
    assert "run.toml: exists already" in err
    assert Path("run.toml").read_text() == "[data]\n"
    assert "cannot be written" in call("init", "no/such.toml")[2]


def test_a_dry_run_tells_the_sizes_and_writes_nothing(call, tmp_path):
    """Those of the run itself; of its file about."""
    status, out, _ = call("run", "--dry-run", "--json", *SETS, "--out", "a.h5")
    assert status == 0
    assert list(tmp_path.iterdir()) == []
    told = json.loads(out)
    call("run", *SETS, "--out", "a.h5", "--quiet", "--no-gap")
    run = load("a.h5")
    assert [told[name] for name in ("n", "d", "outputs", "n_test", "m", "steps")] == [40, 6, 1, 300, 20000, 45]
    assert (told["rows"], told["particles"]) == (len(run.trace["step"]), run.ensemble.theta.nbytes)
    assert told["snapshots"] == sum(one.w.nbytes + one.u.nbytes for one in run.snapshots)
    assert told["file"] == pytest.approx(Path("a.h5").stat().st_size, rel=0.15)
    assert 0.1 < told["seconds"] / run.recorder.seconds < 10
    status, out, _ = call("run", "--dry-run", *SETS, "--out", "b.h5")
    assert "for the steps, an estimate" in out
    assert "m 20000, float32" in out
    assert "b.h5, about" in out


def test_the_time_told_is_not_that_of_what_compiles(monkeypatch):
    """Two of the first steps take 0.3 s, as those do in which something is compiled; a run of 100 takes no 30 s."""
    step, calls = GradientFlow.step, itertools.count()

    def slow_at_first(*args):
        if next(calls) in (1, 5):
            time.sleep(0.3)
        return step(*args)

    monkeypatch.setattr(GradientFlow, "step", slow_at_first)
    sets = ["data.n=20", "data.d=3", "ensemble.m=64", "dynamics.method=gradient_flow", "run.steps=100"]
    assert expected_seconds(new_run_from_config(load_config(None, sets), draw=False)) < 3
    assert next(calls) > 5


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ensemble.scale=1e20", "scale"),
        ("record.snapshot_particles=all", "snapshots"),
        ("data.source=no.csv", "no.csv"),
    ],
)
def test_a_dry_run_refuses_what_a_run_does(call, setting, words):
    """Settings that only the particles or the data show to be wrong."""
    big = ["--set", "ensemble.m=1e9", "--set", "record.snapshots=3"]
    status, out, err = call("run", "--dry-run", *big, "--set", setting)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_dry_run_of_what_fits_no_machine_takes_no_memory(call):
    """10¹⁰ particles are counted, not drawn."""
    status, out, _ = call("run", "--dry-run", "--json", "--set", "ensemble.m=1e10", "--set", "data.d=2")
    assert status == 0
    assert json.loads(out)["particles"] == 4 * 3 * 10**10


_MEASURED = """
import re, sys
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.plan import Plan
from meanfield.simulation.toml import load_config

def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

sets = ["data.n=640", "run.steps=2", "dynamics.method=langevin"]
run_to_end(new_run_from_config(load_config(None, [*sets, "ensemble.m=256"])), None, final_gap=False)
before = resident("VmRSS")
run = new_run_from_config(load_config(None, [*sets, "ensemble.m=2e6"]))
run_to_end(run, None, final_gap=False)
print((resident("VmHWM") - before) / Plan.of(run).memory)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_memory_told_is_what_an_explicit_run_takes():
    """Within a tenth, at two million particles."""
    done = subprocess.run([sys.executable, "-c", _MEASURED], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(1.0, abs=0.1)
