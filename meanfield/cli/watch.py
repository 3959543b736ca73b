"""`meanfield watch`: a run that another process writes, as seen from a terminal. It reads, and disturbs nothing."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import InputError
from ..runtime.durations import format_duration

_WIDTH = 80
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = {
    "objective": "objective L",
    "relative_gap": "relative gap (estimate)",
    "margin": "normalized margin",
    "train_error": "train error",
    "test_error": "test error",
    "free_energy": "free energy (estimate)",
    "drift": "drift",
    "step_size": "step size",
    "reg": "λ",
    "temperature": "τ",
}


@dataclass(frozen=True)
class State:
    """What the run file says as of its last checkpoint, at `written` (seconds since 1970), without its particles."""

    step: int
    steps: int
    title: str
    trace: Mapping[str, Any]
    seconds: np.ndarray
    written: float

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    @property
    def speed(self) -> float:
        """Steps a second over the last tenth of the rows (two at least); NaN before there are two."""
        steps, seconds = self.trace.get("step", ()), self.seconds
        if len(seconds) < 2:
            return math.nan
        first = max(0, min(len(seconds) - 2, len(seconds) - 1 - len(seconds) // 10))
        elapsed = float(seconds[-1] - seconds[first])
        return float(steps[-1] - steps[first]) / elapsed if elapsed > 0 else math.nan


@click.command()
@click.argument("path", metavar="RUN.h5", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Print one summary and exit, as where stdout is no terminal.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between looks.",
)
def watch(path: Path, once: bool, every: float) -> int:
    """Follow a run in another process, until it ends or Ctrl-C.

    What is shown is as of the last checkpoint (run.checkpoint_every): what came after it is not known yet.
    """
    from ..storage.lock import writer

    state, seen = read(path), _identity(path)
    alive = writer(path)
    if once or not sys.stdout.isatty():
        print("\n".join(screen(path, state, alive, time.time())))
        return 0
    height = 0
    while True:
        lines = screen(path, state, alive, time.time())
        erase = f"\x1b[{height}F\x1b[J" if height else ""
        print(erase + "\n".join(lines), flush=True)
        height = len(lines)
        if state.finished or alive is None:
            return 0
        time.sleep(every)
        alive = writer(path)  # before the file: who is gone has written its last
        if (now := _identity(path)) != seen:
            state, seen = read(path), now


def read(path: Path) -> State:
    """Config, step and trace; neither data nor particles are touched. RunFileError: missing, damaged or not a run."""
    from ..simulation.toml import parse_config
    from ..simulation.values import short_name
    from ..storage.run_file import load_outline

    written = _identity(path)[0] / 1e9
    outline = load_outline(path)
    config = parse_config(outline.config, f"{path}: config")
    title = (
        f"{Path(config.data.source).name}, n {config.data.n}, d {config.data.d}, m {config.ensemble.m}, "
        f"{short_name(config.objective.loss)}, {short_name(config.dynamics.method)}"
    )
    seconds = outline.timing.get("seconds", np.empty(0))
    return State(outline.step, config.run.steps, title, outline.trace, seconds, written)


def _identity(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file is replaced, which is the only way that it ever changes."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return found.st_mtime_ns, found.st_ino, found.st_size


def screen(path: Path, state: State, alive: str | None, now: float) -> list[str]:
    """The lines to show, each at most 80 columns wide."""
    age = max(0.0, now - state.written)
    share = state.step / state.steps if state.steps else 1.0
    filled = int(40 * min(share, 1.0))
    ending = "finished" if state.finished else f"as of the checkpoint {format_duration(age)} ago"
    lines = [
        _clipped(str(path)),
        _clipped(state.title),
        "",
        f"{'█' * filled}{'░' * (40 - filled)} {100 * share:3.0f} %  step {state.step} of {state.steps}",
        _status(state, alive, age, ending),
        "",
    ]
    for name, label in _SHOWN.items():
        values = carried(state.trace.get(name, ()))
        if values and (name != "temperature" or any(values)):
            taken = _taken(state.trace, name)
            lines.append(f"{label:<24}{values[-1]:>12.5g}  {graph(values, 40 - len(taken))}{taken}".rstrip())
    return lines


def _taken(trace: Mapping[str, Any], name: str) -> str:
    """At which step the last value was measured, where that is not the last row's."""
    last = int(np.flatnonzero(np.isfinite(trace[name]))[-1])
    return f"  at step {trace['step'][last]}" if last < len(trace["step"]) - 1 else ""


def _status(state: State, alive: str | None, age: float, ending: str) -> str:
    if state.finished:
        seconds = float(state.seconds[-1]) if len(state.seconds) else 0.0
        return f"{ending}, {format_duration(seconds)} of computing"
    speed = state.speed
    parts = [ending]
    if speed > 0:
        left = (state.steps - state.step) / speed - (age if alive else 0.0)
        parts += [f"{speed:.3g} steps/s", f"about {format_duration(max(left, 0.0))} left" if alive else ""]
    parts.append("" if alive else "nobody is writing it")
    return _clipped(", ".join(filter(None, parts)))


def carried(values: Sequence[float]) -> list[float]:
    """The rows from the first finite value on, NaN replaced by the value before: graphs share their time."""
    found: list[float] = []
    for value in values:
        if math.isfinite(value) or found:
            found.append(float(value) if math.isfinite(value) else found[-1])
    return found


def graph(values: Sequence[float], width: int) -> str:
    """A line of bars, each the last value of its share of the rows; logarithmic if all are positive over a decade."""
    bars = min(width, len(values))
    picked = [values[(k + 1) * len(values) // bars - 1] for k in range(bars)]
    low, high = min(picked), max(picked)
    if low > 0 and high > 10 * low:
        picked = [math.log(value) for value in picked]
        low, high = math.log(low), math.log(high)
    if not high > low:
        return _BARS[0] * len(picked)
    return "".join(_BARS[min(7, int(8 * (value - low) / (high - low)))] for value in picked)


def _clipped(text: str) -> str:
    """At most 80 columns, the beginning left out; control characters, which a file's name may hold, are not sent on."""
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= _WIDTH else "…" + text[-(_WIDTH - 1) :]
