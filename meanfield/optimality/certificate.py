"""The duality gap of an ensemble: how far above the global minimum it can be at most.

Every residual-like a (n, C) is a dual point: with N ≥ max_u ‖G_a(u)‖ on the unit sphere, −R*(s a) bounds min L from
below for 0 ≤ s ≤ 2λ/N. `certify` takes the ensemble's residual, improves it by refitting neurons
(conditional_gradient.Search), and bounds N in one of three ways:

- exact: the sphere is cut, along hyperplanes of examples, until no part can hold more; rigorous
- proven: the same with parts left open; rigorous, can be loose
- estimate: the highest peak found from many starts, a lower estimate of N, so what it yields is no bound

A proof cuts the sphere into cones up to rank 4 (branch_and_bound), and above that into cells that are bounded by a
doubly nonnegative relaxation (sign_branching, doubly_nonnegative), or where even one such relaxation would take too
long relaxes once and more loosely (semidefinite_relaxation).

`estimated_bound` is the estimate of a small amount of work, for the trace of a run. It is exact_math's arithmetic
throughout, the same bits on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..engine.engine import Moments
from ..engine.exact_algebra import product
from ..engine.exact_math import log, row_norms, total
from ..engine.noise import Purpose, uniforms
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import default_threads, single_threaded_blas
from ..shown import Shown
from .branch_and_bound import MAX_DIMENSION
from .budget import Budget
from .conditional_gradient import Search, needed
from .duality import dual_bound
from .linearized_gap import LinearizedBound, linearized_bound
from .proof import Proof, ProofRequest, Watch, prove
from .sphere_ascent import Peaks, climb, distinct, pull
from .sphere_bound import Leaf

METHODS = ("auto", "exact", "proven", "estimate")
_TIGHT = 1e-3  # a proven bound on ‖G‖ this close to the highest peak is preferred to an estimate
_WORK = 5e9  # of the search of `certify`: about five seconds of one core
_DOUBLE = 3e10  # multiplications beyond which predictions are taken in the ensemble's own precision


@dataclass(frozen=True, kw_only=True, repr=False)
class Certificate(Shown):
    """How far an ensemble is from the global minimum of L at λ = `reg` and τ = 0.

    Attributes
    ----------
    primal : float
        L of the ensemble.
    lower_bound : float
        Below min L if `rigorous`, otherwise an estimate of such a bound.
    method : str
        "exact", "proven" or "estimate".
    rigorous : bool
        Whether the bound is proven, rounding included.
    reg : float
        λ.
    direction : array (d,)
        The unit vector at which `best_norm` is attained.
    max_norm : float
        What was used in the place of max_u ‖G_a(u)‖ for the dual point a.
    best_norm : float
        The highest ‖G_a(u)‖ found.
    violation : float
        ‖G_r‖/2λ − 1 at the worst direction for the ensemble's own residual r; positive proves that it is not optimal.
        For another neuron than relu and leaky_relu `direction` is the u, of any length, where ‖G_a(u)‖²/4λ − λ‖u‖² is
        highest, the norms are ‖G_a(u)‖ there, and the violation is what the problem linearized at r can gain, over L.
    allowance : float
        How much of the lower bound was given up for rounding.
    proven_bound, proven_norm : float or None
        The rigorous lower bound and its upper bound on the norm; None if none was computed.
    estimated_bound : float
        The estimate, whatever `lower_bound` is.
    dual : array (n, C)
        The dual point a.
    seconds : float
        Wall-clock time.
    cut_short : bool
        Whether a limit in seconds ended the search or the proof before its work was done; what is said holds all the
        same.
    leaves : list of Leaf
        The proof, where it was to be kept and is one by signs; see `proof_file`.
    """

    SHOWN = (
        "primal",
        "lower_bound",
        "relative_gap",
        "method",
        "rigorous",
        "reg",
        "proven_bound",
        "seconds",
        "cut_short",
    )

    primal: float
    lower_bound: float
    method: str
    rigorous: bool
    reg: float
    direction: np.ndarray = field(repr=False)
    max_norm: float
    best_norm: float
    violation: float
    allowance: float
    proven_bound: float | None
    proven_norm: float | None
    estimated_bound: float
    dual: np.ndarray = field(repr=False)
    seconds: float
    cut_short: bool = False
    leaves: list[Leaf] = field(default_factory=list, repr=False)

    @property
    def gap(self) -> float:
        """primal − lower_bound."""
        return self.primal - self.lower_bound

    @property
    def relative_gap(self) -> float:
        """gap/primal."""
        return self.gap / self.primal if self.primal > 0 else 0.0

    @property
    def looseness(self) -> float:
        """max_norm/best_norm − 1: 0 for an estimate."""
        return self.max_norm / self.best_norm - 1 if self.best_norm > 0 else 0.0


def certify(
    problem: Problem,
    ensemble: Ensemble,
    *,
    effort: float | None = None,
    seconds: float | None = None,
    until_gap: float | None = None,
    method: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    keep: bool = False,
    watch: Watch | None = None,
) -> Certificate:
    """Bound the distance of an ensemble from the global minimum of L at the λ of its step.

    The ensemble's residual, improved by refitting neurons, is a dual point; see `exact.dual_bound` for the bound and
    docs/certificates.md for how to read it.

    Parameters
    ----------
    problem : Problem
        At whatever temperature: what is bounded is L, without entropy. Its loss needs a `conjugate`, for C > 1 a
        `hessian`, for a proof a `conjugate_magnitude`.
    ensemble : Ensemble
        Shared by ranks or not; all of them get the answer.
    effort : float, optional
        1, the default, is about five seconds of one core for the search and at most twenty for a proof, counted in
        work: the answer is the same every time, for any number of threads. With `until_gap` and no effort a proof
        goes on until it is there.
    seconds : float, optional
        A limit, which only cuts the work short.
    until_gap : float, optional
        The proven relative gap at which to stop; by default, where nothing much is left to gain.
    method : str
        "auto" takes an exact or tight proven bound where it can be had, else the estimate, with the proven bound
        beside it; "exact" and "proven" insist; "estimate" skips the proof. For another neuron than relu and
        leaky_relu there is the estimate alone, that of `optimality.linearized_gap`.
    threads : int, optional
        By default the cores that this process may use.
    seed : int
        Of the search.
    keep : bool
        Whether to keep the proof, for `save_proof`: some megabytes.
    watch : function (lower_bound, relative_gap, cells), optional
        Called now and then while a proof goes on, with the bound proven so far and how many cells are open.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        An unknown method, effort, seconds or until_gap not positive, predictions that are not finite,
        "exact" where it did not finish, a loss that lacks what is needed; for another neuron than relu and leaky_relu,
        one that grows faster than linearly, or a proof asked for; `keep` for another than relu.

    Examples
    --------
    One example, x = 1 and y = 1: the least of ½(f − 1)² + 2λ|f| is 3/8 at λ = ¼; this particle has f = 1.

    >>> from meanfield import Ensemble, Problem, certify
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.25)
    >>> found = certify(problem, Ensemble.from_arrays([[1.0]], [[1.0]]))
    >>> found.rigorous, round(found.primal, 6), round(found.lower_bound, 6)
    (True, 0.5, 0.375)
    """
    problem.check(ensemble)
    proof = ProofRequest(effort, until_gap, keep, watch)
    reg = problem.reg(ensemble.step)
    request = _Request.of(problem, reg, method, proof)
    budget = Budget.of(_WORK, request.effort, seconds)
    threads = threads or default_threads()
    f, second = predictions(problem, ensemble, threads)
    primal = problem.evaluate(f, second, reg).value
    if not np.isfinite(primal):
        raise InputError("ensemble: its predictions are not finite")
    particles = ensemble.sample(_looked_at(problem, request.effort))

    if problem.neuron.sides is None:
        moments = Moments(f, math.nan, second)
        return _of_any_neuron(linearized_bound(problem, ensemble, moments, budget, seed=seed), reg, budget)

    def bounded() -> Certificate:
        search = Search(problem, reg, seed=seed, threads=threads, budget=budget)
        with single_threaded_blas():  # the proof's: its sums, too, shall not depend on the number of threads
            return _certify(search, particles, f, primal, request)

    return ensemble.span.ranks.once(bounded)


def _of_any_neuron(found: LinearizedBound, reg: float, budget: Budget) -> Certificate:
    """The estimate that rests on nothing of the neuron."""
    return Certificate(
        primal=found.primal,
        lower_bound=found.lower_bound,
        method="estimate",
        rigorous=False,
        reg=reg,
        direction=found.u,
        max_norm=found.pull,
        best_norm=found.pull,
        violation=found.excess / found.primal if found.primal > 0 else 0.0,
        allowance=0.0,
        proven_bound=None,
        proven_norm=None,
        estimated_bound=found.lower_bound,
        dual=found.dual,
        seconds=budget.seconds,
        cut_short=budget.cut_short,
    )


class _Request(NamedTuple):
    """What a certificate is asked for, at λ = reg; `proof`: how hard a proof is to be tried, None for not at all."""

    reg: float
    method: str
    effort: float
    proof: ProofRequest | None

    @classmethod
    def of(cls, problem: Problem, reg: float, method: str, proof: ProofRequest) -> _Request:
        """InputError: an unknown method, a gap that is none, a loss that lacks what this one needs."""
        if method not in METHODS:
            raise InputError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
        if proof.until_gap is not None and not 0 < proof.until_gap < 1:
            raise InputError(f"until_gap = {proof.until_gap!r}: must be between 0 and 1")
        if problem.neuron.sides is not None:
            problem.require_plain("certify")
        if proof.keep:
            problem.neuron.require_relu("a proof that is kept")
        if method in ("exact", "proven") or proof.until_gap is not None:
            problem.neuron.require_sides("a proof")
        problem.loss.require("certify", *needed(problem.outputs))
        if method in ("exact", "proven"):
            problem.loss.require(f"certify with method {method!r}", "conjugate_magnitude")
        tried = method != "estimate" and problem.loss.offers("conjugate_magnitude")
        effort = 1.0 if proof.effort is None else proof.effort
        if proof.until_gap is None:
            proof = proof._replace(effort=effort, exact=method == "exact")
        return cls(reg, method, effort, proof if tried else None)


def predictions(problem: Problem, ensemble: Ensemble, threads: int | None = None) -> tuple[np.ndarray, float]:
    """f (n, C) and ∫ p dρ of weights of ‖u‖² and ‖w‖²: in float64 where that is affordable, else the engine's."""
    neuron, p = problem.neuron, problem.penalty
    if ensemble.m * problem.n * problem.d > _DOUBLE:
        moments = problem.engine(problem.X, ensemble.dtype, threads).predict(ensemble.particles, keep=False)
        return moments.f, moments.penalty
    f, second = np.zeros((problem.n, problem.outputs)), 0.0
    with ensemble.gathered() as leads:
        for w, u in ensemble.blocks(1 << 12) if leads else ():
            w, u = w.astype(np.float64), u.astype(np.float64)
            z, v = product(problem.X, u.T), w if neuron.output is None else neuron.output.evaluate(w)[0]
            f += product(np.maximum(z, 0.0) if neuron.is_relu else neuron.evaluate(z)[0], v)
            second += p.input * total(u * u) + p.output * total(w * w)
    return ensemble.span.ranks.broadcast((problem.output_scale * f / ensemble.m, second / ensemble.m))


