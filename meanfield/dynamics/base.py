"""What all laws of motion share: one scheme, and one step.

All share the potential L'[ρ](θ) = ⟨r, Φ(θ; ·)⟩ + λ‖θ‖² (arXiv 1810.05369, section 3) and one scheme. Its linear part is
solved exactly (an exponential integrator: at zero residual the step is exact for any η, so the ℓ2 term brings neither
bias nor a bound on the step size); the rest is explicit:

    θ ← e^{−2λη} θ − (1 − e^{−2λη})/(2λ) ∇⟨r, Φ⟩ + √(τ (1 − e^{−4λη})/(2λ)) ξ

which is θ − η∇L' + √(2ητ) ξ to first order in η. A step has three verbs: from the residual (n·C numbers, all that
particles know of each other) find the step size, advance every particle, predict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ..arrays import is_number
from ..engine import exact_math
from ..engine.engine import AnyMove, Moments, Move, Moves
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..schedules import Schedule
from ..shown import Shown
from . import step_size
from .field import Field

PARTICLE = 42e-12  # seconds of a core that an explicit step takes for a particle, example and dimension


@dataclass(frozen=True, repr=False)
class Dynamics(Shown):
    """What all dynamics share: a step size, and if wanted minibatches of the data. It holds no state.

    A dynamics of your own derives from it as a frozen dataclass whose fields are its parameters, and defines `move`.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time. "auto" is found anew at every step (`meanfield.dynamics.step_size`).
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.
    rates : pair of floats
        How fast the layers u and w move, in the flow's time; 0 freezes one. Noise keeps its temperature.
    noise : pair of floats
        The temperatures of u and of w, as parts of τ.
    label_noise : float
        Of the targets, anew in every step: the deviation of what is added to those of regression, or the probability
        with which a label is another.
    tail_index : float
        α from 1 to 2 of noise τ^{1/α} dL, E e^{it·L_s} = e^{−s‖t‖^α}: below 2 it has heavy tails and no variance.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1, rates that are negative or both 0, another tail index.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from meanfield.dynamics import Dynamics, exponential_move
    >>> @dataclass(frozen=True)
    ... class Hotter(Dynamics):
    ...     factor: float = 2.0
    ...     name = "hotter"
    ...
    ...     def move(self, eta, reg, temperature):
    ...         return exponential_move(eta, reg, self.factor * temperature)
    >>> Hotter(step_size=0.1, rates=(1, 0)).section()
    {'method': 'hotter', ..., 'rates': (1.0, 0.0), ..., 'tail_index': 2.0, 'factor': 2.0}
    """

    step_size: str | float | Schedule = "auto"
    batch: int | None = None
    rates: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    noise: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    label_noise: float = field(default=0.0, kw_only=True)
    tail_index: float = field(default=2.0, kw_only=True)

    name: ClassVar[str]
    passes: ClassVar[int] = 1  # what a step does with every particle, in explicit steps, roughly

    def _facts(self) -> dict[str, Any]:
        return {parameter.name: getattr(self, parameter.name) for parameter in fields(self)}

    @property
    def anneals(self) -> bool:
        """Whether a run lowers a constant λ to its value from above, unless it is told otherwise."""
        return self.step_size == "auto" and self.rates == (1, 1)

    def __post_init__(self) -> None:
        if self.step_size != "auto":
            if isinstance(self.step_size, str):
                raise InputError(f'step_size = {self.step_size!r}: must be "auto", a positive number or a schedule')
            schedule = Schedule.of(self.step_size)
            if min(schedule.start, schedule.end) <= 0:
                raise InputError(f"step_size = {min(schedule.start, schedule.end)!r}: must be positive")
        if self.batch is not None and not (is_number(self.batch) and self.batch >= 1):
            raise InputError(f"batch = {self.batch!r}: must be at least 1")
        for name in ("rates", "noise"):
            object.__setattr__(self, name, _by_layer(name, getattr(self, name)))
        check_rate("label_noise", self.label_noise)
        if not (is_number(self.tail_index) and 1 <= self.tail_index <= 2):
            raise InputError(f"tail_index = {self.tail_index!r}: must be from 1 to 2, of Gaussian noise")

    @classmethod
    def of(cls, section: Any) -> Dynamics:
        """The dynamics that a configuration's section asks for."""
        return cls(**{parameter.name: getattr(section, parameter.name) for parameter in fields(cls)})

    def section(self) -> dict[str, Any]:
        """The same in the words of a configuration."""
        return {"method": self.name, **{parameter.name: getattr(self, parameter.name) for parameter in fields(self)}}

    def cost(self, m: int, n: int, d: int, outputs: int = 1) -> float:
        """Seconds of a core that a step takes, by a model: how often what is dear is recorded rests on it.

        Parameters
        ----------
        m, n, d, outputs : int
            The sizes of the ensemble, of the training set, of an input, and C.

        Returns
        -------
        float

        Examples
        --------
        >>> from meanfield import Implicit, Langevin
        >>> Langevin(batch=16).cost(16384, 160, 20) < Langevin().cost(16384, 160, 20) < Implicit().cost(16384, 160, 20)
        True
        """
        return PARTICLE * self.passes * m * min(self.batch or n, n) * d

    def eta(self, field: Field, ensemble: Ensemble, moments: Moments, residual: np.ndarray) -> float:
        """The step size η at this state; an automatic one refreshes what the ensemble remembers."""
        if self.step_size != "auto":
            return Schedule.of(self.step_size)(ensemble.step)  # type: ignore[arg-type]
        return step_size.automatic(field, ensemble, moments, residual) / max(self.rates)

    def step(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        """Advance the ensemble in place by one step.

        Parameters
        ----------
        field : Field
            The problem, bound to compiled loops.
        ensemble : Ensemble
            The particles; its step, time and memory advance too.
        moments : Moments
            What `field.predict`, or the step before, returned. They are found anew if the particles were changed since.

        Returns
        -------
        Moments
            f (n, C) and ∫‖θ‖² dρ of the moved particles; with a minibatch those on the batch's examples.
        """
        k = ensemble.step
        if self.batch is None:
            moments = field.current(ensemble, moments)
        else:
            field = field.minibatch(self.batch, ensemble.seed, k)
            moments = field.predict(ensemble)
        residual = self.residual(field, ensemble, moments)
        eta = self.eta(field, ensemble, moments, residual)
        moves = self.moves(eta, field.problem, ensemble)
        moments = field.engine.advance(ensemble.particles, residual, moves, ensemble.seed, k)
        moments = self.exchange(field, ensemble, moments, eta)
        ensemble.memory["step_size"] = eta
        ensemble.step += 1
        ensemble.time += eta
        return moments

    def residual(self, field: Field, ensemble: Ensemble, moments: Moments) -> np.ndarray:
        """r = ∂R/∂f (n, C), of targets with the label noise of this step."""
        problem, level = field.problem, self.label_noise
        if level == 0:
            return field.residual(moments)
        noisy = problem.loss.mislabelled(problem.targets, problem.outputs, level, ensemble.seed, ensemble.step)
        return problem.loss.residual(moments.f, noisy)

    def exchange(self, field: Field, ensemble: Ensemble, moments: Moments, eta: float) -> Moments:
        """What follows the move; nothing, unless particles exchange mass."""
        return moments

    def moves(self, eta: float, problem: Problem, ensemble: Ensemble) -> AnyMove:
        """The step of each layer: that of `move` at the layer's own λ, time (η times its rate) and part of τ."""
        k, p = ensemble.step, problem.penalty
        reg, temperature = problem.reg(k), problem.temperature(k)
        whole = self.move(eta, reg, temperature)
        if not isinstance(whole, Move):
            raise InputError(f"{type(self).__qualname__}.move: gave {whole!r}, must be a Move")

        def layer(rate: float, weight: float, part: float) -> Move:
            own = whole
            if not rate == weight == part == 1:
                own = self.move(rate * eta, weight * reg, part * temperature)._replace(death=whole.death)
            return own._replace(noise=heavy_spread(own.noise, rate * eta, weight * reg, self.tail_index))

        u, w = map(layer, self.rates, p.layers, self.noise)
        by_u, by_w = (rate * eta * reg for rate in self.rates)
        quartic, path = (p.quartic * by_u, p.quartic * by_w), (p.path * by_u, p.path * by_w)
        return Moves(u, w, quartic, path, self.tail_index)

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        """The coefficients of this law's step, from η, λ and τ; `exponential_move` gives those of the scheme."""
        raise NotImplementedError


def _by_layer(name: str, value: Any) -> tuple[float, float]:
    """InputError, unless it is a pair of rates of which one at least is positive."""
    if (
        not isinstance(value, tuple | list)
        or len(value) != 2
        or not all(_is_rate(one) for one in value)
        or not any(value)
    ):
        raise InputError(f"{name} = {value!r}: must be two finite numbers, of u and of w, at least 0 and not both 0")
    return float(value[0]), float(value[1])


def _is_rate(value: Any) -> bool:
    return is_number(value) and value >= 0


def check_rate(name: str, value: float) -> None:
    """InputError, unless the rate is a finite number, at least 0."""
    if not _is_rate(value):
        raise InputError(f"{name} = {value!r}: must be a finite number, at least 0")


def exponential_move(eta: float, reg: float, temperature: float, death: float = 0.0) -> Move:
    """The coefficients of the exponential scheme (this module's first lines).

    Parameters
    ----------
    eta, reg, temperature : float
        η, λ and τ, each at least 0.
    death : float
        Probability with which a particle dies in the step and is reborn on the unit sphere.

    Returns
    -------
    Move
        shrink = 1 − e^{−2λη}, drift = shrink/(2λ), noise = √(τ (1 − e^{−4λη})/(2λ)), death; at λ = 0 their limits 0, η
        and √(2τη).

    Examples
    --------
    >>> from meanfield.dynamics import exponential_move
    >>> exponential_move(0.1, 0.5, 0.0)
    Move(shrink=0.0951..., drift=0.0951..., noise=0.0, death=0.0)
    """
    if reg == 0:
        return Move(0.0, eta, math.sqrt(2 * temperature * eta), death)
    shrink = -exact_math.expm1(-2 * reg * eta)
    drift = shrink / (2 * reg)
    spread = math.sqrt(-temperature * exact_math.expm1(-4 * reg * eta) / (2 * reg))
    return Move(shrink, drift, spread, death)


def heavy_spread(spread: float, eta: float, reg: float, tail: float) -> float:
    """√2 (τ (1 − e^{−2αλη})/(2αλ))^{1/α} of noise that would have the deviation `spread` if it were Gaussian, α = 2.

    Parameters
    ----------
    spread, eta, reg : float
        √(τ (1 − e^{−4λη})/(2λ)), η and λ.
    tail : float
        α, from 1 to 2; at 2 it is `spread` itself.

    Returns
    -------
    float
        The scale of stretched normals (`engine.noise.stretch`) that is exact for dθ = −2λθ dt + τ^{1/α} dL.

    Examples
    --------
    >>> from meanfield.dynamics.base import heavy_spread
    >>> round(heavy_spread(0.3, 0.5, 0.0, 1.0), 9)  # of τη = 0.3²/2
    0.06363961
    """
    if tail == 2 or spread == 0:
        return spread

    def time(alpha: float) -> float:
        """∫ e^{−2αλs} ds over the step."""
        return eta if reg == 0 else -exact_math.expm1(-2 * alpha * reg * eta) / (2 * alpha * reg)

    temperature = spread * spread / (2 * time(2.0))
    return math.sqrt(2) * exact_math.exp(exact_math.log(temperature * time(tail)) / tail)
