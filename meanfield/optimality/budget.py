"""A budget: how much a search may do, counted in work and never measured, so that its answer is the same every time."""

from __future__ import annotations

import math
import time

from ..errors import InputError


class Budget:
    """`work` to do, of which `spent` is done: counts of what is computed, weighed to about nanoseconds of one core.

    A limit in seconds cuts short what is left, and `cut_short` says that it did; without one no clock is asked. `share`
    is the part of both that may be used up for now.
    """

    def __init__(self, work: float = math.inf, seconds: float | None = None) -> None:
        self.work, self.spent, self.share, self.cut_short = work, 0.0, 1.0, False
        self.limit, self.began = seconds, time.monotonic()

    @classmethod
    def of(cls, work: float, effort: float, seconds: float | None) -> Budget:
        """`effort` times the usual `work`. InputError: effort or seconds not positive and finite."""
        if not 0 < effort < math.inf:
            raise InputError(f"effort = {effort!r}: must be positive")
        if seconds is not None and not 0 < seconds < math.inf:
            raise InputError(f"seconds = {seconds!r}: must be positive")
        return cls(effort * work, seconds)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since it was made: to report, not to decide by."""
        return time.monotonic() - self.began

    @property
    def used(self) -> float:
        """The part of the work that is done or, where more of it is gone, of the time."""
        time = 0.0 if self.limit is None else self.seconds / self.limit if self.limit else 1.0
        return max(self.spent / self.work if self.work else 1.0, time)

    def spend(self, work: float) -> None:
        self.spent += work

    def over(self) -> bool:
        """Whether the present share is used up. To be asked only where there is more to do."""
        return self.spent >= self.share * self.work or self.late()

    def late(self) -> bool:
        """Whether the present share of the limit in seconds is over, if there is one."""
        late = self.limit is not None and self.seconds >= self.share * self.limit
        self.cut_short |= late
        return late

    def holds(self, work: float) -> bool:
        """Whether what is left of the present share is enough for this much more."""
        late = self.limit is not None and self.seconds + 1e-9 * work > self.share * self.limit
        self.cut_short |= late
        return self.spent + work <= self.share * self.work and not late

    def part(self, share: float, least: float = 0.0) -> Budget:
        """A budget of its own with this share of what is left, or of `least` of the whole where less is left."""
        left = max(least, 1 - self.used) * share
        return Budget(left * self.work, None if self.limit is None else left * self.limit)

    def took(self, part: Budget) -> None:
        """Count what a part has spent, and that it was cut short."""
        self.spent += part.spent
        self.cut_short |= part.cut_short
