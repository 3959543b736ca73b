"""What a proof proves: that its cells cover the sphere, and a lower bound on min L, rounding included.

Nothing is taken from the search that found it. What is given may mean harm: it is of the right form (`proof_file`), and
otherwise not believed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..engine.exact_math import row_norms
from ..ensemble import Ensemble
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from ..storage.hashing import bytes_of, hasher
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .doubly_nonnegative import Cell, proven_pull
from .proof import proven_bound
from .rows import Rows, effective_rows
from .sign_branching import roots
from .sphere_bound import Leaf, SphereBound

_WORK = 1e11  # of cones
_TIGHT = 1e-6  # what `bound_by_signs` calls closed
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, kw_only=True)
class CheckedProof:
    """What a proof in a file was found to prove.

    Attributes
    ----------
    problem : Problem
        The one that the proof is about, at a constant λ.
    lower_bound : float
        What was proven on checking: no network of any width has a lower L. 0 where nothing was.
    claim : float
        What the file claims.
    reason : str
        Why the claim is not proven; empty if it is.
    method : str
        "exact" or "proven", as of a `Certificate`; "none" where nothing was proven.
    max_norm : float
        The upper bound on max_u ‖G_a(u)‖; inf where there is none.
    cells : int
        Examined.
    primal, step : float and int
        L of the network that the proof was made for, and its step: stated, not checked.
    ensemble_sha256 : str
        The digest of its particles.
    seconds : float
        Wall-clock time of the check.
    """

    problem: Problem = field(repr=False)
    lower_bound: float
    claim: float
    reason: str
    method: str
    max_norm: float
    cells: int
    primal: float
    step: int
    ensemble_sha256: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether what is claimed is proven."""
        return not self.reason

    @property
    def relative_gap(self) -> float:
        """(primal − lower_bound)/primal, for the primal that is stated."""
        return (self.primal - self.lower_bound) / self.primal if self.primal > 0 else 0.0

    def is_of(self, problem: Problem, ensemble: Ensemble) -> bool:
        """Whether the proof is about this problem, at the λ of the ensemble's step, and was made for this ensemble."""
        return (
            np.array_equal(self.problem.X, problem.X)
            and np.array_equal(self.problem.targets, problem.targets)
            and repr(self.problem.loss) == repr(problem.loss)
            and self.problem.reg.end == problem.reg(ensemble.step)
            and self.ensemble_sha256 == ensemble_digest(ensemble)
        )


class ProofContent(NamedTuple):
    """What a proof is about, dual point and `start` to begin at, leaves of a proof by signs, and what is claimed."""

    problem: Problem
    dual: np.ndarray
    start: np.ndarray
    leaves: list[Leaf]
    claim: float
    primal: float
    step: int
    ensemble_sha256: str


class _Unproven(Exception):
    """Why nothing is proven, in one line."""


def check_proof(content: ProofContent, threads: int) -> CheckedProof:
    """What is proven, with the reason where that is less than what is claimed."""
    began, problem, reason = time.monotonic(), content.problem, ""
    scale = float(row_norms(problem.X).max()) or 1.0
    X, reg = problem.X / scale, problem.reg.end / scale
    sphere, lower = None, 0.0
    try:
        with single_threaded_blas(), np.errstate(all="ignore"):
            sphere = _by_signs(X, content) if content.leaves else _by_cones(X, content, threads)
            lower, _ = proven_bound(problem.loss, problem.targets, content.dual, X, reg, sphere)
    except _Unproven as why:
        reason = str(why)
    if not reason and not lower >= content.claim:
        reason = f"it claims {content.claim:.12g} and proves {lower:.12g}"
    return CheckedProof(
        problem=problem,
        lower_bound=lower,
        claim=content.claim,
        reason=reason,
        method="none" if sphere is None else "exact" if sphere.closed else "proven",
        max_norm=np.inf if sphere is None else sphere.upper * scale,
        cells=0 if sphere is None else sphere.cells,
        primal=content.primal,
        step=content.step,
        ensemble_sha256=content.ensemble_sha256,
        seconds=time.monotonic() - began,
    )


