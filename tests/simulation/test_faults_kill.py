"""Killed anywhere: SIGKILL at any moment costs the work since the last checkpoint and changes no bit."""

import collections
import os
import random
import signal
import time

import pytest
from faults import Phases, go_on, in_parts, leftovers, pour_in_threads, uninterrupted
from helpers import assert_same

from meanfield import load


def killed(path, phases, wait, threads):
    """Fork a process that goes on with the run, `wait` for the moment, kill it; the phase in which it died."""
    pid = os.fork()
    if pid == 0:
        try:
            phases.watch()
            if threads:
                pour_in_threads()
                in_parts()
            go_on(path, 10**9)
        finally:
            os._exit(1)
    try:
        wait()
    finally:  # or a phase that is never entered leaves a process that runs for ever
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "it ended by itself"
    return phases.phase


def until_it_waits(phases):
    deadline = time.monotonic() + 30
    while not phases.waits:
        assert time.monotonic() < deadline, "the phase aimed at was never entered"
        time.sleep(0.0005)


def kill_often(path, times, seed):
    """Every other kill at a random moment, the others aimed at each phase in turn; the number of deaths in each.

    Every other round of phases writes its checkpoints in threads, and data and trace into parts.
    """
    chance, phases, deaths = random.Random(seed), Phases(), collections.Counter()
    aims = Phases.NAMES[1:]
    for k in range(times):
        aimed = k % 2
        # a run that is not there yet is not loaded, and has nothing to link to
        phase = aims[k // 2 % len(aims)] if path.exists() and aimed else "step"
        phases.aim(phase, chance.randint(1, 2) if phase != "load" else 1, after=chance.random() < 0.5)
        if not aimed:
            phases.aim("between", 10**9)
        moment = chance.uniform(0, 0.05)
        before = load(path).ensemble.step if path.exists() else 0
        wait = (lambda: until_it_waits(phases)) if aimed else lambda m=moment: time.sleep(m)
        died = killed(path, phases, wait, threads=k // (2 * len(aims)) % 2 == 0)
        deaths[died] += 1
        assert not aimed or died == phase
        if path.exists():
            step = load(path).ensemble.step
            assert step >= max(before, phases.saved), "a checkpoint that had been reported is gone"
        else:
            assert phases.saved == 0
    return deaths


def check(path, times, seed):
    uninterrupted(3)  # whatever must be compiled is, before a process is killed for it
    deaths = kill_often(path, times, seed)
    assert min(deaths[phase] for phase in Phases.NAMES[1:]) >= times // 2 // (len(Phases.NAMES) - 1)
    steps = load(path).ensemble.step + 4
    last = go_on(path, steps)
    whole = uninterrupted(steps)
    assert_same(last, whole)
    assert_same(load(path), whole)
    assert leftovers(path.parent) == []


def test_a_run_killed_in_every_phase_ends_with_the_same_bits(tmp_path):
    """In a step, a record, a write, a flush, between link and rename, and while loading: state and trace with ==."""
    check(tmp_path / "run.h5", 34, seed=0)


@pytest.mark.slow
def test_a_run_killed_two_hundred_times_ends_with_the_same_bits(tmp_path):
    check(tmp_path / "run.h5", 200, seed=1)
