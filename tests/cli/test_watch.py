"""Laws of `meanfield watch`: it tells what the file says, is no burden, and leaves the writer alone."""

import json
import math
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from meanfield.cli import main
from meanfield.cli.watch import State, carried, graph, read, screen
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.toml import load_config
from meanfield.storage import hdf5, run_file
from meanfield.storage.lock import writer

SMALL = ("ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.steps=40", "run.record_every=10")
PROCESS = [sys.executable, "-c", "from meanfield.cli import main; main()"]


@pytest.fixture
def path(tmp_path):
    """A finished run."""
    run = new_run_from_config(load_config(None, SMALL))
    run_to_end(run, tmp_path / "a.h5")
    return tmp_path / "a.h5"


def sign(path, **holder):
    """Leave a lock beside the run, as its writer does."""
    Path(f"{path}.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), **holder}))


def state(steps=1000, trace=None, seconds=(), written=0.0):
    trace = trace or {"step": np.arange(0, 501, 100), "objective": np.linspace(1, 0.5, 6)}
    return State(int(trace["step"][-1]), steps, "xor", trace, seconds, written)


def test_it_reads_what_the_run_says_and_no_particle(path, monkeypatch):
    """Step, end and trace are those of the file; particles and data are not even hashed."""
    names = []
    monkeypatch.setattr(hdf5, "_load", lambda name, *rest, f=hdf5._load: (names.append(name), f(name, *rest))[1])
    loaded = read(path)
    assert names
    assert not {"ensemble/w", "ensemble/u", "data/X"} & set(names)
    content = run_file.load(path)
    assert (loaded.step, loaded.steps, loaded.finished) == (40, 40, True)
    np.testing.assert_array_equal(loaded.trace["objective"], content.trace["objective"])


def test_a_value_that_is_older_than_the_last_row_has_its_step():
    """Such as a test error that was measured at the start alone; none where it is the last row's."""
    trace = {
        "step": np.arange(0, 501, 100),
        "objective": np.linspace(1, 0.5, 6),
        "test_error": np.array([0.5, math.nan, 0.25, math.nan, math.nan, math.nan]),
    }
    shown = {line[:12].strip(): line for line in screen(Path("a.h5"), state(500, trace), None, 0.0)}
    assert shown["test error"].endswith("at step 200")
    assert "at step" not in shown["objective L"]
    assert len(shown["test error"]) <= 80


def test_a_summary_where_there_is_no_terminal(path, capsys):
    """One screen of at most 80 columns, and an end; no control characters."""
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(path)])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "step 40 of 40" in text
    assert "finished" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), (b"text", "not an HDF5 file")])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys, content, word):
    """Status 2, and the file is named."""
    if content:
        (tmp_path / "b.h5").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(tmp_path / "b.h5")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert word in error
    assert "b.h5" in error
    assert error.count("\n") == 1


def test_a_damaged_trace_is_not_shown(path, capsys):
    """What is read is verified."""
    content = path.read_bytes()
    column = run_file.load(path).trace["objective"].tobytes()
    at = content.index(column)
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(path)])
    assert ended.value.code == 2
    assert "trace/objective does not match its checksum" in capsys.readouterr().err


def test_speed_and_time_left_follow_from_the_last_rows():
    """100 steps in 2 s are 50 a second; 500 to go are 10 s at the checkpoint, 7 s when that is 3 s old."""
    shown = state(seconds=np.arange(6) * 2.0, written=100.0)
    assert shown.speed == pytest.approx(50.0)
    lines = "\n".join(screen(Path("a.h5"), shown, "process 1", 103.0))
    assert "as of the checkpoint 3 s ago" in lines
    assert "50 steps/s" in lines
    assert "about 7 s left" in lines


def test_without_a_writer_nothing_is_promised():
    """No time left is given for a run that nobody computes."""
    lines = "\n".join(screen(Path("a.h5"), state(seconds=np.arange(6) * 2.0), None, 3.0))
    assert "nobody is writing it" in lines
    assert "left" not in lines


