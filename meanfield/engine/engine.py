"""The door to the compiled passes: inputs and residuals packed as the loops read them, and their sums as numbers."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..runtime.threads import Workers, default_threads
from . import loops
from .activation import Activation, Rule
from .kinetic import Kick, Kinetic
from .loops import BLOCK
from .microkernels import MAX_FEATURES, ROWS, VECTORS, lanes
from .moves import Move, Moves
from .particles import Particles, draw, group_size, share
from .penalties import PLAIN, Coefficients

AnyMove = Move | Moves | Kinetic
_LIMBS = np.array([2.0**8, 2.0**-32, 2.0**-72])


class Moments(NamedTuple):
    """What all particles together amount to: predictions f (n, C) float64, ∫‖θ‖² dρ and ∫ p dρ of the penalty p.

    NaN if out of range; `penalty` also where nobody has asked for it.
    """

    f: np.ndarray
    second: float
    penalty: float = math.nan


def _tiles_of_columns(A: np.ndarray, dtype: Any) -> np.ndarray:
    """A (n, k) as (tiles, rows, width): columns in tiles of equal even width ≤ MAX_FEATURES, all padded with zeros.

    rows: n, up to a multiple of ROWS. A itself is never copied as a whole, here and in `_tiles_of_rows`.
    """
    n, k = A.shape
    count = -(-k // MAX_FEATURES)
    width = 2 * -(-k // (2 * count))
    tiles = np.zeros((count, -(-n // ROWS) * ROWS, width), dtype)
    for t, tile in enumerate(tiles):
        part = A[:, t * width : (t + 1) * width]
        tile[:n, : part.shape[1]] = part
    return tiles


def _tiles_of_rows(A: np.ndarray, dtype: Any) -> np.ndarray:
    """A (n, k) as (tiles, k, ROWS), padded with zeros."""
    n, k = A.shape
    tiles = np.zeros((-(-n // ROWS), k, ROWS), dtype)
    whole = n // ROWS
    tiles[:whole] = A[: whole * ROWS].reshape(whole, ROWS, k).swapaxes(1, 2)
    if n % ROWS:
        tiles[whole, :, : n % ROWS] = A[whole * ROWS :].T
    return tiles


@dataclass(frozen=True)
class Inputs:
    """Inputs X (n, d) as the loops read them; rows padded with zeros to a multiple of ROWS."""

    n: int
    by_row: np.ndarray
    by_column: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, dtype: Any) -> Inputs:
        """X (n, d) of any dtype, packed in this one."""
        return cls(len(X), _tiles_of_rows(X, dtype), _tiles_of_columns(X, dtype))

    @property
    def rows(self) -> int:
        """Their number, padding included."""
        return self.by_row.shape[0] * ROWS

    def data(self, outputs: int, penalty: Coefficients = PLAIN) -> loops.Data:
        """For a pass with C = `outputs` and the penalty p."""
        return loops.Data(self.by_row, self.n, outputs, penalty)

    def residual(self, residual: np.ndarray, *, masked: bool) -> loops.Residual:
        """The residual (n, C) beside them, in their dtype; `masked`: for a product with activation bits."""
        dtype, outputs = self.by_row.dtype, residual.shape[1]
        nothing = np.zeros((1, 1, 1), dtype)
        r = np.zeros((self.rows, outputs), dtype)
        r[: self.n] = residual
        if dtype == np.float32:
            r[np.abs(r) < 1e-35] = 0  # subnormal numbers add nothing but are slow
        if not masked:
            by_row, by_column = _tiles_of_rows(r, dtype), _tiles_of_columns(r, dtype)
            return loops.Residual(self.by_column, nothing[0, 0], by_row, by_column)
        columns = self.by_column.copy()
        columns[:, :, 0::2] *= r[None]
        return loops.Residual(columns, r[:, 0].copy(), nothing, nothing)


class Engine:
    """The passes bound to inputs X (n, d), a number of outputs C, a dtype, a number of threads, and what a problem says
    of its network: an activation, the coefficients of the penalty p, and the scale α of f = (α/m) Σ_j w_j φ(u_j·x).

    Without an `activation` it is the relu, and the engine holds the activation bits of the particles last predicted or
    advanced (n/8 bytes each), which the next `advance` or `observe` of the same particles reads; if anybody has changed
    them in between, it predicts them again first. Where ranks share the particles, all must call, and all get the
    moments of the whole.
    """

    def __init__(
        self,
        X: np.ndarray,
        outputs: int,
        dtype: Any,
        threads: int | Workers | None = None,
        activation: Activation | None = None,
        penalty: Coefficients = PLAIN,
        scale: float = 1.0,
    ) -> None:
        self.C, self.dtype, self.activation = outputs, np.dtype(dtype), activation
        self.penalty, self.scale = penalty, scale
        self.inputs = Inputs.of(X, self.dtype)
        self.workers = threads if isinstance(threads, Workers) else Workers(threads or default_threads())
        self._forget()

    def beside(self) -> Engine:
        """Another on the same packed inputs, for other particles: what this one knows of its own stays known."""
        other = copy.copy(self)
        other._forget()
        return other

    def _forget(self) -> None:
        self._bits = np.zeros((0, 0), f"u{lanes(self.dtype) // 8}")
        self._known: tuple[Particles | None, int] = None, 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what is known of particles: a prediction finds it again."""
        return {name: value for name, value in vars(self).items() if name not in ("_bits", "_known")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def knows(self, particles: Particles) -> bool:
        """Whether these particles are as this engine last predicted or left them."""
        return self._known[0] is particles and self._known[1] == particles.version

    def predict(self, particles: Particles, *, keep: bool = True) -> Moments:
        """The moments of the particles; keep=False spares the memory of the bits."""
        self._known = None, 0  # until all bits are there
        limbs = self._run(loops.predict, particles, self.penalty, self._fresh(particles, keep))
        self._known = (particles, particles.version) if keep else (None, 0)
        return self._moments(limbs, particles)

    def advance(self, particles: Particles, residual: np.ndarray, move: AnyMove, seed: int, step: int) -> Moments:
        """Move every particle by `move` under the residual (n, C), in place; the moments of the moved ones."""
        activity, packed, exact = self._activity(particles), self._packed(residual), move.exact(self.dtype)
        address = loops.Address(np.uint64(seed), np.uint64(step))
        with particles.writing():
            limbs = self._run(loops.advance, particles, self.penalty, activity, packed, exact, address)
        self._known = particles, particles.version
        return self._moments(limbs, particles)

    def observe(
        self, particles: Particles, residual: np.ndarray, reg: float, *, potentials: bool = False
    ) -> tuple[float, np.ndarray]:
        """∫‖∇L'‖² dρ, and the potentials L'(θ_j), float64, of this process's particles if asked for (else empty)."""
        potential = np.empty(particles.span.count if potentials else 0)
        activity, packed = self._activity(particles), self._packed(residual)
        limbs = self._run(loops.observe, particles, self.penalty.times(float(reg)), activity, packed, potential)
        return float(self.value(limbs)[0]) / particles.span.total, potential

    def _fresh(self, particles: Particles, keep: bool) -> loops.Activity | Rule:
        """What a prediction goes by: room for the bits, of all groups or of one at a time, or the activation."""
        if self.activation is not None:
            return self.activation.rule(self.dtype)
        rows = self.inputs.rows * VECTORS if self.C == 1 else 1
        groups = particles.theta.shape[0] if keep and self.C == 1 else 1
        if self._bits.shape != (groups, rows):
            self._bits = np.empty((groups, rows), self._bits.dtype)
        return loops.Activity(self._bits, keep)

    def _activity(self, particles: Particles) -> loops.Activity | Rule:
        """The bits of all the particles, predicted again if they are not those of the particles as they are."""
        if self.activation is not None:
            return self.activation.rule(self.dtype)
        if not self.knows(particles):
            self.predict(particles)
        return loops.Activity(self._bits, True)

    def _packed(self, residual: np.ndarray) -> loops.Residual:
        scaled = residual if self.scale == 1 else self.scale * residual
        return self.inputs.residual(scaled, masked=self.C == 1 and self.activation is None)

    def _run(self, compiled: Any, particles: Particles, penalty: Coefficients, *settings: Any) -> np.ndarray:
        """The limbs of a pass over the particles, summed over threads and ranks."""
        arguments = particles.packed(), self.inputs.data(self.C, penalty), *settings
        blocks = -(-particles.span.count // BLOCK)
        return particles.span.ranks.sum(self.workers.run(compiled, blocks, arguments, self.inputs.n * self.C + 2))

    def _moments(self, limbs: np.ndarray, particles: Particles) -> Moments:
        value = self.value(limbs) / particles.span.total
        f, second, penalty = value[:-2].reshape(self.inputs.n, self.C), float(value[-2]), float(value[-1])
        return Moments(f if self.scale == 1 else self.scale * f, second, second if self.penalty == PLAIN else penalty)

    @staticmethod
    def value(limbs: np.ndarray) -> np.ndarray:
        """Fixed point to float64; all NaN if anything did not fit."""
        value = (limbs[:-1, 0] * _LIMBS[0] + limbs[:-1, 1] * _LIMBS[1]) + limbs[:-1, 2] * _LIMBS[2]
        return np.full_like(value, np.nan) if limbs[-1, 0] else value


__all__ = [
    "BLOCK",
    "PLAIN",
    "Activation",
    "Coefficients",
    "Engine",
    "Kick",
    "Kinetic",
    "Moments",
    "Move",
    "Moves",
    "Particles",
    "Workers",
    "default_threads",
    "draw",
    "group_size",
    "share",
]
