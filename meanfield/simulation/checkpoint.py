"""The keeper of checkpoints: when a run is written to its file, and what becomes of a write that fails."""

from __future__ import annotations

import time
from pathlib import Path

from ..errors import DivergenceError, InputError
from ..runtime.durations import parse_duration
from ..runtime.telling import tell
from ..storage.atomic import StorageError
from ..storage.lock import check_still_held
from .run import Run


class Keeper:
    """Writes checkpoints: every so many steps or seconds, and at the end. A failed write is told and tried again."""

    def __init__(self, run: Run, out: str | Path) -> None:
        every = run.config.run.checkpoint_every
        self._run, self._out, self._ranks = run, out, run.ensemble.span.ranks
        self._steps = every if isinstance(every, int) else None
        self._seconds = parse_duration(every) if isinstance(every, str) else None
        self._fresh = not run.recorder.views  # then whatever stands at `out` belongs to another run
        kept = self._ranks.broadcast(Path(out).exists()) and not self._fresh and not run.recovered
        self._written = self._tried = run.ensemble.step if kept else -1
        self._at = time.monotonic()

    def checkpoint(self, step: int) -> None:
        by_time = self._seconds is not None and self._ranks.broadcast(time.monotonic() - self._at >= self._seconds)
        if step != self._tried and (self._tried < 0 or by_time or (self._steps and step % self._steps == 0)):
            self._save(step, "checkpoint failed, the run goes on and tries again later")

    def _save(self, step: int, failure: str) -> None:
        self._tried, self._at = step, time.monotonic()
        error: Exception | None = None
        if self._ranks.leads:
            check_still_held(self._out)
        try:
            self._run.save(self._out, keep_previous=not self._fresh)
        except StorageError as failed:
            announce_failure(f"step {step}: {failure}: {failed}")
            error = failed
        except (DivergenceError, InputError) as refused:
            error = type(refused)(f"step {step}: {refused}{self.intact}")

        def saved() -> bool:
            if error is not None and not isinstance(error, StorageError):
                raise error
            return error is None

        if self._ranks.once(saved):
            self._written, self._fresh = step, False

    @property
    def intact(self) -> str:
        """What a message on the end of a run says of its file, if there is anything to say."""
        return f"; the last checkpoint, of step {self._written}, is intact" if self._written >= 0 else ""

    def finish(self) -> bool:
        """Save the last state, if it is not saved yet; whether the file holds it now."""
        if self._run.ensemble.step != self._written:
            self._save(self._run.ensemble.step, "the last state is not saved")
        return self._run.ensemble.step == self._written


class NoKeeper(Keeper):
    """No file: nothing to write, nothing to fail."""

    intact = ""

    def __init__(self) -> None:
        pass

    def checkpoint(self, step: int) -> None:
        pass

    def finish(self) -> bool:
        return True


def announce_failure(message: str) -> None:
    """Tell the user of a fault, or of what else is to be known, that does not end the run."""
    tell(message)