def test_a_run_of_one_row_can_be_shown():
    """No speed, no graph to speak of, no failure."""
    one = state(trace={"step": np.array([0]), "objective": np.array([0.7])}, seconds=[0.0])
    lines = screen(Path("a.h5"), one, "process 1", 0.0)
    assert any("0.7" in line for line in lines)


def test_lines_fit_and_hold_no_control_characters():
    """Long names are cut, and what a terminal would obey is not sent to it."""
    shown = screen(Path("a/" * 60 + "\x1b[2Jb.h5"), state(), None, 1e9)
    assert max(map(len, shown)) <= 80
    assert "\x1b" not in "".join(shown)


def test_graphs_rise_and_fall_with_their_values():
    """First and last bar are those of the extremes; logarithms over more than a decade; a constant is flat."""
    assert graph([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert graph([1.0, 10.0, 100.0], 8) == "▁▅█"
    assert graph([3.0] * 5, 8) == "▁▁▁▁▁"
    assert len(graph(list(range(1000)), 40)) == 40
    assert graph(list(range(1000)), 40)[-1] == "█"


def test_measures_taken_now_and_then_share_the_time_axis():
    """NaN rows repeat the value before."""
    assert carried([math.nan, 1.0, math.nan, 2.0]) == [1.0, 1.0, 2.0]
    assert carried([math.nan]) == []


def test_a_writer_is_known_by_its_signature(path):
    """A process that lives, or gives signs of life from elsewhere; not one that is gone, nor a lock without sense."""
    assert writer(path) is None
    sign(path)
    assert writer(path) == f"process {os.getpid()} on {socket.gethostname()}"
    sign(path, host="elsewhere", pid=7)
    assert writer(path) == "process 7 on elsewhere"
    sign(path, host="elsewhere", pid=7, lease=60)
    assert writer(path) == "process 7 on elsewhere"
    os.utime(f"{path}.lock", (time.time() - 61,) * 2)
    assert writer(path) is None
    gone = subprocess.Popen(["true"])
    gone.wait()
    sign(path, pid=gone.pid)
    assert writer(path) is None
    Path(f"{path}.lock").write_text("{")
    assert writer(path) is None


def test_watching_leaves_no_trace_and_takes_no_lock(path):
    """Files and times beside the run are as before, and a writer may begin while it is watched."""
    before = {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()}
    read(path)
    assert writer(path) is None
    assert {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()} == before


def terminal(path, *options):
    """`meanfield watch` on a terminal: (process, descriptor to read from)."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*PROCESS, "watch", str(path), *options], stdout=slave, stdin=slave, stderr=slave)
    os.close(slave)
    return process, master


def drained(master, until, limit=60.0):
    """What the terminal shows until a pattern is met, or the process has ended."""
    text, began = "", time.monotonic()
    while not re.search(until, text) and time.monotonic() - began < limit:
        try:
            text += os.read(master, 65536).decode(errors="replace")
        except OSError:
            break
    return text


def unfinished(path):
    """The run again, with steps to go."""
    run = new_run_from_config(load_config(None, SMALL))
    run.config = run.config.model_copy(update={"run": run.config.run.model_copy(update={"steps": 80})})
    return run


def test_on_a_terminal_it_follows_until_the_end(path):
    """It shows a checkpoint that was made meanwhile, and ends by itself when the run is done."""
    run = unfinished(path)
    run.save(path)
    sign(path)
    process, master = terminal(path, "--every", "0.2")
    assert "step 0 of 80" in drained(master, r"step 0 of 80")
    run_to_end(run, None)
    run.save(path)
    assert "step 80 of 80" in drained(master, r"finished, ")
    assert process.wait(30) == 0
    os.close(master)


def test_it_ends_with_its_writer_and_on_an_interrupt(path):
    """A run that nobody writes is shown once; Ctrl-C ends it, whatever is going on."""
    unfinished(path).save(path)
    process, master = terminal(path)
    assert "nobody is writing it" in drained(master, "nobody is writing it")
    assert process.wait(30) == 0
    os.close(master)
    sign(path)
    process, master = terminal(path)
    drained(master, r"step 0 of 80")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (130, -signal.SIGINT)
    os.close(master)
