"""Laws of progress: a bar that can be seen, lines beside it whole, and a log that says how fast and how long."""

import os
import pty
import re
import sys
import termios
import time
from contextlib import suppress

import pytest

from meanfield.runtime.telling import tell
from meanfield.simulation import progress
from meanfield.simulation.progress import Bar, Lines

SHOWN = {"objective": 0.16734, "train_error": 0.03125}


class Terminal:
    """A pseudo-terminal of 80 columns, in the place of stderr where a test says so."""

    END = "the end\r\n"

    def __init__(self):
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        os.set_blocking(self.ours, False)
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")

    def lines(self):
        """Each of what was written over another, or under it."""
        print("the end", file=self.stream, flush=True)
        text, last = "", time.monotonic() + 5
        while not text.endswith(self.END) and time.monotonic() < last:
            with suppress(BlockingIOError):
                text += os.read(self.ours, 1 << 16).decode()
        return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture
def terminal():
    shown = Terminal()
    yield shown
    shown.stream.close()
    os.close(shown.ours)


@pytest.mark.parametrize("until", [240, 4000, 100000])
def test_a_bar_is_wide_enough_to_be_seen(terminal, monkeypatch, until):
    """A fifth of 80 columns at least, beside steps, time, pace and objective, all on one line."""
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    bar = Bar()
    bar.start(0, until)
    time.sleep(0.11)  # tqdm draws no more often
    bar.update(12, SHOWN)
    bar.close()
    last = terminal.lines()[-2]
    assert f"12/{until}" in last
    assert "objective 0.1673" in last
    assert len(last.partition("|")[2].partition("|")[0]) >= 16
    assert len(last) <= 80


def test_a_line_beside_a_bar_is_whole(terminal, monkeypatch):
    """It stands alone, and the bar after it again; once the bar is closed nothing makes room."""
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    bar = Bar()
    bar.start(0, 100)
    bar.update(50, SHOWN)
    tell("compiling")
    bar.update(60, SHOWN)
    bar.close()
    tell("done")
    shown = terminal.lines()
    assert "meanfield: compiling" in shown
    assert shown[-2] == "meanfield: done"
    assert "60/100" in shown[-3]


def test_a_log_tells_how_long_it_has_been_how_fast_and_what_is_left(capsys, monkeypatch):
    """The pace is that since the line before, which leaves out compiling; steps of an earlier session do not count."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    log = Lines()
    log.start(1000, 2000)
    for now, step in ((100.9, 1009), (105.0, 1050), (110.0, 1075), (115.0, 1250)):
        clock[0] = now
        log.update(step, SHOWN)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "step 1050 of 2000  objective 0.1673  train_error 0.03125  5 s, 10 steps/s, about 95 s left"
    assert second == "step 1250 of 2000  objective 0.1673  train_error 0.03125  15 s, 20 steps/s, about 38 s left"


def test_a_log_is_not_silent_until_a_long_first_step_is_done(capsys, monkeypatch):
    """The predictions of the start are reported before it; if they took a second, it will take many."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    for seconds in (0.9, 2.0):
        log = Lines()
        log.start(0, 2000)
        clock[0] += seconds
        log.update(0, SHOWN)
    assert capsys.readouterr().err == "step 0 of 2000  objective 0.1673  train_error 0.03125  2 s\n"
