"""How a run shows that it is under way: a bar on a terminal, sparse lines elsewhere, or nothing. Always on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import suppress


class Silent:
    """The absence of progress: takes every report and shows none."""

    def start(self, step: int, until: int) -> None:
        pass

    def update(self, step: int, shown: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class Bar(Silent):
    """A tqdm bar (in notebooks too)."""

    def start(self, step: int, until: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=until, initial=step, unit="step", dynamic_ncols=True, smoothing=0.1, file=sys.stderr)

    def update(self, step: int, shown: dict[str, float]) -> None:
        self._bar.set_postfix_str(_words(shown), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class Lines(Silent):
    """A line now and then, further and further apart: what a log file wants."""

    def start(self, step: int, until: int) -> None:
        self._until, self._wait, self._next = until, 5.0, time.monotonic() + 5.0

    def update(self, step: int, shown: dict[str, float]) -> None:
        if time.monotonic() >= self._next:
            self._wait = min(2 * self._wait, 600.0)
            self._next = time.monotonic() + self._wait
            with suppress(OSError):  # of a log file on the disk that is full
                print(f"step {step} of {self._until}  {_words(shown)}", file=sys.stderr, flush=True)


def _words(shown: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if value == value)


def suitable() -> Silent:
    """A bar if stderr is a terminal, else lines."""
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines()