def estimated_bound(
    problem: Problem, ensemble: Ensemble, moments: Moments, reg: float, threads: int | None = None
) -> float:
    """An estimate of a lower bound on min L at λ = reg, from an ensemble and its predictions on the training set.

    A pure function of its arguments and little work, unlike `certify`: the bound of the residual and, unless that is
    within 1e-3 of L, of up to two refits of neurons whose directions are those of the heaviest particles. They are
    looked for among a few thousand, spread evenly over the ensemble. InputError: a loss that lacks a conjugate.
    """
    problem.neuron.require_relu("the gap of a run")
    problem.require_plain("the gap of a run")
    problem.loss.require("the gap of a run", *needed(problem.outputs))
    w, u = ensemble.sample(4096)
    return ensemble.span.ranks.once(lambda: _estimated_bound(problem, w, u, moments, reg, threads))


def _estimated_bound(
    problem: Problem, w: np.ndarray, u: np.ndarray, moments: Moments, reg: float, threads: int | None
) -> float:
    primal = problem.evaluate(moments.f, moments.second, reg).value
    search = Search(problem, reg, threads=threads)
    search.residual = problem.loss.residual(moments.f, problem.targets)
    pulled, heavy = notable_directions(search, w, u)
    starts = np.concatenate([pulled[:12], heavy[:12]])
    for refits in range(3):
        fresh = search.starts(24), search.fitted.draw(12, seed=search.seed, draw=search.draws)
        climbed = np.concatenate([starts, *fresh])
        peaks = climb(search.X, search.residual, climbed, threads=search.threads)
        search.bound(peaks)
        if refits == 2 or primal - search.lower <= 1e-3 * primal:
            break
        if refits == 0:
            own = np.concatenate([peaks.u, heavy])
            search.u = distinct(Peaks(own, np.zeros(len(own))), 150, 1e-4).u
            search.c = np.zeros((len(search.u), problem.outputs))
        search.round(peaks, 24)
        starts = distinct(peaks, 16).u
    return search.lower


