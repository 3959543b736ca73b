"""Signals and time limits through the command line: each stop has its exit status, and none changes a bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from faults import COMMAND, SETTINGS, ensemble, heed_interrupts, in_process, leftovers, problem, uninterrupted, wait_for
from helpers import assert_same

from meanfield import load, simulate
from meanfield.dynamics import Langevin
from meanfield.simulation.loop import resume

SETUP = [
    part
    for one in (
        "data.n=40",
        "data.d=6",
        "data.n_test=64",
        "ensemble.m=256",
        "run.record_every=10",
        "run.checkpoint_every=7",
        "objective.temperature=1e-3",
        "run.steps=100000000",
        "objective.reg={shape='constant', end=0.02}",
    )
    for part in ("--set", one)
]
STATUS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 138, "SIGUSR2": 140, "SIGXCPU": 152}


def started(path, *args):
    """A process that runs or resumes, in its loop: it has replaced the file."""
    verb = ("resume", path) if path.exists() else ("run", *SETUP, "--out", path)
    generation = os.stat(path).st_ino if path.exists() else None
    process = subprocess.Popen(
        [*COMMAND, *map(str, verb), "--quiet", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    wait_for(lambda: process.poll() is not None or (path.exists() and os.stat(path).st_ino != generation))
    return process


def ended(process, *statuses):
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in statuses, err
    assert "Traceback" not in err


def stop_by_signal(path, name):
    process = started(path)
    process.send_signal(getattr(signal, name))
    ended(process, STATUS[name])


def stop_by_two_interrupts(path):
    process = started(path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    ended(process, 130, -signal.SIGINT)


def stop_by_kill(path):
    process = started(path)
    process.kill()
    process.communicate()


def stop_by_time(path):
    ended(started(path, "--max-time", "0.2s"), 75)


def test_whatever_stopped_a_run_it_ends_with_the_same_bits(tmp_path):
    """One run stopped in turn by each signal, an interrupt twice, SIGKILL and --max-time, each with its exit status;
    the step never falls back; its end equals that of a run never stopped."""
    path, step = tmp_path / "run.h5", -1
    for name in STATUS:
        stop_by_signal(path, name)
        assert load(path).ensemble.step > step
        step = load(path).ensemble.step
    for stop in (stop_by_two_interrupts, stop_by_kill, stop_by_time):
        stop(path)
        assert load(path).ensemble.step >= step
        step = load(path).ensemble.step
    whole = tmp_path / "whole.h5"
    assert in_process("resume", path, "--until", step + 5, "--quiet")[0] == 0
    assert in_process("run", *SETUP, "--set", f"run.steps={step + 5}", "--quiet", "--out", whole)[0] == 0
    assert_same(load(path), load(whole))
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_two_interrupts_in_a_row_leave_a_whole_file(tmp_path):
    """Wherever the second one strikes, in a step or in the writing of a checkpoint."""
    path, chance = tmp_path / "run.h5", random.Random(0)
    for _ in range(2):
        process = started(path)
        process.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGINT)
        ended(process, 130, -signal.SIGINT)  # the same to a shell: Python itself ends by the signal when it is leaving
        load(path)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGXCPU"])
def test_a_warning_however_often_it_comes_ends_the_run_once_and_saved(tmp_path, name):
    """As the kernel sends XCPU every second, and some schedulers repeat theirs, while the last state is written."""
    path = tmp_path / "run.h5"

    def warn(ensemble, row):
        if row["step"] == 4:
            for _ in range(3):
                os.kill(os.getpid(), getattr(signal, name))

    result = simulate(problem(), ensemble(), Langevin(), steps=12, out=path, callback=warn, **SETTINGS)
    assert (result.stopped, result.saved, result.ensemble.step) == (name, True, 4)
    assert signal.getsignal(getattr(signal, name)) == signal.SIG_DFL
    assert_same(load(path), uninterrupted(4))


def test_a_warning_for_which_a_program_has_a_use_of_its_own_stays_its_own(tmp_path):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        result = simulate(
            problem(), ensemble(), Langevin(), steps=4, callback=lambda *_: os.kill(os.getpid(), signal.SIGUSR1)
        )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert result.stopped == "done"
    assert heard


def test_an_interrupt_in_python_is_raised_once_the_run_is_saved(tmp_path):
    """By simulate and by resume: a loop over λ does not go on with a run cut short among its results."""
    path, steps = tmp_path / "run.h5", [4, 8, None]

    def interrupt(ensemble, row):
        if row["step"] == steps[0]:
            steps.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    for step, call in (
        (4, lambda: simulate(problem(), ensemble(), Langevin(), steps=9, out=path, callback=interrupt, **SETTINGS)),
        (8, lambda: resume(path, until=12, callback=interrupt)),
    ):
        with pytest.raises(KeyboardInterrupt, match=f"at step {step} of") as caught:
            call()
        assert (caught.value.result.stopped, caught.value.result.saved) == ("SIGINT", True)
        assert_same(caught.value.result, uninterrupted(step))
        assert_same(load(path), uninterrupted(step))
    assert leftovers(tmp_path) == []


READY = "import sys; from meanfield.cli import main; print('ready', file=sys.stderr, flush=True); main()"


def strike_at_start(path, times, seed):
    """Signals from the moment the command has begun until the run is in its loop."""
    chance = random.Random(seed)
    for k in range(times):
        name = list(STATUS)[k % 6]
        arguments = ["run", *SETUP, "--out", str(path), "--force", "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-c", READY, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )
        assert process.stderr.readline() == "ready\n"
        time.sleep(chance.uniform(0.01, 1.2))
        process.send_signal(getattr(signal, name))
        ended(process, STATUS[name], -getattr(signal, name))
        if path.exists():
            load(path)


def test_a_signal_while_a_run_starts_leaves_a_whole_file_or_none(tmp_path):
    """Before the loop the signal's own action ends the process: the same status to a shell, no traceback."""
    strike_at_start(tmp_path / "run.h5", 6, seed=0)


STUB = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    raise ImportError("an interrupt, mistaken for a fault of this package")
"""


def test_an_interrupt_while_packages_load_is_not_mistaken_for_another_error(tmp_path):
    """A package that turns KeyboardInterrupt into an error of its own, as some do: ended by the signal, in silence."""
    (tmp_path / "pydantic.py").write_text(STUB)
    done = subprocess.run(
        [*COMMAND, "run", "--out", str(tmp_path / "run.h5")],
        capture_output=True,
        timeout=60,
        preexec_fn=heed_interrupts,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.slow
def test_signals_while_a_run_starts_leave_a_whole_file_or_none(tmp_path):
    strike_at_start(tmp_path / "run.h5", 60, seed=1)
