"""Laws of the command line: its contract, and one helpful line for whatever is wrong."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from meanfield import load
from meanfield.cli import _COMMANDS, main
from meanfield.storage import hdf5, run_file

SETTINGS = ("ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.record_every=10", "objective.reg=0.02")
SETUP = [part for setting in SETTINGS for part in ("--set", setting)]
SMALL = [*SETUP, "--set", "run.steps=40"]
LANGEVIN = ["--set", "dynamics.method=langevin"]
ENDLESS = [*SETUP, *LANGEVIN, "--set", "run.steps=100000000", "--set", "run.checkpoint_every=20"]
RUN_KEYS = [
    "step",
    "time",
    "objective",
    "risk",
    "penalty",
    "margin",
    "train_error",
    "test_error",
    "lower_bound",
    "relative_gap",
    "seconds",
    "out",
]
HEAVY = {"numpy", "scipy", "numba", "h5py", "pydantic", "sklearn", "matplotlib", "tqdm"}
PROCESS = [sys.executable, "-c", "from meanfield.cli import main; main()"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
def finished(call):
    """A small finished run in a.h5."""
    assert call("run", *SMALL, "--out", "a.h5", "--quiet")[0] == 0
    return Path("a.h5")


def refused(result, *words, status=2):
    """Assert that a call ended as bad input must: nothing on stdout, one line on stderr with these words."""
    got, out, err = result
    assert (got, out) == (status, ""), err
    assert err.startswith("meanfield: error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def warned(err):
    """How many warnings there are among the lines."""
    return sum(line.startswith("meanfield: warning: ") for line in err.splitlines())


def files():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def same_state(one, other):
    """Assert that two run files hold the same bits but for wall-clock times."""
    a, b = load(one), load(other)
    assert a.ensemble.step == b.ensemble.step
    np.testing.assert_array_equal(a.ensemble.w, b.ensemble.w)
    np.testing.assert_array_equal(a.ensemble.u, b.ensemble.u)
    assert a.trace.keys() == b.trace.keys()
    for name, column in a.trace.items():
        np.testing.assert_array_equal(column, b.trace[name], err_msg=name)


# Wrong input


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["runn"], ["runn", "did you mean run?"]),
        (["run", "nowhere.toml"], ["nowhere.toml", "No such file"]),
        (["run", "."], [".", "cannot be read"]),
        (["run", "torn.toml"], ["torn.toml", "not valid TOML", "line 2"]),
        (["run", "unknown.toml"], ["unknown.toml", "objective.regg", "did you mean objective.reg?"]),
        (["run", "binary.toml"], ["binary.toml", "not UTF-8"]),
        (["run", "--set", "data.nn=3"], ["data.nn", "did you mean data.n?"]),
        (["run", "--set", "steps=3"], ["steps=3", "section.key=value"]),
        (["run", "--set", "data.n=many"], ["data.n = 'many'", "integer"]),
        (["run", "--set", "data.n=0"], ["data.n = 0", "at least 1"]),
        (["run", "--set", "data.n=1.5"], ["data.n = 1.5", "integer"]),
        (["run", "--set", "data.source=xorr"], ["data.source = 'xorr'", "did you mean xor?"]),
        (["run", "--set", "objective.loss=logistik"], ["objective.loss = 'logistik'", "did you mean logistic?"]),
        (["run", "--set", "objective.reg=-1"], ["objective.reg = -1", "at least 0"]),
        (["run", "--set", "objective.reg=nan"], ["objective.reg = nan", "finite"]),
        (["run", "--set", "objective.temperature=-1"], ["objective.temperature = -1", "at least 0"]),
        (["run", "--set", "ensemble.dtype=float16"], ["ensemble.dtype = 'float16'", "float32"]),
        (["run", "--set", "dynamics.step_size=big"], ["dynamics.step_size = 'big'", "auto"]),
        (["run", "--set", "run.checkpoint_every=soon"], ["run.checkpoint_every = 'soon'", "10min"]),
        (["run", "--max-time", "soon"], ["--max-time", "'soon'", "2h"]),
        (["run", "--threads", "0"], ["--threads", "0", "range"]),
        (["run", "--frobnicate"], ["--frobnicate"]),
        (["run", "one.toml", "two.toml"], ["two.toml"]),
        (["run", "--out", "nowhere/a.h5"], ["--out nowhere/a.h5", "nowhere does not exist"]),
        (["run", "--out", "."], ["--out .", "is a folder"]),
        (["resume"], ["RUN.h5"]),
        (["ntk", "nowhere.toml"], ["nowhere.toml", "No such file"]),
        *((([command, "nowhere.h5"]), ["nowhere.h5", "no such file"]) for command in ("resume", "info", "plot", "ntk")),
    ],
)
def test_wrong_input_is_one_line_with_status_2_and_writes_nothing(call, args, words):
    """Whatever is wrong is named in one line on stderr, with what would be right; no traceback, no file."""
    Path("torn.toml").write_text("[data]\nsource = ")
    Path("unknown.toml").write_text("[objective]\nregg = 1e-3\n")
    Path("binary.toml").write_bytes(b"\xff\xfe\x00[data]")
    before = files()
    refused(call(*args), *words)
    assert files() == before


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        ("", [], ["is empty"]),
        ("1,2,3\n4,5,6\n", [], ["line 1", "data.header"]),
        ("a,b,y\n", [], ["no rows"]),
        ("a,b,y\n1,2,0\n1,0\n", [], ["line 3", "2 fields", "must be 3"]),
        ("a,b,y\n1,two,0\n", [], ["line 2", "'b'", "'two'", "number"]),
        ("a,b,y\n1,2,0\n1,nan,1\n", [], ["line 3", "'b'", "nan", "finite"]),
        ("a,b,y\n1,2,0\n1,inf,1\n", [], ["line 3", "'b'", "inf", "finite"]),
        ("a,b,y\n1,2,0\n1,,1\n", [], ["line 3", "'b'", "missing"]),
        ("a,b,y\n1,2,0\n3,4,1\n", ["data.label=z"], ["data.label = 'z'", "no such column"]),
        ("a,b,y\n1,2,0\n3,4,1\n5,6,2\n", [], ["logistic", "3"]),
        ("a,b,y\n1,2,p\n3,4,q\n5,6,r\n", ["objective.loss=squared"], ["squared"]),
        ("a,b,y\n1,2,0\n3,4,0\n", ["objective.loss=cross_entropy"], ["class"]),
    ],
)
def test_a_faulty_table_is_one_line_that_names_its_place(call, content, settings, words):
    """A .csv that cannot be used, or labels that do not suit the loss, are refused before anything is written."""
    Path("table.csv").write_text(content)
    before = files()
    settings = ["data.source=table.csv", "data.test_fraction=0", *settings]
    refused(call("run", *(part for one in settings for part in ("--set", one)), "--out", "a.h5"), *words)
    assert files() == before


@pytest.mark.parametrize("name", ["X", "y"])
def test_nan_in_arrays_is_named_with_its_place(call, name):
    """A value that is not finite in an .npz is named by array and index."""
    arrays = {"X": np.ones((4, 2)), "y": np.array([0.0, 1.0, 0.0, 1.0])}
    arrays[name][(3, 1) if name == "X" else 3] = np.nan
    np.savez("data.npz", **arrays)
    place = f"data.npz: {name}[{'3, 1' if name == 'X' else '3'}] is nan"
    refused(call("run", "--set", "data.source=data.npz", "--set", "objective.loss=squared"), place, "finite")


def test_an_existing_file_is_only_overwritten_by_force(call, finished):
    """`--out` onto a file is refused and leaves it alone; `--force` replaces it."""
    before = finished.read_bytes()
    refused(call("run", *SMALL, "--out", "a.h5"), "a.h5", "exists already", "--force")
    assert finished.read_bytes() == before
    assert call("run", *SMALL, "--set", "run.steps=10", "--out", "a.h5", "--force")[0] == 0
    assert load("a.h5").ensemble.step == 10


def test_over_an_unfinished_run_resume_is_suggested(call):
    """`--out` onto a run with steps to go names the command that goes on with it."""
    assert call("run", *ENDLESS, "--max-time", "0.1s", "--out", "a.h5")[0] == 75
    refused(call("run", "--out", "a.h5"), "unfinished", "meanfield resume a.h5")


def test_the_command_that_goes_on_can_be_pasted(call):
    """Also where the name begins with a dash or holds a space; nothing reaches the terminal that it would act upon."""
    for name, quoted in (("./-x.h5", "resume ./-x.h5 "), ("a b.h5", "resume 'a b.h5' "), ("\x1b[31m.h5", "x1b[31m.h5")):
        status, out, _ = call("run", *SMALL, "--out", name, "--quiet")
        assert status == 0
        assert quoted in out
        assert "\x1b" not in out


def test_a_run_without_rows_is_not_drawn(call, finished):
    tree = hdf5.read(finished)
    hdf5.write("empty.h5", {**tree, "trace": {}, "timing": {}})
    for command in ("plot", "report"):
        refused(call(command, "empty.h5"), "empty.h5: has no rows of trace yet")


@pytest.mark.parametrize("command", ["info", "resume", "plot", "ntk"])
def test_what_is_not_a_whole_run_is_refused(call, finished, command, monkeypatch):
    """Text, a cut file, a changed byte, a foreign HDF5 file and a newer format: one line each, and no file touched."""
    import h5py

    good = finished.read_bytes()
    Path("a.h5.prev").unlink()
    content, newest = run_file.load(finished), run_file.FORMAT_VERSION
    with monkeypatch.context() as future:
        future.setattr(run_file, "FORMAT_VERSION", newest + 1)
        run_file.save("newer.h5", content)
    Path("text.h5").write_text("not a run")
    Path("cut.h5").write_bytes(good[: len(good) // 2])
    place = len(good) // 2
    Path("flipped.h5").write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with h5py.File("foreign.h5", "w") as file:
        file["X"] = np.zeros(3)
    before = files()
    for name, words in (
        ("text.h5", ["not an HDF5 file"]),
        ("cut.h5", ["truncated"]),
        ("flipped.h5", ["checksum"]),
        ("foreign.h5", ["not a meanfield run"]),
        ("newer.h5", [f"format {newest + 1}", f"up to {newest}"]),
    ):
        refused(call(command, name), name, *words)
    assert files() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--until", "3"], ["--until 3", "step 40 already"]),
        (["--until", "50", "--more", "5"], ["one of them"]),
        (["--more", "-1"], ["--more", "-1"]),
    ],
)
def test_a_senseless_end_is_refused(call, finished, args, words):
    """`resume` to a step that lies behind, or with two ends, is bad input."""
    before = files()
    refused(call("resume", "a.h5", *args), *words)
    assert files() == before


def test_divergence_ends_with_status_1_and_one_line_and_a_whole_file(call):
    """A step size far too large: one line says at which step and what to try; the last checkpoint can be loaded."""
    settings = ["--set", "dynamics.step_size=1e30", "--set", "objective.loss=squared"]
    refused(call("run", *SMALL, *settings, "--out", "a.h5", "--quiet"), "step", "finite", "smaller step", status=1)
    assert load("a.h5").ensemble.step == 0


def test_a_figure_that_cannot_be_written_is_refused(call, finished):
    """`plot -o` onto a file names it."""
    before = files()
    refused(call("plot", "a.h5", "-o", "a.h5"), "-o a.h5", "cannot be written")
    assert files() == before


def test_a_kernel_that_cannot_be_fitted_costs_no_run(call):
    """A single class suits no classifier: `ntk` refuses it, `run --ntk` says so beside the network's results."""
    np.savez("data.npz", X=np.eye(4), y=np.ones(4))
    settings = (*SMALL[:2], "--set", "run.steps=10", "--set", "data.source=data.npz", "--set", "data.test_fraction=0")
    status, out, err = call("run", *settings, "--ntk", "--out", "a.h5")
    assert (status, "one class" in err, "train error" in out) == (0, True, True)
    assert json.loads(call("run", *settings, "--ntk", "--json", "--out", "b.h5")[1])["ntk"] is None
    refused(call("ntk", "a.h5"), "one class")


