"""A run survives its process and its machine, and one process at a time writes to it."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from meanfield.errors import InputError, RunFileError
from meanfield.simulation import output
from meanfield.storage import hdf5, run_file, versions
from meanfield.storage import lock as locks
from meanfield.storage.lock import RunLock
from meanfield.storage.run_file import RunContent


def content(step=7, steps=100):
    rng = np.random.default_rng(step)
    return RunContent(
        config=f"[run]\nsteps = {steps}\n",
        data={"X": np.eye(3), "y": np.ones(3)},
        data_sha256="ab" * 32,
        w=rng.standard_normal((50, 1)).astype(np.float32),
        u=rng.standard_normal((50, 3)).astype(np.float32),
        step=step,
        time=0.1 * step,
        seed=2**40,
        memory={"step_size": 0.1, "rejected": 3},
        trace={"step": np.arange(step + 1), "risk": np.ones(step + 1), "margin": np.zeros(step + 1)},
        timing={"seconds": np.linspace(0, 1, step + 1)},
        snapshots={"0": {"w": np.zeros((2, 1))}},
        attributes={"parent": "ab12"},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


def test_load_gives_back_what_save_was_given(path):
    """Bit for bit, in the order of the columns, with the versions added."""
    run_file.save(path, content())
    loaded = run_file.load(path)
    assert loaded.attributes == {"parent": "ab12", **versions.describe()}
    for entry in dataclasses.fields(RunContent):
        if entry.name != "attributes":
            np.testing.assert_equal(getattr(loaded, entry.name), getattr(content(), entry.name))
    assert list(loaded.trace) == ["step", "risk", "margin"]
    assert loaded.u.dtype == np.float32


def test_a_lazy_load_can_be_saved_again_over_itself(path):
    run_file.save(path, content())
    before = path.read_bytes()
    lazy = run_file.load(path, lazy=True)
    assert isinstance(lazy.u, hdf5.RowReader)
    run_file.save(path, lazy)
    assert path.read_bytes() == before


def test_a_damaged_or_missing_run_falls_back_one_generation_only_when_asked(path):
    for step in (6, 7):
        run_file.save(path, content(step))
    raw = bytearray(path.read_bytes())
    place = raw.index(content(7).u.tobytes())
    raw[place + 5] ^= 1
    for spoil in (lambda: path.write_bytes(raw), lambda: path.write_bytes(b""), path.unlink):
        spoil()
        with pytest.raises(RunFileError):
            run_file.load(path)
        older, damage = run_file.newest(path, run_file.load)
        assert older.step == 6
        assert damage.endswith("; went back to run.h5.prev")
        assert "\n" not in damage
    run_file.save(path, content(8))
    assert run_file.newest(path, run_file.load)[1] is None


def test_damage_in_both_generations_names_the_newest(path):
    for step in (6, 7):
        run_file.save(path, content(step))
    for victim in (path, hdf5.previous(path)):
        victim.write_bytes(victim.read_bytes()[:500])
    with pytest.raises(RunFileError, match=r"run\.h5: is truncated: has 500 bytes"):
        run_file.newest(path, run_file.load)


def test_foreign_and_newer_files_are_told_from_damaged_ones(path):
    """And never replaced by the generation before."""
    run_file.save(path, content())
    for attributes, message in (
        ({"format": "other"}, "is an HDF5 file but not a meanfield run"),
        ({}, "is an HDF5 file but not a meanfield run"),
        ({"format": "meanfield run", "format_version": 4, "meanfield": "9.9"}, r"format 4.*9\.9.*up to 3"),
        ({"format": "meanfield run", "format_version": 3}, "not a whole run, 'data' is missing"),
    ):
        hdf5.write(path, {"@attrs": attributes}, keep_previous=False)
        with pytest.raises(RunFileError, match=message):
            run_file.load(path)
    run_file.save(path, content())
    hdf5.write(path, {"@attrs": {"format": "other"}}, keep_previous=True)
    assert run_file.load(hdf5.previous(path)).step == 7
    with pytest.raises(RunFileError, match="not a meanfield run"):
        run_file.newest(path, run_file.load)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": np.zeros((49, 3), "f4")}, "w .* do not belong together"),
        ({"u": np.zeros((50, 3))}, "w .* do not belong together"),
        ({"w": np.zeros(50)}, "w and u are not matrices"),
        ({"time": np.nan}, "its time is nan"),
        ({"memory": {"step_size": np.inf}}, "its step_size is inf"),
        ({"timing": {"seconds": np.full(9, np.nan)}}, ".* none of seconds"),
    ],
)
def test_what_load_would_refuse_is_not_saved_in_the_place_of_what_is_good(path, change, words):
    run_file.save(path, content())
    before = path.read_bytes()
    with pytest.raises(RunFileError, match=f"not a whole run, {words}"):
        run_file.save(path, dataclasses.replace(content(8), **change))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]


def test_columns_of_unequal_length_are_never_saved(path):
    with pytest.raises(ValueError, match="unequal"):
        run_file.save(path, dataclasses.replace(content(), trace={"a": np.zeros(2), "b": np.zeros(3)}))


def forked(action):
    """The number of a process that does `action` and nothing else."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    return pid


