"""A line that says how far an iterative solve is, and how long it may take; and one that says nothing."""

from __future__ import annotations

import math
import sys
import time

from ..runtime.durations import format_duration


class Silent:
    """Says nothing.

    Examples
    --------
    >>> from meanfield.kernels.solve_progress import Silent
    >>> Silent().show(3, 0.1, 0.01)
    """

    def show(self, iteration: int, residual: float, tolerance: float) -> None:
        """Say how far it is.

        Parameters
        ----------
        iteration : int
            Iterations so far.
        residual, tolerance : float
            Relative, what it is and what it is to be.

        Examples
        --------
        >>> from meanfield.kernels.solve_progress import Silent
        >>> Silent().show(3, 0.1, 0.01)
        """

    def end(self) -> None:
        """No more is to be said.

        Examples
        --------
        >>> from meanfield.kernels.solve_progress import Silent
        >>> Silent().end()
        """


class Line(Silent):
    """A line to stderr: rewritten on a terminal, otherwise a new one every half minute.

    Examples
    --------
    >>> from meanfield.kernels.solve_progress import Line
    >>> Line().text(1, 1e-2, 1e-4, 60.0)
    'solve: iteration 1, residual 1.0e-02 of 1.0e-04'
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._began, self._first, self._said = time.monotonic(), (0, 0.0), -math.inf

    def text(self, iteration: int, residual: float, tolerance: float, seconds: float) -> str:
        """The line, so many seconds after the first iteration that it was shown.

        Parameters
        ----------
        iteration : int
            Iterations so far.
        residual, tolerance : float
            Relative, what it is and what it is to be.
        seconds : float
            That have passed.

        Returns
        -------
        str
            The time left supposes that the logarithm of the residual goes on as it did so far.

        Examples
        --------
        >>> from meanfield.kernels.solve_progress import Line
        >>> line = Line()
        >>> line.text(1, 1e-2, 1e-4, 0.0)
        'solve: iteration 1, residual 1.0e-02 of 1.0e-04'
        >>> line.text(3, 1e-3, 1e-4, 60.0)
        'solve: iteration 3, residual 1.0e-03 of 1.0e-04, about 60 s left'
        """
        words = f"solve: iteration {iteration}, residual {residual:.1e} of {tolerance:.1e}"
        logarithm = math.log(max(residual, 1e-300))
        first, before = self._first
        if first == 0:
            self._first = iteration, logarithm
        fallen, wanted = before - logarithm, logarithm - math.log(tolerance)
        if first == 0 or fallen <= 0 or wanted <= 0:
            return words
        return f"{words}, about {format_duration(seconds * wanted / fallen)} left"

    def show(self, iteration: int, residual: float, tolerance: float) -> None:
        now = time.monotonic()
        if self._first[0] == 0:
            self._began = now
        words = self.text(iteration, residual, tolerance, now - self._began)
        if self._live:
            print(f"\r{words}\033[K", end="", file=sys.stderr, flush=True)
        elif now - self._said > 30:
            self._said = now
            print(words, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live:
            print(file=sys.stderr, flush=True)
