"""Laws of sweeps: a cell is the run of its configuration, is computed once, and goes on where it stopped."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same

from meanfield import load
from meanfield.cli import main
from meanfield.cli import sweep as sweep_command
from meanfield.errors import InputError
from meanfield.runtime import process_pool
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.toml import load_config, read_tables, tables_text
from meanfield.studies import sweep
from meanfield.studies.study import parse_shard
from meanfield.studies.sweep import axes_of, file_name, read_grid, sweep_study

SMALL = ["data.n=16", "data.d=4", "data.n_test=32", "ensemble.m=64", "run.steps=8", "dynamics.method=langevin"]
SETS = [part for one in SMALL for part in ("--set", one)]
GRID = {"objective.reg": [1e-2, 1e-1], "data.seed": [0, 1]}


@contextmanager
def in_a_thread():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """The command in this process, its cells too, in a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process_pool, "other_ranks", in_a_thread)

    def run(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def computed(grid, folder, overrides=SMALL):
    """All rows of a sweep, without the time they took."""
    study, cells = sweep_study(None, overrides, grid, folder)
    with in_a_thread() as executor:
        rows = study.run(cells, quiet=True, executor=executor)
    assert study.failures == []
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_cell_is_the_run_of_its_configuration(tmp_path):
    """Bit for bit; the table has its last measures and the name of its file, the folder what all cells share."""
    rows = computed(GRID, tmp_path)
    assert [(row["objective.reg"], row["data.seed"]) for row in rows] == [(0.01, 0), (0.01, 1), (0.1, 0), (0.1, 1)]
    alone = run_to_end(new_run_from_config(load_config(None, [*SMALL, "objective.reg=0.1", "data.seed=1"])), None)
    assert_same(load(tmp_path / rows[3]["run"]), alone)
    assert {name: rows[3][name] for name in alone.final} == alone.final
    shared = load_config(tmp_path / "sweep.toml", ["objective.reg=0.1", "data.seed=1"])
    assert shared == load_config(None, [*SMALL, "objective.reg=0.1", "data.seed=1"])


def test_what_is_there_is_not_computed_again(tmp_path):
    """Longer lists compute only what is new."""
    first = computed(GRID, tmp_path)
    written = {row["run"]: (tmp_path / row["run"]).stat().st_mtime_ns for row in first}
    more = computed({"objective.reg": [1e-2, 1e-1], "data.seed": [0, 1, 2]}, tmp_path)
    assert [row for row in more if row["data.seed"] < 2] == first
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in written} == written


@pytest.mark.parametrize("stopped_at", [3, 8])
def test_a_cell_that_was_stopped_goes_on(tmp_path, monkeypatch, stopped_at):
    """Half-run, or run to its end with no row written: as if it never had been."""
    often = [*SMALL, "run.record_every=1"]
    whole = computed({"data.seed": [5]}, tmp_path / "whole", often)
    _, (cell,) = sweep_study(None, often, {"data.seed": [5]}, tmp_path)
    begun = new_run_from_config(load_config(tmp_path / "sweep.toml", ["data.seed=5"]))
    run_to_end(begun, tmp_path / file_name(cell), callback=lambda ensemble, row: ensemble.step == stopped_at)
    assert load(tmp_path / file_name(cell)).ensemble.step == stopped_at
    monkeypatch.setattr(sweep, "new_run_from_config", None)  # no step is taken anew
    assert computed({"data.seed": [5]}, tmp_path, often) == whole
    assert_same(load(tmp_path / file_name(cell)), load(tmp_path / "whole" / file_name(cell)))


