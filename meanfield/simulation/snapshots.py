"""Snapshots: the same particles of an ensemble, kept at chosen steps of a run, and with it in its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine import noise
from ..ensemble import Ensemble
from ..storage.streams import Stacked

_CHUNK = 1 << 20  # tickets drawn at a time


@dataclass(frozen=True)
class Snapshot:
    """Particles w (p, C) and u (p, d) as they were at `step` and `time`, when λ was `reg`.

    index (p,) int64 says which of the ensemble's particles they are: the same ones in every snapshot of a run. As a
    uniform sample without replacement they stand for the whole ensemble.
    """

    step: int
    time: float
    reg: float
    w: np.ndarray = field(repr=False)
    u: np.ndarray = field(repr=False)
    index: np.ndarray = field(repr=False)

    @property
    def ensemble(self) -> Ensemble:
        """The kept particles as an ensemble of their own, for any measure of one."""
        return Ensemble.from_arrays(self.w, self.u, step=self.step, time=self.time)


class Snapshots:
    """Those that a run has taken so far, `taken`, and the steps at which it takes one; `particles` None keeps all."""

    def __init__(self, steps: Iterable[int] = (), particles: int | None = None, taken: Iterable[Snapshot] = ()) -> None:
        self.steps, self.particles, self.taken = frozenset(steps), particles, list(taken)

    @property
    def index(self) -> np.ndarray | None:
        """Of the particles that are kept; None before the first snapshot."""
        return self.taken[0].index if self.taken else None

    @property
    def unasked(self) -> list[int]:
        """Steps of snapshots that were taken, though this is no step to take one."""
        return [one.step for one in self.taken if one.step not in self.steps]

    def take(self, ensemble: Ensemble, reg: float) -> None:
        """Keep the ensemble, if this is a step to do so and it is not kept yet; λ = reg."""
        k = ensemble.step
        if k not in self.steps or (self.taken and self.taken[-1].step >= k):
            return
        index = self.index
        if index is None:
            index = subset(ensemble.seed, ensemble.m, self.particles or ensemble.m)
        w, u = gathered(ensemble, index)
        self.taken.append(Snapshot(k, ensemble.time, reg, w, u, index))

    def of(self, ensemble: Ensemble) -> Ensemble | None:
        """The particles that the snapshots hold, as they are in `ensemble`; None before the first snapshot."""
        if self.index is None:
            return None
        w, u = gathered(ensemble, self.index)
        return Ensemble.from_arrays(w, u, step=ensemble.step, time=ensemble.time)

    def content(self) -> dict[str, Any]:
        """For a run file: step, time, reg (k,), index (p,), w (k, p, C) and u (k, p, d); nothing if none is taken."""
        if not self.taken:
            return {}
        numbers = {"step": np.int64, "time": np.float64, "reg": np.float64}
        columns = {name: np.array([getattr(s, name) for s in self.taken], kind) for name, kind in numbers.items()}
        w, u = (Stacked([getattr(one, name) for one in self.taken]) for name in ("w", "u"))
        return {**columns, "index": self.index, "w": w, "u": u}


def from_content(content: Mapping[str, Any], ensemble: Ensemble) -> list[Snapshot]:
    """What `Snapshots.content` gave. ValueError: arrays that are not snapshots of a run whose ensemble is this one."""
    if not content:
        return []
    try:
        step, time, reg, index, w, u = (content[name] for name in ("step", "time", "reg", "index", "w", "u"))
        shapes = [array.shape for array in (step, time, reg, index, w, u)]
        k, p = len(step), len(index)
    except (KeyError, AttributeError, TypeError):
        raise ValueError("its snapshots are not whole") from None
    if shapes != [(k,), (k,), (k,), (p,), (k, p, ensemble.outputs), (k, p, ensemble.d)]:
        raise ValueError(f"its snapshots have shapes {shapes}, which do not belong together")
    if any(array.dtype.kind != "i" for array in (step, index)) or {w.dtype, u.dtype} != {ensemble.dtype}:
        raise ValueError(f"its snapshots hold {step.dtype} steps, {index.dtype} numbers, {w.dtype} w and {u.dtype} u")
    if not all(np.isfinite(array).all() for array in (time, reg, w, u)):
        raise ValueError("its snapshots are not all finite")
    if k == 0 or np.any(np.diff(step) <= 0) or step[-1] > ensemble.step:
        raise ValueError(f"its snapshots are of steps {step.tolist()}, its particles of step {ensemble.step}")
    if p == 0 or np.any(np.diff(index) <= 0) or index[0] < 0 or index[-1] >= ensemble.m:
        raise ValueError(f"its snapshots are not of {p} of its {ensemble.m} particles")
    return [Snapshot(int(step[i]), float(time[i]), float(reg[i]), w[i], u[i], index) for i in range(k)]


def subset(seed: int, m: int, count: int) -> np.ndarray:
    """`count` of m particles, chosen uniformly by address from the seed, in order: (min(count, m),) int64.

    Each particle draws a ticket and the lowest are chosen, so that fewer are a part of more.
    """
    if count >= m:
        return np.arange(m)
    tickets, chosen = np.empty(0), np.empty(0, np.int64)
    for first in range(0, m, _CHUNK):
        drawn = noise.uniforms(seed, noise.Purpose.SUBSET, 0, min(_CHUNK, m - first), first=first)
        low = np.flatnonzero(drawn <= (tickets[-1] if len(tickets) == count else 1.0))
        tickets, chosen = np.concatenate([tickets, drawn[low]]), np.concatenate([chosen, low + first])
        order = np.argsort(tickets, kind="stable")[:count]
        tickets, chosen = tickets[order], chosen[order]
    return np.sort(chosen)


def gathered(ensemble: Ensemble, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w (p, C) and u (p, d) of these particles, copied."""
    span, group = ensemble.span, ensemble.theta.shape[2]
    mine = index[(index >= span.first) & (index < span.first + span.count)] - span.first
    theta = np.concatenate(span.ranks.gather(ensemble.theta[mine // group, :, mine % group]))
    return np.ascontiguousarray(theta[:, ensemble.d :]), np.ascontiguousarray(theta[:, : ensemble.d])


def spaced(first: int, last: int, count: int, spacing: str) -> list[int]:
    """`count` steps from `first` to `last`, both included (one alone is the last), fewer if there are not so many.

    "linear": as even as whole numbers allow; "log": their distances from `first` grow geometrically from 1.
    """
    span, count = last - first, min(count, last - first + 1)
    if count <= 1:
        return [last] if count else []
    i = np.arange(count)
    if spacing == "linear" or count == 2:
        offsets = (2 * i * span + count - 1) // (2 * (count - 1))
    else:
        grown = np.floor(span ** ((i[1:] - 1) / (count - 2)) + 0.5).astype(np.int64)
        offsets = np.concatenate([[0], np.maximum(i[1:], grown)])
    return [first + int(offset) for offset in offsets]


def nbytes(steps: Sequence[int], particles: int, ensemble: Ensemble) -> int:
    """What so many snapshots take in memory and in the file."""
    return len(steps) * min(particles, ensemble.m) * ensemble.theta.shape[1] * ensemble.dtype.itemsize
