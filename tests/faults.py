"""What the fault tests share: a small run with every checkpoint that may go wrong, and processes to break."""

import contextlib
import io
import mmap
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from meanfield import simulate
from meanfield.cli import main
from meanfield.dynamics import Langevin
from meanfield.ensemble import Ensemble
from meanfield.problem import Problem
from meanfield.simulation import loop
from meanfield.simulation import run as runs
from meanfield.simulation.loop import resume
from meanfield.simulation.trace import Trace
from meanfield.storage import atomic, blocks, parts

TESTS = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from meanfield.cli import main; main()"]
SETTINGS = {"record_every": 2, "checkpoint_every": 3, "anneal": False, "test_every": 4}


def problem(n=24, d=5, **settings):
    """Logistic, every schedule running, noise on, a test set."""
    rng = np.random.default_rng(3)
    X, X_test = rng.standard_normal((n, d)), rng.standard_normal((7, d))
    settings = {"reg": {"start": 0.1, "end": 0.01, "steps": 31, "shape": "geometric"}, "temperature": 1e-3, **settings}
    return Problem(X, np.sign(X[:, 0]), X_test=X_test, y_test=np.sign(X_test[:, 0]), **settings)


def ensemble(m=300, d=5, **settings):
    return Ensemble.sphere(m, d, seed=9, **settings)


def uninterrupted(steps, **settings):
    """The same run, never stopped and never written."""
    return simulate(problem(), ensemble(), Langevin(), steps=steps, **{**SETTINGS, **settings})


def go_on(path, until):
    """Start the run at `path`, or go on with it, as a user would after whatever happened."""
    if path.exists() or atomic.previous(path).exists():
        return resume(path, until=until, threads=1)
    return simulate(problem(), ensemble(), Langevin(), steps=until, out=path, threads=1, **SETTINGS)


def pour_in_threads(set_attribute=setattr):
    """Have small arrays hashed, written and flushed beside the thread that saves them, as large ones are."""
    set_attribute(blocks, "_WORTH_THREADS", 0)
    set_attribute(blocks, "_FLUSHED_BYTES", 1)


def in_parts(set_attribute=setattr):
    """Have small data and a short trace put into parts beside the run file, as large ones are."""
    set_attribute(parts, "LARGE", 600)


def wait_for(condition, seconds=60):
    """Wait until `condition()`; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def in_process(*args):
    """(status, stdout, stderr) of a command in this process: quicker, where nothing is to be killed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as ended:
            status = ended.code or 0
    return status, out.getvalue(), err.getvalue()


def heed_interrupts():
    """In a process about to start: heed SIGINT, also where the tests run in the background of a shell, ignoring it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def leftovers(folder):
    """Names of locks and temporary files."""
    return [name for name in os.listdir(folder) if ".tmp-" in name or name.endswith(".lock")]


class Phases:
    """Where a forked process is, in memory that outlives it; and a place at which it waits to be killed.

    `aim(phase, count, after)` makes it wait at the `count`-th entry into a phase, before or after what it does there.
    """

    NAMES = ("between", "load", "step", "record", "write", "flush", "link", "rename", "flush folder")

    def __init__(self):
        self._page = mmap.mmap(-1, 4096)
        self._numbers = np.frombuffer(self._page, np.int64)

    @property
    def phase(self):
        return self.NAMES[self._numbers[0]]

    @property
    def waits(self):
        return bool(self._numbers[4])

    @property
    def saved(self):
        """The step of the last checkpoint that was reported as saved."""
        return int(self._numbers[5])

    def aim(self, phase, count=1, after=False):
        self._numbers[1:5] = self.NAMES.index(phase), count, after, 0

    def mark(self, owner, name, phase):
        original, number, numbers = getattr(owner, name), self.NAMES.index(phase), self._numbers

        def pause(after):
            if numbers[1] == number and numbers[2] <= 0 and numbers[3] == after:
                numbers[4] = 1
                time.sleep(60)

        def wrapped(*args, **kwargs):
            outer, numbers[0] = int(numbers[0]), number
            numbers[2] -= numbers[1] == number
            pause(after=0)
            result = original(*args, **kwargs)
            pause(after=1)
            numbers[0] = outer
            return result

        setattr(owner, name, wrapped)

    def watch(self):
        """To be called in the process to be killed: nothing is put back."""
        self._numbers[0] = 0
        for owner, name, phase in (
            (loop, "load", "load"),
            (Langevin, "step", "step"),
            (Trace, "record", "record"),
            (blocks, "_write", "write"),
            (atomic, "_sync", "flush"),
            (atomic, "_sync_folder", "flush folder"),
            (os, "link", "link"),
            (os, "replace", "rename"),
        ):
            self.mark(owner, name, phase)
        save, numbers = runs.Run.save, self._numbers

        def saved(run, *args, **kwargs):
            save(run, *args, **kwargs)
            numbers[5] = run.ensemble.step

        runs.Run.save = saved
