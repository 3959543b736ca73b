"""Hostile surroundings: the command works in them, or says in one line what to set."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from faults import COMMAND, in_process
from helpers import may_mount

import meanfield
from meanfield import load
from meanfield.errors import printable

SMALL = [
    part
    for one in (
        "data.n=40",
        "data.d=6",
        "data.n_test=0",
        "ensemble.m=256",
        "run.steps=10",
        "dynamics.method=langevin",
        "objective.reg={shape='constant', end=0.02}",
    )
    for part in ("--set", one)
]


def run(*args, **settings):
    settings = {"capture_output": True, "timeout": 300, **settings}
    return subprocess.run([*COMMAND, "run", *SMALL, *map(str, args)], **settings)


def works(done, path):
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    assert load(path).ensemble.step == 10


@pytest.mark.parametrize(
    "environment",
    [
        {"NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", os.path.expanduser("~/.cache"))},
        {**os.environ, **{f"VARIABLE_{k}": "x" * 100_000 for k in range(10)}},
        {**os.environ, "TERM": "dumb", "COLUMNS": "0", "LINES": "-3", "TZ": "nowhere", "LANG": "xx_YY.none"},
    ],
    ids=["empty", "a megabyte", "nonsense"],
)
def test_an_empty_or_huge_or_senseless_environment_is_no_obstacle(tmp_path, environment):
    """`env -i` but for the code cache, so that nothing is compiled for this test."""
    works(run("--out", tmp_path / "a.h5", env=environment), tmp_path / "a.h5")


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/proc/nowhere", ""])
def test_without_a_home_folder_code_is_compiled_and_what_to_set_is_said(tmp_path, home):
    """No cache can be kept in such a home; where there is none at all, the user's own is looked up."""
    environment = {"XDG_CACHE_HOME": "/proc/nowhere"} if home is None else {"HOME": home}
    done = run("--out", tmp_path / "a.h5", env=environment, cwd=tmp_path)
    works(done, tmp_path / "a.h5")
    if home != "":
        assert done.stderr.decode().count("NUMBA_CACHE_DIR") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(tmp_path, closed):
    """As under cron and daemons: no input, no output, no error stream, or none of them."""
    path = tmp_path / "a.h5"
    words = [*COMMAND, "run", *SMALL, "--out", str(path)]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *words], capture_output=True, timeout=120)
    works(done, path)


def test_without_a_terminal_a_run_outlives_its_session(tmp_path):
    """As `nohup` and `setsid` leave it: SIGHUP ignored stays ignored."""
    path = tmp_path / "a.h5"

    def detach():
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    arguments = [*COMMAND, "run", *SMALL, "--set", "run.steps=2000", "--out", str(path)]
    process = subprocess.Popen(
        arguments, preexec_fn=detach, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not path.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0
    assert load(path).ensemble.step == 2000


def test_names_that_are_not_unicode_can_be_written_and_are_refused_as_data_in_one_line(tmp_path):
    """Bytes beyond UTF-8, in the C locale: fine for the run file, but data.source, kept as text, must be Unicode."""
    path = tmp_path / os.fsdecode(b"\xe9 out.h5")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    works(run("--out", path, env=environment), path)
    np.savez(tmp_path / os.fsdecode(b"\xe9.npz"), X=np.eye(4), y=[0, 1, 0, 1])
    done = run("--set", "data.source=" + os.fsdecode(b"\xe9.npz"), cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"Unicode" in done.stderr


def printed(*command):
    """What a command shows, of which nothing may be unprintable."""
    status, out, err = in_process(*command)
    assert all(sign.isprintable() or sign in "\n\r" for sign in out + err)
    return status, out + err


def test_a_name_that_is_no_text_is_shown_escaped_and_drawn(tmp_path):
    """Of a run, and of what is made of it: one that turns text, colours a terminal, has two lines, is no Unicode and no
    formula; nothing unprintable is shown."""
    name = "_\u202e\x1b[31m\n" + os.fsdecode(b"\xff") + "$\\frac{$"
    path, other, escaped = tmp_path / f"{name}.h5", tmp_path / f"{name}2.h5", printable(name)
    small = ["--set", "data.n=20", "--set", "data.d=3", "--set", "ensemble.m=64", "--set", "run.steps=2"]
    for command in (
        ["run", *small, "--out", path, "--dry-run"],
        ["run", *small, "--out", path],
        ["resume", path],
        ["info", path],
        ["salvage", path, "--out", other],
        ["certify", path, "--save", tmp_path / f"{name}.proof"],
        ["plot", path, other],
        ["plot", path, "--only", "gap", "--format", "svg"],
    ):
        status, told = printed(*command)
        assert status == 0, told
        assert escaped in told or command[0] == "info"
    assert f"{escaped}.h5, step 2" in load(other).attributes["parent"]
    for command in ([name], ["run", f"--{name}"], ["info", tmp_path / name]):
        assert printed(*command)[0] == 2


def test_data_and_classes_whose_names_turn_text_are_shown_escaped(tmp_path):
    data, path = tmp_path / "a\u202eb.csv", tmp_path / "a.h5"
    data.write_text("x,z,y\n" + "".join(f"{k},{k * k % 5},$\\frac{{$\u202e{k % 3}\n" for k in range(9)))
    settings = [f"data.source={data}", "objective.loss=cross_entropy", "ensemble.m=64", "run.steps=2"]
    run = ["run", *(word for one in settings for word in ("--set", one)), "--out", path]
    for command in (run, ["info", path], ["plot", path, "--only", "particles,decision"]):
        status, told = printed(*command)
        assert status == 0, told
        assert "\\u202eb" in told or command[0] != "info"


def test_a_working_folder_that_was_removed_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
    root = Path(meanfield.__file__).parents[1]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, "run", *SMALL],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"the working folder was removed" in done.stderr


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount in a namespace of its own")
def test_an_installation_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    """site-packages read-only, as on clusters: nothing is written beside the code."""
    root = Path(meanfield.__file__).parents[1]
    code = "import sys; sys.dont_write_bytecode = False; from meanfield.cli import main; main()"
    script = f'mount --bind "{root}" "{root}" && mount -o remount,bind,ro "{root}" && exec "$@"'
    path = tmp_path / "a.h5"
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code, "run", *SMALL, "--out", str(path)]
    works(subprocess.run(command, capture_output=True, timeout=120, cwd=tmp_path), path)


