"""The largest margin that given neurons reach: margins as linear functions, and the linear program over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog

from ..losses import Loss, get_loss
from ..neuron import Neuron, get_neuron
from ..problem import Problem
from .mirror import Mirror
from .rows import lines


class Pairs:
    """The margins as linear functions of the outputs: margin_ir = T_ir · f(x_i), one r a competing class.

    Inputs X are scaled to length 1, each by itself. A margin of the data is that of the scaled input times scale/least:
    `scale` is the length of the shortest input (of those that are not 0), `least` (count,) that over the length of its
    own. Weights q of the scaled inputs, least·q = 1, are weights p = least q of the data. Relu neurons pull at the rows
    of `pulling`: X, and for other positively homogeneous neurons −X too (`Mirror`).
    """

    def __init__(
        self, X: Any, y: Any, loss: str | Loss, reference: str = "exact.max_margin", neuron: str | Neuron = "relu"
    ) -> None:
        get_loss(loss).require(reference, "margin_rows")
        self.mirror = Mirror(*get_neuron(neuron).require_sides(reference))
        problem = Problem(X, y, loss=loss)
        size = np.linalg.norm(problem.X, axis=1)
        self.scale = float(size[size > 0].min(initial=np.inf)) if size.any() else 1.0
        size = np.where(size > 0, size, self.scale)
        self.X, self.C = problem.X / size[:, None], problem.outputs
        self.pulling = self.mirror.examples(self.X)
        self.n, self.T = len(self.X), problem.loss.margin_rows(problem.targets, self.C)
        self.least = np.repeat(self.scale / size, self.T.shape[1])

    @property
    def count(self) -> int:
        """How many pairs of an example and a competing class there are."""
        return self.T.shape[0] * self.T.shape[1]

    def margins(self, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(K, count): of the networks v_j φ(u_j·x), on the scaled inputs."""
        own = np.einsum("nrc,kc->knr", self.T, v) * self.mirror.features(u @ self.X.T)[:, :, None]
        return own.reshape(len(u), -1)

    def point(self, q: np.ndarray) -> np.ndarray:
        """a of weights q (count,), a row for each of `pulling`, so that q · margins of (v, u) = v · G_a(u)."""
        return self.mirror.point(np.einsum("nr,nrc->nc", q.reshape(self.n, -1), self.T))

    def pull(self, q: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Unit vectors v (K, C) of G_a(u): the output weights that gain most at u."""
        G = np.maximum(u @ self.pulling.T, 0.0) @ self.point(q)
        return G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-300)

    def contradiction(self) -> np.ndarray | None:
        """Weights q (count,) whose margins cancel for every network: of two pairs on one ray, or of an input 0.

        None where there are none; then a network separates the data, since relu tells any two rays apart.
        """
        q, R = np.zeros(self.count), self.T.shape[1]
        if len(zero := np.flatnonzero(~self.X.any(axis=1))):
            q[R * zero[0]] = 1 / self.least[R * zero[0]]
            return q
        line, side, _ = lines(self.X)
        rays = np.repeat(2 * line + (side < 0), R).tolist()
        seen = dict[tuple[float, ...], int]()
        for k, (ray, row) in enumerate(zip(rays, self.T.reshape(self.count, -1), strict=True)):
            other = seen.get((ray, *(-row).tolist()))
            if other is not None:
                q[[k, other]] = 1 / (self.least[k] + self.least[other])
                return q
            seen[ray, *row.tolist()] = k
        return None

    def spread(self, p: np.ndarray) -> np.ndarray:
        """p (count,) as the public `dual`: (n,), or (n, C) with 0 at the own class."""
        if self.C == 1:
            return p
        return np.where(self.T.sum(axis=1) > 0, 0.0, np.einsum("nr,nrc->nc", p.reshape(self.n, -1), -self.T))


def solve_margin_program(A: np.ndarray, least: np.ndarray, corrections: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """c (K,) ≥ 0, Σ c = 1, for which γ = min Aᵀc/least, A (K, n), is largest, and dual weights q (n,), least·q = 1.

    A solver's tolerances are absolute: where `least` differs much, what it takes for feasible can be worth nothing. So
    γ is computed from c, and the program solved again for the correction that c lacks, magnified by the most that a
    row falls short of the dual value (iterative refinement: Gleixner, Steffy and Wolter 2016).
    """
    c, best, value, upper, short, q = np.zeros(len(A)), np.zeros(len(A)), -np.inf, 0.0, 1.0, np.zeros(0)
    for k in range(corrections + 1):
        try:
            change, weights = _corrected(A, least, (c @ A - upper * least) / short, c / short, float(k == 0))
        except ArithmeticError:
            if not k:
                raise
            break
        if (highest := float((A @ weights).max())) < upper or not k:
            upper, q = highest, weights
        c = np.maximum(0.0, c + short * change)
        c /= c.sum()
        before, margins = short, c @ A
        if (reached := float((margins / least).min())) > value:
            value, best = reached, c
        short = float((upper * least - margins).max())
        if upper - value <= 1e-10 * abs(upper) + 1e-15 or not 0 < short < before:
            break
    return best, q


def _corrected(
    A: np.ndarray, least: np.ndarray, slack: np.ndarray, room: np.ndarray, total: float
) -> tuple[np.ndarray, np.ndarray]:
    """δ (K,) ≥ −room with Σ δ = total and the largest t for which Aᵀδ + slack ≥ t least; and the dual weights."""
    K, n = A.shape
    for options in ({"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}, {}):
        solved = linprog(
            np.append(np.zeros(K), -1.0),
            A_ub=np.hstack([-A.T, least[:, None]]),
            b_ub=slack,
            A_eq=np.append(np.ones(K), 0.0)[None],
            b_eq=[total],
            bounds=[*((-most, None) for most in room), (None, None)],
            method="highs",
            options=options,
        )
        if solved.status == 0:
            q = np.maximum(-solved.ineqlin.marginals, 0.0)
            return solved.x[:K], q / (q @ least)
    raise ArithmeticError(f"the linear program of {n} margins and {K} neurons failed: {solved.message}")
