"""Which theorems of "Regularization Matters" (arXiv 1810.05369) speak of an ensemble, by what is proven of it.

A statement has hypotheses, each proven, assumed or not, and a conclusion, a number beside which stands what was
measured. What the paper leaves open, a constant that is "large enough", is said; its margin theorem is given once more
with constants (`optimality.margin_guarantee`), a bound on the test error with all its terms (`studies.error_bound`):
both are derived there. The minimum is bounded by `certify`, the largest margin γ* by `exact.max_margin`, with proofs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

import numpy as np

from ..diagnostics import error_on_test_set
from ..ensemble import Ensemble
from ..errors import InputError
from ..losses import CrossEntropy, Logistic
from ..optimality.certificate import Certificate, certify, predictions
from ..optimality.margin_guarantee import guaranteed_margin, weak_reg
from ..optimality.max_margin import max_margin
from ..problem import Problem
from ..shown import Shown
from ..simulation.result import AnyRun
from .error_bound import error_bound

PROVEN, ASSUMED, OPEN, UNPROVEN, FALSE = "proven", "assumed", "constant not stated", "not proven", "not met"
STATUSES = (PROVEN, ASSUMED, OPEN, UNPROVEN, FALSE)  # the later ones decide
_STATED, _DERIVED = "stated in the paper", "derived here"
_FACTOR, _SHARE = 2.0, 8  # of the paper: L ≤ 2 min L, and γ ≥ γ*/8


class Hypothesis(NamedTuple):
    """What a statement asks for, whether that is so (one of `STATUSES`), and the number that says it."""

    claim: str
    status: str
    detail: str = ""


class Statement(NamedTuple):
    """A theorem on these data: what follows from its hypotheses, as a number, and what was measured beside it.

    `bound` bounds `measured`, from below for margins and from above for errors; `is_vacuous` if that says nothing: an
    error above 1, or no margin at all (None).
    """

    name: str
    source: str
    hypotheses: tuple[Hypothesis, ...]
    conclusion: str
    bound: float | None
    measured: float | None
    is_vacuous: bool = False

    @property
    def status(self) -> str:
        """That of the weakest hypothesis: the conclusion holds if it is "proven", or "assumed"."""
        return max((one.status for one in self.hypotheses), key=STATUSES.index)


@dataclass(frozen=True, kw_only=True, repr=False)
class Theorems(Shown):
    """What is proven of an ensemble, and what follows by which theorem.

    Attributes
    ----------
    step, n, d, m, classes : int
        Of the ensemble and its problem.
    reg : float
        λ at that step.
    objective, lower_bound : float
        L, and a proven lower bound on its minimum.
    factor : float
        objective/lower_bound: L is proven to be at most so many times the minimum; infinite where nothing is proven.
    margin : float
        γ, the normalized margin.
    max_margin, max_margin_upper : float
        Between these is γ*: the first is attained by a network, the second proven.
    test_error : float
        NaN without a test set.
    delta : float
        The probability with which a bound on the test error may fail.
    statements : tuple of Statement
    seconds : float
        Wall-clock time.
    """

    SHOWN = ("step", "reg", "factor", "margin", "max_margin", "max_margin_upper", "test_error", "seconds")

    step: int
    n: int
    d: int
    m: int
    classes: int
    reg: float
    objective: float
    lower_bound: float
    factor: float
    margin: float
    max_margin: float
    max_margin_upper: float
    test_error: float
    delta: float
    statements: tuple[Statement, ...] = field(repr=False)
    seconds: float

    def __getitem__(self, name: str) -> Statement:
        """The statement of that name."""
        return next(one for one in self.statements if one.name == name)


def theorems(run: AnyRun, *, effort: float = 1.0, delta: float = 0.05, threads: int | None = None) -> Theorems:
    """Which theorems of arXiv 1810.05369 speak of a run's last ensemble, and what follows.

    Parameters
    ----------
    run : Run or Result
        Whatever has a `problem` and an `ensemble`: relu neurons, the penalty λ‖θ‖² with λ > 0, τ = 0 or falling, the
        logistic loss or cross-entropy.
    effort : float
        1 is at most about two minutes of one core, counted in work: the answer is the same every time.
    delta : float
        The probability with which a bound on the test error may fail.
    threads : int, optional
        By default the cores that this process may use; the answer does not depend on it.

    Returns
    -------
    Theorems

    Raises
    ------
    InputError
        In one line: another neuron, penalty, loss or temperature, or a delta that is no probability.

    Examples
    --------
    Two examples, which need two neurons: γ* = ¼, and λ is so small that half of it is guaranteed.

    >>> from types import SimpleNamespace
    >>> from meanfield import Ensemble, Problem
    >>> from meanfield.studies.theorems import theorems
    >>> size = 7.0  # of the particles: a margin of 7²/2, near log(γ*/λ)
    >>> ensemble = Ensemble.from_arrays([size, -size], [[size], [-size]])
    >>> run = SimpleNamespace(problem=Problem([[1.0], [-1.0]], [1, -1], reg=1e-12), ensemble=ensemble)
    >>> found = theorems(run)
    >>> found["margin by constants"].status, round(found.margin, 6)
    ('proven', 0.25)
    >>> found["margin at this gap"].bound > 0.6 * found.max_margin
    True
    """
    start = monotonic()
    problem, ensemble = run.problem, run.ensemble
    _refuse(problem, ensemble.step, delta)
    found = certify(problem, ensemble, effort=effort, method="proven", threads=threads)
    best = ensemble.span.ranks.once(
        lambda: max_margin(problem.X, problem.y, loss=problem.loss, effort=effort, threads=threads)
    )
    known = _Known(
        n=problem.n,
        m=ensemble.m,
        rivals=problem.loss.margin_rows(problem.targets, problem.outputs).shape[1],
        outputs=problem.outputs,
        reg=found.reg,
        factor=found.primal / found.lower_bound if found.lower_bound > 0 else math.inf,
        margins=_normalized_margins(problem, ensemble, threads),
        lower=best.margin,
        upper=best.upper,
        mean_square=float(np.mean(np.sum(problem.X**2, axis=1))),
        test_error=error_on_test_set(problem, ensemble, threads),
        delta=delta,
    )
    return known.report(problem.d, ensemble.step, found, start)


def _normalized_margins(problem: Problem, ensemble: Ensemble, threads: int | None) -> np.ndarray:
    f, second = predictions(problem, ensemble, threads)
    return np.asarray(problem.loss.margins(f, problem.targets)) / max(second, np.finfo(float).tiny)


def _refuse(problem: Problem, step: int, delta: float) -> None:
    """InputError: what is no hypothesis of any of these theorems."""
    problem.neuron.require_relu("theorems")
    problem.require_plain("theorems")
    if not isinstance(problem.loss, Logistic | CrossEntropy):
        raise InputError(f"theorems are of the logistic loss and cross-entropy, not of loss {problem.loss.name!r}")
    schedule = problem.temperature
    if schedule(step) > 0 and not schedule.end < schedule.start:
        raise InputError(f"theorems are of the minimum of L, at τ = 0, and the temperature is {schedule(step):.3g}")
    if not 0 < delta < 1:
        raise InputError(f"delta = {delta!r}: must be between 0 and 1")


class _Known(NamedTuple):
    """All that the statements rest on; `margins` normalized, γ* between `lower` and `upper`."""

    n: int
    m: int
    rivals: int
    outputs: int
    reg: float
    factor: float
    margins: np.ndarray
    lower: float
    upper: float
    mean_square: float
    test_error: float
    delta: float

    @property
    def margin(self) -> float:
        return float(self.margins.min())

    def report(self, d: int, step: int, found: Certificate, start: float) -> Theorems:
        return Theorems(
            step=step,
            n=self.n,
            d=d,
            m=self.m,
            classes=self.rivals + 1,
            reg=self.reg,
            objective=found.primal,
            lower_bound=found.lower_bound,
            factor=self.factor,
            margin=self.margin,
            max_margin=self.lower,
            max_margin_upper=self.upper,
            test_error=self.test_error,
            delta=self.delta,
            statements=tuple(self.statements()),
            seconds=monotonic() - start,
        )

    def statements(self) -> Sequence[Statement]:
        of_margins = [self._stated_margin(), self._margin(), self._margin_here(), self._width()]
        return [*of_margins, self._stated_error(), self._error(), self._error_at_best()]

    def _separable(self) -> Hypothesis:
        status = PROVEN if self.lower > 0 else FALSE if self.upper < 1e-12 else UNPROVEN
        return Hypothesis("some network separates the examples, γ* > 0", status, f"γ* ≥ {self.lower:.6g}")

    def _near(self) -> Hypothesis:
        status = PROVEN if self.factor <= _FACTOR else UNPROVEN
        return Hypothesis("L ≤ 2 min L", status, _at_most(self.factor))

    def _stated_margin(self) -> Statement:
        base = math.log(self.n * self.rivals)
        depth = math.log(self.lower / self.reg) if self.lower > 0 else -math.inf
        exponent = depth / base if base > 0 else math.inf
        weak = Hypothesis("λ ≤ γ*/(n (l − 1))^c, c large enough", OPEN, f"holds for c ≤ {exponent:.3g}")
        if depth <= 0:
            weak = Hypothesis(weak.claim, FALSE, f"λ = {self.reg:.3g}")
        hypotheses = self._separable(), self._near(), weak
        return Statement("margin", _STATED, hypotheses, "γ ≥ γ*/8", self.lower / _SHARE, self.margin)

    def _margin(self) -> Statement:
        """The same with a λ₀ for "small enough"."""
        enough = weak_reg(self.lower, self.n, _FACTOR, self.rivals, 1 / _SHARE, self.upper)
        largest = weak_reg(self.upper, self.n, _FACTOR, self.rivals, 1 / _SHARE)
        status = PROVEN if self.reg <= enough else FALSE if self.reg > largest else UNPROVEN
        weak = Hypothesis("λ ≤ λ₀(γ*, n, l)", status, f"λ₀ = {enough:.3g}, λ = {self.reg:.3g}")
        hypotheses = self._separable(), self._near(), weak
        return Statement("margin by constants", _DERIVED, hypotheses, "γ ≥ γ*/8", self.lower / _SHARE, self.margin)

    def _margin_here(self) -> Statement:
        """At the factor β that is proven, for whatever λ."""
        near = Hypothesis("L ≤ β min L", PROVEN if math.isfinite(self.factor) else UNPROVEN, _at_most(self.factor))
        bound = guaranteed_margin(self.lower, self.reg, self.n, self.factor, self.rivals)
        conclusion = "γ ≥ γ* (−log(e^x − 1))/(β (1 + log((l − 1)γ*/λ)))"
        hypotheses = self._separable(), near
        return Statement("margin at this gap", _DERIVED, hypotheses, conclusion, bound or None, self.margin, bound == 0)

    def _width(self) -> Statement:
        needed = self.n * self.rivals + 1
        wide = Hypothesis(f"m ≥ {needed}", PROVEN if self.m >= needed else FALSE, f"m = {self.m}")
        claim = "no network of any width has a larger margin than the best of m"
        return Statement("width", _STATED, (self._separable(), wide), claim, self.lower, self.margin)

    def _examples(self) -> tuple[Hypothesis, ...]:
        """What bounds on the test error ask for."""
        single = Hypothesis("two classes, one output", PROVEN if self.outputs == 1 else FALSE)
        return single, Hypothesis("examples drawn independently from one law", ASSUMED)

    def _stated_error(self) -> Statement:
        bound = self._leading(self.margin)
        fits = Hypothesis("γ > 0", PROVEN if self.margin > 0 else FALSE, f"γ = {self.margin:.6g}")
        hypotheses = *self._examples(), fits
        claim = "error ≤ (6/γ) √(D/n) + …, its first term alone"
        return Statement("test error", _STATED, hypotheses, claim, bound, self.test_error, bound >= 1)

    def _error(self) -> Statement:
        found = error_bound(self.margins, self.mean_square, self.delta)
        claim = f"error ≤ mean ramp + 4 √(D/n)/r + 3 √(log(2/δ_k)/2n), r = {found.r:.3g}"
        hypotheses = self._examples()
        return Statement(
            "test error by constants", _DERIVED, hypotheses, claim, found.value, self.test_error, found.is_vacuous
        )

    def _error_at_best(self) -> Statement:
        """Of a network that has the largest margin, γ_ℓ1 = 2γ*; this one's error is measured beside it."""
        bound = self._leading(self.lower)
        claim = "error ≤ 12 √D/(γ_ℓ1 √n) + …, its first term alone"
        hypotheses = *self._examples(), self._separable()
        return Statement("test error at γ*", _STATED, hypotheses, claim, bound, None, bound >= 1)

    def _leading(self, margin: float) -> float:
        """(6/γ) √(D/n), with D = ‖X‖²_F/n."""
        return 6 / margin * math.sqrt(self.mean_square / self.n) if margin > 0 else math.inf


def _at_most(factor: float) -> str:
    """Rounded up."""
    return f"L ≤ {math.ceil(1e5 * factor) / 1e5:.9g} min L" if math.isfinite(factor) else "no bound on min L"


__all__ = ["STATUSES", "Hypothesis", "Statement", "Theorems", "theorems"]