def test_the_time_allowed_stops_runs_between_and_within(call, tmp_path, monkeypatch):
    """With status 75, every run saved where it is; the same command ends with the table of a sweep left alone."""
    sets = [part for one in (*SMALL, "run.record_every=1") for part in ("--set", one)]
    command = ["sweep", "--grid", "data.seed=0:3", *sets, "--quiet", "--max-time"]
    clock = iter([0.0, 0.0, 3600.0 - 1e-9, 3601.0])  # the command's start, and that of each of its cells
    for module in (sweep, sweep_command):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: next(clock)))
    status, _, err = call(*command, "1h")
    assert status == 75
    assert err == "meanfield: 2 of 3 cells are missing; the time is over, the same command goes on\n"
    stopped = load(tmp_path / "sweep" / "data.seed=1.h5")
    assert stopped.ensemble.step < stopped.config.run.steps
    assert not (tmp_path / "sweep" / "data.seed=2.h5").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    rows = computed({"data.seed": [0, 1, 2]}, tmp_path / "sweep", [*SMALL, "run.record_every=1"])
    assert rows == computed({"data.seed": [0, 1, 2]}, tmp_path / "whole", [*SMALL, "run.record_every=1"])
    assert len({line.split(",")[0] for line in rows_of(tmp_path)}) == len(rows_of(tmp_path)) == 3


def rows_of(folder):
    """The lines of a sweep's table, without comments and head."""
    lines = (folder / "sweep" / "sweep.csv").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")][1:]


def test_a_folder_holds_one_sweep(tmp_path):
    """Other settings, or other keys, are refused: which and how they differ."""
    computed({"data.seed": [0]}, tmp_path)
    with pytest.raises(InputError, match=r"data\.d = 4, not 5"):
        sweep_study(None, [*SMALL, "data.d=5"], {"data.seed": [0]}, tmp_path)
    with pytest.raises(InputError, match=r"objective\.reg = its default, not 0\.5"):
        sweep_study(None, [*SMALL, "objective.reg=0.5"], {"data.seed": [0]}, tmp_path)
    study, cells = sweep_study(None, SMALL, {"ensemble.seed": [0]}, tmp_path)
    with pytest.raises(InputError, match=r"sweep\.csv: its columns are data\.seed"):
        study.run(cells, quiet=True)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("objective.reg=1e-4,1e-3,1e-3", [1e-4, 1e-3]),
        ("ensemble.m=1e3, 2000", [1000, 2000]),
        ("data.seed=0:4", [0, 1, 2, 3]),
        ("data.n=40:200:80,500", [40, 120, 500]),
        ("data.bias=true,false", [True, False]),
        ("dynamics.step_size=auto,0.1", ["auto", 0.1]),
        ('data.source="a b.csv",xor', ["a b.csv", "xor"]),
    ],
)
def test_a_grid_is_read(text, values):
    """Numbers, truths and words as `--set` reads them, ranges as Python has them, each value once."""
    (found,) = read_grid([text]).values()
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["data.seed"], "--grid data.seed: '' must be"),
        (["data.seed="], "--grid data.seed=: '' must be"),
        (["data.seed=4:4"], "4:4 must have 1 to"),
        (["data.seed=0:9999999"], "0:9999999 must have 1 to"),
        (["objective.reg={shape='linear'}"], "must be a number, true, false or a word"),
        (["data.seed=1", "data.seed=2"], "data.seed is given twice"),
        (["data.seed=0:2000", "data.n=1:2000"], "cells; must be at most"),
        (["objective.reg=1,-2"], "--grid: objective.reg = -2: must be at least 0"),
        (["objective.lambda=1"], "--grid: objective.lambda: unknown key; did you mean objective.reg?"),
        (["data.n=16,32"], "--grid data.n: is given by --set too"),
        (["run.steps=10"], "--grid run.steps: is given by --set too"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_anything_runs(call, grid, message, tmp_path):
    status, out, err = call("sweep", *(part for one in grid for part in ("--grid", one)), *SETS)
    assert (status, out) == (2, "")
    assert err.startswith("meanfield: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_names_of_run_files_differ_as_cells_do():
    """Whatever signs and lengths values have, a name fits a folder and none is another's."""
    sources = ["a/b.csv", "a_b.csv", "a b.csv", "é.csv", *(f"{'long' * 80}{k}" for k in range(3))]
    names = [file_name({"data.source": one, "data.seed": 1}) for one in sources]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name.encode()) < 200 and name.endswith(".h5") for name in names)


def test_seeds_are_averaged_over():
    assert axes_of({**GRID, "data.n": [16]}) == ["objective.reg"]
    assert axes_of({"ensemble.seed": [0, 1]}) == ["ensemble.seed"]
    assert axes_of({"data.n": [16]}) == ["data.n"]


