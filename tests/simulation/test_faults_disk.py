"""The disk fails during a run: full, over quota, read-only, out of order, its folder gone. The run computes on."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import SETTINGS, TESTS, ensemble, in_parts, pour_in_threads, problem, uninterrupted
from helpers import assert_same, may_mount

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.errors import InputError
from meanfield.simulation.loop import resume
from meanfield.simulation.progress import Lines
from meanfield.storage import atomic


def faulty(monkeypatch, name, number, steps):
    """While the run is at one of `steps`, os.<name> fails with this error; returns the callback that knows the step."""
    at, original = [0], getattr(os, name)

    def wrapped(*args, **kwargs):
        if at[0] in steps:
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, wrapped)

    def callback(ensemble, row):
        at[0] = ensemble.step

    return callback


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("pwrite", errno.ENOSPC),
        ("pwrite", errno.EDQUOT),
        ("pwrite", errno.EIO),
        ("fsync", errno.EIO),
        ("fsync", errno.ENOSPC),
        ("replace", errno.EROFS),
        ("link", errno.EIO),
        ("listdir", errno.ESTALE),
    ],
)
@pytest.mark.parametrize(("mended", "threads"), [(True, False), (False, False), (True, True)])
def test_a_failing_disk_is_told_and_outlived(tmp_path, monkeypatch, capfd, name, number, mended, threads):
    """Whichever call fails, in a thread too, and also where a disk owns up only at the flush: told in one line, the
    file before stays good, the next checkpoint tries again, and the course of the run is not changed."""
    path = tmp_path / "run.h5"
    if threads:
        pour_in_threads(monkeypatch.setattr)
    callback = faulty(monkeypatch, name, number, range(5, 9 if mended else 99))
    result = simulate(
        problem(), ensemble(), Langevin(), steps=12, out=path, callback=callback, **{**SETTINGS, "record_every": 1}
    )
    monkeypatch.undo()
    told = capfd.readouterr().err.splitlines()
    assert (result.saved, result.ensemble.step) == (mended, 12)
    assert len(told) == (1 if mended else 4)  # at 6; at 6, 9 and 12, and once more before it ends
    assert all(f"{os.strerror(number)}" in line for line in told)
    assert "step 6: checkpoint failed" in told[0]
    whole = uninterrupted(12, record_every=1)
    assert_same(result, whole)
    assert_same(load(path), whole if mended else uninterrupted(3, record_every=1))
    assert [entry for entry in os.listdir(tmp_path) if ".tmp" in entry] == []


@pytest.mark.parametrize("until", [30, pytest.param(99, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_while_parts_are_written_is_outlived(tmp_path, monkeypatch, until):
    """Data, trace and snapshots in parts; full until later, or to the end, from which it is resumed: the same bits, and
    no part or other file that the run does not name."""
    in_parts(monkeypatch.setattr)
    path, settings = tmp_path / "run.h5", {"record": {"snapshots": 12}, **SETTINGS}
    callback = faulty(monkeypatch, "pwrite", errno.ENOSPC, range(10, until))
    result = simulate(problem(), ensemble(), Langevin(), steps=42, out=path, callback=callback, **settings)
    assert result.saved == (until == 30)
    monkeypatch.undo()
    whole = uninterrupted(42, record={"snapshots": 12})
    assert_same(load(path) if result.saved else resume(path, until=42), whole)
    named = load(path).parts.names | load(atomic.previous(path)).parts.names
    assert {file.name for file in tmp_path.iterdir()} == {"run.h5", "run.h5.prev", *named}


def test_a_run_whose_first_checkpoint_fails_does_not_tell_of_it_at_every_step(tmp_path, monkeypatch, capfd):
    """It tries again when the next checkpoint is due."""
    callback = faulty(monkeypatch, "replace", errno.EROFS, range(100))
    result = simulate(
        problem(), ensemble(), Langevin(), steps=12, out=tmp_path / "run.h5", callback=callback, **SETTINGS
    )
    assert (result.saved, result.ensemble.step) == (False, 12)
    told = capfd.readouterr().err
    assert [told.count(f"step {step}:") for step in range(13)] == [1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 2]
    assert "step 12: the last state is not saved" in told


def test_a_folder_that_comes_back_is_written_to_again(tmp_path, capfd):
    """A network file system that was away for a while: the same file, moved out of reach and back."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()

    def move(ensemble, row):
        if ensemble.step == 4:
            folder.rename(away)
        if ensemble.step == 8:
            away.rename(folder)

    result = simulate(problem(), ensemble(), Langevin(), steps=12, out=folder / "run.h5", callback=move, **SETTINGS)
    assert result.saved
    assert capfd.readouterr().err.count("checkpoint failed") == 1
    assert_same(load(folder / "run.h5"), uninterrupted(12))
    assert sorted(os.listdir(folder)) == ["run.h5", "run.h5.prev"]


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_relative_name_means_the_same_whatever_becomes_of_the_working_folder(tmp_path, monkeypatch, capfd, how):
    """A callback changes it, or it is removed from under the run, whose file lies elsewhere."""
    (tmp_path / "work").mkdir()
    (tmp_path / "deep" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")

    def move(ensemble, row):
        if row["step"] == 4 and how == "changed":
            os.chdir(tmp_path / "deep" / "other")
        elif row["step"] == 4:
            (tmp_path / "work").rmdir()

    result = simulate(problem(), ensemble(), Langevin(), steps=12, out="../run.h5", callback=move, **SETTINGS)
    assert result.saved
    assert capfd.readouterr().err == ""
    assert_same(load(tmp_path / "run.h5"), uninterrupted(12))
    assert [file.name for file in (tmp_path / "deep").rglob("*")] == ["other"]
    if how == "removed":
        with pytest.raises(InputError, match="the working folder was removed"):
            resume("../run.h5", more=1)


class Full:
    """A log file on the disk that is full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    flush = write


def eager(lines):
    """A log that takes a line for every step."""
    lines._wait = lines._next = 0.0


def test_a_log_on_the_full_disk_does_not_end_the_run(tmp_path, monkeypatch):
    """Neither what is told of a failed checkpoint nor the progress."""
    callback = faulty(monkeypatch, "pwrite", errno.ENOSPC, range(5, 9))
    progress = Lines()
    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(Lines, "start", lambda self, *steps, begin=Lines.start: (begin(self, *steps), eager(self)))
    result = simulate(
        problem(),
        ensemble(),
        Langevin(),
        steps=12,
        out=tmp_path / "run.h5",
        callback=callback,
        progress=progress,
        **SETTINGS,
    )
    assert result.saved
    assert_same(load(tmp_path / "run.h5"), uninterrupted(12))


def test_a_generation_of_another_run_that_cannot_be_removed_does_not_end_the_run(tmp_path, monkeypatch):
    """run.h5.prev of the run that was there before, at the first checkpoint of this one."""
    path = tmp_path / "run.h5"
    simulate(problem(), ensemble(), Langevin(), steps=6, out=path, **SETTINGS)
    original = Path.unlink

    def unlink(self, missing_ok=False):
        if self.name == "run.h5.prev":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert simulate(problem(), ensemble(), Langevin(), steps=12, out=path, force=True, **SETTINGS).saved
    assert_same(load(path), uninterrupted(12))


# ---- real file systems -----------------------------------------------------------------------------------------------

MOUNTED = """
import os, subprocess, sys
sys.path.insert(0, {tests!r})
from faults import *
folder = {folder!r}
def call(*words):
    subprocess.run(words, check=True)
call("mount", "-t", "tmpfs", "-o", "size=400k", "none", folder)
def spoil(ensemble, row):
    fault, step = sys.argv[1], ensemble.step
    if fault == "full" and step in (4, 8):
        subprocess.run(f"cat /dev/zero >{{folder}}/ballast" if step == 4 else f"rm {{folder}}/ballast", shell=True,
                       stderr=subprocess.DEVNULL)
    if fault == "read-only" and step == 4:  # laid over, since what a file is open in cannot be made read-only
        call("mount", "--bind", folder, folder)
        call("mount", "-o", "remount,bind,ro", folder)
    if fault == "read-only" and step == 8:
        call("umount", folder)
    if fault == "gone" and step == 4:
        call("umount", "-l", folder)
        os.rmdir(folder)
result = simulate(problem(), ensemble(), Langevin(), steps=12, out=folder + "/run.h5", callback=spoil, **SETTINGS)
if os.path.exists(folder + "/run.h5"):
    call("cp", folder + "/run.h5", {kept!r})
print(result.stopped, result.ensemble.step, result.saved)
"""


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount in a namespace of its own")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("full", os.strerror(errno.ENOSPC)),
        ("read-only", os.strerror(errno.EROFS)),
        ("gone", os.strerror(errno.ENOENT)),
    ],
)
def test_a_file_system_that_fails_is_told_and_outlived(tmp_path, fault, reason):
    """A tmpfs of 400 kB that fills up, turns read-only, or is unmounted; the first two recover before the end."""
    folder, kept = tmp_path / "mounted", tmp_path / "kept.h5"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(MOUNTED.format(tests=str(TESTS), folder=str(folder), kept=str(kept)))
    done = subprocess.run(["unshare", "-m", sys.executable, script, fault], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", "12", str(fault != "gone")]
    assert reason in done.stderr
    if fault != "gone":
        assert_same(load(kept), uninterrupted(12))


LIMITED = """
import resource, signal, sys
from meanfield.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


@pytest.mark.parametrize("limit", [4000, 10])
def test_a_run_that_could_not_be_saved_ends_with_status_1(tmp_path, limit):
    """Through the command: no room for the file, or not even for its lock, which ends it at once; not as bad input,
    after which a script would not try again."""
    small = [
        "--set",
        "data.n=40",
        "--set",
        "data.d=6",
        "--set",
        "data.n_test=0",
        "--set",
        "ensemble.m=256",
        "--set",
        "run.steps=20",
        "--quiet",
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "run", *small, "--out", str(tmp_path / "a.h5")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    last = done.stderr.splitlines()[-1]
    if limit == 10:
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot lock" in last
        assert os.listdir(tmp_path) == []
    else:
        assert done.returncode == 1
        assert os.strerror(errno.EFBIG) in done.stderr
        assert "could not be saved" in last
        assert "go on" not in done.stdout
    assert Path(tmp_path / "a.h5").exists() is False


def test_a_run_whose_end_was_not_saved_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    """And comes to the same end."""
    path = tmp_path / "run.h5"
    callback = faulty(monkeypatch, "pwrite", errno.ENOSPC, range(5, 99))
    assert not simulate(problem(), ensemble(), Langevin(), steps=12, out=path, callback=callback, **SETTINGS).saved
    monkeypatch.undo()
    assert_same(resume(path, until=12), uninterrupted(12))
