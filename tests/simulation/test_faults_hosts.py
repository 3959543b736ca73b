"""A run goes on under another host's name: a new container, pod or node; and never while its old writer lives."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from faults import COMMAND, SETTINGS, ensemble, in_process, leftovers, problem, uninterrupted, wait_for
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import RunFileError
from meanfield.storage import atomic
from meanfield.storage import lock as locks
from meanfield.storage.lock import RunLock


@pytest.fixture
def path(tmp_path):
    """A run of 6 steps."""
    simulate(problem(), ensemble(), Langevin(), steps=6, out=tmp_path / "run.h5", **SETTINGS)
    return tmp_path / "run.h5"


def sign(path, seconds_ago=0.0, **changes):
    """The lock as a writer on another host left it that many seconds after it had last renewed it."""
    lock = path.with_name(path.name + ".lock")
    holder = {"host": "pod-a", "pid": 1, "started": 5, "when": "2020-01-01T00:00:00+00:00", "lease": 60, **changes}
    lock.write_text(json.dumps({name: value for name, value in holder.items() if value is not None}))
    os.utime(lock, (time.time() - seconds_ago,) * 2)
    return lock


def resumed(path):
    """(status, stderr) of going on by three steps."""
    status, _, err = in_process("resume", path, "--more", 3, "--quiet", "--no-gap")
    return status, err


def test_a_lock_that_is_not_renewed_for_its_lease_is_taken_over_and_that_is_said(path):
    """At once where that long has passed already; the end has the same bits."""
    sign(path, 61)
    assert resumed(path) == (
        0,
        f"meanfield: {path}: the lock of process 1 on pod-a, which gave no sign of life for 60 s, is taken over\n",
    )
    assert_same(load(path), uninterrupted(9))
    assert leftovers(path.parent) == []


def test_a_lease_that_is_not_over_is_waited_for(path):
    """A pod that comes back within seconds goes on by itself."""
    sign(path, lease=1)
    began = time.monotonic()
    status, err = resumed(path)
    assert status == 0
    assert time.monotonic() - began > 0.9
    assert "waiting up to 1 s for a sign of life" in err


def test_a_sign_of_life_while_it_is_waited_for_refuses_the_run(path):
    lock = sign(path, lease=3)
    alive = threading.Timer(0.3, os.utime, (lock,))
    alive.start()
    status, err = resumed(path)
    alive.join()
    assert status == 2
    assert "is being written by process 1 on pod-a" in err
    assert load(path).ensemble.step == 6


@pytest.mark.parametrize("changes", [{"lease": None}, {"lease": "60"}])
def test_a_signature_that_promises_no_sign_of_life_is_never_too_old(path, changes):
    sign(path, 10**6, **changes)
    assert resumed(path)[0] == 2


def test_without_flock_age_alone_takes_nothing(path, monkeypatch):
    sign(path, 10**6)
    monkeypatch.setattr(locks, "_flock", lambda descriptor: None)
    assert resumed(path)[0] == 2


HOLDER = """
import socket, sys
from meanfield.storage import lock
socket.gethostname = lambda: "pod-a"
lock._LEASE = 1
with lock.RunLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("shared", [True, False])
def test_a_process_that_lives_under_another_name_is_never_displaced(path, monkeypatch, shared):
    """By flock where the hosts share it, however old the lock seems; else since it renews its lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        lock = path.with_name("run.h5.lock")
        if shared:
            os.utime(lock, (0, 0))
        else:
            monkeypatch.setattr(locks, "_flock", lambda descriptor: True)
        for _ in range(2):
            with pytest.raises(RunFileError, match=f"written by process {process.pid} on pod-a"):
                RunLock(path).__enter__()
        process.kill()
    wait_for(lambda: time.time() - os.stat(lock).st_mtime > 1)
    assert resumed(path)[0] == 0


def test_whoever_wakes_after_its_lease_stops_before_it_writes(path):
    """A machine that was asleep: another has gone on in the meantime."""

    def displaced(ensemble, row):
        if row["step"] == 8:
            sign(path, host="pod-b")

    with pytest.raises(RunFileError, match="was taken over by process 1 on pod-b; stopped here"):
        simulate(
            problem(), load(path).ensemble, Langevin(), steps=6, out=path, force=True, callback=displaced, **SETTINGS
        )


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"}, 0),
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "3"}, 0),
        ({"SLURM_JOB_ID": "17"}, 2),
        ({"SLURM_JOB_ID": "18", "SLURM_RESTART_COUNT": "1"}, 2),
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1", "SLURM_CLUSTER_NAME": "b"}, 2),
    ],
)
def test_an_earlier_life_of_the_same_batch_job_is_over(path, monkeypatch, environment, status):
    """The scheduler says so, whatever became of the node: no waiting. Not the same life, and not another job."""
    for name, value in {"SLURM_CLUSTER_NAME": "", **environment}.items():
        monkeypatch.setenv(name, value)
    sign(path, job=":17", life=0, lease=None)
    found, err = resumed(path)
    assert found == status
    assert ("an earlier life of this batch job, is taken over" in err) == (status == 0)


def test_a_lock_is_signed_with_its_job_and_its_lease(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with RunLock(path) as lock:
        holder = json.loads(lock.path.read_text())
    assert {name: holder[name] for name in ("job", "life", "lease")} == {"job": ":17", "life": 0, "lease": 60}


def may_rename():
    """Whether this process may give a host a name of its own."""
    return subprocess.run(["unshare", "-u", "hostname", "pod-a"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_rename(), reason="needs the right to name a host")
def test_a_run_killed_in_one_container_goes_on_in_the_next(path):
    """Really killed while it runs under another name; its lease is made to pass."""
    script = 'hostname pod-a && exec "$@"'
    command = ["unshare", "-u", "sh", "-c", script, "sh", *COMMAND, "resume", str(path), "--more", "100000000"]
    with subprocess.Popen([*command, "--quiet"], stderr=subprocess.PIPE) as process:
        wait_for(lambda: load(path).ensemble.step > 6)
        process.kill()
    lock = path.with_name("run.h5.lock")
    assert json.loads(lock.read_text())["host"] == "pod-a"
    os.utime(lock, (time.time() - 61,) * 2)
    assert resumed(path)[0] == 0
    assert leftovers(path.parent) == []


def test_temporary_files_of_dead_writers_are_removed_under_any_name(path):
    """By whoever holds the lock: theirs, and not those of a run whose name begins alike, or of a living process."""
    names = {
        ".run.h5.tmp-pod-a-1-7": False,
        ".run.h5.tmp-pod-a-1-7.prev": False,
        f".run.h5.tmp-{socket.gethostname()}-999999999-7": False,
        f".run.h5.tmp-{socket.gethostname()}-{os.getppid()}-7": True,
        ".run.h5.tmp-other.tmp-pod-a-1-7": True,
        ".run.h5.tmp-pod-a": True,
        ".run.h5.prev.tmp-pod-a-1-7": True,
    }
    for name in names:
        path.with_name(name).touch()
    with RunLock(path):
        assert {name: path.with_name(name).exists() for name in names} == names


def test_runs_of_long_names_that_begin_alike_do_not_share_temporary_files(tmp_path):
    """Each name is as long as a file system allows beside its lock."""
    targets = [tmp_path / ("x" * 249 + end) for end in "ab"]
    seen = []
    for target in targets:
        atomic.replace_whole(target, lambda temporary: seen.append(temporary.name))
    assert len({name.partition(".tmp-")[0] for name in seen}) == 2
    stranger = tmp_path / f"{seen[0].partition('.tmp-')[0]}.tmp-pod-a-1-7"
    stranger.touch()
    with RunLock(targets[1]):
        assert stranger.exists()
    with RunLock(targets[0]):
        assert not stranger.exists()