def _directions(w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (k, d) of the particles that have one, and their weights ‖w‖‖u‖ (k,)."""
    size = row_norms(u)
    moved = size > 0
    return u[moved] / size[moved, None], (size * row_norms(w))[moved]


def notable_directions(search: Search, w: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (k, d) of these particles, the most pulled first, and of the heaviest 250 among them."""
    u, weight = _directions(w, u)
    order = np.argsort(-pull(search.examples, search.point(search.residual), u), kind="stable")
    return u[order], u[np.argsort(-weight, kind="stable")[:250]]


def _looked_at(problem: Problem, effort: float) -> int:
    """How many particles `certify` looks at: a tenth of its work, but some thousands."""
    return int(min(1 << 18, max(4096, 0.1 * _WORK * effort / (0.25 * problem.n * problem.d))))


def _certify(
    search: Search, particles: tuple[np.ndarray, np.ndarray], f: np.ndarray, primal: float, request: _Request
) -> Certificate:
    """A search that begins at the residual of the predictions f, then a proof, if one is wanted and can be had."""
    search.residual = search.loss.residual(f, search.t)
    own = _own_directions(search, *particles)
    search.budget.share = 0.3
    peaks = search.peaks(400, own)
    search.bound(peaks)
    violation = float(peaks.value[0]) / (2 * search.reg) - 1 if len(peaks.value) else -1.0
    search.u = distinct(peaks, 100, 1e-4).u
    search.c = np.zeros((len(search.u), search.C))
    _polish(search, peaks, primal)
    _last_look(search, own, 0.7 if request.proof else 1.0, max(500, round(3000 * request.effort)))
    proof = prove(search, primal, request.proof) if request.proof else None
    if request.method == "exact" and not (proof is not None and proof.sphere.closed):
        raise InputError(
            "method = 'exact': the arrangement was not enumerated by this effort or within this limit; "
            "give it more, or use 'proven' or 'estimate'"
        )
    estimate = _estimate(search, proof, primal, violation, request.reg)
    if proof is None:
        return estimate
    tight = proof.sphere.closed or proof.sphere.upper <= (1 + _TIGHT) * max(proof.sphere.lower, search.peak)
    reached = request.proof is not None and primal - proof.bound <= (request.proof.until_gap or 0.0) * primal
    return _rigorous(estimate, proof) if tight or reached or request.method == "proven" else estimate


def _estimate(search: Search, proof: Proof | None, primal: float, violation: float, reg: float) -> Certificate:
    """What the highest peak found says, the proven bound beside it."""
    estimated, direction, best = search.lower, search.direction, search.peak
    if proof is not None and proof.sphere.lower > best:  # the proof came across a higher peak than the search
        direction, best = proof.sphere.u, proof.sphere.lower
        estimated, _ = dual_bound(search.loss, search.t, search.dual, best, search.reg)
    return Certificate(
        primal=primal,
        reg=reg,
        rigorous=False,
        lower_bound=estimated,
        method="estimate",
        direction=direction,
        max_norm=best * search.scale,
        best_norm=best * search.scale,
        violation=violation,
        allowance=0.0,
        proven_bound=None if proof is None else proof.bound,
        proven_norm=None if proof is None else proof.sphere.upper * search.scale,
        estimated_bound=estimated,
        dual=search.dual,
        seconds=search.budget.seconds,
        cut_short=search.budget.cut_short,
    )


def _rigorous(estimate: Certificate, proof: Proof) -> Certificate:
    """The proven bound as the certificate's own."""
    assert estimate.proven_norm is not None
    return replace(
        estimate,
        rigorous=True,
        lower_bound=proof.bound,
        method="exact" if proof.sphere.closed else "proven",
        max_norm=estimate.proven_norm,
        allowance=proof.allowance,
        leaves=proof.sphere.leaves,
    )


def _own_directions(search: Search, w: np.ndarray, u: np.ndarray, count: int = 300) -> np.ndarray:
    """Directions of these particles: those that the residual pulls most, and some by their weight."""
    u, weight = _directions(w, u)
    size = max(1, (1 << 22) // search.problem.n)  # bounds the memory of ‖G‖ at all of them
    point = search.point(search.residual)
    parts = [pull(search.examples, point, u[k : k + size]) for k in range(0, len(u), size)]
    search.budget.spend(0.25 * len(u) * search.examples.size)
    pulled = np.argsort(-np.concatenate(parts or [weight]), kind="stable")[:count]
    lot = log(np.maximum(uniforms(0, Purpose.SEARCH, 1 << 40, len(u)), 1e-300)) / np.maximum(weight, 1e-300)
    return u[np.concatenate([pulled, np.argsort(-lot, kind="stable")[: count // 3]])]  # by weight, without replacement


def _polish(search: Search, peaks: Peaks, primal: float, share: float = 0.5, least: int = 3) -> None:
    """Rounds of refitting until the bound is as good as the refitted value, or this share of the budget is used up.

    A few in any case where they are cheap: without one the bound of a good ensemble can be useless.
    """
    done, due, budget = 0, least if search.X.size * search.C <= 20_000 else 0, search.budget
    while primal - search.lower > 1e-6 * primal:
        budget.share = share if done >= due else np.inf
        if budget.over():
            break
        search.round(peaks, 40)
        peaks = search.peaks(200)
        search.bound(peaks)
        done += 1
        if search.gap <= 1e-5 * search.value:
            break


def _last_look(search: Search, own: np.ndarray, share: float, starts: int) -> None:
    """Judge the best dual point found by fresh starts: what the search overlooked would make its bound too high.

    Ends when this share of the budget is used up, but never without a look at all.
    """
    search.budget.share = max(share, search.budget.used + 0.3 * share)
    search.residual = search.dual
    search.lower, highest = 0.0, search.peak
    search.peak = np.inf
    done = 0
    while done < starts and (done == 0 or not search.budget.over()):
        peaks = search.peaks(500, np.concatenate([own, search.direction[None]]))
        done += 500
        if not len(peaks.value):
            break
        if peaks.value[0] > highest or not np.isfinite(search.peak):
            search.direction, search.peak = peaks.u[0], max(highest, float(peaks.value[0]))
            highest = search.peak
    search.peak = highest
    search.lower, _ = dual_bound(search.loss, search.t, search.dual, highest, search.reg)


__all__ = ["MAX_DIMENSION", "METHODS", "Certificate", "certify", "estimated_bound", "predictions"]
