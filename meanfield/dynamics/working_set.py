"""The particles that an implicit step moves, and steps of any length from where they are.

Where masses are fitted, almost all mass soon sits on a few particles, and only those are moved: all ranks move all of
them, from what they gathered. Where they are not, or at τ > 0, every particle is moved, each by its own rank.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..engine import exact_math
from ..engine.engine import Moments
from ..engine.kinks import measure
from ..engine.particles import Particles
from ..ensemble import Ensemble
from .coupling import Balance, Coupling, Gates
from .field import Field
from .frame import Frame
from .masses import Census, put, take

SWEEPS = 4  # looks at the kinks
CARRIED = 0.999  # the part of the mass that is moved
MOST = 4096  # particles that are moved, at most, where masses are fitted
_GATES = 1024  # particles that K is made of, at most
_NUMBERS = 1 << 20  # numbers in one array of (particles × examples), at most
_SHARES = 1 << 28  # bytes of α kept between the passes of one step, at most


class Trial(NamedTuple):
    """Where a step leads: the particles in the frame's coordinates, the objective there, and the rms of ‖G_j‖."""

    particles: Particles
    value: float
    turning: float


class WorkingSet:
    """Particles to be moved (`chosen`; all where it is None), the ensemble left as it is until `settle`.

    f and ∫‖θ‖² of the whole are those of the rest, which does not move, plus `part` times those of the set.
    """

    def __init__(
        self, field: Field, frame: Frame, ensemble: Ensemble, moments: Moments, chosen: np.ndarray | None, sweeps: int
    ) -> None:
        self.field, self.frame, self.ensemble, self.chosen, self.sweeps = field, frame, ensemble, chosen, sweeps
        self.reg, self.r = field.problem.reg(ensemble.step), field.residual(moments)
        self.value = self._objective(moments)
        self.part = 1.0 if chosen is None else len(chosen) / ensemble.m
        self.start = self._in_frame()
        held = self._moments(self.start)
        self.rest = Moments(moments.f - self.part * held.f, moments.second - self.part * held.second)
        groups, _, group = self.start.theta.shape
        keeps = groups * frame.kinks.rows * group * ensemble.dtype.itemsize <= _SHARES
        self._alpha = np.empty((groups if keeps else 0, frame.kinks.rows, group), ensemble.dtype)

    @classmethod
    def carrying(cls, field: Field, frame: Frame, ensemble: Ensemble, moments: Moments) -> WorkingSet:
        """The particles that carry almost all mass."""
        return cls(field, frame, ensemble, moments, Census.of(ensemble).carriers(CARRIED, most=MOST), SWEEPS)

    def _in_frame(self) -> Particles:
        if self.chosen is None:
            return self._changed(self.ensemble.particles, self.frame.to)
        rows = take(self.ensemble, self.chosen)
        return self._changed(Particles(_grouped(rows, self.ensemble.theta), len(rows)), self.frame.to)

    def _changed(self, particles: Particles, change: object) -> Particles:
        """The same particles, their input weights mapped by `change`, (k, d) to (k, d)."""
        d, theta = self.field.problem.d, particles.theta
        if not self.frame.whiten:
            return particles
        out = theta.copy()
        flat = _flat(theta[:, :d]).astype(np.float64)
        out[:, :d] = change(flat).reshape(len(theta), -1, d).swapaxes(1, 2)  # type: ignore[operator]
        return Particles(out, particles.span)

    def _moments(self, particles: Particles) -> Moments:
        """Of the set, in the frame's coordinates; ∫‖θ‖² is that of the ensemble's own."""
        f = self.frame.engine.predict(particles, keep=False).f
        return Moments(f, self._second(self._changed(particles, self.frame.back)))

    def _second(self, particles: Particles) -> float:
        theta, span = particles.packed().theta, particles.span
        mine = np.empty((2, theta.shape[0] * theta.shape[2]))
        measure(theta, self.field.problem.d, *mine)
        return exact_math.total(np.concatenate(span.ranks.gather(mine[0, : span.count]))) / span.total

    def _objective(self, moments: Moments) -> float:
        finite = bool(np.isfinite(moments.f).all())
        return self.field.problem.evaluate(moments.f, moments.second, self.reg).value if finite else math.inf

    def turning(self) -> float:
        """How fast particles turn: the rms of ‖G_j‖ over mass."""
        nothing = np.zeros_like(self.r)
        return self.frame.kinks.turned(self.start, nothing, 0, self.r, 0.0, self._alpha, known=False)[1]

    def trial(self, eta: float) -> Trial:
        """A step of length η: the best of the rounds "couple, turn" and of their correction."""
        problem, frame = self.field.problem, self.frame
        c, drift = (exact_math.expm1(k * self.reg * eta) / (k * self.reg) for k in (2, 4))
        shrunk = self._shrunk(eta)
        f, after, best = self.rest.f + self.part * frame.engine.predict(shrunk, keep=False).f, self.r, None
        K = self._coupling(shrunk, c)
        for again in (False, True):
            after = Balance(problem.loss, problem.targets, f, K, drift).solution(after)
            moved, turning = frame.kinks.turned(
                shrunk, c * self.r, self.sweeps, after, eta, self._alpha, known=again
            )  # fmt: skip
            own = self._moments(moved)
            new = Moments(self.rest.f + self.part * own.f, self.rest.second + self.part * own.second)
            value = self._objective(new)
            if best is None or not self.sweeps or value < best.value:
                best = Trial(moved, value, turning)
            if not math.isfinite(value):
                break
            f = new.f + drift * K.times(after)
        assert best is not None
        return best

    def settle(self, trial: Trial) -> Moments:
        """Take the particles of a trial over; the moments after."""
        particles = self._changed(trial.particles, self.frame.back)
        if self.chosen is None:
            with self.ensemble.particles.writing() as theta:
                theta[:] = particles.theta
        else:
            put(self.ensemble, self.chosen, _flat(particles.theta)[: len(self.chosen)])
        return self.field.predict(self.ensemble)

    def _shrunk(self, eta: float) -> Particles:
        rates = np.concatenate([self.frame.p, np.ones(self.field.problem.outputs)])
        keep = exact_math.exp(-2 * self.reg * eta * rates).astype(self.ensemble.dtype)
        return Particles(self.start.theta * keep[:, None], self.start.span)

    def _coupling(self, shrunk: Particles, c: float) -> Coupling:
        """K of some particles of the set, the heaviest, scaled to the mass of all of them."""
        problem, span = self.field.problem, shrunk.span
        rows = np.concatenate(span.ranks.gather(_flat(shrunk.theta)[: span.count].astype(np.float64)))
        mass = exact_math.row_sums(rows * rows)
        most = max(64, min(_GATES, _NUMBERS // max(problem.n, problem.n * problem.outputs // 4)))
        some = np.sort(np.argsort(-mass, kind="stable")[:most])
        if not self.sweeps:  # under noise no particle carries more than another for long: some are as good as all
            some = np.arange(0, len(mass), -(-len(mass) // most))
        rows, share = rows[some], exact_math.total(mass[some])
        scale = self.part * exact_math.total(mass) / (share * span.total) if share > 0 else 0.0
        settled = self.frame.kinks.settled(_grouped(rows, shrunk.theta), c * self.r, self.sweeps)
        alpha, relu = (_flat(numbers)[: len(rows), : problem.n].astype(np.float64) for numbers in settled)
        w, weight = np.ascontiguousarray(rows[:, problem.d :]), np.full(len(rows), scale)
        return Coupling.of(Gates(self.frame.X, self.frame.inner, alpha, relu, w, weight), self.field.engine.workers)


def _flat(numbers: np.ndarray) -> np.ndarray:
    """(J, k) of (groups, k, GROUP)."""
    return numbers.swapaxes(1, 2).reshape(-1, numbers.shape[1])


def _grouped(rows: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Particles (k, d + C) as the loops hold them, in groups and dtype of `like`."""
    group = like.shape[2]
    padded = np.zeros((-(-len(rows) // group) * group, rows.shape[1]), like.dtype)
    padded[: len(rows)] = rows
    return np.ascontiguousarray(padded.reshape(-1, group, rows.shape[1]).swapaxes(1, 2))