def save_for_ever(path, ready):
    for count in itertools.count(1):
        run_file.save(path, content(count % 50))
        if count == 2:
            os.write(ready, b"x")


def kill_at_random(path, times, seed):
    chance = random.Random(seed)
    for _ in range(times):
        wait, ready = os.pipe()
        writer = forked(functools.partial(save_for_ever, path, ready))
        os.read(wait, 1)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        os.close(wait)
        os.close(ready)
        loaded = run_file.load(path)
        np.testing.assert_equal(loaded.u, content(loaded.step).u)
        assert len(loaded.trace["step"]) == loaded.step + 1
        run_file.load(hdf5.previous(path))
    run_file.save(path, content())
    assert sorted(os.listdir(path.parent)) == ["run.h5", "run.h5.prev"]


def test_a_run_killed_while_saving_is_whole(path):
    """SIGKILL at random moments: both generations load, state and trace agree, and the next save cleans up."""
    kill_at_random(path, 12, seed=0)


@pytest.mark.slow
def test_a_run_killed_two_hundred_times_is_whole(path):
    kill_at_random(path, 200, seed=1)


# ---- the lock --------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from meanfield.storage.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_until_the_first_has_ended(path):
    with holder(path) as process:
        for force in (False, True):
            with pytest.raises(RunFileError, match=f"process {process.pid} on {socket.gethostname()}"):
                RunLock(path, force).__enter__()
        process.stdin.close()
        process.wait()
    with RunLock(path), pytest.raises(RunFileError, match=str(os.getpid())):
        RunLock(path).__enter__()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("flock", [True, False])
def test_the_lock_of_a_killed_process_counts_for_nothing(path, flock, monkeypatch):
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not flock:
        monkeypatch.setattr(locks, "_flock", lambda descriptor: None)
    with RunLock(path) as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    assert os.listdir(path.parent) == []


def test_without_flock_a_living_process_is_known_by_number_and_start(path, monkeypatch):
    monkeypatch.setattr(locks, "_flock", lambda descriptor: None)
    with RunLock(path) as lock, pytest.raises(RunFileError, match=str(os.getpid())):
        RunLock(path).__enter__()
    ended = subprocess.Popen(["true"])
    ended.wait()
    for gone in ({"pid": os.getpid(), "started": 1}, {"pid": ended.pid}):  # the number, used again; no start known
        lock.path.write_text(json.dumps({"host": socket.gethostname(), **gone}))
        with RunLock(path):
            pass


def test_a_run_goes_on_where_its_host_gets_another_name(path, monkeypatch):
    """As when a laptop changes networks: the lock is still its own."""
    with RunLock(path) as lock:
        monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
        locks.check_still_held(path)
        lock.path.write_text(json.dumps({"host": "renamed", "pid": os.getpid(), "started": 1}))
        with pytest.raises(RunFileError, match="was taken over"):
            locks.check_still_held(path)