# Results


def test_run_json_has_exactly_the_contract_s_keys_alone_on_stdout(call):
    """`run --json` prints one object, its numbers those of the trace's last row; what was not computed is null."""
    status, out, _ = call("run", *SMALL, "--out", "a.h5", "--json", "--no-gap")
    found, trace = json.loads(out), load("a.h5").trace
    assert (status, list(found)) == (0, RUN_KEYS)
    assert (found["step"], found["out"], found["lower_bound"], found["relative_gap"]) == (40, "a.h5", None, None)
    for name in ("time", "objective", "risk", "penalty", "margin", "train_error"):
        assert found[name] == trace[name][-1], name
    assert 0 <= found["test_error"] <= 1


def test_a_run_ends_by_saying_how_far_it_is(call):
    """In the table and in JSON; above 1 % in one line on stderr as well, quiet or not, with what to do."""
    settings = [*SETUP, "--set", "ensemble.dtype=float64", "--set", "dynamics.method=gradient_flow"]
    status, out, err = call("run", *settings, "--set", "run.steps=40", "--out", "a.h5", "--quiet")
    assert (status, warned(err), "relative gap (estimate)" in out) == (0, 1, True)
    assert "meanfield: warning: the objective may be above its minimum by " in err
    assert "resume a.h5 --more" in err
    status, out, err = call("resume", "a.h5", "--until", "1500", "--json", "--quiet")
    found = json.loads(out)
    assert (status, warned(err)) == (0, 0)
    assert 0 <= found["relative_gap"] < 0.01
    assert found["relative_gap"] == pytest.approx(1 - found["lower_bound"] / found["objective"])
    again = json.loads(call("resume", "a.h5", "--json")[1])  # finished
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