def _by_cones(X: np.ndarray, content: ProofContent, threads: int) -> SphereBound:
    sphere = bound_on_sphere(X, content.dual, start=content.start, budget=Budget(_WORK), threads=threads)
    if sphere is None or not (sphere.closed and sphere.upper < np.inf):
        raise _Unproven("it has no leaves, and cones do not cover the sphere")
    return sphere


def _by_signs(X: np.ndarray, content: ProofContent) -> SphereBound:
    rows, leaves = effective_rows(X, content.dual), content.leaves
    n, sides = len(rows.X), sorted({leaf.side for leaf in leaves})
    if not n or len(leaves[0].signs) != n:
        raise _Unproven(f"its leaves have {len(leaves[0].signs)} rows; {n} rows of the problem matter")
    if sides != sorted(root.side for root in roots(rows)):
        raise _Unproven(f"its leaves bound sides {sides} of G, which are not all")
    if not all(covers_sphere(np.array([one.signs for one in leaves if one.side == side])) for side in sides):
        raise _Unproven("its leaves do not cover the sphere")
    v = rows.within(content.start)
    upper, lower = float(np.max([_pull(rows, leaf) for leaf in leaves])), rows.pull(v)
    if not upper < np.inf:
        raise _Unproven("the matrix of a leaf proves nothing")
    return SphereBound(
        upper=(upper + rows.error) * (1 + 2 * _EPS),
        lower=lower,
        u=rows.basis.T @ v,
        allowance=rows.error,
        closed=upper <= lower * (1 + _TIGHT),
        cells=len(leaves),
        dimension=rows.X.shape[1],
    )


def _pull(rows: Rows, leaf: Leaf) -> float:
    """What the matrix of a leaf proves; inf where it cannot even be factorized."""
    try:
        return proven_pull(Cell.of(rows, leaf.side, leaf.signs), leaf.M)[0]
    except np.linalg.LinAlgError:
        return np.inf


def covers_sphere(signs: np.ndarray) -> bool:
    """Whether the cells with these signs leave no direction out, as the leaves of a tree of cuts do.

    Cells all of which know the sign of some row are those on one side of it and those on the other: both parts must
    cover their half, where that row no longer counts. A cell that knows no other sign is all of it.

    Parameters
    ----------
    signs : int array (k, n)
        ±1 where known, else 0.

    Returns
    -------
    bool
        False also for covers that come from no tree.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.optimality.proof_check import covers_sphere
    >>> covers_sphere(np.array([[1, 0], [-1, 1], [-1, -1]])), covers_sphere(np.array([[1, 0], [-1, 1]]))
    (True, False)
    """
    parts = [np.array(signs)]
    while parts:
        part = parts.pop()
        if np.any(np.all(part == 0, axis=1)):
            continue
        rows = np.flatnonzero(np.all(part != 0, axis=0))
        if not len(part) or not len(rows):
            return False
        for sign in (1, -1):
            half = part[part[:, rows[0]] == sign]
            half[:, rows[0]] = 0
            parts.append(half)
    return True


def ensemble_digest(ensemble: Ensemble) -> str:
    """SHA-256 of an ensemble's particles, (w, u) (m, C + d) in its own type; shared by ranks or not.

    Examples
    --------
    >>> from meanfield import Ensemble
    >>> from meanfield.optimality.proof_check import ensemble_digest
    >>> ensemble_digest(Ensemble.sphere(8, 2)) == ensemble_digest(Ensemble.sphere(8, 2).copy())
    True
    """
    state = hasher(ensemble.dtype, (ensemble.m, ensemble.outputs + ensemble.d))
    with ensemble.gathered() as leads:
        for w, u in ensemble.blocks() if leads else ():
            state.update(bytes_of(np.concatenate([w, u], axis=1)))
    return str(ensemble.span.ranks.broadcast(state.hexdigest()))


__all__ = ["CheckedProof", "ProofContent", "check_proof", "covers_sphere", "ensemble_digest"]
