"""Ascent of ‖G_a(u)‖ on the unit sphere: where a residual pulls hardest, nearby.

G_a(u) = Σ_i a_i relu(u·x_i) is piecewise linear, and its maximizers often sit on kinks, where a gradient step sees
nothing. With v = G/‖G‖ and b_i = v·a_i, the function v·G = Σ_{b>0} b relu − Σ_{b<0} |b| relu is a difference of convex
functions. One step of the convex-concave procedure linearizes the first sum at u and maximizes the rest exactly:

    max_{‖u‖≤1} g·u − Σ_{b<0} |b_i| relu(u·x_i)  =  min_{0≤α≤1} ‖g − Σ_{b<0} |b_i| α_i x_i‖,

with g = Σ_{b>0, u·x>0} b_i x_i, a least-squares problem in a box, whose residual points to the maximizer, kinks (0 <
α_i < 1) included. Kinks of the first sum are valleys, never maxima, and a random start does not stay in one.

GROUP starts are climbed from side by side, along the lanes of vectors, each as if it were alone: which ones share a
group changes no bit. A start that is done has v = 0, so that all b_i are 0 and nothing moves it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import intrinsic, register_jitable

from ..runtime.compiling import compiled
from .microkernels import VECTORS, _Emit, _subtiles, lanes, place, take_ticket

GROUP = VECTORS * lanes(np.dtype(np.float64))  # starts side by side


@intrinsic
def _inner(typingctx, x, v, d, s):  # type: ignore[no-untyped-def]
    """s[lane] = Σ_k x[k] v[k, lane], products rounded, summed in turn; x (d,), v (d, GROUP), s (GROUP,)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[1].dtype)
        x, v, d, s = args
        for vectors in _subtiles():

            def body(k: Any, held: list[Any], vectors: range = vectors) -> list[Any]:
                one = e.broadcast(e.at(x, k))
                found = [e.load(e.at(v, (k, e.group), at * e.lanes)) for at in vectors]
                return [builder.fadd(sum, builder.fmul(one, value)) for sum, value in zip(held, found, strict=True)]

            for at, sum in zip(vectors, e.loop(d, [e.zero] * len(vectors), body), strict=True):
                e.store(sum, e.at(s, at * e.lanes))
        return e.nothing()

    return types.void(x, v, d, s), generate