def test_at_a_temperature_the_gap_is_called_that_of_the_free_energy(call):
    settings = [*SMALL, "--set", "objective.temperature=1e-3"]
    status, out, err = call("run", *settings, "--out", "a.h5", "--quiet")
    assert (status, "free-energy gap / L (estimate)" in out) == (0, True)
    assert "relative gap" not in out
    assert "the free energy may be above its minimum by " in err


def test_a_run_that_is_cut_short_spends_no_time_on_its_gap(call, monkeypatch):
    """By --max-time, as by a signal; nor does one that is told not to."""
    from meanfield.simulation import final_gap

    monkeypatch.setattr(final_gap, "_measured", lambda *_: pytest.fail("measured"))
    status, out, _ = call("run", *ENDLESS, "--max-time", "0.1s", "--out", "a.h5", "--json")
    assert (status, json.loads(out)["relative_gap"]) == (75, None)
    assert call("run", *SMALL, "--no-gap", "--out", "b.h5")[0] == 0


def test_steps_far_too_large_are_told_in_one_line():
    """Finite numbers, and an objective above where it began."""
    settings = ("dynamics.step_size=2.0", "dynamics.method=gradient_flow", "dynamics.batch=1")
    chosen = [part for one in settings for part in ("--set", one)]
    line = [*PROCESS, "run", *SMALL, *chosen, "--no-gap", "--quiet", "--json", "--out", "a.h5"]
    ended = subprocess.run(line, capture_output=True, text=True)
    assert (ended.returncode, warned(ended.stderr)) == (0, 1), ended.stderr
    assert "meanfield: warning: step 40: the objective is " in ended.stderr
    assert json.loads(ended.stdout)["relative_gap"] is None


