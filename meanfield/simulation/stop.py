"""Reasons to end a run before its last step: signals, the time allowed, and the rules of `run.stop_when`."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numpy as np

from ..runtime.communicator import Alone
from .run import Run


class Stop:
    """Reasons from outside to end a run after the present step: a signal, or the time allowed.

    The first signal of those by which people end processes asks; its handler is then put back, so that a second one
    ends the process at once. Warnings, by which batch systems tell that the time is nearly over, are taken where nobody
    else has a use for them; however often one comes, it asks.
    """

    ORDERS = ("SIGINT", "SIGTERM", "SIGHUP")
    WARNINGS = ("SIGUSR1", "SIGUSR2", "SIGXCPU")
    SIGNALS = (*ORDERS, *WARNINGS)

    def __init__(self, max_time: float | None, ranks: Alone) -> None:
        self._ranks = ranks
        self._until = time.monotonic() + max_time if max_time is not None else float("inf")
        self._reason: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in self.SIGNALS:
                if hasattr(signal, name) and self._is_free(name):
                    number = getattr(signal, name)
                    self._before[number] = signal.getsignal(number)  # first: the signal may come at once
                    signal.signal(number, self._ask)
        return self

    def _is_free(self, name: str) -> bool:
        """Whether a signal may be taken: an order unless it is ignored, a warning only where it would end us."""
        action = signal.getsignal(getattr(signal, name))
        return action == signal.SIG_DFL if name in self.WARNINGS else action is not signal.SIG_IGN

    def _ask(self, number: int, frame: Any) -> None:
        self._reason, again = signal.Signals(number).name, self._before[number]
        if self._reason in self.WARNINGS:
            return
        if number == signal.SIGINT and again == signal.SIG_DFL:
            again = signal.default_int_handler  # so that a file half written is removed
        signal.signal(number, again)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """The same on every rank, whichever of them has one."""
        mine = self._reason or ("max_time" if time.monotonic() >= self._until else "")
        reasons = ("", "max_time", *self.SIGNALS)
        return reasons[self._ranks.largest(reasons.index(mine))] or None


def settled(run: Run) -> str | None:
    """The rule of `run.stop_when` that holds at this row, with λ and τ at rest: "relative_gap" if the recorded gap is
    within its bound, "objective_change" if the objective changed by no more than its bound, relatively, over ten rows.
    """
    rules, k, recorder = run.config.run.stop_when, run.ensemble.step, run.recorder
    schedules = (run.problem.reg, run.problem.temperature)
    if k % recorder.record_every or any(k < s.steps for s in schedules if s.shape != "c_over_log_t"):
        return None
    if rules.relative_gap is not None and recorder.last["relative_gap"] <= rules.relative_gap:
        return "relative_gap"
    objective = recorder.last_values("objective", 10)
    if rules.objective_change is None or len(objective) < 10:
        return None
    return "objective_change" if np.ptp(objective) <= rules.objective_change * abs(objective[-1]) else None
