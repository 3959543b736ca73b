"""Many processes at one run file: one of them writes, and those that read are never in its way."""

import json
import os
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
from faults import COMMAND, SETTINGS, ensemble, in_process, leftovers, problem, uninterrupted, wait_for
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.simulation.loop import resume
from meanfield.storage.lock import RunLock

SETUP = [
    part
    for one in (
        "data.n=40",
        "data.d=6",
        "data.n_test=64",
        "ensemble.m=256",
        "run.record_every=10",
        "run.checkpoint_every=5",
        "run.steps=100000000",
        "dynamics.method=langevin",
        "objective.reg={shape='constant', end=0.02}",
    )
    for part in ("--set", one)
]


@pytest.fixture
def writer(tmp_path):
    """A process that writes a checkpoint every five steps to run.h5, until it is told to stop."""
    path = tmp_path / "run.h5"
    process = subprocess.Popen(
        [*COMMAND, "run", *SETUP, "--out", str(path), "--quiet"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for(lambda: path.with_name("run.h5.prev").exists() or process.poll() is not None)
        yield path, process
    finally:
        process.kill()
        process.communicate()


def stopped(path, process, tmp_path):
    """Stop the writer; it has complained of nothing, and what it kept is what a run left alone would have kept."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.splitlines() == [line for line in err.splitlines() if line.startswith("stopped")]
    step = load(path).ensemble.step
    alone = tmp_path / "alone.h5"
    assert in_process("run", *SETUP, "--set", f"run.steps={step}", "--out", alone, "--quiet")[0] == 0
    assert_same(load(path), load(alone))
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_readers_never_disturb_the_writer_nor_see_half_a_file(writer, tmp_path):
    """load, `info`, `plot`, and h5py as a user would: every reading is whole and verified, steps never go back."""
    path, process = writer
    reader = subprocess.Popen(
        [*COMMAND, "plot", str(path), "-o", str(tmp_path / "figures")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    steps, end = [0], time.monotonic() + 2
    held = h5py.File(path, "r")
    first = held["ensemble/step"][()], held["ensemble/u"][...].tobytes()
    while time.monotonic() < end or reader.poll() is None:
        kept = load(path)
        steps.append(kept.ensemble.step)
        assert kept.trace["step"][-1] == steps[-1] // 10 * 10
        assert steps[-1] >= steps[-2]
        with h5py.File(path, "r") as file:
            assert file["ensemble/step"][()] >= steps[-1]
            assert len(file["trace/step"]) == file["ensemble/step"][()] // 10 + 1
        assert process.poll() is None
    assert (held["ensemble/step"][()], held["ensemble/u"][...].tobytes()) == first, "an open file changed"
    held.close()
    assert reader.wait() == 0, reader.stderr.read()
    reader.stderr.close()
    assert in_process("info", path, "--json")[0] == 0
    assert len(set(steps)) > 5
    stopped(path, process, tmp_path)


def test_a_second_writer_is_refused_in_one_line_and_the_first_goes_on(writer, tmp_path):
    """resume, resume --force and run --force: status 2, the holder's number, nothing written."""
    path, process = writer
    for args in (["resume", path], ["resume", path, "--force"], ["run", *SETUP, "--out", path, "--force"]):
        status, out, err = in_process(*args)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"is being written by process {process.pid}" in err
    for args in (["run", *SETUP, "--out", path], ["run", *SETUP, "--out", path, "--ntk"]):
        status, out, err = in_process(*args)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"is being written by process {process.pid}" in err
        assert "--force" not in err  # which would be refused
    stopped(path, process, tmp_path)


def test_the_lock_of_a_killed_run_is_no_obstacle(writer):
    """The lock file is still there, signed by a process that is not."""
    path, process = writer
    process.kill()
    process.wait()
    assert json.loads(path.with_name("run.h5.lock").read_text())["pid"] == process.pid
    status, _, err = in_process("resume", path, "--until", load(path).ensemble.step + 1, "--quiet")
    assert status == 0, err
    assert leftovers(path.parent) == []


def sign(path, **changes):
    holder = {"host": "node17", "pid": 1, "when": "2020-01-01T00:00:00+00:00", **changes}
    path.with_name(path.name + ".lock").write_text(json.dumps(holder))


def test_the_lock_of_another_host_tells_when_its_last_checkpoint_came(tmp_path):
    """What lets a user judge whether that host still runs, as nobody there can be asked; then force, or `--force`."""
    path = tmp_path / "run.h5"
    sign(path)
    with pytest.raises(RunFileError, match=r"node17, for \d+ d; it has written no checkpoint; .*force=True"):
        RunLock(path).__enter__()
    simulate(problem(), ensemble(), Langevin(), steps=3, out=tmp_path / "other.h5", **SETTINGS)
    (tmp_path / "other.h5").rename(path)
    three_hours_ago = time.time() - 3 * 3600 - 5
    os.utime(path, (three_hours_ago, three_hours_ago))
    with pytest.raises(RunFileError, match=r"its last checkpoint came 3 h ago; .*force=True"):
        resume(path, more=1)
    status, _, err = in_process("resume", path, "--more", 1)
    assert (status, "--force takes the lock over" in err, "force=True" in err) == (2, True, False)
    assert resume(path, more=1, force=True).saved
    assert leftovers(tmp_path) == []


def test_force_where_it_is_advised_does_what_it_is_advised_for(tmp_path):
    """A run over a file that another host has locked, from Python and by the command, and one where only a lock is."""
    path = tmp_path / "run.h5"
    for force in (
        lambda: simulate(problem(), ensemble(), Langevin(), steps=3, out=path, force=True, **SETTINGS).saved,
        lambda: in_process("run", *SETUP, "--set", "run.steps=3", "--out", path, "--quiet", "--force")[0] == 0,
    ):
        sign(path)
        status, _, err = in_process("run", *SETUP, "--set", "run.steps=3", "--out", path, "--quiet")
        assert status == 2
        assert "node17" in err
        assert force()
        assert load(path).ensemble.step == 3


def test_a_lock_that_was_removed_by_hand_and_taken_anew_is_told_so(tmp_path):
    """Nobody used force: the first to hold it says only that another has taken over, and stops."""
    path = tmp_path / "run.h5"
    lock = path.with_name("run.h5.lock")

    def replaced(ensemble, row):
        if row["step"] == 4:
            lock.unlink()
            sign(path, pid=7)

    with pytest.raises(RunFileError, match="was taken over by process 7 on node17; stopped here") as caught:
        simulate(problem(), ensemble(), Langevin(), steps=12, out=path, callback=replaced, **SETTINGS)
    assert "force" not in str(caught.value)
    assert lock.exists()


def test_a_run_taken_over_by_force_stops_and_writes_nothing_more(tmp_path):
    """Both would go on otherwise, each undoing the checkpoints of the other."""
    path = tmp_path / "run.h5"

    def take_over(ensemble, row):
        if row["step"] == 4:
            sign(path)

    with pytest.raises(RunFileError, match="taken over by process 1 on node17"):
        simulate(problem(), ensemble(), Langevin(), steps=12, out=path, callback=take_over, **SETTINGS)
    assert_same(load(path), uninterrupted(3))
    assert json.loads(path.with_name("run.h5.lock").read_text())["host"] == "node17"


def test_a_lock_file_that_is_gone_or_unsigned_does_not_stop_a_run(tmp_path):
    """Somebody cleaned up: nobody else claims the run."""
    path = tmp_path / "run.h5"

    def clean(ensemble, row):
        lock = path.with_name("run.h5.lock")
        if row["step"] == 4:
            lock.unlink()
        if row["step"] == 8:
            lock.write_text("{")

    result = simulate(problem(), ensemble(), Langevin(), steps=12, out=path, callback=clean, **SETTINGS)
    assert result.saved
    assert np.array_equal(load(path).ensemble.theta, uninterrupted(12).ensemble.theta)
