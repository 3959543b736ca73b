"""The least objective of a problem by methods that share no code: what `claim_minimum.py --references` runs.

- conditional gradient: `exact.optimum`, neuron by neuron, and what it says of a lower bound;
- L-BFGS: SciPy's, on a network of finite width from random starts, and from the best network of the others;
- particles: the default run, as it is and longer, and every other law of motion under a constant λ.

Every value is that of a network in hand, computed anew in float64 by `Problem.objective`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from minimum_suite import Case, Known
from scipy.optimize import minimize

from meanfield import Ensemble, certify, exact, simulate
from meanfield.dynamics import DYNAMICS
from meanfield.errors import InputError

Network = tuple[np.ndarray, np.ndarray]  # w (k, C) and u (k, d), of f(x) = Σ_j w_j relu(u_j·x)
Bound = tuple[float, bool]  # a lower bound on the minimum, and whether it is proven

WIDTH = 256  # neurons of the networks of finite width
PARTICLES, MANY = 1024, 4096  # under explicit laws; in default runs
LONGEST = 8  # times the usual steps
ROUNDING = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)  # of relu, stage by stage
NEARLY = 1e-2  # of the lowest: a proven bound that is lower than an estimate by no more is preferred to it


class _OutOfTime(Exception):
    """Raised within SciPy, which has no limit on time."""


def ensemble_of(network: Network) -> Ensemble:
    """The same function and penalty as particles: f = (1/k) Σ_j w_j relu(u_j·x)."""
    root = np.sqrt(len(network[0]))
    return Ensemble.from_arrays(root * network[0], root * network[1], dtype="float64")


def network_of(ensemble: Ensemble) -> Network:
    """The inverse of `ensemble_of`, in float64."""
    root = np.sqrt(ensemble.m)
    return ensemble.w.astype(float) / root, ensemble.u.astype(float) / root


def attained(case: Case, network: Network) -> float:
    """L of the network."""
    return case.problem.objective(ensemble_of(network)).value


def heaviest(network: Network, count: int) -> Network:
    """The neurons that matter most to the penalty."""
    w, u = network
    order = np.argsort(-(w**2).sum(axis=1) - (u**2).sum(axis=1), kind="stable")[:count]
    return w[order], u[order]


def start_of(case: Case, width: int, seed: int) -> Network:
    """Balanced neurons, small enough that predictions are of the order of 1/√width.

    Every second direction is uniform, the others are for whitened inputs: where features differ in size, uniform ones
    have few activation patterns.
    """
    problem, rng = case.problem, np.random.default_rng(seed)
    u, w = rng.standard_normal((width, problem.d)), rng.standard_normal((width, problem.outputs))
    values, vectors = np.linalg.eigh(problem.X.T @ problem.X / problem.n)
    whitening = np.where(values > 1e-12 * values.max(), values, np.inf) ** -0.5
    u[1::2] = (u[1::2] * whitening) @ vectors.T
    size = 1 / np.sqrt(width * np.sqrt((problem.X**2).sum(axis=1).mean()))
    u, w = (size * a / np.linalg.norm(a, axis=1, keepdims=True) for a in (u, w))
    return w, u


def objective(case: Case, theta: np.ndarray, width: int, rounded: float = 0.0) -> tuple[float, np.ndarray]:
    """L and its gradient (a subgradient on kinks) at θ, the numbers of w and then those of u.

    With `rounded` = ε > 0 relu is rounded between 0 and ε: z²/2ε there, z − ε/2 above.
    """
    problem, cut = case.problem, width * case.problem.outputs
    w, u = theta[:cut].reshape(width, -1), theta[cut:].reshape(width, -1)
    z = problem.X @ u.T
    if rounded > 0:
        part = np.clip(z / rounded, 0, 1)
        phi = part * np.where(part < 1, rounded * part / 2, z - rounded / 2)
    else:
        part, phi = z > 0, np.maximum(z, 0)
    f = phi @ w
    r = problem.loss.residual(f, problem.targets)
    slope = ((r @ w.T) * part).T @ problem.X
    value = problem.loss.value(f, problem.targets) + case.reg * (theta @ theta)
    return value, np.concatenate([(phi.T @ r).ravel(), slope.ravel()]) + 2 * case.reg * theta


def descend(case: Case, start: Network, seconds: float, rounding: Sequence[float] = ROUNDING) -> Network:
    """L-BFGS from a network, relu rounded less and less: on kinks that are not rounded it stops too early.

    `rounding` is a part of the longest neuron's largest product with an input of average length. The best of all stages
    by the true L, the start included; each stage has its share of the seconds.
    """
    width = len(start[0])
    cut, theta = width * case.problem.outputs, np.concatenate([start[0].ravel(), start[1].ravel()])
    best, value = theta, objective(case, theta, width)[0]
    length = np.sqrt((case.problem.X**2).sum(axis=1).mean())
    for part in rounding:
        longest = np.sqrt((theta[cut:].reshape(width, -1) ** 2).sum(axis=1).max())
        theta = stage(case, theta, width, part * longest * length, time.monotonic() + seconds / len(rounding))
        found = objective(case, theta, width)[0]
        if found < value:
            best, value = theta, found
    return best[:cut].reshape(width, -1), best[cut:].reshape(width, -1)


def stage(case: Case, theta: np.ndarray, width: int, rounded: float, end: float) -> np.ndarray:
    """The best point that L-BFGS meets until it gains nothing or the clock (`time.monotonic`) says `end`.

    It moves v with u = v P, P = (1 + S/2λ)^{−½}, S the curvature that the data give a neuron of average mass: features
    of any size are alike to it.
    """
    cut, value, best = width * case.problem.outputs, np.inf, theta
    values, vectors = np.linalg.eigh(case.problem.X.T @ case.problem.X / case.problem.n)
    scales = 1 / np.sqrt(1 + np.maximum(values, 0) * (theta @ theta) / (4 * width * case.reg))

    def changed(theta: np.ndarray, by: np.ndarray) -> np.ndarray:
        u = theta[cut:].reshape(width, -1) @ (vectors * by) @ vectors.T
        return np.concatenate([theta[:cut], u.ravel()])

    def counted(v: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal value, best
        if time.monotonic() > end:
            raise _OutOfTime
        theta = changed(v, scales)
        found, slope = objective(case, theta, width, rounded)
        if found < value:
            value, best = found, theta
        return found, changed(slope, scales)

    options = {"maxiter": 10_000, "maxfun": 100_000, "maxcor": 30, "ftol": 1e-11, "gtol": 0.0}
    with suppress(_OutOfTime):
        minimize(counted, changed(theta, 1 / scales), jac=True, method="L-BFGS-B", options=options)
    return best


def finite_widths(case: Case, seconds: float) -> Iterator[tuple[str, Network]]:
    """L-BFGS from three random starts, of two widths by turns."""
    for seed in range(3):
        width = WIDTH * (1 + seed % 2)
        yield f"L-BFGS, {width} neurons", descend(case, start_of(case, width, seed), seconds / 3)


def long_runs(case: Case, seconds: float, threads: int | None) -> Iterator[tuple[str, Network]]:
    """The default run, then as much longer as there is time for; other laws of motion under a constant λ."""
    problem, begun = case.problem, time.monotonic()
    start = Ensemble.sphere(MANY, problem.d, problem.outputs)
    usual = simulate(problem, start, threads=threads, final_gap=False)
    yield f"default run, {MANY} particles", network_of(usual.ensemble)
    longer = min(LONGEST, int(seconds / (time.monotonic() - begun)))
    if longer > 1:
        run = simulate(problem, start, steps=longer * usual.ensemble.step, threads=threads, final_gap=False)
        yield f"a longer default run, {MANY} particles", network_of(run.ensemble)
    laws = {name: law() for name, law in DYNAMICS.items() if name not in ("gradient_flow", usual.dynamics.name)}
    for name, law in laws.items():
        with suppress(InputError):  # a law that does not take this problem
            run = simulate(
                problem,
                Ensemble.sphere(PARTICLES, problem.d, problem.outputs),
                law,
                steps=1_000_000,
                record_every=100,
                stop_when={"objective_change": 1e-7},
                anneal=False,
                max_time=seconds / (4 * len(laws)),
                threads=threads,
                final_gap=False,
            )
            yield f"{name}, {PARTICLES} particles", network_of(run.ensemble)


def bound_kept(lowest: float, bounds: list[Bound]) -> Bound | None:
    """The best proven bound if it is nearly as high as the best estimate, else that; None if there is none.

    Estimates above `lowest` are wrong. ValueError: a proven bound above what a network attains.
    """
    proven = max((value for value, sure in bounds if sure), default=-np.inf)
    if proven > lowest * (1 + 1e-9):
        raise ValueError(f"{proven!r} is proven to lie below the minimum, and {lowest!r} is attained")
    estimates = [value for value, sure in bounds if not sure and value <= lowest]
    estimate = max(estimates, default=-np.inf)
    if proven == estimate == -np.inf:
        return None
    return (proven, True) if proven >= estimate - NEARLY * abs(lowest) else (estimate, False)


def bounds_of(case: Case, network: Network, seconds: float, threads: int | None) -> list[Bound]:
    """The certificate of a network: its estimate, or what it proves."""
    found = certify(case.problem, ensemble_of(network), effort=max(1.0, seconds / 5), seconds=seconds, threads=threads)
    return [(found.lower_bound, found.rigorous)]


def search(
    case: Case, known: Known | None, seconds: float, threads: int | None = None
) -> tuple[Known, dict[str, float]]:
    """The least that these methods or anybody before attained, and what each attained, in a fifth of the time each."""
    share = seconds / 5
    first = exact.optimum(case.problem, seconds=share, effort=max(1.0, share / 30), tolerance=1e-7, threads=threads)
    networks: list[tuple[str, Network]] = [("conditional gradient", (first.w, first.u))] if len(first.w) else []
    networks += list(finite_widths(case, share))
    networks += list(long_runs(case, share, threads))
    values = [attained(case, network) for _, network in networks]
    best = heaviest(networks[int(np.argmin(values))][1], 2 * WIDTH)
    polished = descend(case, best, share, ROUNDING[2:])
    networks.append(("L-BFGS from the best of the others", polished))
    values.append(attained(case, polished))
    k = int(np.argmin(values))
    lowest, found = values[k], networks[k][0]
    bounds = [(first.lower_bound, False), *bounds_of(case, networks[k][1], share, threads)]
    if known is not None:
        bounds += [] if known.lower_bound is None else [(known.lower_bound, known.proven)]
        if known.lowest < lowest:
            lowest, found = known.lowest, known.found
    kept = bound_kept(lowest, bounds)
    by_method: dict[str, float] = {}
    for (name, _), value in zip(networks, values, strict=True):
        by_method[name] = min(value, by_method.get(name, np.inf))
    return Known(lowest, found, *(kept or (None, False))), by_method
