"""How a run shows that it is under way: a bar on a terminal, sparse lines elsewhere, or nothing. Always on stderr."""

from __future__ import annotations

import functools
import sys
import time
from contextlib import suppress

from ..runtime.durations import format_duration
from ..runtime.telling import draw_no_more, draw_there

_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}"


class Silent:
    """The absence of progress: takes every report and shows none."""

    def start(self, step: int, until: int) -> None:
        pass

    def update(self, step: int, shown: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class Bar(Silent):
    """A tqdm bar (in notebooks too), beside it the first of what is reported: all else would leave it no room."""

    unit, smoothing = "step", 0.1  # of the pace, by which the time left is told; 0 is the mean pace so far

    def start(self, step: int, until: int) -> None:
        from tqdm.auto import tqdm

        own = {"unit": self.unit, "smoothing": self.smoothing, "bar_format": _FORMAT, "file": sys.stderr}
        self._bar = tqdm(total=until, initial=step, dynamic_ncols=True, **own)
        draw_there(functools.partial(tqdm.external_write_mode, file=sys.stderr))

    def update(self, step: int, shown: dict[str, float]) -> None:
        self._bar.set_postfix_str(_words(dict(list(shown.items())[:1])), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        draw_no_more()
        self._bar.close()


class Lines(Silent):
    """A line now and then, further and further apart: what a log file wants.

    The first comes with the first report after a second: before the first step, if one takes long.
    """

    def start(self, step: int, until: int) -> None:
        self._until, self._wait, self._began = until, 5.0, time.monotonic()
        self._next, self._last = self._began + 1.0, (step, self._began)

    def update(self, step: int, shown: dict[str, float]) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._wait = min(2 * self._wait, 600.0)
        self._next = now + self._wait
        line = f"step {step} of {self._until}  {_words(shown)}  {self._pace(step, now)}"
        with suppress(OSError):  # of a log file on the disk that is full
            print(line, file=sys.stderr, flush=True)

    def _pace(self, step: int, now: float) -> str:
        """How long it has been, and since the line before how fast; the time left at that pace."""
        (before, then), self._last = self._last, (step, now)
        told = format_duration(now - self._began)
        if step <= before or now <= then:
            return told
        rate = (step - before) / (now - then)
        return f"{told}, {rate:.3g} steps/s, about {format_duration((self._until - step) / rate)} left"


def _words(shown: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if value == value)


def suitable() -> Silent:
    """A bar if stderr is a terminal, else lines."""
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines()