@intrinsic
def _add(typingctx, s, x, d, v):  # type: ignore[no-untyped-def]
    """v[k, lane] += s[lane] x[k], products rounded; s (GROUP,), x (d,), v (d, GROUP)."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        e = _Emit(context, builder, signature.args[3].dtype)
        s, x, d, v = args
        for vectors in _subtiles():
            factors = [e.load(e.at(s, at * e.lanes)) for at in vectors]

            def body(k: Any, _: list[Any], vectors: range = vectors, factors: Any = factors) -> list[Any]:
                one = e.broadcast(e.at(x, k))
                for at, factor in zip(vectors, factors, strict=True):
                    place = e.at(v, (k, e.group), at * e.lanes)
                    e.store(builder.fadd(e.load(place), builder.fmul(factor, one)), place)
                return []

            e.loop(d, [], body)
        return e.nothing()

    return types.void(s, x, d, v), generate


class Hill(NamedTuple):
    """What is climbed: inputs X (n, d), their ‖x_i‖² (n,), and a (n, C), all float64."""

    X: np.ndarray
    squares: np.ndarray
    a: np.ndarray


class Work(NamedTuple):
    """What a thread computes in: z, b, alpha (n, GROUP), v (C, GROUP), u, at and p (d, GROUP), and a few (GROUP,)."""

    z: np.ndarray
    b: np.ndarray
    alpha: np.ndarray
    v: np.ndarray
    u: np.ndarray
    at: np.ndarray
    p: np.ndarray
    s: np.ndarray
    moved: np.ndarray
    value: np.ndarray
    best: np.ndarray
    idle: np.ndarray


@register_jitable
def _work(hill: Any) -> Any:
    (n, d), C = hill.X.shape, hill.a.shape[1]
    one, inputs = np.empty(GROUP), np.empty((d, GROUP))
    examples = np.empty((n, GROUP))
    return Work(
        examples, examples.copy(), examples.copy(), np.empty((C, GROUP)), inputs, inputs.copy(), inputs.copy(),
        one, one.copy(), one.copy(), one.copy(), np.empty(GROUP, np.int64),
    )  # fmt: skip


@register_jitable
def _squares(p: Any, out: Any) -> None:
    """out ← ‖p‖² of each start."""
    out[:] = 0.0
    for k in range(p.shape[0]):
        for lane in range(GROUP):
            out[lane] += p[k, lane] * p[k, lane]


@register_jitable
def _pull(hill: Any, u: Any, work: Any) -> None:
    """z ← X u, v ← G_a(u)/‖G_a(u)‖, value ← ‖G_a(u)‖."""
    X, a, z, v, s, value = hill.X, hill.a, work.z, work.v, work.s, work.value
    n, d = X.shape
    v[:] = 0.0
    for i in range(n):
        _inner(place(X, i * d), place(u, 0), d, place(z, i * GROUP))
        for lane in range(GROUP):
            s[lane] = z[i, lane] if z[i, lane] > 0 else 0.0
        _add(place(s, 0), place(a, i * a.shape[1]), a.shape[1], place(v, 0))
    _squares(v, value)
    for lane in range(GROUP):
        value[lane] = np.sqrt(value[lane])
    for c in range(v.shape[0]):
        for lane in range(GROUP):
            v[c, lane] = v[c, lane] / value[lane] if value[lane] > 0 else v[c, lane]


@register_jitable
def _convex_part(hill: Any, work: Any) -> None:
    """b_i ← v·a_i, p ← Σ b_i x_i over b_i > 0, z_i > 0."""
    X, a, z, b, p, s = hill.X, hill.a, work.z, work.b, work.p, work.s
    n, d = X.shape
    p[:] = 0.0
    for i in range(n):
        _inner(place(a, i * a.shape[1]), place(work.v, 0), a.shape[1], place(b, i * GROUP))
        for lane in range(GROUP):
            s[lane] = b[i, lane] if b[i, lane] > 0 and z[i, lane] > 0 else 0.0
        _add(place(s, 0), place(X, i * d), d, place(p, 0))


@register_jitable
def _settle(squares: Any, i: Any, work: Any) -> Any:
    """s ← what example i changes in p: its best share where b_i < 0; whether that is anything for any start."""
    b, alpha, s, moved = work.b, work.alpha, work.s, work.moved
    some = 0.0
    for lane in range(GROUP):
        weight, before = b[i, lane], alpha[i, lane]
        step = s[lane] / (weight * squares[i] if weight < 0 else 1.0)
        change = weight * (min(1.0, max(0.0, before - step)) - before) if weight < 0 else 0.0
        alpha[i, lane] = min(1.0, max(0.0, before - step)) if change != 0.0 else before
        moved[lane] += change * change * squares[i]
        some += abs(change)
        s[lane] = change
    return some != 0.0


@register_jitable
def _box_least_squares(hill: Any, sweeps: Any, work: Any, passes: Any) -> None:
    """p ← p − Σ |b_i| α_i x_i over b_i < 0, made shortest over 0 ≤ α ≤ 1 by coordinate descent from `alpha`.

    Adds to passes how many sweeps that took; whoever is done has b = 0 from there on.
    """
    X, squares, b, alpha, p, s, moved = hill.X, hill.squares, work.b, work.alpha, work.p, work.s, work.moved
    n, d = X.shape
    for i in range(n):
        for lane in range(GROUP):
            s[lane] = b[i, lane] * alpha[i, lane] if b[i, lane] < 0 and alpha[i, lane] > 0 else 0.0
        _add(place(s, 0), place(X, i * d), d, place(p, 0))
    busy, size = np.ones(GROUP, np.bool_), np.empty(GROUP)
    for _ in range(sweeps):
        moved[:] = 0.0
        for i in range(n):
            if squares[i] > 0:
                _inner(place(X, i * d), place(p, 0), d, place(s, 0))
                if _settle(squares, i, work):
                    _add(place(s, 0), place(X, i * d), d, place(p, 0))
        _squares(p, size)
        for lane in range(GROUP):
            passes[lane] += busy[lane]
            if busy[lane] and moved[lane] <= 1e-24 * size[lane]:
                busy[lane], b[:, lane] = False, 0.0
        if not busy.any():
            break


@register_jitable
def _climb(hill: Any, rounds: Any, sweeps: Any, work: Any, passes: Any) -> None:
    """Ascend from u in place; best ← the values reached, and the passes over X. None ends below where it began."""
    u, at, v, best, value, idle = work.u, work.at, work.v, work.best, work.value, work.idle
    _pull(hill, u, work)
    best[:], idle[:], passes[:] = value, 0, 1
    work.alpha[:] = work.z > 0
    spent, size, busy = np.empty(GROUP, np.int64), np.empty(GROUP), True
    for _ in range(rounds):
        if not busy:
            break
        _convex_part(hill, work)
        spent[:] = 3
        _box_least_squares(hill, sweeps, work, spent)
        _squares(work.p, size)
        for lane in range(GROUP):
            if idle[lane] < 2:
                passes[lane] += spent[lane]
            idle[lane] = idle[lane] if size[lane] > 0 else 2
            norm = np.sqrt(size[lane]) if size[lane] > 0 else np.inf
            for k in range(at.shape[0]):
                at[k, lane] = work.p[k, lane] / norm
        _pull(hill, at, work)
        busy = False
        for lane in range(GROUP):
            if idle[lane] < 2:
                idle[lane] = idle[lane] + 1 if value[lane] <= best[lane] * (1 + 1e-9) else 0
                if value[lane] > best[lane]:
                    best[lane], u[:, lane] = value[lane], at[:, lane]
            if idle[lane] < 2:
                busy = True
            else:
                v[:, lane] = 0.0


@register_jitable
def _climb_group(hill: Any, first: Any, U: Any, values: Any, passes: Any, care: Any, work: Any) -> None:
    """From the starts `first` … of U, as many as fill a group or are left."""
    count, spent = min(GROUP, U.shape[0] - first), np.empty(GROUP, np.int64)
    work.u[:] = 0.0
    work.u[:, :count] = U[first : first + count].T
    _climb(hill, care[0], care[1], work, spent)
    U[first : first + count] = work.u[:, :count].T
    values[first : first + count], passes[first : first + count] = work.best[:count], spent[:count]


@compiled
def climb_all(hill, U, values, passes, care, ticket, limbs):  # type: ignore[no-untyped-def]
    """Ascend from each row of U (s, d) in place, groups of starts shared out between threads; `limbs` are not used.

    values (s,) ← ‖G_a‖ there, passes (s,) ← passes over X; care: rounds, and sweeps in each, at most.
    """
    work = _work(hill)
    first = take_ticket(ticket) * GROUP
    while first < U.shape[0]:
        _climb_group(hill, first, U, values, passes, care, work)
        first = take_ticket(ticket) * GROUP


@compiled
def distinct_rows(u, threshold, kept):  # type: ignore[no-untyped-def]
    """The first of the rows that have no u·u' of `threshold` or more with a row kept before; how many."""
    count = 0
    for s in range(u.shape[0]):
        if count == kept.shape[0]:
            break
        new = True
        for j in range(count):
            inner = 0.0
            for k in range(u.shape[1]):
                inner += u[kept[j], k] * u[s, k]
            if inner >= threshold:
                new = False
                break
        if new:
            kept[count] = s
            count += 1
    return count


__all__ = ["GROUP", "Hill", "climb_all", "distinct_rows"]