def test_the_lock_of_another_host_is_respected_and_yields_to_force(path):
    lock = path.with_name("run.h5.lock")
    lock.write_text(json.dumps({"host": "node17", "pid": 1, "when": "2020-01-01T00:00:00+00:00"}))
    with pytest.raises(RunFileError, match=r"process 1 on node17, for \d+ d; .*force=True takes the lock over"):
        RunLock(path).__enter__()
    with RunLock(path, force=True):
        assert json.loads(lock.read_text())["host"] == socket.gethostname()
    assert not lock.exists()


def test_a_lock_lost_to_force_is_not_removed(path):
    with RunLock(path) as lock:
        lock.path.write_text(json.dumps({"host": "node17", "pid": 1}))
    assert json.loads(lock.path.read_text())["host"] == "node17"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}', "[" * 4000])
def test_a_lock_that_nobody_signed_is_taken(path, text):
    """What is no signature names no holder: the lock is ours, and signed so."""
    path.with_name("run.h5.lock").write_text(text)
    with RunLock(path) as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()


def test_a_lock_file_removed_underneath_is_not_mistaken_for_the_lock(path, monkeypatch):
    """The holder before leaves between our opening of its file and our flock on it."""
    original, calls = locks._flock, []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            os.unlink(lock.path)
        return original(descriptor)

    monkeypatch.setattr(locks, "_flock", late)
    lock = RunLock(path)
    with lock:
        assert lock.path.exists()
        with pytest.raises(RunFileError, match="is being written"):
            RunLock(path).__enter__()


def test_racing_writers_hold_the_lock_one_at_a_time(path):
    """Three processes take and leave the lock as fast as they can; entries and exits alternate."""
    log = path.with_name("run.h5.log")

    def race():
        end = time.monotonic() + 1
        with open(log, "a", buffering=1) as file:
            while time.monotonic() < end:
                with contextlib.suppress(RunFileError), RunLock(path):
                    file.write("+\n")
                    file.write("-\n")

    for pid in [forked(race) for _ in range(3)]:
        assert os.waitpid(pid, 0)[1] == 0
    marks = log.read_text().split()
    assert len(marks) > 20
    assert marks == ["+", "-"] * (len(marks) // 2)


# ---- where to write --------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused_with_the_way_out(path):
    output.check_output(path)
    run_file.save(path, content(step=7, steps=7))
    (path.parent / "text").write_text("mine")
    run_file.save(path.parent / "unfinished", content(step=7, steps=100))
    for name, message in {
        "run.h5": "exists already; overwrite it with force=True",
        "text": "exists already; overwrite it with force=True",
        "unfinished": r"step 7 of 100.*resume\(.*unfinished\'\)",
        "gone/run.h5": "gone does not exist",
        "text/run.h5": "is not a folder",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            output.check_output(path.parent / name)
        assert "\n" not in str(caught.value)
    output.check_output(path, force=True)


def test_new_names_are_new(tmp_path):
    names = []
    for _ in range(3):
        names.append(output.new_name(tmp_path))
        names[-1].touch()
    assert len({*names}) == 3
    assert all(name.name.startswith("run-2") and name.suffix == ".h5" for name in names)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["@attrs"].pop("format_version"),
        lambda tree: tree.update(ensemble=np.zeros(3)),
        lambda tree: tree.update(data=np.zeros(3)),
        lambda tree: tree["ensemble"].pop("w"),
    ],
)
def test_a_verified_file_that_is_no_whole_run_is_refused(tmp_path, change):
    """Checksums may be right and parts missing or of another kind: one line, no other exception."""
    w, u = np.zeros((2, 1)), np.zeros((2, 3))
    tree = {
        "config": "",
        "data": {"sha256": ""},
        "trace": {},
        "timing": {},
        "ensemble": {"w": w, "u": u, "step": 0, "seed": 0, "time": 0.0, "memory": {}},
        "@attrs": {"format": run_file.FORMAT, "format_version": run_file.FORMAT_VERSION},
    }
    change(tree)
    hdf5.write(tmp_path / "a.h5", tree)
    with pytest.raises(RunFileError, match="not a whole run"):
        run_file.load(tmp_path / "a.h5")
