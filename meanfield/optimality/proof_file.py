"""A proof that can be handed over: what a certificate rests on, in one file, to be checked without the search's word.

The file is written by `storage.hdf5`, whole and under checksums; these guard against accidents, the check against all
else. It holds

- problem: X (n, d), targets as the loss encodes them, loss (its name and settings) and reg, λ
- dual: a (n, C). s a is a dual point for 0 ≤ s ≤ 2λ / max ‖G_a(u)‖ within the domain of R*, and −R*(s a) ≤ min L
- claim: lower_bound; and what is no part of the proof: the primal, step and ensemble_sha256 of the network meant
- start (d,): a direction that is pulled hard, for the check to begin at
- leaves, of a proof by signs: side (l,), signs (l, r), and M, their matrices' lower triangles by rows, one after the
  other. Row i of the r `effective_rows` of X/s and a, s the length of the longest row of X, has sign +1, −1 or 0
  (unknown) there; M (N, N) is the one of `doubly_nonnegative`, for v of p_i and of q_i of unknown signs, then x_i·u
  where it is known to be positive, then −x_i·u, then for C = 1 side G/√Σ‖weights‖².

A proof by cones, in small dimension, has no leaves: the check cuts the sphere once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..ensemble import Ensemble
from ..errors import InputError, RunFileError
from ..losses import LOSSES, Loss
from ..problem import Problem
from ..runtime.threads import default_threads
from ..storage import hdf5, versions
from .certificate import Certificate
from .proof_check import CheckedProof, ProofContent, check_proof, ensemble_digest
from .sphere_bound import Leaf

FORMAT, FORMAT_VERSION = "meanfield proof", 1
_ROOM = 1e-9  # of a claim, which another machine's rounding may cost
_ESTIMATE = 'an estimate has no proof: method "proven" takes what is proven, more effort proves more'
_NO_LEAVES = "the proof was not kept, or is by a relaxation that no file holds: certify with keep=True, or more effort"
_LEAST, _MOST = 1e-100, 1e100  # of numbers whose squares neither vanish nor overflow


def save_proof(path: str | Path, problem: Problem, ensemble: Ensemble, certificate: Certificate) -> None:
    """Keep the proof of a certificate in a file; it is checked first, and claims what that gave, but for 1e-9 of it.

    Parameters
    ----------
    path : str or Path
        Replaced if it is a proof.
    problem, ensemble : Problem and Ensemble
        Those that were certified.
    certificate : Certificate
        Of `certify(…, keep=True)`, rigorous.

    Raises
    ------
    InputError
        An estimate, or a bound whose proof no file holds; a file in the way that is no proof.
    StorageError
        It cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from meanfield import Ensemble, Problem, certify
    >>> from meanfield.optimality.proof_file import save_proof, verify_proof
    >>> problem, ensemble = Problem([[1.0]], [1.0], loss="squared", reg=0.25), Ensemble.sphere(64, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "proof.h5")
    >>> save_proof(path, problem, ensemble, certify(problem, ensemble, keep=True))
    >>> found = verify_proof(path)
    >>> found.holds, round(found.lower_bound, 6)
    (True, 0.375)
    """
    digest = ensemble_digest(ensemble)

    def save() -> None:
        check_place(path)
        if not certificate.rigorous:
            raise InputError(f"{path}: {_ESTIMATE}")
        if not certificate.leaves and certificate.method != "exact":
            raise InputError(f"{path}: {_NO_LEAVES}")
        stated = (0.0, certificate.primal, ensemble.step, digest)
        at_reg = _restated(problem.X, problem.targets, problem.loss, certificate.reg)
        tree = _tree(ProofContent(at_reg, certificate.dual, certificate.direction, certificate.leaves, *stated))
        found = check_proof(_content(tree, problem.loss), default_threads())
        if found.reason:
            raise InputError(f"{path}: {_NO_LEAVES}")
        tree["claim"]["lower_bound"] = min(found.lower_bound, certificate.lower_bound) * (1 - _ROOM)
        hdf5.write(path, tree)

    ensemble.span.ranks.once(save)


def check_place(path: str | Path) -> None:
    """InputError: a proof must not be written there, since something else is there, or there is no such folder."""
    where = Path(path)
    if not where.parent.is_dir():
        raise InputError(f"{path}: there is no folder {where.parent}")
    if where.exists():
        try:
            hdf5.read(path, (), accept=_accept(path))
        except RunFileError:
            raise InputError(f"{path}: exists and is no proof; it would be lost") from None


def verify_proof(path: str | Path, *, loss: Loss | None = None, threads: int | None = None) -> CheckedProof:
    """Check the proof in a file: that its cells cover the sphere, and what their matrices prove, rounding included.

    Nothing is taken from the search that found it, and nothing is searched, but for cones in small dimension.

    Parameters
    ----------
    path : str or Path
        Of `save_proof`.
    loss : Loss, optional
        The loss, where it is of the user's making.
    threads : int, optional
        By default the cores that this process may use.

    Returns
    -------
    CheckedProof
        With `holds`, and otherwise with the reason.

    Raises
    ------
    RunFileError
        A file that is missing, damaged, no proof, of a newer format; a loss that it does not name.

    Examples
    --------
    See `save_proof`.

    >>> from meanfield.optimality.proof_file import verify_proof
    >>> from meanfield import RunFileError
    >>> try:
    ...     verify_proof("absent.h5")
    ... except RunFileError as error:
    ...     print(error)
    absent.h5: there is no such file
    """
    tree = hdf5.read(path, accept=_accept(path))
    try:
        content = _content(tree, loss)
    except KeyError as error:
        raise RunFileError(f"{path}: is not a whole proof, {error} is missing") from None
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise RunFileError(f"{path}: is not a whole proof: {error}") from None
    return check_proof(content, threads or default_threads())


def _accept(path: str | Path) -> Any:
    def check(attributes: Mapping[str, Any]) -> None:
        if attributes.get("format") != FORMAT:
            raise RunFileError(f"{path}: is an HDF5 file but not a meanfield proof")
        if attributes.get("format_version") != FORMAT_VERSION:
            raise RunFileError(
                f"{path}: its format is not {FORMAT_VERSION}, the one that this version of meanfield reads"
            )

    return check


# ---- what a file holds -----------------------------------------------------------------------------------------------


def _tree(content: ProofContent) -> dict[str, Any]:
    problem, leaves = content.problem, content.leaves
    tree = {
        hdf5.ATTRIBUTES: {**versions.describe_versions(), "format": FORMAT, "format_version": FORMAT_VERSION},
        "problem": {
            "X": problem.X, "targets": problem.targets, "loss": repr(problem.loss), "reg": problem.reg.end
        },
        "dual": content.dual,
        "start": content.start,
        "claim": {
            "lower_bound": content.claim,
            "primal": content.primal,
            "step": content.step,
            "ensemble_sha256": content.ensemble_sha256,
        },
    }  # fmt: skip
    if leaves:
        tree["leaves"] = {
            "side": np.array([leaf.side for leaf in leaves], np.int8),
            "signs": np.array([leaf.signs for leaf in leaves], np.int8),
            "M": np.concatenate([leaf.M[np.tril_indices(len(leaf.M))] for leaf in leaves]),
        }
    return tree


def _content(tree: Mapping[str, Any], loss: Loss | None) -> ProofContent:
    """What was read, typed and measured. KeyError, TypeError, ValueError: it is not what `_tree` makes."""
    of_problem, claim = _group(tree, "problem"), _group(tree, "claim")
    X, a = _array(of_problem["X"], "X", 2, "f"), _array(tree["dual"], "dual", 2, "f")
    reg = _number(of_problem["reg"], "reg")
    problem = _restated(X, of_problem["targets"], _loss(of_problem["loss"], loss), reg)
    start = _array(tree["start"], "start", 1, "f")
    if a.shape != (problem.n, problem.outputs) or len(start) != problem.d:
        raise ValueError(f"dual {a.shape} and start {start.shape} do not belong to n = {problem.n}, d = {problem.d}")
    if not reg / max(1.0, float(np.abs(X).max())) >= _LEAST:
        raise ValueError(f"reg = {reg}: too small for a proof in float64")
    return ProofContent(
        problem,
        a,
        start,
        _leaves(_group(tree, "leaves")) if "leaves" in tree else [],
        _number(claim["lower_bound"], "lower_bound"),
        _number(claim["primal"], "primal"),
        int(claim["step"]),
        str(claim["ensemble_sha256"]),
    )


def _restated(X: np.ndarray, targets: np.ndarray, loss: Loss, reg: float) -> Problem:
    """The problem at one λ, from targets. InputError: they are none of this loss, or it proves nothing."""
    loss.require("a proof", "conjugate", "conjugate_magnitude")
    problem = Problem(X, targets, loss=loss, reg=reg)
    if not np.array_equal(problem.targets, targets):
        raise InputError(f"targets: are not as loss {loss.name!r} encodes them")
    return problem


def _loss(named: str, given: Loss | None) -> Loss:
    """Ours of that name and settings, or the one given. ValueError: it is another one."""
    known = {repr(loss): loss for loss in ([given] if given is not None else LOSSES.values())}
    if named not in known:
        raise ValueError(f"its loss is {named}, which must be given if it is a user's own: verify_proof(path, loss=…)")
    return known[named]


def _number(value: Any, name: str) -> float:
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r}: must be a finite number")
    return float(value)


def _group(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(tree[name], Mapping):
        raise TypeError(f"{name} is no group")
    return tree[name]  # type: ignore[no-any-return]


def _array(value: Any, name: str, dimensions: int, kind: str) -> np.ndarray:
    """An array of this many dimensions and kind; of floats, such whose squares are floats too."""
    if not isinstance(value, np.ndarray) or value.ndim != dimensions or value.dtype.kind != kind or not value.size:
        raise ValueError(f"{name} is no array of {dimensions} dimensions and kind {kind}")
    if kind == "f":
        value = value.astype(np.float64)
        largest = float(np.abs(value).max())
        if not (largest == 0 or _LEAST <= largest <= _MOST):
            raise ValueError(f"{name} has {largest} as its largest entry: must be between {_LEAST} and {_MOST}")
    return value


def _leaves(group: Mapping[str, Any]) -> list[Leaf]:
    side, signs = _array(group["side"], "side", 1, "i"), _array(group["signs"], "signs", 2, "i")
    M = _array(group["M"], "M", 1, "f")
    if len(side) != len(signs) or not (np.isin(side, (-1, 0, 1)).all() and np.isin(signs, (-1, 0, 1)).all()):
        raise ValueError("the signs of its leaves are none")
    sizes = [signs.shape[1] + int(np.sum(one == 0)) + bool(which) for which, one in zip(side, signs, strict=True)]
    ends = np.cumsum([0] + [size * (size + 1) // 2 for size in sizes])
    if ends[-1] != len(M):
        raise ValueError(f"its leaves need {ends[-1]} entries of M; there are {len(M)}")
    parts = zip(side, signs, sizes, ends, strict=False)
    return [Leaf(int(s), one, _symmetric(M[end:], size)) for s, one, size, end in parts]


def _symmetric(triangle: np.ndarray, size: int) -> np.ndarray:
    """The matrix (size, size) whose lower triangle, by rows, an array begins with."""
    M = np.zeros((size, size))
    M[np.tril_indices(size)] = triangle[: size * (size + 1) // 2]
    return M + np.tril(M, -1).T


__all__ = ["FORMAT", "FORMAT_VERSION", "check_place", "save_proof", "verify_proof"]