def test_tables_are_written_as_they_are_read(tmp_path):
    """sweep.toml holds what was set, and no default."""
    tables = {"data": {"source": 'a "b".csv', "drop": ["x", 3]}, "objective": {"reg": {"start": 1e-2, "end": 1e-300}}}
    (tmp_path / "a.toml").write_text(tables_text(tables), encoding="utf-8")
    assert read_tables(tmp_path / "a.toml") == tables


def test_the_command_shares_a_sweep_out_and_shows_it(call, tmp_path):
    """Two shares are the whole: the table is averaged over seeds, in JSON it has every cell."""
    grid = ["--grid", "objective.reg=1e-2,1e-1", "--grid", "data.seed=0:2", "--quiet"]
    status, out, err = call("sweep", *grid, *SETS, "--shard", "1/2")
    assert status == 0
    assert "2 of 4 cells are missing" in err
    assert call("sweep", *grid, *SETS, "--shard", "2/2")[0] == 0
    status, out, err = call("sweep", *grid, *SETS)
    assert (status, err) == (0, "")
    head, _, low, high = out.splitlines()[:4]
    assert head.split()[0] == "objective.reg"
    assert (low.split()[0], high.split()[0]) == ("0.01", "0.1")
    assert (tmp_path / "sweep" / "sweep.png").stat().st_size > 1000
    found = json.loads(call("sweep", *grid, *SETS, "--json")[1])
    assert (found["cells"], found["missing"], found["figure"]) == (4, 0, "sweep/sweep.png")
    mean = np.mean([row["objective"] for row in found["table"] if row["objective.reg"] == 0.01])
    assert f"{mean:.4g} ±" in low
    files = sorted(str(path) for path in (tmp_path / "sweep").glob("*.h5"))
    status, out, _ = call("info", *files)
    assert [line.split("  ")[0] for line in out.splitlines()[2:]] == files
    assert "reg = 0.1" in out


def test_info_tells_of_a_file_that_cannot_be_read_and_shows_the_others(call, tmp_path):
    computed({"data.seed": [0, 1]}, tmp_path)
    (tmp_path / "data.seed=0.h5").write_bytes(b"nothing")
    (tmp_path / "data.seed=0.h5.prev").unlink(missing_ok=True)
    status, out, err = call("info", "data.seed=0.h5", "data.seed=1.h5", "--json")
    assert status == 2
    assert "data.seed=0.h5" in err
    assert [one["out"] for one in json.loads(out)["runs"]] == ["data.seed=1.h5"]


def test_a_cell_whose_data_are_missing_fails_in_one_line_and_alone(call):
    sets = [part for one in SMALL if not one.startswith("data") for part in ("--set", one)]
    status, out, err = call("sweep", "--grid", "data.source=no.csv,xor", *sets, "--quiet")
    assert status == 1
    assert "data.source=no.csv failed" in err
    assert "xor" in out


def test_bad_input_that_a_worker_meets_has_no_traceback():
    """It is one line that says all."""
    with process_pool.Pool(1) as pool:
        error = pool.submit(parse_shard, "3/2").exception()
    assert (str(error), error.details) == ("shard 3/2: must be k/K with 1 ≤ k ≤ K", "")


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path):
    """SIGKILL among its cells, then the same command: the table is that of a sweep that was left alone."""
    grid = {"data.seed": list(range(4))}
    longer = [*SMALL[:-2], "run.steps=1500", "run.checkpoint_every=50", "dynamics.method=langevin"]
    options = [part for one in longer for part in ("--set", one)]
    command = [
        sys.executable,
        "-m",
        "meanfield",
        "sweep",
        "--grid",
        "data.seed=0:4",
        *options,
        "--workers",
        "1",
        "--quiet",
    ]
    process = subprocess.Popen(command, cwd=tmp_path)
    while len(list((tmp_path / "sweep").glob("*.h5"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["table"]
    whole = computed(grid, tmp_path / "whole", longer)
    assert [row["objective"] for row in rows] == [row["objective"] for row in whole]
    assert len(rows_of(tmp_path)) == 4