def test_json_holds_null_where_there_is_no_test_set_and_no_margin(call):
    """Regression without a test set: strictly valid JSON, null and not NaN."""
    rng = np.random.default_rng(0)
    np.savez("data.npz", X=rng.standard_normal((20, 3)), y=rng.standard_normal(20))
    settings = (
        "data.source=data.npz",
        "data.test_fraction=0",
        "objective.loss=squared",
        "ensemble.m=256",
        "run.steps=10",
    )
    chosen = [part for one in settings for part in ("--set", one)]
    found = json.loads(call("run", *chosen, "--out", "a.h5", "--json")[1], parse_constant=pytest.fail)
    assert (found["test_error"], found["margin"]) == (None, None)
    found = json.loads(call("ntk", "a.h5", "--json")[1], parse_constant=pytest.fail)
    assert (found["test_error"], found["margin"]) == (None, None)


def test_ntk_agrees_on_a_configuration_and_on_its_run(call, finished):
    """`ntk` sees the same data through the options as through the run file, and has the contract's keys."""
    status, out, err = call("ntk", *SETUP, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert {"train_error", "test_error", "margin", "method", "n"} <= found.keys()
    assert found["n"] == 40
    again = json.loads(call("ntk", "a.h5", "--json")[1])
    assert min(found.pop("seconds"), again.pop("seconds")) > 0
    assert again == found


def test_run_with_ntk_and_plot_adds_them_to_table_and_json(call):
    """`--ntk` and `--plot` show the kernel's errors and the figure's path, in JSON as keys of their own."""
    found = json.loads(call("run", *SMALL, "--out", "a.h5", "--ntk", "--plot", "--json")[1])
    assert list(found) == [*RUN_KEYS, "ntk", "figures"]
    alone = json.loads(call("ntk", "a.h5", "--json")[1])
    assert min(found["ntk"].pop("seconds"), alone.pop("seconds")) > 0
    assert found["ntk"] == alone
    assert found["figures"] == ["a-convergence.png"]
    assert Path("a-convergence.png").stat().st_size > 0
    out = call("run", *SMALL, "--out", "b.h5", "--ntk", "--plot")[1]
    assert "ReLU NTK" in out
    assert re.search(r"^seconds +[\d.]+ +[\d.e-]+$", out, re.MULTILINE)
    assert "b-convergence.png" in out


def test_info_tells_configuration_progress_and_integrity(call, finished):
    """`info --json` holds the run's keys, what was asked for in full, and how far it came; it writes nothing."""
    before = files()
    found = json.loads(call("info", "a.h5", "--json")[1])
    assert list(found)[: len(RUN_KEYS)] == RUN_KEYS
    assert (found["step"], found["steps"], found["state"]) == (40, 40, "finished")
    assert found["config"]["objective"]["reg"] == {"shape": "constant", "start": 0.02, "end": 0.02, "steps": 0}
    text = call("info", "a.h5")[1]
    assert "finished: step 40 of 40, 5 rows" in text
    assert files() == before


def test_without_out_a_run_gets_a_new_name_by_date(call):
    """Two runs in a row leave two files."""
    for _ in range(2):
        assert call("run", *SMALL)[0] == 0
    assert len(list(Path().glob("run-*.h5"))) == 2


def test_help_is_shown_without_loading_the_engine():
    """`meanfield --help` names every command and imports none of the heavy packages, so that it is quick."""
    code = (
        "import sys\nfrom meanfield.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & {name.strip("[]'") for name in ended.stderr.split(", ")}
    for command in _COMMANDS:
        assert f"  {command} " in ended.stdout


def test_nothing_is_wider_than_80_columns(call, finished):
    """Help and tables fit a terminal of 80 columns."""
    texts = [call("--help")[1], *(call(command, "--help")[1] for command in _COMMANDS)]
    texts += [call("info", "a.h5")[1], call("ntk", "a.h5")[1]]
    texts += [call("run", *SMALL, "--ntk", "--plot", "--out", "b.h5")[1]]
    assert all(texts)
    assert [line for text in texts for line in text.splitlines() if len(line) > 80] == []


def test_doctor_reports_what_the_machine_is(call):
    """`doctor --json` has versions, threads and speeds; a speed is positive."""
    found = json.loads(call("doctor", "--json")[1])
    assert {"meanfield", "numpy", "numba", "cores", "threads", "vector_bits", "cache_folder"} <= found.keys()
    assert found["step_gflops"] > 0
    assert found["matrix_product_gflops"] > 0


# Stopping and going on


@pytest.mark.parametrize("chosen", ["dynamics.method=langevin", "dynamics.cooled_at=40"])
def test_a_run_resumed_for_more_equals_one_that_never_stopped(call, chosen):
    """run to 40, resume --more 25, resume --until 80 == run to 80: the same bits, the same trace; of the default
    dynamics where its step was to be lowest at the same step."""
    assert call("run", *SMALL, "--set", chosen, "--out", "a.h5", "--quiet")[0] == 0
    assert call("run", *SETUP, "--set", chosen, "--set", "run.steps=80", "--out", "b.h5")[0] == 0
    assert call("resume", "a.h5", "--more", "25")[0] == 0
    assert load("a.h5").ensemble.step == 65
    assert call("resume", "a.h5", "--until", "80", "--threads", "1")[0] == 0
    same_state("a.h5", "b.h5")


def test_resume_of_a_finished_run_says_so_and_changes_nothing(call, finished):
    """Without --more or --until there is nothing to do: status 0, told, the file untouched."""
    before = files()
    status, out, _ = call("resume", "a.h5")
    assert (status, "finished at step 40" in out, "--more" in out) == (0, True, True)
    status, out, err = call("resume", "a.h5", "--json")
    assert (status, list(json.loads(out))) == (0, RUN_KEYS)
    assert "finished at step 40" in err
    assert files() == before


def test_max_time_saves_and_ends_with_status_75(call):
    """`--max-time` leaves a whole file on the way, and says how to go on from it."""
    status, out, err = call("run", *ENDLESS, "--max-time", "0.2s", "--out", "a.h5")
    step = load("a.h5").ensemble.step
    assert status == 75
    assert 0 < step < 10**8
    assert f"step {step} of 100000000: max_time" in err
    assert "resume a.h5" in out
    assert json.loads(call("info", "a.h5", "--json")[1])["state"] == "unfinished"
    assert call("resume", "a.h5", "--until", step + 7)[0] == 0
    assert load("a.h5").ensemble.step == step + 7


@pytest.mark.parametrize(("name", "status"), [("SIGHUP", 129), ("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_ends_with_its_status(call, name, status):
    """HUP, INT, TERM: the run stops after the step, saves, and what is saved equals a run straight to that step."""
    process = subprocess.Popen(
        [*PROCESS, "run", *ENDLESS, "--out", "a.h5", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not Path("a.h5.prev").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "Traceback" not in err
    step = load("a.h5").ensemble.step
    assert json.loads(out)["step"] == step > 0
    assert not Path("a.h5.lock").exists()
    assert call("run", *SETUP, *LANGEVIN, "--set", f"run.steps={step}", "--out", "b.h5")[0] == 0
    same_state("a.h5", "b.h5")


# Surroundings


def test_paths_may_hold_spaces_and_letters_beyond_ascii(call):
    """Such a path works for the configuration and the run, and the command shown for going on can be pasted."""
    Path("mein Läuf ρ").mkdir()
    config = Path("mein Läuf ρ/λ = 1.toml")
    config.write_text("[data]\nn = 40\nd = 6\nn_test = 0\n[ensemble]\nm = 256\n[run]\nsteps = 10\n", encoding="utf-8")
    name = "mein Läuf ρ/a b.h5"
    status, out, err = call("run", config, "--out", name)
    assert status == 0, err
    shown = next(line for line in out.splitlines() if line.startswith("go on"))
    assert name in shlex.split(shown)
    assert call("resume", name, "--more", 5)[0] == 0
    assert call("plot", name, "-o", "mein Läuf ρ/Bilder")[0] == 0


def test_the_c_locale_without_a_terminal_is_no_obstacle():
    """LC_ALL=C, output into pipes: the table comes, in ASCII if it must, and no control characters on stderr."""
    surroundings = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run([*PROCESS, "run", *SMALL, "--out", "a.h5"], env=surroundings, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert b"train error" in ended.stdout
    ended.stdout.decode("ascii")
    assert b"Traceback" not in ended.stderr
    assert not set(ended.stderr) & {0x1B, 0x0D}


def test_a_figure_that_cannot_be_drawn_costs_nothing_else(call, monkeypatch):
    """Whatever went wrong: the run is done, its results are shown, and one line says why there is no figure."""

    def broken(*arguments):
        raise RuntimeError("latex could not be\nfound")

    monkeypatch.setattr("meanfield.plots.write", broken)
    status, out, err = call("run", *SMALL, "--plot", "--out", "a.h5", "--quiet")
    assert status == 0
    assert "objective L" in out
    assert "meanfield resume a.h5" in out
    assert err == "meanfield: no figure: latex could not be found\n"
    assert json.loads(call("run", *SMALL, "--plot", "--out", "b.h5", "--json")[1])["figures"] == []


def test_a_terminal_gets_a_bar_and_quiet_gets_nothing():
    """On a terminal stderr shows a progress bar; with --quiet it stays empty but for warnings, here of the gap, that
    the default dynamics leaves no larger than is told of."""
    shown = {}
    for quiet in ((), ("--quiet",), ("--quiet", *LANGEVIN)):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        with open(os.devnull, "w") as nowhere:
            ended = subprocess.run([*PROCESS, "run", *SMALL, *quiet], stdout=nowhere, stderr=theirs)
        os.close(theirs)
        assert ended.returncode == 0
        shown[quiet] = _drain(ours)
    assert "40/40" in shown[()]
    assert shown[("--quiet",)] == ""
    assert shown[("--quiet", *LANGEVIN)].startswith("meanfield: warning: the objective may be above")
    assert shown[("--quiet", *LANGEVIN)].count("\n") == 1


def test_a_reader_that_goes_away_is_no_traceback(finished):
    """`meanfield info a.h5 | head -0`: a failing status, and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*PROCESS, "info", "a.h5"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def _drain(descriptor):
    """What was written to a pseudo-terminal whose other end is closed."""
    chunks = []
    try:
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    except OSError:  # Linux: the other end is closed
        pass
    os.close(descriptor)
    return b"".join(chunks).decode()


def test_a_run_goes_on_from_the_particles_of_another_as_a_new_run(tmp_path, monkeypatch):
    """`ensemble.init = RUN.h5` under another λ: step 0 again, the particles where they were, the parent recorded."""
    monkeypatch.chdir(tmp_path)
    small = ["--set", "data.n=20", "--set", "data.d=4", "--set", "data.n_test=0", "--quiet"]
    with pytest.raises(SystemExit):
        main(["run", *small, "--set", "ensemble.m=100", "--set", "run.steps=7", "--out", "first.h5"])
    with pytest.raises(SystemExit) as end:
        main(
            [
                "run",
                *small,
                "--set",
                "ensemble.init=first.h5",
                "--set",
                "objective.reg=0.2",
                "--set",
                "run.steps=0",
                "--out",
                "second.h5",
            ]
        )
    first, second = load("first.h5"), load("second.h5")
    assert end.value.code == 0
    assert second.ensemble.step == 0
    assert np.array_equal(first.ensemble.u, second.ensemble.u)
    assert second.attributes["parent"] == f"first.h5, step 7, data {first.dataset.sha256}"