# ---- files that mean harm --------------------------------------------------------------------------------------------


class Harm:
    """Unpickling it makes a file: proof that something unpickled it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def deep_toml(path):
    path.write_text("[data]\nsource = " + "[" * 100_000 + "]" * 100_000)


def npz_bomb(path):
    """A zip of 30 kB whose array claims 10¹² numbers, and one that unpacks to far more than it claims."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(10**7))
        archive.writestr("y.npy", b"")


def npz_pickle(path):
    np.savez(path, X=np.array([Harm(path.with_name("harm"))], object), y=np.zeros(1))


def csv_wide(path):
    path.write_text(",".join(f"x{k}" for k in range(200_000)) + ",y\n" + "1," * 3 + "\n")


def csv_field(path):
    path.write_text("a,b,y\n1,2,0\n" + "9" * 5_000_000 + ",2,1\n")


def csv_quotes(path):
    path.write_text('a,b,y\n1,2,0\n"' + "x\n" * 1_000_000)


def csv_nul(path):
    path.write_bytes(b"a,b,y\n1,2,0\n1,\0,1\n")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.toml", deep_toml),
        ("a.npz", npz_bomb),
        ("a.npz", npz_pickle),
        ("a.csv", csv_wide),
        ("a.csv", csv_field),
        ("a.csv", csv_quotes),
        ("a.csv", csv_nul),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_file_that_means_harm_is_refused_in_one_line(tmp_path, name, make):
    """Nothing unpickled, nothing allocated on its word, no traceback, and soon."""
    path = tmp_path / name
    make(path)
    target = [path] if name.endswith(".toml") else ["--set", f"data.source={path}"]
    status, out, err = in_process("run", *target, "--out", tmp_path / "out.h5")
    assert (status, out, err.count("\n")) == (2, "", 1), err[-500:]
    assert len(err) < 1000
    assert {file.name for file in tmp_path.iterdir()} == {name}


PICKLES = {"compiling.py", "process_pool.py"}  # its own code cache, under a SHA-256; pipes between its own processes


def test_no_file_of_the_user_s_is_ever_unpickled():
    """No import of pickle or its relatives where files are read, and no allow_pickle."""
    root = Path(meanfield.__file__).parent
    for file in [*root.rglob("*.py"), *(root.parent / "kernels").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text, file
        for module in ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"):
            assert f"import {module}" not in text or file.name in PICKLES, file
