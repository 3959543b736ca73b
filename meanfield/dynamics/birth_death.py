"""Birth and death of particles: mass flows from those in excess to those in deficit, their number stays."""

from __future__ import annotations

import numpy as np

from ..engine import noise
from ..engine.engine import as_span
from ..engine.exact_math import expm1_one
from ..runtime.communicator import Span
from ..runtime.compiling import compiled


@compiled
def _exchange(origin, excess, group, seed, step):  # type: ignore[no-untyped-def]
    """In the order of the particles: one in excess becomes a copy of a random one, one in deficit is copied onto it.

    origin (m,) ← which of the particles before the exchange each one is a copy of.
    """
    m, events = len(excess), 0
    w = np.empty((4, group), np.uint32)
    for j in range(m):
        lane = j % group
        if lane == 0:
            noise.words(seed, noise.Purpose.EXCHANGE.value, step, j, 0, w)
        if (np.float64(w[0, lane]) + 0.5) * 2.0**-32 < -expm1_one(-abs(excess[j])):
            other = ((np.uint64(w[1, lane]) << np.uint64(21)) | (np.uint64(w[2, lane]) >> np.uint64(11))) % np.uint64(m)
            source, target = (np.int64(other), j) if excess[j] > 0 else (j, np.int64(other))
            origin[target] = origin[source]
            events += 1
    return events


def exchange(theta: np.ndarray, span: Span | int, excess: np.ndarray, seed: int, step: int) -> int:
    """Birth and death in place: |excess_j| is the rate of particle j's event times the step; the number of events.

    excess (m,) is of all particles, on every rank.
    """
    span, group = as_span(span), theta.shape[2]
    origin = np.arange(span.total)
    events = int(_exchange(origin, excess, group, np.uint64(seed), np.uint64(step)))
    changed = np.flatnonzero(origin != np.arange(span.total))

    def mine(particles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = np.flatnonzero((particles >= span.first) & (particles < span.first + span.count))
        return places, *divmod(particles[places] - span.first, group)

    places, groups, lanes_ = mine(origin[changed])
    copies = np.empty((len(changed), theta.shape[1]), theta.dtype)
    for where, rows in span.ranks.gather((places, theta[groups, :, lanes_])):
        copies[where] = rows
    places, groups, lanes_ = mine(changed)
    theta[groups, :, lanes_] = copies[places]
    return events
