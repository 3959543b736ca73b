"""The implicit step: the same flow, its stiff part taken implicitly, its kinks proximally, its masses convexly.

Particles meet only in the residual r = R'(f), n·C numbers. One step of length η, at τ = 0:

    0. fit       a proximal step of the masses of those that count (masses.py)
    1. birth     the lightest particles are put where ‖G_r‖ peaks then (births.py), and masses are fitted once more
    2. shrink    every particle that carries mass by e^{−2λη}; f is what they predict then (working_set.py)
    3. rest      the shares α_ij of the kinks that neuron j will rest on under r = R'(f before 2) (engine/kinks.py)
    4. couple    r⁺ = R'(f⁺),  f⁺ = f − c K r⁺,  K the tangent kernel with α (coupling.py)
    5. turn      every particle exactly under r⁺: a hyperbolic rotation of (u_∥, w)
    6. correct   f⁺ becomes what the moved particles predict, plus c K r⁺: 4 and 5 again

A run of several outputs ends with fits of output weights (outputs.py) and masses by turns.

c = (e^{4λη} − 1)/4λ is the one for which equilibrium, K r = −4λ f before 2, is a fixed point at any η. K is only a
model of how predictions answer (6 puts it right), so that it is taken from the heaviest particles. 2 to 6 are done in
coordinates in which the inputs are of one scale (frame.py). A step of automatic length that raises the objective by
more than RISE is taken back and η halved.

At τ > 0 only 2, 4, 5 and 6 are left, in the inputs' own coordinates, with the pattern at the start and K of some
particles as they come, and noise: the law of a particle without data is exact for any η. An automatic η is
TURN/max(v, 2λ), v² the mean of ‖G_j‖² over mass: how fast particles turn, nothing of the coupling's curvature. At τ > 0
it is TURN_IN_NOISE over the same (at the optimum v is about 2λ): what particles turn by between two noises is a bias of
their law. Particles that rest on kinks still tremble by η, so that η is lowered time and again (`warmth`), and at the
end. All that the next step needs is in the ensemble: particles, step, time, and v (`turning`), `caution` and `sight` in
its memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import is_number
from ..engine import exact_math
from ..engine.engine import Moments, Move
from ..ensemble import Ensemble
from ..errors import InputError
from .base import Dynamics
from .births import bear
from .field import Field
from .masses import Census, fit, wanted
from .outputs import refit
from .working_set import SWEEPS, Trial, WorkingSet

TURN = 0.3  # the angle by which the mean particle turns in a step
TURN_IN_NOISE = 0.1  # the same at τ > 0: predictions within some 1 % of the Gibbs measure's
RISE = 0.01  # the largest relative rise of the objective that is let pass
LOWERED = 9.0  # an automatic η is e to this power lower at the end of a cycle
WAIT_IN_NOISE, LOWERED_IN_NOISE = 0.25, 7.0  # at τ > 0 the law needs time: the part of a cycle before η is lowered
SHORTEST = 12  # steps of the first cycle, at least
SHARPEST = 1e-2  # fits of the masses grow as η is lowered, by 1 over this at most
LONGEST = 1e100  # fit of the masses: as good as none at λ → 0, and its square is a number
FITTED = 0.9999  # the part of the mass that is fitted
MOST = 4096  # heavy particles that are fitted, at most
WANTED = 1024  # light ones that are fitted, at most
_NUMBERS = 1 << 21  # numbers in the features of those that are fitted, at most
REFITS = 8  # of output weights and masses, as a run ends
RECOVER = 2.0  # how much of a halved η comes back with each step
_HALVINGS = 12


@dataclass(frozen=True, repr=False)
class Implicit(Dynamics):
    """∂ρ/∂t = ∇·(ρ ∇L'[ρ]) + τΔρ by implicit steps, for any curvature of the coupling.

    The residual that moves the particles is the one they arrive at; each then moves exactly. At τ = 0, in between,
    masses are fitted and particles born where the objective asks for them. What a run does by default.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" follows how fast particles turn, and is a third as long at τ > 0.
    batch : None
        All examples are needed.
    cooled_at : int
        The step at which an automatic η is at its lowest, a run's end; also at its half, quarter and so on, each after
        starting anew from above. It stays low afterwards, where no step is lost: the objective falls, if slowly, while
        in a further cycle it would be higher until its end. 0: it is never lowered.
    births : int
        Particles born in a step, at most, where ‖G_r‖ > 2λ; none at τ > 0.
    fit_masses : bool
        Whether each step begins with a fit of the masses, and then moves the particles that carry them; not at τ > 0.
        The last one then ends with fits of output weights and masses, if there are several outputs.
    whiten : bool
        Whether particles move in a metric in which the inputs are of one scale; not at τ > 0.

    Raises
    ------
    InputError
        A step size that is not positive, a batch, a negative number; in a step, a neuron other than relu.

    Notes
    -----
    With births = 0, fit_masses = False and whiten = False it is an integrator of the flow, of order 1, and no more.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Implicit, Problem, simulate
    >>> x = np.linspace(-1, 1, 20)
    >>> problem = Problem(np.column_stack([x, np.ones(20)]), 10 + abs(x), loss="squared", reg=1e-3)
    >>> result = simulate(problem, Ensemble.sphere(256, 2), Implicit(cooled_at=24), steps=24)
    >>> bool(problem.objective(result.ensemble).value < 0.0242)
    True
    """

    cooled_at: int = 240
    births: int = 64
    fit_masses: bool = True
    whiten: bool = True

    name = "implicit"
    anneals = False
    passes = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch is not None:
            raise InputError(f"batch = {self.batch!r}: the implicit step needs all examples; use langevin with a batch")
        if (self.rates, self.noise, self.label_noise, self.tail_index) != ((1, 1), (1, 1), 0, 2):
            names = ("rates", "noise", "label_noise", "tail_index")
            asked = ", ".join(f"{name} = {getattr(self, name)}" for name in names)
            raise InputError(f"{asked}: an implicit step moves both layers alike, and has no such noise; use langevin")
        for one in ("cooled_at", "births"):
            if not (is_number(getattr(self, one)) and getattr(self, one) >= 0):
                raise InputError(f"{one} = {getattr(self, one)!r}: must be at least 0")

    def warmth(self, k: int, *, hot: bool = False) -> float:
        """What is left of an automatic η at step k, at τ > 0 where `hot`: 1 as a cycle starts, least at its end."""
        wait, lowered = (WAIT_IN_NOISE, LOWERED_IN_NOISE) if hot else (0.0, LOWERED)
        last = self.cooled_at
        if not 0 <= k < last:
            return exact_math.exp(-lowered) if last else 1.0
        first = last // 2
        while k < first and first >= SHORTEST:
            last, first = first, first // 2
        first = first if k >= first >= SHORTEST else 0
        return exact_math.exp(-lowered * max(0.0, (k - first) / (last - first) - wait) / (1 - wait))

    def cost(self, m: int, n: int, d: int, outputs: int = 1) -> float:
        """With what does not grow with m: coupling and masses in n·C numbers, births. Within a factor of two or so."""
        numbers = n * outputs
        return super().cost(m, n, d, outputs) + 1e-4 * numbers * (1 + numbers / 400) + 3e-6 * n * d

    def step(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        field.problem.neuron.require_relu("an implicit step")
        field.problem.require_plain("an implicit step")
        moments = field.current(ensemble, moments)
        eta, trial = 0.0, None
        if np.isfinite(moments.f).all():
            hot = field.problem.temperature(ensemble.step) > 0
            if not hot:
                moments = self._convex(field, ensemble, moments)
            work = self._working_set(field, ensemble, moments, hot=hot)
            eta, trial = self._accepted(work, moments, hot=hot)
            if trial is not None:
                moments = work.settle(trial)
                ensemble.memory["turning"] = trial.turning
            if not hot and ensemble.step + 1 == self.cooled_at:
                moments = self._refitted(field, ensemble, moments)
            if hot:
                moments = _noise(field, ensemble, moments, eta)
        ensemble.memory["step_size"] = eta
        ensemble.step += 1
        ensemble.time += eta if trial is not None else 0.0
        return moments

    def _convex(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        """A fit of the masses; births, which see the residual that it leaves; a fit with the newborn and the wanted.

        What a move leaves of the residual can be a hundred times what is left at the minimum, and peaks elsewhere.
        """
        born = np.zeros(0, np.int64)
        if self.fit_masses:
            moments = self._fitted(field, ensemble, moments, born, born)
        census = Census.of(ensemble)
        pays = wanted(field, ensemble, moments, census)
        if self.births:
            moments, born = bear(field, ensemble, moments, census, pays, min(self.births, ensemble.m // 8))
        return self._fitted(field, ensemble, moments, pays, born) if self.fit_masses else moments

    def _fitted(
        self, field: Field, ensemble: Ensemble, moments: Moments, pays: np.ndarray, born: np.ndarray
    ) -> Moments:
        """A proximal step of the masses of the heavy, of the most wanted of `pays`, and of `born`."""
        warmth = self.warmth(ensemble.step) if self.step_size == "auto" else 1.0
        length = min(LONGEST, 1 / (max(SHARPEST, warmth) * field.problem.reg(ensemble.step)))
        heavy = Census.of(ensemble).carriers(FITTED, most=min(MOST, max(128, _NUMBERS // moments.f.size)))
        chosen = np.unique(np.concatenate([heavy, pays[: min(WANTED, max(64, len(heavy)))], born]))
        return fit(field, ensemble, moments, chosen, length)

    def _refitted(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        """As a run ends: output weights and masses by turns, at the directions that are there."""
        if not self.fit_masses or field.problem.outputs == 1:  # a sign is no direction
            return moments
        none = np.zeros(0, np.int64)
        for _ in range(REFITS):
            moments = refit(field, ensemble, moments, Census.of(ensemble).carriers(FITTED, most=MOST))
            moments = self._fitted(field, ensemble, moments, none, none)
        return moments

    def _working_set(self, field: Field, ensemble: Ensemble, moments: Moments, *, hot: bool) -> WorkingSet:
        frame = field.whitened if self.whiten and not hot else field.plain
        if self.fit_masses and not hot:
            return WorkingSet.carrying(field, frame, ensemble, moments)
        return WorkingSet(field, frame, ensemble, moments, None, 0 if hot else SWEEPS)

    def _accepted(self, work: WorkingSet, moments: Moments, *, hot: bool) -> tuple[float, Trial | None]:
        """η and the first of ever shorter steps that does not raise the objective by much; or None."""
        memory, most = work.ensemble.memory, work.value * (1 + RISE)
        if self.step_size != "auto":
            eta = self.eta(work.field, work.ensemble, moments, work.r)
            return eta, work.trial(eta)
        caution, eta, found = memory.get("caution", 1.0), 0.0, None
        if "turning" not in memory:
            memory["turning"] = work.turning()
        turn = TURN_IN_NOISE if hot else TURN
        longest = self.warmth(work.ensemble.step, hot=hot) * turn / max(memory["turning"], 2 * work.reg)
        for _ in range(_HALVINGS):
            eta = caution * longest
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is seen in its predictions
                trial = work.trial(eta)
            if hot or trial.value <= most:
                found, caution = trial, min(1.0, caution * RECOVER)
                break
            caution *= 0.5
        memory["caution"] = caution
        return eta, found


def _noise(field: Field, ensemble: Ensemble, moments: Moments, eta: float) -> Moments:
    """The noise that belongs to η."""
    reg, tau = field.problem.reg(ensemble.step), field.problem.temperature(ensemble.step)
    spread = math.sqrt(-tau * exact_math.expm1(-4 * reg * eta) / (2 * reg))
    still, move = np.zeros_like(moments.f), Move(0.0, 0.0, spread)
    return field.engine.advance(ensemble.particles, still, move, ensemble.seed, ensemble.step)
