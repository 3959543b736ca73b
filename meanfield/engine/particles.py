"""Particles as the loops hold them, which of them are this process's, and who may change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..runtime.communicator import ALONE, Alone, Span
from ..runtime.threads import Workers, default_threads
from . import loops
from .microkernels import VECTORS, lanes


def group_size(dtype: Any) -> int:
    """Particles that lie side by side: 64 in float32, 32 in float64."""
    return VECTORS * lanes(np.dtype(dtype))


def share(total: int, ranks: Alone = ALONE) -> Span:
    """The particles of this rank."""
    return Span.of(total, loops.BLOCK, ranks)


class Particles:
    """The array theta (groups, d + C, GROUP) of this process's particles, and `span`: which of how many they are.

    An engine keeps what it knows of particles (their activation bits) from pass to pass. So nobody may change them
    unnoticed: `theta` is read-only, and whoever writes does so inside `writing`, which raises `version`.
    """

    def __init__(self, theta: np.ndarray, span: Span | int) -> None:
        """`theta`, float32 or float64, C-contiguous and zero beyond the last particle, is taken over, not copied."""
        self._theta, self.span = theta, span if isinstance(span, Span) else share(span)
        self.version = 0

    @property
    def theta(self) -> np.ndarray:
        """The particles (groups, d + C, GROUP), read-only: a view, which shows what later steps do to them."""
        view = self._theta.view()
        view.flags.writeable = False
        return view

    @contextmanager
    def writing(self) -> Iterator[np.ndarray]:
        """The array, to write into until the block is left; then nothing that was known of the particles holds."""
        try:
            yield self._theta
        finally:
            self.version += 1

    def packed(self) -> loops.Part:
        """As the compiled passes take them (only within `writing` may one write into them)."""
        return loops.Part(self._theta, self.span.first, self.span.count)

    def copy(self) -> Particles:
        """The same particles in an array of their own."""
        return Particles(self._theta.copy(), self.span)

    def __deepcopy__(self, memo: dict[int, Any]) -> Particles:
        return self.copy()  # the ranks of an MPI job are no part of the particles, and cannot be copied


def draw(span: Span, d: int, outputs: int, law: str, scale: float, seed: int, dtype: Any) -> np.ndarray:
    """theta (groups, d + outputs, GROUP) of an initial law: "sphere" (unit sphere × scale) or "gaussian"."""
    group = group_size(dtype)
    theta = np.zeros((-(-span.count // group), d + outputs, group), dtype)
    part = loops.Part(theta, span.first, span.count)
    arguments = (part, law == "sphere", theta.dtype.type(scale), np.uint64(seed))
    Workers(default_threads()).run(loops.draw, -(-span.count // loops.BLOCK), arguments, 1)
    return theta
